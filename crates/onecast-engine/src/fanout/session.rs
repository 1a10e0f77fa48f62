//! What passes between a shard and the rest: sessions and commands in, events out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::formats::ViewerLine;
use super::inbound::Inflow;
use super::membership::{Lift, Membership};
use crate::media::StreamTracks;
use crate::media::lane::StreamKey;
use crate::metrics::Counter;
use onecast_rtc::SessionId;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::sdp::Negotiated;
use onecast_rtc::{CloseReason, IceCredentials, IceSession, Profile, RemoteTransport};

/// An answered offer: everything a shard needs to serve the client that will now send STUN checks.
#[derive(Debug)]
pub struct Session {
    /// Its name towards HTTP.
    pub id: SessionId,
    /// Our ICE credentials; the ufrag finds the session when a STUN check arrives.
    pub local: IceCredentials,
    /// The client's side.
    pub remote: RemoteTransport,
    /// What the client is to us.
    pub role: SessionRole,
    /// The stream.
    pub tracks: Arc<StreamTracks>,
    /// When the offer was answered.
    pub created: Instant,
    /// RTP that came from its client and was authentic, bytes. Its owner is the one writer.
    pub received: Counter,
    /// Packets of those that no Ethernet path carries whole.
    pub large: Counter,
    /// Length of the longest datagram of those.
    pub longest: Counter,
    owner: AtomicU32,
    /// Which ICE session its client uses.
    ice: AtomicU32,
}

/// An ICE restart that was answered: the client may go over to it or not.
#[derive(Debug)]
pub struct Restart {
    /// Whose.
    pub session: Arc<Session>,
    /// The new ICE session.
    pub ice: IceSession,
}

/// Publisher or viewer, with what it negotiated.
#[derive(Debug)]
pub enum SessionRole {
    /// Sends to us.
    Publisher(Box<Negotiated>),
    /// Is sent to.
    Viewer {
        /// The audio line.
        audio: Option<ViewerLine>,
        /// The video line.
        video: Option<ViewerLine>,
    },
    /// Takes part in a room: may send to us and be sent to.
    Member(Arc<Membership>),
}

impl Session {
    const NOBODY: u32 = u32::MAX;
    const WITHDRAWN: u32 = u32::MAX - 1;

    /// A session that no shard has adopted yet.
    pub fn new(
        id: SessionId,
        local: IceCredentials,
        remote: RemoteTransport,
        role: SessionRole,
        tracks: Arc<StreamTracks>,
        created: Instant,
    ) -> Session {
        Session {
            id,
            local,
            remote,
            role,
            tracks,
            created,
            received: Counter::default(),
            large: Counter::default(),
            longest: Counter::default(),
            owner: AtomicU32::new(Session::NOBODY),
            ice: AtomicU32::new(0),
        }
    }

    /// The shard that receives the first valid STUN check adopts the session. Returns whose it is then; `None` if withdrawn.
    pub fn adopt(&self, shard: usize) -> Option<usize> {
        let mine = shard as u32;
        let owner = self
            .owner
            .compare_exchange(Session::NOBODY, mine, Ordering::AcqRel, Ordering::Acquire);
        match owner.map_or_else(|owner| owner, |_| mine) {
            Session::WITHDRAWN => None,
            owner => Some(owner as usize),
        }
    }

    /// So much RTP was authentic so far. For the owner to call.
    pub(super) fn set_inflow(&self, inflow: Inflow) {
        self.received.set(inflow.bytes);
        if inflow.large > 0 {
            self.large.set(inflow.large);
            self.longest.set(inflow.longest);
        }
    }

    /// The shard that adopted the session.
    pub fn owner(&self) -> Option<usize> {
        let owner = self.owner.load(Ordering::Acquire);
        (owner < Session::WITHDRAWN).then_some(owner as usize)
    }

    /// Number of the ICE session that the client uses: 0 for the offer's, or a restart's.
    pub fn ice_number(&self) -> u32 {
        self.ice.load(Ordering::Acquire)
    }

    /// The client has gone over to another ICE session. For the owner to call.
    pub fn set_ice_number(&self, number: u32) {
        self.ice.store(number, Ordering::Release);
    }

    /// Whether it was taken back.
    pub fn is_withdrawn(&self) -> bool {
        self.owner.load(Ordering::Acquire) == Session::WITHDRAWN
    }

    /// Takes the session back if no shard has adopted it; true if so.
    pub fn withdraw(&self) -> bool {
        let owner = &self.owner;
        owner
            .compare_exchange(Session::NOBODY, Session::WITHDRAWN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// What a shard is told.
#[derive(Debug, Clone)]
pub enum Command {
    /// A client will send STUN checks for this session, to any shard.
    Expect(Arc<Session>),
    /// The client of an expected session may check with other credentials from now on, too.
    Restart(Arc<Restart>),
    /// Forget the session; its owner closes the peer with DTLS close_notify.
    Close(Arc<Session>),
    /// What a member of a room sends and is sent, from now on; an older one than is known counts for nothing.
    Membership(Arc<Session>, Arc<Membership>),
    /// A publisher's tracks are taken into a room, and what becomes of them there.
    Lift(Arc<Lift>),
    /// Most peers at once, from now on; who is there stays.
    PeersMax(usize),
    /// Close every peer.
    Shutdown,
}

/// A datagram that reached a shard which is not the owner of its peer.
#[derive(Debug, Clone)]
pub struct Stray {
    /// The owner.
    pub shard: usize,
    /// The shard that received it.
    pub by: usize,
    /// Where the datagram came from.
    pub from: SocketAddr,
    /// Its bytes.
    pub bytes: Box<[u8]>,
}

/// What the owner of a peer tells the shard that receives the datagrams of one of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The shard that is told.
    pub shard: usize,
    /// The owner.
    pub owner: usize,
    /// The peer's address.
    pub address: SocketAddr,
    /// Whether it is the peer's.
    pub hold: Hold,
}

/// How far an address is a peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// A check from there passed. Whoever had the address before keeps it while it is alive.
    Checked,
    /// The client has shown that it is there.
    Proven,
    /// It is no longer the peer's.
    Ended,
}

/// What a shard tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// DTLS is complete and the client's certificate is the one it announced.
    Connected {
        /// Which session.
        session: SessionId,
        /// The client's address.
        address: SocketAddr,
        /// What its media is sealed with.
        cipher: Profile,
    },
    /// The client nominated a path of a restarted ICE session, and has left the one before.
    Restarted {
        /// Which session.
        session: SessionId,
        /// Where the client is now.
        address: SocketAddr,
    },
    /// The first packet of a track, or the first in another codec, arrived from a publisher.
    Media {
        /// Which session.
        session: SessionId,
        /// Which of its streams.
        stream: StreamKey,
        /// Audio or video.
        kind: Kind,
        /// The encoding.
        codec: Codec,
    },
    /// A publisher has turned out not to answer requests for a keyframe, or to answer them after all.
    Keyframes {
        /// Which session.
        session: SessionId,
        /// It does not answer.
        unanswered: bool,
        /// Time between its own keyframes, if known.
        interval: Option<Duration>,
    },
    /// Somebody has begun to speak, or is silent again, by the audio level of the packets (RFC 6464).
    Speaking {
        /// Which session.
        session: SessionId,
        /// Which of its streams.
        stream: StreamKey,
        /// Has begun.
        speaking: bool,
    },
    /// A viewer has been sent a whole keyframe.
    Picture {
        /// Which session.
        session: SessionId,
        /// Time since its offer was answered.
        after: Duration,
    },
    /// The peer is gone, and everything of it freed.
    Closed {
        /// Which session.
        session: SessionId,
        /// Why.
        cause: CloseCause,
    },
}

/// Why a peer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseCause {
    /// By ICE or DTLS.
    Transport(CloseReason),
    /// By a command.
    Commanded,
    /// The shard has no room for another peer.
    Full,
    /// Nothing that a publisher sends could be decrypted for seconds.
    Unreadable,
}

impl std::fmt::Display for CloseCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CloseCause::Transport(reason) => reason.fmt(f),
            CloseCause::Commanded => f.write_str("ended by request"),
            CloseCause::Full => f.write_str("the server is full"),
            CloseCause::Unreadable => f.write_str(
                "its media could not be decrypted any more (too many packets were lost to follow its numbering, or its keys are others)",
            ),
        }
    }
}

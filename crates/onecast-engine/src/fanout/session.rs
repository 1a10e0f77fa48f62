//! What passes between a shard and the rest: sessions and commands in, events out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::inbound::Inflow;
use super::plan::Plan;
use crate::media::lane::StreamKey;
use crate::media::{LayerIndex, LayerReason};
use onecast_metrics::SessionCounters;
use onecast_rtc::SessionId;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::{CloseReason, IceCredentials, IceSession, Path, Profile, RemoteTransport};

/// An answered offer: what a shard needs to serve the client, which will now send STUN checks.
#[derive(Debug)]
pub struct Session {
    /// As HTTP names it.
    pub id: SessionId,
    /// Our ICE credentials; the ufrag finds the session when a STUN check arrives.
    pub local: IceCredentials,
    /// The client's side.
    pub remote: RemoteTransport,
    /// Which way media goes.
    pub direction: Direction,
    /// What the client sends and is sent at first.
    pub plan: Plan,
    /// When the offer was answered.
    pub created: Instant,
    /// What the shard that owns the session counts.
    pub counters: SessionCounters,
    owner: AtomicU32,
    /// Which ICE session its client uses.
    ice: AtomicU32,
}

/// An ICE restart that was answered. The client may switch to it or not.
#[derive(Debug)]
pub struct Restart {
    /// The session that restarts.
    pub session: Arc<Session>,
    /// The new ICE session.
    pub ice: IceSession,
}

/// Which way media goes in a session, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A publisher sends one stream. A room may redirect it to other tracks.
    SendOnly,
    /// A viewer is sent one stream.
    ReceiveOnly,
    /// A member of a room sends streams and is sent streams; its [`Plan`] changes as others come and go.
    SendReceive,
}

impl Session {
    const NO_OWNER: u32 = u32::MAX;
    const WITHDRAWN: u32 = u32::MAX - 1;

    /// A session that no shard has adopted yet.
    pub fn new(
        id: SessionId,
        local: IceCredentials,
        remote: RemoteTransport,
        direction: Direction,
        plan: Plan,
        created: Instant,
    ) -> Session {
        Session {
            id,
            local,
            remote,
            direction,
            plan,
            created,
            counters: SessionCounters::default(),
            owner: AtomicU32::new(Session::NO_OWNER),
            ice: AtomicU32::new(0),
        }
    }

    /// The shard that receives the first valid STUN check adopts the session. Returns the owner, which may be another shard; `None` if
    /// the session was withdrawn.
    pub fn adopt(&self, shard: usize) -> Option<usize> {
        let mine = shard as u32;
        let owner = self
            .owner
            .compare_exchange(Session::NO_OWNER, mine, Ordering::AcqRel, Ordering::Acquire);
        match owner.map_or_else(|owner| owner, |_| mine) {
            Session::WITHDRAWN => None,
            owner => Some(owner as usize),
        }
    }

    /// Sets how much RTP was authentic so far. Only the owner calls it.
    pub(super) fn set_inflow(&self, inflow: Inflow) {
        self.counters.rtp_bytes.set_total(inflow.bytes);
        if inflow.large > 0 {
            self.counters.large_packets.set_total(inflow.large);
            self.counters.longest_datagram.raise(inflow.longest);
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

    /// The client has switched to another ICE session. Only the owner calls it.
    pub fn set_ice_number(&self, number: u32) {
        self.ice.store(number, Ordering::Release);
    }

    /// Whether it was withdrawn.
    pub fn is_withdrawn(&self) -> bool {
        self.owner.load(Ordering::Acquire) == Session::WITHDRAWN
    }

    /// Withdraws the session if no shard has adopted it; true if so.
    pub fn withdraw(&self) -> bool {
        let owner = &self.owner;
        owner
            .compare_exchange(
                Session::NO_OWNER,
                Session::WITHDRAWN,
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok()
    }
}

/// A command to a shard.
#[derive(Debug, Clone)]
pub enum Command {
    /// A client will send STUN checks for this session, to any shard.
    Expect(Arc<Session>),
    /// The client of an expected session may also check with other credentials from now on.
    Restart(Arc<Restart>),
    /// Forget the session; its owner closes the peer with DTLS close_notify.
    Close(Arc<Session>),
    /// What the client of a session sends and is sent from now on. A plan that is older than the newest known is ignored. A viewer's
    /// plan does not change.
    Plan(Arc<Session>, Arc<Plan>),
    /// Most peers at once, from now on; those that are connected stay.
    PeersMax(usize),
    /// Close every peer.
    Shutdown,
}

/// A datagram that reached a shard which does not own its peer.
#[derive(Debug, Clone)]
pub struct MisroutedDatagram {
    /// The owner.
    pub shard: usize,
    /// The shard that received it.
    pub by: usize,
    /// The path that the datagram came on.
    pub from: Path,
    /// Its bytes.
    pub bytes: Box<[u8]>,
}

/// A message from the owner of a peer to a shard that receives datagrams on one of the peer's paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The shard that the message is for.
    pub shard: usize,
    /// The owner.
    pub owner: usize,
    /// The path.
    pub path: Path,
    /// Whether it is the peer's.
    pub hold: Hold,
}

/// How sure it is that a path belongs to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// A check from there passed. A client that had the path before keeps it while it is alive there.
    Checked,
    /// The client has answered a request there.
    Proven,
    /// It is no longer the peer's.
    Ended,
}

/// Something that happened on a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// DTLS is complete and the client's certificate is the one it announced.
    Connected {
        /// Which session.
        session: SessionId,
        /// Where its media goes.
        path: Path,
        /// What its media is sealed with.
        cipher: Profile,
    },
    /// The client nominated a path of a restarted ICE session, and has left the previous one.
    Restarted {
        /// Which session.
        session: SessionId,
        /// Where its media goes now.
        path: Path,
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
    /// A publisher does not answer requests for a keyframe, or answers them after all.
    Keyframes {
        /// Which session.
        session: SessionId,
        /// It does not answer.
        unanswered: bool,
        /// Time between its own keyframes, if known.
        interval: Option<Duration>,
    },
    /// A member has begun or ended to speak, by the audio level of its packets (RFC 6464).
    Speaking {
        /// Which session.
        session: SessionId,
        /// Which of its streams.
        stream: StreamKey,
        /// True if it has begun.
        speaking: bool,
    },
    /// A viewer is sent another layer of the video from now on, or the first one.
    Layer {
        /// Which session.
        session: SessionId,
        /// Which of the streams that it is sent.
        stream: StreamKey,
        /// The layer.
        layer: LayerIndex,
        /// Why.
        reason: LayerReason,
    },
    /// A viewer has been sent a whole keyframe.
    Picture {
        /// Which session.
        session: SessionId,
        /// Time since its offer was answered.
        after: Duration,
    },
    /// The peer has ended, and its state is freed.
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
    /// Nothing that the client sent could be decrypted for seconds.
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

//! What follows from the control plane's decisions for the rest of the server.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use onecast_engine::fanout::{CloseCause, Command};
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::{Profile, SessionId};

use crate::StreamName;
use crate::conference::Roster;
use crate::ended::EndReason;
use crate::playable::Missing;
use crate::port::DrainState;
use crate::registry::{CodecMissing, SessionNumber, SilenceChange};
use crate::whep_events::{Audience, EventStreamId, Reconnect};
use onecast_metrics::AdmissionCounts;

/// Effects in the order in which they were decided. They are taken out after each call, so they are never many.
pub(crate) type Effects = VecDeque<Effect>;

/// One thing that follows.
#[derive(Debug)]
pub enum Effect {
    /// Every shard gets this command.
    Command(Command),
    /// An event stream was opened. It ends with [`EventsClosed`](Effect::EventsClosed).
    EventsOpened {
        /// Its id.
        id: EventStreamId,
        /// The stream that it is about.
        stream: StreamName,
        /// That stream now.
        audience: Audience,
        /// Whether its viewer should reconnect.
        reconnect: Option<Reconnect>,
    },
    /// The followed stream has changed.
    Audience(StreamName, Audience),
    /// The viewer of an event stream should reconnect.
    Reconnect(EventStreamId, Reconnect),
    /// The event stream is over: so is the request that follows it.
    EventsClosed(EventStreamId),
    /// The stream has no event stream any more.
    AudienceClosed(StreamName),
    /// A member joined a room.
    MemberJoined {
        /// Its session.
        id: SessionId,
        /// The room, as it is now.
        roster: Arc<Roster>,
    },
    /// There may be an offer for a member.
    Wake(SessionId),
    /// A room's roster has changed.
    Roster(Arc<Roster>),
    /// A member is gone: so is the request that follows its room for it.
    MemberLeft(SessionId),
    /// A room has no member any more.
    RoomClosed(StreamName),
    /// [`Control::poll_timeout`](crate::Control::poll_timeout) may be earlier than before.
    TimeoutChanged,
    /// Something for the log.
    Notice(Notice),
}

/// A session as the log names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// A stream's publisher.
    Broadcaster,
    /// A viewer, by its number in the stream.
    Viewer(u64),
    /// A member of a room.
    Member(SessionNumber),
}

/// Something that the operator's log tells.
#[derive(Debug)]
pub enum Notice {
    /// A client finished its handshake.
    Connected {
        /// Its stream.
        stream: StreamName,
        /// What it is there.
        party: Party,
        /// Where its media comes from or goes to.
        address: SocketAddr,
        /// What its media is sealed with.
        cipher: Profile,
        /// Connected viewers of the stream.
        viewers: usize,
        /// What a viewer cannot play.
        missing: Missing,
    },
    /// A publisher or a member sends a track in another codec than before.
    Sends {
        /// Its stream.
        stream: StreamName,
        /// What it is there.
        party: Party,
        /// Audio or video.
        kind: Kind,
        /// The encoding.
        codec: Codec,
    },
    /// A publisher does not answer requests for keyframes, or answers them after all.
    Keyframes {
        /// Its stream.
        stream: StreamName,
        /// It does not answer.
        unanswered: bool,
        /// Time between its own keyframes, if known.
        interval: Option<Duration>,
    },
    /// A client continues on another path after an ICE restart.
    Restarted {
        /// Its stream.
        stream: StreamName,
        /// What it is there.
        party: Party,
        /// Where it is now.
        address: SocketAddr,
    },
    /// A viewer has been sent a whole keyframe.
    FirstPicture {
        /// Its stream.
        stream: StreamName,
        /// Which viewer.
        viewer: u64,
        /// Time since its offer was answered.
        after: Duration,
    },
    /// A session ended.
    Left {
        /// Its stream.
        stream: StreamName,
        /// What it was there.
        party: Party,
        /// How long it was connected; `None` if it never was.
        connected: Option<Duration>,
        /// Why.
        why: EndReason,
        /// Connected viewers that are left.
        viewers: usize,
    },
    /// A shard closed a peer whose session had already ended.
    ClosedLate {
        /// The session.
        session: SessionId,
        /// Why.
        cause: CloseCause,
    },
    /// A publisher fell silent or sends again.
    Silence(SilenceChange),
    /// Viewers cannot play what is sent.
    CodecMissing(CodecMissing),
    /// A publisher sends more than it may.
    BitRate {
        /// Its stream.
        stream: StreamName,
        /// What it sends, bits a second.
        measured_bps: u64,
        /// What it may send.
        max_bps: u64,
    },
    /// A publisher sends datagrams that do not fit an Ethernet path.
    LargePackets {
        /// Its stream.
        stream: StreamName,
        /// Length of the longest datagram so far, bytes.
        longest: u64,
    },
    /// Clients were refused in the last second.
    Refused {
        /// How many for each cause since the last notice, and how many are half-open now.
        since: AdmissionCounts,
    },
    /// How far a drain is.
    Draining(DrainState),
    /// A drain has begun.
    DrainBegun {
        /// Sessions that are present.
        sessions: usize,
    },
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Broadcaster => f.write_str("broadcaster"),
            Party::Viewer(number) => write!(f, "viewer {number}"),
            Party::Member(number) => write!(f, "member {number}"),
        }
    }
}

//! What signalling needs from the rest of the server, as values: the only way out of this room.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http::conference::{Conference, RoomRefusal};
use crate::http::operation::Operation;
use onecast_control::admission::{AdmissionReading, Busy};
use onecast_control::audience::{Audience, EventSet, EventStreamId, Reconnect};
use onecast_control::ice_session::Condition;
use onecast_control::playable::Playable;
use onecast_control::registry::LargePackets;
use onecast_control::{EndReason, Purpose, Right, SessionId, StreamName, TokenDigest};
use onecast_engine::media::keyframes::KeyframeReading;

/// The server behind the HTTP surface. All calls take microseconds and are made in place, on a thread of the runtime.
pub trait Service: Send + Sync + 'static {
    /// Whether a client that waits for leave to send its offer may send it. It takes no turn.
    ///
    /// # Errors
    /// When it would be refused, whatever it offers.
    fn check_door(&self, client: SocketAddr, purpose: Purpose) -> Result<(), Refusal>;

    /// Takes a publisher's offer (WHIP).
    ///
    /// # Errors
    /// When the offer cannot be used, somebody else publishes the stream, or a limit is reached.
    fn publish(&self, request: Request<'_>) -> Result<Accepted, Refusal>;

    /// Takes a viewer's offer (WHEP).
    ///
    /// # Errors
    /// When the offer cannot be used or a limit is reached.
    fn watch(&self, request: Request<'_>) -> Result<Accepted, Refusal>;

    /// Takes an offer of either kind: its direction, the client's rights, and whether somebody is live, decide what it becomes.
    ///
    /// # Errors
    /// As [`Service::publish`] and [`Service::watch`], and when the client has no right to what it offers.
    fn paste(&self, request: Request<'_>, rights: PasteRights<'_>) -> Result<(Accepted, PasteRole), Refusal>;

    /// Opens a viewer's session with an offer of ours, which stands where else the answer does. The request has none.
    ///
    /// # Errors
    /// As [`Service::watch`].
    fn counter_offer(&self, request: Request<'_>) -> Result<Accepted, Refusal>;

    /// Takes the viewer's answer to the offer of [`Service::counter_offer`].
    ///
    /// # Errors
    /// When there is no such session, it waits for no answer, or the answer cannot be used; then it waits for a better one.
    fn take_answer(&self, session: SessionId, answer: &str) -> Result<(), Refusal>;

    /// Opens an event stream of a viewer's session. It ends with the session.
    ///
    /// # Errors
    /// When there is no such session, or it has as many as it may.
    fn open_events(&self, session: SessionId, wanted: EventSet) -> Result<EventStreamId, Refusal>;

    /// Follows an event stream, in place of whoever did before.
    ///
    /// # Errors
    /// When there is no such event stream.
    fn follow_events(&self, events: EventStreamId) -> Result<EventFeed, Refusal>;

    /// Ends an event stream.
    ///
    /// # Errors
    /// When there is no such event stream.
    fn close_events(&self, events: EventStreamId) -> Result<(), Refusal>;

    /// Takes candidates that the client found after its offer (RFC 8840), or restarts its ICE session.
    ///
    /// # Errors
    /// When there is no such session, the fragment cannot be read, or it is for another ICE session than the newest.
    fn patch(&self, patch: Patch<'_>) -> Result<Patched, Refusal>;

    /// Ends a session; its media stops at once.
    ///
    /// # Errors
    /// When there is no such session.
    fn close(&self, session: SessionId, protocol: Protocol) -> Result<(), Refusal>;

    /// Whether the session is there.
    fn exists(&self, session: SessionId, protocol: Protocol) -> bool;

    /// What is wanted of who comes to the session's URL. `None` when there is no such session.
    ///
    /// # Errors
    /// When the server has ended the session, and the client shall know why.
    fn guard(&self, session: SessionId) -> Result<Option<SessionGuard>, Refusal>;

    /// Every stream that somebody publishes or waits for, by name.
    fn streams(&self) -> Vec<StreamStatus>;

    /// What each media thread has counted since the start.
    fn shards(&self) -> Vec<ShardReading>;

    /// What whoever runs the server may see and do.
    fn operation(&self) -> &dyn Operation;

    /// Conference rooms.
    fn conference(&self) -> &dyn Conference;

    /// Who is joining, and how many could not.
    fn admission(&self) -> AdmissionReading;
}

/// Names and values of counters.
pub type Reading = Vec<(&'static str, u64)>;

/// What a media thread has counted since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardReading {
    /// What it did.
    pub counters: Reading,
    /// What its socket moved.
    pub socket: Reading,
}

/// The protocol of a session, and with it what the client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 9725: the client publishes.
    Whip,
    /// draft-ietf-wish-whep: the client watches.
    Whep,
}

/// An offer and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The stream in the URL.
    pub stream: &'a StreamName,
    /// The SDP, as the client sent it: at most [`crate::http::MAX_BODY_BYTES`], otherwise unchecked.
    pub offer: &'a str,
    /// The other end of the HTTP connection.
    pub client: SocketAddr,
    /// Our end of the HTTP connection: an address on which this client has reached us. IPv4-mapped ones are IPv4 here.
    pub local: SocketAddr,
    /// By whose right it comes.
    pub right: &'a Right,
}

/// What a client that pastes its offer may become, and by whose right; `None` is not at all.
#[derive(Debug, Clone, Copy)]
pub struct PasteRights<'a> {
    /// A publisher.
    pub publish: Option<&'a Right>,
    /// A viewer.
    pub watch: Option<&'a Right>,
}

/// What is wanted of who comes to a session's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionGuard {
    /// The session's stream.
    pub stream: StreamName,
    /// What it does.
    pub purpose: Purpose,
    /// The token that opened it. `None` when the URL is the right.
    pub token: Option<TokenDigest>,
}

/// A PATCH of a session with an SDP fragment.
#[derive(Debug, Clone, Copy)]
pub struct Patch<'a> {
    /// The session in the URL.
    pub session: SessionId,
    /// And its protocol.
    pub protocol: Protocol,
    /// What `If-Match` demands.
    pub condition: &'a Condition,
    /// The fragment as the client sent it, unchecked.
    pub fragment: &'a str,
    /// The other end of the HTTP connection.
    pub client: SocketAddr,
    /// Our end of the HTTP connection.
    pub local: SocketAddr,
}

/// What came of a PATCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patched {
    /// The candidates were taken.
    Trickled,
    /// There is another ICE session now.
    Restarted {
        /// Its strong entity tag, without quotes.
        tag: Box<str>,
        /// Our side of it, an SDP fragment (RFC 8840 section 9).
        fragment: String,
    },
}

/// An offer that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its session.
    pub session: SessionId,
    /// Strong entity tag of its ICE session, without quotes.
    pub tag: Box<str>,
    /// The answer's SDP.
    pub answer: String,
}

/// What an event stream is made of: the newest state, which whoever reads slowly sees late, and nothing that piles up.
#[derive(Debug)]
pub struct EventFeed {
    /// Which events.
    pub wanted: EventSet,
    /// What the viewer can play.
    pub playable: Playable,
    /// The stream.
    pub audience: watch::Receiver<Audience>,
    /// A wish that viewers connect anew.
    pub reconnect: watch::Receiver<Option<Reconnect>>,
    /// Cancelled when the event stream has ended, or somebody else follows it.
    pub ended: CancellationToken,
}

/// What became of a client that pasted its offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasteRole {
    /// It publishes.
    Broadcaster,
    /// It watches, or waits to.
    Viewer,
}

/// Why the service did not do what it was asked. One variant per HTTP status and advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The SDP, or the fragment of it, is at fault.
    Sdp(SdpRefusal),
    /// Somebody else publishes the stream.
    Taken {
        /// Since when, as time since 1970; `None` while that publisher connects.
        since_unix: Option<Duration>,
        /// How long that publisher has sent no media, if that is long.
        silent: Option<Duration>,
        /// When to ask again.
        retry_after: Duration,
    },
    /// No room for another stream.
    TooManyStreams {
        /// The limit.
        max: usize,
    },
    /// No room for another viewer.
    Full {
        /// The limit.
        max: usize,
    },
    /// No room for another viewer of this stream.
    StreamFull {
        /// The limit.
        max: usize,
    },
    /// The server has ended this session, and the client shall know why.
    Ended(EndReason),
    /// No such session, for the operator.
    UnknownHandle,
    /// New clients shall go elsewhere, or come later: the server leaves when those who are in have left.
    Draining,
    /// Too many are joining at this moment.
    Busy(Busy),
    /// The client has no right to what its pasted offer is for.
    NotAllowed(Purpose),
    /// The server is about to stop.
    ShuttingDown,
    /// No such stream, where names are fixed.
    UnknownStream,
    /// No such session, or it has ended.
    UnknownSession,
    /// It is for an ICE session that has been restarted.
    Stale,
    /// It must say which ICE session it is for.
    Unconditional,
    /// Only one of user name fragment and password is new.
    HalfRestart,
    /// The last restart was a moment ago.
    RestartTooSoon,
    /// A media thread took no word of it.
    Overloaded,
    /// Nobody publishes the stream, and it does not take viewers that wait.
    NoPublisher,
    /// An answer came for a session that waits for none.
    NoAnswerAwaited,
    /// No room for another event stream of the session.
    TooManyEventStreams {
        /// The limit.
        max: usize,
    },
    /// No such event stream, or it has ended.
    UnknownEventStream,
    /// What only rooms refuse.
    Room(RoomRefusal),
}

impl Refusal {
    /// A session that is not there: why, if the server has ended it and that is remembered.
    pub fn gone(why: Option<EndReason>) -> Refusal {
        why.map_or(Refusal::UnknownSession, Refusal::Ended)
    }
}

/// What is wrong with the SDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdpRefusal {
    /// It was understood but cannot be used (422), as opposed to not understood (400).
    pub unusable: bool,
    /// What is wrong, one sentence without a full stop.
    pub detail: String,
    /// What to do about it, one sentence.
    pub hint: Option<String>,
    /// When it is about codecs: which.
    pub codecs: Option<CodecLists>,
}

/// Codecs that do not meet: encoding names as in SDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecLists {
    /// Whose these are.
    pub of: CodecsOf,
    /// What would be needed.
    pub needed: Vec<String>,
    /// What is in the offer.
    pub offer: Vec<String>,
}

/// Who needs a codec that is not in an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecsOf {
    /// The server: it carries no others.
    Server,
    /// The stream: it is sent in this one.
    Stream,
}

/// What `GET /api/streams` tells of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStatus {
    /// Its name.
    pub name: StreamName,
    /// Whether its media arrives.
    pub live: bool,
    /// How long a connected publisher has sent none; `None` while the stream is live, and when no publisher is connected.
    pub silent: Option<Duration>,
    /// Since when a publisher is connected, or a member of the room on air, as time since 1970.
    pub since_unix: Option<Duration>,
    /// Connected viewers.
    pub viewers: usize,
    /// Encoding of the video, as in SDP (`VP8`), once it is known.
    pub video: Option<String>,
    /// Encoding of the audio.
    pub audio: Option<String>,
    /// What is known of the video's keyframes.
    pub keyframes: KeyframeReading,
    /// Packets of its publisher that no Ethernet path carries whole.
    pub large: LargePackets,
}

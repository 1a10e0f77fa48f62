//! What signalling needs from the rest of the server, as values: the only way out of this room.

use std::net::SocketAddr;
use std::time::Duration;

use crate::media::keyframes::KeyframeReading;
use crate::room::admission::{AdmissionReading, Busy};
use crate::room::{EndReason, Purpose, Right, SessionId, StreamName, TokenDigest};

/// The server behind the HTTP surface. All calls take microseconds and are made in place, on a thread of the runtime.
pub trait Service: Send + Sync + 'static {
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

    /// Takes candidates that the client found after its offer (RFC 8840).
    ///
    /// # Errors
    /// When there is no such session, or the fragment cannot be read.
    fn trickle(&self, session: SessionId, protocol: Protocol, fragment: &str) -> Result<(), Refusal>;

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
    /// The SDP, as the client sent it: at most [`super::MAX_BODY_BYTES`], otherwise unchecked.
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

/// An offer that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its session.
    pub session: SessionId,
    /// The answer's SDP.
    pub answer: String,
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
    /// Too many are joining at this moment.
    Busy(Busy),
    /// The client has no right to what its pasted offer is for.
    NotAllowed(Purpose),
    /// The server has ended this session, and the client shall know why.
    Ended(EndReason),
    /// The server is about to stop.
    ShuttingDown,
    /// No such stream, where names are fixed.
    UnknownStream,
    /// No such session, or it has ended.
    UnknownSession,
    /// Nobody publishes the stream, and it does not take viewers that wait.
    NoPublisher,
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
}

/// What `GET /api/streams` tells of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStatus {
    /// Its name.
    pub name: StreamName,
    /// Whether somebody publishes it.
    pub live: bool,
    /// Since when, as time since 1970.
    pub since_unix: Option<Duration>,
    /// Connected viewers.
    pub viewers: usize,
    /// Encoding of the video, as in SDP (`VP8`), once it is known.
    pub video: Option<String>,
    /// Encoding of the audio.
    pub audio: Option<String>,
    /// What is known of the video's keyframes.
    pub keyframes: KeyframeReading,
}

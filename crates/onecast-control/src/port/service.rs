//! Publishing and watching.

use std::net::SocketAddr;
use std::time::Duration;

use onecast_engine::media::keyframes::KeyframeReading;
use onecast_rtc::SessionId;

use super::{Conference, Operation};
use crate::ice_session::Precondition;
use crate::layers::{LayerChoice, ViewerLayer, WatchedLayer};
use crate::refusal::Refusal;
use crate::registry::{LargePackets, Purpose};
use crate::whep_events::{EventSet, EventStreamId};
use crate::{Grant, StreamName, TokenDigest};
use onecast_metrics::{AdmissionCounts, ShardCounts, SocketCounts};

/// The server as clients use it. All calls take microseconds: an asynchronous caller makes them in place.
pub trait Service: Send + Sync + 'static {
    /// Whether a client that has not sent its offer yet may send it. It takes no admission token.
    ///
    /// # Errors
    /// When it would be refused whatever it offers.
    fn check_join(&self, client: SocketAddr, purpose: Purpose) -> Result<(), Refusal>;

    /// Takes a publisher's offer (WHIP).
    ///
    /// # Errors
    /// When the offer cannot be used, the stream has another publisher, or a limit is reached.
    fn publish(&self, request: Request<'_>) -> Result<Accepted, Refusal>;

    /// Takes a viewer's offer (WHEP).
    ///
    /// # Errors
    /// When the offer cannot be used or a limit is reached.
    fn watch(&self, request: Request<'_>) -> Result<Accepted, Refusal>;

    /// Takes an offer of either kind: its direction, the client's rights and the stream's publisher decide what the client becomes.
    ///
    /// # Errors
    /// As [`Service::publish`] and [`Service::watch`], and when the rights do not permit it.
    fn paste(&self, request: Request<'_>, rights: PasteRights<'_>) -> Result<(Accepted, PasteRole), Refusal>;

    /// Opens a viewer's session with an offer of the server, which takes the place of the answer. The request has none.
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

    /// Ends an event stream.
    ///
    /// # Errors
    /// When there is no such event stream.
    fn close_events(&self, events: EventStreamId) -> Result<(), Refusal>;

    /// A viewer chooses which layers of its stream it is sent.
    ///
    /// # Errors
    /// When there is no such viewer, the stream has no such layer, the viewer chooses too often, or the server is overloaded.
    fn choose_layer(&self, session: SessionId, choice: &LayerChoice) -> Result<(), Refusal>;

    /// What a viewer wants of the layers, and what it is sent.
    ///
    /// # Errors
    /// When there is no such viewer.
    fn viewer_layer(&self, session: SessionId) -> Result<ViewerLayer, Refusal>;

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

    /// What a request to the session's URL must show. `None` when there is no such session.
    ///
    /// # Errors
    /// When the server has ended the session for a reason that the client should know.
    fn guard(&self, session: SessionId) -> Result<Option<SessionGuard>, Refusal>;

    /// Every stream that has a session, by name.
    fn streams(&self) -> Vec<StreamStatus>;

    /// What each media thread has counted since the start.
    fn shards(&self) -> Vec<ShardReading>;

    /// What the operator may see and do.
    fn operation(&self) -> &dyn Operation;

    /// Conference rooms.
    fn conference(&self) -> &dyn Conference;

    /// What admission has counted.
    fn admission(&self) -> AdmissionCounts;
}

/// What a media thread has counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardReading {
    /// What the shard counted.
    pub counters: ShardCounts,
    /// What its socket counted.
    pub socket: SocketCounts,
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
    /// The SDP as the client sent it, unchecked. The caller bounds its length.
    pub offer: &'a str,
    /// The other end of the HTTP connection.
    pub client: SocketAddr,
    /// Our end of the HTTP connection: an address on which this client has reached us. IPv4-mapped ones are IPv4 here.
    pub local: SocketAddr,
    /// What permits it.
    pub grant: &'a Grant,
}

/// What a client may become, and what permits it; `None` where nothing does.
#[derive(Debug, Clone, Copy)]
pub struct PasteRights<'a> {
    /// A publisher.
    pub publish: Option<&'a Grant>,
    /// A viewer.
    pub watch: Option<&'a Grant>,
}

/// What a request to a session's URL must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionGuard {
    /// The session's stream.
    pub stream: StreamName,
    /// What it does.
    pub purpose: Purpose,
    /// The token that opened it. `None` when the URL alone is enough.
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
    pub condition: &'a Precondition,
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
    /// The session is a viewer's, and its stream may have layers to choose from.
    pub may_choose_layers: bool,
}

/// What became of a client that pasted its offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasteRole {
    /// It publishes.
    Broadcaster,
    /// It watches, or waits to.
    Viewer,
}

/// What is known of a stream.
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
    /// The layers of its video, the largest picture first.
    pub layers: Vec<WatchedLayer>,
}

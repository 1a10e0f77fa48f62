//! What whoever runs the server may see and do, as values: a part of the way out of this room.

use std::time::Duration;

use crate::http::service::Refusal;
use onecast_control::drain::{Destination, DrainOrder};
use onecast_control::ended::{End, EndReason, Note};
use onecast_control::registry::{SessionFilter, SessionState};
use onecast_control::{SessionId, StreamName};

/// The server as its operator sees it. All calls are made in place, on a thread of the runtime.
pub trait Operation: Send + Sync {
    /// Sessions by their numbers.
    fn sessions(&self, filter: &SessionFilter) -> Vec<SessionState>;

    /// The session of this number.
    fn session(&self, handle: u64) -> Option<SessionState>;

    /// The last sessions that ended, the newest first.
    fn ended(&self, limit: usize) -> Vec<End>;

    /// Why the server has ended a session, as long as that is remembered.
    fn why_ended(&self, session: SessionId) -> Option<EndReason>;

    /// Ends a session.
    ///
    /// # Errors
    /// When there is none of this number.
    fn kick(&self, handle: u64, note: Option<Note>) -> Result<(), Refusal>;

    /// Ends the publisher of a stream, or everybody there. Gives how many sessions that are; many are ended within seconds.
    ///
    /// # Errors
    /// When there is no such stream.
    fn end_stream(&self, stream: &StreamName, everybody: bool, note: Option<Note>) -> Result<usize, Refusal>;

    /// Lets nobody new in, and leaves when everybody has left. What the order does not say is as configured, or as ordered before.
    fn drain(&self, order: DrainOrder) -> DrainState;

    /// How far that is; `None` when it was not ordered.
    fn drain_state(&self) -> Option<DrainState>;

    /// How the server is.
    fn condition(&self) -> Condition;
}

/// How far a drain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainState {
    /// Since when, as time since 1970.
    pub since_unix: Duration,
    /// Where new clients are sent.
    pub to: Option<Destination>,
    /// The server leaves after this time at the latest; `None` when it waits for everybody.
    pub left: Option<Duration>,
    /// How many sessions there still are.
    pub sessions: usize,
}

/// How the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It takes clients.
    Ready,
    /// It works for those who are in and takes nobody new.
    Draining,
    /// It is about to stop.
    Stopping,
    /// These media threads have not turned for [`onecast_engine::pulse::Pulse::PATIENCE`].
    Stuck(Vec<usize>),
}

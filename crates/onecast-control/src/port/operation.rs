//! What operators see and do.

use std::time::Duration;

use onecast_rtc::SessionId;

use crate::StreamName;
use crate::drain::{Destination, DrainOrder};
use crate::ended::{End, EndReason, Note};
use crate::refusal::Refusal;
use crate::registry::{SessionFilter, SessionNumber, SessionState};

/// The server as its operator sees it. All calls take microseconds: an asynchronous caller makes them in place.
pub trait Operation: Send + Sync {
    /// Sessions by their numbers.
    fn sessions(&self, filter: &SessionFilter) -> Vec<SessionState>;

    /// The session of this number.
    fn session(&self, number: SessionNumber) -> Option<SessionState>;

    /// The last sessions that ended, the newest first.
    fn ended(&self, limit: usize) -> Vec<End>;

    /// Why the server has ended a session, as long as that is remembered.
    fn why_ended(&self, session: SessionId) -> Option<EndReason>;

    /// Ends a session.
    ///
    /// # Errors
    /// When no session has this number.
    fn kick(&self, number: SessionNumber, note: Option<Note>) -> Result<(), Refusal>;

    /// Ends the publisher of a stream, and its viewers if they are meant, too. Gives how many sessions that are; a crowd is ended within
    /// seconds.
    ///
    /// # Errors
    /// When there is no such stream.
    fn end_stream(&self, stream: &StreamName, with_viewers: bool, note: Option<Note>) -> Result<usize, Refusal>;

    /// Accepts no new clients, and leaves when all have left. What the order does not say is as configured, or as ordered before.
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
    /// The server leaves after this time at the latest; `None` when it waits for all clients.
    pub left: Option<Duration>,
    /// How many sessions there still are.
    pub sessions: usize,
}

/// How the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It takes clients.
    Ready,
    /// It serves its clients and accepts no new ones.
    Draining,
    /// It is about to stop.
    Stopping,
    /// These media threads have stood still for seconds.
    Stuck(Vec<usize>),
}

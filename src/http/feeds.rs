//! Requests that wait for changes: the part of the server's port that needs the runtime's channels.

use std::sync::Arc;

use onecast_control::Refusal;
use onecast_control::conference::Roster;
use onecast_control::playable::Playable;
use onecast_control::port::Service;
use onecast_control::registry::SessionNumber;
use onecast_control::whep_events::{Audience, EventSet, EventStreamId, Reconnect};
use onecast_rtc::SessionId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The server behind HTTP: its requests may wait for changes.
pub trait Feeds: Service {
    /// Follows an event stream. A request that followed it before ends.
    ///
    /// # Errors
    /// When there is no such event stream.
    fn follow_events(&self, events: EventStreamId) -> Result<EventFeed, Refusal>;

    /// Follows a room as its member. A request that followed it before ends. When the last one has been gone for
    /// [`RESUME_TIMEOUT`](onecast_control::conference::RESUME_TIMEOUT), so is the member.
    ///
    /// # Errors
    /// When there is no such member.
    fn follow_room(&self, peer: SessionId) -> Result<RoomFeed, Refusal>;

    /// For a member that polls: it waits with this, and then asks [`next_offer`](onecast_control::port::Conference::next_offer) again.
    ///
    /// # Errors
    /// When there is no such member.
    fn wakes(&self, peer: SessionId) -> Result<watch::Receiver<u64>, Refusal>;
}

/// What an event stream is made from. There is no queue: slow readers skip intermediate states and get the latest one.
#[derive(Debug)]
pub struct EventFeed {
    /// Which events.
    pub wanted: EventSet,
    /// What the viewer can play.
    pub playable: Playable,
    /// Index of the m-line on which the viewer receives video; `None` without one.
    pub video_line: Option<u8>,
    /// The stream.
    pub audience: watch::Receiver<Audience>,
    /// Whether the viewer should reconnect.
    pub reconnect: watch::Receiver<Option<Reconnect>>,
    /// Cancelled when the event stream has ended, or another request follows it.
    pub ended: CancellationToken,
}

/// What a member's WebSocket follows. There is no queue: slow readers skip intermediate states and get the latest one.
#[derive(Debug)]
pub struct RoomFeed {
    /// The member's public number.
    pub id: SessionNumber,
    /// The room.
    pub roster: watch::Receiver<Arc<Roster>>,
    /// Changes when there may be an offer to send.
    pub wakes: watch::Receiver<u64>,
    /// Cancelled when another request follows in its place, or the member has ended.
    pub ended: CancellationToken,
    /// Dropped when the request is over.
    pub presence: Presence,
}

/// Reports when it is dropped that the follower is gone.
pub struct Presence(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Presence {
    /// Calls `gone` when it is dropped.
    pub fn new(gone: impl FnOnce() + Send + Sync + 'static) -> Presence {
        Presence(Some(Box::new(gone)))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(gone) = self.0.take() {
            gone();
        }
    }
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Presence")
    }
}

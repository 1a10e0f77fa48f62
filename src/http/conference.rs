//! What signalling of conference rooms needs from the rest of the server, as values.

pub(super) mod join;
pub(super) mod messages;
pub(super) mod replies;
pub(super) mod roster_diff;
pub(super) mod routes;
pub(super) mod ws;
pub(super) mod ws_limits;
pub(super) mod ws_session;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http::service::{PasteRights, Refusal, Request};
use onecast_control::conference::Roster;
pub use onecast_control::conference::{Change, OfferedTrack, ServerOffer, Words};
use onecast_control::{SessionId, StreamName};

/// The rooms behind the HTTP surface. All calls take microseconds and are made in place, on a thread of the runtime.
pub trait Conference: Send + Sync {
    /// A client's first offer: it joins the room that the request has as its stream. Who may not publish sends nothing.
    ///
    /// # Errors
    /// When the offer cannot be used, the client may not what it offers, or a limit is reached.
    fn join(&self, request: Request<'_>, rights: PasteRights<'_>, words: &Words) -> Result<Joined, Refusal>;

    /// A later offer of a member: the answer to it.
    ///
    /// # Errors
    /// When there is no such member, an offer of ours waits for its answer (whoever asks is the polite side, and answers first), or
    /// the offer cannot be used.
    fn offer(&self, peer: SessionId, offer: MemberOffer<'_>) -> Result<String, Refusal>;

    /// An answer to our offer. `number` is that of the offer, if the client says it.
    ///
    /// # Errors
    /// When there is no such member, no offer waits, it is for an older one, or it cannot be used; then the offer still waits.
    fn answer(&self, peer: SessionId, number: Option<u64>, answer: &str) -> Result<(), Refusal>;

    /// The offer that the member is to answer, if there is one and it is time to send it, for the first time or again.
    ///
    /// # Errors
    /// When there is no such member.
    fn next_offer(&self, peer: SessionId) -> Result<Option<ServerOffer>, Refusal>;

    /// What a member says of itself.
    ///
    /// # Errors
    /// When there is no such member.
    fn change(&self, peer: SessionId, change: &Change) -> Result<(), Refusal>;

    /// The member leaves.
    ///
    /// # Errors
    /// When there is no such member.
    fn leave(&self, peer: SessionId) -> Result<(), Refusal>;

    /// Follows a room as its member, in place of whoever did before. When the last follower is gone for
    /// [`RESUME`](onecast_control::conference::RESUME), so is the member.
    ///
    /// # Errors
    /// When there is no such member.
    fn follow(&self, peer: SessionId) -> Result<RoomFeed, Refusal>;

    /// For a member that polls: waits with this, and then asks [`next_offer`](Conference::next_offer) again.
    ///
    /// # Errors
    /// When there is no such member.
    fn wakes(&self, peer: SessionId) -> Result<watch::Receiver<u64>, Refusal>;

    /// Who is in a room. `None` when there is no such room.
    fn roster(&self, room: &StreamName) -> Option<Arc<Roster>>;
}

/// An offer of somebody who is in the room.
#[derive(Debug, Clone, Copy)]
pub struct MemberOffer<'a> {
    /// The SDP.
    pub sdp: &'a str,
    /// What it calls its lines, by `mid`.
    pub words: &'a Words,
    /// By what right it sends, now: `None` is not at all. It decides about lines on which nothing was sent before.
    pub may_send: bool,
}

/// Somebody who has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its secret name: the right to speak for it.
    pub peer: SessionId,
    /// Its public number.
    pub id: u64,
    /// The answer's SDP.
    pub answer: String,
}

/// What a member that is connected by a WebSocket follows: newest states, and nothing that piles up.
#[derive(Debug)]
pub struct RoomFeed {
    /// Its public number.
    pub id: u64,
    /// The room.
    pub roster: watch::Receiver<Arc<Roster>>,
    /// Changes when there may be an offer to send.
    pub wakes: watch::Receiver<u64>,
    /// Cancelled when somebody else follows in its place, or the member is no more.
    pub ended: CancellationToken,
    /// Dropped when nobody follows here any more.
    pub presence: Presence,
}

/// Says when it is dropped: the follower is gone.
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

/// Why a room did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomRefusal {
    /// Our own offer waits for an answer: it comes first (409).
    OfferPending {
        /// Its number.
        number: u64,
    },
    /// No offer of ours waits for an answer (409).
    NothingToAnswer,
    /// The answer is for an older offer than the one that waits (409).
    StaleAnswer {
        /// The one that waits.
        number: u64,
    },
    /// Offers come faster than they may (429).
    TooManyOffers,
    /// There are as many in the room as may be (503).
    Full {
        /// The limit.
        max: usize,
    },
    /// The client's certificate is not that of its first offer (422).
    OtherCertificate,
    /// A description has the ICE credentials of another connection, or of one that is over (422): the client should join anew.
    JoinAnew,
}

//! Conference rooms.

use std::sync::Arc;

use onecast_rtc::SessionId;

use super::{PasteRights, Request};
use crate::StreamName;
use crate::conference::{Change, MemberInfo, Roster, ServerOffer};
use crate::refusal::Refusal;
use crate::registry::SessionNumber;

/// Conference rooms as their clients use them. All calls take microseconds: an asynchronous caller makes them in place.
pub trait Conference: Send + Sync {
    /// A client's first offer: it joins the room that the request has as its stream. Without the right to publish it may not send.
    ///
    /// # Errors
    /// When the offer cannot be used, the rights do not permit it, or a limit is reached.
    fn join(&self, request: Request<'_>, rights: PasteRights<'_>, words: &MemberInfo) -> Result<JoinedRoom, Refusal>;

    /// A later offer of a member: the answer to it.
    ///
    /// # Errors
    /// When there is no such member, an offer of the server waits for its answer (the client is the polite side, and answers first), or
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

    /// Something that a member changes about itself.
    ///
    /// # Errors
    /// When there is no such member.
    fn change(&self, peer: SessionId, change: &Change) -> Result<(), Refusal>;

    /// The member leaves.
    ///
    /// # Errors
    /// When there is no such member.
    fn leave(&self, peer: SessionId) -> Result<(), Refusal>;

    /// The members of a room. `None` when there is no such room.
    fn roster(&self, room: &StreamName) -> Option<Arc<Roster>>;
}

/// A later offer of a member.
#[derive(Debug, Clone, Copy)]
pub struct MemberOffer<'a> {
    /// The SDP.
    pub sdp: &'a str,
    /// What the member says about its lines, by `mid`.
    pub words: &'a MemberInfo,
    /// Whether it may send on lines on which it sent nothing before.
    pub may_send: bool,
}

/// A member that has joined a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedRoom {
    /// Its secret id: the right to speak for it.
    pub peer: SessionId,
    /// Its public number.
    pub id: SessionNumber,
    /// The answer's SDP.
    pub answer: String,
}

//! Conference rooms: what the room decides, brought to the shards and to those who wait.

use std::sync::Arc;

use tokio::sync::watch;

use super::*;
use crate::http::conference::{Change, Joined, MemberOffer, RoomFeed, ServerOffer, Words};
use crate::room::StreamName;
use crate::room::conference::Roster;

// PLACEHOLDER: rooms
impl Conference for App {
    fn join(&self, _: Request<'_>, _: PasteRights<'_>, _: &Words) -> Result<Joined, Refusal> {
        Err(Refusal::ShuttingDown)
    }

    fn offer(&self, _: SessionId, _: MemberOffer<'_>) -> Result<String, Refusal> {
        Err(Refusal::UnknownSession)
    }

    fn answer(&self, _: SessionId, _: Option<u64>, _: &str) -> Result<(), Refusal> {
        Err(Refusal::UnknownSession)
    }

    fn next_offer(&self, _: SessionId) -> Result<Option<ServerOffer>, Refusal> {
        Err(Refusal::UnknownSession)
    }

    fn change(&self, _: SessionId, _: &Change) -> Result<(), Refusal> {
        Err(Refusal::UnknownSession)
    }

    fn leave(&self, _: SessionId) -> Result<(), Refusal> {
        Err(Refusal::UnknownSession)
    }

    fn follow(&self, _: SessionId) -> Result<RoomFeed, Refusal> {
        Err(Refusal::UnknownSession)
    }

    fn wakes(&self, _: SessionId) -> Result<watch::Receiver<u64>, Refusal> {
        Err(Refusal::UnknownSession)
    }

    fn roster(&self, _: &StreamName) -> Option<Arc<Roster>> {
        None
    }
}

//! Conference rooms: join, offers and answers, and a WebSocket that follows the room.

pub(super) mod join;
pub(super) mod messages;
pub(super) mod replies;
pub(super) mod roster_diff;
pub(super) mod routes;
pub(super) mod ws;
pub(super) mod ws_limits;
pub(super) mod ws_session;

//! Conference rooms: join, offers and answers, and a WebSocket that follows the room.

pub(super) mod join;
pub(super) mod messages;
pub(super) mod replies;
pub(super) mod roster_diff;
pub(super) mod routes;
pub(super) mod ws;
pub(super) mod ws_limits;
pub(super) mod ws_session;

pub use onecast_control::conference::{Change, MemberInfo, OfferedTrack, ServerOffer};
pub use onecast_control::port::{Conference, JoinedRoom, MemberOffer};

pub use crate::http::feeds::{Presence, RoomFeed};

//! WHIP and WHEP: publishing and watching with one POST, and the later requests to a session.

pub(super) mod counter_offer;
pub(super) mod etag;
pub(super) mod events;
pub(super) mod ice_servers;
pub(super) mod layers;
pub(super) mod links;
pub(super) mod patch;
pub(super) mod routes;

//! Signalling by copy and paste: offers and answers as text that people can move by hand.

pub(super) mod pasted_sdp;
pub(super) mod routes;

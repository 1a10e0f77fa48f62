//! Signalling by copy and paste: offers and answers as text.

pub(super) mod pasted_sdp;
pub(super) mod routes;

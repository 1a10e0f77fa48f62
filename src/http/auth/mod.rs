//! Who sends a request: its token, its address, and the origin of the page that sent it.

pub(super) mod requester;
pub(super) mod same_origin;

//! What signalling needs from the rest of the server.

pub use onecast_control::port::{
    Accepted, PasteRights, PasteRole, Patch, Patched, Protocol, Request, Service, SessionGuard, ShardReading,
    StreamStatus,
};
pub use onecast_control::{CodecLists, CodecsOf, Refusal, SdpRefusal};

pub use crate::http::feeds::EventFeed;

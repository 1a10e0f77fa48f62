//! The port: what signalling, whether by HTTP or from another node, needs from the server, as values and calls.
//!
//! An adapter turns its requests into these calls, and a [`Refusal`](crate::Refusal) into whatever its clients understand.

mod conference;
mod operation;
mod service;

pub use conference::{Conference, JoinedRoom, MemberOffer};
pub use operation::{Condition, DrainState, Operation};
pub use service::{
    Accepted, PasteRights, PasteRole, Patch, Patched, Protocol, Request, Service, SessionGuard, ShardReading,
    StreamStatus,
};

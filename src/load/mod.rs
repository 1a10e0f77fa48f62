//! Clients that are cheap enough to be many: for load on a server, for the benchmark, and for the simulated broadcasts of the tests.

pub mod client_peer;
pub mod floor;
pub mod publisher;
pub mod session;
pub mod signalling;
pub mod viewers;

pub use client_peer::{ClientEvent, ClientPeer};

//! Ingest: what a publisher sends becomes packets of a track. Pure.
//!
//! Retransmissions are undone, duplicates dropped, losses asked for, reports and transport-wide feedback written, and requests
//! for keyframes coalesced. The numbering and timeline that come out are the track's own.

mod nack;
mod receiver;
mod source;
mod transport_feedback;

pub use receiver::{Ingest, IngestConfig, IngestDrop, ReceiveStats};

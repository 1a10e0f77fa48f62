//! onecast: publish once over WebRTC, any number of viewers watch, nothing re-encoded.
//!
//! The rooms, from the packet up; a room uses only rooms above it. `docs/ARCHITECTURE.md` has the map.

pub mod clock;

pub mod metrics;

pub mod rtp;

pub mod media;

pub mod peer;

pub mod ingest;

pub mod fanout;

pub mod room;

pub mod auth;

pub mod turn;

pub mod net;

pub mod tls;

pub mod http;

pub mod client;

pub mod load;

pub mod config;

mod banner;

pub mod serve;

pub mod app;

#[doc(hidden)]
pub mod fuzz;

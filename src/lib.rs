//! onecast: publish once over WebRTC, any number of viewers watch, nothing re-encoded.
//!
//! This is the server's shell: sockets, HTTP, configuration. What it decides and forwards is in the crates below `crates/`;
//! `docs/ARCHITECTURE.md` has the map.

#![forbid(unsafe_code)]

pub mod auth;

pub mod turn;

pub mod tls;

pub mod http;

pub mod config;

pub mod shard_loop;

mod banner;

pub mod serve;

pub mod app;

#[doc(hidden)]
pub mod fuzz;

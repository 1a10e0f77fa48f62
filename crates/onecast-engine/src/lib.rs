//! Media, sans-IO: a publisher's packets in, one sealed datagram for each viewer out.
//!
//! The modules, from the packet up; a module uses only modules above it.

#![forbid(unsafe_code)]

pub mod media;

pub mod ingest;

pub mod fanout;

pub mod pulse;

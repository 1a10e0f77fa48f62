//! The HTTP surface byte by byte over TCP, in front of a fake service.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

mod auth;
mod clients;
mod door;
mod fake;
mod hostile;
mod pages;
mod paste;
mod process;
mod rig;
mod statuses;
mod wire;

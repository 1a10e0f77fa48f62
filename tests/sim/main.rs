//! Whole broadcasts in simulated time and network, with invariants checked at each datagram that leaves a shard.

#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod caller;
mod calls;
mod client;
mod conference;
mod guard;
mod habits;
mod losses;
mod member;
mod members;
mod person;
mod publisher;
mod restarts;
mod room;
mod rooms;
mod scenarios;
mod starts;
mod viewer;
mod world;

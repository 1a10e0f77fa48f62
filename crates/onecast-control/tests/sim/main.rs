//! Whole broadcasts in simulated time and network, with invariants checked at each datagram that leaves a shard.

#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod caller;
mod calls;
mod client;
mod conference;
#[path = "../../../../tests/common/dtls_attack.rs"]
mod dtls_attack;
mod guard;
mod habits;
mod hostile;
mod layers;
mod losses;
mod member;
mod members;
mod network;
mod paths;
mod person;
mod publisher;
mod restarts;
mod room;
mod rooms;
mod routes;
mod scenarios;
mod sources;
mod starts;
mod streams;
mod stun;
mod viewer;
mod world;

//! The HTTP surface byte by byte over TCP, in front of a fake service.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

mod admin;
mod admission;
mod auth;
mod clients;
mod configuration;
mod conformance;
mod counter_offer;
mod events;
mod fake;
mod front;
mod hall;
mod hostile;
mod ice_servers;
mod layers;
mod leaving;
mod limits;
mod openapi;
mod operator;
mod pages;
mod paste;
mod process;
mod refused;
mod replays;
mod rig;
mod rooms;
mod sockets;
mod statuses;
mod wire;
mod ws;

//! The control plane in simulated time: clients, shards and operators do what the tests say, and every effect is seen.

mod bench;
mod drains;
mod ends;
mod joins;
mod layers;
mod rooms;
mod sessions;
mod walk;

use bench::Bench;

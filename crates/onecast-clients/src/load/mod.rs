//! Clients that are cheap enough to be many: for load on a server, for the benchmark, and for the simulated broadcasts of the tests.

pub mod bench;
pub mod broadcast;
pub mod floor;
pub mod joiner;
pub mod joiners;
pub mod process;
pub mod publisher;
pub mod reception;
pub mod relay;
pub mod run;
pub mod session;
pub mod signalling;
pub mod spread;
pub mod stamp;
pub mod viewers;
pub mod workload;

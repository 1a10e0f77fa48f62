//! HTTPS from a client's point of view: the real program, real sockets, and Pebble for ACME.
#![allow(clippy::unwrap_used, reason = "tests and their helpers")]

mod acme;
mod client;
mod clients;
mod files;
mod handshakes;
mod pebble;
mod rig;
mod self_signed;

#[path = "../signalling/fake.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod fake;
#[path = "../signalling/hall.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod hall;
#[path = "../signalling/operator.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod operator;
#[path = "../signalling/refused.rs"]
mod refused;

use std::process::ExitCode;

use onecast_testing::Suite;
use onecast_testing::requirements::UNIX;

fn main() -> ExitCode {
    let tests = [
        acme::tests(),
        clients::tests(),
        handshakes::tests(),
        files::tests(),
        self_signed::tests(),
    ];
    let tests = tests.map(|tests| tests.needs(&UNIX));
    // The tests wait more than they work.
    Suite::new(tests).threads_at_least(4).run()
}

//! HTTPS as clients meet it: the real program, real sockets, and for ACME the real test server Pebble.
#![allow(clippy::unwrap_used, reason = "tests and their helpers")]

mod acme;
mod client;
mod clients;
mod door;
mod files;
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
        door::tests(),
        files::tests(),
        self_signed::tests(),
    ];
    Suite::new(tests.map(|tests| tests.needs(&UNIX))).run()
}

//! Test harness for tests that need a browser, a TURN server or another program.
//!
//! The built-in harness decides at compile time which tests are ignored, so a test that finds its program missing can only pass or fail.
//! Here each test declares what it needs. Where that is missing, the test is reported as *ignored*, with the command that installs it,
//! and a closing line sums up what did not run. With `CI=true` a missing program is a failure.
//!
//! A test target with `harness = false` lists its tests and runs them:
//!
//! ```
//! use onecast_testing::requirements::CHROMIUM;
//! use onecast_testing::{Suite, Tests, tests};
//!
//! async fn page_loads() { /* assertions */ }
//! fn url_is_parsed() { /* assertions */ }
//!
//! fn main() -> std::process::ExitCode {
//!     let tests = tests![page_loads].needs(&CHROMIUM).and(tests![url_is_parsed]);
//!     Suite::new([tests]).run()
//! }
//! ```
//!
//! A test function that is missing from the list is dead code, which the compiler reports.

#![forbid(unsafe_code)]

mod body;
mod noise;
mod report;
pub mod requirements;
mod suite;

pub use body::Body;
pub use noise::Noise;
pub use report::{attach, note};
pub use requirements::{Requirement, find_program};
pub use suite::{Suite, Test, Tests};

/// Lists test functions of the current module: `fn()` or `async fn()`. They are named as the built-in harness names them.
#[macro_export]
macro_rules! tests {
    ($($test:ident),* $(,)?) => {
        $crate::Tests::from(vec![
            $($crate::Test::new(concat!(module_path!(), "::", stringify!($test)), $test)),*
        ])
    };
}

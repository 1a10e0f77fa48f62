//! `onecast load`: publishes a workload to any WHIP/WHEP server, lets many viewers watch it, and reports what they received.
//!
//! One thread carries all media. Signalling has its own runtime. `onecast bench` and the benchmarks use the same clients.

mod args;
mod driver;
mod frames;
pub mod histogram;
pub mod http;
pub mod kernel;
pub mod layers;
pub mod offer;
pub mod path;
pub mod playback;
pub mod process;
pub mod publisher;
pub mod receiver;
mod reception;
pub mod relay;
pub mod report;
pub mod signalling;
pub mod solo;
pub mod spread;
pub mod stamp;
mod totals;
pub mod viewer;
pub mod viewer_pool;
pub mod workload;

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use args::LoadArgs;
pub use driver::LoadError;
pub use offer::{Accepted, AnswerError, PublisherOffer};
pub use report::Report;
pub use totals::Totals;

use driver::Driver;
use report::Thresholds;
use workload::Workload;

/// Body of the fuzz target `load_answer`.
#[doc(hidden)]
pub fn fuzz_answer(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(accepted) = offer::read_answer(text, |ip| ip.is_loopback())
    {
        assert!(accepted.media.ip().is_loopback() && accepted.media.port() != 0);
        assert!(accepted.answered.fingerprint.is_some());
    }
}

/// Runs the command and prints its report. Returns the exit code: 0; 1 when a threshold is exceeded or viewers failed; 2 when it cannot
/// run.
pub fn run(args: &LoadArgs) -> u8 {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // If this fails, an interrupted run only prints no figures.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone());
        let _ = signal_hook::flag::register(signal, stop.clone());
    }
    match measure(args, stop) {
        Ok(report) => {
            let text = match args.json {
                true => serde_json::to_string(&report).unwrap_or_default() + "\n",
                false => report.to_string(),
            };
            // A closed pipe is not an error.
            let _ = std::io::stdout().write_all(text.as_bytes());
            // The table already contains them.
            for words in report.troubles.iter().chain(&report.broken).filter(|_| args.json) {
                eprintln!("error: {words}");
            }
            report.exit_code()
        }
        Err(error) => {
            eprintln!("error: {error}");
            2
        }
    }
}

/// Runs the load until its end, or until `stop` is set. Then the report covers the time so far.
///
/// # Errors
/// When it cannot run.
pub fn measure(args: &LoadArgs, stop: Arc<AtomicBool>) -> Result<Report, LoadError> {
    let shows_progress = !args.json && std::io::stderr().is_terminal();
    let mut report = Driver::new(args, stop, shows_progress)?.run()?;
    report.judge(Thresholds {
        loss: args.max_loss,
        join_p99: args.max_join_p99,
        audio_only: args.workload == Workload::Audio,
    });
    Ok(report)
}

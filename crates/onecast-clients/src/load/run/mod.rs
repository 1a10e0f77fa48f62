//! `onecast load`: publishes a workload, has many viewers watch it, and tells how they fared. Against any WHIP and WHEP server.
//!
//! One thread carries all media; signalling has a runtime of its own.

mod args;
mod crew;
mod desk;
mod driver;
mod figures;
mod frames;
pub mod histogram;
mod member;
mod offer;
pub mod report;
mod source;
mod viewing;

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use args::LoadArgs;
pub use driver::LoadError;
pub use offer::AnswerError;
pub use report::Report;
pub use source::SourceCounts;

use crate::load::workload::Workload;
use driver::Driver;
use report::Thresholds;

/// Body of the fuzz target `load_answer`.
pub fn fuzz_answer(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(accepted) = offer::read_answer(text, |ip| ip.is_loopback())
    {
        assert!(accepted.media.ip().is_loopback() && accepted.media.port() != 0);
        assert!(accepted.answered.fingerprint.is_some());
    }
}

/// Runs the command and prints its report; returns its exit code: 0, 1 when a threshold is broken or viewers fared badly, 2 when it
/// cannot be run.
pub fn run(args: &LoadArgs) -> u8 {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Without it the figures so far are not printed at the end, that is all.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone());
        let _ = signal_hook::flag::register(signal, stop.clone());
    }
    match measure(args, stop) {
        Ok(report) => {
            let text = match args.json {
                true => serde_json::to_string(&report).unwrap_or_default() + "\n",
                false => report.to_string(),
            };
            // A reader that has gone away has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            // The table says it itself.
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

/// Runs the load until its end, or until `stop` is set; then the report is about what was until then.
///
/// # Errors
/// When it cannot be run at all.
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

//! What a failed test reports: its panic, and the notes that it collected on the way.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::fmt::{Display, Write as _};
use std::panic::{self, PanicHookInfo, UnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// Report of the test that runs on this thread.
    static REPORT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes are printed at once, too (`--nocapture`).
static PRINT_NOTES: AtomicBool = AtomicBool::new(false);

/// Adds a line to the report that is printed if the running test fails. `--nocapture` prints it at once.
pub fn note(line: impl Display) {
    if PRINT_NOTES.load(Ordering::Relaxed) {
        eprintln!("{line}");
    }
    append(&format!("{line}\n"));
}

/// Adds the output of a program to the failure report, if the current thread is panicking. To be called from `Drop`.
pub fn attach(title: impl Display, output: &str) {
    if std::thread::panicking() {
        append(&format!("{title}:\n{output}\n"));
    }
}

/// Runs a test body. A panic is returned as its report.
pub(crate) fn catch(body: impl FnOnce() + UnwindSafe) -> Result<(), String> {
    install_hook();
    REPORT.set(Some(String::new()));
    let result = panic::catch_unwind(body);
    let report = REPORT.take().unwrap_or_default();
    result.map_err(|_| report)
}

pub(crate) fn print_notes() {
    PRINT_NOTES.store(true, Ordering::Relaxed);
}

/// Outside of a test, and on other threads of a test, there is only the standard error stream.
fn append(text: &str) {
    let is_kept = REPORT.with_borrow_mut(|report| report.as_mut().map(|report| report.push_str(text)));
    if is_kept.is_none() {
        eprint!("{text}");
    }
}

/// Panics of test threads go to the report instead of the standard error stream, where those of parallel tests would mix.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if REPORT.with_borrow(Option::is_some) {
                append(&describe(info));
            } else {
                default(info);
            }
        }));
    });
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let mut text = message(info.payload()).to_owned();
    if let Some(location) = info.location() {
        text = format!("panicked at {location}:\n{text}");
    }
    text.push('\n');
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = writeln!(text, "{backtrace}");
    }
    text
}

fn message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(a panic without a message)")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Program;

    impl Drop for Program {
        fn drop(&mut self) {
            attach("the program wrote", "it cannot go on");
        }
    }

    #[test]
    fn failure_reports_notes_message_place_and_output_of_programs() {
        let report = catch(|| {
            let _program = Program;
            note("step 1 done");
            panic!("step {} failed", 2);
        });
        let report = report.unwrap_err();
        assert!(report.starts_with("step 1 done\npanicked at "), "{report}");
        assert!(report.contains("report.rs:"), "{report}");
        assert!(report.contains(":\nstep 2 failed\n"), "{report}");
        assert!(report.ends_with("the program wrote:\nit cannot go on\n"), "{report}");
    }

    #[test]
    fn success_drops_the_notes() {
        assert_eq!(catch(|| note("step 1 done")), Ok(()));
        let next = catch(|| panic!("alone"));
        assert!(!next.unwrap_err().contains("step 1"));
    }
}

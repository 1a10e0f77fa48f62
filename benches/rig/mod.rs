//! Shared by the benchmarks of a real server: starts the server on its own core, and describes the machine. Linux only: it reads /proc.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use onecast_clients::bench::OwnServer;

/// The value of the option `name`.
pub(crate) fn option<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).map(String::as_str)
}

/// Prints one line about the machine and one about the commit.
pub(crate) fn print_machine() {
    let line = |path: &str, start: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        found.rsplit(':').next().unwrap_or_default().trim().to_owned()
    };
    println!(
        "{}, {} cores, Linux {}, load {}",
        line("/proc/cpuinfo", "model name"),
        std::thread::available_parallelism().map_or(1, usize::from),
        line("/proc/sys/kernel/osrelease", ""),
        line("/proc/loadavg", ""),
    );
    println!("commit {}", commit().unwrap_or_else(|| "unknown".into()));
}

/// The commit, with a `+` if files differ from it.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(git(&["rev-parse", "--short", "HEAD"])? + if changed { "+" } else { "" })
}

/// Waits.
#[expect(clippy::disallowed_methods, reason = "the load is paced in real time")]
pub(crate) fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// Starts the server as users run it, with one media thread, on the first core. The calling thread, and what it starts from now on, moves
/// to the last core.
pub(crate) fn start_server() -> Result<OwnServer> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    // If pinning fails, the figures are noisier, not wrong.
    let go_to = |core: Option<&core_affinity::CoreId>| core.map(|&core| core_affinity::set_for_current(core));
    go_to(cores.first());
    let program = Path::new(env!("CARGO_BIN_EXE_onecast"));
    let server = OwnServer::start(program, &["--shards", "1", "--pli-interval", "0"]);
    go_to(cores.last());
    server.context("the server does not start")
}

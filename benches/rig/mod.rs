//! What the benchmarks against a real server share: the server on a core of its own, and what the machine is.
//! Linux only: it reads /proc.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The value behind the option `name`.
pub(crate) fn option<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).map(String::as_str)
}

/// One line about the machine and one about the state of the source.
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

/// The commit, with a `+` when the files differ from it.
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

/// The server as users run it, on a core of its own.
pub(crate) struct Server {
    child: Child,
    /// Where it takes offers.
    pub(crate) http: SocketAddr,
}

impl Server {
    /// Starts it with one shard on loopback and waits until it listens.
    pub(crate) fn start() -> Result<Server> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onecast"))
            .args(["serve", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            .args(["--shards", "1", "--pli-interval", "0"])
            .env("RUST_LOG", "onecast=info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the server does not start")?;
        let mut log = BufReader::new(child.stderr.take().context("stderr was asked for")?).lines();
        let address = log.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening http=")?;
            rest.split(' ').next()?.parse().ok()
        });
        // Somebody has to read what else it says.
        std::thread::spawn(move || log.for_each(drop));
        pin(child.id(), SERVER_CORE);
        match address {
            Some(http) => Ok(Server { child, http }),
            None => {
                child.kill()?;
                bail!("the server does not tell where it listens")
            }
        }
    }

    /// CPU time of all its threads, user and system. A thread that ended takes its time along; none does while it serves.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let on_cpu = text.split_ascii_whitespace().next();
            sum += on_cpu.context("schedstat is empty")?.parse::<u64>()?;
        }
        Ok(sum)
    }

    /// Memory that it holds.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next());
        Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps all threads of a process on one core. Where that is not possible the figures are noisier, not wrong.
pub(crate) fn pin(process: u32, core: u32) {
    let (core, process) = (core.to_string(), process.to_string());
    let _ = Command::new("taskset")
        .args(["-a", "-p", "-c", &core, &process])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Where the server runs.
pub(crate) const SERVER_CORE: u32 = 0;
/// Where everything else runs.
pub(crate) const LOAD_CORE: u32 = 1;

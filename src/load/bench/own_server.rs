//! This program's own server as a process of its own, and what it takes of the machine. Linux only: it reads /proc.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::super::signalling::Signalling;

/// A running server. Ends when dropped.
pub struct OwnServer {
    child: Child,
    /// Where it takes offers.
    pub http: SocketAddr,
}

/// What the sockets of a server have sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SentTotals {
    /// Datagrams that the kernel took.
    pub datagrams: u64,
    /// Calls that sent or tried to.
    pub calls: u64,
    /// Messages that the kernel cut into datagrams.
    pub gso_runs: u64,
}

impl OwnServer {
    /// Starts `program` as a server on loopback, with these further options, and waits until it listens. It inherits the cores that
    /// the calling thread may run on.
    ///
    /// # Errors
    /// Those of the system; `InvalidData` when it ends, or does not tell where it listens.
    pub fn start(program: &Path, options: &[&str]) -> io::Result<OwnServer> {
        let mut child = Command::new(program)
            .args(["serve", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            // Its viewers join as fast as they can.
            .args(["--joins-per-second", "1000000", "--half-open-max", "100000"])
            .args(options)
            .env("RUST_LOG", "onecast=info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().expect("stderr was asked for");
        let mut log = BufReader::new(stderr).lines();
        let mut said = String::new();
        let address = log.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line
                .split_once("listening http=")
                .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            said = line;
            address
        });
        // Somebody has to read what else it says.
        std::thread::spawn(move || log.for_each(drop));
        match address {
            Some(http) => Ok(OwnServer { child, http }),
            None => {
                child.kill()?;
                child.wait()?;
                let why = format!("the server does not tell where it listens; its last words: {said}");
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }

    /// CPU nanoseconds of all its threads, user and system. A thread that ended takes its time along; none does while it serves.
    ///
    /// # Errors
    /// When it has ended, or there is no /proc.
    pub fn cpu_ns(&self) -> io::Result<u64> {
        cpu_ns(self.child.id())
    }

    /// Bytes of memory that it holds.
    ///
    /// # Errors
    /// When it has ended, or there is no /proc.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        resident_bytes(self.child.id())
    }

    /// What its sockets have sent so far, by its own count.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn sent(&self) -> io::Result<SentTotals> {
        let mut totals = SentTotals::default();
        let body = Signalling::connect(self.http)?.fetch("/api/shards")?;
        let answer: Value = serde_json::from_str(&body)?;
        for shard in answer["shards"].as_array().into_iter().flatten() {
            let count = |name: &str| shard["socket"][name].as_u64().unwrap_or(0);
            totals.datagrams += count("datagrams_out");
            totals.calls += count("send_calls");
            totals.gso_runs += count("gso_runs");
        }
        Ok(totals)
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU nanoseconds of all threads of a process, user and system.
///
/// # Errors
/// When there is no such process, or no /proc.
pub fn cpu_ns(process: u32) -> io::Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end while we look.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let on_cpu = text
            .split_ascii_whitespace()
            .next()
            .and_then(|text| text.parse::<u64>().ok());
        sum += on_cpu.ok_or(io::ErrorKind::InvalidData)?;
    }
    Ok(sum)
}

/// Bytes of memory that a process holds.
///
/// # Errors
/// When there is no such process, or no /proc.
pub fn resident_bytes(process: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.ok_or(io::ErrorKind::InvalidData)? * 1024)
}

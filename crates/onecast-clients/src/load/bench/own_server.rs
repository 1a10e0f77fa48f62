//! This program's own server as a process of its own, and what it takes of the machine. Linux only: it reads /proc.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::load::process::{Usage, thread_times};
use crate::load::signalling::Signalling;

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

    /// What it has used so far. A thread that ended takes its time along; none does while it serves.
    ///
    /// # Errors
    /// When it has ended, or there is no /proc.
    pub fn usage(&self) -> io::Result<Usage> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the server has ended, or there is no /proc");
        Usage::of(self.child.id()).ok_or_else(missing)
    }

    /// CPU time of its threads so far: of the media threads together, and of all others.
    pub fn thread_times(&self) -> (Duration, Duration) {
        let mut times = (Duration::ZERO, Duration::ZERO);
        for (name, ran) in thread_times(self.child.id()) {
            let sum = if name.starts_with("shard-") {
                &mut times.0
            } else {
                &mut times.1
            };
            *sum += ran;
        }
        times
    }

    /// What its media threads counted so far, all together, by name.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn counters(&self) -> io::Result<BTreeMap<String, u64>> {
        let body = Signalling::connect(self.http)?.fetch("/api/shards")?;
        let answer: Value = serde_json::from_str(&body)?;
        let mut counters = BTreeMap::new();
        for shard in answer["shards"].as_array().into_iter().flatten() {
            for values in [shard, &shard["socket"]] {
                for (name, value) in values.as_object().into_iter().flatten() {
                    *counters.entry(name.clone()).or_default() += value.as_u64().unwrap_or(0);
                }
            }
        }
        Ok(counters)
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

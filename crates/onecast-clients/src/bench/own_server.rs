//! This program's server in another process, and the resources that it uses. Linux only: it reads /proc.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::load::http::BlockingHttp;
use crate::load::process::{Usage, thread_times};

/// A running server. Stops when dropped.
pub struct OwnServer {
    child: Child,
    /// Its HTTP address.
    pub http: SocketAddr,
}

/// What the sockets of a server have sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SentTotals {
    /// Datagrams that the kernel accepted.
    pub datagrams: u64,
    /// System calls that sent or tried to.
    pub calls: u64,
    /// Messages that the kernel split into datagrams.
    pub gso_runs: u64,
}

impl OwnServer {
    /// Starts `program` as a server on loopback with further options, and waits until it listens. It inherits the CPU affinity of the
    /// calling thread.
    ///
    /// # Errors
    /// Those of the system; `InvalidData` when it exits or does not log its address.
    pub fn start(program: &Path, options: &[&str]) -> io::Result<OwnServer> {
        let mut child = Command::new(program)
            .args(["serve", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            // The viewers join as fast as they can.
            .args(["--joins-per-second", "1000000", "--half-open-max", "100000"])
            .args(options)
            .env("RUST_LOG", "onecast=info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().expect("stderr was asked for");
        let mut log = BufReader::new(stderr).lines();
        let mut last_line = String::new();
        let address = log.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line
                .split_once("listening http=")
                .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            last_line = line;
            address
        });
        // The pipe must be read, or the server would block on a full one.
        std::thread::spawn(move || log.for_each(drop));
        match address {
            Some(http) => Ok(OwnServer { child, http }),
            None => {
                child.kill()?;
                child.wait()?;
                let why = format!("the server did not log its address; its last line: {last_line}");
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }

    /// Resources used so far.
    ///
    /// # Errors
    /// When it has exited, or there is no /proc.
    pub fn usage(&self) -> io::Result<Usage> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the server has exited, or there is no /proc");
        Usage::of(self.child.id()).ok_or_else(missing)
    }

    /// CPU time so far: of the media threads, and of all other threads.
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

    /// Counters of the media threads by name, summed.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn counters(&self) -> io::Result<BTreeMap<String, u64>> {
        let mut counters = BTreeMap::new();
        for shard in self.shards()? {
            for values in [&shard, &shard["socket"]] {
                for (name, value) in values.as_object().into_iter().flatten() {
                    *counters.entry(name.clone()).or_default() += value.as_u64().unwrap_or(0);
                }
            }
        }
        Ok(counters)
    }

    /// What its sockets have sent so far, by its own counters.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn sent(&self) -> io::Result<SentTotals> {
        let mut totals = SentTotals::default();
        for shard in self.shards()? {
            let count = |name: &str| shard["socket"][name].as_u64().unwrap_or(0);
            totals.datagrams += count("datagrams_out");
            totals.calls += count("send_calls");
            totals.gso_runs += count("gso_runs");
        }
        Ok(totals)
    }

    fn shards(&self) -> io::Result<Vec<Value>> {
        let body = BlockingHttp::new(self.http)?.get("/api/shards")?;
        let mut answer: Value = serde_json::from_str(&body.unwrap_or_default())?;
        match answer["shards"].take() {
            Value::Array(shards) => Ok(shards),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The server and the publisher, as users run them. Both end when dropped.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::process::{each_line, ended};

/// A process that does not outlive this value.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server.
pub(crate) struct Server {
    _process: Owned,
    http: String,
}

impl Server {
    /// `None` when it does not know an option.
    pub(crate) async fn start(options: &[&str]) -> Result<Option<Server>> {
        let child = Command::new(env!("CARGO_BIN_EXE_onecast"))
            .args(["serve", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            .args(options)
            .env("NO_COLOR", "1")
            .env("RUST_LOG", "onecast=info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut process = Owned(child.context("the server does not start")?);
        let (listening, heard) = oneshot::channel();
        let mut listening = Some(listening);
        let stderr = process.0.stderr.take().context("stderr was asked for")?;
        each_line(stderr, move |line| {
            let address = line.split_once("listening http=").map(|(_, rest)| rest);
            if let Some(address) = address.and_then(|rest| rest.split_ascii_whitespace().next())
                && let Some(listening) = listening.take()
            {
                let _ = listening.send(address.to_owned());
            }
        });
        // The sender is dropped with the pipe, so a server that rejects its options is noticed at once.
        if let Ok(Ok(http)) = timeout(START_LIMIT, heard).await {
            return Ok(Some(Server {
                _process: process,
                http,
            }));
        }
        match ended(&mut process.0, Duration::from_secs(1)).await {
            Some(status) if status.code() == Some(USAGE) => Ok(None),
            status => bail!("the server does not print its address (status {status:?})"),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }
}

/// A running publisher of files.
pub(crate) struct Publisher {
    _process: Owned,
    keyframe_requests: Arc<AtomicU64>,
}

impl Publisher {
    pub(crate) async fn start(to: &str, video: &Path, sound: &Path) -> Result<Publisher> {
        let child = Command::new(env!("CARGO_BIN_EXE_onecast"))
            .args(["publish", "--loop", "--json", "--to", to, "--source"])
            .args([video, sound])
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = Owned(child.context("the publisher does not start")?);
        let keyframe_requests = Arc::<AtomicU64>::default();
        let counted = keyframe_requests.clone();
        let (sending, heard) = oneshot::channel();
        let mut sending = Some(sending);
        each_line(process.0.stdout.take().context("stdout was asked for")?, move |line| {
            let said: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            if let Some(requests) = said["keyframe_requests"].as_u64() {
                counted.store(requests, Ordering::Relaxed);
                let _ = sending.take().map(|sending| sending.send(()));
            }
        });
        match timeout(START_LIMIT, heard).await {
            Ok(Ok(())) => Ok(Publisher {
                _process: process,
                keyframe_requests,
            }),
            _ => bail!("the publisher sends nothing"),
        }
    }

    /// Keyframe requests that it received, by its last progress line; it prints one per second.
    pub(crate) fn keyframe_requests(&self) -> u64 {
        self.keyframe_requests.load(Ordering::Relaxed)
    }
}

const START_LIMIT: Duration = Duration::from_secs(15);
/// Exit code for an invalid command line.
const USAGE: i32 = 2;

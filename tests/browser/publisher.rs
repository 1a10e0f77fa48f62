//! `onecast publish` as a process of its own.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::process;
use super::server::Server;

/// Publishes to the stream `live`. Ends with the test.
pub(crate) struct Publisher(Child);

impl Publisher {
    /// Publishes a test card.
    pub(crate) fn start(server: &Server) -> Publisher {
        Publisher::with(server, &["--source", "test"])
    }

    /// Publishes with these options.
    pub(crate) fn with(server: &Server, options: &[impl AsRef<OsStr>]) -> Publisher {
        let child = Command::new(env!("CARGO_BIN_EXE_onecast"))
            .args(["publish", "--loop", "--to", &server.url("/whip/live")])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Publisher(child.unwrap())
    }

    /// Ends it like a user: it says goodbye to the server.
    pub(crate) async fn leave(mut self) {
        process::signal("INT", &self.0.id().to_string());
        let left = process::ended(&mut self.0, Duration::from_secs(10)).await;
        assert!(left.is_some(), "the publisher ends");
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! The program under test, on free ports and with its own state directory.

use std::io::{BufRead as _, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onecast_testing::attach;
use tempfile::TempDir;

/// A running server. Its log is part of a failed test's report.
pub(crate) struct Running {
    child: Child,
    pub(crate) http: SocketAddr,
    log: Log,
}

/// Output of a program so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<String>>);

impl Running {
    /// Starts with a self-signed certificate, stored in `state`.
    pub(crate) async fn self_signed(state: &TempDir) -> Running {
        let state = state.path().to_str().unwrap();
        Running::start(&["--tls", "self-signed", "--state-dir", state]).await
    }

    pub(crate) async fn start(options: &[&str]) -> Running {
        Running::start_on("127.0.0.1:0".parse().unwrap(), options).await
    }

    pub(crate) async fn start_on(http: SocketAddr, options: &[&str]) -> Running {
        let mut child = onecast(&[&["--http", &http.to_string(), "--udp", "127.0.0.1:0"], options].concat())
            .spawn()
            .unwrap();
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        let mut running = Running { child, http, log };
        let text = running.wrote("listening http=").await;
        let address = text.split("listening http=").nth(1).unwrap();
        running.http = address.split_whitespace().next().unwrap().parse().unwrap();
        running
    }

    /// URL of a path under https.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.http)
    }

    /// Waits for this text in the log or banner and returns all output.
    pub(crate) async fn wrote(&self, words: &str) -> String {
        self.log.says(words).await
    }

    /// Stops it and waits for its end.
    pub(crate) fn stop(&mut self) {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-s", "TERM", &id]).status().unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        attach("the server wrote", &self.log.text());
    }
}

impl Log {
    /// Reads on its own thread: a full pipe would block its writer.
    pub(crate) fn follow(&self, from: impl Read + Send + 'static) {
        let log = self.0.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    pub(crate) async fn says(&self, words: &str) -> String {
        let heard = async {
            while !self.text().contains(words) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, heard).await.is_ok() {
            return self.text();
        }
        panic!("not within {PATIENCE:?}: {words:?}; it wrote:\n{}", self.text());
    }
}

/// The command with captured output and without options from the environment.
pub(crate) fn onecast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onecast"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONECAST_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .env("RUST_LOG", "info,onecast=debug")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The one line that it prints when it refuses to start.
pub(crate) fn refused(arguments: &[&str]) -> String {
    let output = onecast(arguments).env("RUST_LOG", "error").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
    text
}

/// A port that is free at the moment.
pub(crate) fn free_port() -> u16 {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    holder.local_addr().unwrap().port()
}

/// Where the self-signed certificate is stored.
pub(crate) fn kept_certificate(state: &TempDir) -> PathBuf {
    state.path().join("tls/self-signed.pem")
}

/// Permission bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    #[cfg(unix)]
    return std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777;
    #[cfg(not(unix))]
    panic!("{} has no mode here", path.display());
}

/// Limit for every single wait of a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

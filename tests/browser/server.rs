//! The server under test: the real binary, on free ports.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onecast_testing::{Tests, attach, tests};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::process::{each_line, ended, signal};

pub(crate) fn tests() -> Tests {
    tests![listening_line_is_parsed]
}

/// A running server. Its log is part of a failed test's report.
pub(crate) struct Server {
    process: Child,
    http: SocketAddr,
    udp: SocketAddr,
    options: Vec<String>,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts on free ports.
    pub(crate) async fn start() -> Server {
        Server::start_with(&[]).await
    }

    /// Starts with more options.
    pub(crate) async fn start_with(options: &[&str]) -> Server {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Server::start_at(any, any, options, Arc::default()).await
    }

    /// Stops it and waits for its end.
    pub(crate) async fn stop(&mut self) {
        signal("TERM", &self.process.id().to_string());
        let status = ended(&mut self.process, STOP_LIMIT).await;
        let status = status.expect("the server stops in time");
        assert!(status.success(), "the server ended with {status}");
    }

    /// Starts again on the same ports, after [`Server::stop`].
    pub(crate) async fn start_again(&mut self) {
        let again = Server::start_at(self.http, self.udp, self.options.clone(), self.log.clone()).await;
        *self = again;
    }

    /// URL of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Where media goes.
    pub(crate) fn udp(&self) -> SocketAddr {
        self.udp
    }

    async fn start_at(http: SocketAddr, udp: SocketAddr, options: Vec<String>, log: Arc<Mutex<String>>) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_onecast"))
            .args(["serve", "--http", &http.to_string(), "--udp", &udp.to_string()])
            .args(&options)
            .env("NO_COLOR", "1")
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or("info".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (listening, heard) = oneshot::channel();
        let mut listening = Some(listening);
        let (stdout, stderr) = (log.clone(), log.clone());
        each_line(process.stdout.take().unwrap(), move |line| note(&stdout, line));
        each_line(process.stderr.take().unwrap(), move |line| {
            note(&stderr, line);
            if let Some(addresses) = addresses(line)
                && let Some(listening) = listening.take()
            {
                let _ = listening.send(addresses);
            }
        });
        let heard = timeout(START_LIMIT, heard).await.ok().and_then(Result::ok);
        let Some((http, udp)) = heard else {
            let _ = process.kill();
            panic!("the server did not start; it wrote:\n{}", log.lock().unwrap());
        };
        Server {
            process,
            http,
            udp,
            options,
            log,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        attach("the server wrote", &self.log.lock().unwrap());
    }
}

fn note(log: &Mutex<String>, line: &str) {
    let mut log = log.lock().unwrap();
    log.push_str(line);
    log.push('\n');
}

/// The addresses in `.. listening http=127.0.0.1:4711 udp=127.0.0.1:4712`.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (_, rest) = line.split_once("listening ")?;
    let field = |name: &str| {
        let (_, value) = rest.split_once(name)?;
        value.split_whitespace().next()?.parse().ok()
    };
    Some((field("http=")?, field("udp=")?))
}

const START_LIMIT: Duration = Duration::from_secs(15);
/// The server promises 5 s.
const STOP_LIMIT: Duration = Duration::from_secs(8);

fn listening_line_is_parsed() {
    let line = "2026-01-01T00:00:00Z  INFO onecast::serve: listening http=127.0.0.1:4711 udp=[::1]:4712";
    let (http, udp) = addresses(line).unwrap();
    assert_eq!(http.port(), 4711);
    assert!(udp.is_ipv6() && udp.port() == 4712);
    assert_eq!(addresses("listening for clients"), None);
}

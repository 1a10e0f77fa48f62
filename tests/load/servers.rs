//! Servers to load: the whole server in this process, the program, and a server with one reply for every request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use onecast::app::{App, AppConfig};
use onecast::http::{HttpLimits, Pages, Server, Serving};
use tokio_util::sync::CancellationToken;

/// The whole server, in this process.
pub(crate) struct Own {
    app: App,
    http: SocketAddr,
    stop: CancellationToken,
}

impl Own {
    pub(crate) async fn start() -> Own {
        let app = App::start(AppConfig::on_loopback(1)).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = Server::new(
            Serving::open(Arc::new(app.clone()), Pages::built_in()),
            HttpLimits::default(),
        );
        tokio::spawn(server.run(listener, stop.clone()));
        Own { app, http, stop }
    }

    /// `whip` or `whep` of its stream.
    pub(crate) fn url(&self, protocol: &str) -> String {
        format!("http://{}/{protocol}/live", self.http)
    }

    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        assert!(
            self.app.shutdown(Duration::from_secs(5)).await,
            "the media threads end in time"
        );
    }
}

/// The program. Ends when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) http: SocketAddr,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onecast"))
            .args(["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening http=") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it listened");
        }
        let address = line.split("http=").nth(1).unwrap().split(' ').next().unwrap();
        let http = address.parse().unwrap();
        // A full pipe would block the server.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Process { child, http }
    }

    /// Waits until `check` holds for the status of a stream, at most 20 s.
    pub(crate) async fn until(&self, stream: &str, check: impl Fn(&serde_json::Value) -> bool) {
        let url = format!("http://{}/api/streams/{stream}", self.http);
        for _ in 0..400 {
            let response = reqwest::get(&url).await.unwrap();
            if check(&response.json().await.unwrap_or_default()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{stream}: not within 20 s");
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server with one reply for every request.
pub(crate) struct Canned {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Canned {
    /// `reply` is everything after the HTTP version: status, headers and body.
    pub(crate) fn start(reply: &str) -> Canned {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let (counted, reply) = (requests.clone(), format!("HTTP/1.1 {reply}"));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counted, reply) = (counted.clone(), reply.clone());
                std::thread::spawn(move || answer_all(stream, &reply, &counted));
            }
        });
        Canned { address, requests }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer_all(stream: TcpStream, reply: &str, counted: &AtomicUsize) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut body = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(length) = line.strip_prefix("content-length:") {
                body = length.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        stream.read_exact(&mut vec![0; body]).ok()?;
        counted.fetch_add(1, Ordering::SeqCst);
        stream.get_mut().write_all(reply.as_bytes()).ok()?;
    }
}

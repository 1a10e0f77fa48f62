//! A real TURN server: coturn, on loopback, with a secret of the test.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::chrome::installed;

/// A running coturn. What it wrote is printed when the test fails.
pub(crate) struct Coturn {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Coturn {
    /// `None`, after saying so, when there is no coturn here; then the test has nothing to do. In CI that is a failure.
    pub(crate) async fn start(secret: &str) -> Option<Coturn> {
        if !installed("turnserver") {
            let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!in_ci, "TURN tests are required in CI, and there is no turnserver");
            eprintln!("skipped: no coturn (turnserver is not installed)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let path = |name: &str| folder.path().join(name);
        // Beside what loopback needs, this is the configuration that docs/OPERATING.md shows.
        let configuration = format!(
            "listening-ip={ip}\nlistening-port={port}\nrelay-ip={ip}\nmin-port={FIRST}\nmax-port={LAST}\n\
             realm=onecast.test\nuse-auth-secret\nstatic-auth-secret={secret}\n\
             denied-peer-ip=0.0.0.0-255.255.255.255\nallowed-peer-ip={ip}\nallow-loopback-peers\n\
             no-cli\nno-tls\nno-dtls\nverbose\nsimple-log\nlog-file={log}\npidfile={pid}\nuserdb={db}\n",
            ip = address.ip(),
            port = address.port(),
            log = path("log").display(),
            pid = path("pid").display(),
            db = path("db").display(),
        );
        std::fs::write(path("conf"), configuration).unwrap();
        let process = Command::new("turnserver")
            .arg("-c")
            .arg(path("conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let coturn = Coturn {
            process,
            address,
            folder,
        };
        let listening = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(START_LIMIT, listening).await.expect("coturn starts");
        Some(coturn)
    }

    /// Its URL for a client that reaches it by `transport`.
    pub(crate) fn url(&self, transport: &str) -> String {
        format!("turn:{}?transport={transport}", self.address)
    }

    /// A file with a secret, for the server under test.
    pub(crate) fn secret_file(&self, secret: &str) -> PathBuf {
        let file = self.folder.path().join("secret");
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        file
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            eprintln!("coturn wrote:\n{}", log.unwrap_or_default());
        }
    }
}

/// An address that nobody uses by UDP nor by TCP.
fn free_address() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

const START_LIMIT: Duration = Duration::from_secs(15);
/// Ports of the relay: Chromium asks for one from each of its interfaces.
const FIRST: u16 = 61_000;
const LAST: u16 = 61_099;

//! A real TURN server: coturn on loopback, with a secret that the test chooses.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use onecast_testing::attach;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A running coturn. Its log is part of a failed test's report.
pub(crate) struct Coturn {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Coturn {
    pub(crate) async fn start(secret: &str) -> Coturn {
        let folder = tempfile::tempdir().unwrap();
        let (address, relay_ports) = (free_address(), relay_ports());
        let path = |name: &str| folder.path().join(name);
        // The configuration from docs/OPERATING.md, plus what loopback needs.
        let configuration = format!(
            "listening-ip={ip}\nlistening-port={port}\nrelay-ip={ip}\nmin-port={first}\nmax-port={last}\n\
             realm=onecast.test\nuse-auth-secret\nstatic-auth-secret={secret}\n\
             denied-peer-ip=0.0.0.0-255.255.255.255\nallowed-peer-ip={ip}\nallow-loopback-peers\n\
             no-cli\nno-tls\nno-dtls\nverbose\nsimple-log\nlog-file={log}\npidfile={pid}\nuserdb={db}\n",
            ip = address.ip(),
            port = address.port(),
            first = relay_ports.start(),
            last = relay_ports.end(),
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
        coturn
    }

    /// Its URL for clients that use `transport`.
    pub(crate) fn url(&self, transport: &str) -> String {
        format!("turn:{}?transport={transport}", self.address)
    }

    /// A file with `secret`, for the server under test.
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
        let log = std::fs::read_to_string(self.folder.path().join("log"));
        attach("coturn wrote", &log.unwrap_or_default());
    }
}

/// An address whose port is free for UDP and TCP.
fn free_address() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Ports for relayed media, which no other coturn of this test run has.
fn relay_ports() -> RangeInclusive<u16> {
    static STARTED: AtomicU16 = AtomicU16::new(0);
    let first = FIRST_RELAY_PORT + RELAY_PORTS * STARTED.fetch_add(1, Ordering::Relaxed);
    first..=first + RELAY_PORTS - 1
}

const START_LIMIT: Duration = Duration::from_secs(15);
/// Above the range from which Linux takes ephemeral ports.
const FIRST_RELAY_PORT: u16 = 61_000;
/// Chromium asks for one port for each of its interfaces.
const RELAY_PORTS: u16 = 100;

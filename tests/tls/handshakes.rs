//! Clients that do not speak TLS, or do not finish the handshake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use onecast::http::{HttpLimits, Pages, Server, Serving};
use onecast::tls::{CertificateSource, Tls};
use onecast_testing::{Tests, tests};
use reqwest::redirect::Policy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::{trusting, trusting_file};
use super::fake::Fake;
use super::rig::{PATIENCE, Running, free_port, kept_certificate, refused};

pub(crate) fn tests() -> Tests {
    tests![
        stalled_handshakes_block_no_client_and_time_out,
        stalled_handshakes_count_as_connections,
        garbage_closes_only_its_connection,
        plain_http_on_the_https_port_is_redirected,
        plain_http_without_a_host_gets_an_explanation,
        redirect_port_redirects_every_method,
    ]
}

/// The server in this process, with given limits.
struct Rig {
    address: SocketAddr,
    client: reqwest::Client,
    _state: tempfile::TempDir,
    _stop: DropGuard,
}

impl Rig {
    async fn start(limits: HttpLimits) -> Rig {
        let state = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let source = CertificateSource::SelfSigned {
            state_dir: Some(state.path().to_owned()),
            public_ips: vec![],
        };
        let tls = Tls::start(source, stop.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Serving::open(Arc::new(Fake::default()), Pages::built_in());
        let server = Server::new(serving, limits).with_tls(Arc::new(tls));
        tokio::spawn(server.run(listener, stop.clone()));
        Rig {
            address,
            client: trusting_file(&kept_certificate(&state)),
            _state: state,
            _stop: stop.drop_guard(),
        }
    }

    async fn is_served(&self) -> bool {
        let url = format!("https://{}/api/streams", self.address);
        let reply = tokio::time::timeout(Duration::from_secs(5), self.client.get(url).send()).await;
        matches!(reply, Ok(Ok(reply)) if reply.status() == 200)
    }

    /// Connections that stall: silent, after one byte, and in mid-handshake.
    async fn stalled(&self, count: usize) -> Vec<TcpStream> {
        let mut stalled = Vec::new();
        for number in 0..count {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let beginning: &[u8] = match number % 3 {
                0 => b"",
                1 => b"\x16",
                // The header of a 512-byte record, the start of a ClientHello, and nothing else.
                _ => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            };
            stream.write_all(beginning).await.unwrap();
            stalled.push(stream);
        }
        stalled
    }
}

/// Reads until the server closes or resets the connection.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the server closes in time");
    bytes
}

async fn stalled_handshakes_block_no_client_and_time_out() {
    let limits = HttpLimits {
        handshake_timeout: Duration::from_secs(3),
        ..HttpLimits::default()
    };
    let rig = Rig::start(limits).await;
    let mut stalled = rig.stalled(200).await;
    let began = tokio::time::Instant::now();
    assert!(rig.is_served().await);
    assert!(began.elapsed() < Duration::from_secs(3), "served while they stalled");
    for stream in &mut stalled {
        rest(stream).await;
    }
}

async fn stalled_handshakes_count_as_connections() {
    let limits = HttpLimits {
        connections: 6,
        handshake_timeout: Duration::from_secs(60),
        ..HttpLimits::default()
    };
    let rig = Rig::start(limits).await;
    let stalled = rig.stalled(6).await;
    assert!(!rig.is_served().await, "they have all places");
    drop(stalled);
    assert!(rig.is_served().await, "and gave them back");
}

async fn garbage_closes_only_its_connection() {
    let rig = Rig::start(HttpLimits::default()).await;
    for garbage in [
        &b"\x00\x01\x02\x03"[..],
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\xff\xff\xff\xff\xff",
        b"\x80\x2e\x01\x00\x02",
        b"ssh-2.0-x\r\n",
        &[0x16; 4096],
    ] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let reply = rest(&mut stream).await;
        // At most a TLS alert.
        assert!(reply.is_empty() || reply[0] == 0x15, "{garbage:?}: {reply:?}");
    }
    assert!(rig.is_served().await);
}

async fn plain_http_on_the_https_port_is_redirected() {
    let state = tempfile::tempdir().unwrap();
    let server = Running::self_signed(&state).await;
    let client = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
    let reply = client
        .post(format!("http://{}/whip/live?x=%20y", server.http))
        .header("content-type", "application/sdp")
        .body("v=0")
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 308);
    assert_eq!(reply.headers()["location"], server.url("/whip/live?x=%20y").as_str());
    assert_eq!(reply.headers()["cache-control"], "no-store");
    assert!(
        reply
            .text()
            .await
            .unwrap()
            .starts_with("This server speaks HTTPS: https://")
    );

    // Method and body survive the redirect: the reply is about them.
    let pem = std::fs::read(kept_certificate(&state)).unwrap();
    let following = trusting(&pem).redirect(Policy::limited(2)).build().unwrap();
    let request = following.post(format!("http://{}/whip/live", server.http));
    let reply = request
        .header("content-type", "application/sdp")
        .body("nonsense")
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 400);
    assert_eq!(reply.url().scheme(), "https");
    assert!(reply.text().await.unwrap().contains("SDP"));
}

async fn plain_http_without_a_host_gets_an_explanation() {
    let state = tempfile::tempdir().unwrap();
    let server = Running::self_signed(&state).await;
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let reply = String::from_utf8(rest(&mut stream).await).unwrap();
        assert!(
            reply.contains(" 400 ") && reply.contains("application/problem+json"),
            "{reply}"
        );
        assert!(reply.contains("that begins with https://"), "{reply}");
    }
}

async fn redirect_port_redirects_every_method() {
    let state = tempfile::tempdir().unwrap();
    let redirect = format!("127.0.0.1:{}", free_port());
    let options = ["--tls", "self-signed", "--state-dir", state.path().to_str().unwrap()];
    let server = Running::start(&[&options[..], &["--http-redirect", &redirect]].concat()).await;
    let client = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
    for method in ["GET", "POST", "PATCH", "DELETE"] {
        let request = client.request(method.parse().unwrap(), format!("http://{redirect}/whep/live"));
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 308, "{method}");
        assert_eq!(
            reply.headers()["location"],
            server.url("/whep/live").as_str(),
            "{method}"
        );
    }
    let text = refused(&["--http", "127.0.0.1:0", "--http-redirect", &redirect]);
    assert!(
        text.contains("--http-redirect redirects to HTTPS, which is not enabled"),
        "{text}"
    );
    let taken = refused(
        &[
            &options[..],
            &[
                "--http",
                "127.0.0.1:0",
                "--udp",
                "127.0.0.1:0",
                "--http-redirect",
                &redirect,
            ],
        ]
        .concat(),
    );
    assert!(taken.contains("in use") && taken.contains("--http-redirect"), "{taken}");
}

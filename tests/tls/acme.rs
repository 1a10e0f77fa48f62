//! Certificates from an ACME directory: the real program and Pebble.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use onecast_testing::requirements::PEBBLE;
use onecast_testing::{Tests, tests};
use rustls::version::{TLS12, TLS13};

use super::client::{get, handshake, trusting};
use super::pebble::Pebble;
use super::rig::{PATIENCE, Running, free_port, mode, refused};

pub(crate) fn tests() -> Tests {
    tests![
        certificate_is_ordered_served_stored_and_reused,
        certificate_is_renewed_before_it_expires,
        unreachable_port_is_named,
    ]
    .needs(&PEBBLE)
    .and(tests![
        server_keeps_serving_without_the_acme_directory,
        impossible_acme_options_are_refused_at_startup,
    ])
}

async fn start(http: SocketAddr, state: &Path, directory: &str, ca: &Path) -> Running {
    let options = [
        "--acme",
        DOMAIN,
        "--acme-email",
        "somebody@live.test",
        "--acme-directory",
        directory,
        "--acme-ca",
        ca.to_str().unwrap(),
        "--state-dir",
        state.to_str().unwrap(),
    ];
    Running::start_on(http, &options).await
}

async fn certificate_is_ordered_served_stored_and_reused() {
    let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let pebble = Pebble::start(http.port()).await;
    let state = tempfile::tempdir().unwrap();
    let (directory, ca) = (pebble.directory(), pebble.ca());
    let mut server = start(http, state.path(), &directory, &ca).await;
    server.wrote(IN_USE).await;

    let root = pebble.root().await;
    let client = trusting(&root).resolve(DOMAIN, http).build().unwrap();
    let url = format!("https://{DOMAIN}:{}/api/streams", http.port());
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    for version in [&TLS12, &TLS13] {
        let stream = handshake(http, DOMAIN, &root, &["h2"], &[version]).await.unwrap();
        assert_eq!(get(stream, "/api/streams").await.0, 200);
    }
    let banner = server
        .wrote(&format!("https://{DOMAIN}:{}/broadcast.html", http.port()))
        .await;
    assert!(!banner.contains("Browsers warn"), "{banner}");
    assert!(!banner.contains("PRIVATE"), "{banner}");

    let folder = state.path().join("acme");
    let kept: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(
        (kept.len(), mode(&folder)),
        (2, 0o700),
        "account and certificate: {kept:?}"
    );
    assert!(kept.iter().all(|file| mode(file) == 0o600));

    // The next start works without the directory.
    server.stop();
    let root_of_directory = std::fs::read(&ca).unwrap();
    drop(pebble);
    let ca = state.path().join("ca.pem");
    std::fs::write(&ca, root_of_directory).unwrap();
    let again = start(http, state.path(), &directory, &ca).await;
    again.wrote("the stored certificate for live.test is in use").await;
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
}

async fn certificate_is_renewed_before_it_expires() {
    let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let pebble = Pebble::with(http.port(), Duration::from_secs(15)).await;
    let state = tempfile::tempdir().unwrap();
    let server = start(http, state.path(), &pebble.directory(), &pebble.ca()).await;
    server.wrote(IN_USE).await;
    let root = pebble.root().await;
    let shown = async || {
        let stream = handshake(http, DOMAIN, &root, &[], &[&TLS13]).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown().await;
    let renewed = async {
        while server.wrote(IN_USE).await.matches(IN_USE).count() < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed)
        .await
        .expect("it is renewed in time");
    assert_ne!(shown().await, first);
}

async fn unreachable_port_is_named() {
    let (http, elsewhere) = (SocketAddr::from(([127, 0, 0, 1], free_port())), free_port());
    let pebble = Pebble::start(elsewhere).await;
    let state = tempfile::tempdir().unwrap();
    let server = start(http, state.path(), &pebble.directory(), &pebble.ca()).await;
    let text = server.wrote("cannot get a certificate for live.test").await;
    let line = text
        .lines()
        .find(|line| line.contains("cannot get a certificate for"))
        .unwrap();
    assert!(
        line.contains("port 443 of live.test must reach --http of this server"),
        "{line}"
    );
    assert!(line.contains("trying again in 5 s"), "{line}");
    assert!(
        handshake(http, DOMAIN, &pebble.root().await, &[], &[&TLS13])
            .await
            .is_err()
    );
}

async fn server_keeps_serving_without_the_acme_directory() {
    let state = tempfile::tempdir().unwrap();
    let ca = state.path().join("ca.pem");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let directory = format!("https://127.0.0.1:{}/dir", free_port());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = start(any, state.path(), &directory, &ca).await;
    server.wrote("cannot reach the directory").await;
    let plain = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let reply = plain.get(format!("http://{}/", server.http)).send().await.unwrap();
    assert_eq!(reply.status(), 308);
}

fn impossible_acme_options_are_refused_at_startup() {
    let text = refused(&["--acme", "live.test"]);
    assert!(text.contains("onecast --acme live.test --http [::]:443"), "{text}");
    let private = [
        "--acme",
        "live.test",
        "--acme-directory",
        "https://localhost:1/dir",
        "--http",
        "127.0.0.1:0",
    ];
    let text = refused(&[&private[..], &["--acme-ca", "/absent.pem"]].concat());
    assert!(text.contains("cannot read /absent.pem (--acme-ca)"), "{text}");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let text = refused(&[&private[..], &["--acme-ca", manifest]].concat());
    assert!(text.contains("Cargo.toml (--acme-ca) has no certificate"), "{text}");
}

const DOMAIN: &str = "live.test";
const IN_USE: &str = "a new certificate for live.test is in use";

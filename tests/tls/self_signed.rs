//! The self-signed certificate.

use hyper::Version;
use onecast_testing::{Tests, tests};
use rustls::version::{TLS12, TLS13};

use super::client::{get, handshake, trusting_file};
use super::rig::{Running, kept_certificate, mode, onecast, refused};

pub(crate) fn tests() -> Tests {
    tests![
        clients_that_trust_the_stored_file_are_served_by_name_and_address,
        tls_1_2_and_1_3_and_both_http_versions_are_served,
        certificate_is_private_to_its_owner_and_survives_a_restart,
        server_without_a_state_directory_warns_and_serves,
        lan_listens_everywhere_with_https_and_prints_a_link,
        wide_terminal_shows_a_qr_code,
    ]
}

async fn clients_that_trust_the_stored_file_are_served_by_name_and_address() {
    let state = tempfile::tempdir().unwrap();
    let server = Running::self_signed(&state).await;
    let client = trusting_file(&kept_certificate(&state));
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}/api/streams", server.http.port());
        assert_eq!(client.get(url).send().await.unwrap().status(), 200, "{host}");
    }
    let stranger = reqwest::Client::new().get(server.url("/api/streams")).send().await;
    assert!(stranger.is_err(), "no authority vouches for it");
}

async fn tls_1_2_and_1_3_and_both_http_versions_are_served() {
    let state = tempfile::tempdir().unwrap();
    let server = Running::self_signed(&state).await;
    let pem = std::fs::read(kept_certificate(&state)).unwrap();
    for version in [&TLS12, &TLS13] {
        for (offered, expected) in [
            (&["h2", "http/1.1"][..], Version::HTTP_2),
            (&["http/1.1"], Version::HTTP_11),
            (&[], Version::HTTP_11),
        ] {
            let stream = handshake(server.http, "localhost", &pem, offered, &[version]).await;
            let (status, spoken, body) = get(stream.unwrap(), "/api/streams").await;
            assert_eq!((status.as_u16(), spoken), (200, expected), "{version:?} {offered:?}");
            assert!(body.starts_with(b"{"), "{body:?}");
        }
    }
    let other = handshake(server.http, "localhost", &pem, &["imap"], &[&TLS13]).await;
    assert!(other.is_err(), "a protocol that is not spoken is refused");
}

async fn certificate_is_private_to_its_owner_and_survives_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("state");
    let options = ["--tls", "self-signed", "--state-dir", folder.to_str().unwrap()];
    let mut server = Running::start(&options).await;
    let banner = server.wrote("SHA-256 fingerprint").await;
    let fingerprint = banner
        .split("fingerprint is\n")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .trim();
    assert_eq!(fingerprint.split(':').count(), 32, "{banner}");
    assert!(banner.contains("https://127.0.0.1:"), "{banner}");
    for (name, rights) in [
        ("", 0o700),
        ("tls", 0o700),
        ("tls/self-signed.key", 0o600),
        ("tls/self-signed.pem", 0o600),
    ] {
        assert_eq!(mode(&folder.join(name)), rights, "{name}");
    }
    server.stop();
    let again = Running::start(&options).await;
    assert!(again.wrote(fingerprint).await.contains("Proceed"));
    // An address that the stored certificate does not cover leads to a new one.
    let moved = Running::start(&[&options[..], &["--public-ip", "203.0.113.7"]].concat()).await;
    assert!(!moved.wrote("SHA-256 fingerprint is").await.contains(fingerprint));
}

async fn server_without_a_state_directory_warns_and_serves() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("file");
    std::fs::write(&file, "").unwrap();
    let server = Running::start(&["--tls", "self-signed", "--state-dir", file.to_str().unwrap()]).await;
    let text = server
        .wrote("Each start generates a new one; specify another directory with --state-dir DIR")
        .await;
    assert!(
        text.contains("cannot store the certificate in") && !text.contains("--ca "),
        "{text}"
    );
    let careless = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let reply = careless.get(server.url("/")).send().await.unwrap();
    assert_eq!(reply.status(), 200);
}

async fn lan_listens_everywhere_with_https_and_prints_a_link() {
    let state = tempfile::tempdir().unwrap();
    let state_dir = state.path().to_str().unwrap();
    // 0.0.0.0 with a free port: the default port of --lan may be in use on this machine.
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let server = Running::start_on(everywhere, &["--lan", "--state-dir", state_dir]).await;
    let text = server.wrote("On a phone in the same network, open").await;
    let link = text
        .split("network, open\n")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .trim();
    assert!(
        link.starts_with("https://") && link.contains("/broadcast.html"),
        "{text}"
    );
    assert!(!text.contains('\u{2588}'), "a code only in a terminal");
    let client = trusting_file(&kept_certificate(&state));
    assert_eq!(client.get(link).send().await.unwrap().status(), 200);
    let text = refused(&["--lan", "--http", "127.0.0.1:0"]);
    assert!(text.contains("--lan lets other machines in"), "{text}");
}

#[cfg(target_os = "linux")]
fn wide_terminal_shows_a_qr_code() {
    // script(1) creates the terminal; it is part of util-linux.
    let program = onecast(&[]).get_program().to_string_lossy().into_owned();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().display();
    let line = format!(
        "stty rows 60 cols 120; timeout -s TERM 3 {program} --lan --http 0.0.0.0:0 --udp 127.0.0.1:0 --state-dir {state} 2>/dev/null"
    );
    let output = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains('\u{2588}') && text.contains("/broadcast.html"), "{text}");
}

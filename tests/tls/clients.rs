//! The command-line clients and the demo over HTTPS.

use std::process::Output;

use onecast_testing::{Tests, tests};

use super::rig::{Running, kept_certificate, onecast};

pub(crate) fn tests() -> Tests {
    tests![demo_is_watched_over_https, publisher_connects_over_https,]
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = onecast(arguments).env("RUST_LOG", "error").output().unwrap();
    let text = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (status.code(), text)
}

async fn demo_is_watched_over_https() {
    let state = tempfile::tempdir().unwrap();
    let state_dir = state.path().to_str().unwrap();
    let server = Running::start(&["--tls", "self-signed", "--state-dir", state_dir, "--demo"]).await;
    server.wrote("broadcaster connected").await;
    let url = server.url("/whep/demo");
    let certificate = kept_certificate(&state);
    let trusting = [
        "watch",
        "--from",
        &url,
        "--for",
        "3s",
        "--ca",
        certificate.to_str().unwrap(),
    ];
    let (code, text) = run(&trusting);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("frames"), "{text}");

    let (code, text) = run(&["watch", "--from", &url, "--for", "3s", "--insecure"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = run(&["watch", "--from", &url, "--for", "3s"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.to_lowercase().contains("certificate"), "{text}");
}

async fn publisher_connects_over_https() {
    let state = tempfile::tempdir().unwrap();
    let server = Running::self_signed(&state).await;
    let (code, text) = run(&[
        "publish",
        "--to",
        &server.url("/whip/live"),
        "--for",
        "2s",
        "--insecure",
    ]);
    assert_eq!(code, Some(0), "{text}");
    server.wrote("broadcaster connected").await;
    let (code, text) = run(&["publish", "--to", &server.url("/whip/live"), "--ca", "/absent.pem"]);
    assert_eq!(
        (code, text.contains("cannot read /absent.pem (--ca)")),
        (Some(2), true),
        "{text}"
    );
}

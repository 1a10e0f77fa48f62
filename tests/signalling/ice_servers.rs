//! STUN and TURN servers that the program announces to clients, byte by byte.

use super::process::{Running, refused};
use super::rig::SDP;
use super::wire::{Reply, Wire, request};

const SERVERS: &str =
    "turn:turn.example.org:3478?transport=udp,stun:stun.example.org,turns:[2001:db8::1]:5349?transport=tcp";

#[tokio::test]
async fn each_ice_server_has_its_own_link_in_answers_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "p4ss\n").unwrap();
    let file = file.to_str().unwrap();
    let login = ["--turn-username", "user", "--turn-password-file", file];
    let server = Running::start(&[&["--ice-server", SERVERS], &login[..]].concat());
    let login = "username=\"user\"; credential=\"p4ss\"; credential-type=\"password\"";
    let expected = [
        "<stun:stun.example.org>; rel=\"ice-server\"".to_owned(),
        format!("<turn:turn.example.org:3478?transport=udp>; rel=\"ice-server\"; {login}"),
        format!("<turns:[2001:db8::1]:5349?transport=tcp>; rel=\"ice-server\"; {login}"),
    ];
    for (endpoint, offer) in [("/whip/live", PUBLISH), ("/whep/live", WATCH)] {
        let created = ask(&server, "POST", endpoint, &[SDP], offer).await;
        assert_eq!((created.status, ice_servers(&created)), (201, expected.to_vec()));
        let told = ask(&server, "OPTIONS", endpoint, &[], "").await;
        assert_eq!((told.status, ice_servers(&told)), (204, expected.to_vec()));
        let exposed = told.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("Link"), "{exposed}");
    }
}

#[tokio::test]
async fn every_client_gets_its_own_login_that_expires() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "north").unwrap();
    let secret = ["--turn-secret-file", file.to_str().unwrap(), "--turn-ttl", "30m"];
    let server = Running::start(&[&["--ice-server", "turn:turn.example.org"], &secret[..]].concat());
    let mut lines = Vec::new();
    for _ in 0..2 {
        let told = ask(&server, "OPTIONS", "/whep/live", &[], "").await;
        lines.extend(ice_servers(&told));
    }
    assert_eq!(lines.len(), 2);
    assert_ne!(lines[0], lines[1]);
    for line in lines {
        let username = line.split("username=\"").nth(1).unwrap().split('"').next().unwrap();
        let ends: u64 = username.split(':').next().unwrap().parse().unwrap();
        let left = ends - onecast_udp::clock::unix_time().as_secs();
        assert!((1_700..=1_800).contains(&left), "{left}");
        assert!(!line.contains(',') && line.matches(';').count() == 4, "{line}");
    }
}

#[tokio::test]
async fn neither_preflights_nor_refusals_list_ice_servers() {
    let server = Running::start(&["--ice-server", "stun:stun.example.org"]);
    let preflight = [
        ("Origin", "https://example.org"),
        ("Access-Control-Request-Method", "POST"),
    ];
    let told = ask(&server, "OPTIONS", "/whip/live", &preflight, "").await;
    assert_eq!((told.status, ice_servers(&told).len()), (204, 0));
    // Even for a name that cannot be: the page of another origin is to read the refusal.
    let told = ask(&server, "OPTIONS", "/whip/%20", &preflight, "").await;
    assert_eq!((told.status, ice_servers(&told).len()), (204, 0));
    let refused = ask(&server, "POST", "/whip/live", &[SDP], "no offer").await;
    assert_eq!((refused.status, ice_servers(&refused).len()), (400, 0));
    let told = ask(&server, "OPTIONS", "/whip/live", &[], "").await;
    assert_eq!(ice_servers(&told), ["<stun:stun.example.org>; rel=\"ice-server\""]);
}

#[test]
fn invalid_ice_servers_are_one_line_and_exit_code_2() {
    for (arguments, words) in [
        (&["--ice-server", "turn:turn.example.org"][..], "needs credentials"),
        (
            &["--ice-server", "turn:a.example", "--turn-secret-file", "/no/such/file"],
            "--turn-secret-file /no/such/file",
        ),
    ] {
        let text = refused(arguments);
        assert!(text.lines().count() == 1 && text.contains(words), "{text}");
    }
    assert!(refused(&["--ice-server", "turn:user:secret@a.example"]).contains("--turn-username"));
}

async fn ask(server: &Running, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut wire = Wire::connect(server.http).await;
    wire.send(request(method, path, headers, body)).await;
    wire.reply().await.unwrap()
}

/// The values of the lines that tell of ICE servers, in their order.
fn ice_servers(reply: &Reply) -> Vec<String> {
    let links = reply.headers.iter().filter(|(name, _)| name == "link");
    let values = links.map(|(_, value)| value.clone());
    values.filter(|value| value.contains("rel=\"ice-server\"")).collect()
}

const PUBLISH: &str = include_str!("../data/offers/chromium156-publish.sdp");
const WATCH: &str = include_str!("../data/offers/chromium156-watch.sdp");

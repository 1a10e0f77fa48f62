//! Pages that reach the server only through a TURN server.

use onecast_testing::requirements::{CHROMIUM, COTURN};
use onecast_testing::{Tests, tests};
use serde_json::json;

use super::chrome::{Chrome, Page};
use super::coturn::Coturn;
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        broadcast_is_relayed_in_both_directions,
        viewer_without_udp_watches_through_a_tcp_relay,
        pages_show_that_the_turn_server_refused,
    ]
    .needs(&COTURN)
    .and(tests![
        relay_only_page_says_when_there_is_no_relay,
        ice_servers_are_found_among_other_links,
    ])
    .needs(&CHROMIUM)
}

async fn broadcast_is_relayed_in_both_directions() {
    let chrome = Chrome::launch().await;
    let turn = Coturn::start(SECRET).await;
    let server = serve(&turn, "udp", SECRET).await;
    let broadcaster = chrome
        .open(&server.url("/broadcast.html?stream=live&source=canvas&quality=360&relay=1"))
        .await;
    broadcaster.click("#go").await;
    broadcaster.wait_for_state("live").await;
    assert_relayed(&broadcaster, "udp").await;

    let viewer = watch(&chrome, &server, "/viewer.html?stream=live&relay=1").await;
    assert_relayed(&viewer, "udp").await;
    assert_pictures_advance(&viewer).await;

    // A client that needs no relay uses none: relays cost time and money.
    let direct = watch(&chrome, &server, "/viewer.html?stream=live").await;
    assert_ne!(direct.awaited(PAIR).await["type"], json!("relay"));
    for page in [broadcaster, viewer, direct] {
        page.close().await;
    }
}

async fn viewer_without_udp_watches_through_a_tcp_relay() {
    let chrome = Chrome::launch().await;
    let turn = Coturn::start(SECRET).await;
    let server = serve(&turn, "tcp", SECRET).await;
    let viewer = watch(&chrome, &server, "/viewer.html?stream=demo&relay=1").await;
    assert_relayed(&viewer, "tcp").await;
    assert_pictures_advance(&viewer).await;
    viewer.close().await;
}

async fn pages_show_that_the_turn_server_refused() {
    let chrome = Chrome::launch().await;
    let turn = Coturn::start(SECRET).await;
    let server = serve(&turn, "udp", "another secret").await;
    let viewer = chrome.open(&server.url("/viewer.html?stream=demo&relay=1")).await;
    let broadcaster = chrome
        .open(&server.url("/broadcast.html?stream=live&source=canvas&relay=1"))
        .await;
    viewer.click("#watch").await;
    broadcaster.click("#go").await;
    for page in [viewer, broadcaster] {
        page.wait_for_state("lost").await;
        page.wait_for_words("The TURN server refused this connection (401")
            .await;
        page.wait_for_words(&turn.url("udp")).await;
        page.close().await;
    }
    // A client that needs no relay is not affected.
    let page = chrome.open(&server.url("/viewer.html?stream=demo")).await;
    page.click("#watch").await;
    page.wait_for_state("watching").await;
    page.close().await;
}

async fn relay_only_page_says_when_there_is_no_relay() {
    let chrome = Chrome::launch().await;
    let server = Server::start_with(&["--demo"]).await;
    let page = chrome.open(&server.url("/viewer.html?stream=demo&relay=1")).await;
    page.click("#watch").await;
    page.wait_for_words("The server announces no TURN server").await;
    page.close().await;
}

async fn ice_servers_are_found_among_other_links() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let page = chrome.open(&server.url("/viewer.html")).await;
    let links = [
        r#"<../events>; rel="urn:x:events"; events="active,inactive""#,
        "<stun:a.example>;rel=ice-server",
        r#"<turn:b.example?transport=udp>; rel="ice-server" ; username="1:2"; credential="a/b,c;d"; username="3""#,
        "<cut",
    ]
    .join(", ");
    let read = |header: &str| format!("import('/js/iceservers.js').then(({{ parseLinks }}) => parseLinks({header}))");
    let expected = json!([
        { "urls": "stun:a.example" },
        { "urls": "turn:b.example?transport=udp", "username": "1:2", "credential": "a/b,c;d" },
    ]);
    assert_eq!(page.awaited(&read(&json!(links).to_string())).await, expected);
    assert_eq!(page.awaited(&read("null")).await, json!([]));
    page.close().await;
}

/// A server with a test card, which announces `turn` to clients.
async fn serve(turn: &Coturn, transport: &str, secret: &str) -> Server {
    let file = turn.secret_file(secret);
    let (url, file) = (turn.url(transport), file.to_str().unwrap());
    Server::start_with(&["--demo", "--ice-server", &url, "--turn-secret-file", file]).await
}

async fn watch(chrome: &Chrome, server: &Server, path: &str) -> Page {
    let page = chrome.open(&server.url(path)).await;
    page.click("#watch").await;
    page.wait_for_state("watching").await;
    page
}

async fn assert_relayed(page: &Page, protocol: &str) {
    assert_eq!(
        page.awaited(PAIR).await,
        json!({ "type": "relay", "protocol": protocol })
    );
}

async fn assert_pictures_advance(page: &Page) {
    let before = page.awaited(FRAMES).await;
    page.wait_until(&format!("{FRAMES}.then((now) => now > {before} + 15)"))
        .await;
}

const SECRET: &str = "of this test";

/// The local candidate of the selected pair.
const PAIR: &str = "onecast.pc.getStats().then((report) => { \
    const transport = [...report.values()].find((one) => one.type === 'transport'); \
    const local = report.get(report.get(transport.selectedCandidatePairId).localCandidateId); \
    return { type: local.candidateType, protocol: local.relayProtocol }; })";

/// Number of decoded frames.
const FRAMES: &str = "onecast.pc.getStats().then((report) => \
    [...report.values()].find((one) => one.type === 'inbound-rtp' && one.kind === 'video')?.framesDecoded ?? 0)";

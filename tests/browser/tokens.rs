//! Tokens on the pages: in links, requested, stored, and never visible to others.

use onecast::auth::{Secret, StreamPatterns, TokenRule};
use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::json;

use super::chrome::{Chrome, Page};
use super::fake::Fake;
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        link_with_a_token_goes_live_and_hides_the_token,
        page_without_a_token_asks_for_one,
        private_stream_is_watched_with_a_token,
        broadcaster_that_is_taken_over_does_not_reconnect,
        pages_of_other_origins_may_use_tokens,
    ]
    .needs(&CHROMIUM)
}

/// A server with a tokens file.
struct Guarded {
    server: Server,
    publish: String,
    watch: String,
    _file: tempfile::NamedTempFile,
}

impl Guarded {
    async fn start(options: &[&str]) -> Guarded {
        let (publish, watch) = (Secret::generate(), Secret::generate());
        let table = |name: &str, token: &Secret, good: &str| {
            format!("[[token]]\nname = \"{name}\"\nhash = \"{}\"\n{good}\n", token.hash())
        };
        let tables =
            table("studio", &publish, "publish = \"*\"\nwatch = \"*\"") + &table("viewers", &watch, "watch = \"*\"");
        assert_eq!(TokenRule::read(&tables).unwrap()[0].publish, StreamPatterns::all());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), tables).unwrap();
        let options = [&["--tokens-file", file.path().to_str().unwrap()], options].concat();
        Guarded {
            server: Server::start_with(&options).await,
            publish: publish.expose().to_owned(),
            watch: watch.expose().to_owned(),
            _file: file,
        }
    }

    fn url(&self, path: &str) -> String {
        self.server.url(path)
    }
}

const BROADCAST: &str = "/broadcast.html?stream=live&source=canvas";
const ASKED: &str = "!document.getElementById('token-form').hidden";

async fn give(page: &Page, token: &str) {
    page.wait_until(ASKED).await;
    page.paste("#token", token).await;
    page.click("#token-form button").await;
}

async fn link_with_a_token_goes_live_and_hides_the_token() {
    let chrome = Chrome::launch().await;
    let guarded = Guarded::start(&[]).await;
    let page = chrome
        .open(&format!("{}#token={}", guarded.url(BROADCAST), guarded.publish))
        .await;
    page.click("#go").await;
    page.wait_for_state("live").await;
    assert_eq!(page.value("location.hash").await, json!(""));
    let address = page
        .value("location.href + document.getElementById('viewer-link').href + document.body.innerText")
        .await;
    assert!(!address.as_str().unwrap().contains(&guarded.publish));

    // Anyone may watch through the link that the page shows.
    let link = page.value("document.getElementById('viewer-link').href").await;
    let viewer = chrome.open(&format!("{}&autoplay=1", link.as_str().unwrap())).await;
    viewer.wait_for_state("watching").await;

    page.run("location.reload();", vec![]).await;
    viewer.wait_for_state("left").await;
    page.wait_for_state("idle").await;
    page.click("#go").await;
    page.wait_for_state("live").await;
    viewer.wait_for_state("watching").await;
    page.click("#stop").await;
    page.wait_for_state("idle").await;
    page.close().await;
    viewer.close().await;
}

async fn page_without_a_token_asks_for_one() {
    let chrome = Chrome::launch().await;
    let guarded = Guarded::start(&[]).await;
    let page = chrome.open(&guarded.url(BROADCAST)).await;
    assert_eq!(page.value(ASKED).await, json!(false));
    page.click("#go").await;
    page.wait_for_state("error").await;
    page.wait_for_words("A token is required").await;
    page.wait_for_words("Token, or the complete link you received").await;
    let pictures = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    std::fs::create_dir_all(&pictures).unwrap();
    page.screenshot(&pictures.join("broadcast-token.png")).await;
    give(&page, "wrong").await;
    page.wait_for_words("The token is not valid").await;
    give(&page, &guarded.watch).await;
    page.wait_for_words("This is not allowed").await;
    page.wait_for_words("This token does not allow publishing the stream live.")
        .await;
    give(
        &page,
        &format!("https://cast.example/broadcast.html#token={}", guarded.publish),
    )
    .await;
    page.wait_for_state("live").await;
    assert_eq!(page.value(ASKED).await, json!(false));
    assert_eq!(page.field("#token").await, "");
    page.click("#stop").await;
    page.close().await;
}

async fn private_stream_is_watched_with_a_token() {
    let chrome = Chrome::launch().await;
    let guarded = Guarded::start(&["--private"]).await;
    let page = chrome
        .open(&format!("{}#token={}", guarded.url(BROADCAST), guarded.publish))
        .await;
    page.click("#go").await;
    page.wait_for_state("live").await;

    let viewer = chrome.open(&guarded.url("/viewer.html?stream=live&autoplay=1")).await;
    viewer.wait_for_state("error").await;
    viewer.wait_for_words("A token is required").await;
    give(&viewer, &guarded.watch).await;
    viewer.wait_for_state("watching").await;

    let by_link = chrome
        .open(&format!(
            "{}#token={}",
            guarded.url("/viewer.html?autoplay=1"),
            guarded.watch
        ))
        .await;
    by_link.wait_for_state("watching").await;

    let front = chrome.open(&guarded.url("/")).await;
    front.wait_for_state("lost").await;
    front.wait_for_words("A token is required").await;
    give(&front, &guarded.watch).await;
    front.wait_for_state("live").await;
    front
        .wait_until("document.querySelector('li[data-stream=live][data-live=true]') !== null")
        .await;
    for page in [front, by_link, viewer, page] {
        page.close().await;
    }
}

async fn broadcaster_that_is_taken_over_does_not_reconnect() {
    let chrome = Chrome::launch().await;
    let guarded = Guarded::start(&[]).await;
    let link = format!("{}#token={}", guarded.url(BROADCAST), guarded.publish);
    let first = chrome.open(&link).await;
    first.click("#go").await;
    first.wait_for_state("live").await;
    let viewer = chrome.open(&guarded.url("/viewer.html?stream=live&autoplay=1")).await;
    viewer.wait_for_state("watching").await;

    let second = chrome.open(&link).await;
    second.click("#go").await;
    second.wait_for_state("live").await;
    first.wait_for_state("error").await;
    first.wait_for_words("Taken over by another device").await;
    assert_eq!(first.value(ASKED).await, json!(false));
    viewer.wait_for_state("watching").await;
    // A page that has lost its session tries again after 0.6, 1.2 and 2.4 s.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    for (page, state) in [(&first, "error"), (&second, "live"), (&viewer, "watching")] {
        page.wait_for_state(state).await;
    }
    // A user may take the stream back.
    first.click("#go").await;
    first.wait_for_state("live").await;
    second.wait_for_words("Taken over by another device").await;
    for page in [first, second, viewer] {
        page.close().await;
    }
}

async fn pages_of_other_origins_may_use_tokens() {
    let chrome = Chrome::launch().await;
    let guarded = Guarded::start(&["--private"]).await;
    let elsewhere = Fake::start().await;
    let page = chrome.open(&elsewhere.url("/style.css")).await;
    let post = |authorization: &str| {
        format!(
            "(async () => {{ \
               const pc = new RTCPeerConnection(); \
               pc.addTransceiver('video', {{ direction: 'recvonly' }}); \
               await pc.setLocalDescription(); \
               const headers = {{ 'Content-Type': 'application/sdp', {authorization} }}; \
               const answer = await fetch('{url}', {{ method: 'POST', headers, body: pc.localDescription.sdp }}); \
               const location = answer.headers.get('Location'); \
               const ended = location && await fetch(new URL(location, '{url}'), {{ method: 'DELETE', headers }}); \
               const type = answer.status === 401 ? (await answer.json()).type : ''; \
               return [answer.status, location !== null, ended?.status ?? 0, type]; \
             }})()",
            url = guarded.url("/whep/live"),
        )
    };
    let with_token = format!("'Authorization': 'Bearer {}'", guarded.watch);
    assert_eq!(page.awaited(&post(&with_token)).await, json!([201, true, 200, ""]));
    let refused = json!([401, false, 0, "urn:onecast:problem:unauthorized"]);
    assert_eq!(page.awaited(&post("'Authorization': 'Bearer wrong'")).await, refused);
    assert_eq!(page.awaited(&post("")).await, refused);
    page.close().await;
}

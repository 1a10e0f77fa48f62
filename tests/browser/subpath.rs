//! The pages below a path of a proxy, which the server may not know.

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::json;

use super::broadcast::{assert_sees_and_hears, carry_by_hand};
use super::chrome::Chrome;
use super::fake::Fake;
use super::proxy::Proxy;
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        pages_work_below_a_path_that_the_proxy_hides,
        pages_work_below_a_path_that_the_proxy_forwards,
        urls_from_the_server_resolve_below_the_proxy_path,
    ]
    .needs(&CHROMIUM)
}

async fn pages_work_below_a_path_that_the_proxy_hides() {
    everything_works_below_a_path(false).await;
}

async fn pages_work_below_a_path_that_the_proxy_forwards() {
    everything_works_below_a_path(true).await;
}

async fn everything_works_below_a_path(says_prefix: bool) {
    let chrome = Chrome::launch().await;
    let server = Server::start_with(&["--auth", "off"]).await;
    let proxy = Proxy::start(&server, says_prefix).await;
    let broadcaster = chrome
        .open(&proxy.url("/broadcast.html?stream=live&source=canvas&quality=360"))
        .await;
    broadcaster.click("#go").await;
    broadcaster.wait_for_state("live").await;
    // From the front page, through its links.
    let viewer = chrome.open(&proxy.url("/")).await;
    viewer.wait_for_state("live").await;
    let command = format!("curl -s --data-binary @offer.txt {}", proxy.url("/sdp/live"));
    viewer.wait_for_words(&command).await;
    viewer.click("[data-stream=live] a").await;
    viewer.wait_for_state("watching").await;
    assert_sees_and_hears(&viewer, "VP8").await;
    // From the event stream and from the list of streams.
    viewer.click("#show-stats").await;
    viewer
        .wait_until("/Viewers\\s+1\\b/.test(document.querySelector('#stats').innerText)")
        .await;
    broadcaster
        .wait_until("/Viewers\\s+1\\b/.test(document.querySelector('#stats').innerText)")
        .await;
    // The session URL: PATCH, and DELETE when the page leaves.
    assert_eq!(viewer.awaited("onecast.restart()").await, json!(null));
    viewer.click("#stop").await;
    viewer.wait_for_state("idle").await;
    viewer
        .wait_until(
            "fetch('api/streams').then((answer) => answer.json()).then(({ streams }) => streams[0].viewers === 0)",
        )
        .await;
    carry_by_hand(&viewer, &server).await;
    viewer.wait_for_state("watching").await;
    // The WebSocket of a room.
    viewer
        .goto(&proxy.url("/conference.html?name=Olga&source=canvas&quality=180&autoplay=1"))
        .await;
    viewer.wait_for_state("alone").await;
    viewer.wait_for_words(&proxy.url("/conference.html?room=main")).await;
    viewer.close().await;
    broadcaster.close().await;
    assert_eq!(proxy.outside(), Vec::<String>::new());
}

/// How pages resolve references of the server, with and without the proxy's path in them.
async fn urls_from_the_server_resolve_below_the_proxy_path() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = chrome.open(&server.url("/")).await;
    for (endpoint, reference, place) in [
        // Without a path nothing is added.
        ("http://a/whep/x", "/whep/x/1", "http://a/whep/x/1"),
        ("http://a/whep/x", "x/1", "http://a/whep/x/1"),
        ("http://a/whep/x", "https://b/whep/x/1", "https://b/whep/x/1"),
        ("http://a/rtc/whep/x", "/whep/x/1", "http://a/rtc/whep/x/1"),
        ("http://a/rtc/whep/x", "/whep/x/1?a#b", "http://a/rtc/whep/x/1?a#b"),
        ("http://a/rtc/whep/x", "/rtc/whep/x/1", "http://a/rtc/whep/x/1"),
        ("http://a/rtc/whep/x", "x/1", "http://a/rtc/whep/x/1"),
        ("http://a/rtc/whep/x", "//b/whep/x/1", "http://b/whep/x/1"),
        ("http://a/rtc/whep/x", "http://b/whep/x/1", "http://b/whep/x/1"),
        ("http://a/r/t/whip/x", "/whip/x/1", "http://a/r/t/whip/x/1"),
        ("http://a/r/t/whip/x", "/r/t/whip/x/1", "http://a/r/t/whip/x/1"),
        // A name that only starts the same is another one.
        ("http://a/rtc/whep/x", "/rtcs/1", "http://a/rtc/rtcs/1"),
        ("http://a/rtc/whep/x", "", "http://a/rtc/whep/x"),
        // The path of the proxy has the name of a server path.
        ("http://a/whep/whep/x", "/whep/x/1", "http://a/whep/whep/x/1"),
        ("http://a/whep/whep/x", "/whep/whep/x/1", "http://a/whep/whep/x/1"),
        ("http://a/whep/whep/whep", "/whep/whep/1", "http://a/whep/whep/whep/1"),
    ] {
        let script = format!(
            "import('/js/urls.js').then(({{ placeOf, serverOf }}) => \
             placeOf({reference:?}, new URL({endpoint:?}), serverOf(new URL({endpoint:?}))).href)"
        );
        assert_eq!(page.awaited(&script).await, json!(place), "{reference} of {endpoint}");
    }
    // URLs below a session, such as its event stream, have the same root.
    let events = "import('/js/urls.js').then(({ placeOf }) => placeOf('/whep/x/events/2', \
        new URL('http://a/rtc/whep/x/1/events'), new URL('http://a/rtc/')).href)";
    assert_eq!(page.awaited(events).await, json!("http://a/rtc/whep/x/events/2"));
    page.close().await;
}

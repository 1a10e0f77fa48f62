//! Viewers of a busy server: the page says so, waits for the time in Retry-After, and gets in.

use std::time::Duration;

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::json;

use super::chrome::Chrome;
use super::fake::Fake;
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        viewer_of_a_busy_server_waits_and_gets_in,
        viewer_that_is_always_refused_gives_up_until_told_to_continue,
    ]
    .needs(&CHROMIUM)
}

async fn viewer_of_a_busy_server_waits_and_gets_in() {
    let chrome = Chrome::launch().await;
    let server = Server::start_with(&["--joins-per-second", "1"]).await;
    let page = chrome.open(&server.url("/viewer.html?stream=show")).await;
    // Other requests arrive all the time until the page is refused. They are no offers, but each takes the token of its second.
    page.run(
        "const crowd = () => fetch('/whep/show', { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: 'x' }); \
         crowd(); \
         const timer = setInterval(() => { \
           if (document.documentElement.dataset.state === 'lost') clearInterval(timer); else crowd(); \
         }, 200);",
        vec![],
    )
    .await;
    page.click("#watch").await;
    page.wait_for_state("lost").await;
    page.wait_for_words("The server is busy").await;
    page.wait_for_words("Trying again in").await;
    page.wait_for_state("waiting").await;
    page.wait_for_words("Waiting for the broadcaster").await;
    let refused = "fetch('/api/streams').then((answer) => answer.json()).then(({ joins }) => joins.refused.rate > 0)";
    assert_eq!(page.awaited(refused).await, json!(true));
    page.close().await;
}

async fn viewer_that_is_always_refused_gives_up_until_told_to_continue() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let problem = json!({ "title": "The server is busy", "detail": "more viewers come than it takes" });
    server.refuse(503, vec![("retry-after", "0")], problem);
    let page = chrome.open(&server.url("/viewer.html")).await;
    page.run("Math.random = () => 0;", vec![]).await;
    page.click("#watch").await;
    page.wait_for_state("error").await;
    page.wait_for_words("The server is busy").await;
    page.wait_for_words("More viewers come than it takes.").await;
    assert_eq!(server.offers(), 21);
    page.click("#watch").await;
    let again = async {
        while server.offers() < 42 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(20), again).await;
    again.expect("a person may have the page try again");
    page.close().await;
}

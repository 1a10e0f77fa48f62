//! Pages whose sessions the operator ends: they show the reason and do not reconnect.

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::json;

use super::chrome::Chrome;
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![kicked_clients_show_the_reason_and_stay_away,].needs(&CHROMIUM)
}

async fn kicked_clients_show_the_reason_and_stay_away() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let broadcaster = chrome
        .open(&server.url("/broadcast.html?stream=show&source=canvas"))
        .await;
    broadcaster.click("#go").await;
    broadcaster.wait_for_state("live").await;
    let viewer = chrome.open(&server.url("/viewer.html?stream=show")).await;
    viewer.click("#watch").await;
    viewer.wait_for_state("watching").await;

    let operator = chrome.open(&server.url("/")).await;
    let kick = |role: &str| {
        format!(
            "fetch('/api/sessions?role={role}').then((answer) => answer.json())\
             .then(({{ sessions }}) => fetch(`/api/sessions/${{sessions[0].handle}}?reason=off+topic`, {{ method: 'DELETE' }}))\
             .then((answer) => answer.status)"
        )
    };
    for (page, role) in [(&viewer, "viewer"), (&broadcaster, "publisher")] {
        assert_eq!(operator.awaited(&kick(role)).await, json!(200));
        page.wait_for_state("error").await;
        page.wait_for_words("The operator ended this session").await;
        page.wait_for_words("off topic").await;
    }
    // A page that has lost its session tries again after 0.6, 1.2 and 2.4 s.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let left = "fetch('/api/sessions').then((answer) => answer.json()).then(({ sessions }) => sessions.length)";
    assert_eq!(operator.awaited(left).await, json!(0));

    // A user may try again.
    viewer.click("#watch").await;
    viewer.wait_for_state("waiting").await;
    for page in [operator, viewer, broadcaster] {
        page.close().await;
    }
}

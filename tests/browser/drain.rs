//! Draining servers: pages move to the server they are sent to, or return when theirs is back.

use std::time::Duration;

use onecast::auth::Secret;
use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::{Value, json};

use super::chrome::{Chrome, Page};
use super::publisher::Publisher;
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        draining_server_moves_a_viewer_without_a_gap,
        viewer_keeps_its_picture_until_the_draining_server_is_back,
        draining_server_redirects_a_broadcaster_with_its_token,
    ]
    .needs(&CHROMIUM)
}

/// Records every state of the page other than `watching`.
const NOTE_STATES: &str = "window.states = []; \
    const note = ({ state }) => state !== 'watching' && states.push(state); \
    new MutationObserver(() => note(document.documentElement.dataset)) \
        .observe(document.documentElement, { attributes: true, attributeFilter: ['data-state'] });";

/// Starts to drain the server; resolves with the status.
async fn drain(operator: &Page, to: Option<&Server>) -> Value {
    let query = to.map_or_else(String::new, |to| format!("?to={}", to.url("")));
    operator
        .awaited(&format!(
            "fetch('/api/drain{query}', {{ method: 'POST' }}).then(({{ status }}) => status)"
        ))
        .await
}

/// An expression that is true when the server of the operator's page has this many sessions.
fn has(sessions: usize, role: &str) -> String {
    format!(
        "fetch('/api/sessions?role={role}').then((answer) => answer.json())\
         .then(({{ sessions }}) => sessions.length === {sessions})"
    )
}

async fn draining_server_moves_a_viewer_without_a_gap() {
    let chrome = Chrome::launch().await;
    let (mut first, mut second) = (Server::start().await, Server::start().await);
    let _publishers = [Publisher::start(&first), Publisher::start(&second)];
    let operators = [chrome.open(&first.url("/")).await, chrome.open(&second.url("/")).await];
    for operator in &operators {
        operator.wait_until(&has(1, "publisher")).await;
    }
    let viewer = chrome.open(&first.url("/viewer.html?stream=live")).await;
    viewer.click("#watch").await;
    viewer.wait_for_state("watching").await;
    viewer.run(NOTE_STATES, vec![]).await;

    assert_eq!(drain(&operators[0], Some(&second)).await, json!(202));
    operators[1].wait_until(&has(1, "viewer")).await;
    operators[0].wait_until(&has(0, "viewer")).await;
    first.stop().await;
    viewer
        .wait_until("document.querySelector('#video').videoWidth === 640")
        .await;
    viewer.wait_for_state("watching").await;
    assert_eq!(
        viewer.value("states").await,
        json!([]),
        "it never was without a picture"
    );

    // It stays with the other server as long as that runs.
    second.stop().await;
    viewer.wait_for_state("lost").await;
    second.start_again().await;
    let operator = chrome.open(&second.url("/")).await;
    operator.wait_until(&has(1, "viewer")).await;
    for page in operators.into_iter().chain([operator, viewer]) {
        page.close().await;
    }
}

async fn viewer_keeps_its_picture_until_the_draining_server_is_back() {
    let chrome = Chrome::launch().await;
    let mut server = Server::start_with(&["--demo"]).await;
    let operator = chrome.open(&server.url("/")).await;
    let viewer = chrome.open(&server.url("/viewer.html?stream=demo")).await;
    viewer.click("#watch").await;
    viewer.wait_for_state("watching").await;
    viewer.run(NOTE_STATES, vec![]).await;
    viewer
        .run(
            "window.refused = 0; const real = window.fetch; \
             window.fetch = async (...request) => { \
                 const response = await real(...request); \
                 if (response.status === 503) window.refused += 1; \
                 return response; \
             };",
            vec![],
        )
        .await;
    assert_eq!(drain(&operator, None).await, json!(202));
    viewer.wait_until("refused > 0").await;
    assert_eq!(viewer.value("states").await, json!([]));
    server.stop().await;
    viewer.wait_until("states.includes('lost')").await;
    server.start_again().await;
    viewer.wait_for_state("watching").await;
    operator.wait_until(&has(1, "viewer")).await;
    for page in [operator, viewer] {
        page.close().await;
    }
}

async fn draining_server_redirects_a_broadcaster_with_its_token() {
    let chrome = Chrome::launch().await;
    let secret = Secret::generate();
    let file = tempfile::NamedTempFile::new().unwrap();
    let table = format!(
        "[[token]]\nname = \"all\"\nhash = \"{}\"\npublish = \"*\"\nwatch = \"*\"\nadmin = true\n",
        secret.hash()
    );
    std::fs::write(file.path(), table).unwrap();
    let options = ["--tokens-file", file.path().to_str().unwrap()];
    // The first server has a viewer; without one it would stop at once.
    let first = Server::start_with(&[&options[..], &["--demo"]].concat()).await;
    let second = Server::start_with(&options).await;
    let token = secret.expose();
    let bearer = format!("headers: {{ Authorization: 'Bearer {token}' }}");
    let viewer = chrome
        .open(&first.url(&format!("/viewer.html?stream=demo#token={token}")))
        .await;
    viewer.click("#watch").await;
    viewer.wait_for_state("watching").await;
    let page = chrome
        .open(&first.url(&format!("/broadcast.html?stream=live&source=canvas#token={token}")))
        .await;
    let drained = format!(
        "fetch('/api/drain?to={}', {{ method: 'POST', {bearer} }}).then(({{ status }}) => status)",
        second.url("")
    );
    assert_eq!(page.awaited(&drained).await, json!(202));
    page.click("#go").await;
    page.wait_for_state("live").await;
    let sessions = format!(
        "fetch('{}', {{ {bearer} }}).then((answer) => answer.json()).then(({{ sessions }}) => sessions.length)",
        second.url("/api/sessions?role=publisher")
    );
    assert_eq!(page.awaited(&sessions).await, json!(1));
    // The second server also learns that the session ended.
    page.click("#stop").await;
    page.wait_for_state("idle").await;
    page.wait_until(&format!("{sessions}.then((sessions) => sessions === 0)"))
        .await;
    viewer.close().await;
    tokio::time::timeout(Duration::from_secs(5), page.close())
        .await
        .unwrap();
}

//! HTTPS with the self-signed certificate: pages on names other than localhost, and requests from other origins.

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::json;

use super::chrome::{Chrome, Page};
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        camera_works_over_https_under_any_host_name,
        page_without_https_explains_why_there_is_no_camera,
        page_of_another_origin_publishes_with_a_token,
    ]
    .needs(&CHROMIUM)
}

async fn camera_works_over_https_under_any_host_name() {
    let chrome = Chrome::launch().await;
    let server = HttpsServer::start().await;
    let page = chrome
        .open(&server.on("phone.test", "/broadcast.html?source=camera"))
        .await;
    assert_eq!(page.value("window.isSecureContext").await, json!(true));
    page.click("#go").await;
    page.wait_for_state("live").await;

    let viewer = chrome.open(&server.on("tablet.test", "/viewer.html")).await;
    viewer.click("#watch").await;
    viewer.wait_for_state("watching").await;
    sees_a_picture(&viewer).await;
    page.close().await;
    viewer.close().await;
}

async fn page_without_https_explains_why_there_is_no_camera() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let url = server
        .url("/broadcast.html?source=camera")
        .replace("127.0.0.1", "phone.test");
    let page = chrome.open(&url).await;
    assert_eq!(page.value("window.isSecureContext").await, json!(false));
    page.wait_for_words("https").await;
    page.close().await;
}

async fn page_of_another_origin_publishes_with_a_token() {
    let chrome = Chrome::launch().await;
    let (server, elsewhere) = (HttpsServer::start().await, HttpsServer::start().await);
    let page = chrome.open(&elsewhere.on("other.test", "/viewer.html")).await;
    let endpoint = server.on("phone.test", "/whip/live");
    let published = page.awaited(&format!("({PUBLISH})({endpoint:?})")).await;
    assert_eq!(published["status"], json!(201), "{published}");
    assert!(published["location"].as_str().unwrap().starts_with('/'), "{published}");
    page.wait_until("window.pc.connectionState === 'connected'").await;

    let viewer = chrome.open(&server.on("tablet.test", "/viewer.html")).await;
    viewer.click("#watch").await;
    viewer.wait_for_state("watching").await;
    sees_a_picture(&viewer).await;

    let session = server.on("phone.test", published["location"].as_str().unwrap());
    let goodbye = format!("fetch({session:?}, {{ method: 'DELETE', headers: {TOKEN} }}).then((reply) => reply.status)");
    assert_eq!(page.awaited(&goodbye).await, json!(200));
    viewer.wait_for_state("left").await;
    page.close().await;
    viewer.close().await;
}

async fn sees_a_picture(viewer: &Page) {
    viewer
        .wait_until(
            "document.querySelector('#video').videoWidth > 0 && document.querySelector('#video').currentTime > 0.5",
        )
        .await;
}

/// A server with a self-signed certificate.
struct HttpsServer {
    server: Server,
    _state: tempfile::TempDir,
}

impl HttpsServer {
    async fn start() -> HttpsServer {
        let state = tempfile::tempdir().unwrap();
        let state_dir = state.path().to_str().unwrap();
        // Explicit, because pages come from other origins and use other names of the server.
        let options = ["--tls", "self-signed", "--auth", "off", "--state-dir", state_dir];
        HttpsServer {
            server: Server::start_with(&options).await,
            _state: state,
        }
    }

    /// URL of a path under a name that resolves to this machine.
    fn on(&self, name: &str, path: &str) -> String {
        self.server
            .url(path)
            .replace("http://127.0.0.1", &format!("https://{name}"))
    }
}

const TOKEN: &str = "{ Authorization: 'Bearer a-token' }";

/// What a third-party page does: it takes the camera, makes an offer and sends a request with a CORS preflight.
const PUBLISH: &str = "async (endpoint) => { \
    window.pc = new RTCPeerConnection(); \
    const camera = await navigator.mediaDevices.getUserMedia({ video: true, audio: true }); \
    for (const track of camera.getTracks()) pc.addTransceiver(track, { direction: 'sendonly' }); \
    await pc.setLocalDescription(); \
    const reply = await fetch(endpoint, { \
        method: 'POST', \
        headers: { 'Content-Type': 'application/sdp', Authorization: 'Bearer a-token' }, \
        body: pc.localDescription.sdp, \
    }); \
    const sdp = await reply.text(); \
    if (reply.status === 201) await pc.setRemoteDescription({ type: 'answer', sdp }); \
    return { status: reply.status, location: reply.headers.get('location') }; \
}";

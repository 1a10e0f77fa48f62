//! Event streams and counter-offers in Chromium.

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::json;

use super::chrome::{Chrome, Page};
use super::publisher::Publisher;
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        player_that_asks_for_an_offer_plays,
        event_source_receives_joins_and_leaves,
        page_receives_that_the_broadcaster_left_and_returned,
        early_viewer_shows_an_unsupported_codec_until_it_changes,
    ]
    .needs(&CHROMIUM)
}

async fn player(chrome: &Chrome, server: &Server) -> Page {
    // A page that plays nothing itself and has no globals that the player would shadow.
    let page = chrome.open(&server.url("/")).await;
    page.run(include_str!("events.js"), vec![]).await;
    page
}

async fn player_that_asks_for_an_offer_plays() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let _publisher = Publisher::start(&server);
    let page = player(&chrome, &server).await;
    assert_eq!(page.awaited("play('live')").await, json!([406, "application/sdp", 204]));
    page.wait_until("pc.connectionState === 'connected'").await;
    page.wait_until("video.videoWidth === 640 && video.currentTime > 1")
        .await;
    let answer = page.value("answer").await;
    onecast::fuzz::sdp_answer(answer.as_str().unwrap().as_bytes());
    assert_eq!(
        page.awaited("fetch(session, { method: 'DELETE' }).then(({ status }) => status)")
            .await,
        json!(200)
    );
    page.close().await;
}

async fn event_source_receives_joins_and_leaves() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let page = player(&chrome, &server).await;
    page.awaited("watch('live').then(follow)").await;
    page.wait_until("heard[0] === 'inactive {}' && heard.includes('viewercount {\"viewercount\":1}')")
        .await;
    let publisher = Publisher::start(&server);
    page.wait_until("heard.at(-1) === 'active {}'").await;
    publisher.leave().await;
    page.wait_until("heard.at(-1) === 'inactive {}'").await;
    // The event stream ends with the session: the browser reconnects once and learns that.
    page.awaited("fetch(session, { method: 'DELETE' })").await;
    page.wait_until("heard.at(-1) === 'closed'").await;
    page.close().await;
}

async fn page_receives_that_the_broadcaster_left_and_returned() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let page = chrome.open(&server.url("/viewer.html?stream=live")).await;
    page.click("#watch").await;
    page.wait_for_words("Waiting for the broadcaster").await;
    let publisher = Publisher::start(&server);
    page.wait_for_state("watching").await;
    page.click("#show-stats").await;
    page.wait_until("/Viewers\\s+1\\b/.test(document.querySelector('#stats').innerText)")
        .await;
    publisher.leave().await;
    page.wait_for_words("The broadcaster left").await;
    let _publisher = Publisher::start(&server);
    page.wait_for_state("watching").await;
    page.close().await;
}

async fn early_viewer_shows_an_unsupported_codec_until_it_changes() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let page = chrome.open(&server.url("/viewer.html?stream=live")).await;
    let only_vp8 = "const add = RTCPeerConnection.prototype.addTransceiver; \
                    RTCPeerConnection.prototype.addTransceiver = function (kind, init) { \
                      const added = add.call(this, kind, init); \
                      const { codecs } = RTCRtpReceiver.getCapabilities('video'); \
                      if (kind === 'video') added.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType === 'video/VP8')); \
                      return added; };";
    page.run(only_vp8, vec![]).await;
    page.click("#watch").await;
    page.wait_for_words("Waiting for the broadcaster").await;
    let publisher = Publisher::with(
        &server,
        &["--source", "tests/data/media/clip.h264", "tests/data/media/clip.ogg"],
    );
    page.wait_for_words("This browser cannot play the video").await;
    page.wait_for_words("Its codec is H264. Use another browser, or ask the broadcaster to send VP8.")
        .await;
    publisher.leave().await;
    let _publisher = Publisher::start(&server);
    page.wait_for_state("watching").await;
    page.close().await;
}

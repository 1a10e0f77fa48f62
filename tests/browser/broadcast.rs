//! Whole broadcasts: Chromium against the real server.

use std::process::Command;

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, find_program, tests};
use serde_json::json;

use super::chrome::{Chrome, Page};
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        vp8_plays_over_whep_and_over_copy_and_paste,
        vp9_plays_over_whep_and_over_copy_and_paste,
        h264_plays_over_whep_and_over_copy_and_paste,
        av1_plays_over_whep_and_over_copy_and_paste,
        viewers_continue_when_the_broadcaster_returns_with_another_codec,
        broadcast_by_copy_and_paste_occupies_the_stream,
        pages_reconnect_after_a_server_restart,
        viewer_can_join_before_the_broadcaster,
        front_page_lists_a_stream_until_its_tab_is_closed,
    ]
    .needs(&CHROMIUM)
}

async fn vp8_plays_over_whep_and_over_copy_and_paste() {
    everybody_sees_and_hears("VP8").await;
}

async fn vp9_plays_over_whep_and_over_copy_and_paste() {
    everybody_sees_and_hears("VP9").await;
}

async fn h264_plays_over_whep_and_over_copy_and_paste() {
    everybody_sees_and_hears("H264").await;
}

async fn av1_plays_over_whep_and_over_copy_and_paste() {
    everybody_sees_and_hears("AV1").await;
}

async fn viewers_continue_when_the_broadcaster_returns_with_another_codec() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let broadcaster = broadcast(&chrome, &server, "VP8").await;
    let by_whep = watch(&chrome, &server).await;
    let by_paste = watch_by_paste(&chrome, &server).await;
    for viewer in [&by_whep, &by_paste] {
        assert_sees_and_hears(viewer, "VP8").await;
        viewer.run("window.notReloaded = true;", vec![]).await;
    }

    broadcaster.click("#stop").await;
    broadcaster.wait_for_state("idle").await;
    for viewer in [&by_whep, &by_paste] {
        viewer.wait_for_state("left").await;
        viewer.wait_for_words("The broadcaster left").await;
    }

    broadcaster.select("#codec", "H264").await;
    broadcaster.click("#go").await;
    broadcaster.wait_for_state("live").await;
    for viewer in [&by_whep, &by_paste] {
        viewer.wait_for_state("watching").await;
        assert_sees_and_hears(viewer, "H264").await;
        assert_eq!(viewer.value("window.notReloaded").await, json!(true));
    }
    close([broadcaster, by_whep, by_paste]).await;
}

async fn broadcast_by_copy_and_paste_occupies_the_stream() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let first = chrome.open(&server.url(BROADCAST)).await;
    carry_by_hand(&first, &server).await;
    first.wait_for_state("live").await;

    let second = chrome.open(&server.url(BROADCAST)).await;
    second.click("#go").await;
    second.wait_for_state("error").await;
    second.wait_for_words("The stream has a broadcaster").await;

    let viewer = watch(&chrome, &server).await;
    assert_sees_and_hears(&viewer, "VP8").await;
    close([first, second, viewer]).await;
}

async fn pages_reconnect_after_a_server_restart() {
    let chrome = Chrome::launch().await;
    let mut server = Server::start().await;
    let broadcaster = broadcast(&chrome, &server, "VP8").await;
    let viewer = watch(&chrome, &server).await;
    viewer.wait_for_state("watching").await;

    server.stop().await;
    for page in [&broadcaster, &viewer] {
        page.wait_for_state("lost").await;
        page.wait_for_words("The server does not answer").await;
        page.wait_for_words("Trying again").await;
    }

    server.start_again().await;
    broadcaster.wait_for_state("live").await;
    viewer.wait_for_state("watching").await;
    assert_sees_and_hears(&viewer, "VP8").await;
    close([broadcaster, viewer]).await;
}

async fn viewer_can_join_before_the_broadcaster() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let viewer = chrome.open(&server.url("/viewer.html?stream=live&autoplay=1")).await;
    viewer.wait_for_state("waiting").await;
    viewer.wait_for_words("Waiting for the broadcaster").await;
    let broadcaster = broadcast(&chrome, &server, "VP8").await;
    viewer.wait_for_state("watching").await;
    assert_sees_and_hears(&viewer, "VP8").await;
    close([broadcaster, viewer]).await;
}

async fn front_page_lists_a_stream_until_its_tab_is_closed() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let front = chrome.open(&server.url("/")).await;
    front.wait_for_state("empty").await;
    front.wait_for_words("No stream is live.").await;
    let broadcaster = broadcast(&chrome, &server, "VP8").await;
    front.wait_for_state("live").await;
    front
        .wait_until("document.querySelector('[data-stream=live]').innerText.includes('VP8')")
        .await;
    broadcaster.close().await;
    front.wait_for_state("empty").await;
    front.close().await;
}

async fn everybody_sees_and_hears(codec: &str) {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let broadcaster = broadcast(&chrome, &server, codec).await;
    let by_whep = watch(&chrome, &server).await;
    let by_paste = watch_by_paste(&chrome, &server).await;
    assert_sees_and_hears(&by_whep, codec).await;
    assert_sees_and_hears(&by_paste, codec).await;
    broadcaster.wait_for_words(&format!("{codec}, Opus")).await;
    assert_sealed_with_gcm(&broadcaster).await;
    close([broadcaster, by_whep, by_paste]).await;
}

/// Goes live through the page with the test picture and tone.
async fn broadcast(chrome: &Chrome, server: &Server, codec: &str) -> Page {
    let page = chrome.open(&server.url(BROADCAST)).await;
    page.select("#codec", codec).await;
    page.click("#go").await;
    page.wait_for_state("live").await;
    page
}

async fn watch(chrome: &Chrome, server: &Server) -> Page {
    let page = chrome.open(&server.url(WATCH)).await;
    page.click("#watch").await;
    page.wait_for_state("watching").await;
    page
}

async fn watch_by_paste(chrome: &Chrome, server: &Server) -> Page {
    let page = chrome.open(&server.url(WATCH)).await;
    carry_by_hand(&page, server).await;
    page.wait_for_state("watching").await;
    page
}

/// Does what a user does with the two text boxes and curl.
pub(crate) async fn carry_by_hand(page: &Page, server: &Server) {
    page.click("#paste-make").await;
    page.wait_for_state("offered").await;
    let answer = if find_program("curl").is_some() {
        in_a_shell(&page.field("#paste-command").await)
    } else {
        hand_in(&page.field("#paste-offer").await, server).await
    };
    page.paste("#paste-answer", &answer).await;
    page.click("#paste-start").await;
}

/// Runs the command that the page shows, unchanged.
fn in_a_shell(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn hand_in(offer: &str, server: &Server) -> String {
    let request = reqwest::Client::new().post(server.url("/sdp/live"));
    let response = request.body(offer.to_owned()).send().await.unwrap();
    let status = response.status();
    let answer = response.text().await.unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Checks that video is decoded and shown, that the beep is heard, and that the server chose AES-GCM.
pub(crate) async fn assert_sees_and_hears(page: &Page, codec: &str) {
    // Browsers do not decode muted audio.
    if page.value("document.querySelector('#video').muted").await == json!(true) {
        page.click("#unmute").await;
    }
    let before = page.awaited(RECEIVED).await;
    let more = format!(
        "{RECEIVED}.then((now) => now.frames > {} + 15 && now.shownMs > {} && \
         now.audioPackets > {} + 15 && now.audioEnergy > {})",
        before["frames"], before["shownMs"], before["audioPackets"], before["audioEnergy"],
    );
    page.wait_until(&more).await;
    let now = page.awaited(RECEIVED).await;
    assert_eq!(now["codec"], json!(format!("video/{codec}")));
    assert!(now["width"].as_u64() > Some(0), "{now}");
    assert_sealed_with_gcm(page).await;
}

async fn assert_sealed_with_gcm(page: &Page) {
    let cipher = page.awaited(CIPHER).await;
    // Some versions prefix the registered name with SRTP_.
    let name = cipher.as_str().unwrap_or_default().trim_start_matches("SRTP_");
    assert_eq!(name, "AEAD_AES_128_GCM");
}

async fn close<const N: usize>(pages: [Page; N]) {
    for page in pages {
        page.close().await;
    }
}

const BROADCAST: &str = "/broadcast.html?stream=live&source=canvas&quality=360";
const WATCH: &str = "/viewer.html?stream=live";

/// What a viewer has received: from the browser's statistics and the video element.
const RECEIVED: &str = "onecast.pc.getStats().then((report) => { \
    const all = [...report.values()]; \
    const inbound = (kind) => all.find((one) => one.type === 'inbound-rtp' && one.kind === kind) ?? {}; \
    const video = document.querySelector('#video'); \
    return { \
        frames: inbound('video').framesDecoded ?? 0, \
        codec: report.get(inbound('video').codecId)?.mimeType ?? null, \
        audioPackets: inbound('audio').packetsReceived ?? 0, \
        audioEnergy: inbound('audio').totalAudioEnergy ?? 0, \
        shownMs: Math.round(video.currentTime * 1000), \
        width: video.videoWidth, \
    }; })";

const CIPHER: &str = "onecast.pc.getStats().then((report) => \
    [...report.values()].find((one) => one.type === 'transport').srtpCipher)";

//! Broadcasts in several sizes: Chromium publishes, the server finds the layers, Chromium watches.

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::{Value, json};

use super::broadcast::carry_by_hand;
use super::chrome::{Chrome, Page};
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        the_page_sends_vp8_in_three_sizes,
        the_page_sends_h264_in_three_sizes,
        the_page_sends_vp9_in_three_sizes,
        the_page_sends_av1_in_three_sizes,
        vp9_with_spatial_layers_plays,
        av1_with_spatial_layers_plays,
        a_server_without_layers_gets_the_full_picture,
        the_page_sends_one_size_on_request,
        the_page_sends_three_sizes_by_copy_and_paste,
        the_page_sends_one_size_where_the_browser_refuses_more,
        the_sizes_follow_the_quality_while_live,
        the_page_says_which_size_is_too_small,
    ]
    .needs(&CHROMIUM)
    .alone()
}

async fn the_page_sends_vp8_in_three_sizes() {
    three_sizes("VP8").await;
}

async fn the_page_sends_h264_in_three_sizes() {
    three_sizes("H264").await;
}

async fn the_page_sends_vp9_in_three_sizes() {
    three_sizes("VP9").await;
}

async fn the_page_sends_av1_in_three_sizes() {
    three_sizes("AV1").await;
}

async fn three_sizes(codec: &str) {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let broadcaster = broadcast(&chrome, &server, &format!("codec={codec}")).await;
    let viewer = chrome.open(&server.url("/viewer.html?stream=live&autoplay=1")).await;
    viewer.wait_for_state("watching").await;
    viewer.wait_until(&live_heights(&[720, 360, 180])).await;
    viewer
        .wait_until("document.querySelector('#video').videoHeight > 0")
        .await;
    // The page says what it sends of each.
    for row in ["Size 1\n1280 × 720", "Size 2\n640 × 360", "Size 3\n320 × 180"] {
        broadcaster.wait_for_words(row).await;
    }
    viewer.close().await;
    broadcaster.close().await;
}

async fn vp9_with_spatial_layers_plays() {
    spatial_layers_play("VP9", "L3T3_KEY").await;
}

async fn av1_with_spatial_layers_plays() {
    spatial_layers_play("AV1", "L2T3_KEY").await;
}

async fn spatial_layers_play(codec: &str, mode: &str) {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let publisher = chrome.open(&server.url("/broadcast.html?stream=other")).await;
    publisher.run(include_str!("layers.js"), vec![]).await;
    let publishes =
        format!("publish('/whip/live', '{codec}', [{{ scalabilityMode: '{mode}', maxBitrate: 1_200_000 }}])");
    publisher.run(&publishes, vec![]).await;
    let viewer = chrome.open(&server.url("/viewer.html?stream=live&autoplay=1")).await;
    viewer.wait_for_state("watching").await;
    let shown = "document.querySelector('#video').currentTime";
    viewer.wait_until(&format!("{shown} > 2")).await;
    // The page has negotiated dependency descriptors.
    let shows = |height: u32| format!("document.querySelector('#video').videoHeight === {height}");
    viewer.wait_until(&shows(360)).await;
    // Chromium makes no layer of 90 lines.
    viewer
        .wait_until(
            "[...document.querySelector('#quality').options].slice(1).map(({ text }) => text).join() === '360p,180p'",
        )
        .await;
    for (name, height) in [("S0", 180), ("S1", 360)] {
        viewer.select("#quality", name).await;
        viewer.wait_until(&shows(height)).await;
    }
    viewer.close().await;
    publisher.close().await;
}

async fn a_server_without_layers_gets_the_full_picture() {
    let chrome = Chrome::launch().await;
    let mut server = Server::start_with(&["--layers", "off"]).await;
    let broadcaster = broadcast(&chrome, &server, "codec=VP8").await;
    let viewer = chrome.open(&server.url("/viewer.html?stream=live&autoplay=1")).await;
    viewer.wait_for_state("watching").await;
    viewer.wait_until(RECEIVES_720_LINES).await;
    assert!(!broadcaster.words().await.contains("Size 1"));

    server.stop().await;
    for page in [&broadcaster, &viewer] {
        page.wait_for_state("lost").await;
    }
    server.start_again().await;
    broadcaster.wait_for_state("live").await;
    viewer.wait_for_state("watching").await;
    viewer.wait_until(RECEIVES_720_LINES).await;
    viewer.close().await;
    broadcaster.close().await;
}

async fn the_page_sends_one_size_on_request() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let broadcaster = broadcast(&chrome, &server, "codec=VP8&layers=1").await;
    let viewer = chrome.open(&server.url("/viewer.html?stream=live&autoplay=1")).await;
    viewer.wait_for_state("watching").await;
    viewer.wait_until(&live_heights(&[720])).await;
    assert!(!broadcaster.words().await.contains("Size 1"));
    viewer.close().await;
    broadcaster.close().await;
}

async fn the_page_sends_three_sizes_by_copy_and_paste() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let broadcaster = chrome
        .open(&server.url("/broadcast.html?stream=live&source=canvas&codec=VP8"))
        .await;
    carry_by_hand(&broadcaster, &server).await;
    broadcaster.wait_for_state("live").await;
    broadcaster.wait_until(&live_heights(&[720, 360, 180])).await;
    broadcaster.close().await;
}

async fn the_page_sends_one_size_where_the_browser_refuses_more() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let page = chrome
        .open(&server.url("/broadcast.html?stream=live&source=canvas&codec=VP8"))
        .await;
    page.run(
        "const add = RTCPeerConnection.prototype.addTransceiver; \
         RTCPeerConnection.prototype.addTransceiver = function (track, options) { \
             if (options.sendEncodings?.length > 1) throw new TypeError('one at most'); \
             return add.call(this, track, options); \
         };",
        vec![],
    )
    .await;
    page.click("#go").await;
    page.wait_for_state("live").await;
    page.wait_until(&live_heights(&[720])).await;
    page.close().await;
}

async fn the_sizes_follow_the_quality_while_live() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let broadcaster = broadcast(&chrome, &server, "codec=VP8").await;
    broadcaster.wait_until(&live_heights(&[720, 360, 180])).await;
    broadcaster.select("#quality", "360").await;
    broadcaster.wait_until(&live_heights(&[360])).await;
    broadcaster
        .wait_for_words("Size 2\nnot sent, not useful for this source")
        .await;
    broadcaster.select("#quality", "720").await;
    broadcaster.wait_until(&live_heights(&[720, 360, 180])).await;
    let limits = "onecast.pc.getSenders()[0].getParameters().encodings.map(({ maxBitrate }) => maxBitrate)";
    assert_eq!(broadcaster.value(limits).await, json!([2_500_000, 625_000, 208_333]));
    broadcaster.close().await;
}

async fn the_page_says_which_size_is_too_small() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let broadcaster = broadcast(&chrome, &server, "codec=VP8&quality=360&layers=3").await;
    broadcaster.wait_until(&live_heights(&[360, 180])).await;
    broadcaster
        .wait_for_words("Size 3\nnot sent, the picture is too small")
        .await;
    broadcaster.close().await;
}

async fn broadcast(chrome: &Chrome, server: &Server, options: &str) -> Page {
    let path = format!("/broadcast.html?stream=live&source=canvas&{options}");
    let page = chrome.open(&server.url(&path)).await;
    page.wait_until("document.querySelector('#preview').srcObject !== null")
        .await;
    page.click("#go").await;
    page.wait_for_state("live").await;
    page
}

/// A condition: the layers that the server receives now have these heights, the highest first.
fn live_heights(heights: &[u32]) -> String {
    let heights: Value = json!(heights);
    format!(
        "fetch('/api/streams/live').then((answer) => answer.json()).then(({{ layers }}) => \
         JSON.stringify(layers.filter(({{ live }}) => live).map(({{ height }}) => height)) === '{heights}')"
    )
}

/// A condition: this is what the current connection of a viewer receives.
const RECEIVES_720_LINES: &str = "onecast.pc.getStats().then((report) => \
    [...report.values()].some(({ type, frameHeight }) => type === 'inbound-rtp' && frameHeight === 720))";

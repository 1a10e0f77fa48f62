//! Instant start: Chromium joins in the middle of a group of pictures.

use std::ffi::OsStr;

use onecast_clients::test_card::TestCard;
use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::{Value, json};

use super::chrome::Chrome;
use super::publisher::Publisher;
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![viewer_starts_in_mid_gop_and_catches_up,]
        .needs(&CHROMIUM)
        .alone()
}

async fn viewer_starts_in_mid_gop_and_catches_up() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("card.ivf");
    std::fs::write(&file, test_card(FRAMES, KEYFRAME_EVERY)).unwrap();
    // A file cannot answer keyframe requests.
    let _publisher = Publisher::with(&server, &[OsStr::new("--source"), file.as_os_str()]);

    let page = chrome.open(&server.url("/viewer.html?stream=live")).await;
    page.run(include_str!("start.js"), vec![]).await;
    page.wait_until(
        "fetch('/api/streams/live').then((answer) => answer.json()).then((stream) => stream.video !== null)",
    )
    .await;
    page.run("watch('live')", vec![]).await;
    page.wait_until("shown()[0].now > 0").await;

    // Three and six seconds after the first keyframe; the next one is at ten.
    for (viewer, number) in [(1, 90), (2, 180)] {
        page.wait_until(&format!("shown()[0].now % {FRAMES} >= {number}")).await;
        page.run("watch('live')", vec![]).await;
        page.wait_until(&format!("shown()[{viewer}].first !== null")).await;
        let first = page.value(&format!("shown()[{viewer}].first")).await;
        // It did not wait for the next keyframe: its first frame belongs to the group of pictures that it joined in.
        assert!(
            first.as_u64().is_some_and(|first| first < KEYFRAME_EVERY),
            "first {first}"
        );
        page.wait_until(&format!(
            "Math.abs(shown()[0].now - shown()[{viewer}].now) <= 2 && shown()[0].now < {KEYFRAME_EVERY}"
        ))
        .await;
    }
    // They stay level across the next keyframe, without a freeze.
    page.wait_until(&format!("shown().every(({{ now }}) => now > {KEYFRAME_EVERY} + 30)"))
        .await;
    page.wait_until(
        "(({ 0: a, 1: b, 2: c }) => Math.max(a.now, b.now, c.now) - Math.min(a.now, b.now, c.now) <= 2)(shown())",
    )
    .await;
    assert_eq!(page.awaited("freezes()").await, json!([0, 0, 0]));
    assert_eq!(stream(&page).await["keyframes"]["requested"], json!(0));
    page.close().await;
}

async fn stream(page: &super::chrome::Page) -> Value {
    page.awaited("fetch('/api/streams/live').then((answer) => answer.json())")
        .await
}

/// The test card as an IVF file of VP8, with a keyframe every `keyframe_every` frames.
fn test_card(frames: u64, keyframe_every: u64) -> Vec<u8> {
    let mut card = TestCard::new();
    let mut ivf = b"DKIF\0\0\x20\0VP80".to_vec();
    ivf.extend(TestCard::WIDTH.to_le_bytes());
    ivf.extend(TestCard::HEIGHT.to_le_bytes());
    for number in [TestCard::FRAME_RATE, 1, frames as u32, 0] {
        ivf.extend(number.to_le_bytes());
    }
    for number in 0..frames {
        let frame = card.next_frame(number % keyframe_every == 0);
        ivf.extend((frame.len() as u32).to_le_bytes());
        ivf.extend(number.to_le_bytes());
        ivf.extend(frame);
    }
    ivf
}

/// Ten seconds.
const KEYFRAME_EVERY: u64 = 300;
const FRAMES: u64 = 2 * KEYFRAME_EVERY;

//! How the pages look: nothing overflows, every control has a name, and screenshots to look at.

use std::path::PathBuf;

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::json;

use super::chrome::{Chrome, Look, Page};
use super::fake::Fake;

pub(crate) fn tests() -> Tests {
    tests![
        pages_fit_desktop_and_phone_in_light_and_dark,
        front_page_lists_streams_and_creates_new_ones,
    ]
    .needs(&CHROMIUM)
}

async fn pages_fit_desktop_and_phone_in_light_and_dark() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    for (name, look) in LOOKS {
        server.list(vec![]);
        let page = chrome.open_as(&server.url("/"), look).await;
        page.wait_for_state("empty").await;
        keep(&page, &format!("index-empty-{name}")).await;
        server.list(streams());
        page.wait_for_state("live").await;
        keep(&page, &format!("index-{name}")).await;

        page.goto(&server.url("/broadcast.html")).await;
        keep(&page, &format!("broadcast-idle-{name}")).await;
        page.run(include_str!("double.js"), vec![]).await;
        page.click("input[value=canvas]").await;
        page.click("#go").await;
        page.wait_for_state("live").await;
        page.wait_for_words("VP8, Opus").await;
        keep(&page, &format!("broadcast-live-{name}")).await;

        page.goto(&server.url("/viewer.html")).await;
        keep(&page, &format!("viewer-idle-{name}")).await;
        page.run(include_str!("double.js"), vec![]).await;
        page.click("#watch").await;
        page.click("#show-stats").await;
        page.wait_for_state("watching").await;
        page.wait_for_words("640 × 360").await;
        page.run(SIZES, vec![]).await;
        page.wait_for_words("Quality\n360p, 180p").await;
        keep(&page, &format!("viewer-watching-{name}")).await;
        page.awaited("double.leave()").await;
        page.wait_for_state("left").await;
        keep(&page, &format!("viewer-left-{name}")).await;
        page.value("double.die()").await;
        page.wait_for_state("lost").await;
        keep(&page, &format!("viewer-lost-{name}")).await;
        page.click("#stop").await;
        page.click("#paste-make").await;
        page.wait_for_state("offered").await;
        page.run("document.querySelector('.paste').scrollIntoView();", vec![])
            .await;
        keep(&page, &format!("viewer-paste-{name}")).await;
        page.close().await;
    }
}

async fn front_page_lists_streams_and_creates_new_ones() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    server.list(streams());
    let page = chrome.open(&server.url("/")).await;
    page.wait_for_state("live").await;
    page.wait_for_words("VP8, Opus").await;
    page.wait_for_words("1 viewer").await;
    let watch = "document.querySelector('[data-stream=live] a').getAttribute('href')";
    assert_eq!(page.value(watch).await, json!("viewer.html?stream=live&autoplay=1"));
    let command = format!("curl -s --data-binary @offer.txt {}", server.url("/sdp/live"));
    page.wait_for_words(&command).await;
    page.run("document.querySelector('#name').value = 'garden-2';", vec![])
        .await;
    page.click("#new button[value=broadcast]").await;
    page.wait_until("location.pathname + location.search === '/broadcast.html?stream=garden-2'")
        .await;
    page.wait_for_words("garden-2").await;
    page.close().await;
}

/// Nothing may be wider than the window, and every control needs a name for screen readers.
pub(crate) async fn keep(page: &Page, name: &str) {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pages");
    std::fs::create_dir_all(&directory).unwrap();
    page.screenshot(&directory.join(format!("{name}.png"))).await;
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(page.value(overflow).await, json!(0), "{name} is wider than its window");
    let nameless = "[...document.querySelectorAll('button, a, input, select, textarea, video')] \
        .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length)) \
        .map((one) => one.outerHTML)";
    assert_eq!(page.value(nameless).await, json!([]), "{name}");
}

fn streams() -> Vec<serde_json::Value> {
    vec![
        json!({ "name": "live", "live": true, "since": "2026-01-01T00:00:00Z", "viewers": 132, "video": "VP8", "audio": "Opus" }),
        json!({ "name": "garden-camera", "live": true, "since": null, "viewers": 1, "video": "H264", "audio": null }),
        json!({ "name": "town-hall", "live": false, "since": null, "viewers": 4, "video": null, "audio": null }),
    ]
}

const LOOKS: [(&str, Look); 3] = [
    (
        "desktop",
        Look {
            size: (1280, 900),
            dark: false,
        },
    ),
    (
        "dark",
        Look {
            size: (1280, 900),
            dark: true,
        },
    ),
    (
        "phone",
        Look {
            size: (390, 844),
            dark: false,
        },
    ),
];

/// Two sizes of the broadcast, for the quality menu.
const SIZES: &str =
    "menu.update([{ rid: 'f', height: 360, bitrate: 800_000 }, { rid: 'h', height: 180, bitrate: 200_000 }]);";

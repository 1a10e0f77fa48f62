//! ICE restarts during playback, with the PATCH that the pages send.

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, note, tests};
use serde_json::json;

use super::chrome::{Chrome, Page};
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        ice_restarts_do_not_interrupt_the_picture,
        rejected_ice_restart_leaves_the_picture_alone,
        silence_and_network_changes_restart_ice,
    ]
    .needs(&CHROMIUM)
}

async fn ice_restarts_do_not_interrupt_the_picture() {
    let chrome = Chrome::launch().await;
    let server = Server::start_with(&["--shards", "2"]).await;
    let broadcaster = chrome
        .open(&server.url("/broadcast.html?stream=live&source=canvas&quality=360"))
        .await;
    broadcaster.click("#go").await;
    broadcaster.wait_for_state("live").await;
    let viewer = chrome.open(&server.url("/viewer.html?stream=live")).await;
    viewer.click("#watch").await;
    viewer.wait_for_state("watching").await;
    viewer.run(WATCH_GAPS, vec![]).await;

    for (page, who, done) in [(&viewer, "viewer", 1), (&broadcaster, "broadcaster", 2)] {
        page.run(RECORD, vec![]).await;
        let before = page.awaited(USER_NAME).await;
        viewer.run("window.gaps.longest = 0;", vec![]).await;
        let frames = viewer.value("gaps.frames").await;

        assert_eq!(page.awaited("onecast.restart()").await, json!(null), "{who}");
        page.wait_until(&format!("{USER_NAME}.then((now) => now !== {before})"))
            .await;
        viewer.wait_until(&format!("gaps.frames > {frames} + 60")).await;
        let stall = viewer.value("Math.round(gaps.longest)").await;
        note(format_args!("{who}: longest time between two frames: {stall} ms"));

        // The same session with another ETag; no other session was created.
        let exchanges = page.value("exchanges").await;
        assert_eq!(exchanges.as_array().unwrap().len(), 1, "{who}: {exchanges}");
        assert_eq!(
            (&exchanges[0]["method"], &exchanges[0]["status"]),
            (&json!("PATCH"), &json!(200))
        );
        assert!(exchanges[0]["etag"].as_str().unwrap().starts_with('"'), "{exchanges}");
        assert_eq!(restarts(page).await, done, "{who} has gone over");
        assert_eq!(page.value("onecast.pc.connectionState").await, json!("connected"));
    }
    assert_eq!(
        viewer.value("document.documentElement.dataset.state").await,
        json!("watching")
    );
    assert_eq!(
        broadcaster.value("document.documentElement.dataset.state").await,
        json!("live")
    );
    viewer.close().await;
    broadcaster.close().await;
}

async fn rejected_ice_restart_leaves_the_picture_alone() {
    let chrome = Chrome::launch().await;
    let server = Server::start_with(&["--demo"]).await;
    let viewer = chrome.open(&server.url("/viewer.html?stream=demo")).await;
    viewer.click("#watch").await;
    viewer.wait_for_state("watching").await;
    viewer.run(WATCH_GAPS, vec![]).await;
    viewer.run(RECORD, vec![]).await;
    viewer
        .run(
            "window.patchInstead = '/whep/demo/00000000000000000000000000000000';",
            vec![],
        )
        .await;

    let before = viewer.awaited(USER_NAME).await;
    let status = viewer
        .awaited("onecast.restart().then((problem) => problem.status)")
        .await;
    assert_eq!(status, json!(404));
    assert_eq!(viewer.value("onecast.pc.signalingState").await, json!("stable"));
    let frames = viewer.value("gaps.frames").await;
    viewer.wait_until(&format!("gaps.frames > {frames} + 30")).await;
    assert_eq!(viewer.awaited(USER_NAME).await, before);
    assert_eq!(restarts(&viewer).await, 0);

    viewer.close().await;
}

async fn silence_and_network_changes_restart_ice() {
    let chrome = Chrome::launch().await;
    let server = Server::start_with(&["--demo"]).await;
    let viewer = chrome.open(&server.url("/viewer.html?stream=demo")).await;
    viewer.click("#watch").await;
    viewer.wait_for_state("watching").await;
    viewer.run(WATCH_GAPS, vec![]).await;
    viewer.run(RECORD, vec![]).await;

    let before = viewer.awaited(USER_NAME).await;
    viewer.run(FALL_SILENT, vec![]).await;
    viewer
        .wait_until(&format!("{USER_NAME}.then((now) => now !== {before})"))
        .await;
    viewer.run(COME_BACK, vec![]).await;
    viewer.wait_for_state("watching").await;
    // The browser uses a new path a moment before it nominates it.
    viewer
        .wait_until(&format!("{RESTARTS}.then((count) => count >= 1)"))
        .await;

    let before = viewer.awaited(USER_NAME).await;
    // A second restart within three seconds does nothing.
    let online = "dispatchEvent(new Event('online')) && ";
    viewer
        .wait_until(&format!("{online}{USER_NAME}.then((now) => now !== {before})"))
        .await;
    let frames = viewer.value("gaps.frames").await;
    viewer.wait_until(&format!("gaps.frames > {frames} + 30")).await;
    let exchanges = viewer.value("exchanges").await;
    let all_restarts = exchanges
        .as_array()
        .unwrap()
        .iter()
        .all(|one| one["method"] == "PATCH" && one["status"] == 200);
    assert!(all_restarts, "the session is still the first: {exchanges}");
    viewer.close().await;
}

/// Makes the connection report that nothing arrives, and then that it does again.
const FALL_SILENT: &str = "Object.defineProperty(onecast.pc, 'connectionState', { get: () => 'disconnected', configurable: true }); \
    onecast.pc.onconnectionstatechange();";
const COME_BACK: &str = "delete onecast.pc.connectionState; onecast.pc.onconnectionstatechange();";

/// Number of ICE restarts that the server has completed.
async fn restarts(page: &Page) -> u64 {
    page.awaited(RESTARTS).await.as_u64().unwrap()
}

/// Number of ICE restarts that the server has completed.
const RESTARTS: &str = "fetch('/api/shards').then((answer) => answer.json())\
    .then(({ shards }) => shards.reduce((sum, shard) => sum + shard.ice_restarts, 0))";

/// ICE user name of the client in the selected candidate pair.
const USER_NAME: &str = "onecast.pc.getStats().then((report) => { \
    const transport = [...report.values()].find((one) => one.type === 'transport'); \
    const pair = report.get(transport.selectedCandidatePairId); \
    return report.get(pair.localCandidateId).usernameFragment; })";

/// Records the page's WHIP and WHEP requests for sessions. A PATCH goes to `patchInstead`, if that is set.
const RECORD: &str = "window.exchanges = []; const real = window.fetch; \
    window.fetch = async (url, options) => { \
        const method = options?.method ?? 'GET'; \
        const response = await real(method === 'PATCH' ? (window.patchInstead ?? url) : url, options); \
        const { status, headers } = response; \
        if (method !== 'GET') window.exchanges.push({ method, status, etag: headers.get('ETag') }); \
        return response; \
    };";

/// Counts frames and measures the longest time between two.
const WATCH_GAPS: &str = "window.gaps = { frames: 0, longest: 0, last: performance.now() }; \
    const video = document.querySelector('#video'); \
    const note = (now) => { \
        window.gaps.frames += 1; \
        window.gaps.longest = Math.max(window.gaps.longest, now - window.gaps.last); \
        window.gaps.last = now; \
        video.requestVideoFrameCallback(note); \
    }; \
    video.requestVideoFrameCallback(note);";

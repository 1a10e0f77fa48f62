//! Messages and reactions of the pages to scripted answers: the pages' own logic.

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::json;

use super::chrome::{Chrome, Page};
use super::fake::Fake;

pub(crate) fn tests() -> Tests {
    tests![
        occupied_stream_shows_the_servers_message,
        refused_codec_is_explained_without_a_message_of_the_server,
        full_server_is_asked_again_after_its_retry_after,
        unreachable_server_is_shown_and_tried_again,
        missing_or_refused_camera_is_explained,
        insecure_page_says_what_to_do,
        pasted_text_that_is_no_answer_is_diagnosed,
        viewer_shows_that_the_broadcaster_left_and_resumes,
        viewer_shows_how_long_it_waits_for_a_keyframe,
        silent_broadcaster_is_not_shown_as_live,
        viewer_keeps_the_last_picture_while_reconnecting,
        broadcaster_goes_live_changes_the_source_and_stops,
    ]
    .needs(&CHROMIUM)
}

async fn occupied_stream_shows_the_servers_message() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    server.refuse(
        409,
        vec![],
        json!({
            "title": "The stream has a broadcaster",
            "detail": "another broadcaster is live on this stream, since 2026-01-01T00:00:00Z",
            "hint": "Publish under another name.",
        }),
    );
    let page = chrome.open(&server.url("/broadcast.html?source=canvas")).await;
    page.click("#go").await;
    page.wait_for_state("error").await;
    page.wait_for_words("The stream has a broadcaster").await;
    page.wait_for_words("Another broadcaster is live on this stream, since 2026-01-01T00:00:00Z.")
        .await;
    page.wait_for_words("Publish under another name.").await;
    assert_eq!(server.offers(), 1, "what does not pass by itself is not tried again");
    page.close().await;
}

async fn refused_codec_is_explained_without_a_message_of_the_server() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    server.refuse(422, vec![], json!({}));
    let page = chrome.open(&server.url("/broadcast.html?source=canvas")).await;
    page.click("#go").await;
    page.wait_for_state("error").await;
    page.wait_for_words("The server does not support this format").await;
    page.close().await;
}

async fn full_server_is_asked_again_after_its_retry_after() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let problem = json!({ "title": "The server is busy", "detail": "the limit of 5 viewers is reached" });
    server.refuse(503, vec![("retry-after", "2")], problem);
    let page = chrome.open(&server.url("/viewer.html")).await;
    page.click("#watch").await;
    page.wait_for_state("lost").await;
    page.wait_for_words("The server is busy").await;
    page.wait_for_words("Trying again in 2 s.").await;
    page.wait_for_words("Trying again in 1 s.").await;
    assert_eq!(server.offers(), 1);
    let deadline = tokio::time::sleep(std::time::Duration::from_secs(10));
    tokio::pin!(deadline);
    while server.offers() < 2 {
        tokio::select! {
            () = &mut deadline => panic!("the viewer never asked again"),
            () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
        }
    }
    page.click("#stop").await;
    page.wait_for_state("idle").await;
    page.close().await;
}

async fn unreachable_server_is_shown_and_tried_again() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = chrome.open(&server.url("/broadcast.html?source=canvas")).await;
    page.run(
        "window.fetch = () => Promise.reject(new TypeError('Failed to fetch'));",
        vec![],
    )
    .await;
    page.click("#go").await;
    page.wait_for_state("lost").await;
    page.wait_for_words("The server does not answer").await;
    page.wait_for_words("Trying again").await;
    page.close().await;
}

async fn missing_or_refused_camera_is_explained() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let cases = [
        ("NotFoundError", "No camera was found"),
        ("NotAllowedError", "The browser is not allowed to use the camera"),
        ("NotReadableError", "The camera cannot be opened"),
    ];
    let page = chrome.open(&server.url("/broadcast.html")).await;
    for (error, words) in cases {
        let refuse = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', arguments[0]));";
        page.run(refuse, vec![error.into()]).await;
        page.click("input[value=camera]").await;
        page.wait_for_words(words).await;
        page.wait_for_state("idle").await;
    }
    page.click("#go").await;
    page.wait_for_words("The camera cannot be opened").await;
    page.close().await;
}

async fn insecure_page_says_what_to_do() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = chrome.open(&server.url("/broadcast.html")).await;
    page.run(
        "Object.defineProperty(navigator, 'mediaDevices', { value: undefined });",
        vec![],
    )
    .await;
    page.click("input[value=camera]").await;
    page.wait_for_words("This page may not use cameras or screens").await;
    page.wait_for_words("localhost").await;
    page.click("input[value=canvas]").await;
    page.wait_until("document.querySelector('#preview').videoWidth > 0")
        .await;
    page.close().await;
}

async fn pasted_text_that_is_no_answer_is_diagnosed() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = chrome.open(&server.url("/viewer.html")).await;
    page.click("#paste-make").await;
    page.wait_for_state("offered").await;
    let offer = page.field("#paste-offer").await;
    let stereo = "onecast.pc.localDescription.sdp.includes(';stereo=1')";
    assert_eq!(page.value(stereo).await, json!(true), "two channels are asked for");
    let command = page.field("#paste-command").await;
    assert!(offer.lines().all(|line| line.len() <= 76), "a terminal must take it");
    assert_eq!(
        command,
        format!(
            "echo '{offer}' | curl -sS --data-binary @- '{}'",
            server.url("/sdp/live")
        )
    );
    let cases = [
        ("", "The answer is empty"),
        ("curl: command not found", "The text is not base64."),
        ("aGVsbG8=", "Part of it may be missing"),
        (offer.as_str(), "This is the offer, not the answer"),
        (
            "The stream has a broadcaster (409): another broadcaster is live.\nPublish under another name.\n",
            "The stream has a broadcaster",
        ),
    ];
    for (text, words) in cases {
        page.paste("#paste-answer", text).await;
        page.click("#paste-start").await;
        page.wait_for_words(words).await;
    }
    page.wait_for_state("offered").await;
    page.close().await;
}

async fn viewer_shows_that_the_broadcaster_left_and_resumes() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = chrome.open(&server.url("/viewer.html")).await;
    with_double(&page).await;
    page.awaited("double.leave()").await;
    page.click("#watch").await;
    page.wait_for_state("waiting").await;
    page.wait_for_words("Waiting for the broadcaster").await;
    page.awaited("double.back()").await;
    page.wait_for_state("watching").await;
    page.awaited("double.leave()").await;
    page.wait_for_state("left").await;
    page.wait_for_words("The broadcaster left").await;
    page.wait_for_words("The video resumes automatically.").await;
    page.awaited("double.back()").await;
    page.wait_for_state("watching").await;
    page.close().await;
}

async fn viewer_shows_how_long_it_waits_for_a_keyframe() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = chrome.open(&server.url("/viewer.html")).await;
    with_double(&page).await;
    page.awaited("double.leave()").await;
    let waits = "double.live = true, double.facts = { start_cache: { ready: false }, \
                 keyframes: { interval_ms: 10000, ignored: true } }";
    page.value(waits).await;
    // No media arrives although a broadcaster is live.
    page.run("double.silent = true;", vec![]).await;
    page.click("#watch").await;
    page.wait_for_state("waiting").await;
    page.wait_for_words("Waiting for a keyframe").await;
    page.wait_for_words("The encoder sends one every 10 s.").await;
    page.value("double.facts.keyframes.interval_ms = null").await;
    page.wait_for_words("The broadcaster ignores keyframe requests.").await;
    page.value("double.facts.keyframes.ignored = false").await;
    page.wait_for_words("The server has requested one.").await;
    page.awaited("double.back()").await;
    page.wait_for_state("watching").await;
    page.close().await;
}

async fn silent_broadcaster_is_not_shown_as_live() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let silent = "double.facts = { live: false, state: 'connected', silent_s: 42 }, double.silent = true";
    let page = chrome.open(&server.url("/viewer.html")).await;
    with_double(&page).await;
    page.value(silent).await;
    page.click("#watch").await;
    page.wait_for_state("waiting").await;
    page.wait_for_words("The broadcaster is connected but sends nothing")
        .await;
    page.value("double.facts = { live: true, state: 'live' }").await;
    page.awaited("double.back()").await;
    page.wait_for_state("watching").await;
    page.close().await;

    let page = chrome.open(&server.url("/broadcast.html?source=canvas")).await;
    with_double(&page).await;
    page.value(silent).await;
    page.click("#go").await;
    page.wait_for_words("Connected, but not sending").await;
    page.wait_for_words("The server has received no media for 42 s.").await;
    page.wait_until("document.querySelector('#badge').textContent === 'Connected'")
        .await;
    page.value("double.facts = { state: 'live' }").await;
    page.wait_until("document.querySelector('#badge').textContent.startsWith('Live')")
        .await;
    page.close().await;

    let page = chrome.open(&server.url("/")).await;
    with_double(&page).await;
    page.value(silent).await;
    page.wait_for_words("Connected").await;
    page.wait_for_words("silent for 0:42").await;
    page.close().await;
}

async fn viewer_keeps_the_last_picture_while_reconnecting() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = chrome.open(&server.url("/viewer.html?autoplay=0")).await;
    with_double(&page).await;
    page.click("#watch").await;
    page.wait_for_state("watching").await;
    page.click("#unmute").await;
    page.wait_until("!document.querySelector('#video').muted").await;
    page.value("double.die()").await;
    page.wait_for_state("lost").await;
    page.wait_for_words("The server does not answer").await;
    // The test picture has bright bars at the bottom, so a black frame would show.
    let bright = "(() => { const still = document.querySelector('#still'); if (still.hidden) return false; \
                  const { width, height } = still; \
                  const [red, green] = still.getContext('2d').getImageData(width / 20, height * 0.85, 1, 1).data; \
                  return red + green > 200; })()";
    page.wait_until(bright).await;
    page.value("double.revive()").await;
    page.wait_for_state("watching").await;
    page.wait_until("document.querySelector('#still').hidden").await;
    page.click("#stop").await;
    page.wait_for_state("idle").await;
    assert_eq!(
        page.value("double.peers.size").await,
        json!(0),
        "the page ends its session"
    );
    page.close().await;
}

async fn broadcaster_goes_live_changes_the_source_and_stops() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = chrome.open(&server.url("/broadcast.html?quality=360&codec=vp9")).await;
    with_double(&page).await;
    page.click("input[value=camera]").await;
    page.wait_until("document.querySelector('#preview').videoWidth > 0")
        .await;
    page.click("#go").await;
    page.wait_for_state("live").await;
    page.wait_for_words("VP9, Opus").await;
    page.wait_for_words("3").await;
    page.click("input[value=canvas]").await;
    page.wait_for_words("640 × 360").await;
    page.value("double.die()").await;
    page.wait_for_state("lost").await;
    page.value("double.revive()").await;
    page.wait_for_state("live").await;
    page.click("#stop").await;
    page.wait_for_state("idle").await;
    assert_eq!(
        page.value("double.peers.size").await,
        json!(0),
        "the page ends its session"
    );
    page.close().await;
}

/// Puts a scripted server with real media inside the page.
async fn with_double(page: &Page) {
    page.run(include_str!("double.js"), vec![]).await;
}

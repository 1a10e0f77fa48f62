//! The conference page in a scripted room: tiles, messages, crossing offers and broken connections.

use std::path::PathBuf;

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::json;

use super::chrome::{Chrome, Look, Page};
use super::fake::Fake;

pub(crate) fn tests() -> Tests {
    tests![
        tiles_follow_joins_and_leaves_when_m_lines_are_reused,
        crossing_offer_is_rolled_back_and_made_again,
        broken_socket_is_replaced_while_media_continues,
        page_rejoins_with_the_same_camera_and_says_so,
        refusals_are_explained,
        tiles_mark_speakers_muted_members_and_missing_sound,
        microphone_is_replaced_without_an_offer,
        screen_is_shared_beside_the_camera_until_the_browser_ends_it,
        one_button_starts_sound_while_video_plays_already,
        watching_needs_no_permission_and_offers_receive_only,
        conference_fits_desktop_and_phone,
        sixteen_tiles_fit_without_scrolling,
        tiles_are_as_large_as_their_box_allows,
        negotiation_takes_turns_by_one_rule,
    ]
    .needs(&CHROMIUM)
}

async fn tiles_follow_joins_and_leaves_when_m_lines_are_reused() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = joined(&chrome, &server, "canvas").await;
    page.wait_for_state("alone").await;
    page.wait_for_words("You are alone in the room.").await;
    page.wait_for_words("/conference.html?room=main").await;
    page.awaited("double.add(20, 'Anna', '#5a0000')").await;
    page.awaited("double.add(21, 'Ben', '#005a00')").await;
    page.wait_for_state("together").await;
    sees(&page, &["Anna 100", "Ben 010"]).await;
    page.wait_until("goesOn()").await;
    let lines = page.value("mLines()").await;

    // A newcomer reuses the m-lines of a member who left: the same track objects show another member.
    page.awaited("double.remove(20)").await;
    sees(&page, &["Ben 010"]).await;
    page.awaited("double.add(22, 'Cleo', '#00005a')").await;
    sees(&page, &["Ben 010", "Cleo 001"]).await;
    page.wait_until("goesOn()").await;
    assert_eq!(page.value("mLines()").await, lines);

    page.awaited("double.add(21, 'Ben', '#5a005a', 'screen')").await;
    sees(&page, &["Ben 010", "Ben screen 101", "Cleo 001"]).await;
    page.awaited("double.remove(21, 'screen')").await;
    sees(&page, &["Ben 010", "Cleo 001"]).await;
    page.awaited("double.remove(21)").await;
    page.awaited("double.remove(22)").await;
    page.wait_for_state("alone").await;
    page.wait_until("document.querySelector('#news').textContent === 'Cleo left'")
        .await;
    assert_eq!(page.value("double.joins").await, json!(1));
    page.close().await;
}

async fn crossing_offer_is_rolled_back_and_made_again() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = joined(&chrome, &server, "canvas").await;
    page.wait_for_state("alone").await;
    assert_eq!(page.value("double.received()").await, json!(2));
    // The room's offer is on its way while the page makes its own: to switch the camera off, to add an m-line, and to switch it on.
    for (round, (button, received)) in [("#camera-toggle", 1), ("#share", 3), ("#camera-toggle", 4)]
        .iter()
        .enumerate()
    {
        let add = format!("double.add({}, 'Nr {round}', '#5a0000')", 30 + round);
        page.awaited(&format!(
            "(double.delayMs = 800, {add}.then(() => document.querySelector('{button}').click()))"
        ))
        .await;
        page.wait_until(&format!("double.refused === {}", round + 1)).await;
        page.value("double.delayMs = 0").await;
        page.wait_until(&format!("double.received() === {received}")).await;
        page.wait_until("double.pc.signalingState === 'stable' && onecast.pc.signalingState === 'stable'")
            .await;
    }
    sees(&page, &["Nr 0 100", "Nr 1 100", "Nr 2 100"]).await;
    page.wait_until("goesOn()").await;
    assert_eq!(page.value("double.joins").await, json!(1));
    page.close().await;
}

async fn broken_socket_is_replaced_while_media_continues() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = joined(&chrome, &server, "canvas").await;
    page.awaited("double.add(20, 'Anna', '#5a0000')").await;
    sees(&page, &["Anna 100"]).await;
    page.run("window.before = onecast.pc; double.up = false; double.cut();", vec![])
        .await;
    page.wait_for_state("unsteady").await;
    page.wait_for_words("The connection is unstable").await;
    // Changes and offers made meanwhile are applied afterwards.
    page.click("#mute").await;
    page.click("#camera-toggle").await;
    page.awaited("double.add(21, 'Ben', '#005a00')").await;
    page.value("double.up = true").await;
    page.wait_for_state("together").await;
    sees(&page, &["Anna 100", "Ben 010"]).await;
    page.wait_until("double.received() === 1").await;
    page.wait_until("double.sent.at(-1).type !== 'resume' && double.sent.some(({ audio_muted }) => audio_muted)")
        .await;
    assert_eq!(page.value("[double.joins, double.resumes]").await, json!([1, 1]));
    assert_eq!(page.value("onecast.pc === before").await, json!(true));
    page.close().await;
}

async fn page_rejoins_with_the_same_camera_and_says_so() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = joined(&chrome, &server, "camera").await;
    page.awaited("double.add(20, 'Anna', '#5a0000')").await;
    sees(&page, &["Anna 100"]).await;
    page.run("window.track = onecast.local.tracks.camera;", vec![]).await;
    for (joins, breaks) in [(2, "double.forget()"), (3, "double.silence()")] {
        page.value(breaks).await;
        page.wait_until(&format!("double.joins === {joins}")).await;
        page.wait_for_state("together").await;
        page.wait_for_words("You are back in the room").await;
        sees(&page, &["Anna 100"]).await;
        page.wait_until("double.received() === 2").await;
    }
    assert_eq!(
        page.value("onecast.local.tracks.camera === track && track.readyState")
            .await,
        json!("live")
    );
    assert_eq!(page.value("double.name").await, json!("Olga"));
    page.close().await;
}

async fn refusals_are_explained() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = with_room(&chrome, &server, "canvas").await;
    page.run(
        "double.refuse = { status: 503, problem: 'room-full', detail: 'there are 100 in it' };",
        vec![],
    )
    .await;
    page.click("#join").await;
    page.wait_for_state("lost").await;
    for words in ["The room is full", "There are 100 in it.", "Trying again in"] {
        page.wait_for_words(words).await;
    }
    page.value("double.refuse = null").await;
    page.wait_for_state("alone").await;
    page.value("double.tell({ type: 'closed', problem: 'ended-by-operator', detail: 'be quiet' })")
        .await;
    page.wait_for_state("error").await;
    page.wait_for_words("The operator removed you from the conference")
        .await;
    page.wait_for_words("Be quiet.").await;
    page.run(
        "double.refuse = { status: 403, problem: 'may-not-publish', title: 'This token is for watching' };",
        vec![],
    )
    .await;
    page.click("#join").await;
    page.wait_for_words("This token is for watching").await;
    page.wait_for_words("Or choose “Nothing, just watch”.").await;
    page.run("double.refuse = { status: 401, problem: 'token-needed' };", vec![])
        .await;
    page.click("#join").await;
    page.wait_for_words("A token is required").await;
    page.run("double.refuse = null;", vec![]).await;
    page.paste("#token", "https://onecast.test/conference.html#token=secret")
        .await;
    page.click("#token-form button").await;
    page.wait_for_state("alone").await;
    assert_eq!(
        page.value("double.sent.filter(({ token }) => token).at(-1).token")
            .await,
        json!("secret")
    );

    // A refusal in the room reverts only what was refused.
    page.run("double.refuse = { status: 422, title: 'Too many streams' };", vec![])
        .await;
    page.click("#share").await;
    page.wait_for_words("Too many streams").await;
    page.wait_for_words("Share screen").await;
    assert_eq!(page.value("double.received()").await, json!(2));
    page.wait_for_state("alone").await;
    page.value("double.up = false, double.forget()").await;
    page.wait_for_state("lost").await;
    page.wait_for_words("The server does not answer").await;
    page.click("#leave").await;
    page.wait_for_state("idle").await;
    page.close().await;
}

async fn tiles_mark_speakers_muted_members_and_missing_sound() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = joined(&chrome, &server, "sound").await;
    page.awaited("double.add(20, 'Anna Bell', '#5a0000')").await;
    sees(&page, &["Anna Bell 100"]).await;
    page.wait_until("seen()['20'].quality === 'good' && seen().own.quality === 'good'")
        .await;
    page.value("double.tell({ type: 'speaking', id: 20, speaking: true }), double.tell({ type: 'speaker', id: 20 })")
        .await;
    page.value("double.mute(20, true)").await;
    page.wait_until("seen()['20'].muted === 'true' && seen()['20'].speaker === 'true'")
        .await;
    page.wait_for_words("Muted").await;
    page.value("double.pc.getSenders().forEach((sender) => sender.replaceTrack(null))")
        .await;
    page.wait_until("seen()['20'].quality === 'none' && !seen()['20'].on")
        .await;
    page.wait_for_words("No signal").await;
    page.wait_for_words("AB").await;
    page.click("#mute").await;
    page.wait_until("double.sent.at(-1).audio_muted === true && !onecast.local.tracks.microphone.enabled")
        .await;
    page.wait_for_words("Unmute").await;
    // The camera is added to a call that started without one.
    page.click("#camera-toggle").await;
    page.wait_until("double.received() === 2 && seen().own.on").await;
    page.run("window.track = onecast.local.tracks.camera;", vec![]).await;
    page.click("#camera-toggle").await;
    page.wait_until("track.readyState === 'ended' && double.received() === 1 && !seen().own.on")
        .await;
    page.close().await;
}

async fn microphone_is_replaced_without_an_offer() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = joined(&chrome, &server, "camera").await;
    page.wait_for_state("alone").await;
    page.click("#show-devices").await;
    page.wait_until("document.querySelectorAll('#microphone option').length > 1")
        .await;
    page.run(
        "window.track = onecast.local.tracks.microphone; window.offers = double.sent.length;",
        vec![],
    )
    .await;
    let other = "[...document.querySelectorAll('#microphone option')].find(({ selected }) => !selected).value";
    let other = page.value(other).await;
    page.select("#microphone", other.as_str().unwrap()).await;
    page.wait_until("onecast.local.tracks.microphone !== track && track.readyState === 'ended'")
        .await;
    page.wait_until("onecast.pc.getSenders().some(({ track }) => track === onecast.local.tracks.microphone)")
        .await;
    assert_eq!(page.value("double.sent.length - offers").await, json!(0));
    page.close().await;
}

async fn screen_is_shared_beside_the_camera_until_the_browser_ends_it() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = chrome
        .open(&server.url("/conference.html?name=Olga&quality=180&source=camera"))
        .await;
    prepare(&page).await;
    page.click("#join").await;
    page.wait_for_state("alone").await;
    page.click("#share").await;
    page.wait_until("seen()['own/screen']?.on === true && seen().own.on")
        .await;
    let labels = "Object.values(double.sent.findLast(({ type }) => type === 'offer').labels)";
    page.wait_until(&format!(
        "{labels}.every((label) => label === 'screen') && {labels}.length > 0"
    ))
    .await;
    page.wait_until("double.received() >= 3").await;
    // What the browser's own button for ending a screen share does.
    page.run(
        "const screen = onecast.local.tracks.screen; screen.stop(); screen.dispatchEvent(new Event('ended'));",
        vec![],
    )
    .await;
    page.wait_until("double.received() === 2 && !seen()['own/screen']")
        .await;
    page.wait_for_words("Share screen").await;
    // The second time, the m-lines are reused.
    let lines = page.value("mLines()").await;
    page.click("#share").await;
    page.wait_until("seen()['own/screen']?.on === true && double.received() >= 3")
        .await;
    assert_eq!(page.value("mLines()").await, lines);
    page.close().await;
}

async fn one_button_starts_sound_while_video_plays_already() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = joined(&chrome, &server, "nothing").await;
    page.run(
        "const play = HTMLMediaElement.prototype.play; \
         HTMLMediaElement.prototype.play = function () { \
           return this.muted || window.tapped ? play.call(this) : Promise.reject(new DOMException('no', 'NotAllowedError')); \
         }; \
         document.querySelector('#sound').addEventListener('pointerdown', () => (window.tapped = true));",
        vec![],
    )
    .await;
    page.awaited("double.add(20, 'Anna', '#5a0000')").await;
    page.wait_for_words("Tap for sound").await;
    sees(&page, &["Anna 100"]).await;
    assert_eq!(
        page.value("document.querySelector('[data-key=\"20\"] video').muted")
            .await,
        json!(true)
    );
    page.click("#sound").await;
    page.wait_until(
        "document.querySelector('#sound').hidden && !document.querySelector('[data-key=\"20\"] video').muted",
    )
    .await;
    page.close().await;
}

async fn watching_needs_no_permission_and_offers_receive_only() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = joined(&chrome, &server, "nothing").await;
    page.awaited("double.add(20, 'Anna', '#5a0000')").await;
    sees(&page, &["Anna 100"]).await;
    assert_eq!(page.value("double.received()").await, json!(0));
    assert_eq!(
        page.value("Object.values(onecast.local.tracks).some(Boolean)").await,
        json!(false)
    );
    page.click("#leave").await;
    page.wait_for_state("idle").await;
    page.wait_until("double.sent.at(-1).type === 'leave'").await;
    page.close().await;
}

async fn conference_fits_desktop_and_phone() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    for (name, size, dark) in [
        ("desktop", (1280, 900), false),
        ("dark", (1280, 900), true),
        ("phone", (390, 844), false),
    ] {
        let page = chrome.open_as(&server.url(PAGE), Look { size, dark }).await;
        prepare(&page).await;
        keep(&page, &format!("conference-lobby-{name}")).await;
        page.click("#join").await;
        page.wait_for_state("alone").await;
        page.wait_until("seen().own.on").await;
        keep(&page, &format!("conference-alone-{name}")).await;
        page.awaited("double.add(20, 'Anna Bell', '#5a0000')").await;
        page.awaited("double.add(21, 'A name as long as a member with too many names may have it', '#005a00')")
            .await;
        page.wait_until("Object.values(seen()).filter(({ on }) => on).length === 3")
            .await;
        page.value("double.mute(20, true), double.tell({ type: 'speaking', id: 21, speaking: true })")
            .await;
        page.wait_until("seen()['21'].quality && seen()['20'].muted === 'true'")
            .await;
        keep(&page, &format!("conference-three-{name}")).await;
        page.awaited("double.add(20, 'Anna Bell', '#5a5a00', 'screen')").await;
        page.wait_until("Object.values(seen()).filter(({ on }) => on).length === 4")
            .await;
        page.click("#show-devices").await;
        keep(&page, &format!("conference-screen-{name}")).await;
        page.close().await;
    }
}

async fn sixteen_tiles_fit_without_scrolling() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    for (size, dark) in [
        ((1200, 800), false),
        ((1920, 1080), true),
        ((360, 640), false),
        ((640, 360), true),
    ] {
        let name = format!("conference-{}x{}", size.0, size.1);
        let page = chrome
            .open_as(&server.url(&format!("{PAGE}&share=canvas")), Look { size, dark })
            .await;
        prepare(&page).await;
        page.click("#join").await;
        page.wait_for_state("alone").await;
        for tiles in 1..=16 {
            if tiles > 1 {
                page.value(&format!(
                    "double.tell({{ type: 'joined', member: {{ id: {}, name: 'Guest {tiles}', tracks: [] }} }})",
                    40 + tiles
                ))
                .await;
            }
            page.wait_until(&format!("document.querySelectorAll('.tile').length === {tiles}"))
                .await;
            assert_eq!(page.value("misplaced()").await, json!([]), "{tiles} tiles in {size:?}");
            if [4, 9, 16].contains(&tiles) {
                keep(&page, &format!("{name}-{tiles}")).await;
            }
        }
        // A screen takes most of the space; the other tiles keep theirs.
        page.click("#share").await;
        page.wait_until("document.querySelectorAll('.tile').length === 17")
            .await;
        assert_eq!(page.value("misplaced()").await, json!([]), "a screen in {size:?}");
        let widths = page
            .value(
                "['true', 'false'].map((screen) => document.querySelector(`.tile[data-screen=${screen}]`).offsetWidth)",
            )
            .await;
        assert!(widths[0].as_u64() > widths[1].as_u64(), "{widths}");
        keep(&page, &format!("{name}-screen")).await;
        page.close().await;
    }
}

/// The tile layout in boxes of all shapes.
async fn tiles_are_as_large_as_their_box_allows() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = chrome.open(&server.url("/conference.html")).await;
    for (count, width, height, expected) in [
        (1, 1600, 900, json!([1, 1, 1600])),
        (2, 1600, 900, json!([2, 1, 796])),
        (2, 400, 900, json!([1, 2, 400])),
        (4, 1160, 630, json!([2, 2, 552])),
        // Tiles are as large in four columns as in three, but three fill the last row better.
        (5, 3000, 408, json!([5, 1, 593])),
        (5, 1200, 408, json!([3, 2, 355])),
        (16, 1160, 630, json!([4, 4, 269])),
        (16, 328, 430, json!([3, 6, 104])),
        (3, 0, 0, json!([1, 3, 0])),
    ] {
        let grid = format!(
            "import('/js/grid.js').then(({{ grid }}) => grid({count}, {width}, {height}))\
             .then(({{ columns, rows, width }}) => [columns, rows, width])"
        );
        assert_eq!(page.awaited(&grid).await, expected, "{count} in {width} by {height}");
    }
    assert_eq!(page.awaited(&format!("({PLACES})()")).await, json!([]));
    page.close().await;
}

/// Tiles that leave their box, overlap, or are not 16:9; and screens that are not larger than other tiles.
const PLACES: &str = "async () => { \
    const { places } = await import('/js/grid.js'); \
    const faults = []; \
    for (const [width, height] of [[1160, 630], [1880, 900], [328, 430], [600, 260], [300, 1200], [2000, 200]]) { \
      for (let count = 1; count <= 17; count += 1) { \
        for (let screens = 0; screens <= Math.min(2, count); screens += 1) { \
          const tiles = places(count, screens, width, height); \
          const isIn = ({ x, y, width: w, height: h }) => x >= -0.01 && y >= -0.01 && x + w <= width + 0.01 && y + h <= height + 0.01; \
          const meet = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height; \
          const isGood = (tile, index) => isIn(tile) && tile.width > 20 && Math.abs(tile.width / tile.height - 16 / 9) < 0.001 && \
            !tiles.some((other, at) => at !== index && meet(tile, other)); \
          const isLarger = screens === 0 || screens === count || tiles[0].width >= tiles.at(-1).width; \
          if (tiles.length !== count || !tiles.every(isGood) || !isLarger) faults.push([count, screens, width, height]); \
        } \
      } \
    } \
    return faults; }";

/// The rule for who negotiates when, without a connection.
async fn negotiation_takes_turns_by_one_rule() {
    let chrome = Chrome::launch().await;
    let server = Fake::start().await;
    let page = chrome.open(&server.url("/conference.html")).await;
    let told = page.awaited(&format!("({TURNS})()")).await;
    assert_eq!(
        told,
        json!([
            "answer", "repeat", "ignore", "yield", "answer", "ignore", "take", "withdraw", "broken", true, "take",
            false
        ])
    );
    page.close().await;
}

const TURNS: &str = "async () => { \
    const { Turns } = await import('/js/turns.js'); \
    const turns = new Turns(); \
    const told = [turns.theirOffer(2)]; \
    turns.answered(2); \
    told.push(turns.theirOffer(2), turns.theirOffer(1)); \
    turns.offered(); \
    told.push(turns.theirOffer(3)); \
    turns.withdrawn(); \
    told.push(turns.theirOffer(3)); \
    turns.answered(3); \
    turns.offered(); \
    told.push(turns.theirReply(false), turns.theirReply(true)); \
    turns.offered(); \
    told.push(turns.theirReply(false), turns.theirReply(true)); \
    turns.offered(); \
    told.push(turns.resumed(), turns.theirReply(true), turns.resumed()); \
    return told; }";

async fn with_room(chrome: &Chrome, server: &Fake, source: &str) -> Page {
    let page = chrome
        .open(&server.url(&format!(
            "/conference.html?name=Olga&quality=180&source={source}&share=canvas"
        )))
        .await;
    prepare(&page).await;
    page
}

async fn prepare(page: &Page) {
    page.run(include_str!("room.js"), vec![]).await;
    page.run(include_str!("tiles.js"), vec![]).await;
}

async fn joined(chrome: &Chrome, server: &Fake, source: &str) -> Page {
    let page = with_room(chrome, server, source).await;
    page.click("#join").await;
    page.wait_until("double.joins === 1 && onecast.room.state === 'connected'")
        .await;
    page
}

/// Waits until exactly these tiles are shown besides our own, each with its own colour.
async fn sees(page: &Page, others: &[&str]) {
    page.wait_until(&format!(
        "JSON.stringify(others()) === JSON.stringify({})",
        json!(others)
    ))
    .await;
}

/// Nothing may be wider than the window, and every control needs a name for screen readers.
async fn keep(page: &Page, name: &str) {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pages");
    std::fs::create_dir_all(&directory).unwrap();
    page.screenshot(&directory.join(format!("{name}.png"))).await;
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(page.value(overflow).await, json!(0), "{name} is wider than its window");
    let nameless = "[...document.querySelectorAll('button, a, input, select, textarea, video, li')] \
        .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length)) \
        .map((one) => one.outerHTML)";
    assert_eq!(page.value(nameless).await, json!([]), "{name}");
}

const PAGE: &str = "/conference.html?name=Olga&quality=180&source=canvas";

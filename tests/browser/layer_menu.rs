//! The quality menu of the viewer page, over a broadcast in three sizes.

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::{Value, json};

use super::chrome::{Chrome, Page};
use super::fake::Fake;
use super::publisher::Publisher;
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        the_menu_changes_the_size_without_a_freeze,
        a_choice_outlives_the_connection,
        a_link_chooses_a_size,
        the_automatic_choice_returns_to_the_largest_size,
        a_refused_choice_leaves_the_menu_as_it_was,
        sizes_are_named_by_height_frame_rate_and_bit_rate,
        the_menu_asks_only_for_what_is_not_in_force,
        late_answers_change_nothing,
    ]
    .needs(&CHROMIUM)
    .alone()
}

async fn the_menu_changes_the_size_without_a_freeze() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let _publisher = Publisher::with(&server, &THREE_SIZES);
    let page = watch(&chrome, &server, "").await;
    let heights = heights(&page).await;
    let [top, _, low] = heights[..] else {
        panic!("{heights:?}")
    };
    page.run(GAPS, vec![]).await;
    for height in [low, top, low, top] {
        choose(&page, height).await;
        page.wait_until(&format!("{SHOWN} === {height}")).await;
    }
    let longest = page.value("longestGapMs").await.as_f64().unwrap_or_default();
    println!("longest time between two frames: {longest:.0} ms");
    // The picture may stand still while the new layer's keyframe is decoded, not while the change waits for it.
    assert!(longest < GAP_MAX_MS, "{longest:.0} ms");
    page.click("#show-stats").await;
    page.wait_for_words(&format!("{top}p of ")).await;
    page.wait_for_words(": chosen").await;
    page.select("#quality", "").await;
    page.wait_until(&format!("{MENU}.options[0].textContent === 'Auto ({top}p)'"))
        .await;
    page.close().await;
}

async fn a_choice_outlives_the_connection() {
    let chrome = Chrome::launch().await;
    let mut server = Server::start().await;
    let publisher = Publisher::with(&server, &THREE_SIZES);
    let page = watch(&chrome, &server, "").await;
    let low = *heights(&page).await.last().unwrap();
    choose(&page, low).await;
    page.wait_until(&format!("{SHOWN} === {low}")).await;
    let chosen = knows(&json!(page.field("#quality").await));
    page.wait_until(&chosen).await;
    // Another path, in the same session.
    assert_eq!(page.awaited("onecast.restart()").await, json!(null));
    page.wait_until(&chosen).await;
    page.wait_until(&format!("{SHOWN} === {low}")).await;
    drop(publisher);
    server.stop().await;
    page.wait_for_state("lost").await;
    server.start_again().await;
    let _publisher = Publisher::with(&server, &THREE_SIZES);
    page.wait_for_state("watching").await;
    page.wait_until(&format!("{MENU}.selectedOptions[0]?.textContent === '{low}p'"))
        .await;
    page.wait_until(&format!("{SHOWN} === {low}")).await;
    page.close().await;
}

async fn a_link_chooses_a_size() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let _publisher = Publisher::with(&server, &THREE_SIZES);
    let page = watch(&chrome, &server, "&quality=200p").await;
    let low = *heights(&page).await.last().unwrap();
    page.wait_until(&format!("{SHOWN} === {low}")).await;
    page.wait_until(&format!("{MENU}.selectedOptions[0]?.textContent === '{low}p'"))
        .await;
    page.close().await;
}

async fn the_automatic_choice_returns_to_the_largest_size() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let _publisher = Publisher::with(&server, &THREE_SIZES);
    let page = watch(&chrome, &server, "&quality=auto").await;
    let heights = heights(&page).await;
    let [top, _, low] = heights[..] else {
        panic!("{heights:?}")
    };
    page.click("#show-stats").await;
    for height in [low, top] {
        choose(&page, height).await;
        page.wait_until(&format!("{SHOWN} === {height}")).await;
    }
    page.wait_for_words(&format!("{top}p of {top}p")).await;
    page.wait_for_words(": chosen").await;
    page.select("#quality", "").await;
    page.wait_until(&knows(&json!(null))).await;
    page.wait_for_words(": the broadcaster sends no larger one").await;
    choose(&page, low).await;
    page.wait_until(&format!("{SHOWN} === {low}")).await;
    page.select("#quality", "").await;
    page.wait_until(&format!("{SHOWN} === {top}")).await;
    page.close().await;
}

async fn a_refused_choice_leaves_the_menu_as_it_was() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let _publisher = Publisher::with(&server, &THREE_SIZES);
    let page = watch(&chrome, &server, "").await;
    let heights = heights(&page).await;
    let [top, middle, low] = heights[..] else {
        panic!("{heights:?}")
    };
    choose(&page, low).await;
    page.wait_until(&format!("{SHOWN} === {low}")).await;
    page.run(ASK_FOR_A_GONE_LAYER, vec![]).await;
    choose(&page, top).await;
    page.wait_for_words("This quality is not available any more").await;
    page.wait_until(&format!("{MENU}.selectedOptions[0].textContent === '{low}p'"))
        .await;
    // Words of the API are not for viewers.
    assert!(!page.words().await.contains("rids"));
    page.run("window.fetch = window.realFetch;", vec![]).await;
    choose(&page, middle).await;
    page.wait_until(&format!("{SHOWN} === {middle}")).await;
    page.wait_until("!document.body.innerText.includes('not available')")
        .await;
    page.close().await;
}

async fn sizes_are_named_by_height_frame_rate_and_bit_rate() {
    let (chrome, fake) = (Chrome::launch().await, Fake::start().await);
    let page = chrome.open(&fake.url("/viewer.html")).await;
    for (layers, names) in [
        (
            "[{ height: 720, frameRate: 30 }, { height: 360, frameRate: 31 }, { height: 180 }]",
            json!(["720p", "360p", "180p"]),
        ),
        (
            "[{ height: 720, frameRate: 60 }, { height: 720, frameRate: 30 }]",
            json!(["720p60", "720p"]),
        ),
        (
            "[{ height: 720, bitrate: 2_500_000 }, { height: 720, bitrate: 800_000 }]",
            json!(["720p (2.50 Mbit/s)", "720p (800 kbit/s)"]),
        ),
    ] {
        assert_eq!(page.value(&format!("layerNames({layers})")).await, names, "{layers}");
    }
    for (text, height) in [
        ("720", json!(720)),
        ("720p", json!(720)),
        ("auto", json!(null)),
        ("", json!(null)),
        ("-1", json!(null)),
    ] {
        assert_eq!(page.value(&format!("heightOf('{text}')")).await, height, "{text}");
    }
    for (wanted, height) in [("1080", 720), ("720", 720), ("500", 360), ("90", 180)] {
        let nearest = format!("layerOfHeight([720, 360, 180].map((height) => ({{ height }})), {wanted}).height");
        assert_eq!(page.value(&nearest).await, json!(height), "{wanted}");
    }
    page.close().await;
}

async fn the_menu_asks_only_for_what_is_not_in_force() {
    let (chrome, fake) = (Chrome::launch().await, Fake::start().await);
    let page = chrome.open(&fake.url("/viewer.html")).await;
    page.run(OWN_MENU, vec![]).await;
    let layers = "[{ rid: 'a', height: 720, bitrate: 2_500_000 }, { rid: 'b', height: 720, bitrate: 800_000 }]";
    page.awaited(&format!("own.update({layers})")).await;
    assert_eq!(
        page.value("[box.value, box.selectedOptions[0]?.textContent]").await,
        json!(["", "Auto"])
    );
    page.run("pick('b');", vec![]).await;
    page.wait_until("asked.length === 1").await;
    page.run("answer();", vec![]).await;
    page.wait_until("box.value === 'b'").await;
    // The other layer of this height comes first in the list.
    page.run(&format!("own.update({layers});"), vec![]).await;
    assert_eq!(page.value("[asked, box.value]").await, json!([["b"], "b"]));
    // The next broadcaster has other names and sizes.
    page.run(
        "own.update([{ rid: 'c', height: 1080 }, { rid: 'd', height: 540 }]);",
        vec![],
    )
    .await;
    page.wait_until("asked.length === 2").await;
    assert_eq!(page.value("asked.at(-1)").await, json!("d"));
    page.close().await;
}

async fn late_answers_change_nothing() {
    let (chrome, fake) = (Chrome::launch().await, Fake::start().await);
    let page = chrome.open(&fake.url("/viewer.html")).await;
    page.run(OWN_MENU, vec![]).await;
    let layers = "[{ rid: 'a', height: 720 }, { rid: 'b', height: 360 }]";
    page.awaited(&format!("own.update({layers})")).await;
    page.run("pick('a'); answer(); pick('b');", vec![]).await;
    page.wait_until("asked.length === 2").await;
    // The connection is replaced before the server refuses: the choice goes to the new one.
    page.run(&format!("own.reset(); own.update({layers}); refuse(1);"), vec![])
        .await;
    page.wait_until("asked.length === 3").await;
    page.run("answer();", vec![]).await;
    page.awaited(&format!("own.update({layers})")).await;
    assert_eq!(page.value("[asked, box.value]").await, json!([["a", "b", "b"], "b"]));
    page.close().await;
}

async fn watch(chrome: &Chrome, server: &Server, options: &str) -> Page {
    let path = format!("/viewer.html?stream=live&autoplay=1{options}");
    let page = chrome.open(&server.url(&path)).await;
    page.wait_for_state("watching").await;
    // Pictures without dependency descriptors play where these are negotiated.
    page.wait_until("onecast.pc.remoteDescription.sdp.includes('#dependency-descriptor')")
        .await;
    page.wait_until(&format!(
        "{MENU}.options.length === 4 && !document.querySelector('#quality-field').hidden"
    ))
    .await;
    page
}

/// The heights that the menu offers, in its order.
async fn heights(page: &Page) -> Vec<u64> {
    page.wait_until(&format!(
        "[...{MENU}.options].slice(1).every(({{ textContent }}) => /^\\d+p$/.test(textContent))"
    ))
    .await;
    let script = format!("[...{MENU}.options].slice(1).map(({{ textContent }}) => parseInt(textContent))");
    let names = page.value(&script).await;
    names
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|name| name.as_u64())
        .collect()
}

async fn choose(page: &Page, height: u64) {
    let script = format!("[...{MENU}.options].find(({{ textContent }}) => textContent === '{height}p').value");
    let value = page.value(&script).await;
    page.select("#quality", value.as_str().unwrap()).await;
}

/// A condition: the server knows this choice of the page's viewer, a rid, or null for automatic.
fn knows(rid: &Value) -> String {
    format!(
        "fetch('/api/sessions?role=viewer').then((response) => response.json()) \
         .then(({{ sessions: [{{ layer }}] }}) => layer.limit.rid === {rid})"
    )
}

/// The test card in three sizes.
const THREE_SIZES: [&str; 2] = ["--layers", "3"];
const MENU: &str = "document.querySelector('#quality')";
const SHOWN: &str = "document.querySelector('#video').videoHeight";

/// The test card has a keyframe every 2 s; the rest is for a loaded machine.
const GAP_MAX_MS: f64 = 3_500.0;

/// Every choice is one that the stream does not have.
const ASK_FOR_A_GONE_LAYER: &str = "\
    window.realFetch = window.fetch; \
    window.fetch = (url, options = {}) => { \
        const isChoice = options.method === 'POST' && String(url).endsWith('/layer'); \
        return realFetch(url, isChoice ? { ...options, body: JSON.stringify({ rid: 'gone' }) } : options); \
    };";

/// A menu of its own, whose choices are answered by hand. `asked` are the choices.
const OWN_MENU: &str = "\
    const field = document.createElement('label'); \
    window.box = field.appendChild(document.createElement('select')); \
    const answers = []; \
    window.asked = []; \
    window.own = new QualityMenu(field, null, (rid) => { \
        asked.push(rid); \
        return new Promise((resolve, reject) => answers.push({ resolve, reject })); \
    }); \
    window.pick = (rid) => { box.value = rid; box.dispatchEvent(new Event('change')); }; \
    window.answer = () => answers.at(-1).resolve(); \
    window.refuse = (place) => answers[place].reject(new Problem('Refused', { status: 409 }));";

/// Measures the longest time between two frames.
const GAPS: &str = "\
    window.longestGapMs = 0; \
    let before = performance.now(); \
    const video = document.querySelector('#video'); \
    const shown = (now) => { \
        window.longestGapMs = Math.max(window.longestGapMs, now - before); \
        before = now; \
        video.requestVideoFrameCallback(shown); \
    }; \
    video.requestVideoFrameCallback(shown);";

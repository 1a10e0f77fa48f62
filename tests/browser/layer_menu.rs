//! The quality menu of the viewer page, over a broadcast in three sizes.

use std::process::{Child, Command, Stdio};

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};

use super::chrome::{Chrome, Page};
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        the_menu_changes_the_size_without_a_freeze,
        a_choice_outlives_the_connection,
        a_link_chooses_a_size,
    ]
    .needs(&CHROMIUM)
    .alone()
}

/// Ends with the test.
struct Publisher(Child);

impl Publisher {
    /// Publishes the test card in three sizes.
    fn start(server: &Server) -> Publisher {
        let child = Command::new(env!("CARGO_BIN_EXE_onecast"))
            .args(["publish", "--layers", "3", "--to", &server.url("/whip/live")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Publisher(child.unwrap())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn the_menu_changes_the_size_without_a_freeze() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let _publisher = Publisher::start(&server);
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
    let publisher = Publisher::start(&server);
    let page = watch(&chrome, &server, "").await;
    let low = *heights(&page).await.last().unwrap();
    choose(&page, low).await;
    page.wait_until(&format!("{SHOWN} === {low}")).await;
    drop(publisher);
    server.stop().await;
    page.wait_for_state("lost").await;
    server.start_again().await;
    let _publisher = Publisher::start(&server);
    page.wait_for_state("watching").await;
    page.wait_until(&format!("{MENU}.selectedOptions[0]?.textContent === '{low}p'"))
        .await;
    page.wait_until(&format!("{SHOWN} === {low}")).await;
    page.close().await;
}

async fn a_link_chooses_a_size() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let _publisher = Publisher::start(&server);
    let page = watch(&chrome, &server, "&quality=200p").await;
    let low = *heights(&page).await.last().unwrap();
    page.wait_until(&format!("{SHOWN} === {low}")).await;
    page.wait_until(&format!("{MENU}.selectedOptions[0]?.textContent === '{low}p'"))
        .await;
    page.close().await;
}

async fn watch(chrome: &Chrome, server: &Server, options: &str) -> Page {
    let path = format!("/viewer.html?stream=live&autoplay=1{options}");
    let page = chrome.open(&server.url(&path)).await;
    page.wait_for_state("watching").await;
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

const MENU: &str = "document.querySelector('#quality')";
const SHOWN: &str = "document.querySelector('#video').videoHeight";

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

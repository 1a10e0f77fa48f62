//! Pages opened from disk: copy and paste works, everything else links to the server.

use onecast_testing::requirements::{CHROMIUM, FIREFOX};
use onecast_testing::{Tests, tests};
use serde_json::json;

use super::broadcast::{assert_sees_and_hears, carry_by_hand};
use super::chrome::{Chrome, Page};
use super::firefox::{self, Firefox};
use super::looks::keep;
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![copy_and_paste_works_from_disk, pages_on_disk_link_to_the_server,]
        .needs(&CHROMIUM)
        .and(tests![firefox_exchanges_offer_and_answer_from_disk,].needs(&FIREFOX))
}

/// URL of a page in the checkout.
pub(crate) fn on_disk(page: &str) -> String {
    format!("file://{}/html/{page}", env!("CARGO_MANIFEST_DIR"))
}

async fn copy_and_paste_works_from_disk() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let broadcaster = chrome
        .open(&on_disk("broadcast.html?source=canvas&quality=360&codec=vp8"))
        .await;
    paste(&broadcaster, &server).await;
    broadcaster.wait_for_state("live").await;
    broadcaster.wait_for_words("VP8, Opus").await;
    keep(&broadcaster, "broadcast-disk").await;

    let viewer = chrome.open(&on_disk("viewer.html")).await;
    paste(&viewer, &server).await;
    viewer.wait_for_state("watching").await;
    assert_sees_and_hears(&viewer, "VP8").await;
    keep(&viewer, "viewer-disk").await;

    // The source is replaced while live.
    broadcaster.click("input[value=camera]").await;
    broadcaster
        .wait_until("onecast.pc.getSenders()[0].track?.label.includes('fake_device')")
        .await;
    assert_sees_and_hears(&viewer, "VP8").await;
    broadcaster.close().await;
    viewer.wait_for_state("waiting").await;
    viewer.close().await;
}

async fn pages_on_disk_link_to_the_server() {
    let chrome = Chrome::launch().await;
    let page = chrome.open(&on_disk("broadcast.html?stream=talk")).await;
    page.wait_for_words("This page was opened from disk").await;
    page.click("#go").await;
    page.wait_for_state("error").await;
    page.wait_for_words("This needs the server").await;
    page.wait_for_words("Open http://localhost:8080/broadcast.html?stream=talk instead.")
        .await;
    let preview = page.value("document.querySelector('#preview').srcObject").await;
    assert_eq!(preview, json!(null), "no camera is asked for in vain");
    let viewers = page.value("document.querySelector('#viewer-link').href").await;
    assert_eq!(viewers, json!("http://localhost:8080/viewer.html?stream=talk"));

    // The link that the server prints contains all that the command needs.
    page.paste(
        "#server",
        "https://live.example.org/rtc/broadcast.html#token=very%20secret",
    )
    .await;
    page.click("input[value=canvas]").await;
    page.click("#paste-make").await;
    page.wait_for_state("offered").await;
    let command = page.field("#paste-command").await;
    let tail =
        " | curl -sS -H 'Authorization: Bearer very secret' --data-binary @- 'https://live.example.org/rtc/sdp/talk'";
    assert!(command.ends_with(tail), "{command}");
    let there = page.value("document.querySelector('#there').href").await;
    let expected = "https://live.example.org/rtc/broadcast.html?stream=talk#token=very%20secret";
    assert_eq!(there, json!(expected));
    // An offer that was made already can go to another address.
    page.paste("#server", "192.0.2.7:8080").await;
    let command = page.field("#paste-command").await;
    assert!(
        command.ends_with(" | curl -sS --data-binary @- 'http://192.0.2.7:8080/sdp/talk'"),
        "{command}"
    );
    page.paste("#server", "ftp://").await;
    let valid = page.value("document.querySelector('#server').validity.valid").await;
    assert_eq!(valid, json!(false));
    assert_eq!(page.field("#paste-command").await, command);

    // Other pages remember the address, but not the token.
    page.goto(&on_disk("viewer.html")).await;
    assert_eq!(page.field("#server").await, "http://192.0.2.7:8080/");
    page.click("#watch").await;
    page.wait_for_words("Open http://192.0.2.7:8080/viewer.html instead.")
        .await;
    for (file, there) in [("index.html", ""), ("conference.html", "conference.html")] {
        page.goto(&on_disk(file)).await;
        page.wait_for_words(&format!(
            "It needs the server. Open http://192.0.2.7:8080/{there} instead."
        ))
        .await;
        keep(&page, &format!("disk-{file}")).await;
    }
    page.click("nav a[href='viewer.html']").await;
    page.wait_for_words("Copy and paste works here.").await;
    page.close().await;
}

/// Only up to the answer: Firefox uses no loopback candidates, so there is no media.
async fn firefox_exchanges_offer_and_answer_from_disk() {
    let firefox = Firefox::launch().await;
    let server = Server::start().await;
    for (page, publishes) in [
        ("broadcast.html?source=canvas&quality=360", true),
        ("viewer.html", false),
    ] {
        let page = firefox.open(&on_disk(page)).await;
        let offer = paste_in_firefox(&page, &server).await;
        page.wait_for_state("connecting").await;
        let directions = ["a=sendonly", "a=recvonly"].map(|direction| offer.contains(direction));
        assert_eq!(directions, [publishes, !publishes], "{offer}");
        assert!(offer.contains("m=video") && offer.contains("m=audio"), "{offer}");
    }
}

async fn paste(page: &Page, server: &Server) {
    page.paste("#server", &server.url("")).await;
    carry_by_hand(page, server).await;
}

/// Takes the offer to the server and its answer back. Returns the decoded offer.
async fn paste_in_firefox(page: &firefox::Page<'_>, server: &Server) -> String {
    page.paste("#server", &server.url("")).await;
    page.click("#paste-make").await;
    page.wait_for_state("offered").await;
    let offer = page.value("document.querySelector('#paste-offer').value").await;
    let request = reqwest::Client::new().post(server.url("/sdp/live"));
    let answer = request.body(offer.as_str().unwrap().to_owned()).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    page.paste("#paste-answer", &answer.text().await.unwrap()).await;
    page.click("#paste-start").await;
    let clear = page
        .value("JSON.parse(atob(document.querySelector('#paste-offer').value)).sdp")
        .await;
    clear.as_str().unwrap().to_owned()
}

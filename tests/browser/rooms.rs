//! Conference rooms: Chromium against the real server.

use std::time::Duration;

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::chrome::{Chrome, Page};
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        three_members_see_and_hear_each_other_through_every_change,
        m_lines_do_not_grow_with_joins_and_leaves,
        conference_survives_a_server_restart,
        broken_socket_is_resumed_without_a_gap,
        cameras_and_screens_are_seen,
    ]
    .needs(&CHROMIUM)
}

async fn three_members_see_and_hear_each_other_through_every_change() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let anna = join(&chrome, &server, "Anna").await;
    let ben = join(&chrome, &server, "Ben").await;
    let cleo = join(&chrome, &server, "Cleo").await;
    everybody_sees(&[&anna, &ben, &cleo], &[]).await;

    let emil = join(&chrome, &server, "Emil").await;
    everybody_sees(&[&anna, &ben, &cleo, &emil], &[]).await;

    ben.page.click("#leave").await;
    ben.page.wait_for_state("idle").await;
    everybody_sees(&[&anna, &cleo, &emil], &[]).await;
    let before = [lines_of(&anna).await, lines_of(&cleo).await];

    anna.page.click("#share").await;
    everybody_sees(&[&anna, &cleo, &emil], &["Anna"]).await;
    anna.page.click("#share").await;
    everybody_sees(&[&anna, &cleo, &emil], &[]).await;

    cleo.page.click("#camera-toggle").await;
    for other in [&anna, &emil] {
        other
            .page
            .wait_until("Object.values(seen()).some(({ name, on }) => name === 'Cleo' && !on)")
            .await;
        other.page.wait_for_words("Cleo").await;
    }
    cleo.page.click("#camera-toggle").await;
    everybody_sees(&[&anna, &cleo, &emil], &[]).await;

    // The returning member reuses m-lines.
    ben.page.click("#join").await;
    everybody_sees(&[&anna, &ben, &cleo, &emil], &[]).await;
    for (one, before) in [&anna, &cleo].into_iter().zip(before) {
        assert!(
            lines_of(one).await <= before + 4,
            "{}: the lines grow from {before}",
            one.name
        );
    }
    for one in [&anna, &ben, &cleo, &emil] {
        assert_eq!(one.page.value("window.notReloaded").await, json!(true), "{}", one.name);
        assert_eq!(one.page.value("onecast.wasLost").await, json!(false), "{}", one.name);
    }
    for one in [anna, ben, cleo, emil] {
        one.page.close().await;
    }
}

async fn m_lines_do_not_grow_with_joins_and_leaves() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let stays = join(&chrome, &server, "Anna").await;
    let visits = join(&chrome, &server, "Ben").await;
    everybody_sees(&[&stays, &visits], &[]).await;
    let lines = lines_of(&stays).await;
    for _ in 0..5 {
        visits.page.click("#leave").await;
        stays.page.wait_for_state("alone").await;
        visits.page.click("#join").await;
        everybody_sees(&[&stays, &visits], &[]).await;
        assert_eq!(lines_of(&stays).await, lines);
    }
    stays.page.close().await;
    visits.page.close().await;
}

async fn conference_survives_a_server_restart() {
    let chrome = Chrome::launch().await;
    let mut server = Server::start().await;
    let anna = join(&chrome, &server, "Anna").await;
    let ben = join(&chrome, &server, "Ben").await;
    everybody_sees(&[&anna, &ben], &[]).await;
    server.stop().await;
    for one in [&anna, &ben] {
        one.page.wait_for_words("Trying again").await;
    }
    server.start_again().await;
    everybody_sees(&[&anna, &ben], &[]).await;
    anna.page.wait_for_words("You are back in the room").await;
    anna.page.close().await;
    ben.page.close().await;
}

async fn broken_socket_is_resumed_without_a_gap() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let anna = join(&chrome, &server, "Anna").await;
    let ben = join(&chrome, &server, "Ben").await;
    everybody_sees(&[&anna, &ben], &[]).await;
    anna.page
        .run(
            "window.before = onecast.pc; window.id = onecast.room.roster.own; sockets.at(-1).close();",
            vec![],
        )
        .await;
    anna.page
        .wait_until("sockets.length === 2 && onecast.room.state === 'connected'")
        .await;
    anna.page.click("#camera-toggle").await;
    ben.page
        .wait_until("Object.values(seen()).some(({ name, on }) => name === 'Anna' && !on)")
        .await;
    anna.page.click("#camera-toggle").await;
    everybody_sees(&[&anna, &ben], &[]).await;
    let same = "onecast.pc === before && onecast.room.roster.own === id";
    assert_eq!(anna.page.value(same).await, json!(true));
    anna.page.close().await;
    ben.page.close().await;
}

async fn cameras_and_screens_are_seen() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let camera = enter(
        &chrome,
        &server,
        "/conference.html?room=talk&name=Anna&quality=360&source=camera",
        "Anna",
    )
    .await;
    let watcher = enter(
        &chrome,
        &server,
        "/conference.html?room=talk&name=Ben&source=nothing",
        "Ben",
    )
    .await;
    watcher
        .page
        .wait_until(
            "Object.values(seen()).some(({ name, on, quality }) => name === 'Anna' && on && quality === 'good')",
        )
        .await;
    camera.page.click("#share").await;
    watcher
        .page
        .wait_until("Object.values(seen()).some(({ name, on, screen }) => name === 'Anna' && on && screen)")
        .await;
    watcher.page.wait_until("goesOn()").await;
    camera.page.click("#mute").await;
    watcher
        .page
        .wait_until("Object.values(seen()).some(({ name, muted }) => name === 'Anna' && muted === 'true')")
        .await;
    camera.page.close().await;
    watcher.page.wait_for_state("alone").await;
    watcher.page.close().await;
}

/// A member whose picture has its own background colour.
struct Member {
    name: &'static str,
    page: Page,
}

async fn join(chrome: &Chrome, server: &Server, name: &'static str) -> Member {
    let url = format!("/conference.html?room=talk&name={name}&quality=180&source=canvas&share=canvas");
    enter(chrome, server, &url, name).await
}

async fn enter(chrome: &Chrome, server: &Server, path: &str, name: &'static str) -> Member {
    let page = chrome.open(&server.url(path)).await;
    page.run(include_str!("tiles.js"), vec![]).await;
    page.run(COUNT_SOCKETS, vec![]).await;
    page.click("#join").await;
    page.wait_until("['alone', 'together'].includes(document.documentElement.dataset.state)")
        .await;
    Member { name, page }
}

/// Checks that each member shows all others, with the right picture in every tile, and that frames and sound continue. The members in
/// `sharing` share a screen.
async fn everybody_sees(members: &[&Member], sharing: &[&str]) {
    let mut own = Vec::new();
    for Member { page, .. } in members {
        page.wait_until("seen().own.on && seen().own.colour !== null").await;
        own.push(page.value("seen().own.colour").await);
    }
    let colours: Vec<&str> = own.iter().filter_map(Value::as_str).collect();
    assert_eq!(colours.len(), members.len());
    for (index, one) in members.iter().enumerate() {
        let mut others = Vec::new();
        for (other, colour) in members.iter().zip(&colours) {
            assert!(
                other.name == one.name || colours[index] != *colour,
                "pictures must be distinguishable"
            );
            if other.name != one.name {
                others.push(format!("{} {colour}", other.name));
            }
        }
        for name in sharing.iter().filter(|name| **name != one.name) {
            others.push(format!("{name} screen {SHARED}"));
        }
        others.sort();
        let want = format!("JSON.stringify(others()) === JSON.stringify({})", json!(others));
        settles(one, &want).await;
        one.page.wait_until("goesOn()").await;
    }
}

/// Like [`Page::wait_until`], but reports what is shown instead.
async fn settles(one: &Member, condition: &str) {
    let waiting = async {
        while one.page.value(condition).await != json!(true) {
            sleep(Duration::from_millis(150)).await;
        }
    };
    if timeout(Duration::from_secs(40), waiting).await.is_err() {
        let seen = one.page.value("others()").await;
        panic!("{} sees {seen}, not: {condition}", one.name);
    }
}

async fn lines_of(one: &Member) -> u64 {
    one.page.value("mLines()").await.as_u64().unwrap()
}

/// Keeps the sockets that the page opens, so that the test can break one.
const COUNT_SOCKETS: &str = "window.notReloaded = true; window.sockets = []; \
    window.WebSocket = class extends WebSocket { constructor(url) { super(url); sockets.push(this); } };";

/// The grey background of the test picture that stands in for a screen.
const SHARED: &str = "111";

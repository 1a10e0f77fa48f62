//! A viewer's connection that becomes narrow and wide again: a relay with a token bucket and a queue before the server's UDP port.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use onecast_testing::requirements::CHROMIUM;
use onecast_testing::{Tests, tests};
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, sleep_until};

use super::chrome::{Chrome, Page};
use super::server::Server;

pub(crate) fn tests() -> Tests {
    tests![
        a_viewer_keeps_its_picture_while_its_connection_is_narrow,
        a_connection_that_stays_narrow_is_left_alone,
    ]
    .needs(&CHROMIUM)
    .alone()
}

/// Carries one viewer's datagrams, at a limited rate towards the viewer.
struct Relay {
    address: SocketAddr,
    /// Bits per second.
    rate: Arc<AtomicU32>,
}

impl Relay {
    /// A datagram that would wait longer is dropped.
    const QUEUE: Duration = Duration::from_millis(300);
    /// Of IPv4 and UDP.
    const HEADERS: usize = 28;

    async fn start(server: SocketAddr) -> Relay {
        let [outside, inside] = [UdpSocket::bind(ANY).await.unwrap(), UdpSocket::bind(ANY).await.unwrap()];
        inside.connect(server).await.unwrap();
        let relay = Relay {
            address: outside.local_addr().unwrap(),
            rate: Arc::new(AtomicU32::new(WIDE)),
        };
        tokio::spawn(carry(outside, inside, relay.rate.clone()));
        relay
    }

    fn limit(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }
}

async fn carry(outside: UdpSocket, inside: UdpSocket, rate: Arc<AtomicU32>) {
    let mut viewer = None;
    let mut queue: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut free_at = Instant::now();
    let (mut up, mut down) = ([0; 2_048], [0; 2_048]);
    loop {
        let due = queue
            .front()
            .map_or_else(|| Instant::now() + Duration::from_secs(1), |(due, _)| *due);
        tokio::select! {
            received = outside.recv_from(&mut up) => {
                let Ok((len, from)) = received else { return };
                viewer = Some(from);
                let _ = inside.send(&up[..len]).await;
            }
            received = inside.recv(&mut down) => {
                let Ok(len) = received else { continue };
                let now = Instant::now();
                let begins = free_at.max(now);
                if begins - now > Relay::QUEUE {
                    continue;
                }
                let bits = 8 * (len + Relay::HEADERS) as u32;
                free_at = begins + Duration::from_secs(1) * bits / rate.load(Ordering::Relaxed);
                queue.push_back((free_at, down[..len].to_vec()));
            }
            () = sleep_until(due) => {
                if let (Some((_, datagram)), Some(viewer)) = (queue.pop_front(), viewer) {
                    let _ = outside.send_to(&datagram, viewer).await;
                }
            }
        }
    }
}

/// What a viewer saw.
#[derive(Debug, Default)]
struct Seen {
    /// From the moment when the connection became narrow until a smaller picture was shown, in seconds.
    smaller_after: Option<f64>,
    /// From the moment when it became wide again until the largest was shown.
    largest_after: Option<f64>,
    /// Longest time between two frames.
    longest_gap: f64,
    /// In all gaps of more than 300 ms.
    frozen: f64,
}

async fn a_viewer_keeps_its_picture_while_its_connection_is_narrow() {
    let mut all = Vec::new();
    for layers in ["off", "auto"] {
        let seen = watch(layers).await;
        println!(
            "--layers {layers:<4}: smaller picture after {}, largest again after {}, longest gap {:.2} s, frozen {:.2} s of {} s",
            seconds(seen.smaller_after),
            seconds(seen.largest_after),
            seen.longest_gap,
            seen.frozen,
            (NARROW_FOR + WIDE_FOR).as_secs(),
        );
        all.push(seen);
    }
    let [without, with] = &all[..] else { unreachable!() };
    assert!(with.smaller_after.is_some() && with.largest_after.is_some(), "{with:?}");
    // A machine that is too slow to send much leaves little to freeze.
    assert!(
        without.frozen < 3.0 || with.frozen < without.frozen,
        "{with:?} {without:?}"
    );
}

fn seconds(time: Option<f64>) -> String {
    time.map_or("never".to_owned(), |time| format!("{time:.2} s"))
}

async fn a_connection_that_stays_narrow_is_left_alone() {
    let chrome = Chrome::launch().await;
    let server = Server::start().await;
    let broadcaster = broadcast(&chrome, &server).await;
    let (page, relay) = watch_through_relay(&chrome, &server).await;
    shows_the_largest(&page).await;
    let rate = narrow_rate(&page, true).await;
    relay.limit(rate);
    sleep(SETTLED).await;
    let (switched, shown) = (switches(&page).await, frames(&page).await);
    sleep(MINUTE).await;
    let (changes, frames) = (switches(&page).await - switched, frames(&page).await - shown);
    println!("{changes} changes of layer and {frames} frames in a minute at a constant {rate} bit/s");
    assert!(changes <= 1 && frames > 0, "{changes} {frames}");
    page.close().await;
    broadcaster.close().await;
}

/// How often the only viewer was sent another layer than before.
async fn switches(page: &Page) -> u64 {
    let script = "fetch('/api/sessions?role=viewer').then((answer) => answer.json()).then(({ sessions: [{ layer }] }) => layer.switches)";
    page.awaited(script).await.as_u64().unwrap()
}

/// Frames that were shown so far.
async fn frames(page: &Page) -> u64 {
    page.value("shownFrames.length").await.as_u64().unwrap()
}

/// A browser that is short of processor time sends smaller pictures in all sizes.
async fn shows_the_largest(page: &Page) {
    page.wait_until(
        "fetch('/api/streams/live').then((answer) => answer.json()).then(({ layers }) => \
         layers[0].height > 400 && layers[0].height === document.querySelector('#video').videoHeight)",
    )
    .await;
}

async fn broadcast(chrome: &Chrome, server: &Server) -> Page {
    let broadcaster = chrome
        .open(&server.url("/broadcast.html?stream=live&source=canvas&codec=VP8"))
        .await;
    broadcaster
        .wait_until("document.querySelector('#preview').srcObject !== null")
        .await;
    broadcaster.click("#go").await;
    broadcaster.wait_for_state("live").await;
    broadcaster
}

/// A viewer behind a relay that is wide.
async fn watch_through_relay(chrome: &Chrome, server: &Server) -> (Page, Relay) {
    let relay = Relay::start(server.udp()).await;
    let page = chrome.open(&server.url("/viewer.html?stream=live")).await;
    page.run(
        include_str!("narrow.js"),
        vec![json!(server.udp().port()), json!(relay.address.port())],
    )
    .await;
    page.click("#watch").await;
    page.wait_for_state("watching").await;
    (page, relay)
}

async fn watch(layers: &str) -> Seen {
    let chrome = Chrome::launch().await;
    let server = Server::start_with(&["--layers", layers]).await;
    let broadcaster = broadcast(&chrome, &server).await;
    let (page, relay) = watch_through_relay(&chrome, &server).await;
    shows_the_largest(&page).await;
    sleep(Duration::from_secs(3)).await;
    let narrow = page.value("performance.now()").await.as_f64().unwrap();
    relay.limit(narrow_rate(&page, layers == "auto").await);
    sleep(NARROW_FOR).await;
    let wide = page.value("performance.now()").await.as_f64().unwrap();
    relay.limit(WIDE);
    sleep(WIDE_FOR).await;
    let seen = seen(&page, narrow, wide).await;
    page.close().await;
    broadcaster.close().await;
    seen
}

/// Too little for the largest size, and enough for the next one.
async fn narrow_rate(page: &Page, has_layers: bool) -> u32 {
    if !has_layers {
        return NARROW;
    }
    let rates = page.awaited(
        "fetch('/api/streams/live').then((answer) => answer.json()).then(({ layers }) => layers.map(({ bitrate }) => bitrate))",
    );
    let rates: Vec<u32> = serde_json::from_value(rates.await).unwrap();
    (rates[0] / 2 + rates[1] / 2).min(NARROW)
}

async fn seen(page: &Page, narrow: f64, wide: f64) -> Seen {
    let frames = page.value("shownFrames").await;
    let frames: Vec<(f64, f64)> = serde_json::from_value(frames).unwrap();
    let top = frames.iter().map(|(_, height)| *height).fold(0.0, f64::max);
    let mut seen = Seen::default();
    let end = wide + WIDE_FOR.as_secs_f64() * 1_000.0;
    let later = frames.iter().filter(|(at, _)| *at >= narrow && *at <= end);
    let mut before = narrow;
    for (at, height) in later {
        let gap = (at - before) / 1_000.0;
        seen.longest_gap = seen.longest_gap.max(gap);
        seen.frozen += if gap > 0.3 { gap } else { 0.0 };
        before = *at;
        if *height < 0.7 * top {
            seen.smaller_after.get_or_insert((at - narrow) / 1_000.0);
        } else if *at > wide {
            seen.largest_after.get_or_insert((at - wide) / 1_000.0);
        }
    }
    seen
}

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
/// Bits per second. On a machine that is fast enough the largest size takes 1.7 Mbit/s, and the next one 0.5.
const WIDE: u32 = 5_000_000;
const NARROW: u32 = 1_000_000;
/// What is tried at first is over.
const SETTLED: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
const NARROW_FOR: Duration = Duration::from_secs(12);
const WIDE_FOR: Duration = Duration::from_secs(12);

//! How soon a new viewer has its picture, how a crowd of joining viewers affects those that watch, and what HTTP requests cost.
//!
//! `cargo bench --bench joins [-- --joins 100] [--crowd 1000] [--watchers 200] [--only idle|delayed|crowd|requests] [--reports]`. Linux
//! only. The server runs on core 0, everything else on core 1. The publisher ignores keyframe requests. Fails when a watcher lost a packet
//! or a viewer got no picture.

#[path = "joins/broadcast.rs"]
mod broadcast;
#[path = "joins/joiners.rs"]
mod joiners;
#[path = "joins/requests.rs"]
mod requests;
mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use onecast_clients::bench::clients::{Clients, Joining};
use onecast_clients::load::receiver::{Feedback, FrameDelay, ReceiverConfig};
use onecast_clients::load::signalling::{ClientId, Outcome};
use onecast_clients::load::spread::Spread;
use onecast_clients::load::viewer::JoinTimes;
use onecast_clients::load::workload::Video;
use onecast_udp::clock;

use broadcast::Broadcast;
use joiners::{Joiners, Visit};
use rig::{option, print_machine, start_server, wait};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &'static str, default| option(&args, name).map_or(Ok(default), str::parse).context(name);
    let joins: u32 = number("--joins", 100)?;
    let crowd: u32 = number("--crowd", 1_000)?;
    let watchers: u32 = number("--watchers", 200)?;
    let only = option(&args, "--only");
    let reports = args.iter().any(|arg| arg == "--reports");
    print_machine();

    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut failures = 0;
    if wanted("idle") {
        failures += one_by_one("idle", joins, Duration::ZERO, reports)?;
    }
    if wanted("delayed") {
        failures += one_by_one("delayed", joins, ONE_WAY, reports)?;
    }
    if wanted("crowd") {
        failures += crowded(crowd, watchers, reports)?;
    }
    if wanted("requests") {
        requests::compare()?;
    }
    if failures > 0 {
        bail!("{failures} failures: pictures that never came, or packets that watchers lost");
    }
    Ok(())
}

/// Viewers that join and leave one after the other on an otherwise idle server. Returns how many had no picture.
fn one_by_one(name: &str, joins: u32, one_way: Duration, reports: bool) -> Result<usize> {
    let server = start_server()?;
    let broadcast = Broadcast::start(
        server.http,
        Video {
            keyframe_interval: IDLE_KEYFRAME_INTERVAL,
            ..Video::W1
        },
    )?;
    wait(WARM_UP);
    println!(
        "\n{name}: {joins} viewers one by one, keyframe every {} s, {} ms each way for media{}",
        IDLE_WAIT_MAX.as_secs(),
        one_way.as_millis(),
        if one_way.is_zero() {
            ""
        } else {
            " (relay) and for HTTP (waited before and after the POST)"
        },
    );
    let joiners = Joiners::new(server.http, one_way, reports)?;
    let (visits, mut ages) = visit_one_by_one(joiners, &broadcast, joins)?;
    ages.sort_unstable();
    let (middle, oldest) = (ages.get(ages.len() / 2), ages.last());
    println!(
        "frames since the keyframe at the POST: p50 {}, max {}",
        middle.unwrap_or(&0),
        oldest.unwrap_or(&0)
    );
    let failed = print_visits(&visits);
    let requests = broadcast.stop()?.keyframe_requests;
    println!("keyframe requests at the publisher: {requests}");
    Ok(failed)
}

/// The visits, and how many frames after a keyframe each began.
fn visit_one_by_one(mut joiners: Joiners, broadcast: &Broadcast, joins: u32) -> Result<(Vec<Visit>, Vec<u64>)> {
    let mut moments = Moments::new(SEED);
    let mut visits = Vec::new();
    let mut ages = Vec::new();
    let mut limit = IDLE_WAIT_MAX;
    for number in 0..joins {
        wait(moments.next_below(limit));
        ages.push(broadcast.counts().frames % IDLE_KEYFRAME_INTERVAL);
        let visit = joiners.visit(number, |times| {
            let now = clock::unix_time();
            times.picture.is_some_and(|at| now >= at + STAY) || now >= times.posted + PICTURE_MAX
        })?;
        // A viewer that waited for a keyframe leaves at the start of a keyframe interval, so the next one may wait for any part of it.
        let waited = visit.times.picture.is_none_or(|at| at > visit.times.posted + STAY);
        limit = if waited { IDLE_WAIT_MAX } else { WAIT_MAX };
        visits.push(visit);
    }
    Ok((visits, ages))
}

/// When a viewer reached a step.
type Step = fn(&JoinTimes) -> Option<Duration>;

/// Prints a line for each step and returns how many viewers had no picture.
fn print_visits(visits: &[Visit]) -> usize {
    println!(
        "{:<28}{:>6}{:>9}{:>9}{:>9}{:>9}  ms",
        "POST ->", "of", "p50", "p95", "p99", "max"
    );
    let steps: [(&str, Step); 5] = [
        ("answer", |times| Some(times.answered)),
        ("DTLS done", |times| times.connected),
        ("first packet", |times| times.first_packet),
        ("decodable picture", |times| times.picture),
        ("caught up", |times| times.caught_up),
    ];
    for (name, step) in steps {
        let took = |visit: &Visit| Some(step(&visit.times)?.saturating_sub(visit.times.posted));
        let spread: Spread = visits.iter().filter_map(took).collect();
        println!("{name:<28}{:>6}{spread}", spread.len());
    }
    let lost: u64 = visits.iter().map(|visit| visit.lost).sum();
    let with_gaps = visits.iter().filter(|visit| visit.lost > 0).count();
    let failed = visits.iter().filter(|visit| visit.times.picture.is_none()).count();
    println!("packets missing since the first: {lost} at {with_gaps} viewers; without a picture: {failed}");
    failed
}

/// Many viewers join in one second while others watch. Returns the number of missing pictures and of packets that watchers lost.
fn crowded(crowd: u32, watchers: u32, reports: bool) -> Result<usize> {
    let server = start_server()?;
    let mut clients = Clients::new(
        server.http,
        "bench",
        ReceiverConfig {
            frame_interval: Some(Video::W1.frame_interval()),
            stamps: true,
            logs_frames: true,
            feedback: Feedback::FirstReport,
            ..ReceiverConfig::default()
        },
    )?;
    clients
        .join(Joining {
            count: watchers,
            at_once: 1,
            verified: VERIFIED.min(watchers),
        })
        .context("watchers cannot connect")?;
    println!(
        "\ncrowd: {crowd} viewers in {} s while {watchers} watch, keyframe every 2 s",
        RAMP.as_secs()
    );
    let broadcast = Broadcast::start(server.http, Video::W1)?;
    let watching = Watching::start(clients);
    wait(WARM_UP + BEFORE);
    let slowest_before = broadcast.take_slowest_send();
    let requests_before = broadcast.counts().keyframe_requests;
    let begin = clock::unix_time();
    let cpu = server.usage()?.cpu;
    let joiners = Joiners::new(server.http, Duration::ZERO, reports)?;
    let (visits, took, refused) = ramp(joiners, crowd)?;
    let end = clock::unix_time();
    let usage = server.usage()?;
    let busy = (usage.cpu - cpu).as_secs_f64() / (end - begin).as_secs_f64();
    let resident = usage.resident_bytes;
    let slowest = broadcast.take_slowest_send();
    let counts = broadcast.stop()?;
    wait(Video::W1.frame_interval());
    let watchers = watching.stop()?;

    println!(
        "all offers answered after {:.2} s, all live, seen so for 0.25 s and gone after {:.2} s; server's core {:.0} %, {:.0} MiB",
        took.as_secs_f64(),
        (end - begin).as_secs_f64(),
        busy * 100.0,
        resident as f64 / f64::from(1 << 20),
    );
    let failed = print_visits(&visits) + refused;
    println!(
        "offers refused: {refused}; keyframe requests at the publisher: {requests_before} before, {} during",
        counts.keyframe_requests - requests_before
    );
    let expected = counts.packets * watchers.viewers().len() as u64;
    let lost = expected.abs_diff(watchers.viewers().delivered()) + watchers.viewers().totals.unopened;
    println!("packets that the watchers lost: {lost} of {expected}",);
    print_deviations(&watchers, begin, end);
    println!(
        "of that, the load's own: a packet took the publisher at most {:.2} ms to send before, {:.2} ms during",
        slowest_before.as_secs_f64() * 1e3,
        slowest.as_secs_f64() * 1e3,
    );
    Ok(failed + lost as usize)
}

/// Lets the crowd join evenly, as fast as one core can. Returns the visits, how long the offers took, and how many were refused.
fn ramp(mut joiners: Joiners, crowd: u32) -> Result<(Vec<Visit>, Duration, usize)> {
    let start = clock::now();
    let (mut posted, mut answered, mut refused, mut took) = (0, 0, 0, Duration::ZERO);
    let mut watched: Vec<(usize, bool)> = Vec::new();
    let mut done = 0;
    while answered < crowd || done < watched.len() {
        let elapsed = clock::now().saturating_duration_since(start);
        let due = (elapsed.as_secs_f64() / RAMP.as_secs_f64() * f64::from(crowd)) as u32;
        while posted < crowd && posted <= due && posted - answered < OFFERS_AT_ONCE {
            joiners.signaller.join(ClientId::Viewer(CROWD_NUMBERS + posted));
            posted += 1;
        }
        joiners.pool.turn(Duration::from_millis(1))?;
        while let Some(outcome) = joiners.signaller.poll_outcome() {
            match outcome {
                Outcome::Admitted(admitted) => watched.push((joiners.pool.admit(*admitted, true)?, false)),
                Outcome::Refused(_, error) => {
                    refused += 1;
                    eprintln!("refused: {error}");
                }
                Outcome::Retrying | Outcome::Left { .. } => continue,
            }
            answered += 1;
            took = clock::now().saturating_duration_since(start);
        }
        done = settle(&mut joiners, &mut watched)?;
    }
    let visits = watched.iter().map(|(place, _)| joiners.leave(*place));
    Ok((visits.collect::<Result<_>>()?, took, refused))
}

/// Ignores the media of viewers that have been live for a while, or never will be. Returns how many these are by now.
fn settle(joiners: &mut Joiners, watched: &mut [(usize, bool)]) -> Result<usize> {
    let now = clock::unix_time();
    for (place, is_done) in watched.iter_mut().filter(|(_, is_done)| !is_done) {
        let viewer = joiners.pool.viewer(*place).context("the server ended a viewer")?;
        let times = viewer.times();
        let is_live = times.caught_up.is_some_and(|at| now >= at + CROWD_STAY);
        if is_live || now >= times.posted + PICTURE_MAX {
            joiners.pool.ignore_media(*place)?;
            *is_done = true;
        }
    }
    Ok(watched.iter().filter(|(_, is_done)| *is_done).count())
}

/// Watchers that receive on their own thread.
struct Watching {
    stops: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Clients>>,
}

impl Watching {
    fn start(mut clients: Clients) -> Watching {
        let stops = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stops = stops.clone();
            move || {
                while !stops.load(Ordering::Acquire) {
                    clients.turn_until(clock::now() + Video::W1.frame_interval() / 4)?;
                }
                clients.settle()?;
                Ok(clients)
            }
        });
        Watching { stops, thread }
    }

    fn stop(self) -> Result<Clients> {
        self.stops.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(clients) => clients.context("the server ended a watcher"),
            Err(_) => bail!("the watchers' thread panicked"),
        }
    }
}

/// Delays of frames at the verified viewers, and their deviation from the viewer's median before the crowd. Keyframes are separate:
/// sending 40 packets to every viewer takes time, with or without a crowd.
fn print_deviations(watchers: &Clients, begin: Duration, end: Duration) {
    println!(
        "{:<28}{:>6}{:>9}{:>9}{:>9}{:>9}  ms, kernel's times of arrival",
        "verified watchers", "of", "p50", "p95", "p99", "max"
    );
    let is_keyframe = |frame: &FrameDelay| frame.frame.is_multiple_of(Video::W1.keyframe_interval);
    for (kind, keyframes) in [("frames", false), ("keyframes", true)] {
        for (when, from, to) in [("before", begin - BEFORE, begin), ("during", begin, end)] {
            let (mut delays, mut deviations) = (Vec::new(), Vec::new());
            for viewer in watchers.viewers().viewers().filter(|viewer| viewer.is_verified()) {
                let of_kind = viewer.delays().iter().filter(|frame| is_keyframe(frame) == keyframes);
                let delays_between = |from: Duration, to: Duration| {
                    let between = of_kind.clone().filter(move |frame| (from..to).contains(&frame.sent));
                    between.map(|frame| frame.delay)
                };
                let quiet: Spread = delays_between(begin - BEFORE, begin).collect();
                let usual = quiet.percentile(50.0);
                delays.extend(delays_between(from, to));
                deviations.extend(delays_between(from, to).map(|delay| delay.abs_diff(usual)));
            }
            for (what, times) in [("delay", delays), ("deviation", deviations)] {
                let spread: Spread = times.into_iter().collect();
                println!("{:<28}{:>6}{spread}", format!("{kind}, {what} {when}"), spread.len());
            }
        }
    }
}

/// Random moments that are the same in each run.
struct Moments(u64);

impl Moments {
    fn new(seed: u64) -> Moments {
        Moments(seed)
    }

    fn next_below(&mut self, limit: Duration) -> Duration {
        // The multiplier and increment of Knuth's MMIX; the high half is the random one.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        limit.mul_f64((self.0 >> 32) as f64 / f64::from(u32::MAX))
    }
}

/// 10 s, frames.
const IDLE_KEYFRAME_INTERVAL: u64 = 300;
/// Delay of the relay: 50 ms round trip.
const ONE_WAY: Duration = Duration::from_millis(25);
/// Time before the first join, for the stream to start.
const WARM_UP: Duration = Duration::from_secs(1);
/// [`IDLE_KEYFRAME_INTERVAL`], as time.
const IDLE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest pause between two visits. Together with the length of visits, joins cover all ages of a keyframe.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Time after the picture, to see whether everything arrives.
const STAY: Duration = Duration::from_secs(1);
/// The same for a crowd, whose media one core cannot decrypt for long.
const CROWD_STAY: Duration = Duration::from_millis(250);
/// A keyframe interval and some more: after this, no picture is expected.
const PICTURE_MAX: Duration = Duration::from_secs(12);
/// Time in which a crowd joins.
const RAMP: Duration = Duration::from_secs(1);
/// Offers in flight. More would only open more connections.
const OFFERS_AT_ONCE: u32 = 16;
/// Watchers have lower numbers.
const CROWD_NUMBERS: u32 = 1 << 20;
/// Quiet time for comparison.
const BEFORE: Duration = Duration::from_secs(6);
/// Watchers that decrypt every packet.
const VERIFIED: u32 = 8;
const SEED: u64 = 0x6a6f_696e;

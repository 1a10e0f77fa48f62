//! How fast a new viewer has its picture, and what a crowd of them does to those who watch.
//!
//! `cargo bench --bench joins [-- --joins 100] [--crowd 1000] [--watchers 200] [--only idle|delayed|crowd] [--reports]`. Linux only.
//! The server runs on core 0, everything else on core 1. The publisher ignores keyframe requests. Fails when a watcher lost a packet
//! or a viewer never got a picture.

mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use onecast_clients::load::bench::OwnServer;
use onecast_clients::load::broadcast::Broadcast;
use onecast_clients::load::joiner::JoinTimes;
use onecast_clients::load::joiners::{Admission, Invitation, Joiners};
use onecast_clients::load::publisher::Publisher;
use onecast_clients::load::session::Session;
use onecast_clients::load::signalling::Signalling;
use onecast_clients::load::spread::Spread;
use onecast_clients::load::viewers::{FrameDelay, Received, Viewers};
use onecast_rtc::Certificate;
use onecast_udp::clock;

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
        failures += crowded(crowd, watchers as usize, reports)?;
    }
    if failures > 0 {
        bail!("{failures} failures: pictures that never came, or packets that watchers lost");
    }
    Ok(())
}

/// A server with a running stream.
struct Stage {
    server: OwnServer,
    signalling: Signalling,
    certificate: Certificate,
    invitation: Invitation,
}

impl Stage {
    fn new(one_way: Duration, reports: bool) -> Result<Stage> {
        let server = start_server()?;
        let certificate = Certificate::generate()?;
        Ok(Stage {
            signalling: Signalling::connect(server.http)?,
            server,
            invitation: Invitation {
                path: "/whep/bench".into(),
                certificate: certificate.clone(),
                one_way,
                reports,
            },
            certificate,
        })
    }

    fn broadcast(&mut self, keyframe_interval: u64) -> Result<Broadcast> {
        let session = Session::connect(&mut self.signalling, "/whip/bench", u32::MAX, true, &self.certificate)?;
        let publisher = Publisher::new(session).with_keyframe_interval(keyframe_interval);
        Ok(Broadcast::start(publisher))
    }
}

/// What became of one viewer.
struct Outcome {
    times: JoinTimes,
    lost: u64,
}

/// Viewers that come and go one after the other on an otherwise idle server. Returns how many had no picture.
fn one_by_one(name: &str, joins: u32, one_way: Duration, reports: bool) -> Result<usize> {
    let mut stage = Stage::new(one_way, reports)?;
    let broadcast = stage.broadcast(IDLE_KEYFRAME_INTERVAL)?;
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
    let (outcomes, mut ages) = visits(&stage, &broadcast, joins)?;
    ages.sort_unstable();
    let (requests, oldest) = (broadcast.keyframe_requests(), ages.last().copied().unwrap_or(0));
    let middle = ages.get(ages.len() / 2).copied().unwrap_or(0);
    println!("frames since the keyframe at the POST: p50 {middle}, most {oldest}");
    broadcast.stop()?;
    let failed = print_outcomes(&outcomes);
    println!("keyframe requests at the publisher: {requests}");
    Ok(failed)
}

/// What became of the visits, and how many frames after a keyframe each began.
fn visits(stage: &Stage, broadcast: &Broadcast, joins: u32) -> Result<(Vec<Outcome>, Vec<u64>)> {
    let mut joiners = Joiners::new()?;
    let mut moments = Moments::new(SEED);
    let mut outcomes = Vec::new();
    let mut ages = Vec::new();
    let mut limit = IDLE_WAIT_MAX;
    for number in 0..joins {
        wait(moments.next_below(limit));
        ages.push(broadcast.frames() % IDLE_KEYFRAME_INTERVAL);
        // The server closes a connection that was idle for as long as a visit may last.
        let mut signalling = Signalling::connect(stage.server.http)?;
        let admission = stage.invitation.accept(&mut signalling, number)?;
        let outcome = one_visit(&mut joiners, admission)?;
        // Who waited for a keyframe leaves at the start of an interval: then any moment of the next one is as good as another.
        let waited = outcome.times.picture.is_none_or(|at| at > outcome.times.posted + STAY);
        limit = if waited { IDLE_WAIT_MAX } else { WAIT_MAX };
        outcomes.push(outcome);
    }
    Ok((outcomes, ages))
}

/// Stays until [`STAY`] after the picture.
fn one_visit(joiners: &mut Joiners, admission: Admission) -> Result<Outcome> {
    let place = joiners.admit(admission)?;
    loop {
        joiners.turn(Duration::from_millis(20))?;
        let joiner = joiners.joiner(place).context("the viewer is there")?;
        let (times, now) = (joiner.times(), clock::unix_time());
        let has_seen_enough = times.picture.is_some_and(|at| now >= at + STAY);
        if has_seen_enough || now >= times.posted + PATIENCE || joiner.is_closed() {
            break;
        }
    }
    let (times, lost) = joiners.leave(place).context("the viewer is there")?;
    Ok(Outcome { times, lost })
}

/// When a viewer got so far.
type Step = fn(&JoinTimes) -> Option<Duration>;

/// Prints a line for each step and returns how many viewers had no picture.
fn print_outcomes(outcomes: &[Outcome]) -> usize {
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
        let took = |outcome: &Outcome| Some(step(&outcome.times)?.saturating_sub(outcome.times.posted));
        let spread: Spread = outcomes.iter().filter_map(took).collect();
        println!("{name:<28}{:>6}{spread}", spread.len());
    }
    let lost: u64 = outcomes.iter().map(|outcome| outcome.lost).sum();
    let with_gaps = outcomes.iter().filter(|outcome| outcome.lost > 0).count();
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.times.picture.is_none())
        .count();
    println!("packets missing since the first: {lost} at {with_gaps} viewers; without a picture: {failed}");
    failed
}

/// Many viewers in one second while others watch. Returns pictures that never came and packets that watchers lost.
fn crowded(crowd: u32, watchers: usize, reports: bool) -> Result<usize> {
    let mut stage = Stage::new(Duration::ZERO, reports)?;
    let mut viewers = Viewers::connect(
        &mut stage.signalling,
        "/whep/bench",
        watchers,
        VERIFIED.min(watchers),
        &stage.certificate,
    )
    .context("watchers cannot connect")?;
    viewers.note_delays()?;
    println!(
        "\ncrowd: {crowd} viewers in {} s while {watchers} watch, keyframe every 2 s",
        RAMP.as_secs()
    );
    let broadcast = stage.broadcast(Publisher::KEYFRAME_INTERVAL)?;
    let watching = Watching::start(viewers);
    wait(WARM_UP + BEFORE);
    let slowest_before = broadcast.take_slowest_send();
    let requests_before = broadcast.keyframe_requests();
    let begin = clock::unix_time();
    let cpu = stage.server.usage()?.cpu;
    let (outcomes, took, refused) = ramp(&stage, crowd)?;
    let end = clock::unix_time();
    let usage = stage.server.usage()?;
    let busy = (usage.cpu - cpu).as_secs_f64() / (end - begin).as_secs_f64();
    let resident = usage.resident_bytes;
    let requests = broadcast.keyframe_requests();
    let slowest = broadcast.take_slowest_send();
    let published = broadcast.stop()?;
    wait(Publisher::FRAME_INTERVAL);
    let viewers = watching.stop()?;

    println!(
        "all offers answered after {:.2} s, all live, seen so for 0.25 s and gone after {:.2} s; server's core {:.0} %, {:.0} MiB",
        took.as_secs_f64(),
        (end - begin).as_secs_f64(),
        busy * 100.0,
        resident as f64 / f64::from(1 << 20),
    );
    let failed = print_outcomes(&outcomes) + refused;
    println!(
        "offers refused: {refused}; keyframe requests at the publisher: {requests_before} before, {} during",
        requests - requests_before
    );
    let lost = lost_of(&viewers, published)?;
    println!(
        "packets that the watchers lost: {lost} of {}",
        published * viewers.len() as u64
    );
    print_deviations(&viewers, begin, end);
    println!(
        "of that, the load's own: a packet took the publisher at most {:.2} ms to send before, {:.2} ms during",
        slowest_before.as_secs_f64() * 1e3,
        slowest.as_secs_f64() * 1e3,
    );
    Ok(failed + lost as usize)
}

/// Lets the crowd in evenly, as fast as one core can. Returns what became of them, how long their offers took, and how many were
/// refused.
fn ramp(stage: &Stage, crowd: u32) -> Result<(Vec<Outcome>, Duration, usize)> {
    let mut joiners = Joiners::new()?;
    let waker = joiners.waker()?;
    let connect = |_| Signalling::connect(stage.server.http);
    let connections: Vec<Signalling> = (0..DOORMEN).map(connect).collect::<Result<_, _>>()?;
    let (next, start) = (AtomicU32::new(0), clock::now());
    std::thread::scope(|scope| {
        let (admit, admitted) = channel();
        for mut signalling in connections {
            let (admit, next, waker) = (admit.clone(), &next, &waker);
            scope.spawn(move || {
                let due = |number| start + RAMP.mul_f64(f64::from(number) / f64::from(crowd));
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&number| number < crowd) {
                    wait(due(number).saturating_duration_since(clock::now()));
                    let admission = stage.invitation.accept(&mut signalling, CROWD_NUMBERS + number);
                    if admit.send(admission).is_err() || waker.wake().is_err() {
                        return;
                    }
                }
            });
        }
        drop(admit);
        let mut watched = Vec::new();
        let (mut answered, mut done, mut refused, mut took) = (0, 0, 0, Duration::ZERO);
        while answered < crowd || done < watched.len() {
            joiners.turn(Duration::from_millis(5))?;
            for admission in admitted.try_iter() {
                answered += 1;
                took = start.elapsed();
                match admission {
                    Ok(admission) => watched.push((joiners.admit(admission)?, false)),
                    Err(error) => {
                        refused += 1;
                        eprintln!("refused: {error}");
                    }
                }
            }
            done = settle(&mut joiners, &mut watched)?;
        }
        let outcome = |&(place, _): &(usize, bool)| joiners.leave(place);
        let left: Vec<_> = watched.iter().filter_map(outcome).collect();
        let outcomes = left.into_iter().map(|(times, lost)| Outcome { times, lost }).collect();
        Ok((outcomes, took, refused))
    })
}

/// Looks no longer at viewers that have been live for a while, or never will be. Returns how many these are by now.
fn settle(joiners: &mut Joiners, watched: &mut [(usize, bool)]) -> Result<usize> {
    let now = clock::unix_time();
    for (place, is_done) in watched.iter_mut().filter(|(_, is_done)| !is_done) {
        let joiner = joiners.joiner(*place).context("nobody left")?;
        let times = joiner.times();
        let is_live = times.caught_up.is_some_and(|at| now >= at + CROWD_STAY);
        if is_live || joiner.is_closed() || now >= times.posted + PATIENCE {
            joiners.ignore_media(*place)?;
            *is_done = true;
        }
    }
    Ok(watched.iter().filter(|(_, is_done)| *is_done).count())
}

/// Watchers whom a thread of their own keeps alive.
struct Watching {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Viewers>>,
}

impl Watching {
    fn start(mut viewers: Viewers) -> Watching {
        let ends = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let ends = ends.clone();
            move || {
                while !ends.load(Ordering::Acquire) {
                    viewers.turn(clock::now())?;
                    wait(Publisher::FRAME_INTERVAL / 4);
                }
                viewers.turn(clock::now())?;
                Ok(viewers)
            }
        });
        Watching { ends, thread }
    }

    fn stop(self) -> Result<Viewers> {
        self.ends.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(viewers) => viewers.context("the server ended a watcher"),
            Err(_) => bail!("the watchers' thread ended"),
        }
    }
}

/// All were there before the first packet, so each should have all of them.
fn lost_of(viewers: &Viewers, published: u64) -> Result<u64> {
    if viewers.is_empty() {
        return Ok(0);
    }
    let Received {
        filtered,
        verified_least,
        lost,
    } = viewers.received()?;
    let expected = published * viewers.filtered() as u64;
    Ok(expected.abs_diff(filtered) + published.abs_diff(verified_least) + lost)
}

/// How long frames took from the publisher to the verified viewers, and how far that is from the viewer's median of the quiet
/// time. Keyframes stand apart: sending 40 packets to everybody takes its time, with or without a crowd.
fn print_deviations(viewers: &Viewers, begin: Duration, end: Duration) {
    println!(
        "{:<28}{:>6}{:>9}{:>9}{:>9}{:>9}  ms, kernel's times of arrival",
        "verified watchers", "of", "p50", "p95", "p99", "max"
    );
    let is_keyframe = |frame: &FrameDelay| frame.frame.is_multiple_of(Publisher::KEYFRAME_INTERVAL);
    for (kind, keyframes) in [("frames", false), ("keyframes", true)] {
        for (when, from, to) in [("before", begin - BEFORE, begin), ("during", begin, end)] {
            let (mut delays, mut deviations) = (Vec::new(), Vec::new());
            for frames in viewers.delays() {
                let of_kind = frames.iter().filter(|frame| is_keyframe(frame) == keyframes);
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

/// Moments that look random and are the same in each run.
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

/// 10 s.
const IDLE_KEYFRAME_INTERVAL: u64 = 300;
/// Of the relay: 50 ms there and back.
const ONE_WAY: Duration = Duration::from_millis(25);
/// Before the first join, for the stream to run.
const WARM_UP: Duration = Duration::from_secs(1);
/// [`IDLE_KEYFRAME_INTERVAL`], as time.
const IDLE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Between two visits without a wait for a keyframe; with the time of the visits all ages of a keyframe come up.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// After the picture, to see whether all that follows arrives.
const STAY: Duration = Duration::from_secs(1);
/// The same of a crowd, whose media one core cannot open for long.
const CROWD_STAY: Duration = Duration::from_millis(250);
/// A keyframe interval and some more: then there will be no picture.
const PATIENCE: Duration = Duration::from_secs(12);
/// In which a crowd arrives.
const RAMP: Duration = Duration::from_secs(1);
/// Threads that post the offers of a crowd, each over its own connection.
const DOORMEN: usize = 4;
/// The watchers have the numbers below.
const CROWD_NUMBERS: u32 = 1 << 20;
/// Quiet time to compare with.
const BEFORE: Duration = Duration::from_secs(6);
/// Watchers that open every packet.
const VERIFIED: usize = 8;
const SEED: u64 = 0x6a6f_696e;

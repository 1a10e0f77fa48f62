//! `onecast bench`: floor and server in one run, compared. Linux only: it reads /proc and drops media in the kernel.
//!
//! For each number of viewers it measures, on one core: the floor without a pause, the floor in the publisher's rhythm, the server (this
//! program, as a process of its own) with that many viewers, and the floors again. The load is on another core.

mod crypto_floor;
mod delays;
mod own_server;
mod report;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::floor::{FloorConfig, FloorReport, Rhythm, Sinks, floor};
use super::publisher::Publisher;
use super::session::Session;
use super::signalling::Signalling;
use super::viewers::{Received, Viewers};
use super::workload::{Video, Workload};
use crate::values::duration;
pub use crypto_floor::crypto_floor;
use delays::Delays;
use onecast_rtc::Certificate;
use onecast_rtc::client_peer::ClientPeer;
use onecast_rtc::transmit::Run;
use onecast_udp::clock;
use onecast_udp::raise_open_files;
pub use own_server::{OwnServer, SentTotals};
use report::Report;

/// Options of `onecast bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Numbers of viewers, each a run of its own
    #[arg(long, value_name = "N,N", default_value = "100,1000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub viewers: Vec<u32>,

    /// What is published: w1, 30 frames a second of 6 packets, or w2, 60 of 12
    #[arg(long, value_name = "NAME", default_value = "w1", value_parser = video)]
    pub workload: Video,

    /// How long each server is measured
    #[arg(long = "for", value_name = "TIME", default_value = "8s", value_parser = duration)]
    pub time: Duration,

    /// Frames a second [default: the workload's, and less when there are more viewers than one core carries]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=240))]
    pub frame_rate: Option<u16>,

    /// Let floor, server and load run on all cores, not each on one of its own
    #[arg(long)]
    pub unpinned: bool,

    /// Media threads of the server; they share the server's core unless --unpinned
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub shards: u16,

    /// Viewers that join to measure what a join costs, first one by one, then eight at a time; 0 for none
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub joins: u32,

    /// Viewers that are connected while nobody publishes, to measure what they cost at rest; 0 for none
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub idle: u32,

    /// Fail when the floor in the publisher's rhythm is less than this share of the server's cost, at the largest number of viewers
    #[arg(long, value_name = "RATIO")]
    pub min_ratio: Option<f64>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Measures and prints. Returns the exit code: 0, 1 when a packet was lost or the ratio is too low, 2 when it cannot be run.
pub fn run(args: &BenchArgs) -> u8 {
    match measure(args) {
        Ok(report) => {
            print!("{}", if args.json { report.json() } else { report.table() });
            let failures = report.failures(args.min_ratio);
            failures.iter().for_each(|failure| eprintln!("failed: {failure}"));
            u8::from(!failures.is_empty())
        }
        Err(error) => {
            eprintln!("error: the benchmark cannot be run: {error}");
            2
        }
    }
}

fn measure(args: &BenchArgs) -> io::Result<Report> {
    if !cfg!(target_os = "linux") {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it needs Linux"));
    }
    let most = args.viewers.iter().copied().chain([args.idle, 2 * args.joins]).max();
    // A socket for each viewer, or for each destination of a floor; besides, what any process has open.
    let needed = u64::from(most.unwrap_or(0)) + 100;
    if let Some(limit) = raise_open_files(needed)?
        && limit < needed
    {
        let why = format!("it needs {needed} open files and may have {limit}; raise the limit (ulimit -n {needed})");
        return Err(io::Error::other(why));
    }
    let stage = Stage::new(args)?;
    let mut report = Report::new();
    if args.joins > 0 {
        eprintln!("{} joins", args.joins);
        report.joins = Some(stage.joins(args.joins)?);
    }
    if args.idle > 0 {
        eprintln!("{} idle viewers", args.idle);
        report.idle = Some(stage.idle(args.idle, args.time)?);
    }
    for &viewers in &args.viewers {
        eprintln!("{viewers} viewers");
        report.rows.push(stage.row(viewers as usize, args.time)?);
    }
    Ok(report)
}

/// One number of viewers.
#[derive(Debug, Clone)]
struct Row {
    viewers: usize,
    frame_rate: f64,
    /// Without a pause, before and after.
    floor: [FloorReport; 2],
    /// In the publisher's rhythm to a socket for each viewer, before and after.
    paced: [FloorReport; 2],
    server: ServerRun,
}

/// What one server did.
#[derive(Debug, Clone)]
struct ServerRun {
    ns_per_packet_viewer: f64,
    /// Packets times viewers that should have arrived.
    packets: u64,
    lost: u64,
    /// Share of one core.
    busy: f64,
    /// Bytes while all watched.
    resident: u64,
    sent: SentTotals,
    delays: Delays,
}

/// What joins cost.
#[derive(Debug, Clone, Copy)]
struct Joins {
    count: u32,
    /// CPU of the server for each that joins alone.
    alone: Duration,
    /// CPU of the server for each of those that join [`AT_A_TIME`] at a time.
    together: Duration,
    /// The public-key operations of one, before and after.
    floor: [Duration; 2],
}

/// What viewers cost while nothing is published.
#[derive(Debug, Clone, Copy)]
struct Idle {
    viewers: u32,
    /// Share of one core.
    busy: f64,
    /// Bytes.
    resident: u64,
}

/// Where everything runs.
struct Stage {
    program: PathBuf,
    options: Vec<String>,
    cores: Vec<core_affinity::CoreId>,
    frame_rate: Option<u16>,
    video: Video,
}

/// The moment at which a measurement starts or ends.
struct Moment {
    at: Instant,
    cpu: Duration,
    published: u64,
    received: Received,
    sent: SentTotals,
}

impl Stage {
    fn new(args: &BenchArgs) -> io::Result<Stage> {
        let options = ["--shards", &args.shards.to_string(), "--pli-interval", "0"];
        Ok(Stage {
            program: std::env::current_exe()?,
            options: options.map(str::to_owned).to_vec(),
            cores: if args.unpinned {
                Vec::new()
            } else {
                core_affinity::get_core_ids().unwrap_or_default()
            },
            frame_rate: args.frame_rate,
            video: args.workload,
        })
    }

    /// From now on this thread, and what it starts, is where the server is.
    fn go_to_server(&self) {
        self.go_to(self.cores.first());
    }

    /// The load's core is the last one.
    fn go_to_load(&self) {
        self.go_to(self.cores.last());
    }

    /// Where that is not possible the figures are noisier, not wrong.
    fn go_to(&self, core: Option<&core_affinity::CoreId>) {
        core.map(|&core| core_affinity::set_for_current(core));
    }

    fn start_server(&self) -> io::Result<OwnServer> {
        self.go_to_server();
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let server = OwnServer::start(&self.program, &options);
        self.go_to_load();
        server
    }

    fn row(&self, viewers: usize, time: Duration) -> io::Result<Row> {
        let share = PACKETS_OF_A_CORE / (viewers as f64 * self.video.packet_rate());
        let carried = f64::from(self.video.rate) * share.min(1.0);
        let frame_rate = self.frame_rate.map_or(carried, f64::from);
        let interval = Duration::from_secs_f64(1.0 / frame_rate);
        let floor_before = self.floor(viewers)?;
        let paced_before = self.paced_floor(viewers, interval, time)?;
        let server = self.server_run(viewers, interval, time)?;
        let paced_after = self.paced_floor(viewers, interval, time)?;
        Ok(Row {
            viewers,
            frame_rate,
            floor: [floor_before, self.floor(viewers)?],
            paced: [paced_before, paced_after],
            server,
        })
    }

    fn floor(&self, viewers: usize) -> io::Result<FloorReport> {
        self.run_floor(&FloorConfig {
            frames: (FLOOR_PACKETS / viewers / self.video.frame_packets as usize).max(1),
            sinks: Sinks::Dropped,
            ..self.frames(viewers)
        })
    }

    fn paced_floor(&self, viewers: usize, interval: Duration, time: Duration) -> io::Result<FloorReport> {
        self.run_floor(&FloorConfig {
            frames: frames_in(time, interval) as usize,
            rhythm: Some(Rhythm {
                interval,
                keyframe_interval: self.video.keyframe_interval as usize,
                // A run holds no more.
                keyframe_packets: self.video.keyframe_packets.min(Run::SEGMENTS_MAX.into()) as usize,
            }),
            sinks: Sinks::DroppedEach,
            ..self.frames(viewers)
        })
    }

    fn frames(&self, viewers: usize) -> FloorConfig {
        FloorConfig {
            viewers,
            packets_per_frame: self.video.frame_packets as usize,
            datagram_bytes: Publisher::DATAGRAM_BYTES,
            ..FloorConfig::default()
        }
    }

    fn run_floor(&self, config: &FloorConfig) -> io::Result<FloorReport> {
        self.go_to_server();
        let report = floor(config);
        self.go_to_load();
        let report = report?;
        if report.dropped > 0 {
            let why = format!("the kernel refused {} datagrams of the floor", report.dropped);
            return Err(io::Error::other(why));
        }
        Ok(report)
    }

    fn server_run(&self, count: usize, interval: Duration, time: Duration) -> io::Result<ServerRun> {
        let server = self.start_server()?;
        let certificate = Certificate::generate().map_err(io::Error::other)?;
        let mut signalling = Signalling::connect(server.http)?;
        let session = Session::connect(&mut signalling, "/whip/bench", u32::MAX, true, &certificate)?;
        let mut publisher = Publisher::new(session).with_video(self.video);
        let verified = VERIFIED.min(count);
        let mut viewers = Viewers::connect(&mut signalling, "/whep/bench", count, verified, &certificate)?;

        publish(&mut publisher, &mut viewers, interval, WARM_UP)?;
        settle(&mut viewers)?;
        viewers.note_delays()?;
        let start = Moment::now(&server, &publisher, &viewers)?;
        publish(&mut publisher, &mut viewers, interval, time)?;
        let published_until = clock::now();
        settle(&mut viewers)?;
        let end = Moment::now(&server, &publisher, &viewers)?;

        let published = end.published - start.published;
        let packets = published * viewers.len() as u64;
        let cpu = (end.cpu - start.cpu).as_nanos() as f64;
        Ok(ServerRun {
            ns_per_packet_viewer: cpu / packets as f64,
            packets,
            lost: lost_between(&start, &end, viewers.filtered() as u64),
            busy: cpu / (published_until - start.at).as_nanos() as f64,
            resident: server.usage()?.resident_bytes,
            sent: SentTotals {
                datagrams: end.sent.datagrams - start.sent.datagrams,
                calls: end.sent.calls - start.sent.calls,
                gso_runs: end.sent.gso_runs - start.sent.gso_runs,
            },
            delays: Delays::of(&viewers, self.video.keyframe_interval),
        })
    }

    /// Viewers that keep their consent and get nothing. At least two of their check intervals are measured.
    fn idle(&self, count: u32, time: Duration) -> io::Result<Idle> {
        let server = self.start_server()?;
        let certificate = Certificate::generate().map_err(io::Error::other)?;
        let mut signalling = Signalling::connect(server.http)?;
        let mut viewers = Viewers::connect(&mut signalling, "/whep/bench", count as usize, 0, &certificate)?;
        let time = time.max(2 * ClientPeer::CHECK_INTERVAL);
        let (start, cpu) = (clock::now(), server.usage()?.cpu);
        while clock::now() < start + time {
            viewers.turn(clock::now())?;
            wait(TURN);
        }
        Ok(Idle {
            viewers: count,
            busy: (server.usage()?.cpu - cpu).as_secs_f64() / (clock::now() - start).as_secs_f64(),
            resident: server.usage()?.resident_bytes,
        })
    }

    /// Viewers that join while nobody publishes: everything that the server does is for them.
    fn joins(&self, count: u32) -> io::Result<Joins> {
        let floor = || {
            self.go_to_server();
            let floor = crypto_floor().map_err(io::Error::other);
            self.go_to_load();
            floor
        };
        let before = floor()?;
        let server = self.start_server()?;
        let certificate = Certificate::generate().map_err(io::Error::other)?;
        let connect = |count: u32| {
            let mut signalling = Signalling::connect(server.http)?;
            Viewers::connect(&mut signalling, "/whep/bench", count as usize, 0, &certificate)
        };
        let cost = |join: &mut dyn FnMut() -> io::Result<Vec<Viewers>>| {
            let cpu = server.usage()?.cpu;
            let joined: usize = join()?.iter().map(Viewers::len).sum();
            Ok::<_, io::Error>((server.usage()?.cpu - cpu) / joined as u32)
        };
        let _warm = connect(count.div_ceil(10))?;
        let alone = cost(&mut || Ok(vec![connect(count)?]))?;
        let together = cost(&mut || {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..AT_A_TIME)
                    .map(|_| scope.spawn(|| connect(count.div_ceil(AT_A_TIME))))
                    .collect();
                let joined = threads
                    .into_iter()
                    .map(|thread| thread.join().expect("joining does not panic"));
                joined.collect()
            })
        })?;
        Ok(Joins {
            count,
            alone,
            together,
            floor: [before, floor()?],
        })
    }
}

impl Moment {
    fn now(server: &OwnServer, publisher: &Publisher, viewers: &Viewers) -> io::Result<Moment> {
        let sent = server.sent()?;
        Ok(Moment {
            at: clock::now(),
            cpu: server.usage()?.cpu,
            published: publisher.packets(),
            received: viewers.received()?,
            sent,
        })
    }
}

/// Packets that should have arrived between two moments at which nothing was on its way, and did not; and those that are too many.
fn lost_between(start: &Moment, end: &Moment, filtered_viewers: u64) -> u64 {
    let published = end.published - start.published;
    let filtered = end.received.filtered - start.received.filtered;
    let opened = end.received.verified_least - start.received.verified_least;
    (published * filtered_viewers).abs_diff(filtered)
        + published.abs_diff(opened)
        + (end.received.lost - start.received.lost)
}

/// Waits until nothing more arrives: many viewers get the last frame long after it was published.
fn settle(viewers: &mut Viewers) -> io::Result<()> {
    let end = clock::now() + SETTLING_MAX;
    let mut before = viewers.received()?;
    while clock::now() < end {
        wait(SETTLED_AFTER);
        viewers.turn(clock::now())?;
        let received = viewers.received()?;
        if received == before {
            break;
        }
        before = received;
    }
    Ok(())
}

/// Frames in real time; returns an interval after the last one.
fn publish(publisher: &mut Publisher, viewers: &mut Viewers, interval: Duration, time: Duration) -> io::Result<()> {
    let start = clock::now();
    for frame in 0..frames_in(time, interval) {
        publisher.send_frame()?;
        let next = start + interval * (frame + 1);
        loop {
            let now = clock::now();
            viewers.turn(now)?;
            publisher.turn(now)?;
            let Some(left) = next.checked_duration_since(clock::now()) else {
                break;
            };
            wait(left.min(TURN));
        }
    }
    Ok(())
}

fn frames_in(time: Duration, interval: Duration) -> u32 {
    (time.as_nanos() / interval.as_nanos()).max(1) as u32
}

fn video(name: &str) -> Result<Video, String> {
    let found = [Workload::W1, Workload::W2]
        .into_iter()
        .find(|workload| workload.name() == name);
    let expected = || "expected w1 or w2; onecast load knows others, with audio".to_owned();
    found.and_then(Workload::video).ok_or_else(expected)
}

#[expect(clippy::disallowed_methods, reason = "the load is paced in real time")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// Packets times viewers a second that one core carries well: 1,500 viewers of W1. More viewers get fewer frames.
const PACKETS_OF_A_CORE: f64 = 300_000.0;
/// Packets times viewers of the floor without a pause: 2 s.
const FLOOR_PACKETS: usize = 1_800_000;
/// Viewers that open every packet, spread evenly over all.
const VERIFIED: usize = 4;
/// Viewers that join at the same time, each when the one before it is connected.
const AT_A_TIME: u32 = 8;
/// A keyframe interval and some more, so that all have started.
const WARM_UP: Duration = Duration::from_secs(3);
/// Nothing arrived for so long: nothing is on its way any more.
const SETTLED_AFTER: Duration = Duration::from_millis(100);
/// The longest that is waited for the last frames.
const SETTLING_MAX: Duration = Duration::from_secs(3);
/// Between looks at what the server says.
const TURN: Duration = Duration::from_millis(8);

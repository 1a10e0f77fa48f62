//! What forwarding costs: CPU per packet x viewer of the real server, beside sealing and sending with no server around it.
//!
//! `cargo bench --bench fanout [-- --viewers 200,1000] [--seconds 8]`. Linux only: it reads /proc. Server and floor run on core 0,
//! the load on core 1. Fails when a viewer misses a packet.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use onecast::clock;
use onecast::load::floor::{FloorConfig, FloorReport, Sinks, floor};
use onecast::load::publisher::Publisher;
use onecast::load::session::Session;
use onecast::load::signalling::Signalling;
use onecast::load::viewers::{Received, Viewers};
use onecast::peer::Certificate;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let counts: Vec<usize> = option(&args, "--viewers")
        .unwrap_or("200,1000")
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context("--viewers takes numbers with commas between them")?;
    let seconds: u64 = option(&args, "--seconds").unwrap_or("8").parse().context("--seconds")?;
    print_machine();

    let mut memory = Vec::new();
    let mut lost = 0;
    println!(
        "\nviewers | floor before, after | server | floor/server | same to the viewers' kind of sockets | seal alone | lost | server's core | memory"
    );
    for &viewers in &counts {
        let before = measured_floor(viewers, Sinks::Dropped)?;
        let alike_before = measured_floor(viewers, Sinks::DroppedEach)?;
        let run = measured_server(viewers, Duration::from_secs(seconds))?;
        let alike_after = measured_floor(viewers, Sinks::DroppedEach)?;
        let after = measured_floor(viewers, Sinks::Dropped)?;
        print_row(viewers, &run, (&before, &after), (&alike_before, &alike_after));
        memory.push((viewers, run.resident));
        lost += run.lost;
    }
    if let (Some(&(few, small)), Some(&(many, large))) = (memory.first(), memory.last())
        && many > few
    {
        let slope = (large as f64 - small as f64) / (many - few) as f64;
        println!("memory per viewer, from {few} to {many}: {:.1} KiB", slope / 1024.0);
    }
    if lost > 0 {
        bail!("{lost} packets were lost");
    }
    Ok(())
}

fn option<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).map(String::as_str)
}

fn print_machine() {
    let line = |path: &str, start: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        found.rsplit(':').next().unwrap_or_default().trim().to_owned()
    };
    println!(
        "{}, {} cores, Linux {}, load {}",
        line("/proc/cpuinfo", "model name"),
        std::thread::available_parallelism().map_or(1, usize::from),
        line("/proc/sys/kernel/osrelease", ""),
        line("/proc/loadavg", ""),
    );
}

type Pair<'a> = (&'a FloorReport, &'a FloorReport);

fn print_row(viewers: usize, run: &Run, (before, after): Pair<'_>, alike: Pair<'_>) {
    let (first, second) = (before.ns_per_packet_viewer, after.ns_per_packet_viewer);
    let alike = (alike.0.ns_per_packet_viewer + alike.1.ns_per_packet_viewer) / 2.0;
    println!(
        "{viewers:>7} | {first:.0}, {second:.0} ns ({:+.0} %) | {:.0} ns | {:.2} | {alike:.0} ns, {:.2} | {:.0} ns | {} of {} | {:.0} % | {:.1} MiB",
        (second / first - 1.0) * 100.0,
        run.ns_per_packet_viewer,
        (first + second) / 2.0 / run.ns_per_packet_viewer,
        alike / run.ns_per_packet_viewer,
        before
            .sealing_ns_per_packet_viewer
            .min(after.sealing_ns_per_packet_viewer),
        run.lost,
        run.packets,
        run.busy * 100.0,
        run.resident as f64 / f64::from(1 << 20),
    );
}

/// A floor on the server's core.
fn measured_floor(viewers: usize, sinks: Sinks) -> Result<FloorReport> {
    pin(std::process::id(), SERVER_CORE);
    let report = floor(&FloorConfig {
        viewers,
        packets_per_frame: Publisher::FRAME_PACKETS as usize,
        datagram_bytes: Publisher::DATAGRAM_BYTES,
        frames: 300_000 / viewers.max(1),
        sinks,
        ..FloorConfig::default()
    });
    pin(std::process::id(), LOAD_CORE);
    let report = report?;
    if report.dropped > 0 {
        bail!("the kernel refused {} datagrams of the floor", report.dropped);
    }
    Ok(report)
}

/// What one server did.
struct Run {
    ns_per_packet_viewer: f64,
    /// Packets times viewers that arrived.
    packets: u64,
    lost: u64,
    /// Share of one core.
    busy: f64,
    /// Resident bytes while all watched.
    resident: u64,
}

/// The moment at which a measurement starts or ends.
struct Moment {
    at: Instant,
    cpu: u64,
    published: u64,
    received: Received,
}

fn measured_server(count: usize, window: Duration) -> Result<Run> {
    let server = Server::start()?;
    let certificate = Certificate::generate()?;
    let mut signalling = Signalling::connect(server.http)?;
    let session = Session::connect(&mut signalling, "/whip/bench", u32::MAX, true, &certificate)?;
    let mut publisher = Publisher::new(session);
    let mut viewers = Viewers::connect(&mut signalling, "/whep/bench", count, VERIFIED.min(count), &certificate)
        .context("viewers cannot connect")?;

    publish(&mut publisher, &mut viewers, WARM_UP)?;
    let moment = |publisher: &Publisher, viewers: &Viewers| -> Result<Moment> {
        Ok(Moment {
            at: clock::now(),
            cpu: server.cpu_ns()?,
            published: publisher.packets(),
            received: viewers.received()?,
        })
    };
    let start = moment(&publisher, &viewers)?;
    publish(&mut publisher, &mut viewers, window)?;
    let end = moment(&publisher, &viewers)?;
    let resident = server.resident_bytes()?;

    let published = end.published - start.published;
    let filtered = end.received.filtered - start.received.filtered;
    let opened = end.received.verified_least - start.received.verified_least;
    let missing = (published * viewers.filtered() as u64).abs_diff(filtered)
        + published.abs_diff(opened)
        + (end.received.lost - start.received.lost);
    let packets = published * viewers.len() as u64;
    let cpu = (end.cpu - start.cpu) as f64;
    Ok(Run {
        ns_per_packet_viewer: cpu / packets as f64,
        packets,
        lost: missing,
        busy: cpu / (end.at - start.at).as_nanos() as f64,
        resident,
    })
}

/// Frames in real time; returns half an interval after the last one, when it has long arrived.
fn publish(publisher: &mut Publisher, viewers: &mut Viewers, duration: Duration) -> Result<()> {
    let start = clock::now();
    let frames = duration.as_nanos() / Publisher::FRAME_INTERVAL.as_nanos();
    for frame in 0..frames as u32 {
        publisher.send_frame()?;
        let next = start + Publisher::FRAME_INTERVAL * (frame + 1);
        loop {
            let now = clock::now();
            viewers.turn(now)?;
            publisher.turn(now)?;
            let Some(left) = next.checked_duration_since(clock::now()) else {
                break;
            };
            wait(left.min(Publisher::FRAME_INTERVAL / 4));
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the load is paced in real time")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// The server as users run it, on a core of its own.
struct Server {
    child: Child,
    http: SocketAddr,
}

impl Server {
    fn start() -> Result<Server> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onecast"))
            .args(["serve", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            .args(["--shards", "1", "--pli-interval", "0"])
            .env("RUST_LOG", "onecast=info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the server does not start")?;
        let mut log = BufReader::new(child.stderr.take().context("stderr was asked for")?).lines();
        let address = log.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening http=")?;
            rest.split(' ').next()?.parse().ok()
        });
        // Somebody has to read what else it says.
        std::thread::spawn(move || log.for_each(drop));
        pin(child.id(), SERVER_CORE);
        match address {
            Some(http) => Ok(Server { child, http }),
            None => {
                child.kill()?;
                bail!("the server does not tell where it listens")
            }
        }
    }

    /// CPU time of all its threads, user and system. A thread that ended takes its time along; none does while it serves.
    fn cpu_ns(&self) -> Result<u64> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let on_cpu = text.split_ascii_whitespace().next();
            sum += on_cpu.context("schedstat is empty")?.parse::<u64>()?;
        }
        Ok(sum)
    }

    fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next());
        Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps all threads of a process on one core. Where that is not possible the figures are noisier, not wrong.
fn pin(process: u32, core: u32) {
    let (core, process) = (core.to_string(), process.to_string());
    let _ = Command::new("taskset")
        .args(["-a", "-p", "-c", &core, &process])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

const SERVER_CORE: u32 = 0;
const LOAD_CORE: u32 = 1;
/// Viewers that open every packet.
const VERIFIED: usize = 4;
/// A keyframe interval and some more, so that all have started.
const WARM_UP: Duration = Duration::from_secs(3);

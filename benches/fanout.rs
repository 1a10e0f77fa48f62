//! What forwarding costs: CPU per packet x viewer of the real server, beside sealing and sending with no server around it.
//!
//! `cargo bench --bench fanout [-- --viewers 200,1000] [--seconds 8]`. Linux only: it reads /proc. Server and floor run on core 0,
//! the load on core 1. Fails when a viewer misses a packet.

mod rig;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use onecast::clock;
use onecast::load::floor::{FloorConfig, FloorReport, Sinks, floor};
use onecast::load::publisher::Publisher;
use onecast::load::session::Session;
use onecast::load::signalling::Signalling;
use onecast::load::viewers::{Received, Viewers};
use onecast::peer::Certificate;

use rig::{LOAD_CORE, SERVER_CORE, Server, option, pin, print_machine, wait};

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

/// Viewers that open every packet.
const VERIFIED: usize = 4;
/// A keyframe interval and some more, so that all have started.
const WARM_UP: Duration = Duration::from_secs(3);

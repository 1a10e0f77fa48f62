//! Measurements: floors, a server with viewers, joins, and idle viewers.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::BenchArgs;
use super::clients::{Clients, Joining};
use super::crypto_floor::crypto_floor;
use super::delays::Delays;
use super::floor::{FloorConfig, FloorReport, Rhythm, Sinks, floor};
use super::own_server::{OwnServer, SentTotals};
use crate::load::layers::LayerSet;
use crate::load::publisher::PublisherConfig;
use crate::load::receiver::{Feedback, ReceiverConfig};
use crate::load::workload::{VIDEO_BYTES, Video};
use onecast_rtc::client_peer::ClientPeer;
use onecast_rtc::transmit::Run;
use onecast_udp::clock;

/// Results for one number of viewers.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) viewers: usize,
    pub(super) frame_rate: f64,
    /// Without pauses, before and after the server.
    pub(super) floor: [FloorReport; 2],
    /// Paced like the publisher, with a socket per viewer, before and after the server.
    pub(super) paced: [FloorReport; 2],
    pub(super) server: ServerRun,
}

/// Results of one server.
#[derive(Debug, Clone)]
pub(super) struct ServerRun {
    pub(super) ns_per_packet_viewer: f64,
    /// Packets times viewers that should have arrived.
    pub(super) packets: u64,
    pub(super) lost: u64,
    /// Share of one core.
    pub(super) busy: f64,
    /// Resident bytes while all viewers watched.
    pub(super) resident: u64,
    pub(super) sent: SentTotals,
    pub(super) delays: Delays,
}

/// CPU cost of joins.
#[derive(Debug, Clone, Copy)]
pub(super) struct JoinCosts {
    pub(super) count: u32,
    /// CPU of the server per join, one by one.
    pub(super) alone: Duration,
    /// CPU of the server per join, [`AT_A_TIME`] at a time.
    pub(super) together: Duration,
    /// The public-key operations of one join, before and after.
    pub(super) floor: [Duration; 2],
}

/// Cost of viewers without a publisher.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    pub(super) viewers: u32,
    /// Share of one core.
    pub(super) busy: f64,
    /// Resident bytes.
    pub(super) resident: u64,
}

/// The server's program and options, and the cores.
pub(super) struct Stage {
    program: PathBuf,
    options: Vec<String>,
    cores: Vec<core_affinity::CoreId>,
    frame_rate: Option<u16>,
    video: Video,
}

/// Counters at the start or end of a measurement.
struct Moment {
    at: Instant,
    cpu: Duration,
    published: u64,
    delivered: u64,
    /// Packets that verified viewers could not decrypt.
    unopened: u64,
    sent: SentTotals,
}

impl Stage {
    pub(super) fn new(args: &BenchArgs) -> io::Result<Stage> {
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

    /// Moves this thread, and what it starts, to the server's core.
    fn go_to_server(&self) {
        self.go_to(self.cores.first());
    }

    /// Moves this thread, and what it starts, to the load's core.
    fn go_to_load(&self) {
        self.go_to(self.cores.last());
    }

    /// If pinning fails, the figures are noisier, not wrong.
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

    pub(super) fn row(&self, viewers: usize, time: Duration) -> io::Result<Row> {
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
                // A run holds no more packets.
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
            datagram_bytes: VIDEO_BYTES,
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
        let mut clients = Clients::new(
            server.http,
            "bench",
            ReceiverConfig {
                frame_interval: Some(interval),
                stamps: true,
                logs_frames: true,
                feedback: Feedback::FirstReport,
                ..ReceiverConfig::default()
            },
        )?;
        clients.publish(PublisherConfig {
            video: Some(self.video),
            frame_interval: interval,
            has_audio: false,
            obeys_requests: false,
            layers: LayerSet::SINGLE,
        })?;
        clients.join(Joining {
            count: count as u32,
            at_once: 1,
            verified: VERIFIED.min(count as u32),
        })?;

        clients.send_for(WARM_UP)?;
        clients.settle()?;
        let start = Moment::now(&server, &clients)?;
        let started = clock::unix_time();
        clients.send_for(time)?;
        let published_until = clock::now();
        clients.settle()?;
        let end = Moment::now(&server, &clients)?;

        let packets = (end.published - start.published) * count as u64;
        let cpu = (end.cpu - start.cpu).as_nanos() as f64;
        Ok(ServerRun {
            ns_per_packet_viewer: cpu / packets as f64,
            packets,
            lost: packets.abs_diff(end.delivered - start.delivered) + (end.unopened - start.unopened),
            busy: cpu / (published_until - start.at).as_nanos() as f64,
            resident: server.usage()?.resident_bytes,
            sent: SentTotals {
                datagrams: end.sent.datagrams - start.sent.datagrams,
                calls: end.sent.calls - start.sent.calls,
                gso_runs: end.sent.gso_runs - start.sent.gso_runs,
            },
            delays: Delays::of(clients.viewers().viewers(), started, self.video.keyframe_interval),
        })
    }

    /// Viewers that only keep their consent. At least two of their check intervals are measured.
    pub(super) fn idle(&self, count: u32, time: Duration) -> io::Result<Idle> {
        let server = self.start_server()?;
        let mut clients = Clients::new(server.http, "bench", WITHOUT_MEDIA)?;
        clients.join(unverified(count, 1))?;
        let time = time.max(2 * ClientPeer::CHECK_INTERVAL);
        let (start, cpu) = (clock::now(), server.usage()?.cpu);
        clients.turn_until(start + time)?;
        Ok(Idle {
            viewers: count,
            busy: (server.usage()?.cpu - cpu).as_secs_f64() / (clock::now() - start).as_secs_f64(),
            resident: server.usage()?.resident_bytes,
        })
    }

    /// Viewers that join without a publisher, so that all CPU time of the server is for joins.
    pub(super) fn joins(&self, count: u32) -> io::Result<JoinCosts> {
        let floor = || {
            self.go_to_server();
            let floor = crypto_floor().map_err(io::Error::other);
            self.go_to_load();
            floor
        };
        let before = floor()?;
        let server = self.start_server()?;
        let join = |count: u32, at_once: usize| {
            let mut clients = Clients::new(server.http, "bench", WITHOUT_MEDIA)?;
            let cpu = server.usage()?.cpu;
            clients.join(unverified(count, at_once))?;
            Ok::<_, io::Error>((server.usage()?.cpu - cpu) / count)
        };
        // The first joins find the server's caches cold.
        join(count.div_ceil(10), 1)?;
        let alone = join(count, 1)?;
        let together = join(count, AT_A_TIME)?;
        Ok(JoinCosts {
            count,
            alone,
            together,
            floor: [before, floor()?],
        })
    }
}

impl Moment {
    fn now(server: &OwnServer, clients: &Clients) -> io::Result<Moment> {
        let sent = server.sent()?;
        Ok(Moment {
            at: clock::now(),
            cpu: server.usage()?.cpu,
            published: clients.published(),
            delivered: clients.viewers().delivered(),
            unopened: clients.viewers().totals.unopened,
            sent,
        })
    }
}

fn unverified(count: u32, at_once: usize) -> Joining {
    Joining {
        count,
        at_once,
        verified: 0,
    }
}

fn frames_in(time: Duration, interval: Duration) -> u32 {
    (time.as_nanos() / interval.as_nanos()).max(1) as u32
}

/// Viewers without a publisher.
const WITHOUT_MEDIA: ReceiverConfig = ReceiverConfig {
    loss: 0.0,
    audio_only: false,
    frame_interval: None,
    stamps: false,
    one_way: Duration::ZERO,
    logs_frames: false,
    feedback: Feedback::FirstReport,
};
/// Packets times viewers per second that one core carries well: 1,500 viewers of W1. More viewers get fewer frames.
const PACKETS_OF_A_CORE: f64 = 300_000.0;
/// Packets times viewers of the floor without pauses: 2 s.
const FLOOR_PACKETS: usize = 1_800_000;
/// Viewers that decrypt every packet.
const VERIFIED: u32 = 4;
/// Concurrent joins.
const AT_A_TIME: usize = 8;
/// A keyframe interval and some more, so that all viewers have started.
const WARM_UP: Duration = Duration::from_secs(3);

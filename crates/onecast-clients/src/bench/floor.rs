//! The least that this machine needs: sealing frames for every viewer and handing them to the kernel, without a server.
//!
//! Every figure of the server is compared with this one, measured in the same run on the same machine. The frames pass the same queue,
//! socket and loopback interface to as many destinations as there are viewers, each with its own key.

use crate::load::kernel::drop_rtp;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use onecast_rtc::Path;
use onecast_rtc::transmit::{Outlet, Run, SendQueue};
use onecast_udp::clock;
use onecast_udp::socket::{MediaSocket, MediaSocketConfig, bind};
use onecast_udp::thread_cpu_time;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the floor sends. The default is the video of workload W1: 6 packets of 1,000 bytes a frame, to 1,000 viewers.
#[derive(Debug, Clone)]
pub struct FloorConfig {
    /// Destinations, each with its own key, at most [`VIEWERS_MAX`].
    pub viewers: usize,
    /// Packets of one frame, equally long: one run a viewer.
    pub packets_per_frame: usize,
    /// Bytes of a datagram, RTP header and authentication tag among them: 28 to 1,500.
    pub datagram_bytes: usize,
    /// Frames to send.
    pub frames: usize,
    /// When they are sent; `None` for no pauses, which keeps caches and CPU clock warm.
    pub rhythm: Option<Rhythm>,
    /// Runs handed over in one batch, at most [`SendQueue::RUNS_MAX`].
    pub runs_per_batch: usize,
    /// Without the system's faster calls.
    pub portable: bool,
    /// What happens to the datagrams.
    pub sinks: Sinks,
}

/// Pacing of a publisher: shows what the same frames cost when the machine is idle or does other things in between.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// Between frames.
    pub interval: Duration,
    /// Frames from one keyframe to the next.
    pub keyframe_interval: usize,
    /// Packets of a keyframe, at most [`Run::SEGMENTS_MAX`].
    pub keyframe_packets: usize,
}

/// The receiving end of the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sinks {
    /// A kernel filter drops each datagram at the socket, which leaves mostly the sender's share of loopback. Linux only.
    Dropped,
    /// As `Dropped`, but with a socket per destination and the filter of a load's viewers: the cost of the same viewers without a
    /// server. Linux only.
    DroppedEach,
    /// A thread reads them, like a load generator; keep it on another core.
    Read,
}

/// Results of a floor.
#[derive(Debug, Clone)]
pub struct FloorReport {
    /// CPU nanoseconds of the sending thread, user and system, per packet and viewer; wall-clock time where the system does not report
    /// CPU time.
    pub ns_per_packet_viewer: f64,
    /// The same of sealing alone, from frames that were sealed and not sent.
    pub sealing_ns_per_packet_viewer: f64,
    /// Packets times viewers that the kernel accepted.
    pub packets: u64,
    /// Datagrams that the kernel did not accept.
    pub dropped: u64,
    /// Datagrams that the sinks read; the rest overflowed their buffers. 0 with [`Sinks::Dropped`].
    pub read: u64,
    /// CPU time of the sending thread.
    pub cpu: Duration,
    /// Wall-clock time. Much more than `cpu` means that the thread shared its core.
    pub elapsed: Duration,
}

/// Maximum viewers of one floor: a destination each on the loopback network.
pub const VIEWERS_MAX: usize = 1 << 16;

impl Default for FloorConfig {
    fn default() -> FloorConfig {
        FloorConfig {
            viewers: 1_000,
            packets_per_frame: 6,
            datagram_bytes: 1_000,
            frames: 300,
            rhythm: None,
            runs_per_batch: SendQueue::RUNS_MAX,
            portable: false,
            sinks: Sinks::Dropped,
        }
    }
}

/// Seals and sends on the calling thread and measures it. One frame goes ahead unmeasured.
///
/// # Errors
/// `InvalidInput` for a configuration outside of its ranges, else those of the system.
pub fn floor(config: &FloorConfig) -> io::Result<FloorReport> {
    config.check()?;
    let sinks = SinkSet::start(config)?;
    let mut bench = Bench::new(config, &sinks)?;
    bench.frame(config.packets_per_frame, true);

    let watch = Stopwatch::start();
    let before = bench.sealed;
    (0..config.frames.div_ceil(10)).for_each(|_| bench.frame(config.packets_per_frame, false));
    let sealed = bench.sealed - before;
    let (sealing, _) = watch.stop();

    let before = SocketTotals::of(&bench.socket);
    let watch = Stopwatch::start();
    let start = clock::now();
    for frame in 0..config.frames {
        bench.frame(config.packets_of(frame), true);
        if let Some(rhythm) = config.rhythm {
            let next = start + rhythm.interval.mul_f64((frame + 1) as f64);
            wait(next.saturating_duration_since(clock::now()));
        }
    }
    let (cpu, elapsed) = watch.stop();
    let after = SocketTotals::of(&bench.socket);

    let (packets, dropped) = (after.taken - before.taken, after.dropped - before.dropped);
    let per = |time: Duration, packets: u64| time.as_nanos() as f64 / packets as f64;
    Ok(FloorReport {
        ns_per_packet_viewer: per(cpu, packets + dropped),
        sealing_ns_per_packet_viewer: per(sealing, sealed),
        packets,
        dropped,
        read: sinks.stop(),
        cpu,
        elapsed,
    })
}

impl FloorConfig {
    fn check(&self) -> io::Result<()> {
        let good = (1..=VIEWERS_MAX).contains(&self.viewers)
            && (1..=64).contains(&self.packets_per_frame)
            && (RTP_HEADER + TAG..=SendQueue::PATH_DATAGRAM_MAX).contains(&self.datagram_bytes)
            && self.frames > 0
            && self
                .rhythm
                .is_none_or(|rhythm| (1..=usize::from(Run::SEGMENTS_MAX)).contains(&rhythm.keyframe_packets))
            && (1..=SendQueue::RUNS_MAX).contains(&self.runs_per_batch);
        if good {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "floor: a number is out of range",
            ))
        }
    }

    fn packets_of(&self, frame: usize) -> usize {
        let keyframe = self
            .rhythm
            .filter(|rhythm| frame.is_multiple_of(rhythm.keyframe_interval.max(1)));
        keyframe.map_or(self.packets_per_frame, |rhythm| rhythm.keyframe_packets)
    }
}

/// The sending side.
struct Bench {
    socket: MediaSocket,
    queue: SendQueue,
    viewers: Vec<Destination>,
    packet: Vec<u8>,
    runs_per_batch: usize,
    sequence: u64,
    /// Packets times viewers.
    sealed: u64,
}

struct Destination {
    to: Path,
    key: LessSafeKey,
}

impl Bench {
    fn new(config: &FloorConfig, sinks: &SinkSet) -> io::Result<Bench> {
        let mut sockets = bind(&MediaSocketConfig {
            address: (Ipv4Addr::UNSPECIFIED, 0).into(),
            portable: config.portable,
            ..MediaSocketConfig::default()
        })?;
        let viewers = (0..config.viewers)
            .map(|index| Destination::new(index, sinks.destination(index)))
            .collect::<io::Result<_>>()?;
        Ok(Bench {
            socket: sockets.remove(0),
            queue: SendQueue::new(),
            viewers,
            packet: clear_packet(config.datagram_bytes - TAG),
            runs_per_batch: config.runs_per_batch,
            sequence: 0,
            sealed: 0,
        })
    }

    /// Seals a frame for every viewer and, if `send`, sends it.
    fn frame(&mut self, packets: usize, send: bool) {
        for viewer in &self.viewers {
            if self.queue.runs().len() >= self.runs_per_batch
                || !self.queue.has_room_for(packets * SendQueue::PATH_DATAGRAM_MAX)
            {
                hand_over(&mut self.socket, &mut self.queue, send);
            }
            for index in 0..packets as u64 {
                let len = viewer.seal(&self.packet, self.sequence + index, self.queue.reserve());
                self.queue.commit(viewer.to, 0, len);
            }
        }
        hand_over(&mut self.socket, &mut self.queue, send);
        self.sequence += packets as u64;
        self.sealed += (packets * self.viewers.len()) as u64;
    }
}

impl Destination {
    fn new(index: usize, to: SocketAddr) -> io::Result<Destination> {
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&(index as u64).to_be_bytes());
        let key = UnboundKey::new(&AES_128_GCM, &secret).map_err(io::Error::other)?;
        Ok(Destination {
            to: Path::udp(to),
            key: LessSafeKey::new(key),
        })
    }

    /// Like SRTP (RFC 7714): the header authenticated, the payload encrypted, the tag at the end.
    fn seal(&self, packet: &[u8], index: u64, into: &mut [u8]) -> usize {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&index.to_be_bytes());
        let (sealed, rest) = into.split_at_mut(packet.len());
        sealed.copy_from_slice(packet);
        sealed[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        let (header, payload) = sealed.split_at_mut(RTP_HEADER);
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(header), payload)
            .expect("a packet is far shorter than what GCM can seal");
        rest[..TAG].copy_from_slice(tag.as_ref());
        packet.len() + TAG
    }
}

fn hand_over(socket: &mut MediaSocket, queue: &mut SendQueue, send: bool) {
    if send {
        // The socket counts what the kernel does not accept.
        socket.send(queue, &mut |_| {});
    } else {
        queue.clear();
    }
}

/// RTP by its first two bytes.
fn clear_packet(len: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..len).map(|index| index as u8).collect();
    packet[..2].copy_from_slice(&[0x80, 96]);
    packet
}

/// The receiving side: a few sockets for many loopback addresses each, or one socket per destination.
struct SinkSet {
    each: bool,
    ports: Vec<u16>,
    /// Kept open, so that the kernel answers nothing with "port unreachable".
    _sockets: Vec<UdpSocket>,
    stop: Arc<AtomicBool>,
    read: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl SinkSet {
    fn start(config: &FloorConfig) -> io::Result<SinkSet> {
        let sinks = config.sinks;
        let each = sinks == Sinks::DroppedEach;
        let count = if each { config.viewers } else { SINK_SOCKETS };
        let sockets = (0..count).map(|_| sink(sinks)).collect::<io::Result<Vec<_>>>()?;
        let ports = sockets
            .iter()
            .map(|socket| Ok(socket.local_addr()?.port()))
            .collect::<io::Result<_>>()?;
        let (stop, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut threads = Vec::new();
        if sinks == Sinks::Read {
            for socket in &sockets {
                let (socket, stop, read) = (socket.try_clone()?, stop.clone(), read.clone());
                threads.push(std::thread::spawn(move || read_until(&socket, &stop, &read)));
            }
        }
        Ok(SinkSet {
            each,
            ports,
            _sockets: sockets,
            stop,
            read,
            threads,
        })
    }

    fn destination(&self, index: usize) -> SocketAddr {
        // 127.1.0.0/16: each destination is an address of its own, and all of them are this machine.
        let [high, low] = (index as u16).to_be_bytes();
        let address = if self.each {
            Ipv4Addr::LOCALHOST
        } else {
            Ipv4Addr::new(127, 1, high, low)
        };
        (address, self.ports[index % self.ports.len()]).into()
    }

    /// Stops the threads and returns how many datagrams they read.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("reading does not panic");
        }
        self.read.load(Ordering::Relaxed)
    }
}

fn sink(sinks: Sinks) -> io::Result<UdpSocket> {
    let address = match sinks {
        Sinks::DroppedEach => Ipv4Addr::LOCALHOST,
        Sinks::Dropped | Sinks::Read => Ipv4Addr::UNSPECIFIED,
    };
    let socket = UdpSocket::bind((address, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
    match sinks {
        Sinks::Dropped => drop_in_kernel(&socket)?,
        Sinks::DroppedEach => drop_rtp(&socket)?,
        Sinks::Read => {}
    }
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn drop_in_kernel(socket: &UdpSocket) -> io::Result<()> {
    // Classic BPF: return 0, which is to keep no byte.
    const BPF_RET: u16 = 0x06;
    socket2::SockRef::from(socket).attach_filter(&[socket2::SockFilter::new(BPF_RET, 0, 0, 0)])
}

#[cfg(not(target_os = "linux"))]
fn drop_in_kernel(_: &UdpSocket) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "floor: only Linux has sinks that drop; use sinks that read",
    ))
}

/// Reads until the sender is done and nothing has arrived for a moment.
fn read_until(socket: &UdpSocket, stop: &AtomicBool, read: &AtomicU64) {
    let mut buffer = [0; 2_048];
    loop {
        match socket.recv(&mut buffer) {
            Ok(_) => {
                read.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) if stop.load(Ordering::Relaxed) => return,
            Err(_) => {}
        }
    }
}

#[derive(Clone, Copy)]
struct SocketTotals {
    taken: u64,
    dropped: u64,
}

impl SocketTotals {
    fn of(socket: &MediaSocket) -> SocketTotals {
        let counters = socket.counters();
        SocketTotals {
            taken: counters.datagrams_out.value(),
            dropped: counters.dropped_full.value() + counters.dropped_refused.value(),
        }
    }
}

struct Stopwatch {
    cpu: Option<Duration>,
    start: std::time::Instant,
}

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch {
            cpu: thread_cpu_time(),
            start: clock::now(),
        }
    }

    /// CPU time and wall-clock time since the start.
    fn stop(self) -> (Duration, Duration) {
        let elapsed = clock::now() - self.start;
        let cpu = self
            .cpu
            .zip(thread_cpu_time())
            .map(|(before, after)| after.saturating_sub(before));
        (cpu.unwrap_or(elapsed), elapsed)
    }
}

#[expect(clippy::disallowed_methods, reason = "pacing is real time")]
fn wait(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}

/// Bytes of an RTP header without extensions.
const RTP_HEADER: usize = 12;
/// Bytes of an AEAD_AES_128_GCM tag.
const TAG: usize = 16;
/// Few enough to be cheap, and enough for their buffers to hold a frame.
const SINK_SOCKETS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn small(sinks: Sinks, portable: bool) -> FloorConfig {
        FloorConfig {
            viewers: 20,
            frames: 5,
            sinks,
            portable,
            ..FloorConfig::default()
        }
    }

    #[test]
    fn every_packet_is_handed_over_on_both_paths() {
        for portable in [false, true] {
            let report = floor(&small(Sinks::Read, portable)).unwrap();
            assert_eq!((report.packets, report.dropped), (5 * 20 * 6, 0));
            assert!(report.read > 0 && report.ns_per_packet_viewer > 0.0 && report.sealing_ns_per_packet_viewer > 0.0);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn keyframes_are_larger_in_a_paced_floor() {
        let report = floor(&FloorConfig {
            rhythm: Some(Rhythm {
                interval: Duration::from_millis(1),
                keyframe_interval: 3,
                keyframe_packets: 40,
            }),
            ..small(Sinks::DroppedEach, false)
        });
        assert_eq!(report.unwrap().packets, 20 * (2 * 40 + 3 * 6));
    }

    #[test]
    fn numbers_out_of_range_are_rejected() {
        let configs = [
            FloorConfig {
                viewers: 0,
                ..FloorConfig::default()
            },
            FloorConfig {
                viewers: VIEWERS_MAX + 1,
                ..FloorConfig::default()
            },
            FloorConfig {
                datagram_bytes: 27,
                ..FloorConfig::default()
            },
            FloorConfig {
                datagram_bytes: 1_501,
                ..FloorConfig::default()
            },
            FloorConfig {
                runs_per_batch: 65,
                ..FloorConfig::default()
            },
            FloorConfig {
                frames: 0,
                ..FloorConfig::default()
            },
        ];
        for config in configs {
            assert_eq!(
                floor(&config).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{config:?}"
            );
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn dropping_sinks_lose_no_packet() {
        for sinks in [Sinks::Dropped, Sinks::DroppedEach] {
            let config = FloorConfig {
                viewers: 10,
                frames: 2,
                sinks,
                ..FloorConfig::default()
            };
            let report = floor(&config).unwrap();
            assert_eq!((report.packets, report.dropped, report.read), (120, 0, 0));
        }
    }
}

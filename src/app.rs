//! The running server, but for HTTP: it connects the control plane with the clock, the media threads and waiting requests.

mod channels;
mod conference;
mod feeds;
mod log;
mod operation;
mod plane;
mod random;
mod signalling;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use onecast_control::admission::AdmissionLimits;
use onecast_control::conference::RoomLimits;
use onecast_control::drain::DrainOrder;
use onecast_control::port::ShardReading;
use onecast_control::registry::{Limits, SessionLimits};
use onecast_control::{Control, ControlConfig};
use onecast_engine::fanout::{Event, Shard, ShardConfig, StartConfig};
use onecast_engine::media::Inbox;
use onecast_metrics::{ShardCounters, SocketCounters};
use onecast_rtc::rtp::rtcp::ntp_from_unix;
use onecast_rtc::{Certificate, Fingerprint};
use onecast_udp::clock;
use onecast_udp::interfaces::host_addresses;
use onecast_udp::resources::ResourcesError;
use onecast_udp::socket::{self, MediaSocket, MediaSocketConfig};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::ServeArgs;
use crate::serve::MediaServer;
use crate::shard_loop::{Mailbox, ShardLoop, WakeThread};
use plane::{Plane, now};
use random::random;

/// What the server is started with.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// Sockets for media.
    pub sockets: MediaSocketConfig,
    /// Addresses to announce that this machine does not have itself (NAT 1:1).
    pub public_ips: Vec<IpAddr>,
    /// Announce only those.
    pub public_only: bool,
    /// Between regular keyframe requests; `None` for never.
    pub pli_interval: Option<Duration>,
    /// What keyframes that viewers ask for may take of the video's bytes, percent.
    pub keyframe_share: u8,
    /// How viewers are started.
    pub start: StartConfig,
    /// Bounds.
    pub limits: Limits,
    /// How the server drains unless the order says otherwise.
    pub drain: DrainOrder,
    /// Accept the layers of publishers (simulcast), and send viewers what their paths carry.
    pub layers: bool,
    /// What probes of viewers' paths may take of the bytes that are sent, percent.
    pub probe_share: u8,
    /// Pins each media thread to a core of its own, as far as there are enough.
    pub pin: bool,
}

impl AppConfig {
    /// As the options have it when nothing is said, but on loopback and a port that the system chooses, and for a hundred viewers of ten
    /// streams: for programs that have a server inside.
    pub fn on_loopback(shards: usize) -> AppConfig {
        AppConfig {
            sockets: MediaSocketConfig {
                address: ([127, 0, 0, 1], 0).into(),
                shards,
                ..MediaSocketConfig::default()
            },
            public_ips: Vec::new(),
            public_only: false,
            pli_interval: None,
            keyframe_share: 10,
            start: StartConfig::default(),
            limits: Limits {
                streams: 10,
                viewers: 100,
                admission: AdmissionLimits::default(),
                sessions: SessionLimits::default(),
                rooms: RoomLimits::default(),
            },
            drain: DrainOrder::default(),
            layers: true,
            probe_share: ShardConfig::PROBE_SHARE,
            pin: false,
        }
    }
}

/// The running server, but for HTTP. Clones share it.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    config: AppConfig,
    certificate: Certificate,
    media: SocketAddr,
    hosts: Vec<IpAddr>,
    plane: Plane,
    mailboxes: Arc<[Arc<Mailbox>]>,
    counters: Vec<Arc<ShardCounters>>,
    sockets: Vec<Arc<SocketCounters>>,
    /// Cancelled when every media thread has ended.
    media_ended: CancellationToken,
}

/// Events that may wait for the control plane.
const EVENTS_MAX: usize = 8_192;
/// Candidates in an answer: each is a check that clients make.
const CANDIDATES_MAX: usize = 8;

impl App {
    /// Binds the media sockets and starts a thread for each shard. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the media port cannot be bound, or no certificate be made.
    pub fn start(config: AppConfig) -> std::io::Result<App> {
        let certificate = Certificate::generate().map_err(std::io::Error::other)?;
        let sockets = socket::bind(&config.sockets)?;
        let inboxes: Arc<[_]> = sockets
            .iter()
            .map(|socket| Inbox::new(Box::new(WakeThread(socket.waker()))))
            .collect();
        let mailboxes: Arc<[_]> = sockets
            .iter()
            .map(|socket| Arc::new(Mailbox::new(socket.waker())))
            .collect();
        let control = ControlConfig {
            limits: config.limits,
            drain: config.drain.clone(),
            inboxes: inboxes.clone(),
            ssrc_mask: u32::from_be_bytes(random()),
        };
        let inner = Inner {
            plane: Plane::new(Control::new(now(), control), mailboxes.clone()),
            hosts: host_addresses(),
            certificate,
            media: sockets[0].local_addr(),
            mailboxes,
            counters: sockets.iter().map(|_| Arc::default()).collect(),
            sockets: sockets.iter().map(|socket| socket.counters().clone()).collect(),
            media_ended: CancellationToken::new(),
            config,
        };
        let app = App { inner: Arc::new(inner) };
        let (events, received) = mpsc::channel(EVENTS_MAX);
        app.start_shards(sockets, &inboxes, &events)?;
        app.log_keyframe_settings();
        tokio::spawn(app.clone().follow_shards(received));
        Ok(app)
    }

    fn start_shards(
        &self,
        sockets: Vec<MediaSocket>,
        inboxes: &Arc<[Arc<Inbox>]>,
        events: &mpsc::Sender<Event>,
    ) -> std::io::Result<()> {
        let inner = &self.inner;
        let wall = (clock::now(), ntp_from_unix(clock::unix_time()));
        let cores = if inner.config.pin {
            core_affinity::get_core_ids().unwrap_or_default()
        } else {
            Vec::new()
        };
        for (id, socket) in sockets.into_iter().enumerate() {
            let config = ShardConfig {
                id,
                certificate: inner.certificate.clone(),
                pli_interval: inner.config.pli_interval,
                keyframe_share: inner.config.keyframe_share,
                start: inner.config.start,
                adapts: inner.config.layers,
                probe_share: inner.config.probe_share,
                peers_max: inner.config.limits.peers(),
                slice: ShardConfig::SLICE,
                wall,
            };
            let shard_loop = ShardLoop {
                shard: Shard::new(config, inboxes[id].clone(), inner.counters[id].clone()),
                socket,
                inbox: inboxes[id].clone(),
                mailboxes: inner.mailboxes.clone(),
                id,
                events: events.clone(),
            };
            let core = cores.iter().copied().cycle().nth(id);
            let thread = std::thread::Builder::new().name(format!("shard-{id}")).spawn(move || {
                if core.is_some_and(|core| !core_affinity::set_for_current(core)) {
                    warn!(shard = id, "the system does not let a media thread stay on one core");
                }
                shard_loop.run();
            });
            thread.map_err(|source| std::io::Error::other(ResourcesError::Threads { count: id + 1, source }))?;
        }
        Ok(())
    }

    fn log_keyframe_settings(&self) {
        let config = &self.inner.config;
        let cached = config.start.cache.bytes;
        match (config.pli_interval, cached) {
            (Some(interval), _) => info!(
                "watched broadcasters are asked for a keyframe every {:.1} s",
                interval.as_secs_f64()
            ),
            (None, 0) => {
                warn!("neither a start cache nor a keyframe timer: new viewers wait for the encoder's keyframes")
            }
            (None, _) => info!(
                "new viewers start from the last {} KiB at most; no timer asks broadcasters for keyframes (--pli-interval)",
                cached / 1024
            ),
        }
    }

    fn accepts_layers(&self) -> bool {
        self.inner.config.layers
    }

    /// Where media is received.
    pub fn media_address(&self) -> SocketAddr {
        self.inner.media
    }

    /// The addresses to which a client that reached us on `local` can send media, best first.
    pub fn candidates(&self, local: SocketAddr, client: SocketAddr) -> Vec<SocketAddr> {
        let inner = &self.inner;
        let bound = inner.media.ip().to_canonical();
        // Over loopback a proxy on this machine has reached us, and not a client that is elsewhere.
        let reached = Some(local.ip()).filter(|ip| !ip.is_loopback() || client.ip().is_loopback());
        let own = if bound.is_unspecified() {
            reached.into_iter().chain(inner.hosts.iter().copied()).collect()
        } else {
            vec![bound]
        };
        let public = inner.config.public_ips.clone();
        let ips = match () {
            () if inner.config.public_only && !public.is_empty() => public,
            () if is_near(client.ip()) => [own, public].concat(),
            () => [public, own].concat(),
        };
        let mut candidates: Vec<SocketAddr> = Vec::new();
        for ip in ips.into_iter().map(|ip| ip.to_canonical()) {
            let candidate = SocketAddr::new(ip, inner.media.port());
            if !candidates.contains(&candidate) && (ip.is_ipv4() || inner.media.is_ipv6()) {
                candidates.push(candidate);
            }
        }
        candidates.truncate(CANDIDATES_MAX);
        candidates
    }

    /// Each shard's counters.
    pub fn counters(&self) -> &[Arc<ShardCounters>] {
        &self.inner.counters
    }

    /// Closes every peer with DTLS close_notify and waits until the media threads have ended, but no longer than `limit`.
    /// True when they all did.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.plane().control(|control, _| control.handle_shutdown());
        let ended = self.inner.media_ended.cancelled();
        tokio::time::timeout(limit, ended).await.is_ok()
    }

    fn plane(&self) -> &Plane {
        &self.inner.plane
    }

    fn fingerprint(&self) -> Fingerprint {
        self.inner.certificate.fingerprint()
    }

    fn shard_readings(&self) -> Vec<ShardReading> {
        let both = self.inner.counters.iter().zip(&self.inner.sockets);
        both.map(|(counters, socket)| ShardReading {
            counters: counters.read(),
            socket: socket.read(),
        })
        .collect()
    }

    /// Brings the control plane what the shards report and what is due, until the last media thread ends.
    async fn follow_shards(self, mut events: mpsc::Receiver<Event>) {
        let plane = self.plane();
        let mut due = plane.control(|control, _| control.poll_timeout());
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { break };
                    plane.control(|control, now| control.handle_event(now, event));
                }
                () = tokio::time::sleep_until(due.into()) => due = self.handle_timeout(),
                () = plane.rearmed() => due = plane.control(|control, _| control.poll_timeout()),
            }
        }
        self.inner.media_ended.cancel();
    }

    fn handle_timeout(&self) -> std::time::Instant {
        let turns = self.inner.counters.iter().map(|counters| counters.turns.value());
        self.plane().control(|control, now| {
            control.handle_turns(now.instant, turns);
            control.handle_timeout(now);
            control.poll_timeout()
        })
    }
}

impl MediaServer for App {
    fn media_address(&self) -> SocketAddr {
        self.inner.media
    }

    fn candidates(&self, local: SocketAddr, client: SocketAddr) -> Vec<SocketAddr> {
        App::candidates(self, local, client)
    }

    fn reload(&self, args: &ServeArgs) {
        let limits = args.room_limits();
        self.plane().control(|control, _| control.set_limits(limits));
    }

    async fn shutdown(&self, limit: Duration) -> bool {
        App::shutdown(self, limit).await
    }
}

/// On this machine or in a private network.
fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

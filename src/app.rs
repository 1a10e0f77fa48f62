//! The only meeting point: answers offers, runs the registry's decisions against the shards, and tells the story in the log.

mod codecs;
mod conference;
mod counter_offer;
mod events;
mod following;
mod joining;
mod operation;
mod patching;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::config::ServeArgs;
use crate::http::conference::{Conference, RoomRefusal};
use crate::http::operation::Operation;
use crate::http::service::{
    Accepted, EventFeed, PasteRights, PasteRole, Patch, Patched, Protocol, Refusal, Request, SdpRefusal, Service,
    SessionGuard, ShardReading, StreamStatus,
};
use crate::serve::MediaServer;
use crate::shard_loop::{Mailbox, ShardLoop, WakeThread};
use conference::Conferences;
use events::EventStreams;
use onecast_control::admission::AdmissionReading;
use onecast_control::audience::{EventSet, EventStreamId};
use onecast_control::conference::RoomLimits;
use onecast_control::drain::{Drain, DrainOrder};
use onecast_control::ice_session::entity_tag;
use onecast_control::registry::{Ended, Refused, Via};
use onecast_control::{AdmissionLimits, Caller, EndReason, Limits, Purpose, Registry, SessionId, SessionLimits, Terms};
use onecast_engine::fanout::{
    CloseCause, Command, Direction, Event, Plan, Session, Shard, ShardConfig, StartConfig, ViewerLine,
};
use onecast_engine::media::Inbox;
use onecast_engine::metrics::ShardCounters;
use onecast_engine::pulse::Pulse;
use onecast_rtc::rtp::rtcp::ntp_from_unix;
use onecast_rtc::sdp::{Answer, AnswerParams, MediaLine, Offer, Role, SdpError, TrackSsrcs};
use onecast_rtc::{Certificate, IceCredentials, Profile};
use onecast_udp::clock;
use onecast_udp::counters::SocketCounters;
use onecast_udp::interfaces::host_addresses;
use onecast_udp::resources::ResourcesError;
use onecast_udp::socket::{self, MediaSocket, MediaSocketConfig};

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
    /// How the server is emptied when nobody says otherwise.
    pub drain: DrainOrder,
    /// Each media thread stays on a core of its own, as far as there are.
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
    registry: Mutex<Registry>,
    /// Locked before both of the others.
    conferences: Mutex<Conferences>,
    /// Locked before the registry where both are.
    events: Mutex<EventStreams>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    counters: Vec<Arc<ShardCounters>>,
    sockets: Vec<Arc<SocketCounters>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closing: AtomicBool,
    drain: Mutex<Option<Drain>>,
    /// When the log last said how far that is.
    drain_told: Mutex<Option<Instant>>,
    pulse: Mutex<Pulse>,
}

/// How long a client may take from our answer to its finished handshake.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same where a person carries the answer from one window to another.
const PASTE_PATIENCE: Duration = Duration::from_secs(300);
/// Events that may wait for the log and the registry.
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
        let media = sockets[0].local_addr();
        let inboxes: Arc<[_]> = sockets
            .iter()
            .map(|socket| Inbox::new(Box::new(WakeThread(socket.waker()))))
            .collect();
        let mailboxes: Arc<[_]> = sockets
            .iter()
            .map(|socket| Arc::new(Mailbox::new(socket.waker())))
            .collect();
        let counters: Vec<Arc<ShardCounters>> = sockets.iter().map(|_| Arc::default()).collect();
        let inner = Inner {
            registry: Mutex::new(Registry::new(config.limits, inboxes.clone())),
            conferences: Mutex::default(),
            events: Mutex::new(EventStreams::new()),
            hosts: host_addresses(),
            config,
            certificate,
            media,
            mailboxes,
            counters,
            sockets: sockets.iter().map(|socket| socket.counters().clone()).collect(),
            threads: Mutex::default(),
            closing: AtomicBool::new(false),
            drain: Mutex::default(),
            drain_told: Mutex::default(),
            pulse: Mutex::new(Pulse::new(sockets.len(), clock::now())),
        };
        let app = App { inner: Arc::new(inner) };
        let (events, received) = mpsc::channel(EVENTS_MAX);
        app.start_shards(sockets, &inboxes, &events)?;
        app.tell_about_keyframes();
        tokio::spawn(app.clone().follow(received));
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
            let thread =
                thread.map_err(|source| std::io::Error::other(ResourcesError::Threads { count: id + 1, source }))?;
            lock(&inner.threads).push(thread);
        }
        Ok(())
    }

    fn tell_about_keyframes(&self) {
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

    /// Where media is received.
    pub fn media_address(&self) -> SocketAddr {
        self.inner.media
    }

    /// What a client that reached us on `local` is told to send media to, best first.
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
        self.inner.closing.store(true, Ordering::Release);
        self.inner.broadcast(&Command::Shutdown);
        let threads = std::mem::take(&mut *lock(&self.inner.threads));
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        tokio::time::timeout(limit, joined).await.is_ok()
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
        lock(&self.inner.registry).set_limits(limits);
        if !self.inner.broadcast(&Command::PeersMax(limits.peers())) {
            warn!("a media thread is overloaded and keeps its bound of peers; read the configuration again");
        }
    }

    async fn shutdown(&self, limit: Duration) -> bool {
        App::shutdown(self, limit).await
    }
}

impl Service for App {
    fn check_door(&self, client: SocketAddr, purpose: Purpose) -> Result<(), Refusal> {
        self.may_knock(client, purpose)
    }

    fn publish(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        self.knock(request.client, Purpose::Publish)?;
        let accepted = self.join(&request, &parse(request.offer)?, Purpose::Publish, PATIENCE)?;
        self.introduce(accepted.session, Via::Whip, request.client);
        Ok(accepted)
    }

    fn watch(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        self.knock(request.client, Purpose::Watch)?;
        let accepted = self.join(&request, &parse(request.offer)?, Purpose::Watch, PATIENCE)?;
        self.introduce(accepted.session, Via::Whep, request.client);
        Ok(accepted)
    }

    fn paste(&self, request: Request<'_>, rights: PasteRights<'_>) -> Result<(Accepted, PasteRole), Refusal> {
        let taken = lock(&self.inner.registry).is_taken(request.stream);
        // Only the offer tells whether the client wants to publish; before it is read, whoever could is taken for one who does.
        let may_publish = rights.publish.is_some() && !taken;
        self.knock(
            request.client,
            if may_publish { Purpose::Publish } else { Purpose::Watch },
        )?;
        let offer = parse(request.offer)?;
        let purpose = match (offer.can_send(), offer.can_receive()) {
            (true, false) => Purpose::Publish,
            (true, true) if may_publish => Purpose::Publish,
            _ => Purpose::Watch,
        };
        let right = match purpose {
            Purpose::Publish => rights.publish,
            Purpose::Watch | Purpose::Confer => rights.watch,
        };
        let right = right.ok_or(Refusal::NotAllowed(purpose))?;
        let request = Request { right, ..request };
        let accepted = self.join(&request, &offer, purpose, PASTE_PATIENCE)?;
        self.introduce(accepted.session, Via::Paste, request.client);
        let role = match purpose {
            Purpose::Publish => PasteRole::Broadcaster,
            Purpose::Watch | Purpose::Confer => PasteRole::Viewer,
        };
        Ok((accepted, role))
    }

    fn patch(&self, patch: Patch<'_>) -> Result<Patched, Refusal> {
        self.take_patch(patch)
    }

    fn counter_offer(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        self.offer(&request)
    }

    fn take_answer(&self, session: SessionId, answer: &str) -> Result<(), Refusal> {
        self.answered(session, answer)
    }

    fn open_events(&self, session: SessionId, wanted: EventSet) -> Result<EventStreamId, Refusal> {
        self.open_event_stream(session, wanted)
    }

    fn follow_events(&self, events: EventStreamId) -> Result<EventFeed, Refusal> {
        self.follow_event_stream(events)
    }

    fn close_events(&self, events: EventStreamId) -> Result<(), Refusal> {
        self.close_event_stream(events)
    }

    fn close(&self, session: SessionId, protocol: Protocol) -> Result<(), Refusal> {
        if !self.exists(session, protocol) {
            return Err(Refusal::gone(self.why_ended(session)));
        }
        let ended = lock(&self.inner.registry)
            .remove(clock::now(), session)
            .ok_or(Refusal::UnknownSession)?;
        self.inner.end(ended, EndReason::Goodbye);
        Ok(())
    }

    fn exists(&self, session: SessionId, protocol: Protocol) -> bool {
        let purpose = lock(&self.inner.registry).purpose(session);
        match protocol {
            Protocol::Whip => purpose == Some(Purpose::Publish),
            Protocol::Whep => purpose == Some(Purpose::Watch),
        }
    }

    fn operation(&self) -> &dyn Operation {
        self
    }

    fn conference(&self) -> &dyn Conference {
        self
    }

    fn guard(&self, session: SessionId) -> Result<Option<SessionGuard>, Refusal> {
        let registry = lock(&self.inner.registry);
        if let Some(why) = registry.why_ended(session) {
            return Err(Refusal::Ended(why));
        }
        let known = registry.guard(session).zip(registry.purpose(session));
        Ok(known.map(|((stream, token), purpose)| SessionGuard { stream, purpose, token }))
    }

    fn shards(&self) -> Vec<ShardReading> {
        let both = self.inner.counters.iter().zip(&self.inner.sockets);
        both.map(|(counters, socket)| ShardReading {
            counters: counters.values(),
            socket: socket.values(),
        })
        .collect()
    }

    fn streams(&self) -> Vec<StreamStatus> {
        let streams = lock(&self.inner.registry).streams(clock::now());
        let status = streams.into_iter().map(|stream| StreamStatus {
            name: stream.name,
            live: stream.liveness.is_live(),
            silent: stream.liveness.silence(),
            since_unix: stream.since,
            viewers: stream.viewers,
            video: stream.video.map(|codec| codec.to_string()),
            audio: stream.audio.map(|codec| codec.to_string()),
            keyframes: stream.keyframes,
            large: stream.large,
        });
        status.collect()
    }

    fn admission(&self) -> AdmissionReading {
        lock(&self.inner.registry).admission()
    }
}

impl Inner {
    /// Tells every shard; false when one of them has no room. The others have been told all the same.
    fn broadcast(&self, command: &Command) -> bool {
        let taken = self
            .mailboxes
            .iter()
            .filter(|mailbox| mailbox.send(command.clone()))
            .count();
        taken == self.mailboxes.len()
    }
}

fn parse(offer: &str) -> Result<Offer, Refusal> {
    Offer::parse(offer).map_err(|error| sdp_refusal(&error))
}

fn sdp_refusal(error: &SdpError) -> Refusal {
    Refusal::Sdp(SdpRefusal {
        unusable: error.is_unusable(),
        detail: error.to_string(),
        hint: error.hint().map(str::to_owned),
        codecs: codecs::of_error(error),
    })
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::Taken {
            since,
            silent,
            retry_after,
        } => Refusal::Taken {
            since_unix: since,
            silent,
            retry_after,
        },
        Refused::TooManyStreams { max } => Refusal::TooManyStreams { max },
        Refused::Full { max } => Refusal::Full { max },
        Refused::StreamFull { max } => Refusal::StreamFull { max },
        Refused::RoomFull { max } => Refusal::Room(RoomRefusal::Full { max }),
        Refused::Busy(busy) => Refusal::Busy(busy),
    }
}

/// On this machine or in a private network.
fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// 16 and 32 hexadecimal digits: 64 and 128 bits of chance. RFC 8445 section 5.3 asks for 24 and 128, but sessions are found by the name: among
/// 100,000 and all their restarts no two may be equal.
fn credentials() -> IceCredentials {
    let ufrag = u64::from_be_bytes(random());
    let pwd = u128::from_be_bytes(random());
    IceCredentials {
        ufrag: format!("{ufrag:016x}").into(),
        pwd: format!("{pwd:032x}").into(),
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
    bytes
}

/// No lock here is held across anything that may panic half-way, so a poisoned one is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

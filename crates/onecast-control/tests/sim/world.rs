//! Simulated time: shards, clients, and the datagrams between them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use onecast_engine::fanout::{
    Claim, Command, Direction, Event, MisroutedDatagram, Plan, Session, Shard, ShardConfig, StartConfig, ViewerLine,
};
use onecast_engine::media::lane::{StreamKey, StreamSlot};
use onecast_engine::media::{Inbox, StreamTracks, Wake};
use onecast_metrics::ShardCounts;
use onecast_rtc::client_peer::{Answered, ClientPeer, OfferParams, write_offer};
use onecast_rtc::rtp::Ssrc;
use onecast_rtc::sdp::{AnswerParams, MediaLine, Offer, Role, TrackSsrcs};
use onecast_rtc::transmit::{Outlet, SendQueue};
use onecast_rtc::{Certificate, IceCredentials, LocalSocket, Path, SessionId};

use crate::client::{Actor, Client};
use crate::guard::Guard;
use crate::network::{Flight, Link, Network, Random};
use crate::publisher::Ledger;

/// A shard's way out: every datagram is checked, and then travels.
struct Wire<'a> {
    now: Instant,
    network: &'a mut Network,
    guard: &'a mut Guard,
    failing: Option<SocketAddr>,
}

impl Outlet for Wire<'_> {
    fn send(&mut self, queue: &mut SendQueue, failed: &mut dyn FnMut(u32)) {
        self.guard.check_queue(queue);
        for run in queue.runs() {
            let to = run.to.remote;
            assert_eq!(
                run.to,
                path_of(to),
                "it leaves from another socket than the one that {to} reaches"
            );
            let media = queue.bytes(run)[0] >= 128;
            let fails = media && self.failing == Some(to) && self.network.random.below(5) == 0;
            for datagram in queue.bytes(run).chunks(usize::from(run.segment)) {
                self.guard.check(self.now, to, datagram);
                if !fails {
                    self.network.send(self.now, to, false, datagram);
                }
            }
            if fails {
                self.guard.runs_failed += 1;
                failed(run.owner);
            }
        }
        queue.clear();
    }
}

struct Woken(Arc<AtomicBool>);

impl Wake for Woken {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) struct Node {
    pub(crate) shard: Shard,
    woken: Arc<AtomicBool>,
    datagrams: Vec<(Path, Vec<u8>)>,
    strays: Vec<MisroutedDatagram>,
    claims: Vec<Claim>,
    commands: Vec<Command>,
}

/// What a client says of itself in its offer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Joining {
    pub(crate) publishes: bool,
    pub(crate) rtx: bool,
    pub(crate) active: bool,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) guard: Guard,
    pub(crate) clients: Vec<Client>,
    pub(crate) ledgers: Vec<Ledger>,
    pub(crate) tracks: Arc<StreamTracks>,
    pub(crate) inboxes: Arc<[Arc<Inbox>]>,
    pub(crate) events: Vec<(Duration, Event)>,
    /// Sends to it fail now and then.
    pub(crate) failing: Option<SocketAddr>,
    /// A client's first check comes from another address, and reaches another shard than everything after it.
    pub(crate) scattered: bool,
    /// What publishers add to the format parameters of H264 in their offers.
    pub(crate) announces: String,
    pub(crate) strays: usize,
    /// Peers and sessions that are no clients of the world.
    pub(crate) strangers: usize,
    moved: HashSet<SocketAddr>,
    joined: u16,
}

/// What a turn takes while a batch goes out.
const SLICE_TIME: Duration = Duration::from_micros(50);
pub(crate) const WALL: u64 = 5_000;
pub(crate) const SSRCS: [Ssrc; 3] = [Ssrc(0x1111_0001), Ssrc(0x1111_0002), Ssrc(0x1111_0003)];

/// The server has several addresses, and clients reach it at one or another.
pub(crate) fn path_of(client: SocketAddr) -> Path {
    Path {
        local: LocalSocket(client.port() % 3),
        ..Path::udp(client)
    }
}

pub(crate) fn certificate() -> Certificate {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    CERTIFICATE.get_or_init(|| Certificate::generate().unwrap()).clone()
}

pub(crate) fn client_certificate() -> Certificate {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    CERTIFICATE.get_or_init(|| Certificate::generate().unwrap()).clone()
}

impl World {
    pub(crate) fn new(seed: u64, shards: usize, link: Link) -> World {
        World::with(seed, shards, link, StartConfig::default())
    }

    pub(crate) fn with(seed: u64, shards: usize, link: Link, start: StartConfig) -> World {
        let now = onecast_udp::clock::now();
        let woken: Vec<Arc<AtomicBool>> = (0..shards).map(|_| Arc::default()).collect();
        let inboxes: Arc<[_]> = woken
            .iter()
            .map(|flag| Inbox::new(Box::new(Woken(flag.clone()))))
            .collect();
        let nodes = woken.into_iter().enumerate().map(|(id, woken)| {
            let config = ShardConfig {
                id,
                certificate: certificate(),
                pli_interval: None,
                keyframe_share: 10,
                start,
                adapts: true,
                probe_share: ShardConfig::PROBE_SHARE,
                peers_max: 100,
                // Mostly so small that viewers come, leave and ask in the middle of a frame.
                slice: [1, 7, ShardConfig::SLICE][seed as usize % 3],
                wall: (now, WALL << 32),
            };
            Node {
                shard: Shard::new(config, inboxes[id].clone(), Arc::default()),
                woken,
                datagrams: Vec::new(),
                strays: Vec::new(),
                claims: Vec::new(),
                commands: Vec::new(),
            }
        });
        let key = StreamKey {
            slot: StreamSlot(2),
            serial: 9,
        };
        World {
            seed,
            now,
            start: now,
            nodes: nodes.collect(),
            network: Network::new(link, Random::new(seed)),
            guard: Guard::new(seed, SSRCS[1]),
            clients: Vec::new(),
            ledgers: Vec::new(),
            tracks: Arc::new(StreamTracks::new(key, "live", SSRCS, inboxes.clone(), now)),
            inboxes,
            events: Vec::new(),
            failing: None,
            scattered: false,
            announces: String::new(),
            strays: 0,
            strangers: 0,
            moved: HashSet::new(),
            joined: 0,
        }
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Answers a client's offer as the server does, and tells the shards. Returns its place among the clients.
    pub(crate) fn join(&mut self, joining: Joining, actor: Actor) -> usize {
        let tracks = self.tracks.clone();
        self.join_as(joining, actor, tracks, |direction, plan| (direction, plan))
    }

    /// The same, with another direction and plan than the offer asks for.
    pub(crate) fn join_as(
        &mut self,
        joining: Joining,
        actor: Actor,
        tracks: Arc<StreamTracks>,
        change: impl FnOnce(Direction, Plan) -> (Direction, Plan),
    ) -> usize {
        self.joined += 1;
        let number = self.joined;
        let credentials = |name: &str| IceCredentials {
            ufrag: format!("{name}{number}xxxx").into(),
            pwd: format!("{name}{number}01234567890123456789012").into(),
        };
        let (own, local) = (credentials("client"), credentials("server"));
        let text = write_offer(&OfferParams {
            ice: &own,
            fingerprint: client_certificate().fingerprint(),
            active: joining.active,
            publishes: joining.publishes,
            rtx: joining.rtx,
        });
        let text = if joining.publishes {
            text.replace(
                "profile-level-id=42e01f",
                &format!("profile-level-id=42e01f{}", self.announces),
            )
        } else {
            text
        };
        let offer = Offer::parse(&text).unwrap();
        let role = if joining.publishes {
            Role::Publisher
        } else {
            Role::Viewer(TrackSsrcs {
                video: SSRCS[0],
                video_rtx: SSRCS[1],
                audio: SSRCS[2],
            })
        };
        let params = AnswerParams {
            ice: &local,
            fingerprint: certificate().fingerprint(),
            candidates: &[SocketAddr::from(([192, 0, 2, 1], 8_080))],
            session_id: 7,
            stream: "live",
        };
        let answer = offer.answer(role, &params).unwrap();
        let (direction, plan) = if joining.publishes {
            (Direction::SendOnly, Plan::publish(tracks, answer.negotiated))
        } else {
            let line = |line: &Option<MediaLine>| line.as_ref().map(ViewerLine::new);
            let (audio, video) = (line(&answer.negotiated.audio), line(&answer.negotiated.video));
            (Direction::ReceiveOnly, Plan::watch(tracks, audio, video))
        };
        let (direction, plan) = change(direction, plan);
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let id = SessionId::from_random(id);
        let remote = offer.remote().clone();
        let session = Arc::new(Session::new(id, local, remote, direction, plan, self.now));
        self.command(&Command::Expect(session.clone()));
        let answered = Answered::parse(&answer.sdp).unwrap();
        let peer = ClientPeer::new(&own, &answered, joining.active, client_certificate(), self.now);
        self.add(number, peer, session, actor)
    }

    fn add(&mut self, number: u16, peer: ClientPeer, session: Arc<Session>, actor: Actor) -> usize {
        let address = SocketAddr::from(([198, 51, 100, (number % 200) as u8 + 1], 20_000 + number));
        self.clients.push(Client::new(peer, address, session, actor));
        self.clients.len() - 1
    }

    /// A client whose session others have agreed on. It does nothing before it has the answer.
    pub(crate) fn add_silent(&mut self, peer: ClientPeer, session: Arc<Session>, actor: Actor) -> usize {
        self.joined += 1;
        self.command(&Command::Expect(session.clone()));
        let place = self.add(self.joined, peer, session, actor);
        self.clients[place].vanished = true;
        place
    }

    /// Sends a datagram with a forged source address.
    pub(crate) fn spoof(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.network.send(self.now, from, true, datagram);
    }

    /// Paths that each shard knows: of its own peers, and of those of others.
    pub(crate) fn paths(&self) -> Vec<(usize, usize)> {
        self.nodes.iter().map(|node| node.shard.paths()).collect()
    }

    /// Tells every shard.
    pub(crate) fn command(&mut self, command: &Command) {
        self.nodes
            .iter_mut()
            .for_each(|node| node.commands.push(command.clone()));
    }

    /// Goes on for so long.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(end);
        }
    }

    /// Goes to the next moment at which anything happens, and lets it happen.
    fn step(&mut self, end: Instant) {
        self.settle();
        if self.is_flushing() {
            self.now = (self.now + SLICE_TIME).min(end);
            return;
        }
        let shards = self.nodes.iter().filter_map(|node| node.shard.poll_timeout());
        let clients = self.clients.iter().filter_map(Client::poll_timeout);
        let flight = self.network.next_arrival();
        let next = shards.chain(clients).chain(flight).chain([end]).min().unwrap_or(end);
        self.now = next.max(self.now);
    }

    /// Everything that is due now, or as much of it as comes before the next slice of a batch.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(
                round < 1_000,
                "seed {}: something spins at {:?}",
                self.seed,
                self.elapsed()
            );
            while let Some(flight) = self.network.arrived(self.now) {
                self.deliver(flight);
            }
            for client in &mut self.clients {
                client.handle_timeout(self.now, &mut self.ledgers);
                while let Some(datagram) = client.poll_transmit() {
                    self.network.send(self.now, client.address, true, &datagram);
                }
            }
            (0..self.nodes.len()).for_each(|id| self.turn(id));
            if self.is_settled() || self.is_flushing() {
                return;
            }
        }
    }

    fn is_settled(&self) -> bool {
        let now = self.now;
        let busy = |node: &Node| {
            let due = node.shard.poll_timeout().is_some_and(|at| at <= now);
            let mail = node.strays.len() + node.claims.len() + node.commands.len();
            due || node.woken.load(Ordering::Relaxed) || !node.datagrams.is_empty() || mail > 0
        };
        let due = |client: &Client| client.poll_timeout().is_some_and(|at| at <= now);
        !self.nodes.iter().any(busy) && !self.clients.iter().any(due)
    }

    fn deliver(&mut self, flight: Flight) {
        let Flight { client, up, bytes, .. } = flight;
        if up {
            let mut from = client;
            if self.scattered && self.moved.insert(client) {
                from.set_port(client.port() + 10_001);
            }
            let shard = usize::from(from.port()) % self.nodes.len();
            self.nodes[shard].datagrams.push((path_of(from), bytes));
        } else if let Some(client) = self.clients.iter_mut().find(|known| known.address == client) {
            client.handle_datagram(self.now, bytes, &self.ledgers, &self.guard);
            while let Some(datagram) = client.poll_transmit() {
                self.network.send(self.now, client.address, true, &datagram);
            }
        }
    }

    /// One turn of a shard, in the order of `net/shard_loop.rs`.
    fn turn(&mut self, id: usize) {
        let now = self.now;
        let node = &mut self.nodes[id];
        node.woken.store(false, Ordering::Relaxed);
        let connected = node.shard.counters().connected.value();
        let mut wire = Wire {
            now,
            network: &mut self.network,
            guard: &mut self.guard,
            failing: self.failing,
        };
        node.shard.handle_lanes(now, &mut wire);
        for claim in std::mem::take(&mut node.claims) {
            node.shard.handle_claim(now, claim);
        }
        for mut stray in std::mem::take(&mut node.strays) {
            node.shard.handle_misrouted(now, &mut stray);
        }
        for command in std::mem::take(&mut node.commands) {
            node.shard.handle_command(command);
        }
        for (from, mut bytes) in std::mem::take(&mut node.datagrams) {
            node.shard.handle_datagram(now, from, &mut bytes);
        }
        node.shard.handle_lanes(now, &mut wire);
        node.shard.handle_timeout(now, &mut wire);
        node.shard.handle_handshakes(now);
        node.shard.flush(&mut wire);
        let connected = node.shard.counters().connected.value() - connected;
        // Four at most, and as many whose media was there before their turn.
        assert!(connected <= 8, "seed {}: {connected} handshakes in one turn", self.seed);
        let mut closed = Vec::new();
        while let Some(event) = node.shard.poll_event() {
            // The registry tells all shards that the session is over.
            if let Event::Closed { session, .. } = &event
                && let Some(client) = self.clients.iter().find(|client| client.session.id == *session)
            {
                closed.push(client.session.clone());
            }
            self.events.push((now - self.start, event));
        }
        let strays: Vec<MisroutedDatagram> = std::iter::from_fn(|| node.shard.poll_misrouted()).collect();
        let mut claims = Vec::new();
        node.shard.poll_claims(|claim| {
            claims.push(claim);
            true
        });
        let most = self.clients.len() + self.strangers;
        assert!(node.shard.peers() <= most && node.shard.sessions() <= most);
        for stray in strays {
            self.strays += 1;
            assert_ne!(stray.shard, id, "seed {}: handed to itself", self.seed);
            self.nodes[stray.shard].strays.push(stray);
        }
        for claim in claims {
            assert_ne!(claim.shard, id, "seed {}: claimed from itself", self.seed);
            self.nodes[claim.shard].claims.push(claim);
        }
        closed
            .into_iter()
            .for_each(|session| self.command(&Command::Close(session)));
    }

    /// A batch is on its way out.
    pub(crate) fn is_flushing(&self) -> bool {
        self.nodes.iter().any(|node| node.shard.is_flushing())
    }

    /// What all shards counted.
    pub(crate) fn counts(&self) -> ShardCounts {
        let mut all = ShardCounts::default();
        let shards = self.nodes.iter().map(|node| node.shard.counters());
        shards.for_each(|counters| all.merge(&counters.read()));
        all
    }

    /// Peers on all shards.
    pub(crate) fn peers(&self) -> usize {
        self.nodes.iter().map(|node| node.shard.peers()).sum()
    }

    /// Viewers that start, on all shards.
    pub(crate) fn starting(&self) -> usize {
        self.nodes.iter().map(|node| node.shard.starting()).sum()
    }

    /// User names of restarts, on all shards.
    pub(crate) fn restarts(&self) -> usize {
        self.nodes.iter().map(|node| node.shard.restarts()).sum()
    }

    /// Sessions on all shards.
    pub(crate) fn sessions(&self) -> usize {
        self.nodes.iter().map(|node| node.shard.sessions()).sum()
    }
}

//! The state machine of one media thread: its peers, and the streams that they send or are sent.
//!
//! Datagrams, lane items, commands and the time go in; datagrams, events and misrouted datagrams come out. A shell turns it in
//! numbered, bounded steps (`shard_loop`); the tests turn it in simulated time.
//!
//! A [`Shard`] is made of parts that own their state: `sessions` (clients that may connect), `peers` (those that have), `routes` (which
//! peer a path belongs to), `streams` (what is watched here), `start_queue`, `handshakes`, `timers` and `output`. The `impl Shard`
//! blocks in the other modules bring the parts together, one topic each.

mod close;
mod connect;
mod feedback;
mod flush;
mod handshakes;
mod output;
mod peers;
mod plan;
mod probes;
mod routes;
mod rtp;
mod sessions;
mod start;
mod start_queue;
mod streams;
mod timeouts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_rtc::demux::{Datagram, classify};
use onecast_rtc::transmit::Outlet;
use onecast_rtc::{Certificate, Path};

use self::handshakes::Handshakes;
use self::output::Output;
use self::peers::Peers;
use self::probes::Probes;
use self::routes::Routes;
use self::sessions::Sessions;
use self::start_queue::StartQueue;
use self::streams::Streams;
use super::session::{Claim, CloseCause, Command, Event, MisroutedDatagram};
use super::stream::StartConfig;
use super::timers::Timers;
use crate::media::Inbox;
use onecast_metrics::ShardCounters;

/// What a shard is made with.
#[derive(Clone)]
pub struct ShardConfig {
    /// Its number, which is its place among the inboxes.
    pub id: usize,
    /// The process's certificate.
    pub certificate: Certificate,
    /// Between regular keyframe requests to a publisher whose stream is watched; `None` for never.
    pub pli_interval: Option<Duration>,
    /// What keyframes that viewers ask for may take of the video's bytes, percent.
    pub keyframe_share: u8,
    /// How viewers are started.
    pub start: StartConfig,
    /// Viewers are sent what their paths carry: another layer, or parts of one.
    pub adapts: bool,
    /// What probes of viewers' paths may take of the bytes that the shard sends, percent.
    pub probe_share: u8,
    /// Most peers at once.
    pub peers_max: usize,
    /// Datagrams of live media in one slice, at least 1, for which STUN, NACKs and other streams wait. A turn has up to three slices.
    pub slice: usize,
    /// A moment, and the NTP time that it was.
    pub wall: (Instant, u64),
}

/// One media thread's whole state.
pub struct Shard {
    config: ShardConfig,
    inbox: Arc<Inbox>,
    sessions: Sessions,
    peers: Peers,
    routes: Routes,
    streams: Streams,
    starts: StartQueue,
    handshakes: Handshakes,
    timers: Timers,
    probes: Probes,
    out: Output,
    counters: Arc<ShardCounters>,
}

impl ShardConfig {
    /// Two thirds of a millisecond.
    pub const SLICE: usize = 512;
    /// One byte in twenty.
    pub const PROBE_SHARE: u8 = 5;
}

impl Shard {
    /// Lane items drained in one turn, so that receiving gets its turn too.
    const LANE_ITEMS_PER_TURN: usize = 1_024;
    /// Timers run in one turn.
    const TIMERS_PER_TURN: usize = 64;

    /// A shard without peers.
    pub fn new(config: ShardConfig, inbox: Arc<Inbox>, counters: Arc<ShardCounters>) -> Shard {
        let probes = Probes::new(config.wall.0, config.probe_share);
        Shard {
            routes: Routes::new(config.id, counters.clone()),
            out: Output::new(counters.clone()),
            config,
            inbox,
            sessions: Sessions::default(),
            peers: Peers::new(),
            streams: Streams::default(),
            starts: StartQueue::default(),
            handshakes: Handshakes::default(),
            timers: Timers::default(),
            probes,
            counters,
        }
    }

    /// Takes a command.
    pub fn handle_command(&mut self, command: Command) {
        match command {
            // It ended while the command was on its way, and its end arrived here first.
            Command::Expect(session) if session.is_withdrawn() => {}
            Command::Expect(session) => self.sessions.expect(session),
            Command::Restart(restart) => self.expect_restart(&restart),
            Command::Close(session) => self.close_session(&session),
            Command::Plan(session, plan) => self.expect_plan(&session, plan),
            Command::PeersMax(most) => self.config.peers_max = most,
            Command::Shutdown => {
                for index in self.peers.indices() {
                    self.close_peer(index, CloseCause::Commanded);
                }
            }
        }
    }

    /// Takes one datagram, which it may change in place.
    pub fn handle_datagram(&mut self, now: Instant, from: Path, datagram: &mut [u8]) {
        match classify(datagram) {
            Datagram::Stun => self.handle_stun(now, from, datagram),
            Datagram::Dtls => self.handle_dtls(now, from, datagram),
            Datagram::Rtp => self.handle_rtp(now, from, datagram),
            Datagram::Rtcp => self.handle_rtcp(now, from, datagram),
            Datagram::Unknown => self.counters.unknown_dropped.add(1),
        }
    }

    /// Takes a datagram that another shard received.
    pub fn handle_misrouted(&mut self, now: Instant, datagram: &mut MisroutedDatagram) {
        self.routes.set_handed_by(Some(datagram.by));
        self.handle_datagram(now, datagram.from, &mut datagram.bytes);
        self.routes.set_handed_by(None);
    }

    /// Takes what the owner of a peer says about one of its paths.
    pub fn handle_claim(&mut self, now: Instant, claim: Claim) {
        self.routes.handle_claim(now, claim, &self.peers);
    }

    /// Takes what waits on the lanes; complete frames go out at once, to thousands of viewers a slice a turn.
    pub fn handle_lanes(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        self.apply_plans(now);
        for _ in 0..Shard::LANE_ITEMS_PER_TURN {
            if self.streams.is_behind() {
                break;
            }
            let Some((key, item)) = self.inbox.pop() else { break };
            self.handle_item(now, key, item, outlet);
        }
        if self.inbox.take_signal() {
            self.handle_requests(now);
        }
        self.run_flushes(now, outlet);
    }

    /// Does what is due, up to a bound; what is left is still due.
    pub fn handle_timeout(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        self.streams.find_due(now);
        self.run_flushes(now, outlet);
        for _ in 0..Shard::TIMERS_PER_TURN {
            let Some(timer) = self.timers.pop_due(now) else { break };
            self.handle_timer(now, timer);
        }
        self.run_starts(now, outlet);
        self.run_probes(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`handle_handshakes`](Self::handle_handshakes) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [
            self.streams.poll_timeout(),
            self.timers.poll_timeout(),
            self.starts.poll_timeout(),
            self.handshakes.poll_timeout(),
            self.probes.poll_timeout(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Batches are on their way out: [`handle_lanes`](Self::handle_lanes) goes on with them.
    pub fn is_flushing(&self) -> bool {
        self.streams.is_flushing()
    }

    /// Sends everything that is queued.
    pub fn flush(&mut self, outlet: &mut dyn Outlet) {
        self.out.flush_control(outlet);
        self.send(outlet);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.poll_event()
    }

    /// The next datagram for another shard.
    pub fn poll_misrouted(&mut self) -> Option<MisroutedDatagram> {
        self.routes.poll_misrouted()
    }

    /// Hands each claim to `tell`, until it finds no room for one.
    pub fn poll_claims(&mut self, tell: impl FnMut(Claim) -> bool) {
        self.routes.poll_claims(tell);
    }

    /// How many peers it has.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// How many sessions it knows: those of its peers, and those whose clients have not sent anything yet.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// User names of ICE restarts that it knows.
    pub fn restarts(&self) -> usize {
        self.sessions.restarts()
    }

    /// Paths that it knows: of its own peers, and of those of other shards.
    pub fn paths(&self) -> (usize, usize) {
        self.routes.len()
    }

    /// Viewers that start: they wait for the moment, or are on their way to the live edge.
    pub fn starting(&self) -> usize {
        self.starts.len()
    }

    /// Its counters.
    pub fn counters(&self) -> &Arc<ShardCounters> {
        &self.counters
    }
}

//! The state machine of one media thread: its peers, and the streams they feed or watch.
//!
//! Datagrams, lane items, commands and the time go in; datagrams, events and strays come out. A shell turns it in numbered, bounded
//! steps (`net/shard_loop.rs`); the tests turn it in simulated time.

mod conferring;
mod connecting;
mod ending;
mod flushing;
mod handshakes;
mod media;
mod restarting;
mod routing;
mod starting;
mod timing;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::member::Member;
use super::membership::{Lift, Membership};
use super::publisher::Publisher;
use super::session::{Claim, CloseCause, Command, Event, Hold, Restart, Session, SessionRole, Stray};
use super::slab::Slab;
use super::source::{KeyframeNews, PublisherConfig, Received};
use super::stream::{FirstPicture, Flow, Lost, Out, Progress, Remedy, Server, ShardStream, StartConfig, Started};
use super::timers::{Entry, Timers};
use super::viewer::Viewer;
use crate::media::{Inbox, SenderClock};
use crate::metrics::ShardCounters;
use handshakes::Handshakes;
use onecast_rtc::demux::{Datagram, classify};
use onecast_rtc::rtp::Kind;
use onecast_rtc::rtp::rtcp::{self, Report};
use onecast_rtc::transmit::{Outlet, SendQueue};
use onecast_rtc::{Certificate, Opener, Sealer, Sends, SrtpKeys, Transmit, Transport, TransportEvent, ice};
use routing::Routes;
use starting::Starting;

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
    /// By our ICE ufrag in the answer.
    sessions: HashMap<Box<str>, Expected>,
    /// From our ufrag of a restart to the one in the answer.
    restarted: HashMap<Box<str>, Box<str>>,
    peers: Slab<Peer>,
    routes: Routes,
    streams: Vec<Option<Box<ShardStream>>>,
    /// Slots of streams that gather a batch.
    gathering: Vec<u32>,
    /// Slots of streams whose batches go out, in the order of their turns.
    flushing: VecDeque<u32>,
    /// Since when there are some.
    flushing_since: Option<Instant>,
    /// Peers that send: publishers, and members of rooms.
    publishers: Vec<u32>,
    /// Peers of which there is news from a room.
    changed: Vec<u32>,
    starting: Starting,
    handshakes: Handshakes,
    timers: Timers,
    queue: SendQueue,
    control: Vec<Transmit>,
    events: VecDeque<Event>,
    strays: VecDeque<Stray>,
    /// The shard that handed over the datagram in hand.
    handed_by: Option<usize>,
    counters: Arc<ShardCounters>,
    first_pictures: Vec<FirstPicture>,
    failed: Vec<u32>,
}

/// A session whose client may send us STUN checks.
struct Expected {
    session: Arc<Session>,
    /// Its peer, if it lives here.
    peer: Option<u32>,
    /// The newest restarts, at most [`Expected::RESTARTS_MAX`].
    restarts: Vec<Arc<Restart>>,
    /// The newest word on what it sends and is sent, if it is a member of a room.
    membership: Option<Arc<Membership>>,
    /// The newest word on what becomes of it in a room, if it is a publisher.
    lift: Option<Arc<Lift>>,
}

struct Peer {
    session: Arc<Session>,
    transport: Transport,
    state: State,
    timer_at: Option<Instant>,
}

enum State {
    Connecting,
    Publishing(Box<Publisher>),
    Viewing { slot: u32, position: u32 },
    Member(Box<Member>),
}

impl ShardConfig {
    /// Two thirds of a millisecond.
    pub const SLICE: usize = 512;
}

impl Shard {
    /// Lane items drained in one turn, so that receiving gets its turn too.
    const LANE_ITEMS_PER_TURN: usize = 1_024;
    /// Timers run in one turn.
    const TIMERS_PER_TURN: usize = 64;
    /// Strays that wait to be handed over.
    const STRAYS_MAX: usize = 256;
    /// Control datagrams that wait for room in the send queue.
    const CONTROL_MAX: usize = 1_024;

    /// A shard without peers.
    pub fn new(config: ShardConfig, inbox: Arc<Inbox>, counters: Arc<ShardCounters>) -> Shard {
        Shard {
            config,
            inbox,
            sessions: HashMap::new(),
            restarted: HashMap::new(),
            peers: Slab::new(),
            routes: Routes::default(),
            streams: Vec::new(),
            gathering: Vec::new(),
            flushing: VecDeque::new(),
            flushing_since: None,
            publishers: Vec::new(),
            changed: Vec::new(),
            starting: Starting::default(),
            handshakes: Handshakes::default(),
            timers: Timers::default(),
            queue: SendQueue::new(),
            control: Vec::new(),
            events: VecDeque::new(),
            strays: VecDeque::new(),
            handed_by: None,
            counters,
            first_pictures: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Takes a command.
    pub fn handle_command(&mut self, command: Command) {
        match command {
            // Ended while the shards were told of it: this one has heard of the end first.
            Command::Expect(session) if session.is_withdrawn() => {}
            Command::Expect(session) => {
                self.sessions
                    .insert(session.local.ufrag.clone(), Expected::new(session));
            }
            Command::Restart(restart) => self.expect_restart(restart),
            Command::Close(session) => self.close_session(&session),
            Command::Membership(session, membership) => self.expect_membership(&session, membership),
            Command::Lift(lift) => self.expect_lift(lift),
            Command::PeersMax(most) => self.config.peers_max = most,
            Command::Shutdown => {
                for index in self.peers.indices() {
                    self.close_peer(index, CloseCause::Commanded);
                }
            }
        }
    }

    /// Takes one datagram, which it may change in place.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        match classify(datagram) {
            Datagram::Stun => self.handle_stun(now, from, datagram),
            Datagram::Dtls => self.handle_dtls(now, from, datagram),
            Datagram::Rtp => self.handle_rtp(now, from, datagram),
            Datagram::Rtcp => self.handle_rtcp(now, from, datagram),
            Datagram::Unknown => self.counters.unknown_dropped.add(1),
        }
    }

    /// Takes a datagram that another shard received.
    pub fn handle_stray(&mut self, now: Instant, stray: &mut Stray) {
        self.handed_by = Some(stray.by);
        self.handle_datagram(now, stray.from, &mut stray.bytes);
        self.handed_by = None;
    }

    /// Takes what waits on the lanes; complete frames go out at once, to thousands of viewers a slice a turn.
    pub fn handle_lanes(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        self.bring_changes_about(now);
        for _ in 0..Shard::LANE_ITEMS_PER_TURN {
            if self.is_behind() {
                break;
            }
            let Some((key, item)) = self.inbox.pop() else { break };
            self.handle_item(now, key, item, outlet);
        }
        if self.inbox.take_wish() {
            self.serve_wishes(now);
        }
        self.run_flushes(now, outlet);
    }

    /// Does what is due, up to a bound; what is left is still due.
    pub fn handle_timeout(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        self.find_flushes(now);
        self.run_flushes(now, outlet);
        for _ in 0..Shard::TIMERS_PER_TURN {
            let Some(entry) = self.timers.pop_due(now) else { break };
            self.handle_timer(now, entry);
        }
        self.run_starts(now, outlet);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let batches = self
            .gathering
            .iter()
            .filter_map(|&slot| self.streams[slot as usize].as_ref()?.flush_at());
        let others = [
            self.flushing_since,
            self.timers.next(),
            self.starting.next(),
            self.handshakes.next(),
        ];
        batches.chain(others.into_iter().flatten()).min()
    }

    /// Sends everything that is queued.
    pub fn flush(&mut self, outlet: &mut dyn Outlet) {
        for outgoing in std::mem::take(&mut self.control) {
            if self.queue.is_full() {
                self.send(outlet);
            }
            self.queue
                .push(outgoing.to, onecast_rtc::transmit::Run::NOBODY, &outgoing.bytes);
        }
        self.send(outlet);
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next datagram for another shard.
    pub fn poll_stray(&mut self) -> Option<Stray> {
        self.strays.pop_front()
    }

    /// Peers that it holds.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Sessions whose clients have not been heard of, and those of peers.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Viewers that start: they wait for the moment, or are on their way to the live edge.
    pub fn starting(&self) -> usize {
        self.starting.len()
    }

    /// Its counters.
    pub fn counters(&self) -> &Arc<ShardCounters> {
        &self.counters
    }

    fn stream(&mut self, slot: u32) -> Option<&mut ShardStream> {
        self.streams.get_mut(slot as usize)?.as_deref_mut()
    }

    /// Where a peer's viewer is in the stream at a slot.
    fn position(&self, peer: u32, slot: u32) -> Option<usize> {
        let position = match &self.peers.get(peer)?.state {
            State::Viewing { slot: at, position } => (*at == slot).then_some(*position),
            State::Member(member) => member.subscriptions.position(slot),
            State::Connecting | State::Publishing(_) => None,
        };
        position.map(|position| position as usize)
    }

    fn queue_control(&mut self, mut out: Vec<Transmit>) {
        let room = Shard::CONTROL_MAX.saturating_sub(self.control.len());
        self.counters.control_dropped.add(out.len().saturating_sub(room) as u64);
        out.truncate(room);
        self.control.append(&mut out);
    }
}

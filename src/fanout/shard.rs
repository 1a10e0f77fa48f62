//! The state machine of one media thread: its peers, and the streams they feed or watch.
//!
//! Datagrams, lane items, commands and the time go in; datagrams, events and strays come out. A shell turns it in numbered, bounded
//! steps (`net/shard_loop.rs`); the tests turn it in simulated time.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::egress::{Outlet, SendQueue};
use super::publisher::{Publisher, Received};
use super::session::{CloseCause, Command, Event, Session, SessionRole, Stray};
use super::slab::Slab;
use super::stream::{FirstPicture, Flow, Pictures, ShardStream};
use super::timers::{Entry, Timers};
use super::viewer::Viewer;
use crate::media::{Inbox, SenderClock};
use crate::metrics::ShardCounters;
use crate::peer::demux::{Datagram, classify};
use crate::peer::{Certificate, Check, Opener, Sealer, SrtpKeys, Transmit, Transport, TransportEvent, ice};
use crate::rtp::Kind;
use crate::rtp::rtcp::{self, Report};

/// What a shard is made with.
#[derive(Clone)]
pub struct ShardConfig {
    /// Its number, which is its place among the inboxes.
    pub id: usize,
    /// The process's certificate.
    pub certificate: Certificate,
    /// Between regular keyframe requests to a publisher whose stream is watched; `None` for never.
    pub pli_interval: Option<Duration>,
    /// Most peers at once.
    pub peers_max: usize,
    /// A moment, and the NTP time that it was.
    pub wall: (Instant, u64),
}

/// One media thread's whole state.
pub struct Shard {
    config: ShardConfig,
    inbox: Arc<Inbox>,
    /// By our ICE ufrag.
    sessions: HashMap<Box<str>, Expected>,
    peers: Slab<Peer>,
    addresses: HashMap<SocketAddr, u32>,
    /// Addresses whose peers live on other shards.
    foreign: HashMap<SocketAddr, usize>,
    streams: Vec<Option<Box<ShardStream>>>,
    /// Slots of streams with a gathered batch.
    gathering: Vec<u32>,
    publishers: Vec<u32>,
    timers: Timers,
    queue: SendQueue,
    control: Vec<Transmit>,
    events: VecDeque<Event>,
    strays: VecDeque<Stray>,
    counters: Arc<ShardCounters>,
    first_pictures: Vec<FirstPicture>,
    failed: Vec<u32>,
}

/// A session whose client may send us STUN checks.
struct Expected {
    session: Arc<Session>,
    /// Its peer, if it lives here.
    peer: Option<u32>,
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
}

impl Shard {
    /// Lane items drained in one turn, so that receiving gets its turn too.
    const LANE_ITEMS_PER_TURN: usize = 1_024;
    /// Timers run in one turn.
    const TIMERS_PER_TURN: usize = 64;
    /// Addresses of other shards' peers that are remembered.
    const FOREIGN_MAX: usize = 4_096;
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
            peers: Slab::new(),
            addresses: HashMap::new(),
            foreign: HashMap::new(),
            streams: Vec::new(),
            gathering: Vec::new(),
            publishers: Vec::new(),
            timers: Timers::default(),
            queue: SendQueue::new(),
            control: Vec::new(),
            events: VecDeque::new(),
            strays: VecDeque::new(),
            counters,
            first_pictures: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Takes a command.
    pub fn handle_command(&mut self, command: Command) {
        match command {
            Command::Expect(session) => {
                self.sessions
                    .insert(session.local.ufrag.clone(), Expected { session, peer: None });
            }
            Command::Close(session) => self.close_session(&session),
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

    /// Takes what waits on the lanes; complete frames go out at once.
    pub fn handle_lanes(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        for _ in 0..Shard::LANE_ITEMS_PER_TURN {
            let Some((key, item)) = self.inbox.pop() else { break };
            let Some(stream) = self.streams.get_mut(key.slot as usize).and_then(Option::as_mut) else {
                continue;
            };
            if stream.tracks().key != key {
                continue;
            }
            let idle = stream.flush_at().is_none();
            let mut flow = Flow::default();
            let complete = stream.take(now, item, &mut flow);
            self.counters.rtp_stale.add(flow.stale);
            if complete {
                self.flush_stream(now, key.slot, outlet);
            } else if idle {
                self.gathering.push(key.slot);
            }
        }
        if self.inbox.take_keyframe_wanted() {
            self.pass_keyframe_requests_on(now);
        }
    }

    /// Does what is due, up to a bound; what is left is still due.
    pub fn handle_timeout(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        let mut due = std::mem::take(&mut self.gathering);
        due.retain(|&slot| match self.stream(slot).and_then(|stream| stream.flush_at()) {
            Some(at) if at <= now => {
                self.flush_stream(now, slot, outlet);
                false
            }
            Some(_) => true,
            None => false,
        });
        self.gathering.append(&mut due);
        for _ in 0..Shard::TIMERS_PER_TURN {
            let Some(entry) = self.timers.pop_due(now) else { break };
            self.handle_timer(now, entry);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let batches = self
            .gathering
            .iter()
            .filter_map(|&slot| self.streams[slot as usize].as_ref()?.flush_at());
        batches.chain(self.timers.next()).min()
    }

    /// Sends everything that is queued.
    pub fn flush(&mut self, outlet: &mut dyn Outlet) {
        for outgoing in std::mem::take(&mut self.control) {
            if self.queue.is_full() {
                self.send(outlet);
            }
            self.queue.push(outgoing.to, super::Run::NOBODY, &outgoing.bytes);
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

    /// Its counters.
    pub fn counters(&self) -> &Arc<ShardCounters> {
        &self.counters
    }

    // --- ICE and DTLS -------------------------------------------------------------------------------------------------------

    fn handle_stun(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(expected) = ice::local_ufrag(datagram).and_then(|ufrag| self.sessions.get(ufrag)) else {
            return self.counters.stun_dropped.add(1);
        };
        match (expected.peer, expected.session.owner()) {
            (Some(index), _) => self.check(now, index, from, datagram),
            (None, Some(owner)) if owner == self.config.id => self.counters.stun_dropped.add(1),
            (None, Some(owner)) => self.hand_over(owner, from, datagram),
            (None, None) => self.adopt(now, &expected.session.clone(), from, datagram),
        }
    }

    /// The first STUN check of a session: if it is valid, its peer lives here from now on.
    fn adopt(&mut self, now: Instant, session: &Arc<Session>, from: SocketAddr, datagram: &mut [u8]) {
        let mut transport = Transport::new(
            session.local.clone(),
            session.remote.clone(),
            self.config.certificate.clone(),
            now,
        );
        let mut out = Vec::new();
        let Ok(check) = transport.handle_stun(now, from, datagram, &mut out) else {
            return self.counters.stun_dropped.add(1);
        };
        match session.adopt(self.config.id) {
            Some(owner) if owner == self.config.id => {}
            Some(owner) => return self.hand_over(owner, from, datagram),
            None => return self.counters.stun_dropped.add(1),
        }
        if self.peers.len() >= self.config.peers_max {
            self.sessions.remove(&session.local.ufrag);
            self.events.push_back(Event::Closed {
                session: session.id,
                cause: CloseCause::Full,
            });
            return;
        }
        let peer = Peer {
            session: session.clone(),
            transport,
            state: State::Connecting,
            timer_at: None,
        };
        let index = self.peers.insert(peer);
        if let Some(expected) = self.sessions.get_mut(&session.local.ufrag) {
            expected.peer = Some(index);
        }
        self.counters.peers.set(self.peers.len() as u64);
        self.counters.stun_in.add(1);
        self.queue_control(out);
        self.note_check(index, from, check);
        self.schedule(index);
    }

    fn check(&mut self, now: Instant, index: u32, from: SocketAddr, datagram: &[u8]) {
        let mut out = Vec::new();
        let Some(peer) = self.peers.get_mut(index) else { return };
        let check = peer.transport.handle_stun(now, from, datagram, &mut out);
        self.queue_control(out);
        let Ok(check) = check else {
            return self.counters.stun_dropped.add(1);
        };
        self.counters.stun_in.add(1);
        self.note_check(index, from, check);
        self.follow_remote(index);
        self.schedule(index);
    }

    /// Datagrams from an address whose check passed belong to this peer from now on.
    fn note_check(&mut self, index: u32, from: SocketAddr, check: Check) {
        match check {
            Check::Refused => {}
            Check::Known if self.addresses.get(&from) == Some(&index) => {}
            Check::Known | Check::New { evicted: None } => {
                self.addresses.insert(from, index);
                self.foreign.remove(&from);
            }
            Check::New { evicted: Some(evicted) } => {
                self.forget_address(index, evicted);
                self.addresses.insert(from, index);
                self.foreign.remove(&from);
            }
        }
    }

    /// The address is no longer this peer's; another may have taken it over.
    fn forget_address(&mut self, index: u32, address: SocketAddr) {
        if self.addresses.get(&address) == Some(&index) {
            self.addresses.remove(&address);
        }
    }

    /// Media goes where the peer's checks say now.
    fn follow_remote(&mut self, index: u32) {
        let Some(peer) = self.peers.get(index) else { return };
        if let (State::Viewing { slot, position }, Some(remote)) = (&peer.state, peer.transport.remote()) {
            let (slot, position) = (*slot, *position as usize);
            if let Some(stream) = self.stream(slot) {
                stream.viewer(position).to = remote;
            }
        }
    }

    fn handle_dtls(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(&index) = self.addresses.get(&from) else {
            return self.hand_over_or_drop(from, datagram, |counters| &counters.dtls_dropped);
        };
        let mut out = Vec::new();
        let Some(peer) = self.peers.get_mut(index) else { return };
        let event = peer.transport.handle_dtls(now, from, datagram, &mut out);
        self.queue_control(out);
        self.handle_transport_event(now, index, event);
        self.schedule(index);
    }

    fn handle_transport_event(&mut self, now: Instant, index: u32, event: Option<TransportEvent>) {
        match event {
            Some(TransportEvent::Connected(keys)) => self.connect(now, index, &keys),
            Some(TransportEvent::Closed(reason)) => self.remove_peer(index, CloseCause::Transport(reason)),
            None => {}
        }
    }

    fn connect(&mut self, now: Instant, index: u32, keys: &SrtpKeys) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let Some(address) = peer.transport.remote() else { return };
        let session = peer.session.clone();
        let ciphers = (Sealer::new(keys), Opener::new(keys));
        self.counters.connected.add(1);
        self.events.push_back(Event::Connected {
            session: session.id,
            address,
            cipher: keys.profile(),
        });
        match &session.role {
            SessionRole::Publisher(negotiated) => {
                let tracks = session.tracks.clone();
                let interval = self.config.pli_interval;
                let publisher = Publisher::new(tracks, negotiated, ciphers, self.config.id, interval, now);
                peer.state = State::Publishing(Box::new(publisher));
                self.publishers.push(index);
                if session.tracks.video.is_bound() {
                    session.tracks.request_keyframe();
                }
            }
            SessionRole::Viewer { audio, video } => {
                let lines = (audio.clone(), video.clone());
                let viewer = Viewer::new(index, address, session.created, now, ciphers, lines);
                self.add_viewer(index, &session, viewer);
                session.tracks.request_keyframe();
            }
        }
    }

    fn add_viewer(&mut self, index: u32, session: &Arc<Session>, viewer: Viewer) {
        let slot = session.tracks.key.slot;
        if self.streams.len() <= slot as usize {
            self.streams.resize_with(slot as usize + 1, || None);
        }
        let stream =
            self.streams[slot as usize].get_or_insert_with(|| Box::new(ShardStream::new(session.tracks.clone())));
        let position = stream.add(viewer, self.config.id) as u32;
        if let Some(peer) = self.peers.get_mut(index) {
            peer.state = State::Viewing { slot, position };
        }
    }

    // --- media --------------------------------------------------------------------------------------------------------------

    fn handle_rtp(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(&index) = self.addresses.get(&from) else {
            return self.hand_over_or_drop(from, datagram, |counters| &counters.rtp_in_dropped);
        };
        let Some(peer) = self.peers.get_mut(index) else { return };
        let State::Publishing(publisher) = &mut peer.state else {
            return self.counters.rtp_in_dropped.add(1);
        };
        match publisher.handle_rtp(now, datagram) {
            Received::Dropped => return self.counters.rtp_in_dropped.add(1),
            Received::Started(kind, codec) => {
                self.events.push_back(Event::Media {
                    session: peer.session.id,
                    kind,
                    codec,
                });
            }
            Received::Media => {}
        }
        peer.transport.handle_authenticated_media();
        self.counters.rtp_in.add(1);
        self.schedule(index);
    }

    fn handle_rtcp(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(&index) = self.addresses.get(&from) else {
            return self.hand_over_or_drop(from, datagram, |counters| &counters.rtcp_dropped);
        };
        let Some(peer) = self.peers.get_mut(index) else { return };
        let authentic = match &mut peer.state {
            State::Connecting => false,
            State::Publishing(publisher) => {
                let authentic = publisher.handle_rtcp(now, datagram);
                if let Some(to) = peer.transport.remote() {
                    publisher.poll_rtcp(now, to, index, &mut self.queue);
                }
                authentic
            }
            &mut State::Viewing { slot, position } => self.handle_feedback(now, slot, position as usize, datagram),
        };
        if !authentic {
            return self.counters.rtcp_dropped.add(1);
        }
        if let Some(peer) = self.peers.get_mut(index) {
            peer.transport.handle_authenticated_media();
        }
        self.schedule(index);
    }

    /// RTCP of a viewer. False if it is not authentic.
    fn handle_feedback(&mut self, now: Instant, slot: u32, position: usize, datagram: &mut [u8]) -> bool {
        let Some(stream) = self.streams.get_mut(slot as usize).and_then(Option::as_mut) else {
            return false;
        };
        let Ok(len) = stream.viewer(position).opener.open_rtcp(datagram) else {
            return false;
        };
        let mut flow = Flow::default();
        let mut keyframes = 0;
        let parsed = rtcp::parse(&datagram[..len], |report| match report {
            Report::Nack { about, sequences } => {
                stream.retransmit(now, position, about, sequences, &mut self.queue, &mut flow);
            }
            Report::Pli { about } | Report::Fir { about, .. } if stream.kind_of(about) == Some(Kind::Video) => {
                keyframes += 1
            }
            _ => {}
        });
        if keyframes > 0 {
            self.counters.keyframe_requests.add(keyframes);
            stream.tracks().request_keyframe();
        }
        self.counters.retransmitted.add(flow.retransmitted);
        self.counters.not_retransmitted.add(flow.not_retransmitted);
        parsed.is_ok()
    }

    fn flush_stream(&mut self, now: Instant, slot: u32, outlet: &mut dyn Outlet) {
        let Some(stream) = self.streams.get_mut(slot as usize).and_then(Option::as_mut) else {
            return;
        };
        let mut flow = Flow::default();
        let mut notes = Pictures {
            now,
            first: &mut self.first_pictures,
            failed: &mut self.failed,
        };
        stream.flush(&mut self.queue, outlet, &mut flow, &mut notes);
        self.send(outlet);
        self.count(&flow);
        for picture in std::mem::take(&mut self.first_pictures) {
            if let Some(peer) = self.peers.get(picture.peer) {
                self.events.push_back(Event::Picture {
                    session: peer.session.id,
                    after: picture.after,
                });
            }
            self.report(now, picture.peer);
        }
    }

    fn count(&self, flow: &Flow) {
        self.counters.rtp_out.add(flow.sent);
        self.counters.rtp_out_bytes.add(flow.sent_bytes);
        self.counters.rtp_out_waiting.add(flow.waiting);
        self.counters.rtp_out_codec.add(flow.codec);
        self.counters.rtp_out_rest_of_frame.add(flow.rest_of_frame);
        self.counters.rtp_out_oversized.add(flow.oversized);
    }

    /// Sends the queue. A viewer whose run failed loses the rest of its frame, and nobody else anything.
    fn send(&mut self, outlet: &mut dyn Outlet) {
        if !self.queue.is_empty() {
            outlet.send(&mut self.queue, &mut |owner| self.failed.push(owner));
        }
        let mut failed = std::mem::take(&mut self.failed);
        for index in failed.drain(..) {
            self.counters.runs_failed.add(1);
            if let Some(Peer {
                state: State::Viewing { slot, position },
                ..
            }) = self.peers.get(index)
            {
                let (slot, position) = (*slot, *position as usize);
                if let Some(stream) = self.stream(slot) {
                    stream.skip_rest_of_frame(position);
                }
            }
        }
        self.failed = failed;
    }

    fn pass_keyframe_requests_on(&mut self, now: Instant) {
        for position in 0..self.publishers.len() {
            let index = self.publishers[position];
            if let Some(Peer {
                state: State::Publishing(publisher),
                transport,
                ..
            }) = self.peers.get_mut(index)
            {
                publisher.pass_keyframe_request_on();
                if let Some(to) = transport.remote() {
                    publisher.poll_rtcp(now, to, index, &mut self.queue);
                }
                self.schedule(index);
            }
        }
    }

    // --- time ---------------------------------------------------------------------------------------------------------------

    fn handle_timer(&mut self, now: Instant, entry: Entry) {
        let index = entry.peer;
        let current = self.peers.generation(index) == entry.generation;
        let Some(peer) = self
            .peers
            .get_mut(index)
            .filter(|peer| current && peer.timer_at == Some(entry.at))
        else {
            return;
        };
        peer.timer_at = None;
        let mut out = Vec::new();
        let event = peer.transport.handle_timeout(now, &mut out);
        if let State::Publishing(publisher) = &mut peer.state {
            publisher.handle_timeout(now);
            if let Some(to) = peer.transport.remote() {
                publisher.poll_rtcp(now, to, index, &mut self.queue);
            }
        }
        self.queue_control(out);
        self.handle_transport_event(now, index, event);
        self.report_if_due(now, index);
        self.schedule(index);
    }

    fn report_if_due(&mut self, now: Instant, index: u32) {
        if let Some(Peer {
            state: State::Viewing { slot, position },
            ..
        }) = self.peers.get(index)
        {
            let (slot, position) = (*slot, *position as usize);
            if self
                .stream(slot)
                .is_some_and(|stream| stream.viewer(position).report_at <= now)
            {
                self.report(now, index);
            }
        }
    }

    /// Sender reports to a viewer; when the queue is full they wait for the next turn.
    fn report(&mut self, now: Instant, index: u32) {
        let Some(Peer {
            state: State::Viewing { slot, position },
            ..
        }) = self.peers.get(index)
        else {
            return;
        };
        let (slot, position) = (*slot, *position as usize);
        if !self.queue.has_room_for(ShardStream::SHARE_MAX) {
            return;
        }
        let (at, ntp) = self.config.wall;
        let (wall, _) = SenderClock {
            ntp,
            rtp: 0,
            received_at: at,
        }
        .at(now, 1);
        if let Some(stream) = self.streams.get_mut(slot as usize).and_then(Option::as_mut) {
            stream.report(now, wall, position, &mut self.queue);
        }
        self.schedule(index);
    }

    /// Makes sure that a timer stands for the peer's next deadline.
    fn schedule(&mut self, index: u32) {
        let Some(peer) = self.peers.get(index) else { return };
        let own = match &peer.state {
            State::Connecting => None,
            State::Publishing(publisher) => publisher.poll_timeout(),
            State::Viewing { slot, position } => {
                let (slot, position) = (*slot, *position as usize);
                self.stream(slot).map(|stream| stream.viewer(position).report_at)
            }
        };
        let generation = self.peers.generation(index);
        let Some(peer) = self.peers.get_mut(index) else { return };
        let Some(at) = own.into_iter().chain(peer.transport.poll_timeout()).min() else {
            return;
        };
        if peer.timer_at.is_none_or(|standing| at < standing) {
            peer.timer_at = Some(at);
            self.timers.push(Entry {
                at,
                peer: index,
                generation,
            });
        }
    }

    // --- ending -------------------------------------------------------------------------------------------------------------

    fn close_session(&mut self, session: &Arc<Session>) {
        let peer = self
            .sessions
            .remove(&session.local.ufrag)
            .and_then(|expected| expected.peer);
        if let Some(index) = peer {
            self.close_peer(index, CloseCause::Commanded);
        }
    }

    /// Ends a peer from our side, with DTLS close_notify.
    fn close_peer(&mut self, index: u32, cause: CloseCause) {
        let mut out = Vec::new();
        if let Some(peer) = self.peers.get_mut(index) {
            peer.transport.close(&mut out);
        }
        self.queue_control(out);
        self.remove_peer(index, cause);
    }

    fn remove_peer(&mut self, index: u32, cause: CloseCause) {
        let Some(peer) = self.peers.remove(index) else { return };
        for &address in peer.transport.checked() {
            self.forget_address(index, address);
        }
        self.sessions.remove(&peer.session.local.ufrag);
        match peer.state {
            State::Connecting => {}
            State::Publishing(_) => self.publishers.retain(|&publisher| publisher != index),
            State::Viewing { slot, position } => self.remove_viewer(slot, position),
        }
        self.counters.peers.set(self.peers.len() as u64);
        self.counters.closed.add(1);
        self.events.push_back(Event::Closed {
            session: peer.session.id,
            cause,
        });
    }

    fn remove_viewer(&mut self, slot: u32, position: u32) {
        let shard = self.config.id;
        let Some(stream) = self.stream(slot) else { return };
        let moved = stream.remove(position as usize, shard);
        if stream.viewers() == 0 {
            self.streams[slot as usize] = None;
        }
        if let Some(Peer {
            state: State::Viewing { position: place, .. },
            ..
        }) = moved.and_then(|moved| self.peers.get_mut(moved))
        {
            *place = position;
        }
    }

    // --- helpers ------------------------------------------------------------------------------------------------------------

    fn stream(&mut self, slot: u32) -> Option<&mut ShardStream> {
        self.streams.get_mut(slot as usize)?.as_deref_mut()
    }

    fn queue_control(&mut self, mut out: Vec<Transmit>) {
        let room = Shard::CONTROL_MAX.saturating_sub(self.control.len());
        self.counters.control_dropped.add(out.len().saturating_sub(room) as u64);
        out.truncate(room);
        self.control.append(&mut out);
    }

    fn hand_over_or_drop(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        counter: impl Fn(&ShardCounters) -> &crate::metrics::Counter,
    ) {
        match self.foreign.get(&from) {
            Some(&owner) => self.hand_over(owner, from, datagram),
            None => counter(&self.counters).add(1),
        }
    }

    /// Gives a datagram to the shard that owns its peer; whatever follows from the address goes the same way.
    fn hand_over(&mut self, owner: usize, from: SocketAddr, datagram: &[u8]) {
        if self.strays.len() >= Shard::STRAYS_MAX {
            return self.counters.strays_dropped.add(1);
        }
        if self.foreign.len() >= Shard::FOREIGN_MAX {
            self.foreign.clear();
        }
        self.foreign.insert(from, owner);
        self.counters.strays.add(1);
        self.strays.push_back(Stray {
            shard: owner,
            from,
            bytes: datagram.into(),
        });
    }
}

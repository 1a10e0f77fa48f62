//! A peer from its first STUN check to its keys.

use super::*;
use crate::media::StreamTracks;
use crate::media::lane::StreamKey;
use crate::peer::sdp::Negotiated;

impl Shard {
    pub(super) fn handle_stun(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(expected) = ice::local_ufrag(datagram).and_then(|ufrag| self.expected(ufrag)) else {
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
    pub(super) fn adopt(&mut self, now: Instant, session: &Arc<Session>, from: SocketAddr, datagram: &mut [u8]) {
        let mut transport = Transport::new(
            session.local.clone(),
            session.remote.clone(),
            self.config.certificate.clone(),
            now,
        );
        if let Some(restart) = self.newest_restart(session) {
            transport.restart(restart.ice.clone());
        }
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
            self.forget_session(session);
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
        self.note_restart(index);
        self.schedule(index);
    }

    pub(super) fn check(&mut self, now: Instant, index: u32, from: SocketAddr, datagram: &[u8]) {
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
        self.note_restart(index);
        self.schedule(index);
    }

    /// Datagrams from an address whose check passed belong to this peer from now on.
    pub(super) fn note_check(&mut self, index: u32, from: SocketAddr, check: Check) {
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
    pub(super) fn forget_address(&mut self, index: u32, address: SocketAddr) {
        if self.addresses.get(&address) == Some(&index) {
            self.addresses.remove(&address);
        }
    }

    /// Media goes where the peer's checks say now.
    pub(super) fn follow_remote(&mut self, index: u32) {
        let Some(peer) = self.peers.get(index) else { return };
        let Some(remote) = peer.transport.remote() else { return };
        let streams = &mut self.streams;
        let mut follow = |slot: u32, position: u32| {
            if let Some(stream) = streams.get_mut(slot as usize).and_then(Option::as_mut) {
                stream.viewer(position as usize).to = remote;
            }
        };
        match &peer.state {
            State::Connecting | State::Publishing(_) => {}
            State::Viewing { slot, position } => follow(*slot, *position),
            State::Member(member) => {
                for one in member.subscriptions.all() {
                    follow(one.key.slot, one.position);
                }
            }
        }
    }

    pub(super) fn handle_transport_event(&mut self, now: Instant, index: u32, event: Option<TransportEvent>) {
        match event {
            Some(TransportEvent::Connected(keys)) => self.connect(now, index, &keys),
            Some(TransportEvent::Closed(reason)) => self.remove_peer(index, CloseCause::Transport(reason)),
            None => {}
        }
    }

    pub(super) fn connect(&mut self, now: Instant, index: u32, keys: &SrtpKeys) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let Some(address) = peer.transport.remote() else { return };
        let session = peer.session.clone();
        self.counters.connected.add(1);
        self.events.push_back(Event::Connected {
            session: session.id,
            address,
            cipher: keys.profile(),
        });
        match &session.role {
            SessionRole::Publisher(negotiated) => self.add_publisher(now, index, &session, (negotiated, keys)),
            SessionRole::Viewer { audio, video } => {
                let ciphers = (Sealer::new(keys), Some(Opener::new(keys)));
                let lines = (audio.clone(), video.clone());
                let viewer = Viewer::new(index, address, session.created, now, ciphers, lines);
                self.add_viewer(now, index, &session, viewer);
            }
            SessionRole::Member(membership) => self.add_member(now, index, membership, keys),
        }
    }

    fn add_publisher(
        &mut self,
        now: Instant,
        index: u32,
        session: &Arc<Session>,
        (negotiated, keys): (&Negotiated, &SrtpKeys),
    ) {
        let expected = self.sessions.get(&session.local.ufrag);
        let lift = expected.and_then(|expected| expected.lift.clone());
        let tracks = lift.as_ref().map_or(&session.tracks, |lift| &lift.tracks).clone();
        let ciphers = (Sealer::new(keys), Opener::new(keys));
        let mut publisher = Publisher::new(tracks, negotiated, ciphers, self.config.id, self.source_config(), now);
        if let Some(lift) = lift {
            publisher.lift(now, &lift);
        }
        if let Some(peer) = self.peers.get_mut(index) {
            peer.state = State::Publishing(Box::new(publisher));
            self.publishers.push(index);
        }
    }

    pub(super) fn source_config(&self) -> PublisherConfig {
        PublisherConfig {
            keyframe_interval: self.config.pli_interval,
            keyframe_share: self.config.keyframe_share,
            cache: self.config.start.cache,
        }
    }

    fn add_viewer(&mut self, now: Instant, index: u32, session: &Arc<Session>, viewer: Viewer) {
        let position = self.watch(now, &session.tracks, viewer);
        if let Some(peer) = self.peers.get_mut(index) {
            let slot = position.map_or(NOWHERE, |_| session.tracks.key.slot);
            let position = position.unwrap_or_default();
            peer.state = State::Viewing { slot, position };
        }
        self.start_later(index, session.tracks.key.slot, now + Shard::START_WAIT);
    }

    /// Adds a viewer to a stream and returns its position there; `None` when the stream is of the past.
    pub(super) fn watch(&mut self, now: Instant, tracks: &Arc<StreamTracks>, viewer: Viewer) -> Option<u32> {
        let slot = tracks.key.slot;
        if self.streams.len() <= slot as usize {
            self.streams.resize_with(slot as usize + 1, || None);
        }
        let there = self.stream(slot).map(|stream| stream.tracks().key);
        if there.is_some_and(|there| there != tracks.key) {
            let is_newer = |there: StreamKey| tracks.key.serial.wrapping_sub(there.serial).cast_signed() > 0;
            if !there.is_some_and(is_newer) {
                return None;
            }
            self.clear_slot(slot);
        }
        let (config, shard) = (self.config.start, self.config.id);
        let place = &mut self.streams[slot as usize];
        let stream = place.get_or_insert_with(|| Box::new(ShardStream::new(tracks.clone(), config, now)));
        Some(stream.add(now, viewer, shard) as u32)
    }
}

/// The slot of a viewer whose stream is of the past.
pub(super) const NOWHERE: u32 = u32::MAX;

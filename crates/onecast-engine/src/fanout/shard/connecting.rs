//! A peer from its first STUN check to its keys.

use super::*;
use crate::media::StreamTracks;
use crate::media::lane::StreamKey;
use onecast_rtc::sdp::Negotiated;

impl Shard {
    pub(super) fn handle_stun(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        if let Some(tag) = ice::probe::answered_tag(datagram) {
            return self.handle_answer(now, tag, from, datagram);
        }
        let Some(expected) = ice::local_ufrag(datagram).and_then(|ufrag| self.expected(ufrag)) else {
            return self.counters.stun_dropped.add(1);
        };
        match (expected.peer, expected.session.owner()) {
            (Some(index), _) => self.check(now, index, from, datagram),
            (None, Some(owner)) if owner != self.config.id && expected.is_authentic(datagram) => {
                self.hand_over(owner, from, datagram);
            }
            (None, Some(_)) => self.counters.stun_dropped.add(1),
            (None, None) => self.adopt(now, &expected.session.clone(), from, datagram),
        }
    }

    /// The first STUN check of a session: if it is valid, its peer lives here from now on.
    pub(super) fn adopt(&mut self, now: Instant, session: &Arc<Session>, from: SocketAddr, datagram: &mut [u8]) {
        let sends = match session.role {
            SessionRole::Publisher(_) => Sends::Feedback,
            SessionRole::Viewer { .. } | SessionRole::Member(_) => Sends::Media,
        };
        let mut transport = Transport::new(
            session.local.clone(),
            session.remote.clone(),
            self.config.certificate.clone(),
            (sends, self.peers.vacant()),
            now,
        );
        if let Some(restart) = self.newest_restart(session) {
            transport.restart(restart.ice.clone());
        }
        let mut out = Vec::new();
        if transport.handle_stun(now, from, datagram, &mut out).is_err() {
            return self.counters.stun_dropped.add(1);
        }
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
        self.note_check(now, index, from, out);
    }

    pub(super) fn check(&mut self, now: Instant, index: u32, from: SocketAddr, datagram: &[u8]) {
        let mut out = Vec::new();
        let Some(peer) = self.peers.get_mut(index) else { return };
        if peer.transport.handle_stun(now, from, datagram, &mut out).is_err() {
            return self.counters.stun_dropped.add(1);
        }
        self.counters.stun_in.add(1);
        self.note_check(now, index, from, out);
    }

    /// What follows from a check that was answered.
    fn note_check(&mut self, now: Instant, index: u32, from: SocketAddr, mut out: Vec<Transmit>) {
        let checked = |peer: &Peer| peer.transport.is_checked(from);
        if self.peers.get(index).is_some_and(checked) {
            self.claim(now, index, from, &mut out);
        }
        self.queue_control(out);
        self.follow_paths(now, index);
        self.schedule(index);
    }

    /// An answer to a request of ours shows that its client is at the address.
    fn handle_answer(&mut self, now: Instant, tag: u32, from: SocketAddr, datagram: &[u8]) {
        let answered = self
            .peers
            .get_mut(tag)
            .and_then(|peer| peer.transport.handle_answer(now, from, datagram).ok());
        let Some(event) = answered else {
            return self.hand_over_or_drop(from, datagram, |counters| &counters.stun_dropped);
        };
        self.counters.stun_in.add(1);
        self.claim(now, tag, from, &mut Vec::new());
        self.handle_transport_event(now, tag, event);
        self.follow_paths(now, tag);
        self.schedule(tag);
    }

    /// The peer's addresses may have changed, and with them where its media goes.
    pub(super) fn follow_paths(&mut self, now: Instant, index: u32) {
        self.forget_lost(index);
        self.follow_remote(now, index);
        self.note_restart(index);
    }

    /// Media goes where the peer's transport says now.
    fn follow_remote(&mut self, now: Instant, index: u32) {
        let Some(peer) = self.peers.get(index) else { return };
        let Some(remote) = peer.transport.remote() else { return };
        let streams = &mut self.streams;
        let mut follow = |slot: u32, position: u32| {
            if let Some(stream) = streams.get_mut(slot as usize).and_then(Option::as_mut) {
                stream.viewer(position as usize).move_to(now, remote);
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

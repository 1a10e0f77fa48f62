//! A peer from its first STUN check to its keys, and from one path to the next.

use std::sync::Arc;
use std::time::Instant;

use onecast_rtc::{Path, Sends, SrtpKeys, Transmit, Transport, TransportEvent, ice};

use super::Shard;
use super::handshakes::Flight;
use super::peers::Peer;
use crate::fanout::ids::PeerIndex;
use crate::fanout::peer_media::PeerMedia;
use crate::fanout::session::{CloseCause, Direction, Event, Restart, Session};

impl Shard {
    pub(super) fn handle_stun(&mut self, now: Instant, from: Path, datagram: &mut [u8]) {
        if let Some(tag) = ice::probe::answered_tag(datagram) {
            return self.handle_answer(now, PeerIndex(tag), from, datagram);
        }
        let expected = ice::local_ufrag(datagram).and_then(|ufrag| self.sessions.find(ufrag));
        let Some(expected) = expected else {
            return self.counters.stun_dropped.add(1);
        };
        match (expected.peer, expected.session.owner()) {
            (Some(index), _) => self.check(now, index, from, datagram),
            (None, Some(owner)) if owner != self.config.id && expected.is_authentic(datagram) => {
                self.routes.hand_over(owner, from, datagram);
            }
            (None, Some(_)) => self.counters.stun_dropped.add(1),
            (None, None) => self.adopt(now, &expected.session.clone(), from, datagram),
        }
    }

    /// The first STUN check of a session: if it is valid, its peer lives here from now on.
    fn adopt(&mut self, now: Instant, session: &Arc<Session>, from: Path, datagram: &mut [u8]) {
        let sends = match session.direction {
            Direction::SendOnly => Sends::Feedback,
            Direction::ReceiveOnly | Direction::SendReceive => Sends::Media,
        };
        let mut transport = Transport::new(
            session.local.clone(),
            session.remote.clone(),
            self.config.certificate.clone(),
            (sends, self.peers.vacant().number()),
            now,
        );
        if let Some(restart) = self.sessions.newest_restart(session) {
            transport.restart(restart.ice.clone());
        }
        let mut out = Vec::new();
        if transport.handle_stun(now, from, datagram, &mut out).is_err() {
            return self.counters.stun_dropped.add(1);
        }
        match session.adopt(self.config.id) {
            Some(owner) if owner == self.config.id => {}
            Some(owner) => return self.routes.hand_over(owner, from, datagram),
            None => return self.counters.stun_dropped.add(1),
        }
        if self.peers.len() >= self.config.peers_max {
            self.sessions.remove(session);
            return self.out.push_event(Event::Closed {
                session: session.id,
                cause: CloseCause::Full,
            });
        }
        let index = self.peers.insert(Peer::new(session.clone(), transport));
        if let Some(expected) = self.sessions.get_mut(session) {
            expected.peer = Some(index);
        }
        self.counters.peers.set(self.peers.len() as u64);
        self.counters.stun_in.add(1);
        self.note_check(now, index, from, out);
    }

    fn check(&mut self, now: Instant, index: PeerIndex, from: Path, datagram: &[u8]) {
        let mut out = Vec::new();
        let Some(peer) = self.peers.get_mut(index) else { return };
        if peer.transport.handle_stun(now, from, datagram, &mut out).is_err() {
            return self.counters.stun_dropped.add(1);
        }
        self.counters.stun_in.add(1);
        self.note_check(now, index, from, out);
    }

    /// What follows from a check that was answered.
    fn note_check(&mut self, now: Instant, index: PeerIndex, from: Path, mut out: Vec<Transmit>) {
        let checked = |peer: &Peer| peer.transport.is_checked(from);
        if self.peers.get(index).is_some_and(checked) {
            self.routes.claim(now, &mut self.peers, (index, from), &mut out);
        }
        self.out.push_control(out);
        self.follow_paths(now, index);
        self.schedule(index);
    }

    /// An answer to the server's own check shows that the client is there.
    fn handle_answer(&mut self, now: Instant, index: PeerIndex, from: Path, datagram: &[u8]) {
        let answered = self
            .peers
            .get_mut(index)
            .and_then(|peer| peer.transport.handle_answer(now, from, datagram).ok());
        let Some(event) = answered else {
            return self
                .routes
                .hand_over_or_drop(from, datagram, |counters| &counters.stun_dropped);
        };
        self.counters.stun_in.add(1);
        // The path is proven now, so there is nothing to ask.
        self.routes.claim(now, &mut self.peers, (index, from), &mut Vec::new());
        self.handle_transport_event(now, index, event);
        self.follow_paths(now, index);
        self.schedule(index);
    }

    /// The client may also check with new credentials from now on.
    pub(super) fn expect_restart(&mut self, restart: &Arc<Restart>) {
        if !self.sessions.add_restart(restart) {
            return;
        }
        let peer = self.sessions.get(&restart.session).and_then(|expected| expected.peer);
        if let Some(peer) = peer.and_then(|index| self.peers.get_mut(index)) {
            peer.transport.restart(restart.ice.clone());
        }
    }

    /// The peer's paths may have changed, and with them where its media goes.
    pub(super) fn follow_paths(&mut self, now: Instant, index: PeerIndex) {
        self.forget_lost_paths(index);
        self.follow_selected(now, index);
        self.note_restart(index);
    }

    /// Forgets the paths that ceased to count.
    pub(super) fn forget_lost_paths(&mut self, index: PeerIndex) {
        while let Some(path) = self.peers.get_mut(index).and_then(|peer| peer.transport.poll_lost()) {
            self.routes.forget(index, path);
        }
    }

    /// Media goes where the peer's transport says now.
    fn follow_selected(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get(index) else { return };
        let Some(selected) = peer.transport.path() else { return };
        for one in peer.subscriptions() {
            if let Some(subscriber) = self.streams.subscriber(one.key.slot, one.position) {
                subscriber.move_to(now, selected);
            }
        }
    }

    /// The peer's client may just have switched to another ICE session.
    fn note_restart(&mut self, index: PeerIndex) {
        let Some(peer) = self.peers.get(index) else { return };
        let number = peer.transport.ice_number();
        if number == peer.session.ice_number() {
            return;
        }
        peer.session.set_ice_number(number);
        self.counters.ice_restarts.add(1);
        if let Some(path) = peer.transport.path() {
            self.out.push_event(Event::Restarted {
                session: peer.session.id,
                path,
            });
        }
        self.sessions.drop_old_restarts(&peer.session);
    }

    /// A DTLS datagram of a peer. It is read at once; the public-key work that it may complete waits for its turn.
    pub(super) fn handle_dtls(&mut self, now: Instant, from: Path, datagram: &mut [u8]) {
        let Some(index) = self.routes.peer(from) else {
            return self
                .routes
                .hand_over_or_drop(from, datagram, |counters| &counters.dtls_dropped);
        };
        let mut out = Vec::new();
        let Some(peer) = self.peers.get_mut(index) else { return };
        let waits_already = peer.transport.has_work();
        let event = peer.transport.take_dtls(now, from, datagram, &mut out);
        if peer.transport.has_work() && !waits_already {
            let publishes = peer.session.direction == Direction::SendOnly;
            let flight = Flight {
                at: now,
                peer: index,
                from,
            };
            if !self.handshakes.push(flight, publishes) {
                peer.transport.forget_work();
                self.counters.handshakes_dropped.add(1);
            }
        }
        self.out.push_control(out);
        self.handle_transport_event(now, index, event);
        self.schedule(index);
    }

    /// Runs a round of handshakes. What is left is still due.
    pub fn handle_handshakes(&mut self, now: Instant) {
        for _ in 0..self.handshakes.begin_round(self.streams.is_flushing()) {
            let Some(flight) = self.handshakes.pop() else { break };
            self.run_handshake(now, &flight);
        }
    }

    /// Media from a peer whose handshake waits: the last flight may have come with it, so it has its turn now.
    pub(super) fn expedite_handshake(&mut self, now: Instant, index: PeerIndex) {
        let waits = |peer: &Peer| peer.media.is_none() && peer.transport.has_work();
        if self.peers.get(index).is_some_and(waits)
            && let Some(flight) = self.handshakes.expedite(index)
        {
            self.run_handshake(now, &flight);
        }
    }

    /// The peer may have gone meanwhile; another one at its index has nothing to do and is not harmed.
    fn run_handshake(&mut self, now: Instant, flight: &Flight) {
        let mut out = Vec::new();
        let Some(peer) = self.peers.get_mut(flight.peer) else {
            return;
        };
        let event = peer.transport.work(now, flight.from, &mut out);
        self.out.push_control(out);
        self.handle_transport_event(now, flight.peer, event);
        self.schedule(flight.peer);
    }

    pub(super) fn handle_transport_event(&mut self, now: Instant, index: PeerIndex, event: Option<TransportEvent>) {
        match event {
            Some(TransportEvent::Connected(keys)) => self.connect(now, index, &keys),
            Some(TransportEvent::Closed(reason)) => self.remove_peer(index, CloseCause::Transport(reason)),
            None => {}
        }
    }

    fn connect(&mut self, now: Instant, index: PeerIndex, keys: &SrtpKeys) {
        let Some(peer) = self.peers.get(index) else { return };
        let Some(path) = peer.transport.path() else { return };
        let session = peer.session.clone();
        self.counters.connected.add(1);
        self.out.push_event(Event::Connected {
            session: session.id,
            path,
            cipher: keys.profile(),
        });
        let media = PeerMedia::new(session.direction, keys, now);
        self.peers.set_connected(index, media);
        self.apply_first_plan(now, index, &session, keys);
    }
}

//! How peers end, and that nothing of them stays.

use super::connecting::NOWHERE;
use super::*;

impl Shard {
    /// Nobody is expected for the session any more, whatever the credentials.
    pub(super) fn forget_session(&mut self, session: &Session) -> Option<Expected> {
        let expected = self.sessions.remove(&session.local.ufrag)?;
        for restart in &expected.restarts {
            self.restarted.remove(&restart.ice.local.ufrag);
        }
        Some(expected)
    }

    pub(super) fn close_session(&mut self, session: &Arc<Session>) {
        let peer = self.forget_session(session).and_then(|expected| expected.peer);
        if let Some(index) = peer {
            self.close_peer(index, CloseCause::Commanded);
        }
    }

    /// Ends a peer from our side, with DTLS close_notify.
    pub(super) fn close_peer(&mut self, index: u32, cause: CloseCause) {
        let mut out = Vec::new();
        if let Some(peer) = self.peers.get_mut(index) {
            peer.transport.close(&mut out);
        }
        self.queue_control(out);
        self.remove_peer(index, cause);
    }

    pub(super) fn remove_peer(&mut self, index: u32, cause: CloseCause) {
        let Some(mut peer) = self.peers.remove(index) else {
            return;
        };
        while let Some(address) = peer.transport.poll_lost() {
            self.forget_address(index, address);
        }
        for address in peer.transport.checked() {
            self.forget_address(index, address);
        }
        self.forget_session(&peer.session);
        match peer.state {
            State::Connecting => {}
            State::Publishing(_) => self.publishers.retain(|&publisher| publisher != index),
            State::Viewing { slot, position } => self.remove_viewer(slot, position),
            State::Member(member) => {
                self.publishers.retain(|&publisher| publisher != index);
                for one in member.subscriptions.all() {
                    self.remove_viewer(one.key.slot, one.position);
                }
            }
        }
        self.counters.peers.set(self.peers.len() as u64);
        self.counters.closed.add(1);
        self.events.push_back(Event::Closed {
            session: peer.session.id,
            cause,
        });
    }

    pub(super) fn remove_viewer(&mut self, slot: u32, position: u32) {
        let shard = self.config.id;
        let Some(stream) = self.stream(slot) else { return };
        let viewer = stream.viewer(position as usize);
        let leaves_on_its_way = viewer.starting.then_some(viewer.peer);
        let moved = stream.remove(position as usize, shard);
        if stream.viewers() == 0 {
            self.drop_stream(slot);
        }
        for (peer, now_at) in moved.into_iter().flatten() {
            self.set_position(peer, slot, now_at as u32);
        }
        if let Some(peer) = leaves_on_its_way {
            self.starting.remove(peer, slot);
        }
    }

    fn drop_stream(&mut self, slot: u32) {
        if let Some(mut stream) = self.streams[slot as usize].take() {
            let (_, told) = stream.take_cached_bytes();
            self.count_cached(0, told);
        }
    }

    fn set_position(&mut self, peer: u32, slot: u32, now_at: u32) {
        match self.peers.get_mut(peer).map(|peer| &mut peer.state) {
            Some(State::Viewing { slot: at, position }) if *at == slot => *position = now_at,
            Some(State::Member(member)) => member.subscriptions.set_position(slot, now_at),
            _ => {}
        }
    }

    /// The stream at a slot is of the past, whoever still watches it: another one takes its place.
    pub(super) fn clear_slot(&mut self, slot: u32) {
        let shard = self.config.id;
        while let Some(stream) = self.stream(slot) {
            let last = stream.viewers() - 1;
            let peer = stream.viewer(last).peer;
            stream.remove(last, shard);
            if stream.viewers() == 0 {
                self.drop_stream(slot);
            }
            match self.peers.get_mut(peer).map(|peer| &mut peer.state) {
                Some(State::Viewing { slot, .. }) => *slot = NOWHERE,
                Some(State::Member(member)) => member.subscriptions.remove(slot),
                _ => {}
            }
        }
        self.starting.remove_slot(slot);
    }
}

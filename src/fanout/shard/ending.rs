//! How peers end, and that nothing of them stays.

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
        let Some(peer) = self.peers.remove(index) else { return };
        for &address in peer.transport.checked() {
            self.forget_address(index, address);
        }
        self.forget_session(&peer.session);
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

    pub(super) fn remove_viewer(&mut self, slot: u32, position: u32) {
        let shard = self.config.id;
        let Some(stream) = self.stream(slot) else { return };
        let viewer = stream.viewer(position as usize);
        let leaves_on_its_way = viewer.starting.then_some(viewer.peer);
        let moved = stream.remove(position as usize, shard);
        if stream.viewers() == 0 {
            let (_, told) = stream.take_cached_bytes();
            self.streams[slot as usize] = None;
            self.count_cached(0, told);
        }
        for (peer, now_at) in moved.into_iter().flatten() {
            if let Some(Peer {
                state: State::Viewing { position, .. },
                ..
            }) = self.peers.get_mut(peer)
            {
                *position = now_at as u32;
            }
        }
        if let Some(peer) = leaves_on_its_way {
            self.starting.remove(peer);
        }
    }
}

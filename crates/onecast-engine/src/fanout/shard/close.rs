//! How peers and streams end, and how their state is freed.

use super::Shard;
use crate::fanout::ids::{PeerIndex, SubscriberPosition};
use crate::fanout::session::{CloseCause, Event, Session};
use crate::media::lane::StreamSlot;

impl Shard {
    pub(super) fn close_session(&mut self, session: &Session) {
        let peer = self.sessions.remove(session).and_then(|expected| expected.peer);
        if let Some(index) = peer {
            self.close_peer(index, CloseCause::Commanded);
        }
    }

    /// Ends a peer from our side, with DTLS close_notify.
    pub(super) fn close_peer(&mut self, index: PeerIndex, cause: CloseCause) {
        let mut out = Vec::new();
        if let Some(peer) = self.peers.get_mut(index) {
            peer.transport.close(&mut out);
        }
        self.out.push_control(out);
        self.remove_peer(index, cause);
    }

    pub(super) fn remove_peer(&mut self, index: PeerIndex, cause: CloseCause) {
        let Some(mut peer) = self.peers.remove(index) else {
            return;
        };
        while let Some(path) = peer.transport.poll_lost() {
            self.routes.forget(index, path);
        }
        for path in peer.transport.checked() {
            self.routes.forget(index, path);
        }
        self.sessions.remove(&peer.session);
        for one in peer.subscriptions() {
            self.remove_subscriber(one.key.slot, one.position);
        }
        self.counters.peers.set(self.peers.len() as u64);
        self.counters.closed.add(1);
        self.out.push_event(Event::Closed {
            session: peer.session.id,
            cause,
        });
    }

    pub(super) fn remove_subscriber(&mut self, slot: StreamSlot, position: SubscriberPosition) {
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        let subscriber = stream.subscriber(position);
        let starting = subscriber.starting.then_some(subscriber.peer);
        let moved = stream.remove(position);
        if stream.subscribers() == 0 {
            self.drop_stream(slot);
        }
        for (peer, now_at) in moved.into_iter().flatten() {
            self.peers.set_position(peer, slot, now_at);
        }
        if let Some(peer) = starting {
            self.starts.remove(peer, slot);
        }
    }

    /// The stream at a slot has ended, although peers still subscribe to it: another one takes its place.
    pub(super) fn clear_slot(&mut self, slot: StreamSlot) {
        while let Some(stream) = self.streams.get_mut(slot) {
            let last = SubscriberPosition::new(stream.subscribers() - 1);
            let peer = stream.subscriber(last).peer;
            stream.remove(last);
            if stream.subscribers() == 0 {
                self.drop_stream(slot);
            }
            self.peers.remove_subscription(peer, slot);
        }
        self.starts.remove_slot(slot);
    }

    fn drop_stream(&mut self, slot: StreamSlot) {
        if let Some(mut stream) = self.streams.remove(slot) {
            let (_, counted) = stream.take_cached_bytes();
            self.count_cached(0, counted);
        }
    }
}

//! What is due, and when.

use super::*;

impl Shard {
    pub(super) fn handle_timer(&mut self, now: Instant, entry: Entry) {
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
        self.note_keyframes(index);
        self.queue_control(out);
        self.handle_transport_event(now, index, event);
        self.report_if_due(now, index);
        self.schedule(index);
    }

    pub(super) fn report_if_due(&mut self, now: Instant, index: u32) {
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
    pub(super) fn report(&mut self, now: Instant, index: u32) {
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
    pub(super) fn schedule(&mut self, index: u32) {
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
}

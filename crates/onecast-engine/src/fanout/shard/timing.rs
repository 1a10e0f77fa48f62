//! What is due, and when.

use super::media::tell_of_speech;
use super::*;

impl Shard {
    /// A member's sender reports go out in so many turns.
    const REPORT_TURNS: u32 = 8;

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
        let before = peer.transport.remote();
        let event = peer.transport.handle_timeout(now, &mut out);
        let to = peer.transport.remote();
        let moves = to != before;
        match &mut peer.state {
            State::Publishing(publisher) => {
                publisher.source().handle_timeout(now);
                if let Some(to) = to {
                    publisher.poll_rtcp(now, to, index, &mut self.queue);
                }
            }
            State::Member(member) => {
                member.handle_timeout(now);
                if let Some(to) = to {
                    member.poll_rtcp(now, to, index, &mut self.queue);
                }
            }
            State::Connecting | State::Viewing { .. } => {}
        }
        self.note_keyframes(index);
        self.note_speech(now, index);
        self.queue_control(out);
        self.handle_transport_event(now, index, event);
        if moves {
            self.follow_paths(now, index);
        }
        self.forget_lost(index);
        self.report_if_due(now, index);
        self.schedule(index);
    }

    /// Speech ends also when nothing comes any more.
    fn note_speech(&mut self, now: Instant, index: u32) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let session = peer.session.id;
        let sources = match &mut peer.state {
            State::Publishing(publisher) => std::slice::from_mut(publisher.source()),
            State::Member(member) => member.sources(),
            State::Connecting | State::Viewing { .. } => return,
        };
        for source in sources {
            tell_of_speech(&mut self.events, session, source, now);
        }
    }

    fn report_if_due(&mut self, now: Instant, index: u32) {
        match self.peers.get(index).map(|peer| &peer.state) {
            Some(State::Viewing { slot, position }) => {
                let (slot, position) = (*slot, *position as usize);
                let due = |stream: &mut ShardStream| stream.viewer(position).report_at <= now;
                if self.stream(slot).is_some_and(due) {
                    self.report(now, index, slot);
                }
            }
            Some(State::Member(member)) if member.report_at <= now => self.report_some(now, index),
            _ => {}
        }
    }

    /// Sender reports of one stream to a viewer; when the queue is full they wait for the next turn.
    pub(super) fn report(&mut self, now: Instant, index: u32, slot: u32) {
        let Some(position) = self.position(index, slot) else {
            return;
        };
        if !self.queue.has_room_for(ShardStream::SHARE_BYTES_MAX) {
            return;
        }
        let wall = self.wall(now);
        let Some(peer) = self.peers.get_mut(index) else { return };
        let sealer = match &mut peer.state {
            State::Member(member) => Some(member.sealer()),
            _ => None,
        };
        if let Some(stream) = self.streams.get_mut(slot as usize).and_then(Option::as_mut) {
            stream.report(now, wall, position, sealer, &mut self.queue);
        }
        self.schedule(index);
    }

    /// Sender reports of some of the streams that a member is sent: of all of them in turn, a few at a time.
    fn report_some(&mut self, now: Instant, index: u32) {
        if !self.queue.has_room_for(ShardStream::SHARE_BYTES_MAX) {
            return;
        }
        let wall = self.wall(now);
        let Some(State::Member(member)) = self.peers.get_mut(index).map(|peer| &mut peer.state) else {
            return;
        };
        let turn = member.subscriptions.all().len().div_ceil(Shard::REPORT_TURNS as usize);
        for _ in 0..turn.min(ShardStream::SHARE_MAX / 2) {
            let Some(one) = member.subscriptions.next_to_report() else {
                break;
            };
            if let Some(stream) = self.streams.get_mut(one.key.slot as usize).and_then(Option::as_mut) {
                stream.report(now, wall, one.position as usize, Some(member.sealer()), &mut self.queue);
            }
        }
        member.report_at = now + ShardStream::REPORT_INTERVAL / Shard::REPORT_TURNS;
    }

    /// NTP time of `now`.
    fn wall(&self, now: Instant) -> u64 {
        let (at, ntp) = self.config.wall;
        let (wall, _) = SenderClock {
            ntp,
            rtp: 0,
            received_at: at,
        }
        .at(now, 1);
        wall
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
            State::Member(member) => member.poll_timeout(),
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

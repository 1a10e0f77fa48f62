//! What is due, and when: a peer has one timer, for its transport, the streams that it sends, and its sender reports.

use std::time::Instant;

use super::Shard;
use crate::fanout::ids::PeerIndex;
use crate::fanout::stream::ShardStream;
use crate::fanout::subscriptions::Subscriptions;
use crate::fanout::timers::Timer;
use crate::media::SenderClock;
use crate::media::lane::StreamSlot;
use onecast_rtc::rtp::RtpTime;

impl Shard {
    pub(super) fn handle_timer(&mut self, now: Instant, timer: Timer) {
        let index = timer.peer;
        let is_current = self.peers.generation(index) == timer.generation;
        let peer = self.peers.get_mut(index);
        // A timer that was overtaken by an earlier deadline stays in the heap and is ignored here.
        let Some(peer) = peer.filter(|peer| is_current && peer.timer_at == Some(timer.at)) else {
            return;
        };
        peer.timer_at = None;
        let mut out = Vec::new();
        let before = peer.transport.path();
        let event = peer.transport.handle_timeout(now, &mut out);
        let has_moved = peer.transport.path() != before;
        peer.handle_timeout(now);
        peer.poll_rtcp(now, index, &mut self.out.queue);
        self.note_keyframes(index);
        self.note_speech(now, index);
        self.out.push_control(out);
        self.handle_transport_event(now, index, event);
        if has_moved {
            self.follow_paths(now, index);
        }
        self.forget_lost_paths(index);
        self.report_if_due(now, index);
        self.schedule(index);
    }

    /// When sender reports to a peer are due.
    fn reports_due(&mut self, index: PeerIndex) -> Option<Instant> {
        match self.peers.subscriptions(index)? {
            Subscriptions::One(one) => {
                let one = (*one)?;
                let subscriber = self.streams.subscriber(one.key.slot, one.position)?;
                Some(subscriber.report_at)
            }
            Subscriptions::Many(many) => many.report_at(),
        }
    }

    fn report_if_due(&mut self, now: Instant, index: PeerIndex) {
        if self.reports_due(index).is_none_or(|due| due > now) {
            return;
        }
        match self.peers.subscriptions(index) {
            Some(Subscriptions::One(Some(one))) => {
                let slot = one.key.slot;
                self.report(now, index, slot);
            }
            Some(Subscriptions::Many(_)) => self.report_some(now, index),
            Some(Subscriptions::One(None)) | None => {}
        }
    }

    /// Sender reports of one stream to a peer; when the queue is full they wait for the next turn.
    pub(super) fn report(&mut self, now: Instant, index: PeerIndex, slot: StreamSlot) {
        let Some(position) = self.peers.position(index, slot) else {
            return;
        };
        if !self.out.queue.has_room_for(ShardStream::SHARE_BYTES_MAX) {
            return;
        }
        let wall = self.wall(now);
        let media = self.peers.get_mut(index).and_then(|peer| peer.media.as_mut());
        if let (Some(media), Some(stream)) = (media, self.streams.get_mut(slot)) {
            stream.report(now, wall, position, &mut media.rtcp, &mut self.out.queue);
        }
        self.schedule(index);
    }

    /// Sender reports of some of the streams that a peer is sent: of all of them in turn, a few at a time.
    fn report_some(&mut self, now: Instant, index: PeerIndex) {
        if !self.out.queue.has_room_for(ShardStream::SHARE_BYTES_MAX) {
            return;
        }
        let wall = self.wall(now);
        let media = self.peers.get_mut(index).and_then(|peer| peer.media.as_deref_mut());
        let Some(media) = media else { return };
        let Subscriptions::Many(many) = &mut media.subscriptions else {
            return;
        };
        for _ in 0..many.begin_reports(now) {
            let Some(one) = many.next_to_report() else { break };
            if let Some(stream) = self.streams.get_mut(one.key.slot) {
                stream.report(now, wall, one.position, &mut media.rtcp, &mut self.out.queue);
            }
        }
    }

    /// NTP time of `now`.
    fn wall(&self, now: Instant) -> u64 {
        let (at, ntp) = self.config.wall;
        let (wall, _) = SenderClock {
            ntp,
            rtp: RtpTime(0),
            received_at: at,
        }
        .at(now, 1);
        wall
    }

    /// Makes sure that there is a timer for the peer's next deadline.
    pub(super) fn schedule(&mut self, index: PeerIndex) {
        let reports = self.reports_due(index);
        let Some(peer) = self.peers.get_mut(index) else { return };
        let deadlines = [reports, peer.poll_timeout(), peer.transport.poll_timeout()];
        let Some(at) = deadlines.into_iter().flatten().min() else {
            return;
        };
        if peer.timer_at.is_some_and(|standing| at >= standing) {
            return;
        }
        peer.timer_at = Some(at);
        self.timers.push(Timer {
            at,
            peer: index,
            generation: self.peers.generation(index),
        });
    }
}

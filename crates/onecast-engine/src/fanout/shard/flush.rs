//! Batches on their way to all subscribers of a stream, a slice at a time.

use std::time::Instant;

use onecast_rtc::transmit::Outlet;

use super::Shard;
use crate::fanout::session::Event;
use crate::fanout::stream::{Flow, ShardStream};
use crate::media::LaneItem;
use crate::media::lane::{StreamKey, StreamSlot};

impl Shard {
    pub(super) fn handle_item(&mut self, now: Instant, key: StreamKey, item: LaneItem, outlet: &mut dyn Outlet) {
        let slot = key.slot;
        if self.streams.get(slot).is_none_or(|stream| stream.tracks().key != key) {
            return;
        }
        if matches!(item, LaneItem::Ended) {
            // Afterwards the viewers wait for a keyframe: what came before goes to all of them first.
            self.finish_flushes(now, slot, outlet);
        }
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        let is_idle = stream.flush_at().is_none();
        let mut flow = Flow::default();
        let complete = stream.take(now, item, &mut flow);
        self.counters.rtp_stale.add(flow.stale);
        if complete {
            self.streams.flush_later(now, slot);
        } else if is_idle {
            self.streams.gather(slot);
        }
    }

    /// Sends one slice of what is on its way. A stream that does not finish has its next turn after the others.
    pub(super) fn run_flushes(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        let mut budget = self.config.slice;
        for _ in 0..self.streams.turns() {
            if budget == 0 {
                break;
            }
            let Some(slot) = self.streams.next_turn() else { break };
            if !self.flush_stream(now, slot, &mut budget, outlet) || self.streams.has_more(now, slot) {
                self.streams.turn_again(slot);
            }
        }
        self.streams.end_turns();
    }

    /// Sends everything that a stream has, however long it takes.
    fn finish_flushes(&mut self, now: Instant, slot: StreamSlot, outlet: &mut dyn Outlet) {
        let pending = |stream: &ShardStream| stream.is_flushing() || stream.flush_at().is_some();
        while self.streams.get(slot).is_some_and(pending) {
            let mut budget = usize::MAX;
            self.flush_stream(now, slot, &mut budget, outlet);
        }
    }

    /// True when every subscriber has the batch.
    fn flush_stream(&mut self, now: Instant, slot: StreamSlot, budget: &mut usize, outlet: &mut dyn Outlet) -> bool {
        let Some(stream) = self.streams.get_mut(slot) else {
            return true;
        };
        let mut flow = Flow::default();
        let done = stream.flush(budget, &mut self.out.for_stream(now, slot, outlet, &mut flow));
        if done {
            let (cached, counted) = stream.take_cached_bytes();
            self.starts.handle_flushed(slot, now);
            self.find_startable(now, slot);
            self.count_cached(cached, counted);
        }
        self.send(outlet);
        self.finish(now, &flow);
        done
    }

    /// Sends the queue. A peer whose run failed loses the rest of its frame (one with several subscriptions that of all frames on their
    /// way to it), and no other peer loses anything.
    pub(super) fn send(&mut self, outlet: &mut dyn Outlet) {
        self.out.send(outlet);
        while let Some(index) = self.out.poll_failed() {
            self.counters.runs_failed.add(1);
            let Some(peer) = self.peers.get(index) else { continue };
            for one in peer.subscriptions() {
                if let Some(stream) = self.streams.get_mut(one.key.slot) {
                    stream.skip_rest_of_frame(one.position);
                }
            }
        }
    }

    /// Counts what was sent, and reports first pictures and changes of layers.
    pub(super) fn finish(&mut self, now: Instant, flow: &Flow) {
        flow.count_sent(&self.counters);
        for change in self.out.take_layer_changes() {
            if let Some(peer) = self.peers.get(change.peer) {
                self.out.push_event(change.event(peer.session.id));
            }
        }
        for picture in self.out.take_first_pictures() {
            if let Some(peer) = self.peers.get_mut(picture.peer)
                && peer.is_first_picture()
            {
                self.out.push_event(Event::Picture {
                    session: peer.session.id,
                    after: now.saturating_duration_since(peer.session.created),
                });
            }
            // A receiver plays audio and video together once it has a report on each.
            self.report(now, picture.peer, picture.slot);
        }
    }

    /// A stream's share of the bytes since the newest keyframes was `counted` and is `cached`.
    pub(super) fn count_cached(&self, cached: u64, counted: u64) {
        let all = &self.counters.start_cache_bytes;
        all.set((all.value() + cached).saturating_sub(counted));
    }
}

//! Batches on their way to all viewers of a stream, a slice at a time.

use super::*;
use crate::media::LaneItem;
use crate::media::lane::StreamKey;

impl Shard {
    /// Batches are on their way out: [`handle_lanes`](Self::handle_lanes) goes on with them.
    pub fn is_flushing(&self) -> bool {
        !self.flushing.is_empty()
    }

    pub(super) fn handle_item(&mut self, now: Instant, key: StreamKey, item: LaneItem, outlet: &mut dyn Outlet) {
        if self.stream(key.slot).is_none_or(|stream| stream.tracks().key != key) {
            return;
        }
        if matches!(item, LaneItem::Ended) {
            // Afterwards the viewers wait for a keyframe: what came before goes to all of them first.
            self.finish_flushes(now, key.slot, outlet);
        }
        let Some(stream) = self.stream(key.slot) else { return };
        let is_idle = stream.flush_at().is_none();
        let mut flow = Flow::default();
        let complete = stream.take(now, item, &mut flow);
        self.counters.rtp_stale.add(flow.stale);
        if complete {
            self.flush_later(now, key.slot);
        } else if is_idle {
            self.gather(key.slot);
        }
    }

    /// A stream's batch is on its way out: what is in its window, not all viewers have been sent yet.
    pub(super) fn is_flushing_stream(&self, slot: u32) -> bool {
        let stream = self.streams.get(slot as usize).and_then(Option::as_ref);
        stream.is_some_and(|stream| stream.is_flushing())
    }

    /// So much of a stream waits to go out that the lanes are left to wait.
    pub(super) fn is_behind(&self) -> bool {
        let stream = |slot: u32| self.streams.get(slot as usize)?.as_ref();
        self.flushing
            .iter()
            .any(|&slot| stream(slot).is_some_and(|stream| stream.is_behind()))
    }

    /// Streams whose gathered packets have waited long enough.
    pub(super) fn find_flushes(&mut self, now: Instant) {
        let mut gathering = std::mem::take(&mut self.gathering);
        gathering.retain(|&slot| match self.stream(slot).and_then(|stream| stream.flush_at()) {
            Some(at) if at <= now => {
                self.flush_later(now, slot);
                false
            }
            Some(_) => true,
            None => false,
        });
        self.gathering.append(&mut gathering);
    }

    /// Sends one slice of what is on its way. Who does not come to an end has the next turn after the others.
    pub(super) fn run_flushes(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        let mut budget = self.config.slice;
        for _ in 0..self.flushing.len() {
            if budget == 0 {
                break;
            }
            let Some(slot) = self.flushing.pop_front() else { break };
            if !self.flush_stream(now, slot, &mut budget, outlet) || self.has_more(now, slot) {
                self.flushing.push_back(slot);
            }
        }
        if self.flushing.is_empty() {
            self.flushing_since = None;
        }
    }

    fn flush_later(&mut self, now: Instant, slot: u32) {
        if !self.flushing.contains(&slot) {
            self.flushing.push_back(slot);
            self.flushing_since.get_or_insert(now);
        }
    }

    fn gather(&mut self, slot: u32) {
        if !self.gathering.contains(&slot) {
            self.gathering.push(slot);
        }
    }

    /// Sends everything that a stream has, however long it takes.
    fn finish_flushes(&mut self, now: Instant, slot: u32, outlet: &mut dyn Outlet) {
        let pending = |stream: &mut ShardStream| stream.is_flushing() || stream.flush_at().is_some();
        while self.stream(slot).is_some_and(pending) {
            let mut budget = usize::MAX;
            self.flush_stream(now, slot, &mut budget, outlet);
        }
    }

    /// Whether more is to go out at once; if something is gathered that is not, it has its time.
    fn has_more(&mut self, now: Instant, slot: u32) -> bool {
        let Some(stream) = self.stream(slot) else { return false };
        let due = stream.flush_at().is_some_and(|at| at <= now);
        if !due && stream.flush_at().is_some() && !stream.is_complete() {
            self.gather(slot);
            return false;
        }
        due || stream.is_complete()
    }

    /// True when everybody has the batch.
    fn flush_stream(&mut self, now: Instant, slot: u32, budget: &mut usize, outlet: &mut dyn Outlet) -> bool {
        let Some(stream) = self.streams.get_mut(slot as usize).and_then(Option::as_mut) else {
            return true;
        };
        let mut flow = Flow::default();
        let done = stream.flush(
            budget,
            &mut Out {
                now,
                slot,
                queue: &mut self.queue,
                outlet,
                flow: &mut flow,
                first: &mut self.first_pictures,
                failed: &mut self.failed,
            },
        );
        if done {
            let (cached, told) = stream.take_cached_bytes();
            self.starting.flushed(slot, now);
            self.find_startable(now, slot);
            self.count_cached(cached, told);
        }
        self.send(outlet);
        self.finish(now, &flow);
        done
    }
}

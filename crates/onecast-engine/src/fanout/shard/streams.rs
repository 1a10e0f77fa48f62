//! The streams that peers of a shard watch, and which of them have a batch to send.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::fanout::ids::SubscriberPosition;
use crate::fanout::stream::{ShardStream, StartConfig};
use crate::fanout::subscriber::Subscriber;
use crate::media::StreamTracks;
use crate::media::lane::{StreamKey, StreamSlot};

/// Streams by slot.
#[derive(Default)]
pub(super) struct Streams {
    slots: Vec<Option<Box<ShardStream>>>,
    /// Slots of streams that gather a batch.
    gathering: Vec<StreamSlot>,
    /// Slots of streams whose batches go out, in the order of their turns.
    flushing: VecDeque<StreamSlot>,
    /// Since when there are some.
    flushing_since: Option<Instant>,
}

impl Streams {
    #[inline]
    pub(super) fn get(&self, slot: StreamSlot) -> Option<&ShardStream> {
        self.slots.get(slot.index())?.as_deref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: StreamSlot) -> Option<&mut ShardStream> {
        self.slots.get_mut(slot.index())?.as_deref_mut()
    }

    /// The subscriber at a position of the stream at a slot.
    pub(super) fn subscriber(&mut self, slot: StreamSlot, position: SubscriberPosition) -> Option<&mut Subscriber> {
        Some(self.get_mut(slot)?.subscriber(position))
    }

    /// The stream of these tracks, which is made if its slot is empty.
    pub(super) fn get_or_create(
        &mut self,
        now: Instant,
        tracks: &Arc<StreamTracks>,
        (shard, config): (usize, StartConfig),
    ) -> &mut ShardStream {
        let slot = tracks.key.slot.index();
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot].get_or_insert_with(|| Box::new(ShardStream::new(tracks.clone(), shard, config, now)))
    }

    /// Whether the slot is taken by a stream that `key` has to give way to, or has to replace.
    pub(super) fn occupant(&self, key: StreamKey) -> Occupant {
        let Some(there) = self.get(key.slot).map(|stream| stream.tracks().key) else {
            return Occupant::None;
        };
        if there == key {
            Occupant::Same
        } else if key.serial.wrapping_sub(there.serial).cast_signed() > 0 {
            Occupant::Older
        } else {
            Occupant::Newer
        }
    }

    pub(super) fn remove(&mut self, slot: StreamSlot) -> Option<Box<ShardStream>> {
        self.slots.get_mut(slot.index())?.take()
    }

    /// Batches are on their way out.
    pub(super) fn is_flushing(&self) -> bool {
        !self.flushing.is_empty()
    }

    /// The stream's batch is on its way out: it is in the window, but not every subscriber has been sent it.
    pub(super) fn is_flushing_at(&self, slot: StreamSlot) -> bool {
        self.get(slot).is_some_and(ShardStream::is_flushing)
    }

    /// So much of a stream waits to go out that the lanes are left to wait.
    pub(super) fn is_behind(&self) -> bool {
        let is_behind = |&slot: &StreamSlot| self.get(slot).is_some_and(ShardStream::is_behind);
        self.flushing.iter().any(is_behind)
    }

    /// The earliest moment at which a batch is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let batches = self.gathering.iter().filter_map(|&slot| self.get(slot)?.flush_at());
        batches.chain(self.flushing_since).min()
    }

    /// The stream's batch goes out with its next turn.
    pub(super) fn flush_later(&mut self, now: Instant, slot: StreamSlot) {
        if !self.flushing.contains(&slot) {
            self.flushing.push_back(slot);
            self.flushing_since.get_or_insert(now);
        }
    }

    /// The stream's batch goes out when it is complete or has waited long enough.
    pub(super) fn gather(&mut self, slot: StreamSlot) {
        if !self.gathering.contains(&slot) {
            self.gathering.push(slot);
        }
    }

    /// Finds streams whose batch has waited long enough.
    pub(super) fn find_due(&mut self, now: Instant) {
        let mut gathering = std::mem::take(&mut self.gathering);
        gathering.retain(|&slot| match self.get(slot).and_then(ShardStream::flush_at) {
            Some(at) if at <= now => {
                self.flush_later(now, slot);
                false
            }
            Some(_) => true,
            None => false,
        });
        self.gathering.append(&mut gathering);
    }

    /// How many streams have a turn.
    pub(super) fn turns(&self) -> usize {
        self.flushing.len()
    }

    pub(super) fn next_turn(&mut self) -> Option<StreamSlot> {
        self.flushing.pop_front()
    }

    /// The stream has another turn, after the others.
    pub(super) fn turn_again(&mut self, slot: StreamSlot) {
        self.flushing.push_back(slot);
    }

    /// The turns of this round are over.
    pub(super) fn end_turns(&mut self) {
        if self.flushing.is_empty() {
            self.flushing_since = None;
        }
    }

    /// Whether more of the stream is to go out at once. A batch that is gathered and not complete has its time.
    pub(super) fn has_more(&mut self, now: Instant, slot: StreamSlot) -> bool {
        let Some(stream) = self.get(slot) else { return false };
        let due = stream.flush_at().is_some_and(|at| at <= now);
        if !due && stream.flush_at().is_some() && !stream.is_complete() {
            self.gather(slot);
            return false;
        }
        due || stream.is_complete()
    }
}

/// What a slot holds, seen from a stream that is to use it. Slots are reused; serials tell the streams apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupant {
    None,
    Same,
    /// A stream that has ended.
    Older,
    /// The stream that asks has ended.
    Newer,
}

//! Subscribers on their way to the live edge, in the order of their turns.

use std::collections::VecDeque;
use std::time::Instant;

use crate::fanout::ids::PeerIndex;
use crate::media::lane::StreamSlot;

/// The subscribers of a shard that start.
#[derive(Debug, Default)]
pub(super) struct StartQueue {
    entries: VecDeque<QueuedStart>,
    /// When the first is due.
    next: Option<Instant>,
}

/// One subscriber that starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueuedStart {
    pub(super) peer: PeerIndex,
    pub(super) generation: u32,
    pub(super) slot: StreamSlot,
    /// When it is due; `None` when it waits for its stream's next batch.
    pub(super) at: Option<Instant>,
    /// Since when it has had no place to start.
    pub(super) since: Instant,
}

impl StartQueue {
    /// When the first is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn push(&mut self, start: QueuedStart) {
        self.next = [self.next, start.at].into_iter().flatten().min();
        self.entries.push_back(start);
    }

    /// A stream's batch went out: the subscribers that waited for it are due.
    pub(super) fn handle_flushed(&mut self, slot: StreamSlot, now: Instant) {
        let waits = |start: &&mut QueuedStart| start.slot == slot && start.at.is_none();
        for start in self.entries.iter_mut().filter(waits) {
            start.at = Some(now);
            self.next = Some(now);
        }
    }

    /// A subscriber that starts is due at once.
    pub(super) fn expedite(&mut self, peer: PeerIndex, slot: StreamSlot, now: Instant) {
        let is_it = |start: &&mut QueuedStart| start.peer == peer && start.slot == slot;
        for start in self.entries.iter_mut().filter(is_it) {
            start.at = Some(now);
            self.next = Some(now);
        }
    }

    /// The subscriber left.
    pub(super) fn remove(&mut self, peer: PeerIndex, slot: StreamSlot) {
        self.entries.retain(|start| start.peer != peer || start.slot != slot);
        self.find_next();
    }

    /// The stream has ended.
    pub(super) fn remove_slot(&mut self, slot: StreamSlot) {
        self.entries.retain(|start| start.slot != slot);
        self.find_next();
    }

    /// Takes all of them for a round of turns; [`end_turns`](Self::end_turns) puts back those that remain.
    pub(super) fn take_all(&mut self) -> VecDeque<QueuedStart> {
        std::mem::take(&mut self.entries)
    }

    pub(super) fn end_turns(&mut self, remaining: VecDeque<QueuedStart>) {
        self.entries = remaining;
        self.find_next();
    }

    fn find_next(&mut self) {
        self.next = self.entries.iter().filter_map(|start| start.at).min();
    }
}

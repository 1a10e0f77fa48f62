//! One deadline per peer, in a heap.
//!
//! An idle viewer is visited about once in two seconds (its sender report), so 10,000 viewers push and pop 5,000 entries a second:
//! under 1 ms of work. Entries that were overtaken by an earlier deadline stay in the heap and are passed over when they surface.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Deadlines by peer.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
}

/// A deadline of the peer at a place of the slab, in that place's generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) at: Instant,
    pub(super) peer: u32,
    pub(super) generation: u32,
}

impl Timers {
    pub(super) fn push(&mut self, entry: Entry) {
        self.heap.push(Reverse(entry));
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next entry that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Entry> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

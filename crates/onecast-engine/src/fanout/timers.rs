//! One deadline per peer, in a heap.
//!
//! An idle viewer is visited about once in two seconds (its sender report), so 10,000 viewers push and pop 5,000 timers a second:
//! under 1 ms of work. Timers that were overtaken by an earlier deadline stay in the heap and are passed over when they surface.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::ids::PeerIndex;

/// Deadlines by peer.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
}

/// A deadline of the peer at an index of the slab, in that index's generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub(super) at: Instant,
    pub(super) peer: PeerIndex,
    pub(super) generation: u32,
}

impl Timers {
    pub(super) fn push(&mut self, timer: Timer) {
        self.heap.push(Reverse(timer));
    }

    /// The earliest deadline.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        if self.poll_timeout()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

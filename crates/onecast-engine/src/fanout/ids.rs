//! Small numbers that name things within a shard.

use std::fmt;

/// Where a shard keeps a peer. Reused after the peer has gone; timers and queues compare the slab's generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIndex(pub(super) u32);

/// Where a stream of a shard keeps a subscriber: they are sent a batch in this order. Others may move when one leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SubscriberPosition(u32);

impl PeerIndex {
    /// As the owner of runs in a [`SendQueue`](onecast_rtc::transmit::SendQueue), and the tag of a peer's STUN requests.
    #[inline]
    pub(super) fn number(self) -> u32 {
        self.0
    }

    /// As an index into the slab's places.
    #[inline]
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

impl SubscriberPosition {
    /// The position of an index into a stream's subscribers.
    #[inline]
    pub(super) fn new(index: usize) -> SubscriberPosition {
        SubscriberPosition(index as u32)
    }

    /// As an index into a stream's subscribers.
    #[inline]
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for PeerIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for SubscriberPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

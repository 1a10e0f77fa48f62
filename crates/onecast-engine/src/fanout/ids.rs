//! Small numbers that name things within a shard.

/// Where a shard keeps a peer. Reused after the peer has gone; timers and queues compare the slab's generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIndex(pub(super) u32);

impl PeerIndex {
    /// As the owner of runs in a [`SendQueue`](onecast_rtc::transmit::SendQueue), and the tag of a peer's STUN requests.
    #[inline]
    pub(super) fn number(self) -> u32 {
        self.0
    }
}

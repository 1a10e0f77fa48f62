//! Lanes: how packets get from the shard of a publisher to every shard with viewers.
//!
//! Each shard owns one [`Inbox`]; a [`Lane`] is one stream's bounded way into it. A packet crosses as one pointer.
//!
//! ```text
//!  publisher's shard                     viewers' shards
//!  track.write_rtp ──┬── lane (stream 3) ──> inbox of shard 0
//!                    └── lane (stream 3) ──> inbox of shard 1
//! ```
//!
//! No lock is taken on the way, and the invariants are these:
//!
//! - The inbox is a lock-free queue. Any shard may push, only the owner pops, so the items of one publisher keep their order.
//! - `waiting` counts a lane's items in the queue. It is raised before the push and lowered after the pop, hence never too low: a lane
//!   may be refused an item early, but never holds more than [`Lane::ITEMS_MAX`].
//! - The owner is woken after the push. It looks at the queue once more before it sleeps, so no item waits for the next one.
//! - A request to a publisher (a keyframe, the packets since the newest one) is stored at its track first and signalled here second.
//!   The owner takes the signal first and reads the requests second, so it misses none; at worst it looks once in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;
use onecast_rtc::rtp::Kind;

use super::LayerIndex;
use super::Packet;
use super::SenderClock;
use super::window::GopSnapshot;

/// Makes a sleeping shard look at its inbox. Cheap while the shard is awake.
pub trait Wake: Send + Sync {
    /// Wakes the shard.
    fn wake(&self);
}

/// What travels on a lane.
#[derive(Debug, Clone)]
pub enum LaneItem {
    /// A packet of the stream's audio or video track.
    Packet(Kind, Arc<Packet>),
    /// The publisher's latest clock for a track. Sender reports to viewers are made from it.
    Clock(Kind, SenderClock),
    /// A layer of the video since the newest keyframe, for a shard that got its first viewer.
    Past(LayerIndex, Box<GopSnapshot>),
    /// A layer of the video has come or gone.
    LayersChanged,
    /// The publisher left; its clocks are void.
    Ended,
}

/// A stream's place in the tables of every shard, below the most streams allowed at once. Places are reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamSlot(pub u32);

impl StreamSlot {
    /// As an index into a table of streams.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Debug for StreamSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.0, f)
    }
}

/// A stream of this process: its slot, and a serial number because slots are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Its place in the tables of every shard.
    pub slot: StreamSlot,
    /// Grows with each stream that is created.
    pub serial: u32,
}

/// The receiving end of all lanes into one shard.
pub struct Inbox {
    queue: ArrayQueue<InboxEntry>,
    waker: Box<dyn Wake>,
    /// A track whose publisher is on this shard has a request.
    signalled: AtomicBool,
}

struct InboxEntry {
    stream: StreamKey,
    lane: Arc<LaneCounters>,
    item: LaneItem,
}

/// One stream's way into one shard.
#[derive(Clone)]
pub struct Lane {
    stream: StreamKey,
    inbox: Arc<Inbox>,
    counters: Arc<LaneCounters>,
}

/// Items of one lane: how many wait, how many were dropped.
#[derive(Debug, Default)]
pub struct LaneCounters {
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl Inbox {
    /// Items in one inbox: 4,096 lanes could not fill it at their usual few items each.
    pub const ITEMS_MAX: usize = 16_384;

    /// An empty inbox whose shard is woken by `waker`.
    pub fn new(waker: Box<dyn Wake>) -> Arc<Inbox> {
        let queue = ArrayQueue::new(Inbox::ITEMS_MAX);
        Arc::new(Inbox {
            queue,
            waker,
            signalled: AtomicBool::new(false),
        })
    }

    /// The oldest item and its stream.
    pub fn pop(&self) -> Option<(StreamKey, LaneItem)> {
        let entry = self.queue.pop()?;
        entry.lane.waiting.fetch_sub(1, Ordering::Relaxed);
        Some((entry.stream, entry.item))
    }

    /// Whether no item waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Tells the shard that a track whose publisher it serves has a request: for a keyframe, or for the packets since the newest one.
    pub fn signal(&self) {
        self.signalled.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether there was a [`signal`](Self::signal) since the last call.
    pub fn take_signal(&self) -> bool {
        // The load spares the turns without a signal the locked instruction.
        self.signalled.load(Ordering::Relaxed) && self.signalled.swap(false, Ordering::AcqRel)
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}

impl Lane {
    /// Items of one lane that may wait. A large keyframe (500 packets of 1,100 bytes) fits whole, and a stream that floods leaves room
    /// in the inbox for the others.
    pub const ITEMS_MAX: usize = 1_024;

    /// A lane of `stream` into `inbox`.
    pub fn new(stream: StreamKey, inbox: Arc<Inbox>) -> Lane {
        Lane {
            stream,
            inbox,
            counters: Arc::default(),
        }
    }

    /// Hands `item` over. Returns false if the lane is full: the item was dropped and counted.
    pub fn push(&self, item: LaneItem) -> bool {
        let fits = self.counters.waiting.fetch_add(1, Ordering::Relaxed) < Lane::ITEMS_MAX;
        let entry = InboxEntry {
            stream: self.stream,
            lane: self.counters.clone(),
            item,
        };
        let pushed = fits && self.inbox.queue.push(entry).is_ok();
        if pushed {
            self.inbox.waker.wake();
        } else {
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        pushed
    }

    /// Items dropped so far.
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("stream", &self.stream)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoWake;
    impl Wake for NoWake {
        fn wake(&self) {}
    }

    #[test]
    fn a_flooded_lane_leaves_room_for_others() {
        let inbox = Inbox::new(Box::new(NoWake));
        let key = |slot| StreamKey {
            slot: StreamSlot(slot),
            serial: 0,
        };
        let flooding = Lane::new(key(0), inbox.clone());
        let other = Lane::new(key(1), inbox.clone());

        let taken = (0..Inbox::ITEMS_MAX).filter(|_| flooding.push(LaneItem::Ended)).count();

        assert_eq!(taken, Lane::ITEMS_MAX);
        assert_eq!(flooding.dropped() as usize, Inbox::ITEMS_MAX - Lane::ITEMS_MAX);
        assert!(other.push(LaneItem::Ended));
        assert_eq!(inbox.pop().map(|(stream, _)| stream), Some(key(0)));
        assert!(
            flooding.push(LaneItem::Ended),
            "an item that was taken out makes room again"
        );
    }
}

//! Lanes: how packets get from the shard of a publisher to every shard that has viewers.
//!
//! Each shard owns one [`Inbox`]; a [`Lane`] is one stream's bounded way into it. A packet crosses as one pointer.
//!
//! ```text
//!  publisher's shard                     viewers' shards
//!  track.write_rtp ──┬── lane (stream 3) ──> inbox of shard 0
//!                    └── lane (stream 3) ──> inbox of shard 1
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use super::Packet;
use super::SenderClock;
use super::window::Past;
use onecast_rtc::rtp::Kind;

/// Tells a sleeping shard to look at its inbox. Cheap when it is awake.
pub trait Wake: Send + Sync {
    /// Wakes the shard.
    fn wake(&self);
}

/// What travels on a lane.
#[derive(Debug, Clone)]
pub enum LaneItem {
    /// A packet of the stream's audio or video track.
    Packet(Kind, Arc<Packet>),
    /// The publisher's latest clock for a track: what sender reports to viewers are made from.
    Clock(Kind, SenderClock),
    /// The video since the newest keyframe, for a shard that has its first viewer.
    Past(Box<Past>),
    /// The publisher left; its clocks are void.
    Ended,
}

/// A stream's place in the tables of every shard, and a serial that tells its reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Index, below the most streams allowed at once.
    pub slot: u32,
    /// Grows with each stream that is created.
    pub serial: u32,
}

/// The receiving end of all lanes into one shard.
pub struct Inbox {
    queue: ArrayQueue<Entry>,
    waker: Box<dyn Wake>,
    wished: AtomicBool,
}

struct Entry {
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

/// Counters of one lane.
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
            wished: AtomicBool::new(false),
        })
    }

    /// The oldest item and its stream.
    pub fn pop(&self) -> Option<(StreamKey, LaneItem)> {
        let entry = self.queue.pop()?;
        entry.lane.waiting.fetch_sub(1, Ordering::Relaxed);
        Some((entry.stream, entry.item))
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Somebody wants a keyframe or the past of a track whose publisher is on this shard.
    pub fn raise_wish(&self) {
        self.wished.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether such a wish was raised since the last call.
    pub fn take_wish(&self) -> bool {
        self.wished.load(Ordering::Relaxed) && self.wished.swap(false, Ordering::AcqRel)
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
    /// Items of one lane that may wait: a large keyframe (500 packets of 1,100 B) passes whole, and one stream that floods
    /// cannot take the inbox from the others.
    pub const ITEMS_MAX: usize = 1_024;

    /// A lane of `stream` into `inbox`.
    pub fn new(stream: StreamKey, inbox: Arc<Inbox>) -> Lane {
        Lane {
            stream,
            inbox,
            counters: Arc::default(),
        }
    }

    /// Hands `item` over; false when the lane is full and the item was dropped and counted.
    pub fn push(&self, item: LaneItem) -> bool {
        let fits = self.counters.waiting.fetch_add(1, Ordering::Relaxed) < Lane::ITEMS_MAX;
        let entry = Entry {
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

    /// Items dropped since the lane exists.
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
    fn a_lane_that_floods_leaves_room_for_others() {
        let inbox = Inbox::new(Box::new(NoWake));
        let key = |slot| StreamKey { slot, serial: 0 };
        let flooding = Lane::new(key(0), inbox.clone());
        let other = Lane::new(key(1), inbox.clone());

        let taken = (0..Inbox::ITEMS_MAX).filter(|_| flooding.push(LaneItem::Ended)).count();

        assert_eq!(taken, Lane::ITEMS_MAX);
        assert_eq!(flooding.dropped() as usize, Inbox::ITEMS_MAX - Lane::ITEMS_MAX);
        assert!(other.push(LaneItem::Ended));
        assert_eq!(inbox.pop().map(|(stream, _)| stream), Some(key(0)));
        assert!(flooding.push(LaneItem::Ended), "what was taken out makes room again");
    }
}

//! What shards tell each other about a track's keyframes: which are needed, and what is known of those that came.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What a keyframe is needed for, the lesser need first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyframeNeed {
    /// A viewer lost packets. Keyframes for this have a bounded share of the stream.
    Repair,
    /// A viewer has no picture at all, the operator wants keyframes regularly, or viewers wait to change to another layer and there was no
    /// keyframe for some time.
    Urgent,
}

/// Keyframes of one publisher and the requests for them, counted since it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyframeStats {
    /// Requests that came in: from viewers, from the timer, and from ingest itself.
    pub wanted: u64,
    /// Requests merged into one that was already pending.
    pub coalesced: u64,
    /// Requests that waited because keyframes had used up their share of the stream.
    pub deferred: u64,
    /// Requests sent to the publisher.
    pub requested: u64,
    /// Keyframes that came within 2 s of a request.
    pub answered: u64,
    /// The publisher ignores requests: three in a row brought no keyframe.
    pub unanswered: bool,
    /// Time between the last two keyframes that were not requested; `None` while unknown.
    pub interval: Option<Duration>,
}

/// A track's keyframes as any thread may read them: the publisher's [`KeyframeStats`], and what viewers can start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyframeReading {
    /// Keyframes and requests.
    pub stats: KeyframeStats,
    /// Bytes since the newest keyframe.
    pub cached_bytes: u64,
    /// Pictures since then, the keyframe included.
    pub cached_frames: u32,
    /// A new viewer starts at once.
    pub ready: bool,
}

/// The newest [`KeyframeReading`] of a track. The publisher's shard writes it, any thread may read it.
///
/// Every field is independent: a reader may see some fields of one write and some of the next, which matters to no reader.
#[derive(Debug, Default)]
pub struct SharedKeyframeReading {
    wanted: AtomicU64,
    coalesced: AtomicU64,
    deferred: AtomicU64,
    requested: AtomicU64,
    answered: AtomicU64,
    unanswered: AtomicBool,
    /// 0 for none.
    interval_ms: AtomicU32,
    cached_bytes: AtomicU64,
    cached_frames: AtomicU32,
    ready: AtomicBool,
}

impl KeyframeNeed {
    /// Bits such that the union of two needs is the greater one.
    pub(super) const fn bits(self) -> u8 {
        match self {
            KeyframeNeed::Repair => 0b01,
            KeyframeNeed::Urgent => 0b11,
        }
    }

    pub(super) const fn from_bits(bits: u8) -> Option<KeyframeNeed> {
        match bits {
            0 => None,
            0b01 => Some(KeyframeNeed::Repair),
            _ => Some(KeyframeNeed::Urgent),
        }
    }
}

impl SharedKeyframeReading {
    /// Publishes a reading. For the publisher's shard only.
    pub fn write(&self, reading: &KeyframeReading) {
        let stats = &reading.stats;
        let interval = stats.interval.map_or(0, |interval| interval.as_millis().max(1) as u32);
        self.wanted.store(stats.wanted, Ordering::Relaxed);
        self.coalesced.store(stats.coalesced, Ordering::Relaxed);
        self.deferred.store(stats.deferred, Ordering::Relaxed);
        self.requested.store(stats.requested, Ordering::Relaxed);
        self.answered.store(stats.answered, Ordering::Relaxed);
        self.unanswered.store(stats.unanswered, Ordering::Relaxed);
        self.interval_ms.store(interval, Ordering::Relaxed);
        self.cached_bytes.store(reading.cached_bytes, Ordering::Relaxed);
        self.cached_frames.store(reading.cached_frames, Ordering::Relaxed);
        self.ready.store(reading.ready, Ordering::Relaxed);
    }

    /// The newest reading.
    pub fn read(&self) -> KeyframeReading {
        let interval = self.interval_ms.load(Ordering::Relaxed);
        KeyframeReading {
            stats: KeyframeStats {
                wanted: self.wanted.load(Ordering::Relaxed),
                coalesced: self.coalesced.load(Ordering::Relaxed),
                deferred: self.deferred.load(Ordering::Relaxed),
                requested: self.requested.load(Ordering::Relaxed),
                answered: self.answered.load(Ordering::Relaxed),
                unanswered: self.are_unanswered(),
                interval: (interval > 0).then(|| Duration::from_millis(u64::from(interval))),
            },
            cached_bytes: self.cached_bytes.load(Ordering::Relaxed),
            cached_frames: self.cached_frames.load(Ordering::Relaxed),
            ready: self.ready.load(Ordering::Relaxed),
        }
    }

    /// The publisher ignores keyframe requests.
    pub fn are_unanswered(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed)
    }
}

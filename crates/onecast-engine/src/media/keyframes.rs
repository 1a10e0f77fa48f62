//! What shards tell each other about a track's keyframes: who needs one, and what there was.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What a keyframe is needed for. The later one is the greater need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyframeNeed {
    /// Somebody lost something. Keyframes have a bounded share of the stream for that.
    Repair,
    /// Somebody has no picture at all, or the operator wants keyframes regularly.
    Urgent,
}

/// What is known of a track's keyframes, written by the publisher's shard for everybody to read.
#[derive(Debug, Default)]
pub struct KeyframeFacts {
    interval_ms: AtomicU32,
    unanswered: AtomicBool,
    wanted: AtomicU64,
    coalesced: AtomicU64,
    deferred: AtomicU64,
    requested: AtomicU64,
    answered: AtomicU64,
    cached_bytes: AtomicU64,
    cached_frames: AtomicU32,
    ready: AtomicBool,
}

/// One reading of the [`KeyframeFacts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyframeReading {
    /// Time between the encoder's own keyframes; `None` while it is not known.
    pub interval: Option<Duration>,
    /// The publisher does not answer requests for a keyframe.
    pub unanswered: bool,
    /// Wishes for a keyframe, of viewers, the timer, and the server's receiving side.
    pub wanted: u64,
    /// Those that found another one waiting.
    pub coalesced: u64,
    /// Those that had to wait because keyframes have had their share of the stream.
    pub deferred: u64,
    /// Requests sent to this publisher.
    pub requested: u64,
    /// Those answered.
    pub answered: u64,
    /// Bytes since the newest keyframe.
    pub cached_bytes: u64,
    /// Pictures since then, the keyframe included.
    pub cached_frames: u32,
    /// A new viewer starts at once.
    pub ready: bool,
}

impl KeyframeNeed {
    pub(super) fn bits(self) -> u8 {
        match self {
            KeyframeNeed::Repair => 1,
            KeyframeNeed::Urgent => 3,
        }
    }

    pub(super) fn from_bits(bits: u8) -> Option<KeyframeNeed> {
        match bits {
            0 => None,
            1 => Some(KeyframeNeed::Repair),
            _ => Some(KeyframeNeed::Urgent),
        }
    }
}

impl KeyframeFacts {
    /// Writes all of them; for the publisher's shard.
    pub fn write(&self, reading: &KeyframeReading) {
        let interval = reading
            .interval
            .map_or(0, |interval| interval.as_millis().max(1) as u32);
        self.interval_ms.store(interval, Ordering::Relaxed);
        self.unanswered.store(reading.unanswered, Ordering::Relaxed);
        self.wanted.store(reading.wanted, Ordering::Relaxed);
        self.coalesced.store(reading.coalesced, Ordering::Relaxed);
        self.deferred.store(reading.deferred, Ordering::Relaxed);
        self.requested.store(reading.requested, Ordering::Relaxed);
        self.answered.store(reading.answered, Ordering::Relaxed);
        self.cached_bytes.store(reading.cached_bytes, Ordering::Relaxed);
        self.cached_frames.store(reading.cached_frames, Ordering::Relaxed);
        self.ready.store(reading.ready, Ordering::Relaxed);
    }

    /// Reads all of them.
    pub fn read(&self) -> KeyframeReading {
        let interval = self.interval_ms.load(Ordering::Relaxed);
        KeyframeReading {
            interval: (interval > 0).then(|| Duration::from_millis(u64::from(interval))),
            unanswered: self.are_unanswered(),
            wanted: self.wanted.load(Ordering::Relaxed),
            coalesced: self.coalesced.load(Ordering::Relaxed),
            deferred: self.deferred.load(Ordering::Relaxed),
            requested: self.requested.load(Ordering::Relaxed),
            answered: self.answered.load(Ordering::Relaxed),
            cached_bytes: self.cached_bytes.load(Ordering::Relaxed),
            cached_frames: self.cached_frames.load(Ordering::Relaxed),
            ready: self.ready.load(Ordering::Relaxed),
        }
    }

    /// The publisher does not answer requests for a keyframe.
    pub fn are_unanswered(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed)
    }
}

//! What a layer knows about subscribers that have no place to start yet.

use std::time::{Duration, Instant};

/// Since when subscribers wait for a keyframe, and whether it makes sense to look for one again.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Until then the publisher's shard may answer with the past.
    past_due: Option<Instant>,
    /// The keyframe for which all waiting subscribers were looked up; `None` when one waits that could not start there yet.
    looked_up: Option<u64>,
    /// Since when subscribers have waited for a keyframe that was asked for.
    since: Option<Instant>,
    /// A subscriber waits for a place to start, and is not in the shard's start queue.
    stranded: bool,
}

impl Waiting {
    /// How long the publisher's shard may take to answer with the past; it takes microseconds.
    const PAST_TIMEOUT: Duration = Duration::from_millis(50);

    /// The past has just been asked for.
    pub(super) fn new(now: Instant) -> Waiting {
        Waiting {
            past_due: Some(now + Waiting::PAST_TIMEOUT),
            looked_up: None,
            since: None,
            stranded: false,
        }
    }

    /// The track has its first subscriber after a while without, so its past is requested again.
    pub(super) fn reset(&mut self, now: Instant) {
        self.past_due = Some(now + Waiting::PAST_TIMEOUT);
        self.end_source();
    }

    /// What was waited for does not come: another source is next.
    pub(super) fn end_source(&mut self) {
        (self.looked_up, self.since) = (None, None);
    }

    /// The past has arrived.
    pub(super) fn end_past(&mut self) {
        self.past_due = None;
    }

    /// Whether the past may still arrive.
    pub(super) fn expects_past(&self, now: Instant) -> bool {
        self.past_due.is_some_and(|due| due > now)
    }

    /// There is nothing to wait for: a keyframe is there, or none can be missed.
    pub(super) fn end(&mut self) {
        self.since = None;
    }

    /// A keyframe has been asked for. `is_sending` if the publisher sends, so that one should come.
    pub(super) fn begin(&mut self, now: Instant, is_sending: bool) {
        self.looked_up = None;
        if is_sending {
            self.since.get_or_insert(now);
        }
    }

    /// Whether a keyframe has been asked for.
    pub(super) fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// Whether it has been waited for so long.
    pub(super) fn is_over(&self, now: Instant, timeout: Duration) -> bool {
        self.since.is_some_and(|since| now >= since + timeout)
    }

    /// A subscriber waits, and nothing is done for it at the moment.
    pub(super) fn note_stranded(&mut self) {
        self.stranded = true;
    }

    pub(super) fn take_stranded(&mut self) -> bool {
        std::mem::take(&mut self.stranded)
    }

    /// Whether the subscribers that wait have not been looked up for this keyframe yet. From now on they have.
    pub(super) fn look_up(&mut self, keyframe: u64) -> bool {
        self.looked_up.replace(keyframe) != Some(keyframe)
    }
}

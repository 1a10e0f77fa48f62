//! What can be chosen of a stream at a time.

use std::time::Duration;

/// Milliseconds since an epoch that a shard chooses. Wraps after 49 days; only differences count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Millis(pub u32);

impl Millis {
    /// Milliseconds from `earlier` until this time.
    pub fn since(self, earlier: Millis) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// This time, and `milliseconds` more.
    pub fn plus(self, milliseconds: u32) -> Millis {
        Millis(self.0.wrapping_add(milliseconds))
    }

    /// `milliseconds` before this time.
    pub(super) fn minus(self, milliseconds: u32) -> Millis {
        Millis(self.0.wrapping_sub(milliseconds))
    }
}

/// A layer that viewers can be sent. Steps are ordered by quality, worst first, and keep their place while their layer is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LadderStep {
    /// Which layer it is. Stays the same for the life of a stream.
    pub layer: u8,
    /// Bits per second with all overhead; 0 while unknown.
    pub rate: u32,
    /// Bits per second of its temporal base layer; `None` if it has none, or none that is much less.
    pub base_rate: Option<u32>,
    /// When packets of it began to arrive; `None` while it is silent.
    pub live_since: Option<Millis>,
}

/// The part of a ladder that a viewer may choose from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ladder<'a>(pub(super) &'a [LadderStep]);

impl Ladder<'_> {
    pub(super) fn position(self, layer: u8) -> Option<usize> {
        self.0.iter().position(|step| step.layer == layer)
    }

    pub(super) fn step(self, layer: u8) -> Option<LadderStep> {
        self.0.iter().find(|step| step.layer == layer).copied()
    }

    /// The step itself, if live, or the best live one below, or the worst live one above.
    pub(super) fn nearest(self, position: usize) -> Option<LadderStep> {
        let (below, above) = self.0.split_at(self.0.len().min(position + 1));
        let live = |step: &&LadderStep| step.live_since.is_some();
        let nearest = below.iter().rev().find(live);
        nearest.or_else(|| above.iter().find(live)).copied()
    }

    /// The best live step below a position whose rate is at most `rate`; if none is, the worst live one. Without a rate, one step lower.
    pub(super) fn below(self, position: usize, rate: Option<u32>) -> Option<LadderStep> {
        let live = || {
            let below = &self.0[..position.min(self.0.len())];
            below.iter().filter(|step| step.live_since.is_some())
        };
        let fits = live().rfind(|step| rate.is_none_or(|rate| step.rate <= rate));
        fits.or_else(|| live().next()).copied()
    }

    /// The next step above a position that has been live for long enough to be relied on, and whose rate is known.
    pub(super) fn above(self, position: usize, now: Millis) -> Option<LadderStep> {
        let above = self.0.get(position + 1..)?;
        let lasts = |step: &&LadderStep| step.live_since.is_some_and(|since| now.since(since) >= LIVE);
        above.iter().find(lasts).filter(|step| step.rate > 0).copied()
    }

    /// The middle one of the live steps, the lower of two.
    pub(super) fn middle(self) -> Option<LadderStep> {
        let live = || self.0.iter().filter(|step| step.live_since.is_some());
        live().nth(live().count().saturating_sub(1) / 2).copied()
    }
}

/// A publisher whose estimate oscillates sends its top layer for shorter times.
const LIVE: u32 = 1_000;

/// A duration in whole milliseconds, as far as 16 bits go.
pub(super) fn short(duration: Duration) -> u16 {
    u16::try_from(duration.as_millis()).unwrap_or(u16::MAX)
}

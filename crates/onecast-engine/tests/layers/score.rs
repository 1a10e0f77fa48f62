//! What a viewer had of a broadcast.

use onecast_engine::layers::{Reason, Sending};

use super::broadcast::Scene;

/// What a frame depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// On nothing.
    Key,
    /// Temporal layer 0: on the one before of the same.
    Base,
    /// Temporal layer 1: on the base.
    Middle,
    /// Temporal layer 2: on both.
    Top,
}

/// A frame that was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    /// Bits per second of what was sent with it.
    pub(crate) rate: u32,
    pub(crate) sent_at: u32,
    /// Packets.
    pub(crate) missing: u32,
    pub(crate) complete_at: Option<u32>,
}

/// What changed at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) at: u32,
    pub(crate) layer: u8,
    pub(crate) wanted: u8,
    pub(crate) sending: Sending,
    pub(crate) reason: Option<Reason>,
}

/// Of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Score {
    pub(crate) frames: Vec<Frame>,
    pub(crate) moments: Vec<Moment>,
    pub(crate) switches: u32,
    pub(crate) probes: u32,
    pub(crate) bytes: u64,
    pub(crate) padding: u64,
    pub(crate) resent: u64,
    /// Milliseconds in which the picture stood still.
    pub(crate) frozen: u32,
    pub(crate) longest: u32,
    /// Frames that were sent but could not be shown.
    pub(crate) hit: u32,
    /// Rate of what was shown, by what the path could have carried.
    pub(crate) utilisation: f64,
    /// The same as seen: the square root of the rate.
    pub(crate) quality: f64,
    pub(crate) minutes: f64,
}

/// A gap is a freeze. Browsers call three frame intervals and 150 ms one.
const FREEZE: u32 = 300;

impl Score {
    pub(crate) fn finish(&mut self, scene: &Scene) {
        self.minutes = f64::from(scene.millis) / 60_000.0;
        let shown = self.shown(scene.millis);
        let sent = self
            .frames
            .iter()
            .filter(|frame| frame.sent_at + 1_500 < scene.millis)
            .count();
        self.hit = sent.saturating_sub(shown.len()) as u32;
        let ends = shown.iter().skip(1).map(|(at, _)| *at).chain([scene.millis]);
        // The publisher's own pauses are no freezes.
        let paused = |from: u32, to: u32| {
            let overlap = |at: &std::ops::Range<u32>| at.end.min(to).saturating_sub(at.start.max(from));
            scene.stalls.iter().map(overlap).sum::<u32>()
        };
        let (mut rate, mut quality) = (0.0, 0.0);
        // Until the first picture it stands still, too.
        let first = shown.first().map_or(scene.millis, |(at, _)| *at);
        if first > FREEZE {
            (self.frozen, self.longest) = (first, first);
        }
        for ((at, shown), end) in shown.iter().zip(ends) {
            let gap = (end - at).saturating_sub(paused(*at, end));
            if gap > FREEZE {
                self.frozen += gap;
                self.longest = self.longest.max(gap);
            }
            let time = f64::from(gap.min(FREEZE));
            let best = best_rate(scene, *at);
            rate += time * f64::from(*shown);
            quality += time * (f64::from(*shown) / best).min(1.0).sqrt();
        }
        let best: f64 = (0..scene.millis)
            .step_by(50)
            .map(|at| best_rate(scene, at) * 50.0)
            .sum();
        self.utilisation = rate / best;
        self.quality = quality / f64::from(scene.millis);
    }

    /// Times and rates of frames that could be decoded.
    fn shown(&self, millis: u32) -> Vec<(u32, u32)> {
        let mut shown: Vec<(u32, u32)> = Vec::with_capacity(self.frames.len());
        let (mut base, mut middle) = (None, None);
        for frame in &self.frames {
            let needs = match frame.kind {
                FrameKind::Key => Some(0),
                FrameKind::Base | FrameKind::Middle => base,
                FrameKind::Top => middle,
            };
            let ready = needs.zip(frame.complete_at).map(|(needs, at)| at.max(needs));
            match frame.kind {
                FrameKind::Key | FrameKind::Base => (base, middle) = (ready, ready),
                FrameKind::Middle => middle = ready,
                FrameKind::Top => {}
            }
            let Some(at) = ready.filter(|at| *at < millis) else {
                continue;
            };
            if frame.kind == FrameKind::Key {
                // What is not shown by now is skipped.
                while shown.last().is_some_and(|(before, _)| *before > at) {
                    shown.pop();
                }
            }
            shown.push((at.max(shown.last().map_or(0, |(before, _)| *before)), frame.rate));
        }
        shown
    }

    /// One number: what was seen, less what disturbed. A second of freeze outweighs three of a good picture.
    pub(crate) fn total(&self) -> f64 {
        let frozen = f64::from(self.frozen) / (self.minutes * 60_000.0);
        let switches = f64::from(self.switches) / self.minutes;
        self.quality - 3.0 * frozen - 0.005 * switches
    }

    /// The first time from `from` on at which something holds.
    pub(crate) fn first(&self, from: u32, holds: impl Fn(&Moment) -> bool) -> Option<u32> {
        let at_from = self.moments.iter().rfind(|moment| moment.at <= from);
        if at_from.is_some_and(&holds) {
            return Some(from);
        }
        let found = self.moments.iter().find(|moment| moment.at > from && holds(moment));
        found.map(|moment| moment.at)
    }
}

/// Bits per second of the best layer that the path carries at a time; if none, what it carries.
fn best_rate(scene: &Scene, at: u32) -> f64 {
    let fair = scene.path.fair_rate(at);
    let fits = scene.ladder.iter().rfind(|step| step.rate <= fair);
    f64::from(fits.map_or(fair.max(50_000), |step| step.rate))
}

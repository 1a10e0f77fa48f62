//! Less, at once: when a viewer's path is too narrow, and what is left out then.

use super::{BETWEEN_FALLS, CLIMBED, GOOD_QUEUE, LayerControl, Phase, Reason, Sending, StepLimit, fitting, kilobits};
use crate::fanout::layers::ladder::{Ladder, LadderStep, Millis};
use crate::fanout::layers::signal::{Evidence, ReportNote};

impl LayerControl {
    /// If sending less leaves as much loss as before, the path loses packets whatever it is sent.
    pub(super) fn learn_loss(&mut self, now: Millis, evidence: Evidence) {
        if self.loss_before == 0 || evidence.loss_total == 0 || now.since(self.down_at) < LOSS_LEARNED {
            return;
        }
        let before = std::mem::take(&mut self.loss_before);
        if evidence.queue <= GOOD_QUEUE && u32::from(evidence.loss_total) * 3 >= u32::from(before) * 2 {
            self.signal.tolerate(evidence.loss_total.max(before));
        }
    }

    /// Sends less if the path is too narrow.
    pub(super) fn protect(&mut self, now: Millis, note: &ReportNote, evidence: Evidence, ladder: Ladder<'_>) {
        let Evidence { loss, is_broad, .. } = evidence;
        let has_choice = ladder.0.len() > 1;
        // Behind a keyframe there is a queue that a path which carries the layer works off.
        let percent = if has_choice {
            WORKED_OFF_PERCENT
        } else {
            CARRIED_PERCENT
        };
        let works_off = note
            .delivered
            .is_some_and(|delivered| u64::from(delivered) * 100 >= u64::from(self.rate_sent(ladder)) * percent);
        let queue = if works_off && (evidence.queue <= WORKED_OFF_QUEUE || !has_choice) {
            0
        } else {
            evidence.queue
        };
        let bad_loss = match has_choice {
            true => BAD_LOSS,
            // What is lost at random is sent again, which is better than a picture that stands still.
            false if works_off => u8::MAX,
            false => BAD_LOSS_ALONE,
        };
        let is_bad = queue > BAD_QUEUE || loss > bad_loss || (loss > SOME_LOSS && queue > SOME_QUEUE);
        if !is_bad || self.phase == Phase::Draining {
            self.tolerable_at = now;
            return;
        }
        if now.since(self.down_at) < BETWEEN_FALLS {
            return;
        }
        let is_moving = has_choice && self.sending > Sending::KeyframesOnly;
        let is_severe = is_moving && (queue > SEVERE_QUEUE || (loss > SEVERE_LOSS && is_broad));
        let bad = match self.sending {
            Sending::KeyframesOnly => BAD_KEYFRAMES,
            _ if has_choice => BAD,
            _ => BAD_ALONE,
        };
        if is_severe || now.since(self.tolerable_at) >= bad {
            let reason = if queue > SOME_QUEUE {
                Reason::Queue
            } else {
                Reason::Loss
            };
            self.fall(now, note.delivered, reason, ladder);
            self.loss_before = if reason == Reason::Loss { evidence.loss_total } else { 0 };
        }
    }

    fn fall(&mut self, now: Millis, delivered: Option<u32>, reason: Reason, ladder: Ladder<'_>) {
        let fits = delivered.map(fitting);
        self.phase = Phase::Steady;
        let position = ladder.position(self.layer).unwrap_or(0);
        let wanted = ladder.position(self.wanted).unwrap_or(0);
        let failed = ladder.step(self.layer).map_or(0, |step| kilobits(step.rate));
        if now.since(self.up_at) >= CLIMBED && wanted <= position {
            self.failures = 0;
        }
        self.fail(now, failed);
        self.reason = reason;
        self.down_at = now;
        self.tolerable_at = now;
        if wanted > position {
            // Not there yet: what it is sent already may fit.
            self.wanted = self.layer;
            return;
        }
        let is_pinned = matches!(self.limit, StepLimit::Pin(layer) if layer == self.wanted);
        let lower = ladder.below(position, fits).filter(|_| !is_pinned);
        match lower {
            Some(step) if wanted == position || ladder.position(step.layer) < Some(wanted) => {
                self.bridge(fits, ladder);
                self.wanted = step.layer;
                self.after = first_sending(step, fits);
            }
            // It waits for that layer's keyframe already.
            Some(_) if wanted < position => self.bridge(fits, ladder),
            _ => self.send_less(fits, ladder),
        }
    }

    /// Until the keyframe of a lower layer comes: what fits of the present one.
    fn bridge(&mut self, fits: Option<u32>, ladder: Ladder<'_>) {
        let bridge = if self.base_fits(fits, ladder) {
            Sending::BaseTemporal
        } else {
            Sending::AudioOnly
        };
        self.sending = self.sending.min(bridge);
    }

    /// The lowest layer, or a pinned one, is too much.
    fn send_less(&mut self, fits: Option<u32>, ladder: Ladder<'_>) {
        self.sending = match self.sending {
            Sending::Whole if self.base_fits(fits, ladder) => Sending::BaseTemporal,
            Sending::Whole | Sending::BaseTemporal => Sending::KeyframesOnly,
            Sending::KeyframesOnly | Sending::AudioOnly => Sending::AudioOnly,
        };
    }

    fn base_fits(&self, fits: Option<u32>, ladder: Ladder<'_>) -> bool {
        let base = ladder.step(self.layer).and_then(|step| step.base_rate);
        base.is_some_and(|base| fits.is_none_or(|fits| base <= fits))
    }
}

/// What to send of a layer at first, if it does not fit as a whole.
fn first_sending(step: LadderStep, fits: Option<u32>) -> Sending {
    match fits {
        Some(fits) if step.rate > fits && step.base_rate.is_some() => Sending::BaseTemporal,
        _ => Sending::Whole,
    }
}

/// Milliseconds of a queue that only a path has that is too narrow,
const BAD_QUEUE: u16 = 130;
/// that needs no second report,
const SEVERE_QUEUE: u16 = 220;
/// and that counts together with losses.
const SOME_QUEUE: u16 = 60;
/// 12 %, 20 % and 5 % of 256.
const BAD_LOSS: u8 = 31;
const SEVERE_LOSS: u8 = 51;
const SOME_LOSS: u8 = 13;
/// A quarter: only a path with a short queue that is much too narrow loses so much, or one that is not fit for a picture at any rate.
const BAD_LOSS_ALONE: u8 = 64;
/// Bad for so long: two reports, as browsers send them, or one that covers more time.
const BAD: u32 = 350;
/// Without a lower layer the picture would stand still, so a computer that is busy for a moment must not look like a narrow path.
const BAD_ALONE: u32 = 1_200;
/// An outage is over before the picture is given up.
const BAD_KEYFRAMES: u32 = 3_000;
/// A path that delivers so much more than the layer takes works its queue off,
const WORKED_OFF_PERCENT: u64 = 105;
/// if it is one of a keyframe.
const WORKED_OFF_QUEUE: u16 = 300;
/// Without a lower layer, a path that delivers so much of the layer is let alone.
const CARRIED_PERCENT: u64 = 90;
/// The effect of sending less shows in losses after this.
const LOSS_LEARNED: u32 = 1_000;

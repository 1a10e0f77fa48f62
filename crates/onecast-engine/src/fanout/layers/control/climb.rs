//! More, once it is proven: when a probe is useful, what it shows, and what is tried without one.

use std::time::Duration;

use super::{GOOD_LOSS, GOOD_QUEUE, LayerControl, PROBE_PERCENT, Phase, Reason, Sending, StepLimit, alike, kilobits};
use crate::fanout::layers::ladder::{Ladder, LadderStep, Millis};
use crate::fanout::layers::probe::ProbePlan;
use crate::fanout::layers::signal::{Evidence, ReportNote};

/// The next better thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Climb {
    /// Bits per second that it takes.
    rate: u32,
    layer: u8,
    sending: Sending,
}

impl LayerControl {
    /// The start was sent much faster than the layer, so it has tested the path already.
    pub(super) fn judge_start(&mut self, now: Millis, note: &ReportNote, evidence: Evidence, ladder: Ladder<'_>) {
        self.phase = Phase::Steady;
        let carries = |rate| note.delivered.is_some_and(|delivered| delivered >= rate);
        if evidence.queue <= GOOD_QUEUE && evidence.loss <= GOOD_LOSS {
            self.disturbed_at = now.minus(GOOD);
        } else if carries(self.rate_sent(ladder)) {
            // It was only the burst that was too fast.
            self.down_at = now;
        }
    }

    pub(super) fn judge_probe(&mut self, now: Millis, evidence: Evidence, ladder: Ladder<'_>) {
        let elapsed = now.since(self.phase_at);
        if evidence.queue > PROBE_QUEUE || evidence.loss > PROBE_LOSS {
            self.phase = Phase::Draining;
            self.phase_at = now;
            self.fail(now, self.probed);
        } else if self.phase == Phase::Judging && elapsed >= self.settling() {
            self.phase = Phase::Steady;
            if let Some(climb) = self
                .next(now, ladder)
                .filter(|climb| kilobits(climb.rate) <= self.probed)
            {
                self.take(now, climb);
            }
        } else if self.phase == Phase::Probing && elapsed >= PROBE_LOST {
            self.phase = Phase::Steady;
        }
    }

    /// After this the end of a probe has been reported.
    fn settling(&self) -> u32 {
        let round_trip = self.signal.round_trip().map_or(0, u32::from);
        SETTLING.max(round_trip + SETTLING / 2)
    }

    /// Milliseconds until what failed is tried again.
    fn hold(&self) -> u32 {
        let before = usize::from(self.failures).checked_sub(1);
        before.map_or(0, |before| HOLDS[before.min(HOLDS.len() - 1)])
    }

    /// Proposes a probe for the next better thing, or tries it at once where a probe could not be judged.
    pub(super) fn climb(&mut self, now: Millis, ladder: Ladder<'_>) -> Option<ProbePlan> {
        if self.failures > 0 && now.since(self.up_at) >= STEADY && self.up_at.since(self.failed_at) < u32::MAX / 2 {
            self.failures = 0;
        }
        if self.phase != Phase::Steady || now.since(self.disturbed_at) < GOOD {
            return None;
        }
        let climb = self.next(now, ladder)?;
        let hold = match climb.sending {
            Sending::KeyframesOnly => self.hold().min(SILENT),
            _ => self.hold(),
        };
        let is_held = now.since(self.failed_at) < hold;
        if is_held && (alike(kilobits(climb.rate), self.failed) || climb.sending < Sending::Whole) {
            return None;
        }
        if self.wanted == self.layer && self.sending <= Sending::KeyframesOnly {
            // There is nothing to measure by, so it is tried.
            self.take(now, climb);
            return None;
        }
        let rate = (u64::from(climb.rate) * PROBE_PERCENT / 100).min(u64::from(u32::MAX)) as u32;
        Some(ProbePlan {
            rate,
            padding: rate.saturating_sub(self.rate_sent(ladder)),
            ramp: self.probe_ramp(climb.rate),
            duration: self.probe_duration(climb.rate),
        })
    }

    /// Whether something that takes `rate` has failed last.
    fn has_failed(&self, rate: u32) -> bool {
        self.failures > 0 && alike(kilobits(rate), self.failed)
    }

    /// What has failed may well fail again: the queue that it makes is to be noticed while it is short.
    fn probe_ramp(&self, rate: u32) -> Duration {
        if self.has_failed(rate) {
            PROBE_RAMP_AGAIN
        } else {
            PROBE_RAMP
        }
    }

    /// Long enough for a report to fall into it, and longer for what has failed.
    fn probe_duration(&self, rate: u32) -> Duration {
        let interval = Duration::from_millis(u64::from(self.signal.interval())).min(PROBE_INTERVAL);
        let least = if self.has_failed(rate) {
            PROBE_AGAIN
        } else {
            PROBE_DURATION
        };
        least.max(interval + PROBE_RAMP / 4)
    }

    /// The next better thing: the rest of the layer, or the next layer.
    fn next(&self, now: Millis, ladder: Ladder<'_>) -> Option<Climb> {
        let step = ladder.step(self.wanted)?;
        let is_waiting = self.wanted != self.layer;
        if !is_waiting && self.sending != Sending::Whole {
            return Some(more_of(step, self.sending));
        }
        let position = ladder.position(self.wanted)?;
        let top = match self.limit {
            StepLimit::None => usize::MAX,
            StepLimit::Ceiling(layer) => ladder.position(layer).unwrap_or(usize::MAX),
            StepLimit::Pin(layer) => ladder.position(layer).map_or(usize::MAX, |_| 0),
        };
        let above = ladder.above(position, now)?;
        (ladder.position(above.layer)? <= top).then_some(Climb {
            rate: above.rate,
            layer: above.layer,
            sending: Sending::Whole,
        })
    }

    fn take(&mut self, now: Millis, climb: Climb) {
        self.reason = Reason::Recovered;
        self.up_at = now;
        self.wanted = climb.layer;
        self.after = Sending::Whole;
        if self.wanted == self.layer {
            self.sending = climb.sending;
        }
    }
}

/// What follows when more of a layer can be sent: keyframes, the temporal base layer if there is one, all of it.
fn more_of(step: LadderStep, sending: Sending) -> Climb {
    let (rate, sending) = match (sending, step.base_rate) {
        (Sending::AudioOnly, _) => (0, Sending::KeyframesOnly),
        (Sending::KeyframesOnly, Some(base)) => (base, Sending::BaseTemporal),
        _ => (step.rate, Sending::Whole),
    };
    let layer = step.layer;
    Climb { rate, layer, sending }
}

/// For so long before a probe.
const GOOD: u32 = 900;
const PROBE_RAMP: Duration = Duration::from_millis(200);
const PROBE_RAMP_AGAIN: Duration = Duration::from_millis(500);
/// Two reports fall into it.
const PROBE_DURATION: Duration = Duration::from_millis(450);
/// Three.
const PROBE_AGAIN: Duration = Duration::from_millis(800);
/// Reports that are further apart cannot judge a probe.
const PROBE_INTERVAL: Duration = Duration::from_millis(1_000);
const PROBE_QUEUE: u16 = 60;
/// 8 %.
const PROBE_LOSS: u8 = 20;
/// The next report after the end of a probe comes within this.
const SETTLING: u32 = 200;
/// A probe of which no end was reported.
const PROBE_LOST: u32 = 2_000;
/// Without a fall for so long the climb was right.
const STEADY: u32 = 10_000;
/// Milliseconds until what failed is tried again, by the number of failures before.
const HOLDS: [u32; 8] = [1_000, 2_000, 2_000, 3_000, 3_000, 3_000, 8_000, 15_000];
/// Browsers tell nothing of a source that has been silent for 8 s: before that, keyframes are tried again.
const SILENT: u32 = 6_000;

//! The decisions for one viewer.

mod climb;
mod fall;

use super::ladder::{Ladder, LadderStep, Millis};
use super::probe::ProbePlan;
use super::signal::{ReportNote, Signal};

/// How much of its layer a viewer is sent. Audio is sent in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sending {
    /// No video: until the switch to [`wanted`](LayerControl::wanted) if there is one.
    AudioOnly,
    /// Keyframes.
    KeyframesOnly,
    /// The temporal base layer.
    BaseTemporal,
    /// Everything.
    Whole,
}

/// Why a viewer is sent what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It has just begun.
    Start,
    /// Packets queued on its path.
    Queue,
    /// Its path lost packets.
    Loss,
    /// A probe showed that its path carries more.
    Recovered,
    /// The layer that it was sent fell silent.
    LayerGone,
    /// The API or the page limits it.
    Limit,
}

/// What the API or the page asks for. Layers that the ladder does not have limit nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StepLimit {
    /// The best that the path carries.
    #[default]
    None,
    /// Nothing better than this layer.
    Ceiling(u8),
    /// This layer, at the viewer's own risk: if the path is too narrow, only parts of it.
    Pin(u8),
}

/// The state of one viewer of a stream that has a choice.
#[derive(Debug, Clone)]
pub struct LayerControl {
    signal: Signal,
    /// When the phase began.
    phase_at: Millis,
    /// The last report that was not bad.
    tolerable_at: Millis,
    /// The last report that was not good.
    disturbed_at: Millis,
    /// When the viewer last got more, and less.
    up_at: Millis,
    down_at: Millis,
    /// When something failed.
    failed_at: Millis,
    /// In kbit/s: what failed, and what is probed.
    failed: u16,
    probed: u16,
    limit: StepLimit,
    layer: u8,
    wanted: u8,
    sending: Sending,
    /// How much of `wanted` is sent once the viewer has switched to it.
    after: Sending,
    reason: Reason,
    phase: Phase,
    /// In a row.
    failures: u8,
    /// Of 256, when the viewer last got less because of losses.
    loss_before: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was reported yet.
    Starting,
    Steady,
    /// Padding is being sent.
    Probing,
    /// It has been sent, and has yet to be reported.
    Judging,
    /// It has filled the path, which empties now: what is reported of that counts for nothing.
    Draining,
}

impl LayerControl {
    /// A viewer that begins, with the middle layer: nothing is known of its path.
    pub fn new(now: Millis, ladder: &[LadderStep], limit: StepLimit) -> LayerControl {
        let steps = Ladder(ladder);
        let layer = steps.middle().or(ladder.first().copied()).map_or(0, |step| step.layer);
        let mut control = LayerControl {
            signal: Signal::new(now),
            phase_at: now,
            tolerable_at: now,
            disturbed_at: now,
            up_at: now.minus(CLIMBED),
            down_at: now.minus(BETWEEN_FALLS),
            failed_at: now,
            failed: 0,
            probed: 0,
            limit,
            layer,
            wanted: layer,
            sending: Sending::Whole,
            after: Sending::Whole,
            reason: Reason::Start,
            phase: Phase::Starting,
            failures: 0,
            loss_before: 0,
        };
        control.follow(steps);
        // Nothing was sent yet, so there is nothing to switch from.
        control.layer = control.wanted;
        control.reason = Reason::Start;
        control
    }

    /// How much of its layer the viewer is to be sent now.
    pub fn sending(&self) -> Sending {
        self.sending
    }

    /// The layer that it is sent.
    pub fn layer(&self) -> u8 {
        self.layer
    }

    /// The layer to switch to at its next keyframe, if it is another.
    pub fn wanted(&self) -> Option<u8> {
        (self.wanted != self.layer).then_some(self.wanted)
    }

    /// Why the last change was made.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether the path has proven too narrow for something a short time ago: a burst would overflow it.
    pub fn is_narrow(&self, now: Millis) -> bool {
        self.failures > 0 && now.since(self.failed_at) < NARROW
    }

    /// Whether padding may go on. A probe ends early when a report shows that the path is full.
    pub fn is_probing(&self) -> bool {
        self.phase == Phase::Probing
    }

    /// A report of the viewer has arrived. Gives the probe that would be useful now: if it begins, the shard calls
    /// [`probe_started`](Self::probe_started). One that does not is proposed again with the next report.
    pub fn handle_report(&mut self, now: Millis, note: &ReportNote, ladder: &[LadderStep]) -> Option<ProbePlan> {
        let ladder = Ladder(ladder);
        let evidence = self.signal.handle_report(now, note);
        self.follow(ladder);
        match self.phase {
            Phase::Starting => self.judge_start(now, note, evidence, ladder),
            Phase::Steady => {}
            Phase::Probing | Phase::Judging => self.judge_probe(now, evidence, ladder),
            Phase::Draining if now.since(self.phase_at) < PROBE_DRAIN => {}
            Phase::Draining => self.phase = Phase::Steady,
        }
        self.learn_loss(now, evidence);
        self.protect(now, note, evidence, ladder);
        if evidence.queue > GOOD_QUEUE || evidence.loss > GOOD_LOSS {
            self.disturbed_at = now;
        }
        self.climb(now, ladder)
    }

    /// Layers have come or gone, or the viewer's limit has changed.
    pub fn set_limit(&mut self, limit: StepLimit, ladder: &[LadderStep]) {
        self.limit = limit;
        self.follow(Ladder(ladder));
    }

    /// The forwarder has switched the viewer to a layer, at a keyframe.
    pub fn switched(&mut self, now: Millis, layer: u8, ladder: &[LadderStep]) {
        let position = |layer| Ladder(ladder).position(layer);
        if position(layer) > position(self.layer) {
            self.up_at = now;
        } else {
            // The keyframe goes through the queue that the layer before has left.
            self.down_at = now;
        }
        self.layer = layer;
        self.tolerable_at = now;
        if layer == self.wanted {
            self.sending = self.after;
            self.after = Sending::Whole;
        }
    }

    /// The shard begins with the padding that was proposed.
    pub fn probe_started(&mut self, now: Millis, plan: &ProbePlan) {
        self.phase = Phase::Probing;
        self.phase_at = now;
        self.probed = kilobits((u64::from(plan.rate) * 100 / PROBE_PERCENT) as u32);
    }

    /// All padding has been sent.
    pub fn probe_ended(&mut self, now: Millis) {
        if self.phase == Phase::Probing {
            self.phase = Phase::Judging;
            self.phase_at = now;
        }
    }

    /// Keeps to layers that are live and within the limit.
    fn follow(&mut self, ladder: Ladder<'_>) {
        let position = ladder.position(self.wanted);
        let (allowed, reason) = match self.limit {
            StepLimit::Pin(layer) if ladder.position(layer).is_some() => (ladder.position(layer), Reason::Limit),
            StepLimit::Ceiling(layer) if ladder.position(layer).is_some_and(|top| position > Some(top)) => {
                (ladder.position(layer), Reason::Limit)
            }
            _ => (position.or(Some(0)), Reason::LayerGone),
        };
        let nearest = allowed.and_then(|position| ladder.nearest(position));
        let Some(step) = nearest.filter(|step| step.layer != self.wanted) else {
            return;
        };
        let is_gone = ladder
            .step(self.wanted)
            .is_none_or(|wanted| wanted.live_since.is_none());
        self.reason = if is_gone { Reason::LayerGone } else { reason };
        self.wanted = step.layer;
        self.after = Sending::Whole;
        if self.wanted == self.layer {
            // Back before the switch.
            self.sending = Sending::Whole;
        }
    }

    /// Something of `rate` kbit/s has proven too much: it is not tried again for a time.
    fn fail(&mut self, now: Millis, rate: u16) {
        if !alike(rate, self.failed) {
            self.failures = 0;
        }
        self.failed = rate;
        self.failed_at = now;
        self.failures = self.failures.saturating_add(1);
    }

    /// Bits per second of what the viewer is sent now.
    fn rate_sent(&self, ladder: Ladder<'_>) -> u32 {
        let step = ladder.step(self.layer);
        step.map_or(0, |step| match self.sending {
            Sending::Whole => step.rate,
            Sending::BaseTemporal => step.base_rate.unwrap_or(step.rate),
            Sending::KeyframesOnly | Sending::AudioOnly => 0,
        })
    }
}

/// The rate of a layer that a path fits which delivers so much.
fn fitting(delivered: u32) -> u32 {
    delivered / 20 * 19
}

fn kilobits(rate: u32) -> u16 {
    u16::try_from(rate / 1_000).unwrap_or(u16::MAX)
}

/// Whether two rates are within a fifth of each other.
fn alike(one: u16, other: u16) -> bool {
    u32::from(one.abs_diff(other)) * 5 <= u32::from(one.max(other))
}

/// Below these the path is at ease.
const GOOD_QUEUE: u16 = 60;
/// 2 %.
const GOOD_LOSS: u8 = 5;
/// More than the next layer takes, so that it is not only just carried.
const PROBE_PERCENT: u64 = 115;
/// What a failed probe has left on the path is gone after this.
const PROBE_DRAIN: u32 = 900;
/// A fall so soon after a climb shows that the climb was wrong.
const CLIMBED: u32 = 5_000;
/// A path that was too narrow is taken to be narrow for so long.
const NARROW: u32 = 5_000;
/// A step takes effect within this.
const BETWEEN_FALLS: u32 = 700;

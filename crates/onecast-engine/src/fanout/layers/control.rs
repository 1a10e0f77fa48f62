//! The decisions for one viewer.

use std::time::Duration;

use super::ladder::{Ladder, LadderStep, Millis};
use super::probe::ProbePlan;
use super::signal::{Evidence, ReportNote, Signal};

/// How much of its layer a viewer is sent. Audio is sent in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sending {
    /// No video: until the switch to [`wanted`](LayerControl::wanted) if there is one.
    AudioOnly,
    /// Keyframes, and of what follows each as much as the [`LayerControl::group_rate`] allows.
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
    /// In kbit/s: what failed, what is probed, and what may be sent of groups of pictures.
    failed: u16,
    probed: u16,
    group: u16,
    limit: StepLimit,
    layer: u8,
    wanted: u8,
    sending: Sending,
    /// What is to be sent of `wanted` after the switch.
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

/// The next better thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Climb {
    /// Bits per second that it takes.
    rate: u32,
    layer: u8,
    sending: Sending,
}

impl LayerControl {
    /// A viewer that begins, with the best layer that fits `known` bits per second, or the middle one if nothing is known of its path.
    pub fn new(now: Millis, ladder: &[LadderStep], limit: StepLimit, known: Option<u32>) -> LayerControl {
        let steps = Ladder(ladder);
        let first = known.map_or_else(
            || steps.middle(),
            |known| steps.below(ladder.len(), Some(fitting(known))),
        );
        let layer = first.or(ladder.first().copied()).map_or(0, |step| step.layer);
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
            group: 0,
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

    /// With [`Sending::KeyframesOnly`]: the keyframe is sent in any case, and the frames that follow until the group has taken so many
    /// bits per second of the time from keyframe to keyframe. The rest is left out.
    pub fn group_rate(&self) -> u32 {
        u32::from(self.group) * 1_000
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
        self.widen_group(now, evidence, ladder);
        if evidence.queue > GOOD_QUEUE || evidence.loss > GOOD_LOSS {
            self.disturbed_at = now;
        }
        self.climb(now, ladder)
    }

    /// Layers have come or gone, or their rates have changed a lot.
    pub fn handle_ladder(&mut self, ladder: &[LadderStep]) {
        self.follow(Ladder(ladder));
    }

    /// The viewer's limit has changed.
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

    /// The start was sent much faster than the layer, so it has tested the path already.
    fn judge_start(&mut self, now: Millis, note: &ReportNote, evidence: Evidence, ladder: Ladder<'_>) {
        self.phase = Phase::Steady;
        let carries = |rate| note.delivered.is_some_and(|delivered| delivered >= rate);
        if evidence.queue <= GOOD_QUEUE && evidence.loss <= GOOD_LOSS {
            self.disturbed_at = now.minus(GOOD);
        } else if carries(self.rate_sent(ladder)) {
            // It was only the burst that was too fast.
            self.down_at = now;
        }
    }

    fn judge_probe(&mut self, now: Millis, evidence: Evidence, ladder: Ladder<'_>) {
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

    /// If sending less leaves as much loss as before, the path loses packets whatever it is sent.
    fn learn_loss(&mut self, now: Millis, evidence: Evidence) {
        if self.loss_before == 0 || evidence.loss_total == 0 || now.since(self.down_at) < LOSS_LEARNED {
            return;
        }
        let before = std::mem::take(&mut self.loss_before);
        if evidence.queue <= GOOD_QUEUE && u32::from(evidence.loss_total) * 3 >= u32::from(before) * 2 {
            self.signal.tolerate(evidence.loss_total.max(before));
        }
    }

    /// Sends less if the path is too narrow.
    fn protect(&mut self, now: Millis, note: &ReportNote, evidence: Evidence, ladder: Ladder<'_>) {
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
        let is_severe = has_choice && (queue > SEVERE_QUEUE || (loss > SEVERE_LOSS && is_broad));
        let bad = if has_choice { BAD } else { BAD_ALONE };
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
        let fits_group = kilobits(fits.unwrap_or(0));
        match self.sending {
            Sending::Whole if self.base_fits(fits, ladder) => self.sending = Sending::BaseTemporal,
            Sending::Whole | Sending::BaseTemporal => {
                self.sending = Sending::KeyframesOnly;
                self.group = fits_group.max(GROUP_MIN);
            }
            Sending::KeyframesOnly if self.group > GROUP_MIN => self.group = fits_group.min(self.group / 4 * 3),
            // An outage is over before that.
            Sending::KeyframesOnly if self.group > 0 => self.group = 0,
            Sending::KeyframesOnly | Sending::AudioOnly => self.sending = Sending::AudioOnly,
        }
    }

    /// Groups may take more while the path is at ease.
    fn widen_group(&mut self, now: Millis, evidence: Evidence, ladder: Ladder<'_>) {
        if self.sending != Sending::KeyframesOnly || evidence.queue > GOOD_QUEUE || evidence.loss > GOOD_LOSS {
            return;
        }
        let interval = u32::from(self.signal.interval()).min(1_000);
        let whole = ladder.step(self.layer).map_or(u16::MAX, |step| kilobits(step.rate));
        let more = (u32::from(self.group) / GROUP_GROWTH).max(u32::from(whole) / GROUP_GROWTH_LEAST);
        self.group = self.group.saturating_add((more * interval / 1_000).max(1) as u16);
        if self.group >= whole.saturating_add(whole / 8) {
            self.sending = Sending::Whole;
            self.up_at = now;
            self.reason = Reason::Recovered;
        }
    }

    fn base_fits(&self, fits: Option<u32>, ladder: Ladder<'_>) -> bool {
        let base = ladder.step(self.layer).and_then(|step| step.base_rate);
        base.is_some_and(|base| fits.is_none_or(|fits| base <= fits))
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

    /// Milliseconds until what failed is tried again.
    fn hold(&self) -> u32 {
        let before = usize::from(self.failures).checked_sub(1);
        before.map_or(0, |before| HOLDS[before.min(HOLDS.len() - 1)])
    }

    /// Proposes a probe for the next better thing.
    fn climb(&mut self, now: Millis, ladder: Ladder<'_>) -> Option<ProbePlan> {
        if self.failures > 0 && now.since(self.up_at) >= STEADY && self.up_at.since(self.failed_at) < u32::MAX / 2 {
            self.failures = 0;
        }
        if self.phase != Phase::Steady || now.since(self.disturbed_at) < GOOD {
            return None;
        }
        let climb = self.next(now, ladder)?;
        let is_held = now.since(self.failed_at) < self.hold();
        if is_held && (alike(kilobits(climb.rate), self.failed) || climb.sending < Sending::Whole) {
            return None;
        }
        if climb.sending == Sending::KeyframesOnly {
            // There is nothing to measure by, and little to lose.
            self.group = GROUP_MIN;
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
            let is_narrow = self.failures > 1 && alike(kilobits(step.rate), self.failed);
            return more_of(step, self.sending, is_narrow);
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

    /// Bits per second of what the viewer is sent now.
    fn rate_sent(&self, ladder: Ladder<'_>) -> u32 {
        let step = ladder.step(self.layer);
        step.map_or(0, |step| match self.sending {
            Sending::Whole => step.rate,
            Sending::BaseTemporal => step.base_rate.unwrap_or(step.rate),
            Sending::KeyframesOnly => self.group_rate().min(step.rate),
            Sending::AudioOnly => 0,
        })
    }
}

/// What follows when more of a layer can be sent: all of it, or on a path that has proven too narrow for that, the temporal base layer.
fn more_of(step: LadderStep, sending: Sending, is_narrow: bool) -> Option<Climb> {
    let (rate, sending) = match (sending, step.base_rate) {
        (Sending::AudioOnly, _) => (0, Sending::KeyframesOnly),
        (Sending::KeyframesOnly, Some(base)) if is_narrow => (base, Sending::BaseTemporal),
        _ => (step.rate, Sending::Whole),
    };
    let layer = step.layer;
    Some(Climb { rate, layer, sending })
}

/// What to send of a layer at first, if it does not fit as a whole.
fn first_sending(step: LadderStep, fits: Option<u32>) -> Sending {
    match fits {
        Some(fits) if step.rate > fits && step.base_rate.is_some() => Sending::BaseTemporal,
        _ => Sending::Whole,
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
/// A step takes effect within this.
const BETWEEN_FALLS: u32 = 700;
/// A path that delivers so much more than the layer takes works its queue off,
const WORKED_OFF_PERCENT: u64 = 105;
/// if it is one of a keyframe.
const WORKED_OFF_QUEUE: u16 = 300;
/// Without a lower layer, a path that delivers so much of the layer is let alone.
const CARRIED_PERCENT: u64 = 90;
/// Below these the path is at ease.
const GOOD_QUEUE: u16 = 60;
/// 2 %.
const GOOD_LOSS: u8 = 5;
/// For so long before a probe.
const GOOD: u32 = 900;
/// More than the next layer takes, so that it is not only just carried.
const PROBE_PERCENT: u64 = 115;
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
/// What a failed probe has left on the path is gone after this.
const PROBE_DRAIN: u32 = 900;
/// The next report after the end of a probe comes within this.
const SETTLING: u32 = 200;
/// A probe of which no end was reported.
const PROBE_LOST: u32 = 2_000;
/// A fall so soon after a climb shows that the climb was wrong.
const CLIMBED: u32 = 5_000;
/// Without a fall for so long the climb was right.
const STEADY: u32 = 10_000;
/// A path that was too narrow is taken to be narrow for so long.
const NARROW: u32 = 5_000;
/// Milliseconds until what failed is tried again, by the number of failures before.
const HOLDS: [u32; 8] = [1_000, 2_000, 2_000, 3_000, 3_000, 3_000, 8_000, 15_000];
/// Less of a group than this is not worth a picture.
const GROUP_MIN: u16 = 50;
/// A group may take a quarter more after each second at ease, or a sixth of the layer.
const GROUP_GROWTH: u32 = 4;
const GROUP_GROWTH_LEAST: u32 = 6;
/// The effect of sending less shows in losses after this.
const LOSS_LEARNED: u32 = 1_000;

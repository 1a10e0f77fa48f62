//! The controller under test, and simpler ones to compare it with.

use onecast_engine::layers::{LadderStep, LayerControl, Millis, ProbePlan, Reason, ReportNote, Sending, StepLimit};

/// What decides for a viewer.
pub(crate) trait Controller {
    /// A report has arrived. May ask for a probe, which begins at once.
    fn handle_report(&mut self, now: Millis, note: &ReportNote, ladder: &[LadderStep]) -> Option<ProbePlan>;
    /// The layer to be sent, from its next keyframe on.
    fn wanted(&self) -> u8;
    fn sending(&self) -> Sending {
        Sending::Whole
    }
    fn reason(&self) -> Option<Reason> {
        None
    }
    fn switched(&mut self, _: Millis, _: u8, _: &[LadderStep]) {}
    fn probe_ended(&mut self, _: Millis) {}
    fn is_probing(&self) -> bool {
        false
    }
    /// Bits per second for retransmissions while it is sent a layer of so many; `None` for any.
    fn repair_rate(&self, rate: u32) -> Option<u32> {
        Some((rate / 5).clamp(32_000, 1_000_000))
    }
}

/// The one under test.
impl Controller for LayerControl {
    fn handle_report(&mut self, now: Millis, note: &ReportNote, ladder: &[LadderStep]) -> Option<ProbePlan> {
        let plan = LayerControl::handle_report(self, now, note, ladder);
        if let Some(plan) = &plan {
            self.probe_started(now, plan);
        }
        plan
    }

    fn wanted(&self) -> u8 {
        LayerControl::wanted(self).unwrap_or(self.layer())
    }

    fn sending(&self) -> Sending {
        LayerControl::sending(self)
    }

    fn reason(&self) -> Option<Reason> {
        Some(LayerControl::reason(self))
    }

    fn switched(&mut self, now: Millis, layer: u8, ladder: &[LadderStep]) {
        LayerControl::switched(self, now, layer, ladder);
    }

    fn probe_ended(&mut self, now: Millis) {
        LayerControl::probe_ended(self, now);
    }

    fn is_probing(&self) -> bool {
        LayerControl::is_probing(self)
    }
}

/// Falls at 10 % loss, and tries the next layer by sending it after some time without loss, which doubles when that was wrong.
#[derive(Debug)]
pub(crate) struct LossTrial {
    wanted: u8,
    quiet_since: Millis,
    changed_at: Millis,
    rose: bool,
    patience: u32,
}

impl LossTrial {
    pub(crate) fn new(ladder: &[LadderStep]) -> LossTrial {
        LossTrial {
            wanted: middle(ladder),
            quiet_since: Millis(0),
            changed_at: Millis(0),
            rose: false,
            patience: 4_000,
        }
    }
}

impl Controller for LossTrial {
    fn handle_report(&mut self, now: Millis, note: &ReportNote, ladder: &[LadderStep]) -> Option<ProbePlan> {
        if note.packets < 10 {
            return None;
        }
        if note.fraction_lost > 25 {
            self.quiet_since = now;
            if now.since(self.changed_at) > 1_000 && self.wanted > 0 {
                let wrong = self.rose && now.since(self.changed_at) < 5_000;
                self.patience = if wrong { (2 * self.patience).min(30_000) } else { 4_000 };
                self.wanted -= 1;
                (self.changed_at, self.rose) = (now, false);
            }
        } else if note.fraction_lost > 5 {
            self.quiet_since = now;
        } else if now.since(self.quiet_since) > self.patience && usize::from(self.wanted) + 1 < ladder.len() {
            self.wanted += 1;
            (self.changed_at, self.quiet_since, self.rose) = (now, now, true);
        }
        None
    }

    fn wanted(&self) -> u8 {
        self.wanted
    }
}

/// An estimate that grows 5 % a second without loss and shrinks with it, and the best layer that fits in 7/8 of it.
#[derive(Debug)]
pub(crate) struct LossAimd {
    estimate: f64,
    wanted: u8,
    at: Millis,
}

impl LossAimd {
    pub(crate) fn new(ladder: &[LadderStep]) -> LossAimd {
        LossAimd {
            estimate: 800_000.0,
            wanted: middle(ladder),
            at: Millis(0),
        }
    }
}

impl Controller for LossAimd {
    fn handle_report(&mut self, now: Millis, note: &ReportNote, ladder: &[LadderStep]) -> Option<ProbePlan> {
        if note.packets < 10 {
            return None;
        }
        let elapsed = f64::from(now.since(self.at)) / 1_000.0;
        let loss = f64::from(note.fraction_lost) / 256.0;
        let most = f64::from(ladder.last()?.rate) * 2.0;
        if loss < 0.02 {
            self.estimate *= 1.05_f64.powf(elapsed * 4.0);
        } else if loss > 0.1 {
            self.estimate *= 1.0 - loss / 2.0;
        }
        self.estimate = self.estimate.clamp(100_000.0, most);
        self.at = now;
        let fits = ladder
            .iter()
            .rfind(|step| f64::from(step.rate) <= self.estimate * 0.875);
        self.wanted = fits.map_or(0, |step| step.layer);
        None
    }

    fn wanted(&self) -> u8 {
        self.wanted
    }
}

/// One layer, and every request for a retransmission answered.
#[derive(Debug)]
pub(crate) struct Fixed(pub(crate) u8);

impl Fixed {
    pub(crate) fn middle(ladder: &[LadderStep]) -> Fixed {
        Fixed(middle(ladder))
    }

    pub(crate) fn top(ladder: &[LadderStep]) -> Fixed {
        Fixed((ladder.len() - 1) as u8)
    }
}

impl Controller for Fixed {
    fn handle_report(&mut self, _: Millis, _: &ReportNote, _: &[LadderStep]) -> Option<ProbePlan> {
        None
    }

    fn wanted(&self) -> u8 {
        self.0
    }

    fn repair_rate(&self, _: u32) -> Option<u32> {
        None
    }
}

/// Layers of these simulations are numbered as they are ranked.
fn middle(ladder: &[LadderStep]) -> u8 {
    ((ladder.len() - 1) / 2) as u8
}

/// The one under test, without a limit.
pub(crate) fn layer_control(ladder: &[LadderStep]) -> LayerControl {
    LayerControl::new(Millis(0), ladder, StepLimit::None)
}

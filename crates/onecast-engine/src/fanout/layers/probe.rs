//! Probes: padding that shows whether a path carries more, and what a shard spends on them.

use std::time::Duration;

use super::ladder::Millis;

/// What a viewer is to be sent to prove that its path carries more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbePlan {
    /// Bits per second in all.
    pub rate: u32,
    /// Bits per second of these that are padding, at the full rate.
    pub padding: u32,
    /// Padding grows evenly from nothing during this time, so that a path that is full shows it before it overflows.
    pub ramp: Duration,
    /// In all, with the ramp.
    pub duration: Duration,
}

impl ProbePlan {
    /// Bytes of padding due `elapsed` after the begin.
    pub fn bytes(&self, elapsed: Duration) -> u64 {
        let elapsed = elapsed.min(self.duration).as_micros() as u64;
        let ramp = (self.ramp.as_micros() as u64).max(1);
        let ramped = elapsed.min(ramp);
        // Microseconds at the full rate.
        let full = ramped * ramped / (2 * ramp) + (elapsed - ramped);
        u64::from(self.padding) * full / 8_000_000
    }
}

/// What the probes of a shard may take: a share of what it sends, and so many at once.
#[derive(Debug)]
pub struct ProbeBudget {
    running: u32,
    /// Of what the shard sends, percent.
    share: u8,
    /// Bytes; negative after a probe that was larger than what was left.
    credit: i64,
    filled_at: Millis,
}

impl ProbeBudget {
    /// As many probes may run at once.
    pub const RUNNING_MAX: u32 = 64;
    /// 1 Mbit/s in any case: a share of what a shard sends to its only viewer would allow a probe every few minutes.
    const PER_SECOND_MIN: u64 = 125_000;
    /// What is saved at most, in seconds.
    const SAVED: u64 = 4;

    /// The budget of a shard that begins: `share` percent of what it sends. With 0 there are no probes.
    pub fn new(now: Millis, share: u8) -> ProbeBudget {
        ProbeBudget {
            running: 0,
            share,
            credit: (ProbeBudget::PER_SECOND_MIN * ProbeBudget::SAVED) as i64,
            filled_at: now,
        }
    }

    /// The shard has sent so many bytes since the last call, probes included. To be called about once a second.
    pub fn handle_egress(&mut self, now: Millis, bytes: u64) {
        let elapsed = u64::from(now.since(self.filled_at));
        self.filled_at = now;
        let share = bytes * u64::from(self.share) / 100;
        let gained = share.max(ProbeBudget::PER_SECOND_MIN * elapsed / 1_000);
        // As much as these bytes give in the time that is saved.
        let most = gained.saturating_mul(ProbeBudget::SAVED * 1_000) / elapsed.max(1);
        let credit = self.credit.saturating_add(i64::try_from(gained).unwrap_or(i64::MAX));
        self.credit = credit.min(i64::try_from(most).unwrap_or(i64::MAX));
    }

    /// Whether a probe may begin, which uses up what it takes. One that is refused may be asked for again with the next report.
    pub fn start(&mut self, plan: &ProbePlan) -> bool {
        if self.share == 0 || self.running >= ProbeBudget::RUNNING_MAX || self.credit <= 0 {
            return false;
        }
        self.running += 1;
        self.credit -= plan.bytes(plan.duration) as i64;
        true
    }

    /// A probe has ended, or was stopped after `elapsed`: what it did not take is free again.
    pub fn end(&mut self, plan: &ProbePlan, elapsed: Duration) {
        self.running = self.running.saturating_sub(1);
        self.credit += (plan.bytes(plan.duration) - plan.bytes(elapsed)) as i64;
    }

    /// Probes that run now.
    pub fn running(&self) -> u32 {
        self.running
    }
}

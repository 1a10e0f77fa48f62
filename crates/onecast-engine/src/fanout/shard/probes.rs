//! Probes on their way: packets that are repeated to see whether a viewer's path carries more.

use std::time::{Duration, Instant};

use super::Shard;
use crate::fanout::ids::PeerIndex;
use crate::fanout::layers::{Millis, ProbeBudget, ProbePlan};
use crate::fanout::stream::Flow;
use crate::media::lane::StreamSlot;

/// The probes of a shard.
pub(super) struct Probes {
    budget: ProbeBudget,
    running: Vec<RunningProbe>,
    /// The next slices of all.
    at: Option<Instant>,
    born: Instant,
    egress_at: Instant,
    egress: u64,
}

struct RunningProbe {
    peer: PeerIndex,
    generation: u32,
    slot: StreamSlot,
    plan: ProbePlan,
    began: Instant,
    sent: u64,
}

impl Probes {
    /// Between two slices of a probe.
    const INTERVAL: Duration = Duration::from_millis(5);
    /// Between two looks at what the shard sends.
    const EGRESS: Duration = Duration::from_secs(1);

    /// Probes take at most so many percent of what the shard sends.
    pub(super) fn new(now: Instant, share: u8) -> Probes {
        Probes {
            budget: ProbeBudget::new(Millis(0), share),
            running: Vec::new(),
            at: None,
            born: now,
            egress_at: now,
            egress: 0,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }

    /// `egress` is what the shard has sent so far, in bytes.
    fn fill(&mut self, now: Instant, egress: u64) {
        if now < self.egress_at + Probes::EGRESS {
            return;
        }
        self.egress_at = now;
        let at = Millis(now.saturating_duration_since(self.born).as_millis() as u32);
        let before = std::mem::replace(&mut self.egress, egress);
        self.budget.handle_egress(at, egress.saturating_sub(before));
    }
}

impl Shard {
    /// Begins a probe, if the budget allows one more.
    pub(super) fn begin_probe(&mut self, now: Instant, index: PeerIndex, slot: StreamSlot, plan: ProbePlan) {
        let egress = self.counters.rtp_out_bytes.value() + self.counters.probed_bytes.value();
        self.probes.fill(now, egress);
        let is_known = |probe: &RunningProbe| probe.peer == index && probe.slot == slot;
        let Some(position) = self.peers.position(index, slot) else {
            return;
        };
        if self.probes.running.iter().any(is_known) || !self.probes.budget.start(&plan) {
            return;
        }
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.begin_probe(now, position, &plan);
        }
        self.counters.probes.add(1);
        self.probes.running.push(RunningProbe {
            peer: index,
            generation: self.peers.generation(index),
            slot,
            plan,
            began: now,
            sent: 0,
        });
        self.probes.at = Some(now);
    }

    /// Sends the slices that are due of all probes.
    pub(super) fn run_probes(&mut self, now: Instant) {
        if self.probes.at.is_none_or(|at| at > now) {
            return;
        }
        let mut running = std::mem::take(&mut self.probes.running);
        running.retain_mut(|probe| self.run_probe(now, probe));
        self.probes.at = (!running.is_empty()).then(|| now + Probes::INTERVAL);
        self.probes.running = running;
    }

    /// False when the probe is over.
    fn run_probe(&mut self, now: Instant, probe: &mut RunningProbe) -> bool {
        let elapsed = now.saturating_duration_since(probe.began);
        let is_current = self.peers.generation(probe.peer) == probe.generation;
        let position = self.peers.position(probe.peer, probe.slot).filter(|_| is_current);
        let Some((stream, position)) = self.streams.get_mut(probe.slot).zip(position) else {
            self.probes.budget.end(&probe.plan, elapsed);
            return false;
        };
        if elapsed >= probe.plan.duration {
            stream.end_probe(now, position);
        }
        if !stream.is_probing(position) {
            self.probes.budget.end(&probe.plan, elapsed);
            return false;
        }
        let due = probe.plan.bytes(elapsed).saturating_sub(probe.sent);
        let mut flow = Flow::default();
        probe.sent += stream.send_probe(position, due, &mut self.out.queue, &mut flow);
        flow.count_repairs(&self.counters);
        true
    }
}

//! One viewer of a simulated broadcast: publisher, shard, bottleneck, client. A millisecond at a time.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use onecast_engine::layers::{LadderStep, Millis, ProbePlan, ReportNote, Sending};
use onecast_testing::Noise;

use super::client::{Client, Report};
use super::path::{Bottleneck, Cargo, OtherFlow, Packet, PathPlan};
use super::rivals::Controller;
use super::score::{Frame, FrameKind, Moment, Score};

/// What is sent, and over which path.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) seed: u64,
    pub(crate) millis: u32,
    pub(crate) ladder: Vec<LadderStep>,
    pub(crate) path: PathPlan,
    /// Milliseconds from keyframe to keyframe.
    pub(crate) keyframes: u32,
    /// When the publisher's encoder stands still.
    pub(crate) stalls: Vec<Range<u32>>,
    /// When a layer is silent.
    pub(crate) gone: Option<(u8, Range<u32>)>,
    /// From then on the client reports every `REPORTS`, before that once a second.
    pub(crate) eager_from: u32,
}

impl Scene {
    /// Of a real Chromium.
    pub(crate) const REPORTS: u32 = 230;

    pub(crate) fn new(seed: u64, ladder: &[LadderStep], path: PathPlan, millis: u32) -> Scene {
        Scene {
            seed,
            millis,
            ladder: ladder.to_vec(),
            path,
            keyframes: 2_000,
            stalls: Vec::new(),
            gone: None,
            eager_from: 5_000,
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, controller: &mut dyn Controller) -> Score {
        let mut run = Run::new(self, controller);
        (0..self.millis).for_each(|now| run.pass(now));
        run.finish()
    }
}

/// Milliseconds from the shard to the viewer, and back, without a queue.
pub(crate) const ONE_WAY: u32 = 20;
/// A packet.
const BYTES: u32 = 1_200;
/// Frames a second.
const FRAMES: u32 = 30;

/// A frame that waits to be sent at the start.
#[derive(Debug, Clone, Copy)]
struct Coded {
    kind: FrameKind,
    bytes: u32,
}

/// A packet of the media.
#[derive(Debug, Clone, Copy)]
struct Media {
    bytes: u32,
    resent: u8,
}

struct Run<'a> {
    scene: &'a Scene,
    controller: &'a mut dyn Controller,
    noise: Noise,
    ladder: Vec<LadderStep>,
    path: Bottleneck,
    other: OtherFlow,
    flight: VecDeque<(u32, Packet)>,
    client: Client,
    layer: u8,
    /// The next frame, counted from a keyframe.
    frame: u32,
    backlog: VecDeque<Coded>,
    /// Bytes that the start has sent, and may send.
    started: i64,
    credit: i64,
    /// What follows needs a keyframe, or the next frame of the temporal base layer.
    awaits_keyframe: bool,
    awaits_base: bool,
    media: Vec<Media>,
    /// Retransmissions are answered from this packet on.
    gate: u32,
    repair_bits: i64,
    /// Time and bytes of each packet to the viewer.
    sent: Vec<(u32, u32)>,
    reported: Option<(u32, Report)>,
    probe: Option<(u32, ProbePlan, u64)>,
    rtt: Option<Duration>,
    score: Score,
}

impl<'a> Run<'a> {
    fn new(scene: &'a Scene, controller: &'a mut dyn Controller) -> Run<'a> {
        let mut noise = Noise::seeded(scene.seed);
        let layer = controller.wanted();
        let mut run = Run {
            frame: 0,
            client: Client::new(scene.eager_from, noise.below(Scene::REPORTS as usize) as u32),
            scene,
            controller,
            ladder: scene.ladder.clone(),
            path: Bottleneck::new(),
            other: OtherFlow::new(),
            flight: VecDeque::new(),
            layer,
            backlog: VecDeque::new(),
            started: 0,
            credit: 0,
            awaits_keyframe: false,
            awaits_base: false,
            media: Vec::new(),
            gate: 0,
            repair_bits: 0,
            sent: Vec::new(),
            reported: None,
            probe: None,
            rtt: None,
            score: Score::default(),
            noise,
        };
        // The cache holds everything since the last keyframe.
        let cached = run.noise.below(run.group() as usize) as u32;
        for _ in 0..=cached {
            let coded = run.encode();
            run.backlog.push_back(coded);
        }
        run.note(0);
        run
    }

    /// Frames from keyframe to keyframe.
    fn group(&self) -> u32 {
        self.scene.keyframes * FRAMES / 1_000
    }

    fn step(&self) -> LadderStep {
        self.ladder[usize::from(self.layer)]
    }

    fn pass(&mut self, now: u32) {
        self.carry(now);
        while self.flight.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, packet)) = self.flight.pop_front() {
                self.client.receive(now, &packet, &mut self.score.frames);
            }
        }
        self.client.pass(now);
        while let Some(media) = self.client.poll_nack(now) {
            self.retransmit(media);
        }
        while let Some(report) = self.client.poll_report(now) {
            self.handle_report(now, report);
        }
        self.follow(now);
        self.catch_up(now);
        if now * FRAMES / 1_000 != (now + 1) * FRAMES / 1_000 && !self.scene.stalls.iter().any(|at| at.contains(&now)) {
            self.send_frame(now);
        }
        self.pad(now);
        let rate = self.controller.repair_rate(self.step().rate).unwrap_or(1_000_000_000);
        let burst = i64::from(rate / 4).max(96_000);
        self.repair_bits = (self.repair_bits + i64::from(rate / 1_000)).min(burst);
    }

    fn carry(&mut self, now: u32) {
        self.path.pass(self.scene.path.rate(now));
        if self.scene.path.shared.contains(&now) {
            self.other.send(&mut self.path);
        }
        while let Some(packet) = self.path.pop() {
            let is_lost = self.noise.below(10_000) < self.scene.path.loss as usize;
            if packet.cargo != Cargo::Other && !is_lost {
                self.flight.push_back((now + ONE_WAY, packet));
            }
        }
        // A sender report a second, of which the reports after it tell.
        if now % 1_000 == 300 {
            self.rtt = Some(Duration::from_millis(u64::from(2 * ONE_WAY + self.path.wait())));
        }
    }

    /// Layers come and go, and the controller learns it.
    fn follow(&mut self, now: u32) {
        let Some((layer, times)) = &self.scene.gone else {
            return;
        };
        let step = &mut self.ladder[usize::from(*layer)];
        // Silence is noticed after a time.
        if now == times.start + 300 {
            step.live_since = None;
        } else if now == times.end {
            step.live_since = Some(Millis(now));
        }
    }

    fn is_silent(&self, now: u32, layer: u8) -> bool {
        let gone = self.scene.gone.as_ref();
        gone.is_some_and(|(gone, times)| *gone == layer && times.contains(&now))
    }

    /// The next frame of the present layer.
    fn encode(&mut self) -> Coded {
        let place = self.frame % self.group();
        self.frame += 1;
        let step = self.step();
        let average = step.rate / 8 / FRAMES;
        let (kind, percent) = match (place, step.base_rate) {
            (0, _) => (FrameKind::Key, 600),
            (_, None) => (FrameKind::Base, 92),
            (place, _) if place % 4 == 0 => (FrameKind::Base, 147),
            (place, _) if place % 2 == 0 => (FrameKind::Middle, 92),
            _ => (FrameKind::Top, 64),
        };
        let bytes = average * percent / 100 * (80 + self.noise.below(41) as u32) / 100;
        Coded {
            kind,
            bytes: bytes.max(60),
        }
    }

    /// Sends the past: 64 KiB at 40 Mbit/s, then 10.
    fn catch_up(&mut self, now: u32) {
        if self.backlog.is_empty() {
            return;
        }
        self.credit += if self.started < 65_536 { 5_000 } else { 1_250 };
        while self.credit > 0 {
            let Some(coded) = self.backlog.pop_front() else { return };
            self.credit -= i64::from(coded.bytes);
            self.started += i64::from(coded.bytes);
            self.send(now, coded);
        }
    }

    fn send_frame(&mut self, now: u32) {
        let wanted = self.controller.wanted();
        if self.frame.is_multiple_of(self.group()) && wanted != self.layer && !self.is_silent(now, wanted) {
            self.layer = wanted;
            self.controller.switched(Millis(now), wanted, &self.ladder);
            self.backlog.clear();
            self.awaits_keyframe = false;
            self.gate = self.media.len() as u32;
            self.score.switches += 1;
            self.note(now);
        }
        let coded = self.encode();
        if self.is_silent(now, self.layer) {
            return;
        }
        if self.backlog.is_empty() {
            self.send(now, coded);
        } else {
            self.backlog.push_back(coded);
        }
    }

    fn send(&mut self, now: u32, coded: Coded) {
        let sending = self.controller.sending();
        match coded.kind {
            FrameKind::Key => (self.awaits_keyframe, self.awaits_base) = (false, false),
            FrameKind::Base => self.awaits_base = false,
            FrameKind::Middle | FrameKind::Top => {}
        }
        let is_sent = match coded.kind {
            FrameKind::Key => sending >= Sending::KeyframesOnly,
            FrameKind::Base => sending >= Sending::BaseTemporal && !self.awaits_keyframe,
            _ => sending == Sending::Whole && !self.awaits_keyframe && !self.awaits_base,
        };
        if !is_sent {
            self.awaits_keyframe |= matches!(coded.kind, FrameKind::Key | FrameKind::Base);
            self.awaits_base = true;
            return;
        }
        let count = coded.bytes.div_ceil(BYTES);
        let step = self.step();
        let base = sending == Sending::BaseTemporal;
        self.score.frames.push(Frame {
            kind: coded.kind,
            rate: if base {
                step.base_rate.unwrap_or(step.rate)
            } else {
                step.rate
            },
            sent_at: now,
            missing: count,
            complete_at: None,
        });
        for _ in 0..count {
            let bytes = coded.bytes / count;
            self.media.push(Media { bytes, resent: 0 });
            self.client.media_frame.push(self.score.frames.len() as u32 - 1);
            self.transmit(now, bytes, Some(self.media.len() as u32 - 1));
        }
    }

    fn transmit(&mut self, now: u32, bytes: u32, media: Option<u32>) {
        let number = self.sent.len() as u32;
        self.sent.push((now, bytes));
        self.score.bytes += u64::from(bytes);
        let cargo = Cargo::Viewer { number, media };
        self.path.push(Packet { bytes, cargo });
    }

    fn retransmit(&mut self, (at, number): (u32, u32)) {
        let is_limited = self.controller.repair_rate(1).is_some();
        let media = &mut self.media[number as usize];
        if is_limited && (number < self.gate || media.resent >= 3) || self.repair_bits <= 0 {
            return;
        }
        media.resent = media.resent.saturating_add(1);
        let bytes = media.bytes;
        self.repair_bits -= i64::from(bytes) * 8;
        self.score.resent += u64::from(bytes);
        self.transmit(at, bytes, Some(number));
    }

    /// Sends the padding of a probe that is due.
    fn pad(&mut self, now: u32) {
        let Some((began, plan, mut padded)) = self.probe else {
            return;
        };
        if !self.controller.is_probing() {
            self.probe = None;
            return;
        }
        let elapsed = Duration::from_millis(u64::from(now - began));
        while padded + 1_000 <= plan.bytes(elapsed) {
            padded += 1_000;
            self.score.padding += 1_000;
            self.transmit(now, 1_000, None);
        }
        self.probe = Some((began, plan, padded));
        if elapsed >= plan.duration {
            self.probe = None;
            self.controller.probe_ended(Millis(now));
        }
    }

    fn handle_report(&mut self, now: u32, report: Report) {
        let (before_at, before) = self.reported.unwrap_or((0, Report::default()));
        let packets = report.next - before.next;
        let bytes: u64 = self.sent[before.next as usize..report.next as usize]
            .iter()
            .map(|(_, bytes)| u64::from(*bytes))
            .sum();
        let received = bytes * u64::from(256 - u32::from(report.fraction_lost)) / 256;
        let elapsed = u64::from(now - before_at).max(1);
        let lag = self.oldest_under_way(report.next as usize).map_or(0, |at| now - at);
        let note = ReportNote {
            lag: Some(Duration::from_millis(u64::from(lag))),
            idle: Duration::from_millis(u64::from(self.sent.last().map_or(0, |(at, _)| now - at))),
            fraction_lost: report.fraction_lost,
            packets,
            delivered: (packets > 0 || lag > 0).then_some((received * 8_000 / elapsed) as u32),
            rtt: self.rtt,
        };
        self.reported = Some((now, report));
        let plan = self.controller.handle_report(Millis(now), &note, &self.ladder);
        if let Some(plan) = plan {
            self.probe = Some((now, plan, 0));
            self.score.probes += 1;
        }
        self.note(now);
    }

    /// When the oldest packet that the client has not acknowledged was sent, without those from before a pause.
    fn oldest_under_way(&self, next: usize) -> Option<u32> {
        let rest = self.sent.get(next..)?;
        let after_pause = rest.windows(2).rev().find(|two| two[1].0 - two[0].0 >= 250);
        after_pause.map(|two| two[1].0).or(rest.first().map(|(at, _)| *at))
    }

    /// Keeps what has changed.
    fn note(&mut self, at: u32) {
        let moment = Moment {
            at,
            layer: self.layer,
            wanted: self.controller.wanted(),
            sending: self.controller.sending(),
            reason: self.controller.reason(),
        };
        let is_new = self
            .score
            .moments
            .last()
            .is_none_or(|last| Moment { at, ..*last } != moment);
        if is_new {
            self.score.moments.push(moment);
        }
    }

    fn finish(mut self) -> Score {
        self.score.finish(self.scene);
        self.score
    }
}

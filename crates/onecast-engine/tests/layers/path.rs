//! Paths: how much a viewer's bottleneck carries at a time, and the bottleneck itself.

use std::collections::VecDeque;

use onecast_testing::Noise;

/// How a path changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// 5, 1, 5, 0.4 and 5 Mbit/s.
    Steps,
    /// A random walk between 0.3 and 6 Mbit/s, each 700 ms.
    Walk,
    /// Nothing for one second of 20.
    Outages,
    /// From 0.5 to 3 Mbit/s and back in 10 s.
    Sawtooth,
    /// Shared with a flow that takes what it gets.
    Shared,
    /// The same throughout.
    Constant,
}

impl Profile {
    pub(crate) const ALL: [Profile; 6] = [
        Profile::Steps,
        Profile::Walk,
        Profile::Outages,
        Profile::Sawtooth,
        Profile::Shared,
        Profile::Constant,
    ];
}

/// What a viewer's path is like.
#[derive(Debug, Clone)]
pub(crate) struct PathPlan {
    /// Bits per second in each `STEP`; the last one stays.
    pub(crate) rates: Vec<u32>,
    /// Packets of 10,000 that are lost at random.
    pub(crate) loss: u32,
    /// When another flow shares it, in milliseconds.
    pub(crate) shared: std::ops::Range<u32>,
}

impl PathPlan {
    /// Milliseconds.
    const STEP: u32 = 50;

    pub(crate) fn generate(profile: Profile, noise: &mut Noise, millis: u32) -> PathPlan {
        let mut plan = PathPlan {
            rates: Vec::new(),
            loss: [0, 0, 50, 200][noise.below(4)],
            shared: 0..0,
        };
        let phase = noise.below(8_000) as u32;
        let constant = between(noise, 0.25, 5.0);
        let wide = between(noise, 1.0, 5.0);
        let mut walk = between(noise, 0.3, 6.0);
        if profile == Profile::Shared {
            plan.shared = (5_000 + phase)..(20_000 + phase);
        }
        for at in (0..millis).step_by(PathPlan::STEP as usize) {
            let megabits = match profile {
                Profile::Steps => [5.0, 1.0, 5.0, 0.4, 5.0][((at + phase) / 10_000) as usize % 5],
                Profile::Walk => {
                    if at % 700 < PathPlan::STEP {
                        walk = (walk * between(noise, 1.0 / 1.6, 1.6)).clamp(0.3, 6.0);
                    }
                    walk
                }
                Profile::Outages if (at + phase) % 20_000 >= 19_000 => 0.0,
                Profile::Outages => wide,
                Profile::Sawtooth => {
                    let place = f64::from((at + phase) % 10_000) / 5_000.0;
                    0.5 + 2.5 * if place < 1.0 { place } else { 2.0 - place }
                }
                Profile::Shared => wide,
                Profile::Constant => constant,
            };
            plan.rates.push((megabits * 1e6) as u32);
        }
        plan
    }

    /// A path of these rates in Mbit/s, each from a time in milliseconds on.
    pub(crate) fn of(parts: &[(u32, f64)], millis: u32) -> PathPlan {
        let rates = (0..millis).step_by(PathPlan::STEP as usize).map(|at| {
            let part = parts.iter().rfind(|(from, _)| *from <= at);
            (part.expect("a path begins at 0").1 * 1e6) as u32
        });
        PathPlan {
            rates: rates.collect(),
            loss: 0,
            shared: 0..0,
        }
    }

    /// Bits per second.
    pub(crate) fn rate(&self, at: u32) -> u32 {
        let step = (at / PathPlan::STEP) as usize;
        self.rates[step.min(self.rates.len() - 1)]
    }

    /// What a viewer can have of it.
    pub(crate) fn fair_rate(&self, at: u32) -> u32 {
        let rate = self.rate(at);
        if self.shared.contains(&at) { rate / 2 } else { rate }
    }
}

/// Between two values, evenly in their logarithm.
fn between(noise: &mut Noise, least: f64, most: f64) -> f64 {
    let share = noise.below(10_001) as f64 / 10_000.0;
    least * (most / least).powf(share)
}

/// A packet on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) bytes: u32,
    pub(crate) cargo: Cargo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cargo {
    /// To the viewer, with a number of its transport, and of its media if it is not padding.
    Viewer { number: u32, media: Option<u32> },
    /// Of another flow.
    Other,
}

/// A queue in front of a narrow link.
#[derive(Debug)]
pub(crate) struct Bottleneck {
    queue: VecDeque<Packet>,
    bytes: u32,
    /// Bits that the link has carried of the first packet.
    carried: u32,
    limit: u32,
    pub(crate) rate: u32,
}

impl Bottleneck {
    /// Milliseconds of a full queue.
    const QUEUE: u32 = 300;
    /// The queue of a link that carries next to nothing still takes a few packets.
    const RATE_MIN: u32 = 300_000;

    pub(crate) fn new() -> Bottleneck {
        Bottleneck {
            queue: VecDeque::new(),
            bytes: 0,
            carried: 0,
            limit: 0,
            rate: 0,
        }
    }

    /// A millisecond passes at this rate.
    pub(crate) fn pass(&mut self, rate: u32) {
        self.rate = rate;
        self.limit = rate.max(Bottleneck::RATE_MIN) / 8 * Bottleneck::QUEUE / 1_000;
        self.carried += rate / 1_000;
    }

    /// A packet that the link has carried by now.
    pub(crate) fn pop(&mut self) -> Option<Packet> {
        let Some(first) = self.queue.front() else {
            self.carried = 0;
            return None;
        };
        self.carried = self.carried.checked_sub(first.bytes * 8)?;
        self.bytes -= first.bytes;
        self.queue.pop_front()
    }

    /// Whether there was room for it.
    pub(crate) fn push(&mut self, packet: Packet) -> bool {
        let has_room = self.bytes + packet.bytes <= self.limit;
        if has_room {
            self.bytes += packet.bytes;
            self.queue.push_back(packet);
        }
        has_room
    }

    /// Milliseconds that a packet waits.
    pub(crate) fn wait(&self) -> u32 {
        self.bytes * 8 / (self.rate / 1_000).max(100)
    }
}

/// A flow that sends more until a packet is dropped.
#[derive(Debug)]
pub(crate) struct OtherFlow {
    rate: u32,
    bits: u32,
    /// Milliseconds until it has noticed a drop.
    deaf: u32,
}

impl OtherFlow {
    pub(crate) fn new() -> OtherFlow {
        OtherFlow {
            rate: 300_000,
            bits: 0,
            deaf: 0,
        }
    }

    /// What it does in a millisecond.
    pub(crate) fn send(&mut self, path: &mut Bottleneck) {
        // One packet per round trip of 200 ms more in each.
        self.rate += 300;
        self.deaf = self.deaf.saturating_sub(1);
        self.bits += self.rate / 1_000;
        if self.bits < 9_600 {
            return;
        }
        self.bits -= 9_600;
        let packet = Packet {
            bytes: 1_200,
            cargo: Cargo::Other,
        };
        if !path.push(packet) && self.deaf == 0 {
            self.rate = (self.rate / 2).max(100_000);
            self.deaf = 200;
        }
    }
}

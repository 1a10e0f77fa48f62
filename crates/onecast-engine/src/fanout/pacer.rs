//! When one subscriber may be sent more than the live packets: what it catches up with, and what it asks for again.
//!
//! Live packets are not held back: what a path does not carry is lost, and given up to the end of the frame. Everything else is extra.
//! The past goes out at a rate of its own ([`PastRate`]), retransmissions within a share of what the subscriber is sent
//! ([`RepairBudget`]). The two meet while a subscriber catches up: what it misses of the past is sent again at once, and takes its time
//! from what follows.
//!
//! A pacer is made with a start or a NACK, and freed when it knows nothing that matters any more.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::Kind;

/// Paces one subscription, over both of its tracks.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    /// While the past is sent, and for as long as that may be asked for again.
    past: Option<PastRate>,
    /// By track, while the subscriber asks for packets again.
    budgets: [Option<RepairBudget>; 2],
}

/// How much a subscriber lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Packets.
    Packets(u32),
    /// A share of what it was sent, 1/256.
    Share(u8),
}

/// How much a packet that is sent again matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// For the first time.
    First,
    /// For the second time.
    Second,
    /// For the third time.
    Third,
    /// A second copy.
    Copy,
}

/// What a viewer was sent of a track, of which its allowance is a share. The first two wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Volume {
    /// Packets, without what was sent again.
    pub(super) packets: u32,
    /// Payload bytes of those.
    pub(super) octets: u32,
    /// Payload bytes of a keyframe.
    pub(super) keyframe: u32,
}

impl Pacer {
    /// A start begins. What an earlier one has shown of the path is kept.
    pub(super) fn begin_past(&mut self, now: Instant) {
        let rate = self.past.as_ref().map(|before| before.again(now));
        self.past = Some(rate.unwrap_or_else(|| PastRate::new(now)));
    }

    /// Nothing of the past can be asked for any more.
    pub(super) fn end_past(&mut self) {
        self.past = None;
    }

    /// When the next packet of the past may be sent; `None` for now.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Instant> {
        self.past.as_mut()?.wait(now)
    }

    /// A packet of the past was sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        if let Some(rate) = &mut self.past {
            rate.spend(bytes);
        }
    }

    /// A subscriber that catches up lost something of the video, of which the stream sends so many bytes a second.
    pub(super) fn note_loss(&mut self, now: Instant, lost: Lost, stream: Option<u32>) {
        let Some(rate) = &mut self.past else { return };
        match lost {
            Lost::Packets(packets) => rate.lose(now, packets, stream),
            Lost::Share(share) => rate.lose_share(now, share, stream),
        }
    }

    /// The subscriber asks for packets of a track for the first time.
    pub(super) fn begin_repairs(&mut self, now: Instant, kind: Kind, volume: Volume) {
        self.budgets[kind as usize] = Some(RepairBudget::new(now, volume));
    }

    /// The subscriber asks for packets of a track, of which it has been sent so much.
    pub(super) fn fill(&mut self, now: Instant, kind: Kind, volume: Volume) {
        if let Some(budget) = &mut self.budgets[kind as usize] {
            budget.fill(now, volume);
        }
    }

    /// Whether a packet may be sent again, which uses up what it takes. What a subscriber that catches up misses for the first time is
    /// sent in any case, at the expense of the past that follows: a start is never faster than its rate.
    pub(super) fn may_repair(&mut self, kind: Kind, bytes: usize, rank: Rank, catches_up: bool) -> bool {
        if catches_up
            && rank == Rank::First
            && let Some(rate) = &mut self.past
        {
            rate.spend(bytes);
            return true;
        }
        let budget = self.budgets[kind as usize].as_mut();
        budget.is_some_and(|budget| budget.take(bytes, rank))
    }

    /// Whether a track's budget is whole: forgetting it gives the subscriber nothing.
    pub(super) fn is_whole(&mut self, now: Instant, kind: Kind, volume: Volume) -> bool {
        let Some(budget) = &mut self.budgets[kind as usize] else {
            return true;
        };
        budget.fill(now, volume);
        budget.is_full()
    }

    /// Nothing of a track is asked for any more.
    pub(super) fn end_repairs(&mut self, kind: Kind) {
        self.budgets[kind as usize] = None;
    }

    /// Whether it knows nothing that a new one would not.
    pub(super) fn is_idle(&self) -> bool {
        self.past.is_none() && self.budgets.iter().all(Option::is_none)
    }
}

/// How fast the past is sent: in slices of two milliseconds, faster while nothing is lost, slower when the subscriber's path loses packets.
#[derive(Debug)]
struct PastRate {
    bytes_per_second: u32,
    /// Bytes that may be sent; below zero what was sent too much.
    credit: i32,
    filled_at: Instant,
    /// What is left of the beginning, which is sent as fast as can be.
    beginning: i32,
    /// When it became faster.
    faster_at: Instant,
    event_at: Option<Instant>,
    /// Packets sent and lost since then.
    sent: u32,
    lost: u32,
}

impl PastRate {
    /// A keyframe of 64 KiB, as most are, is sent at [`PastRate::MOST`]: live ones leave unpaced.
    const BEGINNING: i32 = 65_536;
    /// 10 Mbit/s: what most paths carry.
    const START: u32 = 1_250_000;
    /// 40 Mbit/s: measured, 20 to 50 make no difference to receivers, and slower ones reach the live edge later.
    const MOST: u32 = 5_000_000;
    /// 2 Mbit/s: slower would not catch up with any stream worth watching.
    const LEAST: u32 = 250_000;
    /// Between slices.
    const SLICE: Duration = Duration::from_millis(2);
    /// Without a loss it is twice as fast after this, an eighth faster once there was one: a round trip and a full queue, after which
    /// a loss would have been reported.
    const DOUBLING: Duration = Duration::from_millis(100);
    /// Losses within a round trip are one event; nothing is sent in half of it, so that the path drains and repairs go first.
    const EVENT: Duration = Duration::from_millis(80);

    fn new(now: Instant) -> PastRate {
        PastRate {
            bytes_per_second: PastRate::START,
            credit: PastRate::slice(PastRate::MOST),
            beginning: PastRate::BEGINNING,
            filled_at: now,
            faster_at: now,
            event_at: None,
            sent: 0,
            lost: 0,
        }
    }

    /// When the next packet may be sent; `None` for now.
    fn wait(&mut self, now: Instant) -> Option<Instant> {
        if now >= self.faster_at + PastRate::DOUBLING {
            self.faster_at = now;
            let more = if self.event_at.is_none() {
                self.bytes_per_second
            } else {
                self.bytes_per_second / 8
            };
            self.bytes_per_second = (self.bytes_per_second + more).min(PastRate::MOST);
        }
        let rate = if self.beginning > 0 {
            PastRate::MOST
        } else {
            self.bytes_per_second
        };
        let slice = PastRate::slice(rate);
        let elapsed = now.saturating_duration_since(self.filled_at);
        let gained = elapsed.as_micros() as u64 * u64::from(rate) / 1_000_000;
        if gained > 0 {
            self.credit = (self.credit.saturating_add(gained.min(i32::MAX as u64) as i32)).min(slice);
            self.filled_at = now;
        }
        if self.credit > 0 {
            return None;
        }
        let missing = (slice - self.credit) as u64 * 1_000_000 / u64::from(rate);
        Some(now + Duration::from_micros(missing))
    }

    fn spend(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub(bytes as i32);
        self.sent += 1;
        self.beginning = self.beginning.saturating_sub(bytes as i32);
    }

    /// The viewer lost `lost` packets. A few of many sent are the path's own, and it becomes faster more slowly; a fifth and more means that the
    /// path is full: a quarter as fast, after a pause. Never slower than the stream itself and half as much again, or the viewer would
    /// never be level with it.
    fn lose(&mut self, now: Instant, lost: u32, stream: Option<u32>) {
        self.lost += lost;
        if self.event_at.is_some_and(|at| now < at + PastRate::EVENT) {
            return;
        }
        let full = self.lost >= FEW && 5 * self.lost >= self.sent;
        (self.sent, self.lost) = (0, 0);
        self.beginning = 0;
        self.event_at = Some(now);
        self.faster_at = now + PastRate::DOUBLING;
        let least = stream.map_or(PastRate::LEAST, |stream| stream.saturating_add(stream / 2));
        let least = least.clamp(PastRate::LEAST, PastRate::MOST);
        if full {
            self.bytes_per_second = (self.bytes_per_second / 4).max(least);
            let pause = u64::from(self.bytes_per_second) * PastRate::EVENT.as_millis() as u64 / 2_000;
            self.credit = self.credit.min(0).saturating_sub(pause as i32);
            self.filled_at = now;
        }
    }

    /// As [`lose`](Self::lose), with the loss as a share of what was sent, 1/256.
    fn lose_share(&mut self, now: Instant, share: u8, stream: Option<u32>) {
        self.lose(now, self.sent * u32::from(share) / 256, stream);
    }

    /// What is known of the path, for another start on it.
    fn again(&self, now: Instant) -> PastRate {
        if self.event_at.is_none() {
            return PastRate::new(now);
        }
        PastRate {
            bytes_per_second: self.bytes_per_second,
            event_at: self.event_at,
            beginning: 0,
            ..PastRate::new(now)
        }
    }

    fn slice(bytes_per_second: u32) -> i32 {
        (u64::from(bytes_per_second) * PastRate::SLICE.as_micros() as u64 / 1_000_000) as i32
    }
}

/// Fewer losses say nothing.
const FEW: u32 = 4;

/// Bytes that may be sent again: a bucket that fills with a share of what the viewer is sent, and holds more than a keyframe.
#[derive(Debug)]
struct RepairBudget {
    bytes: u32,
    bytes_max: u32,
    /// What the viewer had been sent when it was filled.
    octets: u32,
    filled_at: Instant,
}

impl RepairBudget {
    /// One byte of five: what 10 % loss takes, twice. More would make a path that is too narrow narrower still.
    const SHARE: u32 = 5;
    /// 32 kbit/s, however little the viewer is sent.
    const PER_SECOND_MIN: u64 = 4_000;
    /// Most keyframes.
    const BURST_MIN: u32 = 65_536;
    /// A keyframe that is larger is not worth repairing packet by packet.
    const BURST_MAX: u32 = 1 << 20;

    const STEP: Duration = Duration::from_millis(1);

    fn new(now: Instant, volume: Volume) -> RepairBudget {
        let bytes_max = RepairBudget::burst(volume);
        RepairBudget {
            bytes: bytes_max,
            bytes_max,
            octets: volume.octets,
            filled_at: now,
        }
    }

    /// A lost keyframe, with headers and what is lost of it once more.
    fn burst(volume: Volume) -> u32 {
        let keyframe = volume.keyframe.saturating_add(volume.keyframe / 2);
        keyframe.clamp(RepairBudget::BURST_MIN, RepairBudget::BURST_MAX)
    }

    fn fill(&mut self, now: Instant, volume: Volume) {
        let bytes_max = RepairBudget::burst(volume);
        let elapsed = now.saturating_duration_since(self.filled_at);
        // In steps in which rounding takes nothing, however often it is asked.
        if elapsed >= RepairBudget::STEP {
            let by_share = volume.octets.wrapping_sub(self.octets) / RepairBudget::SHARE;
            let by_time = elapsed.as_millis() as u64 * RepairBudget::PER_SECOND_MIN / 1_000;
            let gained = by_share.max(by_time.min(u64::from(bytes_max)) as u32);
            self.bytes = self.bytes.saturating_add(gained);
            (self.octets, self.filled_at) = (volume.octets, now);
        }
        self.bytes = self.bytes.min(bytes_max);
        self.bytes_max = bytes_max;
    }

    /// What matters less leaves a part of the bucket to what matters more.
    fn take(&mut self, bytes: usize, rank: Rank) -> bool {
        let reserve = match rank {
            Rank::First => 0,
            Rank::Second => self.bytes_max / 8,
            Rank::Third => self.bytes_max / 4,
            Rank::Copy => self.bytes_max / 4 * 3,
        };
        match self.bytes.checked_sub(bytes as u32) {
            Some(left) if left >= reserve => {
                self.bytes = left;
                true
            }
            _ => false,
        }
    }

    fn is_full(&self) -> bool {
        self.bytes == self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    const VOLUME: Volume = Volume {
        packets: 0,
        octets: 0,
        keyframe: 20_000,
    };

    /// Bytes sent from `from` to `to`, milliseconds after `start`.
    fn sent(pace: &mut PastRate, start: Instant, from: u64, to: u64) -> usize {
        let (mut now, mut sent) = (start + ms(from), 0);
        while now < start + ms(to) {
            match pace.wait(now) {
                Some(at) => now = at,
                None => {
                    pace.spend(1_100);
                    sent += 1_100;
                }
            }
        }
        sent
    }

    #[test]
    fn it_becomes_faster_while_nothing_is_lost() {
        let start = onecast_udp::clock::now();
        let mut pace = PastRate::new(start);
        assert!((65_000..=77_000).contains(&sent(&mut pace, start, 0, 14)));
        assert!((100_000..=115_000).contains(&sent(&mut pace, start, 14, 100)));
        assert!((240_000..=260_000).contains(&sent(&mut pace, start, 100, 200)));
        assert!((4_900_000..=5_100_000).contains(&sent(&mut pace, start, 200, 1_200)));
    }

    #[test]
    fn a_full_path_slows_it_down_but_not_below_the_stream() {
        let start = onecast_udp::clock::now();
        let mut pace = PastRate::new(start);
        sent(&mut pace, start, 0, 300);
        pace.lose(start + ms(300), 200, Some(600_000));
        pace.lose(start + ms(350), 200, Some(600_000));
        assert_eq!(pace.bytes_per_second, 1_250_000);
        assert!(sent(&mut pace, start, 300, 338) == 0, "the path drains");
        assert!(sent(&mut pace, start, 338, 1_338) < 2_200_000, "and it stays slower");
        for event in 20..40 {
            pace.lose(start + ms(100 * event), 300, Some(600_000));
        }
        assert_eq!(pace.bytes_per_second, 900_000);
        for event in 40..60 {
            pace.lose(start + ms(100 * event), 300, None);
        }
        assert_eq!(pace.bytes_per_second, PastRate::LEAST);
    }

    #[test]
    fn a_few_losses_keep_it_from_becoming_faster_at_once() {
        let start = onecast_udp::clock::now();
        let mut pace = PastRate::new(start);
        for time in 0..20 {
            let packets = sent(&mut pace, start, 100 * time, 100 * time + 100) / 1_100;
            pace.lose(start + ms(100 * time + 100), packets as u32 / 20, None);
        }
        assert!((PastRate::START..=2 * PastRate::START).contains(&pace.bytes_per_second));
    }

    #[test]
    fn the_repair_budget_is_a_fifth_of_what_the_subscriber_is_sent() {
        let start = onecast_udp::clock::now();
        for (per_millisecond, expected) in [(125, 250_000), (2_500, 5_000_000), (1, 40_000), (0, 40_000)] {
            let mut volume = Volume {
                octets: u32::MAX - 10_000,
                ..Volume::default()
            };
            let mut budget = RepairBudget::new(start, volume);
            let mut taken = 0;
            for at in 0..10_000u64 {
                budget.fill(start + ms(at), volume);
                while budget.take(500, Rank::First) {
                    taken += 500;
                }
                volume.octets = volume.octets.wrapping_add(per_millisecond);
            }
            let burst = RepairBudget::BURST_MIN as usize;
            assert!(
                (expected..=expected + burst).contains(&taken),
                "{per_millisecond}: {taken}"
            );
        }
    }

    #[test]
    fn the_burst_covers_a_lost_keyframe_and_is_bounded() {
        let start = onecast_udp::clock::now();
        for (keyframe, burst) in [(0, 65_536), (200_000, 300_000), (u32::MAX, 1 << 20)] {
            let budget = RepairBudget::new(start, Volume { keyframe, ..VOLUME });
            assert_eq!(budget.bytes, burst);
        }
        let mut budget = RepairBudget::new(start, VOLUME);
        let larger = Volume {
            keyframe: 200_000,
            ..VOLUME
        };
        budget.fill(start + ms(3_600_000), larger);
        assert_eq!(budget.bytes, 300_000);
        budget.fill(start + ms(3_600_000), VOLUME);
        assert_eq!(budget.bytes, 65_536);
    }

    #[test]
    fn what_matters_less_leaves_a_reserve() {
        let start = onecast_udp::clock::now();
        let mut pacer = Pacer::default();
        pacer.begin_repairs(start, Kind::Video, VOLUME);
        let mut sent = |rank, times: usize| {
            let may_send = |_: &usize| pacer.may_repair(Kind::Video, 1_000, rank, false);
            (0..times).take_while(may_send).count()
        };
        assert_eq!(sent(Rank::First, 30), 30);
        assert_eq!(sent(Rank::Second, 30), 27, "an eighth is left alone");
        assert_eq!(sent(Rank::Third, 20), 0, "by third times a quarter");
        assert_eq!(sent(Rank::First, 100), 8, "for what is new");
    }

    #[test]
    fn first_repairs_of_a_start_take_their_time_from_the_past() {
        let start = onecast_udp::clock::now();
        let mut pacer = Pacer::default();
        pacer.begin_past(start);
        assert_eq!(pacer.wait(start), None);
        assert!(!pacer.may_repair(Kind::Video, 1_000, Rank::Second, true), "no budget");
        while pacer.wait(start).is_none() {
            assert!(pacer.may_repair(Kind::Video, 1_000, Rank::First, true));
        }
        assert!(pacer.wait(start).is_some_and(|at| at > start));
    }

    #[test]
    fn it_is_idle_when_the_past_and_all_repairs_have_ended() {
        let start = onecast_udp::clock::now();
        let mut pacer = Pacer::default();
        pacer.begin_past(start);
        pacer.begin_repairs(start, Kind::Video, VOLUME);
        (0..60).for_each(|_| assert!(pacer.may_repair(Kind::Video, 1_000, Rank::First, false)));
        assert!(
            !pacer.is_whole(start + ms(5_000), Kind::Video, VOLUME),
            "it would have a new one"
        );
        assert!(pacer.is_whole(start + ms(15_100), Kind::Video, VOLUME));
        pacer.end_repairs(Kind::Video);
        assert!(!pacer.is_idle());
        pacer.end_past();
        assert!(pacer.is_idle());
    }
}

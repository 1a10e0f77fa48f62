//! A viewer on its way from the newest keyframe to the live edge: what it has been sent of the past, under which timestamps, and how
//! fast.
//!
//! Frames of the past are stamped with the live RTP clock at the moment at which they are sent. To the receiver they then arrive
//! exactly when their timestamps say, which leaves its jitter buffer as it is for everybody (docs/PERFORMANCE.md compares).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::stamps::{Stamps, Wish};
use crate::media::Packet;
use crate::media::continuity::REORDER_MAX;
use crate::media::window::StartPoint;

/// The way of one viewer to the live edge. It stays until nothing of it can be asked for again.
#[derive(Debug)]
pub struct CatchUp {
    /// The packet to be sent next.
    pub(super) cursor: u64,
    stamps: Stamps,
    /// Parameter sets, sent in front of the first packet.
    parameter_sets: Option<Arc<Packet>>,
    pace: Pace,
    /// When the live edge was reached.
    pub(super) level_at: Option<Instant>,
    stamping: Stamping,
    frames_ahead: u32,
    first_stamp: Option<u32>,
    /// Timestamp on the track of the frame that is being sent.
    current: Option<u32>,
}

/// How frames of the past are stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stamping {
    /// With the live clock at the moment of sending.
    #[default]
    Live,
    /// With their own timestamps. To compare with.
    Original,
    /// A millisecond apart, up to the newest. To compare with.
    Squeezed,
}

/// The RTP clock of the track: timestamp and arrival of the frame that is shown last of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveClock {
    /// The newest timestamp.
    pub timestamp: u32,
    /// When it arrived.
    pub at: Instant,
}

impl LiveClock {
    /// The timestamp of `now`; video's clock runs at 90 kHz.
    fn at(&self, now: Instant) -> u32 {
        let ticks = now.saturating_duration_since(self.at).as_micros() * 9 / 100;
        self.timestamp.wrapping_add(ticks as u32)
    }
}

impl CatchUp {
    /// How long stamps are kept after the live edge was reached: no receiver asks for older packets.
    pub(super) const KEPT: Duration = Duration::from_secs(5);

    pub(super) fn new(point: StartPoint, pace: Pace, stamping: Stamping) -> CatchUp {
        let StartPoint {
            index,
            parameter_sets,
            frames,
        } = point;
        CatchUp {
            cursor: index,
            stamps: Stamps::new(),
            parameter_sets,
            pace,
            level_at: None,
            stamping,
            frames_ahead: frames,
            first_stamp: None,
            current: None,
        }
    }

    /// The viewer's timestamp for the packet at the cursor. `highest` is the highest timestamp that the viewer has been sent.
    ///
    /// From the frame that is the newest of all, timestamps are the track's own, unless the viewer was sent a later one already.
    pub(super) fn stamp_next(&mut self, now: Instant, packet: &Packet, live: LiveClock, highest: Option<u32>) -> u32 {
        let (stamping, frames_ahead) = (self.stamping, self.frames_ahead);
        let stamp = self.stamps.stamp(packet, |sent| {
            let step_back = highest.map_or(0, |highest| highest.wrapping_sub(live.at(now)).cast_signed());
            Wish {
                stamp: match stamping {
                    Stamping::Live => live.at(now),
                    Stamping::Original => packet.timestamp,
                    Stamping::Squeezed => {
                        let behind = frames_ahead.saturating_sub(sent as u32);
                        live.timestamp.wrapping_sub(behind.wrapping_mul(90))
                    }
                },
                is_newest: packet.timestamp == live.timestamp,
                highest,
                other_clock: step_back > REORDER_MAX,
            }
        });
        self.current = Some(packet.timestamp);
        self.first_stamp.get_or_insert(stamp);
        stamp
    }

    /// The viewer's timestamp for a packet that came when the track's own timestamps had begun.
    pub(super) fn stamp_late(&mut self, packet: &Packet) -> u32 {
        self.stamps.late(packet)
    }

    /// The viewer's timestamp for a packet behind the cursor; `None` for one of a frame that was passed over.
    pub(super) fn stamp_of(&self, packet: &Packet) -> Option<u32> {
        self.stamps.find(packet)
    }

    /// The first packet under the track's own timestamp, when those have begun.
    pub(super) fn own_since(&self) -> Option<u64> {
        self.stamps.own_since()
    }

    /// The first number from which on every packet has its own timestamp.
    pub(super) fn all_own_from(&self) -> u64 {
        let stamped = self.stamps.stamped().map_or(0, |index| index + 1);
        self.stamps.own_since().unwrap_or(u64::MAX).max(stamped)
    }

    /// The packet begins another frame than the one before.
    pub(super) fn begins_frame(&self, packet: &Packet) -> bool {
        self.current != Some(packet.timestamp)
    }

    /// Parameter sets in front of the first packet.
    pub(super) fn parameter_sets(&self) -> Option<&Arc<Packet>> {
        self.parameter_sets.as_ref()
    }

    /// The live edge is reached; what is only needed on the way is freed.
    pub(super) fn arrive(&mut self, now: Instant) {
        self.level_at = Some(now);
        self.stamps.shrink();
    }

    /// The timestamp of the first frame; `None` before it was sent.
    pub(super) fn first_stamp(&self) -> Option<u32> {
        self.first_stamp
    }

    /// How fast it goes.
    pub(super) fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }
}

/// How fast the past is sent: in slices of two milliseconds, faster while nothing is lost, slower when the viewer's path loses packets.
#[derive(Debug)]
pub struct Pace {
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

impl Pace {
    /// A keyframe of 64 KiB, as most are, is sent at [`Pace::MOST`]: live ones leave unpaced.
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
    /// a loss would have been told.
    const DOUBLING: Duration = Duration::from_millis(100);
    /// Losses within a round trip are one event; nothing is sent in half of it, so that the path drains and repairs go first.
    const EVENT: Duration = Duration::from_millis(80);

    pub(super) fn new(now: Instant) -> Pace {
        Pace {
            bytes_per_second: Pace::START,
            credit: Pace::slice(Pace::MOST),
            beginning: Pace::BEGINNING,
            filled_at: now,
            faster_at: now,
            event_at: None,
            sent: 0,
            lost: 0,
        }
    }

    /// When the next packet may be sent; `None` for now.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Instant> {
        if now >= self.faster_at + Pace::DOUBLING {
            self.faster_at = now;
            let more = if self.event_at.is_none() {
                self.bytes_per_second
            } else {
                self.bytes_per_second / 8
            };
            self.bytes_per_second = (self.bytes_per_second + more).min(Pace::MOST);
        }
        let rate = if self.beginning > 0 {
            Pace::MOST
        } else {
            self.bytes_per_second
        };
        let slice = Pace::slice(rate);
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

    pub(super) fn spend(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub(bytes as i32);
        self.sent += 1;
        self.beginning = self.beginning.saturating_sub(bytes as i32);
    }

    /// The viewer lost `lost` packets. A few of many sent are the path's own, and it becomes faster more slowly; a fifth and more means that the
    /// path is full: a quarter as fast, after a pause. Never slower than the stream itself and half as much again, or the viewer would
    /// never be level with it.
    pub(super) fn lose(&mut self, now: Instant, lost: u32, stream: Option<u32>) {
        self.lost += lost;
        if self.event_at.is_some_and(|at| now < at + Pace::EVENT) {
            return;
        }
        let full = self.lost >= FEW && 5 * self.lost >= self.sent;
        (self.sent, self.lost) = (0, 0);
        self.beginning = 0;
        self.event_at = Some(now);
        self.faster_at = now + Pace::DOUBLING;
        let least = stream.map_or(Pace::LEAST, |stream| stream.saturating_add(stream / 2));
        let least = least.clamp(Pace::LEAST, Pace::MOST);
        if full {
            self.bytes_per_second = (self.bytes_per_second / 4).max(least);
            let pause = u64::from(self.bytes_per_second) * Pace::EVENT.as_millis() as u64 / 2_000;
            self.credit = self.credit.min(0).saturating_sub(pause as i32);
            self.filled_at = now;
        }
    }

    /// As [`lose`](Self::lose), told as a share of what was sent, 1/256.
    pub(super) fn lose_share(&mut self, now: Instant, share: u8, stream: Option<u32>) {
        self.lose(now, self.sent * u32::from(share) / 256, stream);
    }

    /// What is known of the path, for another start on it.
    pub(super) fn again(&self, now: Instant) -> Pace {
        if self.event_at.is_none() {
            return Pace::new(now);
        }
        Pace {
            bytes_per_second: self.bytes_per_second,
            event_at: self.event_at,
            beginning: 0,
            ..Pace::new(now)
        }
    }

    fn slice(bytes_per_second: u32) -> i32 {
        (u64::from(bytes_per_second) * Pace::SLICE.as_micros() as u64 / 1_000_000) as i32
    }
}

/// Fewer losses say nothing.
const FEW: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn way(now: Instant, frames: u32) -> CatchUp {
        let point = StartPoint {
            index: 10,
            parameter_sets: None,
            frames,
        };
        CatchUp::new(point, Pace::new(now), Stamping::Live)
    }

    fn frame(index: u64, timestamp: u32) -> Arc<Packet> {
        packet(index).timestamp(timestamp).build()
    }

    #[test]
    fn frames_of_the_past_carry_the_live_clock_and_the_newest_its_own() {
        let start = onecast_udp::clock::now();
        let live = LiveClock {
            timestamp: 900_000,
            at: start,
        };
        let mut way = way(start, 3);
        assert_eq!(way.stamp_next(start, &frame(10, 3_000), live, None), 900_000);
        let last = Some(900_000);
        assert_eq!(way.stamp_next(start + ms(1), &frame(11, 3_000), live, last), 900_000);
        assert_eq!(way.stamp_next(start + ms(2), &frame(12, 6_000), live, last), 900_180);
        let last = Some(900_180);
        assert_eq!(
            way.stamp_next(start + ms(2), &frame(13, 9_000), live, last),
            900_191,
            "strictly increasing, with room for what is shown between"
        );
        // The newest frame, but the viewer was sent a later timestamp already.
        assert_eq!(
            way.stamp_next(start + ms(3), &frame(14, 900_000), live, Some(900_191)),
            900_447
        );
        assert_eq!(way.own_since(), None);
        let live = LiveClock {
            timestamp: 903_000,
            at: start + ms(33),
        };
        assert_eq!(
            way.stamp_next(start + ms(33), &frame(15, 903_000), live, Some(900_447)),
            903_000
        );
        assert_eq!((way.own_since(), way.all_own_from()), (Some(15), 15));
        assert_eq!(way.stamp_of(&frame(11, 3_000)), Some(900_000));
        assert_eq!(way.stamp_of(&frame(13, 9_000)), Some(900_191));
        assert_eq!(way.stamp_of(&frame(16, 906_000)), Some(906_000));
        assert_eq!(way.stamp_of(&frame(12, 4_500)), None, "a frame that was passed over");
        assert_eq!(way.stamp_of(&frame(9, 0)), None);
    }

    #[test]
    fn another_timeline_is_followed_at_once() {
        let start = onecast_udp::clock::now();
        let mut way = way(start, 2);
        let live = LiveClock {
            timestamp: 5_000,
            at: start,
        };
        assert_eq!(
            way.stamp_next(start, &frame(10, 5_000), live, Some(2_000_000_000)),
            5_000
        );
    }

    /// Bytes sent from `from` to `to`, milliseconds after `start`.
    fn sent(pace: &mut Pace, start: Instant, from: u64, to: u64) -> usize {
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
        let mut pace = Pace::new(start);
        assert!((65_000..=77_000).contains(&sent(&mut pace, start, 0, 14)));
        assert!((100_000..=115_000).contains(&sent(&mut pace, start, 14, 100)));
        assert!((240_000..=260_000).contains(&sent(&mut pace, start, 100, 200)));
        assert!((4_900_000..=5_100_000).contains(&sent(&mut pace, start, 200, 1_200)));
    }

    #[test]
    fn a_full_path_slows_it_down_but_not_below_the_stream() {
        let start = onecast_udp::clock::now();
        let mut pace = Pace::new(start);
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
        assert_eq!(pace.bytes_per_second, Pace::LEAST);
    }

    #[test]
    fn a_few_losses_keep_it_from_becoming_faster_at_once() {
        let start = onecast_udp::clock::now();
        let mut pace = Pace::new(start);
        for time in 0..20 {
            let packets = sent(&mut pace, start, 100 * time, 100 * time + 100) / 1_100;
            pace.lose(start + ms(100 * time + 100), packets as u32 / 20, None);
        }
        assert!((Pace::START..=2 * Pace::START).contains(&pace.bytes_per_second));
    }
}

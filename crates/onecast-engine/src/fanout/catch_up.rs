//! A viewer on its way from the newest keyframe to the live edge: what it is sent of the past, and under which timestamps. How fast it
//! goes is decided by the subscriber's pacer.
//!
//! Frames of the past are stamped with the live RTP clock at the moment at which they are sent. To the receiver they then arrive
//! exactly when their timestamps say, so its jitter buffer stays as small as that of other viewers (docs/PERFORMANCE.md compares).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::stamps::{StampTarget, Stamps};
use crate::media::Packet;
use crate::media::continuity::REORDER_MAX;
use crate::media::window::StartPoint;
use onecast_rtc::rtp::RtpTime;

/// The way of one viewer to the live edge. It stays until nothing of it can be asked for again.
#[derive(Debug)]
pub struct CatchUp {
    /// The packet to be sent next.
    pub(super) cursor: u64,
    stamps: Stamps,
    /// Parameter sets, sent in front of the first packet.
    parameter_sets: Option<Arc<Packet>>,
    /// When the live edge was reached.
    pub(super) level_at: Option<Instant>,
    stamping: Stamping,
    frames_ahead: u32,
    first_stamp: Option<RtpTime>,
    /// Timestamp on the track of the frame that is being sent.
    current: Option<RtpTime>,
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
    pub timestamp: RtpTime,
    /// When it arrived.
    pub at: Instant,
}

impl LiveClock {
    /// The timestamp of `now`; video's clock runs at 90 kHz.
    fn at(&self, now: Instant) -> RtpTime {
        let ticks = now.saturating_duration_since(self.at).as_micros() * 9 / 100;
        self.timestamp.plus(ticks as u32)
    }
}

impl CatchUp {
    /// How long stamps are kept after the live edge was reached: no receiver asks for older packets.
    pub(super) const KEPT: Duration = Duration::from_secs(5);

    pub(super) fn new(point: StartPoint, stamping: Stamping) -> CatchUp {
        let StartPoint {
            index,
            parameter_sets,
            frames,
        } = point;
        CatchUp {
            cursor: index,
            stamps: Stamps::new(),
            parameter_sets,
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
    pub(super) fn stamp_next(
        &mut self,
        now: Instant,
        packet: &Packet,
        live: LiveClock,
        highest: Option<RtpTime>,
    ) -> RtpTime {
        let (stamping, frames_ahead) = (self.stamping, self.frames_ahead);
        let stamp = self.stamps.stamp(packet, |sent| {
            let step_back = highest.map_or(0, |highest| highest.since(live.at(now)));
            StampTarget {
                stamp: match stamping {
                    Stamping::Live => live.at(now),
                    Stamping::Original => packet.timestamp,
                    Stamping::Squeezed => {
                        let behind = frames_ahead.saturating_sub(sent as u32);
                        live.timestamp.minus(behind.wrapping_mul(90))
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
    pub(super) fn stamp_late(&mut self, packet: &Packet) -> RtpTime {
        self.stamps.late(packet)
    }

    /// The viewer's timestamp for a packet behind the cursor; `None` for one of a frame that was passed over.
    pub(super) fn stamp_of(&self, packet: &Packet) -> Option<RtpTime> {
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
    pub(super) fn first_stamp(&self) -> Option<RtpTime> {
        self.first_stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn way(frames: u32) -> CatchUp {
        let point = StartPoint {
            index: 10,
            parameter_sets: None,
            frames,
        };
        CatchUp::new(point, Stamping::Live)
    }

    fn frame(index: u64, timestamp: RtpTime) -> Arc<Packet> {
        packet(index).timestamp(timestamp).build()
    }

    #[test]
    fn frames_of_the_past_carry_the_live_clock_and_the_newest_its_own() {
        let start = onecast_udp::clock::now();
        let live = LiveClock {
            timestamp: RtpTime(900_000),
            at: start,
        };
        let mut way = way(3);
        assert_eq!(
            way.stamp_next(start, &frame(10, RtpTime(3_000)), live, None),
            RtpTime(900_000)
        );
        let last = Some(RtpTime(900_000));
        assert_eq!(
            way.stamp_next(start + ms(1), &frame(11, RtpTime(3_000)), live, last),
            RtpTime(900_000)
        );
        assert_eq!(
            way.stamp_next(start + ms(2), &frame(12, RtpTime(6_000)), live, last),
            RtpTime(900_180)
        );
        let last = Some(RtpTime(900_180));
        assert_eq!(
            way.stamp_next(start + ms(2), &frame(13, RtpTime(9_000)), live, last),
            RtpTime(900_191),
            "strictly increasing, with room for what is shown between"
        );
        // The newest frame, but the viewer was sent a later timestamp already.
        assert_eq!(
            way.stamp_next(
                start + ms(3),
                &frame(14, RtpTime(900_000)),
                live,
                Some(RtpTime(900_191))
            ),
            RtpTime(900_447)
        );
        assert_eq!(way.own_since(), None);
        let live = LiveClock {
            timestamp: RtpTime(903_000),
            at: start + ms(33),
        };
        assert_eq!(
            way.stamp_next(
                start + ms(33),
                &frame(15, RtpTime(903_000)),
                live,
                Some(RtpTime(900_447))
            ),
            RtpTime(903_000)
        );
        assert_eq!((way.own_since(), way.all_own_from()), (Some(15), 15));
        assert_eq!(way.stamp_of(&frame(11, RtpTime(3_000))), Some(RtpTime(900_000)));
        assert_eq!(way.stamp_of(&frame(13, RtpTime(9_000))), Some(RtpTime(900_191)));
        assert_eq!(way.stamp_of(&frame(16, RtpTime(906_000))), Some(RtpTime(906_000)));
        assert_eq!(
            way.stamp_of(&frame(12, RtpTime(4_500))),
            None,
            "a frame that was passed over"
        );
        assert_eq!(way.stamp_of(&frame(9, RtpTime(0))), None);
    }

    #[test]
    fn another_timeline_is_followed_at_once() {
        let start = onecast_udp::clock::now();
        let mut way = way(2);
        let live = LiveClock {
            timestamp: RtpTime(5_000),
            at: start,
        };
        assert_eq!(
            way.stamp_next(start, &frame(10, RtpTime(5_000)), live, Some(RtpTime(2_000_000_000))),
            RtpTime(5_000)
        );
    }
}

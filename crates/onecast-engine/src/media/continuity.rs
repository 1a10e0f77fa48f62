//! The track's own numbering and timeline, which continue when the SSRC behind it changes.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::{RtpTime, SeqIndex};

use super::layers::LayerIndex;

/// Where each layer of a track stands, by [`LayerIndex`]. The timeline is the same in all of them.
pub type LayerContinuity = [Continuity; LayerIndex::COUNT];

/// Where a track's numbering and timeline stand: a value that one publisher's ingest hands to the next one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuity {
    /// The index of the next packet: one above the highest so far.
    pub next_index: u64,
    /// The newest timestamp so far, on the track's timeline.
    pub last_timestamp: RtpTime,
    /// When that timestamp arrived; `None` before the first packet.
    pub last_at: Option<Instant>,
}

/// From the numbers of one SSRC to those of the track: offsets that stay constant from its first packet on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    index_offset: u64,
    timestamp_offset: u32,
}

impl Continuity {
    /// The start of a new track. Index and timestamp come from `random`, as RFC 3550 section 5.1 wants them hard to guess. The index
    /// is at least 65,536, so that subtracting a 16-bit distance never underflows. Its low 16 bits are in the lower half, so that the
    /// first wrap comes well after any receiver has started.
    pub const fn starting(random: u64) -> Continuity {
        Continuity {
            next_index: 65_536 + (random & 0x7fff),
            last_timestamp: RtpTime((random >> 32) as u32),
            last_at: None,
        }
    }

    /// Appends an SSRC whose first packet has these numbers: without a gap in the numbering, and as much later on the timeline as time
    /// has passed, but at least one tick.
    pub(crate) fn append(&self, extended: SeqIndex, timestamp: RtpTime, now: Instant, clock_rate: u32) -> Mapping {
        let start = match self.last_at {
            Some(last_at) => {
                let elapsed = now.saturating_duration_since(last_at).min(ELAPSED_MAX);
                let ticks = elapsed.as_micros() * u128::from(clock_rate) / 1_000_000;
                self.last_timestamp.plus((ticks as u32).max(1))
            }
            None => self.last_timestamp,
        };
        Mapping {
            index_offset: self.next_index.wrapping_sub(extended.0),
            timestamp_offset: start.ticks_since(timestamp),
        }
    }

    /// Notes a packet of the track.
    pub(crate) fn advance(&mut self, index: u64, timestamp: RtpTime, now: Instant) {
        self.next_index = self.next_index.max(index + 1);
        let newer = timestamp.is_after(self.last_timestamp);
        if newer || self.last_at.is_none() {
            self.last_timestamp = timestamp;
            self.last_at = Some(now);
        }
    }
}

impl Mapping {
    /// The offset of its timestamps.
    pub(crate) const fn timestamp_offset(&self) -> u32 {
        self.timestamp_offset
    }

    /// With another offset of timestamps.
    pub(crate) const fn with_timestamp_offset(self, timestamp_offset: u32) -> Mapping {
        Mapping {
            timestamp_offset,
            ..self
        }
    }

    pub(crate) const fn index(&self, extended: SeqIndex) -> u64 {
        extended.0.wrapping_add(self.index_offset)
    }

    pub(crate) const fn timestamp(&self, timestamp: RtpTime) -> RtpTime {
        timestamp.plus(self.timestamp_offset)
    }
}

/// Ticks by which a frame may be shown before another that was sent earlier (B-frames); a longer step back is another clock. Codecs
/// allow 16 frames: one second at 16 frames/s.
pub const REORDER_MAX: i32 = 90_000;

/// A longer pause counts as this much on the timeline: receivers take a step of more than 2^31 ticks (6.6 h of video) for one back.
const ELAPSED_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_track_starts_at_the_given_random_place() {
        let start = Continuity::starting(0x0102_0304_0000_ffff);
        assert_eq!(
            (start.next_index, start.last_timestamp),
            (65_536 + 0x7fff, RtpTime(0x0102_0304))
        );
        let mapping = start.append(SeqIndex(70_000), RtpTime(5), onecast_udp::clock::now(), 90_000);
        assert_eq!(
            (mapping.index(SeqIndex(70_000)), mapping.timestamp(RtpTime(5))),
            (start.next_index, RtpTime(0x0102_0304))
        );
    }

    #[test]
    fn a_replacement_continues_without_a_gap_and_after_the_pause() {
        let t0 = onecast_udp::clock::now();
        let mut track = Continuity::starting(7);
        track.advance(65_543, RtpTime(1_000), t0);
        let mapping = track.append(SeqIndex(99_999), RtpTime(77), t0 + Duration::from_secs(2), 90_000);
        assert_eq!(
            (mapping.index(SeqIndex(99_999)), mapping.timestamp(RtpTime(77))),
            (65_544, RtpTime(181_000))
        );
        assert_eq!(
            (mapping.index(SeqIndex(100_001)), mapping.timestamp(RtpTime(78))),
            (65_546, RtpTime(181_001))
        );
        assert_eq!(
            track.append(SeqIndex(9), RtpTime(9), t0, 90_000).timestamp(RtpTime(9)),
            RtpTime(1_001)
        );
    }

    #[test]
    fn a_very_long_pause_does_not_look_like_a_step_back() {
        let t0 = onecast_udp::clock::now();
        let mut track = Continuity::starting(7);
        track.advance(65_543, RtpTime(0), t0);
        let mapping = track.append(SeqIndex(1), RtpTime(0), t0 + Duration::from_secs(9 * 3600), 90_000);
        assert!(mapping.timestamp(RtpTime(0)).0 < 1 << 31);
    }
}

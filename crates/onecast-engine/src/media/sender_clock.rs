//! A publisher's wall clock, from its sender reports.

use std::time::Instant;

use onecast_rtc::rtp::RtpTime;

/// One reading: an NTP time and an RTP timestamp of the same moment (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderClock {
    /// 64-bit NTP time: seconds since 1900, 32 bits of fraction.
    pub ntp: u64,
    /// Timestamp on the track's timeline.
    pub rtp: RtpTime,
    /// When the report arrived.
    pub received_at: Instant,
}

impl SenderClock {
    /// The reading extrapolated to `now`: NTP time and RTP timestamp.
    pub fn at(&self, now: Instant, clock_rate: u32) -> (u64, RtpTime) {
        let elapsed = now.saturating_duration_since(self.received_at);
        let ntp = (elapsed.as_secs() << 32) + ((u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000);
        let ticks = elapsed.as_nanos() * u128::from(clock_rate) / 1_000_000_000;
        (self.ntp.wrapping_add(ntp), self.rtp.plus(ticks as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_reading_is_extrapolated_in_both_units() {
        let at = onecast_udp::clock::now();
        let clock = SenderClock {
            ntp: 5 << 32,
            rtp: RtpTime(u32::MAX),
            received_at: at,
        };
        let (ntp, rtp) = clock.at(at + Duration::from_millis(1_500), 90_000);
        assert_eq!((ntp, rtp), ((6 << 32) + (1 << 31), RtpTime(134_999)));
    }
}

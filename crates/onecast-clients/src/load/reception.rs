//! Reception statistics of one SSRC for report blocks (RFC 3550 sections 6.4.1 and A.8). Without sockets or clock; times are since 1970.

use std::time::Duration;

use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::rtcp::ReceptionBlock;
use onecast_rtc::rtp::seq::SequenceExtender;
use onecast_rtc::rtp::{RtpTime, Ssrc};

/// What was received of one SSRC.
#[derive(Debug)]
pub(super) struct Reception {
    ssrc: Ssrc,
    clock_rate: u32,
    numbers: SequenceExtender,
    /// Extended number of the first packet.
    first: u64,
    received: u64,
    /// Packets expected and received at the last report.
    reported: (u64, u64),
    /// RTP timestamp and arrival of the last packet.
    last: Option<(RtpTime, Duration)>,
    /// Ticks.
    jitter: f64,
    /// Middle 32 bits of the NTP time of the last sender report, and its arrival.
    sender_report: Option<(u32, Duration)>,
}

impl Reception {
    /// Of a source that has sent nothing yet.
    pub(super) fn new(ssrc: Ssrc, clock_rate: u32) -> Reception {
        Reception {
            ssrc,
            clock_rate,
            numbers: SequenceExtender::new(),
            first: 0,
            received: 0,
            reported: (0, 0),
            last: None,
            jitter: 0.0,
            sender_report: None,
        }
    }

    /// The source.
    pub(super) fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// Counts a packet that arrived at `arrived`.
    pub(super) fn handle_packet(&mut self, arrived: Duration, header: &RtpHeader) {
        let index = self.numbers.extend(header.sequence).0;
        if self.received == 0 {
            self.first = index;
        }
        self.received += 1;
        let before = self.last.replace((header.timestamp, arrived));
        // As in browsers, packets of one frame do not count.
        if let Some((timestamp, at)) = before.filter(|(timestamp, _)| *timestamp != header.timestamp) {
            let between = arrived.saturating_sub(at).as_secs_f64() * f64::from(self.clock_rate);
            let deviation = (between - f64::from(header.timestamp.since(timestamp))).abs();
            // A jump of the timestamps is none of the network.
            if deviation < f64::from(self.clock_rate) * JUMP_SECONDS {
                self.jitter += (deviation - self.jitter) / 16.0;
            }
        }
    }

    /// Remembers a sender report, for the round-trip time.
    pub(super) fn handle_sender_report(&mut self, arrived: Duration, ntp: u64) {
        self.sender_report = Some(((ntp >> 16) as u32, arrived));
    }

    /// The report block about the packets so far; `None` before the first.
    pub(super) fn report(&mut self, now: Duration) -> Option<ReceptionBlock> {
        let highest = self.numbers.highest()?.0;
        let expected = highest + 1 - self.first;
        let expected_since = expected - self.reported.0;
        let received_since = self.received - self.reported.1;
        self.reported = (expected, self.received);
        let lost_since = expected_since.saturating_sub(received_since);
        let (last_sr, delay) = match self.sender_report {
            Some((last_sr, at)) => (last_sr, now.saturating_sub(at).as_secs_f64() * 65_536.0),
            None => (0, 0.0),
        };
        Some(ReceptionBlock {
            about: self.ssrc,
            fraction_lost: (lost_since * 256).checked_div(expected_since).unwrap_or(0).min(255) as u8,
            lost: (expected.cast_signed() - self.received.cast_signed()) as i32,
            // The extender counts the first cycle as 1.
            highest: (highest as u32).wrapping_sub(1 << 16),
            jitter: self.jitter as u32,
            last_sr,
            delay: delay as u32,
        })
    }
}

/// Longer than any network delays a packet.
const JUMP_SECONDS: f64 = 5.0;

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::rtp::Pt;

    fn packet(sequence: u16, timestamp: u32) -> RtpHeader {
        RtpHeader {
            marker: false,
            padding: false,
            payload_type: Pt(96),
            sequence,
            timestamp: RtpTime(timestamp),
            ssrc: Ssrc(7),
            extension_profile: 0,
            extension: (0, 0),
            len: 12,
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_report_has_the_losses_since_the_last_one_and_in_all() {
        let mut reception = Reception::new(Ssrc(7), 90_000);
        assert_eq!(reception.report(ms(0)), None);
        for sequence in [65_533, 65_534, 65_535, 1] {
            reception.handle_packet(ms(1), &packet(sequence, 0));
        }
        let block = reception.report(ms(2)).unwrap();
        assert_eq!((block.about, block.highest, block.lost), (Ssrc(7), 1 << 16 | 1, 1));
        assert_eq!(block.fraction_lost, 51);
        for sequence in 2..=5 {
            reception.handle_packet(ms(3), &packet(sequence, 0));
        }
        let block = reception.report(ms(4)).unwrap();
        assert_eq!((block.fraction_lost, block.lost, block.highest), (0, 1, 1 << 16 | 5));
        assert_eq!(reception.report(ms(5)).unwrap().fraction_lost, 0);
    }

    #[test]
    fn duplicates_and_late_packets_make_no_negative_fraction() {
        let mut reception = Reception::new(Ssrc(7), 90_000);
        for sequence in [1, 2, 2, 2] {
            reception.handle_packet(ms(1), &packet(sequence, 0));
        }
        let block = reception.report(ms(2)).unwrap();
        assert_eq!((block.fraction_lost, block.lost, block.highest), (0, -2, 2));
    }

    #[test]
    fn a_report_tells_how_long_ago_the_senders_was() {
        let mut reception = Reception::new(Ssrc(7), 90_000);
        reception.handle_packet(ms(1), &packet(1, 0));
        assert_eq!(
            reception.report(ms(2)).map(|block| (block.last_sr, block.delay)),
            Some((0, 0))
        );
        reception.handle_sender_report(ms(1_000), 0x1122_3344_5566_7788);
        let block = reception.report(ms(1_500)).unwrap();
        assert_eq!((block.last_sr, block.delay), (0x3344_5566, 32_768));
    }

    #[test]
    fn jitter_is_the_smoothed_deviation_from_the_senders_pace() {
        let mut reception = Reception::new(Ssrc(7), 90_000);
        for number in 0..100_u16 {
            // Every second frame is 10 ms late: 900 ticks more or less than the 3,000 between two frames.
            let late = u64::from(number % 2) * 10;
            let arrived = Duration::from_micros(u64::from(number) * 33_333) + ms(1_000 + late);
            reception.handle_packet(arrived, &packet(number, u32::from(number) * 3_000));
        }
        let jitter = reception.report(ms(9_999)).unwrap().jitter;
        assert!((880..=900).contains(&jitter), "{jitter}");
        reception.handle_packet(ms(10_000), &packet(100, 3_000_000_000));
        assert!(reception.report(ms(10_000)).unwrap().jitter <= 900);
    }
}

//! The round trip to a viewer, by what its reports say of our sender reports (RFC 3550 section 6.4.1).

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use onecast_rtc::rtp::Kind;

/// What is known of the round trip.
#[derive(Debug)]
pub(super) struct RoundTrip {
    /// Middle 32 bits of the NTP times of the last sender reports, of audio and of video.
    reported: [u32; 2],
    /// Smoothed; `None` before the first report that shows it.
    millis: Option<NonZeroU16>,
    /// It is not longer than this.
    millis_max: u16,
}

impl Default for RoundTrip {
    fn default() -> RoundTrip {
        RoundTrip {
            reported: [0; 2],
            millis: None,
            millis_max: u16::MAX,
        }
    }
}

impl RoundTrip {
    /// What is on its way to a viewer of which nothing is known: below the 100 ms after which most receivers ask again, so that their second
    /// request finds an answer.
    const UNKNOWN: Duration = Duration::from_millis(90);
    /// Shorter round trips change nothing: receivers look after their losses every 20 ms, and a burst of losses lasts as long.
    const LEAST: Duration = Duration::from_millis(50);
    /// What a report says beyond that is not believed.
    const MOST: Duration = Duration::from_secs(2);

    /// A sender report of a track goes out.
    pub(super) fn reported(&mut self, kind: Kind, ntp: u64) {
        self.reported[kind as usize] = (ntp >> 16) as u32;
    }

    /// A report of the viewer's on a track: the sender report that it had last, and for how long, in 1/65,536 s. Ours went out at `sent`.
    pub(super) fn handle_report(&mut self, now: Instant, kind: Kind, (last_sr, delay): (u32, u32), sent: Instant) {
        if last_sr == 0 || last_sr != self.reported[kind as usize] {
            return;
        }
        let held = Duration::from_micros(u64::from(delay) * 1_000_000 / 65_536);
        let sample = now
            .saturating_duration_since(sent)
            .saturating_sub(held)
            .min(RoundTrip::MOST);
        let sample = sample.as_millis() as u16;
        let smoothed = self.millis.map_or(sample, |known| (3 * known.get() + sample) / 4);
        self.millis = NonZeroU16::new(smoothed.max(1));
    }

    /// Smoothed; `None` while unknown.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.millis.map(|millis| Duration::from_millis(millis.get().into()))
    }

    /// The viewer knows of something that it was first sent so long ago.
    pub(super) fn is_within(&mut self, time: Duration) {
        let time = time.min(RoundTrip::MOST).as_millis() as u16;
        self.millis_max = self.millis_max.min(time);
    }

    /// How long a packet that was sent may be on its way until a request for it is a new one.
    pub(super) fn wait(&self) -> Duration {
        let millis = |millis: u16| Duration::from_millis(u64::from(millis));
        let likely = || millis(self.millis_max).min(RoundTrip::UNKNOWN);
        let known = self.millis.map(|known| millis(known.get()));
        known.unwrap_or_else(likely).max(RoundTrip::LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn it_is_what_is_left_of_the_time_since_the_sender_report() {
        let sent = onecast_udp::clock::now();
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.wait(), RoundTrip::UNKNOWN);
        round_trip.reported(Kind::Video, 0x1111_2222_3333_4444);
        let half_a_second = 0x8000;
        round_trip.handle_report(sent + ms(700), Kind::Video, (0x2222_3333, half_a_second), sent);
        assert_eq!(round_trip.wait(), ms(200));
        round_trip.handle_report(sent + ms(540), Kind::Video, (0x2222_3333, half_a_second), sent);
        assert_eq!(round_trip.wait(), ms(160), "smoothed");
        for _ in 0..20 {
            round_trip.handle_report(sent + ms(501), Kind::Video, (0x2222_3333, half_a_second), sent);
        }
        assert_eq!(round_trip.wait(), RoundTrip::LEAST);
    }

    #[test]
    fn before_the_first_report_it_is_what_requests_allow() {
        let mut round_trip = RoundTrip::default();
        for (time, wait) in [(300, 90), (70, 70), (80, 70), (20, 50)] {
            round_trip.is_within(ms(time));
            assert_eq!(round_trip.wait(), ms(wait));
        }
    }

    #[test]
    fn reports_on_something_else_and_lies_are_harmless() {
        let sent = onecast_udp::clock::now();
        let mut round_trip = RoundTrip::default();
        round_trip.handle_report(sent + ms(100), Kind::Video, (0, 0), sent);
        round_trip.reported(Kind::Audio, 0x1111_2222_3333_4444);
        round_trip.handle_report(sent + ms(100), Kind::Video, (0x2222_3333, 0), sent);
        round_trip.handle_report(sent + ms(100), Kind::Audio, (0x2222_3334, 0), sent);
        assert_eq!(round_trip.wait(), RoundTrip::UNKNOWN);
        round_trip.handle_report(sent + ms(100), Kind::Audio, (0x2222_3333, u32::MAX), sent);
        assert_eq!(round_trip.wait(), RoundTrip::LEAST);
        for _ in 0..20 {
            round_trip.handle_report(sent + ms(3_600_000), Kind::Audio, (0x2222_3333, 0), sent);
        }
        assert!(round_trip.wait() <= RoundTrip::MOST);
    }
}

//! How much a track takes, of which a viewer's allowance for retransmissions is a share.

use std::time::{Duration, Instant};

use crate::fanout::repairs::Volume;
use crate::media::Packet;

/// Measures bytes a second and the size of keyframes.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Since when bytes are counted.
    since: Option<Instant>,
    bytes: u32,
    per_second: Option<u32>,
    /// Timestamp of the newest keyframe, and its bytes so far.
    keyframe: Option<(u32, u32)>,
    keyframe_before: u32,
}

impl Meter {
    /// After which the rate is told anew: long enough for the frames of the slowest screen share.
    const PERIOD: Duration = Duration::from_secs(1);

    /// Counts a packet.
    pub(super) fn note(&mut self, packet: &Packet) {
        let len = packet.payload.len() as u32;
        match &mut self.keyframe {
            Some((timestamp, bytes)) if *timestamp == packet.timestamp => *bytes = bytes.saturating_add(len),
            before if packet.keyframe => {
                self.keyframe_before = before.map_or(0, |(_, bytes)| bytes);
                self.keyframe = Some((packet.timestamp, len));
            }
            _ => {}
        }
        let since = *self.since.get_or_insert(packet.arrived);
        let elapsed = packet.arrived.saturating_duration_since(since);
        if elapsed >= Meter::PERIOD {
            let rate = (f64::from(self.bytes) / elapsed.as_secs_f64()) as u32;
            self.per_second = Some(self.per_second.map_or(rate, |known| known / 2 + rate / 2));
            self.bytes = 0;
            self.since = Some(packet.arrived);
        }
        self.bytes = self.bytes.saturating_add(len);
    }

    /// What the track takes. Before a second has passed the rate is what has come.
    pub(super) fn volume(&self) -> Volume {
        let keyframe = self.keyframe.map_or(0, |(_, bytes)| bytes);
        Volume {
            per_second: self.per_second.unwrap_or(self.bytes),
            keyframe: keyframe.max(self.keyframe_before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;

    #[test]
    fn it_tells_the_rate_and_the_larger_of_the_last_two_keyframes() {
        let mut meter = Meter::default();
        let start = crate::clock::now();
        for number in 0..300u32 {
            // 100 packets a second of 1,000 bytes; every 50th begins a keyframe of 5.
            let frame = number - if number % 50 < 5 { number % 50 } else { 0 };
            let payload = [0; 1_000];
            let mut built = packet(u64::from(number)).timestamp(frame * 900).payload(&payload);
            if number % 50 == 0 {
                built = built.refresh();
            }
            let mut built = std::sync::Arc::unwrap_or_clone(built.build());
            built.keyframe = number % 50 == 0;
            built.arrived = start + Duration::from_millis(10) * number;
            meter.note(&built);
        }
        let Volume { per_second, keyframe } = meter.volume();
        assert!((99_000..=101_000).contains(&per_second), "{per_second}");
        assert_eq!(keyframe, 5_000);
    }

    #[test]
    fn a_stream_that_has_just_begun_takes_what_has_come() {
        let mut meter = Meter::default();
        assert_eq!(meter.volume(), Volume::default());
        meter.note(&packet(1).payload(&[0; 700]).build());
        assert_eq!(meter.volume().per_second, 700);
    }
}

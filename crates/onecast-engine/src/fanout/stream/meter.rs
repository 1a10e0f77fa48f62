//! How large a track's keyframes are, which a viewer's allowance for retransmissions is to cover.

use onecast_rtc::rtp::RtpTime;

use crate::media::Packet;

/// Measures keyframes.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Timestamp of the newest keyframe, and its payload bytes so far.
    newest: Option<(RtpTime, u32)>,
    bytes_before: u32,
}

impl Meter {
    /// Counts a packet.
    pub(super) fn note(&mut self, packet: &Packet) {
        let len = packet.payload.len() as u32;
        match &mut self.newest {
            Some((timestamp, bytes)) if *timestamp == packet.timestamp => *bytes = bytes.saturating_add(len),
            before if packet.keyframe => {
                self.bytes_before = before.map_or(0, |(_, bytes)| bytes);
                self.newest = Some((packet.timestamp, len));
            }
            _ => {}
        }
    }

    /// Payload bytes of the larger of the last two keyframes: the newest may not be complete.
    pub(super) fn keyframe(&self) -> u32 {
        self.newest.map_or(0, |(_, bytes)| bytes).max(self.bytes_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::packet;

    #[test]
    fn it_tells_the_larger_of_the_last_two_keyframes() {
        let mut meter = Meter::default();
        assert_eq!(meter.keyframe(), 0);
        let mut note = |index: u64, frame: u32, is_keyframe: bool| {
            let built = packet(index)
                .timestamp(RtpTime(3_000 * frame))
                .payload(&[0; 1_000])
                .build();
            let mut built = std::sync::Arc::unwrap_or_clone(built);
            built.keyframe = is_keyframe;
            meter.note(&built);
            meter.keyframe()
        };
        assert_eq!(
            [note(0, 0, true), note(1, 0, false), note(2, 0, false)],
            [1_000, 2_000, 3_000]
        );
        assert_eq!(note(3, 1, false), 3_000, "no keyframe");
        assert_eq!([note(4, 2, true), note(5, 3, false)], [3_000, 3_000], "a smaller one");
        assert_eq!(note(6, 4, true), 1_000);
    }
}

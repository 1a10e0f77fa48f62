//! The frame numbers of the dependency descriptor as one viewer sees them.
//!
//! A receiver drops a keyframe whose number is below that of an earlier one, and any frame whose number is below that of the last decoded
//! frame. The publisher's numbers do not always grow from one packet to the next that a viewer is sent:
//!
//! - All layers share one sequence, so another layer's keyframe of the same picture may have a lower number.
//! - A start from the cache repeats frames with the numbers that they had.
//! - Another publisher, or another member of a room, has numbers of its own.
//!
//! Therefore each start continues the viewer's own numbers. Until the next start all numbers are moved by the same amount, because a
//! descriptor names the frames that it refers to by their distance.

/// One viewer's frame numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FrameNumbers {
    ahead: u16,
    /// The highest that it was sent.
    highest: Option<u16>,
    starts: bool,
}

impl FrameNumbers {
    /// The next frame starts the viewer.
    pub(super) fn begin_start(&mut self) {
        self.starts = true;
    }

    /// A packet is sent whose frame has this number at the publisher.
    pub(super) fn pass(&mut self, number: u16) {
        if std::mem::take(&mut self.starts)
            && let Some(highest) = self.highest
        {
            self.ahead = highest.wrapping_add(1).wrapping_sub(number);
        }
        let sent = number.wrapping_add(self.ahead);
        // Late packets are of earlier frames.
        if self.highest.is_none_or(|highest| sent.wrapping_sub(highest) < 1 << 15) {
            self.highest = Some(sent);
        }
    }

    /// To be added to the publisher's numbers.
    pub(super) fn ahead(&self) -> u16 {
        self.ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the viewer sees of these numbers of the publisher's.
    fn sent<const N: usize>(frames: &mut FrameNumbers, numbers: [u16; N]) -> [u16; N] {
        numbers.map(|number| {
            frames.pass(number);
            number.wrapping_add(frames.ahead())
        })
    }

    #[test]
    fn a_first_start_keeps_the_numbers() {
        let mut frames = FrameNumbers::default();
        frames.begin_start();
        assert_eq!(sent(&mut frames, [65_534, 65_535, 0]), [65_534, 65_535, 0]);
    }

    #[test]
    fn a_start_goes_on_above_all_that_was_sent_and_keeps_distances() {
        let mut frames = FrameNumbers::default();
        frames.begin_start();
        sent(&mut frames, [101, 104, 107]);
        // The smallest layer of the same picture; then a repetition; then another publisher.
        for numbers in [[100, 103, 106], [100, 103, 106], [60_000, 60_003, 60_006]] {
            let before = frames.highest.unwrap();
            frames.begin_start();
            assert_eq!(sent(&mut frames, numbers), [before + 1, before + 4, before + 7]);
        }
    }

    #[test]
    fn late_packets_of_earlier_frames_do_not_count() {
        let mut frames = FrameNumbers::default();
        frames.begin_start();
        sent(&mut frames, [65_535, 2, 0]);
        frames.begin_start();
        assert_eq!(sent(&mut frames, [1]), [3]);
    }
}

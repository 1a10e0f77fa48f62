//! The frame numbers of the dependency descriptor as one viewer sees them.
//!
//! A receiver drops a keyframe whose number is below that of one that it had before, and any frame below the last that it decoded. But the
//! publisher's numbers do not only grow: all its layers share one sequence (so another layer's keyframe of the same picture may have the
//! lower number), a repetition brings old ones again, and another publisher or member begins anew. So each start goes on where the viewer's
//! numbers ended. From one start to the next all are moved by the same amount, for descriptors say how far back the frames are that they
//! refer to.

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

    /// A packet of the frame with this number of the publisher's is sent.
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

//! When a viewer has a whole picture, from sequence numbers alone, and what was missing afterwards.

/// What a viewer has of a stream.
#[derive(Debug, Clone, Default)]
pub struct Reception {
    next: Option<u16>,
    phase: Phase,
    missing: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// No keyframe began yet, or the one that did has a gap.
    #[default]
    Waiting,
    /// All of a keyframe so far.
    Building,
    /// A whole keyframe came.
    Playing,
}

/// What a packet changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing.
    None,
    /// It completes the first picture.
    Picture,
}

impl Reception {
    /// Takes a packet: its number, whether it is the first of a keyframe, and its marker bit.
    pub fn handle_packet(&mut self, sequence: u16, starts_keyframe: bool, marker: bool) -> Progress {
        let ahead = sequence.wrapping_sub(self.next.unwrap_or(sequence));
        if ahead >= 0x8000 {
            // An old number: a copy, or too late to be of use.
            return Progress::None;
        }
        self.next = Some(sequence.wrapping_add(1));
        self.missing += u64::from(ahead);
        if self.phase == Phase::Playing {
            return Progress::None;
        }
        self.phase = match (self.phase, starts_keyframe) {
            (_, true) => Phase::Building,
            (Phase::Building, false) if ahead == 0 => Phase::Building,
            _ => Phase::Waiting,
        };
        if self.phase == Phase::Building && marker {
            self.phase = Phase::Playing;
            return Progress::Picture;
        }
        Progress::None
    }

    /// A whole keyframe came.
    pub fn has_picture(&self) -> bool {
        self.phase == Phase::Playing
    }

    /// Numbers that were left out since the first packet.
    pub fn missing(&self) -> u64 {
        self.missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the picture is complete after packets `(sequence, starts a keyframe, marker)`, and what is missing.
    fn after(packets: &[(u16, bool, bool)]) -> (bool, u64) {
        let mut reception = Reception::default();
        let pictures = packets
            .iter()
            .filter(|&&(sequence, starts, marker)| {
                reception.handle_packet(sequence, starts, marker) == Progress::Picture
            })
            .count();
        assert_eq!(pictures, usize::from(reception.has_picture()));
        (reception.has_picture(), reception.missing())
    }

    #[test]
    fn a_keyframe_is_whole_at_its_marker_over_the_wrap() {
        let packets = [(65_534, true, false), (65_535, false, false), (0, false, true)];
        assert_eq!(after(&packets[..2]), (false, 0));
        assert_eq!(after(&packets), (true, 0));
        assert_eq!(after(&[(9, true, true)]), (true, 0));
    }

    #[test]
    fn frames_before_the_keyframe_make_no_picture() {
        assert_eq!(after(&[(1, false, false), (2, false, true)]), (false, 0));
        assert_eq!(
            after(&[(1, false, true), (2, true, false), (3, false, true)]),
            (true, 0)
        );
    }

    #[test]
    fn a_keyframe_with_a_gap_is_no_picture_but_the_next_one_is() {
        let broken = [(1, true, false), (3, false, false), (4, false, true)];
        assert_eq!(after(&broken), (false, 1));
        let mended = [&broken[..], &[(5, true, false), (6, false, true)]].concat();
        assert_eq!(after(&mended), (true, 1));
    }

    #[test]
    fn gaps_after_the_picture_are_counted_and_copies_are_not() {
        let packets = [
            (1, true, true),
            (2, false, true),
            (2, false, true),
            (5, false, true),
            (3, false, true),
        ];
        assert_eq!(after(&packets), (true, 2));
    }
}

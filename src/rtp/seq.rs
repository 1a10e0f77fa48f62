//! Sequence numbers extended once, at the door, to 64 bits.

/// Turns 16-bit sequence numbers of one source into numbers that never wrap.
#[derive(Debug, Clone, Copy, Default)]
pub struct SequenceExtender {
    highest: Option<u64>,
}

impl SequenceExtender {
    /// The extended number: the one nearest to the highest so far. The first is 65,536 + `sequence`, so that packets which were
    /// overtaken by it have numbers too.
    pub fn extend(&mut self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            let first = 0x1_0000 + u64::from(sequence);
            self.highest = Some(first);
            return first;
        };
        let ahead = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        let extended = highest.saturating_add_signed(ahead);
        self.highest = Some(highest.max(extended));
        extended
    }

    /// The highest number so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_across_the_wrap_and_late_ones_keep_theirs() {
        let mut extender = SequenceExtender::default();
        let extended: Vec<_> = [65_534, 65_535, 0, 65_533, 1, 32_768, 2]
            .map(|s| extender.extend(s) - 0x1_0000)
            .into();
        assert_eq!(extended, [65_534, 65_535, 65_536, 65_533, 65_537, 98_304, 65_538]);
        assert_eq!(extender.highest(), Some(0x1_0000 + 98_304));
    }

    #[test]
    fn what_came_before_the_first_has_a_number() {
        let mut extender = SequenceExtender::default();
        assert_eq!(extender.extend(0), 0x1_0000);
        assert_eq!(extender.extend(65_535), 0xffff);
    }
}

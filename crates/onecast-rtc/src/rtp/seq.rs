//! Sequence numbers extended once, where packets enter, to 64 bits.

use super::ids::written_bare;

/// A sequence number that does not wrap: how often the 16 bits of the wire have wrapped, then those bits.
///
/// Its lower 48 bits are also the packet index of SRTP (RFC 3711 section 3.3.1): roll-over counter and sequence number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SeqIndex(pub u64);

impl SeqIndex {
    /// The 16 bits that travel in the header.
    #[inline]
    pub const fn wire(self) -> u16 {
        self.0 as u16
    }

    /// So many numbers later.
    #[inline]
    #[must_use]
    pub const fn plus(self, count: u64) -> SeqIndex {
        SeqIndex(self.0 + count)
    }

    /// So many numbers earlier, but not below 0.
    #[inline]
    #[must_use]
    pub const fn minus(self, count: u64) -> SeqIndex {
        SeqIndex(self.0.saturating_sub(count))
    }

    /// How many numbers later than `earlier` it is. `earlier` must not be later.
    #[inline]
    pub const fn since(self, earlier: SeqIndex) -> u64 {
        self.0 - earlier.0
    }

    /// The numbers from here up to and without `end`.
    pub fn until(self, end: SeqIndex) -> impl Iterator<Item = SeqIndex> {
        (self.0..end.0).map(SeqIndex)
    }

    /// The next one.
    #[inline]
    #[must_use]
    pub const fn next(self) -> SeqIndex {
        SeqIndex(self.0 + 1)
    }
}

written_bare!(SeqIndex);

/// Extends 16-bit sequence numbers of one source. Each number is taken as the one nearest to the highest seen, so packets up to
/// 32,767 behind or ahead are placed correctly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SequenceExtender {
    highest: Option<SeqIndex>,
}

impl SequenceExtender {
    /// An extender that has seen nothing yet.
    pub const fn new() -> SequenceExtender {
        SequenceExtender { highest: None }
    }

    /// The extended number, which is remembered when it is the highest. The first one is 65,536 + `sequence`, so that packets from before
    /// the first do not underflow.
    #[inline]
    pub fn extend(&mut self, sequence: u16) -> SeqIndex {
        let extended = self.peek(sequence);
        self.highest = self.highest.max(Some(extended));
        extended
    }

    /// The extended number, without remembering it.
    #[inline]
    pub fn peek(&self, sequence: u16) -> SeqIndex {
        let Some(highest) = self.highest else {
            return SeqIndex(FIRST_CYCLE + u64::from(sequence));
        };
        let distance = sequence.wrapping_sub(highest.wire()).cast_signed();
        SeqIndex(highest.0.wrapping_add_signed(i64::from(distance)))
    }

    /// The highest number so far.
    #[inline]
    pub const fn highest(&self) -> Option<SeqIndex> {
        self.highest
    }
}

/// One roll-over, as if it had happened before the first packet.
const FIRST_CYCLE: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_testing::Noise;

    #[test]
    fn indices_are_counted_from_each_other() {
        let index = SeqIndex(3);
        assert_eq!(
            (index.plus(2), index.next(), index.minus(2)),
            (SeqIndex(5), SeqIndex(4), SeqIndex(1))
        );
        assert_eq!(index.minus(5), SeqIndex(0));
        assert_eq!(SeqIndex(70_000).since(SeqIndex(65_536)), 4_464);
        assert_eq!(SeqIndex(70_000).wire(), 4_464);
        assert!(SeqIndex(5).until(SeqIndex(7)).eq([SeqIndex(5), SeqIndex(6)]));
        assert_eq!(format!("{index} {index:?}"), "3 3");
    }

    #[test]
    fn numbers_go_on_over_the_wrap() {
        let mut extender = SequenceExtender::new();
        let extended: Vec<_> = [65_534, 65_535, 0, 1].map(|n| extender.extend(n).0).into();
        assert_eq!(extended, [131_070, 131_071, 131_072, 131_073]);
    }

    #[test]
    fn reordering_over_the_wrap_keeps_its_place() {
        let mut extender = SequenceExtender::new();
        let extended: Vec<_> = [65_535, 1, 0, 65_534, 2].map(|n| extender.extend(n).0).into();
        assert_eq!(extended, [131_071, 131_073, 131_072, 131_070, 131_074]);
        assert_eq!(extender.highest(), Some(SeqIndex(131_074)));
    }

    #[test]
    fn earlier_than_the_first_does_not_underflow() {
        let mut extender = SequenceExtender::new();
        assert_eq!(extender.extend(0), SeqIndex(65_536));
        assert_eq!(extender.extend(65_535), SeqIndex(65_535));
        assert_eq!(extender.extend(32_768), SeqIndex(32_768));
    }

    #[test]
    fn any_numbers_stay_congruent_to_the_wire() {
        let mut noise = Noise::seeded(3);
        let mut extender = SequenceExtender::new();
        for _ in 0..100_000 {
            let sequence = noise.next() as u16;
            let before = extender.highest();
            let extended = extender.extend(sequence);
            assert_eq!(extended.wire(), sequence);
            assert!(before.is_none_or(|highest| extended.0.abs_diff(highest.0) <= 32_768));
        }
    }
}

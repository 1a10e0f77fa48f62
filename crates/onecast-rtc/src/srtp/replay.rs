//! Replay protection: which packet indices have been taken, and which index a 16-bit sequence number stands for.

/// A sliding window over the last `64 * WORDS` indices (RFC 3711 section 3.3.2).
pub(super) struct ReplayWindow<const WORDS: usize> {
    highest: u64,
    /// A ring: the bit of index `i` is at `i` modulo the window.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    /// Starts at the first authenticated index.
    pub(super) fn starting_at(index: u64) -> Self {
        let mut window = Self {
            highest: index,
            seen: [0; WORDS],
        };
        window.mark(index);
        window
    }

    /// Starts above an index; nothing up to it is taken any more.
    pub(super) fn after(highest: u64) -> Self {
        Self {
            highest,
            seen: [u64::MAX; WORDS],
        }
    }

    /// The highest index taken.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// The full index that `sequence` most likely stands for (RFC 3711 section 3.3.1).
    pub(super) fn estimate(&self, sequence: u16) -> u64 {
        let roc = self.highest >> 16;
        let ahead = i32::from(sequence) - i32::from(self.highest as u16);
        let roc = if ahead < -HALF {
            roc + 1
        } else if ahead > HALF {
            // Before the first roll-over there is no earlier cycle, so it is a far jump ahead.
            roc.saturating_sub(1)
        } else {
            roc
        };
        (roc << 16) | u64::from(sequence)
    }

    /// Whether the index has not been taken and is within the window.
    pub(super) fn is_fresh(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            None => true,
            Some(age) => age < Self::LEN && self.seen[Self::word(index)] & Self::bit(index) == 0,
        }
    }

    /// Marks a fresh index of an authentic packet as taken.
    pub(super) fn accept(&mut self, index: u64) {
        if index > self.highest {
            let passed = (index - self.highest).min(Self::LEN);
            for between in index + 1 - passed..=index {
                self.seen[Self::word(between)] &= !Self::bit(between);
            }
            self.highest = index;
        }
        self.mark(index);
    }

    fn mark(&mut self, index: u64) {
        self.seen[Self::word(index)] |= Self::bit(index);
    }

    fn word(index: u64) -> usize {
        (index / 64) as usize % WORDS
    }

    fn bit(index: u64) -> u64 {
        1 << (index % 64)
    }

    const LEN: u64 = 64 * WORDS as u64;
}

const HALF: i32 = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_agrees_with_a_plain_set() {
        let seed = 0x5eed;
        let mut state: u64 = seed;
        let mut window = ReplayWindow::<2>::starting_at(1000);
        let mut taken = std::collections::BTreeSet::from([1000u64]);
        for step in 0..20_000 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let highest = *taken.last().unwrap();
            let index = (highest + (state >> 33) % 180).saturating_sub(150);
            let fresh = highest.saturating_sub(index) < 128 && !taken.contains(&index);
            assert_eq!(window.is_fresh(index), fresh, "seed {seed}, step {step}, index {index}");
            if fresh {
                window.accept(index);
                taken.insert(index);
            }
        }
    }

    #[test]
    fn sequence_numbers_are_placed_nearest_to_the_highest() {
        let at = |highest| ReplayWindow::<1>::starting_at(highest);
        assert_eq!(at(65_535).estimate(0), 65_536);
        assert_eq!(at(65_536).estimate(65_535), 65_535);
        assert_eq!(at(65_540).estimate(65_530), 65_530);
        assert_eq!(at(100).estimate(101), 101);
        assert_eq!(at(100).estimate(99), 99);
        assert_eq!(at(100).estimate(60_000), 60_000, "no index before the first roll-over");
        assert_eq!(at((7 << 16) | 40_000).estimate(1), (8 << 16) | 1);
    }

    #[test]
    fn a_far_jump_forgets_the_whole_window() {
        let mut window = ReplayWindow::<1>::starting_at(5);
        window.accept(5 + 640);
        assert!(!window.is_fresh(5));
        assert!(!window.is_fresh(645));
        assert!((582..645).all(|index| window.is_fresh(index)));
    }
}

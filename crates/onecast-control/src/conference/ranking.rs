//! Who comes first when not everybody can be seen: those who spoke last, then those who came first.

/// The members of a room in this order, by their public numbers.
#[derive(Debug, Default)]
pub(super) struct Ranking(Vec<u64>);

impl Ranking {
    /// Somebody came, and has said nothing yet.
    pub(super) fn join(&mut self, member: u64) {
        self.0.push(member);
    }

    /// Somebody has begun to speak.
    pub(super) fn speak(&mut self, member: u64) {
        if let Some(place) = self.0.iter().position(|&other| other == member) {
            self.0[..=place].rotate_right(1);
        }
    }

    pub(super) fn leave(&mut self, member: u64) {
        self.0.retain(|&other| other != member);
    }

    /// The first comes first.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }

    /// The first `count`, not counting `member` itself.
    pub(super) fn first_for(&self, member: u64, count: usize) -> impl Iterator<Item = u64> {
        self.iter().filter(move |&other| other != member).take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_comes_first_and_the_others_keep_their_order() {
        let mut ranking = Ranking::default();
        (1..=4).for_each(|member| ranking.join(member));
        ranking.speak(3);
        ranking.speak(2);
        ranking.speak(9);
        assert_eq!(ranking.iter().collect::<Vec<_>>(), [2, 3, 1, 4]);
        assert_eq!(ranking.first_for(3, 2).collect::<Vec<_>>(), [2, 1]);
        ranking.leave(2);
        ranking.speak(3);
        assert_eq!(ranking.iter().collect::<Vec<_>>(), [3, 1, 4]);
    }
}

//! The order of members when not all can be shown: the most recent speakers first, then those that joined first.

use crate::registry::SessionNumber;

/// The members of a room in this order, by their public numbers.
#[derive(Debug, Default)]
pub(super) struct Ranking(Vec<SessionNumber>);

impl Ranking {
    /// A member joins, and has not spoken yet.
    pub(super) fn join(&mut self, member: SessionNumber) {
        self.0.push(member);
    }

    /// A member begins to speak.
    pub(super) fn speak(&mut self, member: SessionNumber) {
        if let Some(place) = self.0.iter().position(|&other| other == member) {
            self.0[..=place].rotate_right(1);
        }
    }

    pub(super) fn leave(&mut self, member: SessionNumber) {
        self.0.retain(|&other| other != member);
    }

    /// The first comes first.
    pub(super) fn iter(&self) -> impl Iterator<Item = SessionNumber> {
        self.0.iter().copied()
    }

    /// The first `count`, not counting `member` itself.
    pub(super) fn first_for(&self, member: SessionNumber, count: usize) -> impl Iterator<Item = SessionNumber> {
        self.iter().filter(move |&other| other != member).take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(numbers: impl Iterator<Item = SessionNumber>) -> Vec<u64> {
        numbers.map(|number| number.0).collect()
    }

    #[test]
    fn the_latest_speaker_comes_first_and_the_others_keep_their_order() {
        let mut ranking = Ranking::default();
        (1..=4).for_each(|member| ranking.join(SessionNumber(member)));
        ranking.speak(SessionNumber(3));
        ranking.speak(SessionNumber(2));
        ranking.speak(SessionNumber(9));
        assert_eq!(numbers(ranking.iter()), [2, 3, 1, 4]);
        assert_eq!(numbers(ranking.first_for(SessionNumber(3), 2)), [2, 1]);
        ranking.leave(SessionNumber(2));
        ranking.speak(SessionNumber(3));
        assert_eq!(numbers(ranking.iter()), [3, 1, 4]);
    }
}

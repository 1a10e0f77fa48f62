//! Roll-over counts to try for a packet that does not authenticate with the likely one, and a limit on the work.
//!
//! The roll-over count is not sent (RFC 3711 section 3.3.1). A receiver that loses the packets around a wrap of the sequence number, or
//! more than half of all sequence numbers, guesses it wrongly from then on, and every packet fails to authenticate. Trying the next counts
//! is safe, because only the sender can seal a packet for any of them. It is not free, and anyone can send bad packets: see [`Credit`].

/// Indices to try, ascending: above `highest`, or from zero for a new source, except `tried`.
pub(super) fn ahead(highest: Option<u64>, sequence: u16, tried: Option<u64>) -> impl Iterator<Item = u64> {
    let first = highest.map_or(sequence.into(), |highest| next_after(highest, sequence));
    let all = (0..).map(move |roll_overs| first + (roll_overs << 16));
    all.filter(move |index| Some(*index) != tried).take(GUESSES)
}

/// The first index above `highest` whose low bits are the sequence number.
pub(super) fn next_after(highest: u64, sequence: u16) -> u64 {
    let index = (highest & !0xffff) | u64::from(sequence);
    if index > highest { index } else { index + (1 << 16) }
}

/// Limits guesses. Each packet earns half an attempt, and a round of guesses costs [`GUESSES`]. So guessing adds at most half to the work
/// that an attacker causes anyway, and in a flood the packets of the honest client still get their share of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Credit(u32);

impl Credit {
    /// Full, which is enough for the first packets of several sources at once.
    pub(super) const fn new() -> Credit {
        Credit(Credit::MAX)
    }

    /// Counts a packet.
    pub(super) fn earn(&mut self) {
        self.0 = (self.0 + 1).min(Credit::MAX);
    }

    /// Whether there is enough for a round.
    pub(super) fn is_enough(&self) -> bool {
        self.0 >= Credit::ROUND
    }

    /// Pays for a round.
    pub(super) fn spend(&mut self) {
        self.0 = self.0.saturating_sub(Credit::ROUND);
    }

    /// A packet earns 1, an attempt costs 2.
    const ROUND: u32 = 2 * GUESSES as u32;
    /// Eight rounds: audio, video and their retransmissions, twice.
    const MAX: u32 = 8 * Credit::ROUND;
}

/// Roll-over counts to try for one packet: four cover 260,000 lost packets, 50 s of 50 Mbit/s.
const GUESSES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_ascend_from_the_highest_without_the_one_tried() {
        let all = |highest, sequence, tried| ahead(highest, sequence, tried).collect::<Vec<_>>();
        assert_eq!(all(None, 5, Some(5)), [65_541, 131_077, 196_613, 262_149]);
        assert_eq!(all(Some(10), 5, None), [65_541, 131_077, 196_613, 262_149]);
        assert_eq!(all(Some(10), 11, Some(11)), [65_547, 131_083, 196_619, 262_155]);
        assert_eq!(all(Some(65_536), 0, None)[0], 131_072, "the highest itself was taken");
    }

    #[test]
    fn rounds_are_at_most_an_eighth_of_the_packets_after_the_first_few() {
        let mut credit = Credit::new();
        let mut rounds = 0;
        for packets in 1..10_000 {
            credit.earn();
            if credit.is_enough() {
                credit.spend();
                rounds += 1;
            }
            assert!(rounds <= 8 + packets / 8, "{rounds} rounds for {packets} packets");
        }
        assert!(rounds > 1_000, "a flood does not end the guessing");
    }
}

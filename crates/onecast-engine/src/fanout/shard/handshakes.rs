//! Handshakes of clients that connect. Their datagrams are read at once, which is cheap; the public-key operations that become possible
//! by them wait for their turn behind the media, and each turn does a few.

use std::collections::VecDeque;
use std::time::Instant;

use onecast_rtc::Path;

use crate::fanout::ids::PeerIndex;

/// Peers whose handshake can go on, in the order in which they reached that point. Publishers come before viewers, which see nothing
/// without them; every fourth turn goes to the others all the same.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    publishers: VecDeque<Flight>,
    others: VecDeque<Flight>,
    /// Publishers taken one after the other while others waited.
    in_a_row: u8,
    /// Flights taken out of turn since the last round.
    expedited: usize,
}

/// A whole flight of a client has arrived. There is at most one of each peer, and junk makes none.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) at: Instant,
    pub(super) peer: PeerIndex,
    pub(super) from: Path,
}

impl Handshakes {
    /// Flights in one round. Each takes up to a quarter of a millisecond (an ECDH, a signature, a verification): that is as long as
    /// media waits for all of them.
    const PER_ROUND: usize = 4;
    /// Flights that may wait: at four a round they take less than a client's timeout. A client whose flight finds no room repeats
    /// it, as after a loss.
    const WAITING_MAX: usize = 1_024;
    /// Three of the four flights of a round.
    const IN_A_ROW_MAX: u8 = 3;

    /// When the first is due: when it arrived.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let fronts = [self.publishers.front(), self.others.front()];
        fronts.into_iter().flatten().map(|flight| flight.at).min()
    }

    /// Begins a round, and returns how many flights it has. While media is on its way out, media has most of the time.
    pub(super) fn begin_round(&mut self, is_flushing: bool) -> usize {
        self.expedited = 0;
        if is_flushing { 1 } else { Handshakes::PER_ROUND }
    }

    /// Queues a flight; false if there is no room.
    pub(super) fn push(&mut self, flight: Flight, publishes: bool) -> bool {
        let queue = if publishes {
            &mut self.publishers
        } else {
            &mut self.others
        };
        let fits = queue.len() < Handshakes::WAITING_MAX;
        if fits {
            queue.push_back(flight);
        }
        fits
    }

    pub(super) fn pop(&mut self) -> Option<Flight> {
        let is_others_turn = self.in_a_row >= Handshakes::IN_A_ROW_MAX && !self.others.is_empty();
        if !is_others_turn && let Some(flight) = self.publishers.pop_front() {
            self.in_a_row = self.in_a_row.saturating_add(1);
            return Some(flight);
        }
        self.in_a_row = 0;
        self.others.pop_front()
    }

    /// Takes the flight of a peer out of turn, at most as many as a round has.
    pub(super) fn expedite(&mut self, peer: PeerIndex) -> Option<Flight> {
        if self.expedited >= Handshakes::PER_ROUND {
            return None;
        }
        let flight = self.pop_of(peer)?;
        self.expedited += 1;
        Some(flight)
    }

    fn pop_of(&mut self, peer: PeerIndex) -> Option<Flight> {
        [&mut self.publishers, &mut self.others].into_iter().find_map(|queue| {
            let place = queue.iter().position(|flight| flight.peer == peer)?;
            queue.remove(place)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(peer: u32) -> Flight {
        Flight {
            at: onecast_udp::clock::now(),
            peer: PeerIndex(peer),
            from: Path::udp(([192, 0, 2, 1], 5_000).into()),
        }
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut handshakes = Handshakes::default();
        let taken = (0..5_000).filter(|&peer| handshakes.push(flight(peer), false)).count();
        assert_eq!(taken, Handshakes::WAITING_MAX);
        assert!(
            handshakes.push(flight(1), true),
            "a crowd of viewers does not keep a publisher out"
        );
    }

    #[test]
    fn publishers_come_before_viewers() {
        let mut handshakes = Handshakes::default();
        assert!(handshakes.poll_timeout().is_none());
        assert!((0..100).all(|peer| handshakes.push(flight(peer), false)));
        assert!(handshakes.push(flight(200), true));
        assert_eq!(handshakes.pop_of(PeerIndex(7)).map(|flight| flight.peer.0), Some(7));
        assert!(handshakes.pop_of(PeerIndex(7)).is_none());
        assert_eq!(handshakes.pop().map(|flight| flight.peer.0), Some(200));
        assert_eq!(handshakes.pop().map(|flight| flight.peer.0), Some(0));
        assert!(handshakes.poll_timeout().is_some());
    }

    #[test]
    fn every_fourth_turn_goes_to_viewers() {
        let mut handshakes = Handshakes::default();
        assert!((0..40).all(|peer| handshakes.push(flight(peer), true)));
        assert!((100..140).all(|peer| handshakes.push(flight(peer), false)));
        let first: Vec<u32> = std::iter::from_fn(|| handshakes.pop())
            .map(|flight| flight.peer.0)
            .take(8)
            .collect();
        assert_eq!(first, [0, 1, 2, 100, 3, 4, 5, 101]);
    }
}

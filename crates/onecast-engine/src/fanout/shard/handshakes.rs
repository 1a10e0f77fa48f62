//! Handshakes of clients that connect. Their datagrams are read at once, which is cheap; the public-key operations that become possible
//! by them wait for their turn behind the media, and each turn does a few.

use super::*;

/// Peers whose handshake can go on, in the order in which they came to that point. Publishers come before those who watch: there is one
/// for each stream, and nobody sees anything without it. One turn of four is the others' all the same.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    publishers: VecDeque<Flight>,
    others: VecDeque<Flight>,
    /// Publishers taken one after the other while others waited.
    in_a_row: u8,
    /// Taken out of turn since the last turn.
    hurried: usize,
}

/// A peer has a whole flight of its client: there is one at most of each peer, and junk makes none.
#[derive(Debug)]
struct Flight {
    at: Instant,
    peer: u32,
    from: SocketAddr,
}

impl Handshakes {
    /// Flights that may wait: at four a turn they take less than a client's patience. A client whose flight finds no room repeats it, as
    /// after a loss.
    const WAITING_MAX: usize = 1_024;
    /// Three of the four flights of a turn.
    const IN_A_ROW_MAX: u8 = 3;

    /// When the first should have its turn: since it came.
    pub(super) fn next(&self) -> Option<Instant> {
        let fronts = [self.publishers.front(), self.others.front()];
        fronts.into_iter().flatten().map(|flight| flight.at).min()
    }

    fn push(&mut self, flight: Flight, publishes: bool) -> bool {
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

    fn pop(&mut self) -> Option<Flight> {
        let is_others_turn = self.in_a_row >= Handshakes::IN_A_ROW_MAX && !self.others.is_empty();
        if !is_others_turn && let Some(flight) = self.publishers.pop_front() {
            self.in_a_row = self.in_a_row.saturating_add(1);
            return Some(flight);
        }
        self.in_a_row = 0;
        self.others.pop_front()
    }

    fn pop_of(&mut self, peer: u32) -> Option<Flight> {
        [&mut self.publishers, &mut self.others].into_iter().find_map(|queue| {
            let place = queue.iter().position(|flight| flight.peer == peer)?;
            queue.remove(place)
        })
    }
}

impl Shard {
    /// Flights in one turn. Each takes up to a quarter of a millisecond (an ECDH, a signature, a verification): that is as long as media
    /// waits for all of them.
    const HANDSHAKES_PER_TURN: usize = 4;

    /// A DTLS datagram of a peer.
    pub(super) fn handle_dtls(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(index) = self.routes.peer(from) else {
            return self.hand_over_or_drop(from, datagram, |counters| &counters.dtls_dropped);
        };
        let mut out = Vec::new();
        let Some(peer) = self.peers.get_mut(index) else { return };
        let waits_already = peer.transport.has_work();
        let event = peer.transport.take_dtls(now, from, datagram, &mut out);
        if peer.transport.has_work() && !waits_already {
            let publishes = matches!(peer.session.role, SessionRole::Publisher(_));
            let flight = Flight {
                at: now,
                peer: index,
                from,
            };
            if !self.handshakes.push(flight, publishes) {
                peer.transport.forget_work();
                self.counters.handshakes_dropped.add(1);
            }
        }
        self.queue_control(out);
        self.handle_transport_event(now, index, event);
        self.schedule(index);
    }

    /// Takes the handshakes' turn. What is left is still due.
    pub fn handle_handshakes(&mut self, now: Instant) {
        // While media is on its way out, it has most of the time.
        let turns = if self.is_flushing() {
            1
        } else {
            Shard::HANDSHAKES_PER_TURN
        };
        self.handshakes.hurried = 0;
        for _ in 0..turns {
            let Some(flight) = self.handshakes.pop() else { break };
            self.go_on(now, &flight);
        }
    }

    /// Media from a peer whose handshake waits: if the end of it came with the media, this is its turn. At most as many as a turn has.
    pub(super) fn hurry(&mut self, now: Instant, index: u32) {
        let waits = |peer: &Peer| matches!(peer.state, State::Connecting) && peer.transport.has_work();
        if self.handshakes.hurried < Shard::HANDSHAKES_PER_TURN
            && self.peers.get(index).is_some_and(waits)
            && let Some(flight) = self.handshakes.pop_of(index)
        {
            self.handshakes.hurried += 1;
            self.go_on(now, &flight);
        }
    }

    /// The peer may have gone meanwhile, and another one with nothing to do may have its place.
    fn go_on(&mut self, now: Instant, flight: &Flight) {
        let mut out = Vec::new();
        let Some(peer) = self.peers.get_mut(flight.peer) else {
            return;
        };
        let event = peer.transport.work(now, flight.from, &mut out);
        self.queue_control(out);
        self.handle_transport_event(now, flight.peer, event);
        self.schedule(flight.peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(peer: u32) -> Flight {
        Flight {
            at: onecast_udp::clock::now(),
            peer,
            from: SocketAddr::from(([192, 0, 2, 1], 5_000)),
        }
    }

    #[test]
    fn what_waits_has_a_bound() {
        let mut handshakes = Handshakes::default();
        let taken = (0..5_000).filter(|&peer| handshakes.push(flight(peer), false)).count();
        assert_eq!(taken, Handshakes::WAITING_MAX);
        assert!(
            handshakes.push(flight(1), true),
            "a crowd of viewers keeps no publisher out"
        );
    }

    #[test]
    fn a_publisher_comes_before_a_crowd() {
        let mut handshakes = Handshakes::default();
        assert!(handshakes.next().is_none());
        assert!((0..100).all(|peer| handshakes.push(flight(peer), false)));
        assert!(handshakes.push(flight(200), true));
        assert_eq!(handshakes.pop_of(7).map(|flight| flight.peer), Some(7));
        assert!(handshakes.pop_of(7).is_none());
        assert_eq!(handshakes.pop().map(|flight| flight.peer), Some(200));
        assert_eq!(handshakes.pop().map(|flight| flight.peer), Some(0));
        assert!(handshakes.next().is_some());
    }

    #[test]
    fn publishers_leave_one_turn_of_four_to_the_others() {
        let mut handshakes = Handshakes::default();
        assert!((0..40).all(|peer| handshakes.push(flight(peer), true)));
        assert!((100..140).all(|peer| handshakes.push(flight(peer), false)));
        let first: Vec<u32> = std::iter::from_fn(|| handshakes.pop())
            .map(|flight| flight.peer)
            .take(8)
            .collect();
        assert_eq!(first, [0, 1, 2, 100, 3, 4, 5, 101]);
    }
}

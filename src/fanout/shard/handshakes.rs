//! Handshakes of clients that connect: they wait for their turn behind the media, and each turn takes a few of their datagrams.

use std::collections::HashMap;

use super::*;

/// DTLS datagrams of peers that connect, in the order in which they came. Publishers come before those who watch: there is one for
/// each stream, and nobody sees anything without it.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    publishers: VecDeque<Flight>,
    others: VecDeque<Flight>,
    /// How many datagrams of a peer wait. Peers of which none waits are not in it.
    by_peer: HashMap<u32, usize>,
    /// Taken out of turn since the last turn.
    hurried: usize,
}

#[derive(Debug)]
struct Flight {
    at: Instant,
    peer: u32,
    from: SocketAddr,
    datagram: Box<[u8]>,
}

impl Handshakes {
    /// Datagrams that may wait: 400 clients in the middle of theirs. A client whose datagram finds no room repeats its flight, as
    /// after a loss.
    const WAITING_MAX: usize = 1_024;
    /// Of one peer: the longest flights seen take five datagrams (werift). Without this bound, one peer that sends junk could take
    /// all the room.
    const WAITING_PER_PEER_MAX: usize = 8;

    /// When the first should have its turn: since it came.
    pub(super) fn next(&self) -> Option<Instant> {
        let fronts = [self.publishers.front(), self.others.front()];
        fronts.into_iter().flatten().map(|flight| flight.at).min()
    }

    fn push(&mut self, flight: Flight, publishes: bool) -> bool {
        let is_full = self.publishers.len() + self.others.len() >= Handshakes::WAITING_MAX;
        let waiting = self.by_peer.get(&flight.peer).copied().unwrap_or(0);
        if is_full || waiting >= Handshakes::WAITING_PER_PEER_MAX {
            return false;
        }
        self.by_peer.insert(flight.peer, waiting + 1);
        let queue = if publishes {
            &mut self.publishers
        } else {
            &mut self.others
        };
        queue.push_back(flight);
        true
    }

    fn pop(&mut self) -> Option<Flight> {
        let flight = self.publishers.pop_front().or_else(|| self.others.pop_front())?;
        self.note_taken(flight.peer);
        Some(flight)
    }

    /// The first of those from an address.
    fn pop_from(&mut self, from: SocketAddr) -> Option<Flight> {
        let taken = [&mut self.publishers, &mut self.others].into_iter().find_map(|queue| {
            let place = queue.iter().position(|flight| flight.from == from)?;
            queue.remove(place)
        });
        let flight = taken?;
        self.note_taken(flight.peer);
        Some(flight)
    }

    fn note_taken(&mut self, peer: u32) {
        if let Some(waiting) = self.by_peer.get_mut(&peer) {
            *waiting -= 1;
            if *waiting == 0 {
                self.by_peer.remove(&peer);
            }
        }
    }
}

impl Shard {
    /// Datagrams of handshakes in one turn. Each takes up to a quarter of a millisecond (an ECDH, a signature, a verification): that is as
    /// long as media waits for all of them.
    const HANDSHAKES_PER_TURN: usize = 4;

    /// A DTLS datagram of a peer: in its turn while the peer connects. Later it costs no more than a packet of media, and is taken at once.
    pub(super) fn handle_dtls(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(&index) = self.addresses.get(&from) else {
            return self.hand_over_or_drop(from, datagram, |counters| &counters.dtls_dropped);
        };
        let Some(peer) = self.peers.get(index) else { return };
        if !peer.waits_for_its_turn() {
            return self.take_dtls(now, index, from, datagram);
        }
        let flight = Flight {
            at: now,
            peer: index,
            from,
            datagram: (&*datagram).into(),
        };
        let publishes = matches!(peer.session.role, SessionRole::Publisher(_));
        if !self.handshakes.push(flight, publishes) {
            self.counters.handshakes_dropped.add(1);
        }
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
            let Some(mut flight) = self.handshakes.pop() else { break };
            // Its peer may have gone meanwhile, or moved on.
            match self.addresses.get(&flight.from) {
                Some(&index) => self.take_dtls(now, index, flight.from, &mut flight.datagram),
                None => self.counters.dtls_dropped.add(1),
            }
        }
    }

    /// Media from a peer whose handshake waits: if the end of it came with the media, this is its turn. At most as many as a turn has.
    pub(super) fn hurry(&mut self, now: Instant, index: u32, from: SocketAddr) {
        while self.peers.get(index).is_some_and(Peer::waits_for_its_turn)
            && self.handshakes.hurried < Shard::HANDSHAKES_PER_TURN
            && let Some(mut flight) = self.handshakes.pop_from(from)
        {
            self.handshakes.hurried += 1;
            self.take_dtls(now, index, from, &mut flight.datagram);
        }
    }

    fn take_dtls(&mut self, now: Instant, index: u32, from: SocketAddr, datagram: &mut [u8]) {
        let mut out = Vec::new();
        let Some(peer) = self.peers.get_mut(index) else { return };
        let event = peer.transport.handle_dtls(now, from, datagram, &mut out);
        self.queue_control(out);
        self.handle_transport_event(now, index, event);
        self.schedule(index);
    }
}

impl Peer {
    fn waits_for_its_turn(&self) -> bool {
        matches!(self.state, State::Connecting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(peer: u32) -> Flight {
        Flight {
            at: crate::clock::now(),
            peer,
            from: SocketAddr::from(([192, 0, 2, 1], 5_000 + peer as u16)),
            datagram: [0; 100].into(),
        }
    }

    #[test]
    fn one_peer_does_not_take_the_room_of_others() {
        let mut handshakes = Handshakes::default();
        let taken = (0..5_000).filter(|_| handshakes.push(flight(1), false)).count();
        assert_eq!(taken, Handshakes::WAITING_PER_PEER_MAX);
        assert!(handshakes.push(flight(2), false));
        let order: Vec<_> = std::iter::from_fn(|| handshakes.pop())
            .map(|flight| flight.peer)
            .collect();
        assert_eq!(order, [[1; Handshakes::WAITING_PER_PEER_MAX].as_slice(), &[2]].concat());
        assert!(handshakes.by_peer.is_empty() && handshakes.next().is_none());
        assert!(handshakes.push(flight(1), false), "there is room again");
    }

    #[test]
    fn all_peers_together_have_a_bound() {
        let mut handshakes = Handshakes::default();
        let taken = (0..5_000)
            .filter(|number| handshakes.push(flight(number % 1_000), false))
            .count();
        assert_eq!(taken, Handshakes::WAITING_MAX);
    }

    #[test]
    fn a_publisher_comes_before_a_crowd() {
        let mut handshakes = Handshakes::default();
        assert!((0..100).all(|number| handshakes.push(flight(number), false)));
        assert!(handshakes.push(flight(200), true));
        assert!(
            handshakes
                .pop_from(flight(7).from)
                .is_some_and(|flight| flight.peer == 7)
        );
        assert!(handshakes.pop_from(flight(7).from).is_none());
        assert_eq!(handshakes.pop().map(|flight| flight.peer), Some(200));
        assert_eq!(handshakes.pop().map(|flight| flight.peer), Some(0));
    }
}

//! Handshakes of clients that connect: they wait for their turn behind the media, and each turn takes a few of their datagrams.

use super::*;

/// DTLS datagrams of peers that connect, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    waiting: VecDeque<Flight>,
    /// Taken out of turn since the last turn.
    hurried: usize,
}

#[derive(Debug)]
struct Flight {
    at: Instant,
    from: SocketAddr,
    datagram: Box<[u8]>,
}

impl Handshakes {
    /// Datagrams that may wait: 400 clients in the middle of theirs. Who finds no room repeats its flight, as after a loss.
    const WAITING_MAX: usize = 1_024;

    /// When the first should have its turn: since it came.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.front().map(|flight| flight.at)
    }

    fn push(&mut self, flight: Flight) -> bool {
        let fits = self.waiting.len() < Handshakes::WAITING_MAX;
        if fits {
            self.waiting.push_back(flight);
        }
        fits
    }
}

impl Shard {
    /// Datagrams of handshakes in one turn. Each takes up to a quarter of a millisecond (an ECDH, a signature, a verification): that is as
    /// long as media waits for all of them.
    const HANDSHAKES_PER_TURN: usize = 4;

    /// A DTLS datagram of a peer: in its turn while a viewer or a member of a room connects, else at once. A publisher's media follow on the heels of its
    /// handshake, and there is one for each stream.
    pub(super) fn handle_dtls(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(index) = self.routes.peer(from) else {
            return self.hand_over_or_drop(from, datagram, |counters| &counters.dtls_dropped);
        };
        let waits = self.peers.get(index).is_some_and(Peer::waits_for_its_turn);
        if !waits {
            return self.take_dtls(now, index, from, datagram);
        }
        let flight = Flight {
            at: now,
            from,
            datagram: (&*datagram).into(),
        };
        if !self.handshakes.push(flight) {
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
            let Some(mut flight) = self.handshakes.waiting.pop_front() else {
                break;
            };
            // Its peer may have gone meanwhile, or moved on.
            match self.routes.peer(flight.from) {
                Some(index) => self.take_dtls(now, index, flight.from, &mut flight.datagram),
                None => self.counters.dtls_dropped.add(1),
            }
        }
    }

    /// Media from a member of a room whose handshake waits: if it came with the media, this is its turn. At most as many as a turn has.
    pub(super) fn hurry(&mut self, now: Instant, index: u32, from: SocketAddr) {
        let waits = self.peers.get(index).is_some_and(Peer::waits_for_its_turn);
        while waits && self.handshakes.hurried < Shard::HANDSHAKES_PER_TURN {
            let mut waiting = self.handshakes.waiting.iter();
            let Some(place) = waiting.position(|flight| flight.from == from) else {
                break;
            };
            if let Some(mut flight) = self.handshakes.waiting.remove(place) {
                self.handshakes.hurried += 1;
                self.take_dtls(now, index, from, &mut flight.datagram);
            }
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
    /// Those who watch, and members of rooms: a whole room may join at once.
    fn waits_for_its_turn(&self) -> bool {
        matches!(self.state, State::Connecting) && !matches!(self.session.role, SessionRole::Publisher(_))
    }
}

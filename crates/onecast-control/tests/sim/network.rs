//! Everything between the ends: delay, loss, duplicates, and the rates of paths.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// One direction of the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) delay: Duration,
    /// Up to this much more, different for each datagram: they overtake each other.
    pub(crate) jitter: Duration,
    /// Per mille.
    pub(crate) loss: u64,
    /// Per mille.
    pub(crate) duplicates: u64,
    /// Bytes a second that one client's path carries; what would wait longer than 100 ms is lost.
    pub(crate) rate: Option<u64>,
}

impl Link {
    pub(crate) const CLEAN: Link = Link {
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
        loss: 0,
        duplicates: 0,
        rate: None,
    };
    pub(crate) const LOSSY: Link = Link {
        loss: 50,
        ..Link::CLEAN
    };
    pub(crate) const WILD: Link = Link {
        jitter: Duration::from_millis(15),
        duplicates: 100,
        ..Link::CLEAN
    };
}

/// Numbers from a seed (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A datagram under way; ordered by arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flight {
    at: Instant,
    number: u64,
    pub(crate) client: SocketAddr,
    pub(crate) up: bool,
    pub(crate) bytes: Vec<u8>,
}

/// Everything between the ends.
pub(crate) struct Network {
    pub(crate) up: Link,
    pub(crate) down: Link,
    pub(crate) random: Random,
    flights: BinaryHeap<Reverse<Flight>>,
    number: u64,
    /// Until when the paths of clients are busy with what was sent.
    busy: HashMap<(SocketAddr, bool), Instant>,
    /// Clients whose paths lose nothing.
    pub(crate) spared: HashSet<SocketAddr>,
    /// Datagrams that found a path too busy.
    pub(crate) crowded_out: u64,
}

impl Network {
    /// The same in both directions, until that is changed.
    pub(crate) fn new(link: Link, random: Random) -> Network {
        Network {
            up: link,
            down: link,
            random,
            flights: BinaryHeap::new(),
            number: 0,
            busy: HashMap::new(),
            spared: HashSet::new(),
            crowded_out: 0,
        }
    }

    /// When the next datagram arrives.
    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.flights.peek().map(|Reverse(flight)| flight.at)
    }

    pub(crate) fn send(&mut self, now: Instant, client: SocketAddr, up: bool, bytes: &[u8]) {
        let link = if up { self.up } else { self.down };
        let mut departs = now;
        if let Some(rate) = link.rate {
            let busy = self.busy.entry((client, up)).or_insert(now);
            departs = now.max(*busy);
            if departs > now + Duration::from_millis(100) {
                self.crowded_out += 1;
                return;
            }
            *busy = departs + Duration::from_nanos(bytes.len() as u64 * 1_000_000_000 / rate);
        }
        let copies = 1 + u64::from(self.random.below(1_000) < link.duplicates);
        for _ in 0..copies {
            if self.random.below(1_000) < link.loss && !self.spared.contains(&client) {
                continue;
            }
            let jitter = Duration::from_micros(self.random.below(link.jitter.as_micros() as u64 + 1));
            self.number += 1;
            self.flights.push(Reverse(Flight {
                at: departs + link.delay + jitter,
                number: self.number,
                client,
                up,
                bytes: bytes.to_vec(),
            }));
        }
        assert!(self.flights.len() < 200_000, "datagrams pile up");
    }

    pub(crate) fn arrived(&mut self, now: Instant) -> Option<Flight> {
        if self.flights.peek()?.0.at > now {
            return None;
        }
        self.flights.pop().map(|Reverse(flight)| flight)
    }
}

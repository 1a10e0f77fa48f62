//! Which peer an address belongs to, here or on another shard.
//!
//! A client's addresses may reach other shards than its peer's. The owner tells the shard that handed over a check, once the check has
//! passed, and takes it back when the address ends ([`Claim`]). So nothing that is not authenticated is remembered, and a shard
//! knows at most [`CHECKED_MAX`](onecast_rtc::transport::CHECKED_MAX) addresses of each peer of the others.

use super::*;
use crate::metrics::Counter;

/// Addresses and their peers.
#[derive(Default)]
pub(super) struct Routes {
    /// Of the peers of this shard.
    own: HashMap<SocketAddr, Route>,
    /// Addresses of peers of other shards, whose datagrams come here: their owners.
    foreign: HashMap<SocketAddr, u16>,
    /// What other shards are to be told.
    claims: VecDeque<Claim>,
}

#[derive(Clone, Copy)]
struct Route {
    peer: u32,
    /// The shard that was told.
    told: Option<u16>,
}

impl Routes {
    /// Claims that wait for room in the mailbox of a shard. One that finds none is made again with the next check. Endings always
    /// find room: there is at most one for each address that was claimed.
    const CLAIMS_MAX: usize = 1_024;

    pub(super) fn peer(&self, from: SocketAddr) -> Option<u32> {
        self.own.get(&from).map(|route| route.peer)
    }

    /// The shard that owns the peer of an address.
    fn owner(&self, from: SocketAddr) -> Option<usize> {
        self.foreign.get(&from).map(|owner| usize::from(*owner))
    }

    fn take(&mut self, from: SocketAddr, peer: u32) {
        self.own.entry(from).or_insert(Route { peer, told: None }).peer = peer;
        self.foreign.remove(&from);
    }

    fn claim(&mut self, claim: Claim) {
        let Some(route) = self.own.get_mut(&claim.address) else {
            return;
        };
        if self.claims.len() >= Routes::CLAIMS_MAX {
            return;
        }
        let told = route.told.replace(claim.shard as u16);
        let moved = told.filter(|told| usize::from(*told) != claim.shard);
        self.claims.extend(moved.map(|told| claim.ended(told)));
        self.claims.push_back(claim);
    }

    /// The address is nobody's here any more.
    fn end(&mut self, address: SocketAddr, owner: usize) {
        let told = self.own.remove(&address).and_then(|route| route.told);
        self.claims.extend(told.map(|told| Claim {
            shard: usize::from(told),
            owner,
            address,
            hold: Hold::Ended,
        }));
    }
}

impl Claim {
    fn ended(self, told: u16) -> Claim {
        Claim {
            shard: usize::from(told),
            hold: Hold::Ended,
            ..self
        }
    }
}

impl Shard {
    /// Hands each claim to `tell`, until it finds no room for one.
    pub fn poll_claims(&mut self, mut tell: impl FnMut(Claim) -> bool) {
        while let Some(claim) = self.routes.claims.front() {
            if !tell(*claim) {
                return;
            }
            self.routes.claims.pop_front();
        }
    }

    /// The owner of a peer says whose an address is.
    pub fn handle_claim(&mut self, now: Instant, claim: Claim) {
        let Claim { owner, address, .. } = claim;
        let known = self.routes.owner(address);
        match claim.hold {
            Hold::Ended if known == Some(owner) => {
                self.routes.foreign.remove(&address);
            }
            Hold::Ended => {}
            // Another owner has not ended it, and knows better whether its client is still there.
            Hold::Checked if known.is_some_and(|known| known != owner) => {}
            Hold::Checked
                if self
                    .routes
                    .peer(address)
                    .is_some_and(|own| self.is_heard_at(now, own, address)) => {}
            Hold::Checked | Hold::Proven => {
                self.routes.end(address, self.config.id);
                self.routes.foreign.insert(address, owner as u16);
            }
        }
    }

    /// A check from an address passed. Its datagrams are this peer's from now on, unless they are those of another client that is alive
    /// there: then only the answer to a request of ours shows whose they are.
    pub(super) fn claim(&mut self, now: Instant, index: u32, from: SocketAddr, out: &mut Vec<Transmit>) {
        let is_held = match self.routes.peer(from) {
            Some(holder) => holder != index && self.is_heard_at(now, holder, from),
            None => self.routes.owner(from).is_some(),
        };
        let Some(peer) = self.peers.get_mut(index) else { return };
        let is_proven = peer.transport.is_proven(from);
        if is_held && !is_proven {
            return peer.transport.ask(now, from, out);
        }
        self.routes.take(from, index);
        if let Some(shard) = self.handed_by {
            let hold = if is_proven { Hold::Proven } else { Hold::Checked };
            self.routes.claim(Claim {
                shard,
                owner: self.config.id,
                address: from,
                hold,
            });
        }
    }

    fn is_heard_at(&self, now: Instant, peer: u32, address: SocketAddr) -> bool {
        let peer = self.peers.get(peer);
        peer.is_some_and(|peer| peer.transport.is_heard_at(now, address))
    }

    /// The address is no longer this peer's; another may have taken it over.
    pub(super) fn forget_address(&mut self, index: u32, address: SocketAddr) {
        if self.routes.peer(address) == Some(index) {
            self.routes.end(address, self.config.id);
        }
    }

    /// Forgets the addresses that ceased to count.
    pub(super) fn forget_lost(&mut self, index: u32) {
        while let Some(address) = self.peers.get_mut(index).and_then(|peer| peer.transport.poll_lost()) {
            self.forget_address(index, address);
        }
    }

    pub(super) fn hand_over_or_drop(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        counter: impl Fn(&ShardCounters) -> &Counter,
    ) {
        match self.routes.owner(from) {
            Some(owner) if self.handed_by.is_none() => self.hand_over(owner, from, datagram),
            _ => counter(&self.counters).add(1),
        }
    }

    /// Gives a datagram to the shard that owns its peer.
    pub(super) fn hand_over(&mut self, owner: usize, from: SocketAddr, datagram: &[u8]) {
        if self.strays.len() >= Shard::STRAYS_MAX {
            return self.counters.strays_dropped.add(1);
        }
        self.counters.strays.add(1);
        self.strays.push_back(Stray {
            shard: owner,
            by: self.config.id,
            from,
            bytes: datagram.into(),
        });
    }

    /// Addresses that are known here: of peers of this shard, and of others.
    pub fn addresses(&self) -> (usize, usize) {
        (self.routes.own.len(), self.routes.foreign.len())
    }
}

//! Which peer a path belongs to, here or on another shard.
//!
//! Datagrams on some of a client's paths may reach other shards than its peer's. The owner tells the shard that handed over a check, once
//! the check has passed, and takes it back when the path ends ([`Claim`]). So nothing that is not authenticated is remembered, and a
//! shard knows at most [`CHECKED_MAX`](onecast_rtc::transport::CHECKED_MAX) paths of each peer of the others.
//!
//! The key is the whole path, not the client's address: a NAT may give two clients the same address towards two addresses of the server.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use onecast_rtc::{Path, Transmit};

use super::peers::Peers;
use crate::fanout::ids::PeerIndex;
use crate::fanout::session::{Claim, Hold, MisroutedDatagram};
use onecast_metrics::{Counter, ShardCounters};

/// Paths and their peers, and datagrams on their way to other shards.
pub(super) struct Routes {
    /// The shard that this is.
    shard: usize,
    /// Paths of the peers of this shard.
    own: HashMap<Path, OwnPath>,
    /// Owners of the peers of other shards whose datagrams arrive here.
    foreign: HashMap<Path, u16>,
    /// Messages for other shards.
    claims: VecDeque<Claim>,
    /// Datagrams for other shards.
    misrouted: VecDeque<MisroutedDatagram>,
    /// The shard that handed over the datagram being handled; `None` when it came from the network.
    handed_by: Option<usize>,
    counters: Arc<ShardCounters>,
}

#[derive(Clone, Copy)]
struct OwnPath {
    peer: PeerIndex,
    /// The shard that a claim was sent to.
    told: Option<u16>,
}

impl Routes {
    /// Claims that wait for room in the mailbox of a shard. One that finds none is made again with the next check. Endings always
    /// find room: there is at most one for each path that was claimed.
    const CLAIMS_MAX: usize = 1_024;
    /// Datagrams that wait to be handed over: a quarter of what a mailbox takes.
    const MISROUTED_MAX: usize = 256;

    pub(super) fn new(shard: usize, counters: Arc<ShardCounters>) -> Routes {
        Routes {
            shard,
            own: HashMap::new(),
            foreign: HashMap::new(),
            claims: VecDeque::new(),
            misrouted: VecDeque::new(),
            handed_by: None,
            counters,
        }
    }

    /// The peer of this shard that a path belongs to.
    #[inline]
    pub(super) fn peer(&self, from: Path) -> Option<PeerIndex> {
        self.own.get(&from).map(|own| own.peer)
    }

    /// Paths of peers of this shard, and of others.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.own.len(), self.foreign.len())
    }

    pub(super) fn set_handed_by(&mut self, shard: Option<usize>) {
        self.handed_by = shard;
    }

    /// Hands each claim to `tell`, until it finds no room for one.
    pub(super) fn poll_claims(&mut self, mut tell: impl FnMut(Claim) -> bool) {
        while let Some(claim) = self.claims.front() {
            if !tell(*claim) {
                return;
            }
            self.claims.pop_front();
        }
    }

    pub(super) fn poll_misrouted(&mut self) -> Option<MisroutedDatagram> {
        self.misrouted.pop_front()
    }

    /// The owner of a peer says whose a path is.
    pub(super) fn handle_claim(&mut self, now: Instant, claim: Claim, peers: &Peers) {
        let Claim { owner, path, .. } = claim;
        let known = self.owner(path);
        match claim.hold {
            Hold::Ended if known == Some(owner) => {
                self.foreign.remove(&path);
            }
            Hold::Ended => {}
            // Another owner has not ended it, and knows better whether its client is still there.
            Hold::Checked if known.is_some_and(|known| known != owner) => {}
            Hold::Checked if self.peer(path).is_some_and(|own| is_heard_at(peers, now, own, path)) => {}
            Hold::Checked | Hold::Proven => {
                self.end(path);
                self.foreign.insert(path, owner as u16);
            }
        }
    }

    /// A check on a path passed. Its datagrams belong to this peer from now on, unless another client is alive there: then
    /// only the answer to the server's own check shows whose they are.
    pub(super) fn claim(
        &mut self,
        now: Instant,
        peers: &mut Peers,
        (index, from): (PeerIndex, Path),
        out: &mut Vec<Transmit>,
    ) {
        let is_held = match self.peer(from) {
            Some(holder) => holder != index && is_heard_at(peers, now, holder, from),
            None => self.owner(from).is_some(),
        };
        let Some(peer) = peers.get_mut(index) else { return };
        let is_proven = peer.transport.is_proven(from);
        if is_held && !is_proven {
            return peer.transport.ask(now, from, out);
        }
        self.take(from, index);
        if let Some(shard) = self.handed_by {
            let hold = if is_proven { Hold::Proven } else { Hold::Checked };
            self.tell(Claim {
                shard,
                owner: self.shard,
                path: from,
                hold,
            });
        }
    }

    /// The path is no longer this peer's; another may have taken it over already.
    pub(super) fn forget(&mut self, index: PeerIndex, path: Path) {
        if self.peer(path) == Some(index) {
            self.end(path);
        }
    }

    /// A datagram on a path that belongs to no peer here: its owner gets it, if there is one.
    pub(super) fn hand_over_or_drop(
        &mut self,
        from: Path,
        datagram: &[u8],
        counter: impl Fn(&ShardCounters) -> &Counter,
    ) {
        match self.owner(from) {
            Some(owner) if self.handed_by.is_none() => self.hand_over(owner, from, datagram),
            _ => counter(&self.counters).add(1),
        }
    }

    /// Gives a datagram to the shard that owns its peer.
    pub(super) fn hand_over(&mut self, owner: usize, from: Path, datagram: &[u8]) {
        if self.misrouted.len() >= Routes::MISROUTED_MAX {
            return self.counters.strays_dropped.add(1);
        }
        self.counters.strays.add(1);
        self.misrouted.push_back(MisroutedDatagram {
            shard: owner,
            by: self.shard,
            from,
            bytes: datagram.into(),
        });
    }

    /// The shard that owns the peer of a path.
    fn owner(&self, from: Path) -> Option<usize> {
        self.foreign.get(&from).map(|owner| usize::from(*owner))
    }

    fn take(&mut self, from: Path, peer: PeerIndex) {
        self.own.entry(from).or_insert(OwnPath { peer, told: None }).peer = peer;
        self.foreign.remove(&from);
    }

    fn tell(&mut self, claim: Claim) {
        let Some(own) = self.own.get_mut(&claim.path) else {
            return;
        };
        if self.claims.len() >= Routes::CLAIMS_MAX {
            return;
        }
        let told = own.told.replace(claim.shard as u16);
        let moved = told.filter(|told| usize::from(*told) != claim.shard);
        self.claims.extend(moved.map(|told| Claim {
            shard: usize::from(told),
            hold: Hold::Ended,
            ..claim
        }));
        self.claims.push_back(claim);
    }

    /// The path belongs to no peer of this shard any more.
    fn end(&mut self, path: Path) {
        let told = self.own.remove(&path).and_then(|own| own.told);
        self.claims.extend(told.map(|told| Claim {
            shard: usize::from(told),
            owner: self.shard,
            path,
            hold: Hold::Ended,
        }));
    }
}

fn is_heard_at(peers: &Peers, now: Instant, peer: PeerIndex, path: Path) -> bool {
    let peer = peers.get(peer);
    peer.is_some_and(|peer| peer.transport.is_heard_at(now, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::LocalSocket;

    /// There is one for each path of every viewer.
    #[test]
    fn what_a_path_takes_is_bounded() {
        assert!(size_of::<(Path, OwnPath)>() <= 44);
    }

    #[test]
    fn clients_with_one_address_are_told_apart_by_the_local_socket() {
        let mut routes = Routes::new(0, Arc::default());
        let [first, second, third] = [0, 1, 2].map(|local| Path {
            local: LocalSocket(local),
            ..Path::udp(([192, 0, 2, 1], 5_000).into())
        });
        routes.take(first, PeerIndex(3));
        routes.take(second, PeerIndex(4));
        assert_eq!(
            [first, second, third].map(|path| routes.peer(path)),
            [Some(PeerIndex(3)), Some(PeerIndex(4)), None]
        );
        routes.forget(PeerIndex(3), second);
        routes.forget(PeerIndex(3), first);
        assert_eq!(
            [first, second].map(|path| routes.peer(path)),
            [None, Some(PeerIndex(4))]
        );
    }
}

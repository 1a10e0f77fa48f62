//! How much of what there is a single address may take, so that no address takes everything from all others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onecast_control::admission::network;

/// Counts what each address has taken. As many addresses are in it as have something at this moment.
#[derive(Debug)]
pub(crate) struct Crowding {
    each_max: usize,
    /// What an address is counted under; `None` for one without a bound.
    network: fn(IpAddr) -> Option<IpAddr>,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// Something that is taken, until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    of: Arc<Crowding>,
    /// `None` for an address without a bound.
    address: Option<IpAddr>,
}

impl Crowding {
    /// Each address may take `each_max`; one /64 of IPv6 is an address. This machine's own have no bound: a proxy there stands for
    /// everybody.
    pub(crate) fn new(each_max: usize) -> Arc<Crowding> {
        Crowding::counting(each_max, network)
    }

    fn counting(each_max: usize, network: fn(IpAddr) -> Option<IpAddr>) -> Arc<Crowding> {
        Arc::new(Crowding {
            each_max,
            network,
            taken: Mutex::default(),
        })
    }

    /// Counts this machine's own addresses, too: tests have no others.
    #[cfg(test)]
    pub(crate) fn of_everybody(each_max: usize) -> Arc<Crowding> {
        Crowding::counting(each_max, Some)
    }

    /// `None` when the address has as much as it may.
    pub(crate) fn take(self: &Arc<Crowding>, address: IpAddr) -> Option<Taken> {
        let address = (self.network)(address);
        if let Some(address) = address {
            let mut taken = self.taken();
            let has = taken.entry(address).or_default();
            if *has >= self.each_max {
                return None;
            }
            *has += 1;
        }
        let of = self.clone();
        Some(Taken { of, address })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing that is done under this lock can panic half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut taken = self.of.taken();
        let left = taken.get(&address).map_or(0, |has| has.saturating_sub(1));
        if left == 0 {
            taken.remove(&address);
        } else {
            taken.insert(address, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_takes_no_more_than_its_part_and_gives_it_back() {
        let crowding = Crowding::new(2);
        let (first, second) = (
            crowding.take(address("192.0.2.1")).unwrap(),
            crowding.take(address("::ffff:192.0.2.1")).unwrap(),
        );
        assert!(crowding.take(address("192.0.2.1")).is_none());
        assert!(crowding.take(address("192.0.2.2")).is_some(), "others have their own");
        drop(first);
        let third = crowding.take(address("192.0.2.1")).unwrap();
        assert!(crowding.take(address("192.0.2.1")).is_none());
        drop((second, third));
        assert!(crowding.taken().is_empty(), "who has nothing is forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_this_machine_has_no_bound() {
        let crowding = Crowding::new(1);
        let _first = crowding.take(address("2001:db8::1")).unwrap();
        assert!(crowding.take(address("2001:db8::ffff:1")).is_none());
        assert!(crowding.take(address("2001:db8:0:1::1")).is_some());
        let _own: Vec<_> = (0..9).map(|_| crowding.take(address("127.0.0.1")).unwrap()).collect();
        assert!(crowding.take(address("::1")).is_some());
    }
}

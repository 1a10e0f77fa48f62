//! A limit per client address, so that a single address cannot exhaust a shared resource.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onecast_control::admission::network;

/// Counts the permits of each address. Only addresses that hold permits are in the table.
#[derive(Debug)]
pub(crate) struct PerIpLimit {
    each_max: usize,
    /// The key that an address is counted under; `None` for an address without a limit.
    network: fn(IpAddr) -> Option<IpAddr>,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// One of the permits of an address; returned when dropped.
#[derive(Debug)]
pub(crate) struct IpPermit {
    of: Arc<PerIpLimit>,
    /// `None` for an address without a limit.
    address: Option<IpAddr>,
}

impl PerIpLimit {
    /// Allows each address `each_max` permits. A /64 of IPv6 counts as one address. Loopback addresses have no limit, because a proxy
    /// there represents many clients.
    pub(crate) fn new(each_max: usize) -> Arc<PerIpLimit> {
        PerIpLimit::counting(each_max, network)
    }

    fn counting(each_max: usize, network: fn(IpAddr) -> Option<IpAddr>) -> Arc<PerIpLimit> {
        Arc::new(PerIpLimit {
            each_max,
            network,
            taken: Mutex::default(),
        })
    }

    /// Counts loopback addresses as well: tests have no others.
    #[cfg(test)]
    pub(crate) fn including_loopback(each_max: usize) -> Arc<PerIpLimit> {
        PerIpLimit::counting(each_max, Some)
    }

    /// Takes a permit; `None` if the address has reached its limit.
    pub(crate) fn acquire(self: &Arc<PerIpLimit>, address: IpAddr) -> Option<IpPermit> {
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
        Some(IpPermit { of, address })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // No code under this lock can panic half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for IpPermit {
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
    fn an_address_has_a_limit_and_returns_its_permits() {
        let per_ip = PerIpLimit::new(2);
        let (first, second) = (
            per_ip.acquire(address("192.0.2.1")).unwrap(),
            per_ip.acquire(address("::ffff:192.0.2.1")).unwrap(),
        );
        assert!(per_ip.acquire(address("192.0.2.1")).is_none());
        assert!(per_ip.acquire(address("192.0.2.2")).is_some(), "others have their own");
        drop(first);
        let third = per_ip.acquire(address("192.0.2.1")).unwrap();
        assert!(per_ip.acquire(address("192.0.2.1")).is_none());
        drop((second, third));
        assert!(per_ip.taken().is_empty(), "addresses without permits are removed");
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_loopback_has_no_limit() {
        let per_ip = PerIpLimit::new(1);
        let _first = per_ip.acquire(address("2001:db8::1")).unwrap();
        assert!(per_ip.acquire(address("2001:db8::ffff:1")).is_none());
        assert!(per_ip.acquire(address("2001:db8:0:1::1")).is_some());
        let _own: Vec<_> = (0..9).map(|_| per_ip.acquire(address("127.0.0.1")).unwrap()).collect();
        assert!(per_ip.acquire(address("::1")).is_some());
    }
}

//! Slows down clients that guess tokens: an address may fail a few times at once, then only at a slow rate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use onecast_control::admission;

/// Failed attempts by address. IPv6 addresses are grouped by /64, the usual network of one customer.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// When all failures of an address will be forgiven. Addresses without failures are not in the table.
    spent: HashMap<IpAddr, Instant>,
    /// The same for all addresses together that do not fit into the table.
    others: Option<Instant>,
}

impl Throttle {
    /// Failures that an address may have at once.
    pub(super) const FAILURES_MAX: u32 = 10;
    /// Interval at which one failure is forgiven.
    pub(super) const FORGIVEN_EVERY: Duration = Duration::from_secs(2);
    /// Size of the table.
    pub(super) const ADDRESSES_MAX: usize = 4_096;

    /// Whether the address has reached its limit of failures.
    pub(super) fn is_spent(&self, now: Instant, address: IpAddr) -> bool {
        let full_at = self.spent.get(&network(address)).copied();
        let shared = || self.others.filter(|_| self.spent.len() >= Throttle::ADDRESSES_MAX);
        full_at
            .or_else(shared)
            .is_some_and(|full_at| full_at.saturating_duration_since(now) > Throttle::ROOM)
    }

    /// Records a failure. False if the limit was reached before.
    pub(super) fn failed(&mut self, now: Instant, address: IpAddr) -> bool {
        if self.is_spent(now, address) {
            return false;
        }
        let address = network(address);
        if self.spent.len() >= Throttle::ADDRESSES_MAX && !self.spent.contains_key(&address) {
            self.spent.retain(|_, full_at| *full_at > now);
        }
        let full_at = if self.spent.len() < Throttle::ADDRESSES_MAX || self.spent.contains_key(&address) {
            self.spent.entry(address).or_insert(now)
        } else {
            self.others.get_or_insert(now)
        };
        *full_at = (*full_at).max(now) + Throttle::FORGIVEN_EVERY;
        true
    }

    /// With more than this left to be forgiven, the limit is reached.
    const ROOM: Duration =
        Duration::from_secs(Throttle::FORGIVEN_EVERY.as_secs() * (Throttle::FAILURES_MAX as u64 - 1));
}

/// Loopback is not exempt: guessing through a proxy on this machine is slowed down as well.
fn network(address: IpAddr) -> IpAddr {
    admission::network(address).unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_may_fail_a_few_times_and_then_at_a_slow_rate() {
        let (mut throttle, now) = (Throttle::default(), onecast_udp::clock::now());
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..Throttle::FAILURES_MAX {
            assert!(!throttle.is_spent(now, bad) && throttle.failed(now, bad));
        }
        assert!(throttle.is_spent(now, bad) && !throttle.failed(now, bad));
        assert!(!throttle.is_spent(now, good) && throttle.failed(now, good));

        let later = now + Throttle::FORGIVEN_EVERY;
        assert!(throttle.failed(later, bad) && !throttle.failed(later, bad));
        let much_later = now + Duration::from_secs(3_600);
        let again = (0..100).filter(|_| throttle.failed(much_later, bad)).count();
        assert_eq!(again, Throttle::FAILURES_MAX as usize);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let (mut throttle, now) = (Throttle::default(), onecast_udp::clock::now());
        for host in 0..Throttle::FAILURES_MAX {
            assert!(throttle.failed(now, address(&format!("2001:db8::{host:x}"))));
        }
        assert!(!throttle.failed(now, address("2001:db8::ffff")));
        assert!(throttle.failed(now, address("2001:db8:0:1::1")));
    }

    #[test]
    fn many_addresses_use_bounded_memory_and_share_a_limit() {
        let (mut throttle, now) = (Throttle::default(), onecast_udp::clock::now());
        let failed = (0..20_000u32)
            .filter(|&number| throttle.failed(now, IpAddr::from(number.to_be_bytes())))
            .count();
        assert_eq!(throttle.spent.len(), Throttle::ADDRESSES_MAX);
        assert_eq!(failed, Throttle::ADDRESSES_MAX + Throttle::FAILURES_MAX as usize);
        // Entries expire with time.
        let later = now + Throttle::FORGIVEN_EVERY;
        assert!(throttle.failed(later, address("203.0.113.1")));
    }
}

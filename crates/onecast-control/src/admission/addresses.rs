//! How many offers each address has made in the last second: a token bucket for each that has taken something out of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{BURST, class};
use crate::Purpose;

/// The buckets. Each holds one second's worth, so that an address is full again, and forgotten, a second after its last offer.
#[derive(Debug)]
pub(super) struct Addresses {
    per_second: u32,
    /// Until when the bucket is not full, as `TokenBucket` keeps it.
    spent: HashMap<(IpAddr, usize), Instant>,
    swept: Option<Instant>,
}

impl Addresses {
    /// Buckets at once. Only offers that have passed every other bound have one, so this is as many as are let in in a second and more;
    /// beyond it, addresses have no bound of their own for as long.
    const ADDRESSES_MAX: usize = 65_536;

    /// Buckets of `per_second` tokens, at least 1.
    pub(super) fn new(per_second: u32) -> Addresses {
        Addresses {
            per_second: per_second.max(1),
            spent: HashMap::new(),
            swept: None,
        }
    }

    /// Other buckets from now on, as full as these.
    pub(super) fn set_per_second(&mut self, per_second: u32) {
        self.per_second = per_second.max(1);
    }

    /// Tokens a second.
    pub(super) fn per_second(&self) -> u32 {
        self.per_second
    }

    /// Whether the address has a token left.
    pub(super) fn has_token(&self, now: Instant, address: IpAddr, purpose: Purpose) -> bool {
        let spent = self.spent.get(&(address, class(purpose)));
        spent.is_none_or(|&spent| spent.saturating_duration_since(now) + self.period() <= BURST)
    }

    /// Takes a token of the address.
    pub(super) fn take(&mut self, now: Instant, address: IpAddr, purpose: Purpose) {
        self.sweep(now);
        let key = (address, class(purpose));
        if self.spent.len() >= Addresses::ADDRESSES_MAX && !self.spent.contains_key(&key) {
            return;
        }
        let period = self.period();
        let spent = self.spent.entry(key).or_insert(now);
        *spent = (*spent).max(now) + period;
    }

    /// Forgets those whose buckets are full again, once a second.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now < swept + BURST) {
            return;
        }
        self.swept = Some(now);
        self.spent.retain(|_, spent| *spent > now);
    }

    fn period(&self) -> Duration {
        BURST / self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + number).into())
    }

    /// How many of `count` offers at once have a token.
    fn taken(addresses: &mut Addresses, now: Instant, from: IpAddr, count: usize) -> usize {
        let mut offer = || {
            let has = addresses.has_token(now, from, Purpose::Watch);
            has.then(|| addresses.take(now, from, Purpose::Watch)).is_some()
        };
        (0..count).filter(|_| offer()).count()
    }

    #[test]
    fn an_address_has_a_second_s_worth_at_once_and_then_its_rate() {
        let now = onecast_udp::clock::now();
        let mut addresses = Addresses::new(10);
        assert_eq!(taken(&mut addresses, now, address(1), 50), 10);
        assert_eq!(taken(&mut addresses, now, address(2), 50), 10);
        assert_eq!(
            taken(&mut addresses, now + Duration::from_millis(300), address(1), 50),
            3
        );
        assert!(addresses.has_token(now, address(1), Purpose::Publish));
    }

    #[test]
    fn the_table_forgets_and_is_bounded() {
        let now = onecast_udp::clock::now();
        let mut addresses = Addresses::new(10);
        for number in 0..100_000 {
            addresses.take(now, address(number), Purpose::Watch);
        }
        assert_eq!(addresses.spent.len(), Addresses::ADDRESSES_MAX);
        // Known ones still have their bound, the others none.
        assert_eq!(taken(&mut addresses, now, address(0), 50), 9);
        assert_eq!(taken(&mut addresses, now, address(99_999), 50), 50);
        addresses.take(now + Duration::from_secs(2), address(1), Purpose::Watch);
        assert_eq!(addresses.spent.len(), 1);
    }
}

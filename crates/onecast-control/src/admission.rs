//! Admission control: whether a client may join now. It comes before everything else, so a refused client costs little.
//!
//! Four bounds, the cheapest and narrowest first: half-open sessions of one address, half-open sessions in all, and token buckets of the
//! address and of all.
//! A session is *half-open* from the answer to its offer until its handshake is finished or it has ended. Every shard expects every
//! half-open session, because its client may be heard first on any of them; so the bound of all is the bound of each shard, too.
//! Publishers have bounds of their own: a crowd of viewers does not keep them out.

mod addresses;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::registry::Purpose;
use addresses::Addresses;
use onecast_metrics::{AdmissionCounters, AdmissionCounts};

/// Bounds of admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Viewers' offers taken a second, at least 1; as many may come in one burst.
    pub joins_per_second: u32,
    /// Most viewers that are half-open.
    pub half_open: u32,
    /// Most clients of one address that are half-open, viewers and publishers each.
    pub half_open_per_address: u32,
    /// Offers of one address taken a second, of viewers and publishers each, at least 1; as many may come in one burst.
    pub joins_per_address: u32,
}

/// A client that asks to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its purpose.
    pub purpose: Purpose,
    /// The address of its request.
    pub address: IpAddr,
}

/// A refusal: the client should come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// What the client wanted.
    pub purpose: Purpose,
    /// Which bound is reached.
    pub cause: BusyCause,
    /// The bound: clients, or clients a second.
    pub max: u32,
    /// The client should come back after this many seconds at the earliest ..
    pub earliest_s: u16,
    /// .. and this many at the latest, at random: clients that were refused together must not return together.
    pub latest_s: u16,
}

/// The bound that keeps a client out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusyCause {
    /// Offers a second.
    Rate,
    /// Half-open sessions in all.
    HalfOpen,
    /// Half-open sessions of one address.
    Address,
    /// Offers a second of one address.
    AddressRate,
}

/// Decides whether clients may join now.
#[derive(Debug)]
pub struct Admission {
    half_open_per_address: u32,
    viewers: Queue,
    publishers: Queue,
    /// Half-open viewers and publishers by address; an address without any is not in here.
    addresses: HashMap<IpAddr, [u32; 2]>,
    paces: Addresses,
    counters: AdmissionCounters,
}

impl Default for AdmissionLimits {
    /// A join costs the server 0.25 ms of CPU or more (docs/PERFORMANCE.md): 1,000 a second are a quarter to a third of a core. 4,096 half-open
    /// sessions are four seconds of that rate; a handshake over a long way takes a quarter of one. 64 of an address are a large
    /// office that clicks at once, and as many a second are more than one ever is again.
    fn default() -> AdmissionLimits {
        AdmissionLimits {
            joins_per_second: 1_000,
            half_open: 4_096,
            half_open_per_address: 64,
            joins_per_address: 64,
        }
    }
}

impl Admission {
    /// Publishers' offers taken a second: more than come when all encoders of a large server return after its restart, far fewer than
    /// could hurt.
    pub const PUBLISHERS_PER_SECOND: u32 = 100;
    /// Most publishers that are half-open, however fast they came: one without a sign of life keeps its place for five seconds.
    pub const PUBLISHERS_HALF_OPEN_MAX: u32 = 256;

    /// With full buckets and no half-open session.
    pub fn new(limits: AdmissionLimits) -> Admission {
        Admission {
            half_open_per_address: limits.half_open_per_address,
            viewers: Queue::new(limits.joins_per_second, limits.half_open),
            publishers: Queue::new(Admission::PUBLISHERS_PER_SECOND, Admission::PUBLISHERS_HALF_OPEN_MAX),
            addresses: HashMap::new(),
            paces: Addresses::new(limits.joins_per_address),
            counters: AdmissionCounters::default(),
        }
    }

    /// Applies other bounds. Half-open sessions stay.
    pub fn set_limits(&mut self, limits: AdmissionLimits) {
        self.half_open_per_address = limits.half_open_per_address;
        self.paces.set_per_second(limits.joins_per_address);
        self.viewers.half_open_max = limits.half_open;
        if self.viewers.bucket.per_second != limits.joins_per_second {
            self.viewers.bucket = TokenBucket::new(limits.joins_per_second);
        }
    }

    /// A client comes with an offer that counts for nothing yet. Takes a token if the client may go on.
    ///
    /// # Errors
    /// When a bound is reached. Clients that their own address keeps out take no token.
    pub fn admit(&mut self, now: Instant, caller: Caller) -> Result<(), Busy> {
        self.check(now, caller)?;
        self.queue(caller.purpose).bucket.take(now);
        if let Some(address) = network(caller.address) {
            self.paces.take(now, address, caller.purpose);
        }
        Ok(())
    }

    /// The same for a client that has not sent its offer yet. It takes no token: the client may never send one.
    ///
    /// # Errors
    /// When a bound is reached.
    pub fn check(&mut self, now: Instant, caller: Caller) -> Result<(), Busy> {
        self.room(now, caller)?;
        let has_token = |address| self.paces.has_token(now, address, caller.purpose);
        if !network(caller.address).is_none_or(has_token) {
            let max = self.paces.per_second();
            return Err(self.refuse(now, caller, BusyCause::AddressRate, max));
        }
        let queue = self.queue(caller.purpose);
        if queue.bucket.has_token(now) {
            return Ok(());
        }
        let max = queue.bucket.per_second;
        Err(self.refuse(now, caller, BusyCause::Rate, max))
    }

    /// Whether another half-open session of the caller has room.
    ///
    /// # Errors
    /// When it has not.
    pub fn room(&mut self, now: Instant, caller: Caller) -> Result<(), Busy> {
        let of_address = network(caller.address).and_then(|address| self.addresses.get(&address));
        if of_address.is_some_and(|half_open| half_open[class(caller.purpose)] >= self.half_open_per_address) {
            let max = self.half_open_per_address;
            return Err(self.refuse(now, caller, BusyCause::Address, max));
        }
        let queue = self.queue(caller.purpose);
        if queue.half_open >= queue.half_open_max {
            let max = queue.half_open_max;
            return Err(self.refuse(now, caller, BusyCause::HalfOpen, max));
        }
        Ok(())
    }

    /// A session of the caller is half-open from now on, until [`settled`](Self::settled).
    pub fn opened(&mut self, caller: Caller) {
        self.queue(caller.purpose).half_open += 1;
        if let Some(address) = network(caller.address) {
            self.addresses.entry(address).or_default()[class(caller.purpose)] += 1;
        }
        self.count_half_open();
    }

    /// A half-open session of the caller has finished its handshake, or has ended without.
    pub fn settled(&mut self, caller: Caller) {
        self.queue(caller.purpose).half_open -= 1;
        if let Some(address) = network(caller.address)
            && let Some(half_open) = self.addresses.get_mut(&address)
        {
            half_open[class(caller.purpose)] -= 1;
            if *half_open == [0; 2] {
                self.addresses.remove(&address);
            }
        }
        self.count_half_open();
    }

    /// What happened so far.
    pub fn read(&self) -> AdmissionCounts {
        self.counters.read()
    }

    fn refuse(&mut self, now: Instant, caller: Caller, cause: BusyCause, max: u32) -> Busy {
        let counter = match cause {
            BusyCause::Rate => &self.counters.refused_rate,
            BusyCause::HalfOpen => &self.counters.refused_half_open,
            BusyCause::Address => &self.counters.refused_address,
            BusyCause::AddressRate => &self.counters.refused_address_rate,
        };
        counter.add(1);
        // One address that asks too often must not move all other clients to the end of the queue.
        let turn_s = match cause {
            BusyCause::Address | BusyCause::AddressRate => 0,
            BusyCause::Rate | BusyCause::HalfOpen => self.queue(caller.purpose).bucket.queue(now).as_secs() as u16,
        };
        Busy {
            purpose: caller.purpose,
            cause,
            max,
            earliest_s: turn_s + 1,
            latest_s: turn_s + 5 + turn_s / 2,
        }
    }

    fn queue(&mut self, purpose: Purpose) -> &mut Queue {
        match purpose {
            Purpose::Watch | Purpose::Participate => &mut self.viewers,
            Purpose::Publish => &mut self.publishers,
        }
    }

    fn count_half_open(&self) {
        let half_open = self.viewers.half_open + self.publishers.half_open;
        self.counters.half_open.set(half_open.into());
    }
}

/// Members of rooms stand in the viewers' queue: a call of a hundred begins at once, too.
const fn class(purpose: Purpose) -> usize {
    match purpose {
        Purpose::Publish => 0,
        Purpose::Watch | Purpose::Participate => 1,
    }
}

/// The bounds of viewers, or those of publishers.
#[derive(Debug)]
struct Queue {
    bucket: TokenBucket,
    half_open: u32,
    half_open_max: u32,
}

impl Queue {
    fn new(per_second: u32, half_open_max: u32) -> Queue {
        Queue {
            bucket: TokenBucket::new(per_second),
            half_open: 0,
            half_open_max,
        }
    }
}

/// A token bucket that holds one second's worth, kept as points in time: a token is a `period`, and the bucket is as empty as `spent` lies
/// ahead. Refused clients stand in a queue of the same kind, which says when they should return.
#[derive(Debug)]
struct TokenBucket {
    per_second: u32,
    period: Duration,
    spent: Option<Instant>,
    queued: Option<Instant>,
}

impl TokenBucket {
    fn new(per_second: u32) -> TokenBucket {
        let per_second = per_second.max(1);
        TokenBucket {
            per_second,
            period: BURST / per_second,
            spent: None,
            queued: None,
        }
    }

    fn has_token(&self, now: Instant) -> bool {
        self.after_one_more(now).saturating_duration_since(now) <= BURST
    }

    fn take(&mut self, now: Instant) {
        self.spent = Some(self.after_one_more(now));
    }

    fn after_one_more(&self, now: Instant) -> Instant {
        self.spent.map_or(now, |spent| spent.max(now)) + self.period
    }

    /// The turn of one more refused client, from `now` on: when the bucket will have had tokens for all that were refused before.
    fn queue(&mut self, now: Instant) -> Duration {
        let turn = self.queued.map_or(now, |queued| queued.max(now)) + self.period;
        let turn = turn.min(now + QUEUE_MAX);
        self.queued = Some(turn);
        turn.saturating_duration_since(now)
    }
}

/// What an address is counted under: a household has a /64 of IPv6 addresses at least. `None` for this machine's own, where
/// a reverse proxy that is not trusted, or a test, stands for all clients there are.
pub fn network(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        own if own.is_loopback() => None,
        IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
        ip => Some(ip),
    }
}

/// A page that thousands have open when the broadcast begins brings them within a second.
const BURST: Duration = Duration::from_secs(1);
/// No client is sent away for longer: a viewer has given up by then.
const QUEUE_MAX: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;

//! The addresses of one client: which are alive, which are proven, and which one is selected.
//!
//! A check with the right password shows that its sender knows the session. It does not show that the sender is at the address that the
//! datagram names: anyone may write the address of somebody else there. So consent belongs to an address. An address is **proven** when
//! its client has answered something there that only a receiver can answer. Until then it gets at most [`AMPLIFICATION_MAX`] times what
//! came from it, and no media.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::ice::probe::Transaction;

/// The addresses that passed a check, the selected one first.
#[derive(Default)]
pub(super) struct Paths {
    list: Vec<Path>,
    /// No longer in the list; the caller has not been told yet.
    lost: Vec<SocketAddr>,
    /// A flight of the handshake went to an address that is no longer in the list.
    scattered: bool,
}

/// One address of the client.
pub(super) struct Path {
    pub(super) at: SocketAddr,
    /// The last sign of life from there: a check, an answer to our request, or authentic media.
    pub(super) heard: Instant,
    /// Flights of the handshake that were sent there.
    flights: u8,
    /// `None` once the address is proven.
    unproven: Option<Box<Unproven>>,
}

/// What is known of an address that anyone may have written into a datagram.
#[derive(Default)]
struct Unproven {
    received: u32,
    sent: u32,
    checks: u8,
    /// Authentic media came from there.
    has_media: bool,
    /// The client nominated it last, in this ICE session: it is selected as soon as it is proven.
    wanted: Option<u32>,
    /// Number of the ICE session that its last check was made in.
    ice: u32,
    probe: Option<Probe>,
}

/// Our binding request to an address.
#[derive(Clone, Copy)]
struct Probe {
    transaction: Transaction,
    /// When to send it again.
    at: Option<Instant>,
    wait: Duration,
}

/// A nomination that takes effect: the path is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nomination {
    /// The ICE session in which the client nominated.
    pub(super) ice: u32,
}

impl Paths {
    /// The address that media and flights go to.
    pub(super) fn selected(&self) -> Option<&Path> {
        self.list.first()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.list.iter()
    }

    pub(super) fn get(&self, at: SocketAddr) -> Option<&Path> {
        self.list.iter().find(|path| path.at == at)
    }

    fn place(&self, at: SocketAddr) -> Option<usize> {
        self.list.iter().position(|path| path.at == at)
    }

    fn unproven(&mut self, at: SocketAddr) -> Option<&mut Unproven> {
        let path = self.list.iter_mut().find(|path| path.at == at)?;
        path.unproven.as_deref_mut()
    }

    /// A check of an ICE session passed. True if the address is new: the one that is worth least may have made way for it.
    pub(super) fn note_check(&mut self, now: Instant, from: SocketAddr, len: usize, ice: u32) -> bool {
        let known = self.place(from);
        let place = known.unwrap_or_else(|| self.add(now, from));
        let path = &mut self.list[place];
        path.heard = now;
        if let Some(unproven) = &mut path.unproven {
            unproven.received = unproven.received.saturating_add(len as u32);
            unproven.checks = unproven.checks.saturating_add(1);
            unproven.ice = ice;
        }
        known.is_none()
    }

    fn add(&mut self, now: Instant, at: SocketAddr) -> usize {
        if self.list.len() >= CHECKED_MAX {
            let others = self.list.iter().enumerate().skip(1);
            let least = others.min_by_key(|(_, path)| (path.is_proven(), path.heard));
            if let Some((place, _)) = least {
                self.remove(place);
            }
        }
        self.list.reserve_exact(1);
        self.list.push(Path {
            at,
            heard: now,
            flights: 0,
            unproven: Some(Box::default()),
        });
        self.list.len() - 1
    }

    fn remove(&mut self, place: usize) {
        let path = self.list.remove(place);
        self.scattered |= path.flights > 0;
        self.lost.push(path.at);
    }

    /// Addresses that ceased to count since the last call.
    pub(super) fn poll_lost(&mut self) -> Option<SocketAddr> {
        self.lost.pop()
    }

    /// Authentic media came from the selected address. False if it came from another one.
    pub(super) fn note_media(&mut self, now: Instant, from: SocketAddr) -> bool {
        match self.list.first_mut() {
            Some(selected) if selected.at == from => {
                selected.heard = now;
                true
            }
            _ => false,
        }
    }

    /// Authentic media came from another address than the selected one. True if this and its checks are enough to send it feedback.
    pub(super) fn note_media_elsewhere(&mut self, now: Instant, from: SocketAddr) -> bool {
        let Some(place) = self.place(from) else { return false };
        let path = &mut self.list[place];
        path.heard = now;
        path.unproven.as_mut().is_some_and(|unproven| {
            unproven.has_media = true;
            unproven.received = unproven.received.saturating_add(MEDIA_LEN_MIN);
            if let Some(probe) = &mut unproven.probe {
                probe.at.get_or_insert(now + probe.wait);
            }
            unproven.checks >= CHECKS_BESIDE_MEDIA
        })
    }

    /// See [`note_media_elsewhere`](Self::note_media_elsewhere): the check may come after the media.
    pub(super) fn is_fit_for_feedback(&self, at: SocketAddr) -> bool {
        let unproven = self.get(at).and_then(|path| path.unproven.as_ref());
        unproven.is_some_and(|unproven| unproven.has_media && unproven.checks >= CHECKS_BESIDE_MEDIA)
    }

    pub(super) fn note_received(&mut self, from: SocketAddr, len: usize) {
        if let Some(unproven) = self.unproven(from) {
            unproven.received = unproven.received.saturating_add(len as u32);
        }
    }

    pub(super) fn note_sent(&mut self, to: SocketAddr, len: usize) {
        if let Some(unproven) = self.unproven(to) {
            unproven.sent = unproven.sent.saturating_add(len as u32);
        }
    }

    /// Whether so many bytes more may go to the address.
    fn may_send(&self, to: SocketAddr, len: usize) -> bool {
        self.get(to).is_some_and(|path| match &path.unproven {
            Some(unproven) => unproven.sent as usize + len <= AMPLIFICATION_MAX * unproven.received as usize,
            None => true,
        })
    }

    /// Counts a flight of so many bytes. False if it must not be sent.
    pub(super) fn take_flight(&mut self, to: SocketAddr, len: usize) -> bool {
        let is_within = self.may_send(to, len);
        let Some(place) = self.place(to) else { return false };
        let path = &mut self.list[place];
        let is_free = path.flights < FREE_FLIGHTS;
        if !is_free && !is_within {
            return false;
        }
        path.flights = path.flights.saturating_add(1);
        if !is_free {
            self.note_sent(to, len);
        }
        true
    }

    /// Whether all flights so far went to this address: then its client has seen what the next message proves that it has seen.
    pub(super) fn all_flights_went_to(&self, at: SocketAddr) -> bool {
        let elsewhere = self.list.iter().any(|path| path.at != at && path.flights > 0);
        !self.scattered && !elsewhere
    }

    /// The client nominated the address. Returns the nomination if it takes effect at once.
    pub(super) fn nominate(&mut self, at: SocketAddr, ice: u32, is_connected: bool) -> Option<Nomination> {
        let place = self.place(at)?;
        for path in &mut self.list {
            if let Some(unproven) = &mut path.unproven {
                unproven.wanted = (path.at == at).then_some(ice);
            }
        }
        if is_connected && !self.list[place].is_proven() {
            return None;
        }
        self.list.swap(0, place);
        Some(Nomination { ice })
    }

    /// The client has shown that it is at the address. Returns the nomination that takes effect by this, if there was one.
    pub(super) fn prove(&mut self, at: SocketAddr) -> Option<Nomination> {
        let place = self.place(at)?;
        let unproven = self.list[place].unproven.take()?;
        if let Some(ice) = unproven.wanted {
            self.list.swap(0, place);
            return Some(Nomination { ice });
        }
        if let Some(selected) = &mut self.list[0].unproven {
            // Better a proven one meanwhile.
            selected.wanted = Some(selected.ice);
            self.list.swap(0, place);
        }
        None
    }

    /// The answer to our request of that address, if it is one.
    pub(super) fn is_answered(&self, from: SocketAddr, is_answered: impl Fn(&Transaction) -> bool) -> bool {
        let unproven = self.get(from).and_then(|path| path.unproven.as_ref());
        let probe = unproven.and_then(|unproven| unproven.probe);
        probe.is_some_and(|probe| is_answered(&probe.transaction))
    }

    pub(super) fn note_heard(&mut self, now: Instant, at: SocketAddr) {
        if let Some(place) = self.place(at) {
            self.list[place].heard = now;
        }
    }

    /// Leaves the selected address if it has been silent while another proven one was heard of. True if so.
    pub(super) fn leave_silent(&mut self, now: Instant) -> bool {
        let Some(selected) = self.list.first().filter(|path| now >= path.heard + SILENT) else {
            return false;
        };
        let others = self.list.iter().enumerate().skip(1);
        let alive = others.filter(|(_, path)| path.is_proven() && path.heard > selected.heard);
        let Some((place, _)) = alive.max_by_key(|(_, path)| path.heard) else {
            return false;
        };
        self.list.swap(0, place);
        true
    }

    /// Addresses other than the selected one do not count any longer than consent lasts.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(place) = (1..self.list.len()).find(|&place| now >= self.list[place].expiry()) {
            self.remove(place);
        }
    }

    /// The next moment at which a path has to be left or forgotten.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let (selected, others) = self.list.split_first()?;
        let alive = |path: &Path| path.is_proven() && path.heard > selected.heard;
        let silent = others.iter().any(alive).then_some(selected.heard + SILENT);
        let expiries = others.iter().map(Path::expiry);
        expiries.chain(silent).chain([selected.expiry()]).min()
    }

    /// When a request is to be sent again.
    pub(super) fn probe_due(&self) -> Option<Instant> {
        let unproven = self.list.iter().filter_map(|path| path.unproven.as_ref());
        unproven.filter_map(|unproven| unproven.probe?.at).min()
    }

    /// The address whose request is to be sent again now. It waits twice as long the time after.
    pub(super) fn take_due_probe(&mut self, now: Instant) -> Option<SocketAddr> {
        self.list.iter_mut().find_map(|path| {
            let probe = path.unproven.as_mut()?.probe.as_mut()?;
            probe.at.take_if(|at| *at <= now)?;
            probe.wait = (2 * probe.wait).min(PROBE_INTERVAL_MAX);
            Some(path.at)
        })
    }

    /// The request to an unproven address and the ICE session that it is made in. It has a transaction until it is answered.
    pub(super) fn probe(&mut self, at: SocketAddr, tag: u32) -> Option<(Transaction, u32)> {
        let unproven = self.unproven(at)?;
        if unproven.probe.is_none() {
            let transaction = Transaction::new(tag)?;
            let wait = PROBE_INTERVAL;
            let at = None;
            unproven.probe = Some(Probe { transaction, at, wait });
        }
        unproven.probe.map(|probe| (probe.transaction, unproven.ice))
    }

    /// Whether the request of so many bytes may be sent: notes that it is, and when it is due again. One that is too much for now is due
    /// again when the client's media comes from there, which makes room for it.
    pub(super) fn take_probe(&mut self, now: Instant, to: SocketAddr, len: usize) -> bool {
        let may_send = self.may_send(to, len);
        if may_send {
            self.note_sent(to, len);
        }
        if let Some(unproven) = self.unproven(to)
            && let Some(probe) = unproven.probe.as_mut()
            && (may_send || unproven.has_media)
        {
            probe.at = Some(now + probe.wait);
        }
        may_send
    }
}

impl Path {
    pub(super) fn is_proven(&self) -> bool {
        self.unproven.is_none()
    }

    /// When consent for the address ends.
    pub(super) fn expiry(&self) -> Instant {
        self.heard + super::CONSENT_TIMEOUT
    }
}

/// Addresses of one client that count as checked: its networks times two families, and the ports of a NAT.
pub const CHECKED_MAX: usize = 8;
/// An address that has been silent for so long is left for another one that is alive. Consent is refreshed every 4 to 6 s (RFC 7675 section
/// 5.1), media and reports come more often; a second is for the network.
pub const SILENT: Duration = Duration::from_secs(7);
/// What an unproven address gets for each byte from it, as in QUIC (RFC 9000 section 8.1).
const AMPLIFICATION_MAX: usize = 3;
/// Flights of a handshake that go to an address whatever came from it: the first, and once more if it is lost.
const FREE_FLIGHTS: u8 = 2;
/// Checks from an address that, with authentic media, allow feedback to it: one more than a single forged datagram.
const CHECKS_BESIDE_MEDIA: u8 = 2;
/// No authentic packet is shorter: header of SRTCP, its index, and a tag of AES-GCM.
const MEDIA_LEN_MIN: u32 = 8 + 4 + 16;
/// A request that is never answered costs a timer a second, until the address is forgotten.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Until a request is sent again, doubled each time. A path's round trip is mostly shorter, and [`AMPLIFICATION_MAX`] allows two for a check.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

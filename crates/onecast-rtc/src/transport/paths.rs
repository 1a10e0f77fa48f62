//! The paths to one client: which are alive, which are proven, and which one is selected.
//!
//! A check with the right password shows that its sender knows the session. It does not show that the sender is at the source address of
//! the datagram, which can be forged. So consent belongs to an address (RFC 7675), and to the [`Path`] on which it was given. A path is
//! **proven** when the client has answered something there that only a receiver can answer. Until then it gets at most
//! [`AMPLIFICATION_MAX`] times what came on it, and no media.

use std::time::{Duration, Instant};

use crate::ice::probe::Transaction;
use crate::path::Path;

/// The paths that passed a check, the selected one first.
#[derive(Default)]
pub(super) struct Paths {
    list: Vec<PathState>,
    /// Paths that have left the list and have not been reported to the caller yet.
    lost: Vec<Path>,
    /// A flight of the handshake went to a path that is no longer in the list.
    scattered: bool,
}

/// What is known about one path.
pub(super) struct PathState {
    pub(super) path: Path,
    /// Time of the last check, answer to our request, or authentic packet from there.
    pub(super) heard: Instant,
    /// Number of flights of the handshake sent there.
    flights: u8,
    /// `None` once the path is proven.
    unproven: Option<Box<Unproven>>,
}

/// What is known about a path that may be forged.
#[derive(Default)]
struct Unproven {
    received: u32,
    sent: u32,
    checks: u8,
    /// Authentic media came from there.
    has_media: bool,
    /// The ICE session in which the client nominated this path last. The path is selected as soon as it is proven.
    wanted: Option<u32>,
    /// Number of the ICE session of its last check.
    ice: u32,
    probe: Option<Probe>,
}

/// The server's binding request on a path.
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
    /// The path that media and flights go to.
    pub(super) fn selected(&self) -> Option<&PathState> {
        self.list.first()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PathState> {
        self.list.iter()
    }

    pub(super) fn get(&self, at: Path) -> Option<&PathState> {
        self.list.iter().find(|path| path.path == at)
    }

    fn place(&self, at: Path) -> Option<usize> {
        self.list.iter().position(|path| path.path == at)
    }

    fn unproven(&mut self, at: Path) -> Option<&mut Unproven> {
        let path = self.list.iter_mut().find(|path| path.path == at)?;
        path.unproven.as_deref_mut()
    }

    /// A check of an ICE session passed. Returns true if the path is new. The least useful path may have made room for it.
    pub(super) fn note_check(&mut self, now: Instant, from: Path, len: usize, ice: u32) -> bool {
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

    fn add(&mut self, now: Instant, at: Path) -> usize {
        if self.list.len() >= CHECKED_MAX {
            let others = self.list.iter().enumerate().skip(1);
            let least = others.min_by_key(|(_, path)| (path.is_proven(), path.heard));
            if let Some((place, _)) = least {
                self.remove(place);
            }
        }
        self.list.reserve_exact(1);
        self.list.push(PathState {
            path: at,
            heard: now,
            flights: 0,
            unproven: Some(Box::default()),
        });
        self.list.len() - 1
    }

    fn remove(&mut self, place: usize) {
        let path = self.list.remove(place);
        self.scattered |= path.flights > 0;
        self.lost.push(path.path);
    }

    /// The next path that has left the list.
    pub(super) fn poll_lost(&mut self) -> Option<Path> {
        self.lost.pop()
    }

    /// Notes authentic media. Returns false if it came on another path than the selected one.
    pub(super) fn note_media(&mut self, now: Instant, from: Path) -> bool {
        match self.list.first_mut() {
            Some(selected) if selected.path == from => {
                selected.heard = now;
                true
            }
            _ => false,
        }
    }

    /// Notes authentic media on another path than the selected one. Returns true if this and its checks are enough to send it
    /// feedback.
    pub(super) fn note_media_elsewhere(&mut self, now: Instant, from: Path) -> bool {
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

    /// As [`note_media_elsewhere`](Self::note_media_elsewhere) returns: the check may come after the media.
    pub(super) fn is_fit_for_feedback(&self, at: Path) -> bool {
        let unproven = self.get(at).and_then(|path| path.unproven.as_ref());
        unproven.is_some_and(|unproven| unproven.has_media && unproven.checks >= CHECKS_BESIDE_MEDIA)
    }

    pub(super) fn note_received(&mut self, from: Path, len: usize) {
        if let Some(unproven) = self.unproven(from) {
            unproven.received = unproven.received.saturating_add(len as u32);
        }
    }

    pub(super) fn note_sent(&mut self, to: Path, len: usize) {
        if let Some(unproven) = self.unproven(to) {
            unproven.sent = unproven.sent.saturating_add(len as u32);
        }
    }

    /// Whether `len` more bytes may go out on the path.
    fn may_send(&self, to: Path, len: usize) -> bool {
        self.get(to).is_some_and(|path| match &path.unproven {
            Some(unproven) => unproven.sent as usize + len <= AMPLIFICATION_MAX * unproven.received as usize,
            None => true,
        })
    }

    /// Counts a flight of `len` bytes. Returns false if it must not be sent.
    pub(super) fn take_flight(&mut self, to: Path, len: usize) -> bool {
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

    /// Whether all flights so far went out on this path. If so, a message that proves receipt of a flight proves the path.
    pub(super) fn all_flights_went_to(&self, at: Path) -> bool {
        let elsewhere = self.list.iter().any(|path| path.path != at && path.flights > 0);
        !self.scattered && !elsewhere
    }

    /// The client nominated the path. Returns the nomination if it takes effect at once.
    pub(super) fn nominate(&mut self, at: Path, ice: u32, is_connected: bool) -> Option<Nomination> {
        let place = self.place(at)?;
        for path in &mut self.list {
            if let Some(unproven) = &mut path.unproven {
                unproven.wanted = (path.path == at).then_some(ice);
            }
        }
        if is_connected && !self.list[place].is_proven() {
            return None;
        }
        self.list.swap(0, place);
        Some(Nomination { ice })
    }

    /// The client has shown that it is there. Returns the nomination that takes effect now, if there was one.
    pub(super) fn prove(&mut self, at: Path) -> Option<Nomination> {
        let place = self.place(at)?;
        let unproven = self.list[place].unproven.take()?;
        if let Some(ice) = unproven.wanted {
            self.list.swap(0, place);
            return Some(Nomination { ice });
        }
        if let Some(selected) = &mut self.list[0].unproven {
            // Until the selected one is proven, the proven one is the better choice.
            selected.wanted = Some(selected.ice);
            self.list.swap(0, place);
        }
        None
    }

    /// Whether a datagram on the path answers the server's request on it.
    pub(super) fn is_answered(&self, from: Path, is_answered: impl Fn(&Transaction) -> bool) -> bool {
        let unproven = self.get(from).and_then(|path| path.unproven.as_ref());
        let probe = unproven.and_then(|unproven| unproven.probe);
        probe.is_some_and(|probe| is_answered(&probe.transaction))
    }

    pub(super) fn note_heard(&mut self, now: Instant, at: Path) {
        if let Some(place) = self.place(at) {
            self.list[place].heard = now;
        }
    }

    /// Leaves the selected path if it has been silent while another proven one was not. Returns true if so.
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

    /// Removes paths whose consent has expired, except the selected one.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(place) = (1..self.list.len()).find(|&place| now >= self.list[place].expiry()) {
            self.remove(place);
        }
    }

    /// When the next path has to be left or removed.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let (selected, others) = self.list.split_first()?;
        let alive = |path: &PathState| path.is_proven() && path.heard > selected.heard;
        let silent = others.iter().any(alive).then_some(selected.heard + SILENT);
        let expiries = others.iter().map(PathState::expiry);
        expiries.chain(silent).chain([selected.expiry()]).min()
    }

    /// When a request is to be sent again.
    pub(super) fn probe_due(&self) -> Option<Instant> {
        let unproven = self.list.iter().filter_map(|path| path.unproven.as_ref());
        unproven.filter_map(|unproven| unproven.probe?.at).min()
    }

    /// The next path whose request is to be sent again now. Its interval doubles.
    pub(super) fn take_due_probe(&mut self, now: Instant) -> Option<Path> {
        self.list.iter_mut().find_map(|path| {
            let probe = path.unproven.as_mut()?.probe.as_mut()?;
            probe.at.take_if(|at| *at <= now)?;
            probe.wait = (2 * probe.wait).min(PROBE_INTERVAL_MAX);
            Some(path.path)
        })
    }

    /// The transaction of our request on an unproven path, and the ICE session to make it in. It stays the same until it is answered.
    pub(super) fn probe(&mut self, at: Path, tag: u32) -> Option<(Transaction, u32)> {
        let unproven = self.unproven(at)?;
        if unproven.probe.is_none() {
            let transaction = Transaction::new(tag)?;
            let wait = PROBE_INTERVAL;
            let at = None;
            unproven.probe = Some(Probe { transaction, at, wait });
        }
        unproven.probe.map(|probe| (probe.transaction, unproven.ice))
    }

    /// Whether a request of `len` bytes may be sent. If so, it counts as sent and is scheduled again. A request that exceeds the limit is
    /// scheduled once media comes on the path, because that raises the limit.
    pub(super) fn take_probe(&mut self, now: Instant, to: Path, len: usize) -> bool {
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

impl PathState {
    pub(super) fn is_proven(&self) -> bool {
        self.unproven.is_none()
    }

    /// When consent for the path ends.
    pub(super) fn expiry(&self) -> Instant {
        self.heard + super::CONSENT_TIMEOUT
    }
}

/// The most checked paths of one client: its networks times two address families, and the ports of a NAT.
pub const CHECKED_MAX: usize = 8;
/// A path that has been silent for so long is left for another one that is alive. Consent is refreshed every 4 to 6 s (RFC 7675
/// section 5.1) and media and reports come more often; one more second is for the network.
pub const SILENT: Duration = Duration::from_secs(7);
/// Bytes that an unproven path gets for each byte that came on it, as in QUIC (RFC 9000 section 8.1).
const AMPLIFICATION_MAX: usize = 3;
/// Flights of a handshake that a path gets without regard to that limit: the first, and once more if it is lost.
const FREE_FLIGHTS: u8 = 2;
/// So many checks, together with authentic media, allow feedback on a path: one more than a single forged datagram.
const CHECKS_BESIDE_MEDIA: u8 = 2;
/// No authentic packet is shorter: header of SRTCP, its index, and a tag of AES-GCM.
const MEDIA_LEN_MIN: u32 = 8 + 4 + 16;
/// A request that is never answered costs one timer a second, until the path is removed.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Until a request is sent again; it doubles each time. Most round trips are shorter, and [`AMPLIFICATION_MAX`] allows two requests for
/// each check.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

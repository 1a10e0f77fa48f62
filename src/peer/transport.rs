//! The way to one client: ICE and DTLS until there are keys, then consent and the closing.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::dtls::{Association, HandshakeError, Remains, Step};
use super::ice::{self, Binding};
use super::{Certificate, DtlsRole, IceCredentials, RemoteTransport, SrtpKeys, StunDrop};

/// ICE, DTLS and consent of one client. Sockets, keys and media are the caller's.
pub struct Transport {
    ice: IceSession,
    /// Of a restart: takes the place of `ice` when the client nominates a path with it.
    pending: Option<Box<IceSession>>,
    role: DtlsRole,
    /// Addresses that passed a check, the latest last.
    checked: Vec<SocketAddr>,
    remote: Option<SocketAddr>,
    /// The client chose `remote`; before that it is the first address that passed.
    is_nominated: bool,
    /// When the client last proved that it wants our packets; before that, when it was made.
    last_check: Instant,
    phase: Phase,
}

/// One ICE session: the credentials that checks are made with. A restart begins another for the same DTLS association
/// (RFC 8445 section 9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceSession {
    /// 0 for the one of the offer; each restart's is one higher.
    pub number: u32,
    /// Our side.
    pub local: IceCredentials,
    /// The client's side. A lite agent checks nothing, so it never needs the password.
    pub remote_ufrag: Box<str>,
}

enum Phase {
    Handshaking {
        association: Box<Association>,
        deadline: Instant,
    },
    /// Keys are out, but the client may need our last flight once more.
    Lingering {
        association: Box<Association>,
        until: Instant,
    },
    Settled(Box<Remains>),
    Closed,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// What a binding request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Passed, from an address known before.
    Known,
    /// Passed, from a new address. There is room for [`CHECKED_MAX`]; the longest unused one may have made way.
    New {
        /// No longer a checked address.
        evicted: Option<SocketAddr>,
    },
    /// Answered with an error; the address counts for nothing.
    Refused,
}

/// What the caller must know.
#[derive(Debug)]
pub enum TransportEvent {
    /// The handshake is done and the certificate is the one of the offer. Once.
    Connected(SrtpKeys),
    /// The end. Once, and last; not after [`Transport::close`].
    Closed(CloseReason),
}

/// Why a transport ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client closed DTLS.
    #[error("closed by the client")]
    PeerClosed,
    /// DTLS cannot succeed.
    #[error("DTLS failed: {0}")]
    HandshakeFailed(#[from] HandshakeError),
    /// The client's certificate is not the one of its offer.
    #[error("the client's certificate does not match its offer")]
    FingerprintMismatch,
    /// No ICE within 30 s, or no DTLS within 15 s of it.
    #[error("the client did not connect in time")]
    HandshakeTimeout,
    /// No check for 30 s (RFC 7675).
    #[error("the client vanished")]
    ConsentExpired,
}

impl Transport {
    /// Waits for the client's first check.
    pub fn new(local: IceCredentials, remote: RemoteTransport, certificate: Certificate, now: Instant) -> Self {
        let association = Association::new(certificate, remote.role, remote.fingerprints);
        Self {
            ice: IceSession {
                number: 0,
                local,
                remote_ufrag: remote.ice.ufrag,
            },
            pending: None,
            role: remote.role,
            checked: Vec::new(),
            remote: None,
            is_nominated: false,
            last_check: now,
            phase: Phase::Handshaking {
                association: Box::new(association),
                deadline: now + CHECK_TIMEOUT,
            },
        }
    }

    /// Which ICE session the client uses.
    pub fn ice_number(&self) -> u32 {
        self.ice.number
    }

    /// Takes checks of another ICE session from now on, too, and goes over to it when the client nominates a path with it. Until
    /// then everything goes on as it is, for ever if the client never does. One that waits already is given up for it.
    pub fn restart(&mut self, ice: IceSession) {
        if ice.number > self.ice.number {
            self.pending = Some(Box::new(ice));
        }
    }

    /// Takes a STUN datagram that carries our user name fragment, and answers it if it is authentic.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut Vec<Transmit>,
    ) -> Result<Check, StunDrop> {
        if matches!(self.phase, Phase::Closed) {
            return Err(StunDrop::Closed);
        }
        let (binding, is_pending) = self.answer(from, datagram)?;
        let (bytes, nominated) = match binding {
            Binding::Success { response, nominated } => (response, Some(nominated)),
            Binding::RoleConflict { response } | Binding::UnknownAttribute { response } => (response, None),
        };
        out.push(Transmit { to: from, bytes });
        let Some(nominated) = nominated else {
            return Ok(Check::Refused);
        };
        let check = self.note_checked(now, from);
        if is_pending
            && nominated
            && let Some(ice) = self.pending.take()
        {
            self.ice = *ice;
        }
        if nominated || self.remote.is_none() {
            self.remote = Some(from);
        }
        if nominated {
            self.is_nominated = true;
            self.start_as_client(now, from, out);
        }
        Ok(check)
    }

    /// Takes a DTLS datagram, and does what has become possible. One from an address that is not checked is ignored.
    pub fn handle_dtls(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut Vec<Transmit>,
    ) -> Option<TransportEvent> {
        self.take_dtls(now, from, datagram, out)
            .or_else(|| self.work(now, from, out))
    }

    /// Reads a DTLS datagram. What takes public-key operations is left for [`work`](Self::work).
    pub fn take_dtls(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut Vec<Transmit>,
    ) -> Option<TransportEvent> {
        if !self.is_checked(from) {
            return None;
        }
        let mut send = |bytes| out.push(Transmit { to: from, bytes });
        match &mut self.phase {
            Phase::Handshaking { association, .. } | Phase::Lingering { association, .. } => {
                let step = association.take(now, datagram, &mut send)?;
                Some(self.advance(now, step))
            }
            Phase::Settled(remains) => {
                if !remains.is_closed_by(datagram) {
                    return None;
                }
                send(remains.close_notify().to_vec());
                Some(self.end(CloseReason::PeerClosed))
            }
            Phase::Closed => None,
        }
    }

    /// Whether [`work`](Self::work) has something to do.
    pub fn has_work(&self) -> bool {
        match &self.phase {
            Phase::Handshaking { association, .. } | Phase::Lingering { association, .. } => association.has_work(),
            Phase::Settled(_) | Phase::Closed => false,
        }
    }

    /// Goes on with the handshake: a quarter of a millisecond at most. What it says goes to the address that the last datagram came from.
    pub fn work(&mut self, now: Instant, to: SocketAddr, out: &mut Vec<Transmit>) -> Option<TransportEvent> {
        match &mut self.phase {
            Phase::Handshaking { association, .. } | Phase::Lingering { association, .. } => {
                let step = association.work(now, &mut |bytes| out.push(Transmit { to, bytes }))?;
                Some(self.advance(now, step))
            }
            Phase::Settled(_) | Phase::Closed => None,
        }
    }

    /// There is no time for it: as if the datagrams that led to it had been lost.
    pub fn forget_work(&mut self) {
        if let Phase::Handshaking { association, .. } = &mut self.phase {
            association.forget_work();
        }
    }

    /// Whether the address passed a check of this session: only such a one may send us DTLS and media.
    pub fn is_checked(&self, from: SocketAddr) -> bool {
        self.checked.contains(&from)
    }

    /// The addresses that passed a check, at most [`CHECKED_MAX`].
    pub fn checked(&self) -> &[SocketAddr] {
        &self.checked
    }

    /// Where media goes: the address that the client nominated last, before that the first that passed a check.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Whether the client chose a path.
    pub fn is_nominated(&self) -> bool {
        self.is_nominated
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due. It moves with every check: a caller may keep an earlier
    /// time and ask again then.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.last_check + CONSENT_TIMEOUT;
        match &self.phase {
            Phase::Handshaking { association, deadline } => {
                Some(association.poll_timeout().map_or(*deadline, |due| due.min(*deadline)))
            }
            Phase::Lingering { until, .. } => Some(expiry.min(*until)),
            Phase::Settled(_) => Some(expiry),
            Phase::Closed => None,
        }
    }

    /// Does what is due: repeats a flight, gives up, lets the association go.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Transmit>) -> Option<TransportEvent> {
        let expired = now >= self.last_check + CONSENT_TIMEOUT;
        match &mut self.phase {
            Phase::Handshaking { association, deadline } if now >= *deadline => {
                let complaint = association.complaint().map(CloseReason::HandshakeFailed);
                Some(self.end(complaint.unwrap_or(CloseReason::HandshakeTimeout)))
            }
            Phase::Handshaking { association, .. } => {
                if let Some(to) = self.remote {
                    association.handle_timeout(now, &mut |bytes| out.push(Transmit { to, bytes }));
                }
                None
            }
            Phase::Closed => None,
            _ if expired => Some(self.end(CloseReason::ConsentExpired)),
            Phase::Lingering { until, .. } if now >= *until => {
                self.settle(now);
                None
            }
            Phase::Lingering { .. } | Phase::Settled(_) => None,
        }
    }

    /// Call at the first authenticated SRTP or SRTCP packet: the client has its keys, nobody needs the handshake any
    /// more. Further calls do nothing.
    pub fn handle_authenticated_media(&mut self) {
        if matches!(self.phase, Phase::Lingering { .. }) {
            self.settle(self.last_check);
        }
    }

    /// Ends the association and says so to the client.
    pub fn close(&mut self, out: &mut Vec<Transmit>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let Some(to) = self.remote else { return };
        let mut send = |bytes| out.push(Transmit { to, bytes });
        match phase {
            Phase::Handshaking { mut association, .. } | Phase::Lingering { mut association, .. } => {
                association.close(self.last_check, &mut send);
            }
            Phase::Settled(remains) => send(remains.close_notify().to_vec()),
            Phase::Closed => {}
        }
    }

    /// Whether it ended, by itself or by [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Answers a check of the ICE session in use, or of the one that waits; true for the latter.
    fn answer(&self, from: SocketAddr, datagram: &[u8]) -> Result<(Binding, bool), StunDrop> {
        let of = |ice: &IceSession| ice::answer_binding(datagram, from, &ice.local, &ice.remote_ufrag);
        match (of(&self.ice), &self.pending) {
            (Err(StunDrop::Username), Some(pending)) => of(pending).map(|binding| (binding, true)),
            (answer, _) => answer.map(|binding| (binding, false)),
        }
    }

    fn note_checked(&mut self, now: Instant, from: SocketAddr) -> Check {
        if let Phase::Handshaking { deadline, .. } = &mut self.phase
            && self.checked.is_empty()
        {
            *deadline = now + HANDSHAKE_TIMEOUT;
        }
        self.last_check = now;
        if let Some(at) = self.checked.iter().position(|known| *known == from) {
            self.checked[at..].rotate_left(1);
            return Check::Known;
        }
        let oldest = self.checked.iter().position(|known| Some(*known) != self.remote);
        let evicted = oldest
            .filter(|_| self.checked.len() >= CHECKED_MAX)
            .map(|at| self.checked.remove(at));
        self.checked.reserve_exact(1);
        self.checked.push(from);
        Check::New { evicted }
    }

    /// A client's first flight starts a timer, so it waits until the path is chosen.
    fn start_as_client(&mut self, now: Instant, to: SocketAddr, out: &mut Vec<Transmit>) {
        if let (DtlsRole::Client, Phase::Handshaking { association, .. }) = (self.role, &mut self.phase) {
            association.start(now, &mut |bytes| out.push(Transmit { to, bytes }));
        }
    }

    fn advance(&mut self, now: Instant, step: Step) -> TransportEvent {
        match step {
            Step::Connected(keys) => {
                let phase = std::mem::replace(&mut self.phase, Phase::Closed);
                if let Phase::Handshaking { association, .. } = phase {
                    let until = now + LINGER;
                    self.phase = Phase::Lingering { association, until };
                }
                TransportEvent::Connected(keys)
            }
            Step::PeerClosed => self.end(CloseReason::PeerClosed),
            Step::FingerprintMismatch => self.end(CloseReason::FingerprintMismatch),
            Step::Failed(error) => self.end(CloseReason::HandshakeFailed(error)),
        }
    }

    fn settle(&mut self, now: Instant) {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        self.phase = match phase {
            Phase::Lingering { association, .. } => Phase::Settled(Box::new(association.settle(now))),
            other => other,
        };
    }

    fn end(&mut self, reason: CloseReason) -> TransportEvent {
        self.phase = Phase::Closed;
        TransportEvent::Closed(reason)
    }
}

/// Addresses of one client that count as checked: its networks times two families, and the ports of a NAT.
pub const CHECKED_MAX: usize = 8;
/// A client gets the answer and gathers; people take their time to paste an answer, then try again.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// From the first check to the keys.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// RFC 7675 section 5.1.
const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that lost our last flight asks for it within a few seconds.
const LINGER: Duration = Duration::from_secs(10);

//! The transport of one client: which address it is at, and its DTLS association from the first flight to close_notify.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::dtls::{Association, Closing, Progress};
use super::ice::{self, Check, StunDrop};
use super::srtp::SrtpKeys;
use super::{Certificate, DtlsRole, IceCredentials, RemoteTransport};

/// ICE and DTLS of one client.
pub struct Transport {
    local: IceCredentials,
    remote: RemoteTransport,
    certificate: Certificate,
    /// Addresses whose checks were valid, newest last.
    checked: Vec<SocketAddr>,
    selected: Option<SocketAddr>,
    nominated: bool,
    consent_until: Instant,
    phase: Phase,
}

enum Phase {
    Handshaking {
        association: Box<Association>,
        started: bool,
        deadline: Instant,
    },
    /// Complete, but the client may not have our last flight yet.
    Complete {
        association: Box<Association>,
        keep_until: Instant,
    },
    Settled(Closing),
    Ended,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What happened to the transport.
#[derive(Debug)]
pub enum TransportEvent {
    /// The handshake is complete, with the client whose fingerprint was in the offer.
    Connected(SrtpKeys),
    /// It is over.
    Closed(CloseReason),
}

/// Why a transport ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client sent close_notify.
    #[error("it closed the connection")]
    PeerClosed,
    /// DTLS could not be completed.
    #[error("the DTLS handshake failed")]
    HandshakeFailed,
    /// DTLS was not complete in time.
    #[error("the DTLS handshake was not finished within 15 s")]
    HandshakeTimeout,
    /// The certificate is not the one announced in the offer.
    #[error("its certificate is not the one in its offer")]
    FingerprintMismatch,
    /// No valid check came for 30 s (RFC 7675).
    #[error("it went silent for 30 s")]
    ConsentExpired,
}

impl Transport {
    /// Without a valid check for this long, the client is gone (RFC 7675 section 5.1).
    pub const CONSENT: Duration = Duration::from_secs(30);
    /// From the first valid check to the finished handshake.
    pub const HANDSHAKE: Duration = Duration::from_secs(15);
    /// How long an association is kept whole when no media shows that the client has our last flight.
    const LAST_FLIGHT: Duration = Duration::from_secs(10);
    /// Addresses of one client that are remembered.
    const CHECKED_MAX: usize = 8;

    /// A transport that waits for the client's first check.
    pub fn new(local: IceCredentials, remote: RemoteTransport, certificate: Certificate, now: Instant) -> Transport {
        let association = Box::new(Association::new(certificate.clone(), remote.role));
        Transport {
            local,
            remote,
            certificate,
            checked: Vec::new(),
            selected: None,
            nominated: false,
            consent_until: now + Transport::CONSENT,
            phase: Phase::Handshaking {
                association,
                started: false,
                deadline: now + Transport::HANDSHAKE,
            },
        }
    }

    /// Where media goes: the address that the client chose, else the first from which a valid check came.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// Whether a valid check came from this address.
    pub fn is_checked(&self, from: SocketAddr) -> bool {
        self.checked.contains(&from)
    }

    /// Takes a STUN datagram.
    ///
    /// # Errors
    /// Why it was dropped without an answer.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut Vec<Outgoing>,
    ) -> Result<(), StunDrop> {
        if matches!(self.phase, Phase::Ended) {
            return Err(StunDrop::Ended);
        }
        match ice::answer_check(datagram, from, &self.local, &self.remote.ice.ufrag)? {
            Check::RoleConflict { response } => out.push(Outgoing {
                to: from,
                bytes: response,
            }),
            Check::Success { response, nominated } => {
                out.push(Outgoing {
                    to: from,
                    bytes: response,
                });
                self.consent_until = now + Transport::CONSENT;
                self.note_checked(from);
                if nominated || self.selected.is_none() {
                    self.selected = Some(from);
                }
                self.nominated |= nominated;
                self.start_as_client(now, out);
            }
        }
        Ok(())
    }

    fn note_checked(&mut self, from: SocketAddr) {
        if self.is_checked(from) {
            return;
        }
        if self.checked.len() >= Transport::CHECKED_MAX {
            self.checked.remove(0);
        }
        self.checked.push(from);
    }

    /// As DTLS client we begin when the client has chosen its pair; the flights' timer runs from then on.
    fn start_as_client(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        let nominated = self.nominated;
        if let (
            Phase::Handshaking {
                association, started, ..
            },
            DtlsRole::Client,
        ) = (&mut self.phase, self.remote.role)
            && nominated
            && !*started
        {
            *started = true;
            association.start(now);
            transmit(association, self.selected, out);
        }
    }

    /// Takes a DTLS datagram. Only from a checked address; whoever else sends is passed over.
    pub fn handle_dtls(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut Vec<Outgoing>,
    ) -> Option<TransportEvent> {
        if !self.is_checked(from) {
            return None;
        }
        let progress = match &mut self.phase {
            Phase::Handshaking { association, .. } | Phase::Complete { association, .. } => {
                let progress = association.handle_datagram(now, datagram);
                transmit(association, Some(from), out);
                progress
            }
            Phase::Settled(closing) if closing.is_closed_by(now, &self.certificate, datagram) => Progress::PeerClosed,
            Phase::Settled(_) | Phase::Ended => Progress::None,
        };
        self.follow(now, progress)
    }

    fn follow(&mut self, now: Instant, progress: Progress) -> Option<TransportEvent> {
        match progress {
            Progress::None => None,
            Progress::PeerClosed => Some(self.end(CloseReason::PeerClosed)),
            Progress::Failed => Some(self.end(CloseReason::HandshakeFailed)),
            Progress::Complete { keys, fingerprint } => {
                if !self.remote.fingerprints.contains(&fingerprint) {
                    return Some(self.end(CloseReason::FingerprintMismatch));
                }
                if let Phase::Handshaking { association, .. } = std::mem::replace(&mut self.phase, Phase::Ended) {
                    self.phase = Phase::Complete {
                        association,
                        keep_until: now + Transport::LAST_FLIGHT,
                    };
                }
                Some(TransportEvent::Connected(keys))
            }
        }
    }

    fn end(&mut self, reason: CloseReason) -> TransportEvent {
        self.phase = Phase::Ended;
        TransportEvent::Closed(reason)
    }

    /// Authentic media came: the client has our last flight, and most of the association can go.
    pub fn handle_authenticated_media(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Complete { .. }) {
            self.settle(now);
        }
    }

    fn settle(&mut self, now: Instant) {
        if let Phase::Complete { association, .. } = std::mem::replace(&mut self.phase, Phase::Ended) {
            // Without what closing takes, the peer lives on until its consent ends.
            let closing = association.into_closing(now).unwrap_or_else(Closing::none);
            self.phase = Phase::Settled(closing);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.phase {
            Phase::Handshaking {
                association, deadline, ..
            } => association.poll_timeout().map_or(*deadline, |at| at.min(*deadline)),
            Phase::Complete { keep_until, .. } => *keep_until,
            Phase::Settled(_) => self.consent_until,
            Phase::Ended => return None,
        };
        Some(own.min(self.consent_until))
    }

    /// Does what is due: sends flights again, gives up, ends a silent client.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Outgoing>) -> Option<TransportEvent> {
        if matches!(self.phase, Phase::Ended) {
            return None;
        }
        if self.consent_until <= now {
            return Some(self.end(CloseReason::ConsentExpired));
        }
        let progress = match &mut self.phase {
            Phase::Handshaking { deadline, .. } if *deadline <= now => {
                return Some(self.end(CloseReason::HandshakeTimeout));
            }
            Phase::Handshaking { association, .. } => {
                let progress = association.handle_timeout(now);
                transmit(association, self.selected, out);
                progress
            }
            Phase::Complete { keep_until, .. } if *keep_until <= now => {
                self.settle(now);
                Progress::None
            }
            _ => Progress::None,
        };
        self.follow(now, progress)
    }

    /// Ends the association from our side, with close_notify.
    pub fn close(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Complete { mut association, .. } => {
                association.close(now);
                transmit(&mut association, self.selected, out);
            }
            Phase::Settled(closing) if !closing.close_notify().is_empty() => {
                out.extend(self.selected.map(|to| Outgoing {
                    to,
                    bytes: closing.close_notify().to_vec(),
                }));
            }
            _ => {}
        }
    }
}

fn transmit(association: &mut Association, to: Option<SocketAddr>, out: &mut Vec<Outgoing>) {
    while let Some(bytes) = association.poll_transmit() {
        out.extend(to.map(|to| Outgoing {
            to,
            bytes: bytes.to_vec(),
        }));
    }
}

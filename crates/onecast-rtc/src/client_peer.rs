//! The client's end of a session, without sockets: the full, controlling ICE agent that the server's lite one needs on the other side.
//!
//! It checks the path to one server address, shakes hands, keeps the consent, and hands out the keys. It is composed of the same parts as
//! the server's end, in the other roles. Load clients, tests and servers that pull from other servers use it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;

use crate::demux::{Datagram, classify};
use crate::dtls::{Association, Step};
use crate::ice::probe;
pub use crate::sdp::client::{Answered, OfferParams, write_offer};
use crate::{Certificate, DtlsRole, IceCredentials, PeerFingerprint, SrtpKeys};

/// A client that connects to one server address.
///
/// The caller sends what [`poll_transmit`](Self::poll_transmit) returns to that address, gives it what comes from there, and calls
/// [`handle_timeout`](Self::handle_timeout) when it is due.
pub struct ClientPeer {
    own: IceCredentials,
    server: IceCredentials,
    /// The server's address, as its requests name it.
    server_address: SocketAddr,
    role: DtlsRole,
    association: Association,
    nominated: bool,
    /// Checks sent so far; each has its number as its transaction id.
    checks: u64,
    /// Number of the first check of this ICE session.
    checks_from: u64,
    check_at: Instant,
    out: VecDeque<Vec<u8>>,
}

/// What a datagram from the server led to.
#[derive(Debug)]
pub enum ClientEvent {
    /// The handshake is done.
    Connected(SrtpKeys),
    /// The datagram is SRTP, for the caller to open.
    Media,
    /// The datagram is SRTCP, for the caller to open.
    Control,
    /// The server ended the session, or the handshake failed.
    Closed,
}

impl ClientPeer {
    /// Between checks until one is answered. They are few, so the interval does not grow.
    const CHECK_RETRY: Duration = Duration::from_millis(50);
    /// Between checks that keep the consent (RFC 7675 asks for 5 s).
    pub const CHECK_INTERVAL: Duration = Duration::from_secs(5);

    /// A client that begins now. `active` says whether it starts the DTLS handshake: see [`OfferParams::active`].
    pub fn new(
        own: &IceCredentials,
        answered: &Answered,
        active: bool,
        certificate: Certificate,
        now: Instant,
    ) -> ClientPeer {
        let role = if active { DtlsRole::Client } else { DtlsRole::Server };
        let fingerprint = answered.fingerprint.map(PeerFingerprint::Sha256);
        ClientPeer {
            own: own.clone(),
            server: answered.ice.clone(),
            server_address: answered.candidates.first().copied().unwrap_or(UNKNOWN),
            role,
            association: Association::new(certificate, role, fingerprint.into_iter().collect()),
            nominated: false,
            checks: 0,
            checks_from: 1,
            check_at: now,
            out: VecDeque::new(),
        }
    }

    /// Begins another ICE session (an ICE restart) with the same DTLS association: checks until one is answered.
    pub fn restart(&mut self, own: &IceCredentials, server: IceCredentials, now: Instant) {
        self.own = own.clone();
        self.server = server;
        self.nominate(now);
    }

    /// Nominates the path that it uses now, until the server has answered.
    pub fn nominate(&mut self, now: Instant) {
        self.nominated = false;
        self.checks_from = self.checks + 1;
        self.check_at = now;
    }

    /// Whether a check of its ICE session was answered.
    pub fn is_nominated(&self) -> bool {
        self.nominated
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Instant {
        let flight = self.association.poll_timeout();
        flight.map_or(self.check_at, |at| at.min(self.check_at))
    }

    /// Sends the checks and flights that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.check_at <= now {
            self.checks += 1;
            let check = write_check(&self.server, &self.own.ufrag, self.checks, !self.nominated);
            self.out.extend(check);
            self.check_at = now
                + match self.nominated {
                    true => ClientPeer::CHECK_INTERVAL,
                    false => ClientPeer::CHECK_RETRY,
                };
        }
        self.association
            .handle_timeout(now, &mut |datagram| self.out.push_back(datagram));
    }

    /// Takes a datagram from the server.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Option<ClientEvent> {
        let is_current = self.is_current(datagram);
        let send = &mut |datagram| self.out.push_back(datagram);
        match classify(datagram) {
            Datagram::Stun if datagram.starts_with(&BINDING_SUCCESS) && !self.nominated && is_current => {
                self.nominated = true;
                self.check_at = now + ClientPeer::CHECK_INTERVAL;
                if self.role == DtlsRole::Client {
                    self.association.start(now, send);
                }
                None
            }
            Datagram::Stun => {
                let answer = probe::answer_request(datagram, self.server_address, &self.own, &self.server.ufrag);
                answer.into_iter().for_each(send);
                None
            }
            Datagram::Dtls => match self.association.handle(now, datagram, send) {
                Some(Step::Connected(keys)) => Some(ClientEvent::Connected(keys)),
                Some(_) => Some(ClientEvent::Closed),
                None => None,
            },
            Datagram::Rtp => Some(ClientEvent::Media),
            Datagram::Rtcp => Some(ClientEvent::Control),
            Datagram::Unknown => None,
        }
    }

    /// Whether a STUN response answers a check of this ICE session, by the number in its transaction id.
    fn is_current(&self, response: &[u8]) -> bool {
        let number = response.get(12..20).and_then(|bytes| bytes.first_chunk());
        number.is_some_and(|bytes| u64::from_be_bytes(*bytes) >= self.checks_from)
    }

    /// Ends the session with close_notify.
    pub fn close(&mut self, now: Instant) {
        self.association
            .close(now, &mut |datagram| self.out.push_back(datagram));
    }
}

/// A check of a full agent that controls. Like most clients, it nominates until that is answered, and from then on only keeps the consent.
fn write_check(server: &IceCredentials, own_ufrag: &str, number: u64, nominates: bool) -> Option<Vec<u8>> {
    let provider = AwsLcRsProvider::new();
    let mut transaction = [0; 12];
    transaction[4..].copy_from_slice(&number.to_be_bytes());
    let username = TextAttribute::new(ATTR_USERNAME, format!("{}:{own_ufrag}", server.ufrag));
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(server.pwd.to_string(), provider.crypto());
    let mut message = Message::new();
    let head: [Box<dyn Setter>; 3] = [
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId(transaction)),
        Box::new(username),
    ];
    message.build(&head).ok()?;
    message.add(ATTR_PRIORITY, &PRIORITY.to_be_bytes());
    message.add(ATTR_ICE_CONTROLLING, &TIE_BREAKER);
    if nominates {
        message.add(ATTR_USE_CANDIDATE, &[]);
    }
    integrity
        .add_to(&mut message)
        .and_then(|()| FINGERPRINT.add_to(&mut message))
        .ok()?;
    Some(message.raw)
}

/// For an answer without a candidate that can be read. A server does not look at the address that its answers name.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// The first two bytes of a binding success response (RFC 8489 section 5).
const BINDING_SUCCESS: [u8; 2] = [1, 1];
/// Of a peer-reflexive candidate (RFC 8445 section 5.1.2.1).
const PRIORITY: u32 = 0x6e00_01ff;
/// The server is lite and never controls, so no conflict has to be decided.
const TIE_BREAKER: [u8; 8] = [1; 8];

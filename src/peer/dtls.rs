//! The DTLS association of one client (RFC 5764): from the first flight to the SRTP keys, and its orderly end.
//!
//! An [`Association`] weighs ten kilobytes. When the client has shown that it has its keys, it becomes
//! [`Remains`]: our close_notify sealed in advance, and enough state to understand the client's.

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_dtls::state::State;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use rtc_srtp::config::LABEL_EXTRACTOR_DTLS_SRTP;

use super::certificate::{FLIGHT_INTERVAL, fingerprint_of};
use super::crypto::crypto_provider;
use super::record::{self, Record, records};
use super::{Certificate, DtlsRole, Fingerprint, Profile, SrtpKeys};

/// Why a handshake cannot end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Neither AEAD_AES_128_GCM nor AES128_CM_SHA1_80 was offered.
    #[error("no common SRTP protection profile")]
    NoSrtpProfile,
    /// The keys could not be taken out of the finished handshake.
    #[error("DTLS gave no keying material")]
    NoKeyingMaterial,
    /// We could not begin as the client.
    #[error("the DTLS handshake cannot be started")]
    Start,
}

/// A step that the caller must know of.
#[derive(Debug)]
pub(crate) enum Step {
    Connected(SrtpKeys),
    /// The certificate shown is none of those the offer lists.
    FingerprintMismatch,
    Failed(HandshakeError),
    /// An authenticated close_notify or fatal alert. The answer is already among the datagrams to send.
    PeerClosed,
}

/// A DTLS association in progress, or finished and still complete.
pub(crate) struct Association {
    certificate: Certificate,
    role: DtlsRole,
    fingerprints: Box<[Fingerprint]>,
    endpoint: Endpoint,
    /// What to feed to the second endpoint should the first find no GCM: the records before our first answer.
    unanswered: Vec<BytesMut>,
    progress: Progress,
    /// What the client may still feed to the handshake.
    bytes_left: usize,
    /// When to send our flight again, and how long to wait the time after.
    flight: Option<(Instant, Duration)>,
}

/// How far the messages went, to know those that can only be repetitions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Started,
    /// As server: ServerHello went out. As client: the second ClientHello did.
    Greeted,
    /// As client: ChangeCipherSpec went out.
    Finishing,
    Connected,
}

impl Association {
    /// As server it waits for the client; as client it waits for [`start`](Self::start).
    pub(crate) fn new(certificate: Certificate, role: DtlsRole, fingerprints: Vec<Fingerprint>) -> Self {
        let endpoint = server_endpoint(certificate.server_gcm());
        Self {
            certificate,
            role,
            fingerprints: fingerprints.into(),
            endpoint,
            unanswered: Vec::new(),
            progress: Progress::Started,
            bytes_left: FED_BYTES_MAX,
            flight: None,
        }
    }

    /// Sends the first flight of a client, once.
    pub(crate) fn start(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        let client = self.certificate.client().clone();
        if self.flight.is_some() || self.progress != Progress::Started {
            return None;
        }
        if self.endpoint.connect(now, PEER, client, None).is_err() {
            return Some(Step::Failed(HandshakeError::Start));
        }
        self.flush(now, send);
        None
    }

    /// Takes a datagram of a checked address.
    pub(crate) fn handle(&mut self, now: Instant, datagram: &[u8], send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        let fed: BytesMut = records(datagram)
            .filter(|record| record.is_acceptable() && !self.is_repetition(record))
            .flat_map(|record| record.bytes)
            .copied()
            .collect();
        // A client would otherwise be connected to before nomination.
        let is_early = self.role == DtlsRole::Client && self.flight.is_none() && self.progress == Progress::Started;
        if fed.is_empty() || fed.len() > self.bytes_left || is_early {
            return None;
        }
        self.bytes_left -= fed.len();
        if self.role == DtlsRole::Server && self.progress == Progress::Started && self.unanswered.len() < UNANSWERED_MAX
        {
            self.unanswered.push(fed.clone());
        }
        let step = match self.endpoint.read(now, PEER, None, fed) {
            Err(Error::ErrServerNoMatchingSrtpProfile) => self.fall_back(now),
            result => self.step(now, result),
        };
        self.flush(now, send);
        if let (Some(Step::FingerprintMismatch), DtlsRole::Server) = (&step, self.role) {
            send(BAD_CERTIFICATE.to_vec());
        }
        step
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.flight.map(|(due, _)| due)
    }

    /// Sends the flight again that got no answer, waiting twice as long each time (RFC 6347 section 4.2.4.1).
    pub(crate) fn handle_timeout(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        let Some((due, wait)) = self.flight else { return };
        if now < due {
            return;
        }
        let wait = (2 * wait).min(FLIGHT_INTERVAL_MAX);
        self.flight = Some((now + wait, wait));
        // An error means that the repetitions are used up: the deadline of the handshake is near.
        let _ = self.endpoint.handle_timeout(PEER, now);
        while let Some(transmit) = self.endpoint.poll_transmit() {
            send(transmit.message.into());
        }
    }

    /// Our close_notify, when the client can understand it.
    pub(crate) fn close(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        if self.progress == Progress::Connected {
            self.endpoint.stop(now, PEER);
            self.flush(now, send);
        }
    }

    /// What remains of a finished association.
    pub(crate) fn settle(mut self, now: Instant) -> Remains {
        let connection = self.endpoint.stop(now, PEER);
        let close_notify = self.endpoint.poll_transmit().map(|transmit| transmit.message.to_vec());
        let state = connection.and_then(|connection| lean_state(connection.connection_state()).ok());
        Remains {
            certificate: self.certificate,
            close_notify: close_notify.unwrap_or_default().into(),
            state: state.unwrap_or_default().into(),
            revivals_left: REVIVALS_MAX,
        }
    }

    /// A repeated flight of the other side would stop the timer of ours, and both would wait: what is already
    /// answered must not get in. That our answer was lost is found out by the timer.
    fn is_repetition(&self, record: &Record) -> bool {
        let Some(kind) = record.handshake_kind() else {
            return false;
        };
        match (self.role, self.progress) {
            (DtlsRole::Server, Progress::Greeted) => kind == record::CLIENT_HELLO,
            (DtlsRole::Client, Progress::Greeted) => kind == record::HELLO_VERIFY_REQUEST,
            (DtlsRole::Client, Progress::Finishing) => true,
            _ => false,
        }
    }

    /// The client knows no GCM. The endpoint goes, and with it the alert it has already written.
    fn fall_back(&mut self, now: Instant) -> Option<Step> {
        self.endpoint = server_endpoint(self.certificate.server_sha1());
        for fed in std::mem::take(&mut self.unanswered) {
            match self.endpoint.read(now, PEER, None, fed) {
                Err(Error::ErrServerNoMatchingSrtpProfile) => return Some(Step::Failed(HandshakeError::NoSrtpProfile)),
                result => {
                    if let Some(step) = self.step(now, result) {
                        return Some(step);
                    }
                }
            }
        }
        None
    }

    /// An error is a datagram that was of no use; only what is authenticated ends an association.
    fn step(&mut self, now: Instant, result: Result<Vec<EndpointEvent>, Error>) -> Option<Step> {
        match result {
            Err(Error::ErrAlertFatalOrClose) => Some(Step::PeerClosed),
            Err(_) => None,
            Ok(events) => events.into_iter().find_map(|event| match event {
                EndpointEvent::HandshakeComplete => Some(self.finish(now)),
                EndpointEvent::PeerClosed => Some(Step::PeerClosed),
                _ => None,
            }),
        }
    }

    fn finish(&mut self, now: Instant) -> Step {
        self.flight = None;
        let Some(state) = self.endpoint.get_connection_state(PEER) else {
            return Step::Failed(HandshakeError::NoKeyingMaterial);
        };
        let shown = state.peer_certificates.first().map(|der| fingerprint_of(der));
        if !shown.is_some_and(|shown| self.fingerprints.contains(&shown)) {
            // As server our last flight is held back; as client it is out, and a close_notify follows it.
            match self.role {
                DtlsRole::Server => self.endpoint = server_endpoint(self.certificate.server_gcm()),
                DtlsRole::Client => drop(self.endpoint.stop(now, PEER)),
            }
            return Step::FingerprintMismatch;
        }
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::Aes128CmSha1_80,
            _ => return Step::Failed(HandshakeError::NoSrtpProfile),
        };
        let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], profile.keying_material_len());
        let keys = material
            .ok()
            .and_then(|material| SrtpKeys::from_keying_material(profile, material.as_ref(), self.role));
        self.progress = Progress::Connected;
        self.unanswered = Vec::new();
        keys.map_or(Step::Failed(HandshakeError::NoKeyingMaterial), Step::Connected)
    }

    /// Hands out what the endpoint has to send: a new flight, if any.
    fn flush(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        let mut is_flight = false;
        while let Some(transmit) = self.endpoint.poll_transmit() {
            is_flight |= self.note_sent(&transmit.message);
            send(transmit.message.into());
        }
        if is_flight && self.progress != Progress::Connected {
            self.flight = Some((now + FLIGHT_INTERVAL, FLIGHT_INTERVAL));
        }
    }

    fn note_sent(&mut self, datagram: &[u8]) -> bool {
        let mut is_flight = false;
        for record in records(datagram) {
            is_flight |= record.kind == record::HANDSHAKE;
            let reached = match (self.role, record.handshake_kind()) {
                (DtlsRole::Server, Some(record::SERVER_HELLO)) => Progress::Greeted,
                (DtlsRole::Client, Some(record::CLIENT_HELLO)) if self.flight.is_some() => Progress::Greeted,
                (DtlsRole::Client, _) if record.kind == record::CHANGE_CIPHER_SPEC => Progress::Finishing,
                _ => continue,
            };
            if self.progress != Progress::Connected {
                self.progress = reached;
            }
        }
        if self.progress != Progress::Started {
            self.unanswered = Vec::new();
        }
        is_flight
    }
}

/// A finished association after the heavy part is gone.
pub(crate) struct Remains {
    certificate: Certificate,
    close_notify: Box<[u8]>,
    state: Box<[u8]>,
    revivals_left: u8,
}

impl Remains {
    /// Our close_notify. Always the same bytes: it may be sent more than once.
    pub(crate) fn close_notify(&self) -> &[u8] {
        &self.close_notify
    }

    /// Whether the datagram holds the client's authentic close_notify or another fatal alert.
    pub(crate) fn is_closed_by(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let is_sealed_alert = |record: &Record| {
            record.kind == record::ALERT && record.epoch == 1 && record.body.len() == SEALED_ALERT_LEN
        };
        match records(datagram).find(is_sealed_alert) {
            Some(record) if self.revivals_left > 0 => {
                self.revivals_left -= 1;
                self.revive(now, record).unwrap_or(false)
            }
            _ => false,
        }
    }

    fn revive(&self, now: Instant, alert: Record) -> Result<bool, Error> {
        let mut state = State::new(crypto_provider(), false);
        state.unmarshal_binary(&self.state)?;
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
        endpoint.connect(now, PEER, self.certificate.client().clone(), Some(state))?;
        match endpoint.read(now, PEER, None, alert.bytes.into()) {
            Ok(events) => Ok(events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed))),
            Err(Error::ErrAlertFatalOrClose) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// The state without the client's certificate, which is most of it and already checked.
fn lean_state(state: &State) -> Result<Vec<u8>, Error> {
    let mut lean = State::new(crypto_provider(), false);
    lean.unmarshal_binary(&state.marshal_binary()?)?;
    lean.peer_certificates.clear();
    lean.marshal_binary()
}

fn server_endpoint(config: &std::sync::Arc<rtc_dtls::config::HandshakeConfig>) -> Endpoint {
    Endpoint::new(PEER, TransportProtocol::UDP, Some(config.clone()))
}

/// Endpoints tell associations apart by address. Ours has only one, wherever its client is at the moment.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));
/// A clear fatal alert, bad_certificate (RFC 5246 section 7.2.2), for a client that waits for our last flight. The
/// sequence number is one that no handshake reaches.
const BAD_CERTIFICATE: [u8; 15] = [record::ALERT, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 2, 2, 42];
/// A ClientHello with post-quantum key shares takes two datagrams, repeated a few times.
const UNANSWERED_MAX: usize = 8;
/// A client's flights take 2 to 6 KB; repeated ten times they still fit.
const FED_BYTES_MAX: usize = 64 * 1024;
/// Eight waits of 0.25, 0.5, 1, 2, 4, .. s outlast the deadline of the handshake.
const FLIGHT_INTERVAL_MAX: Duration = Duration::from_secs(4);
/// Explicit nonce, level and description, tag: all our suites are AES-GCM (RFC 5288 section 3).
const SEALED_ALERT_LEN: usize = 8 + 2 + 16;
/// Each costs some 20 us, and forged ones must not go on for ever. Consent expires all the same.
const REVIVALS_MAX: u8 = 64;

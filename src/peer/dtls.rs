//! One DTLS association, from the first flight to the keys, driven through the family's `Endpoint`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rtc_dtls::config::HandshakeConfig;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;

use super::srtp::{Profile, SrtpKeys};
use super::{Certificate, DtlsRole, Fingerprint};

/// A DTLS association. Its peer's address is no business of it, so a client may roam.
pub struct Association {
    endpoint: Endpoint,
    certificate: Certificate,
    role: DtlsRole,
    /// Datagrams so far, for starting again with another SRTP profile; `None` when that cannot be needed any more.
    kept: Option<Vec<BytesMut>>,
    complete: bool,
}

/// What a datagram or the time led to.
#[derive(Debug)]
pub enum Progress {
    /// Nothing to tell.
    None,
    /// The handshake is complete.
    Complete {
        /// What SRTP is keyed with.
        keys: SrtpKeys,
        /// SHA-256 of the certificate that the peer showed.
        fingerprint: Fingerprint,
    },
    /// The peer closed with close_notify.
    PeerClosed,
    /// It can not be completed.
    Failed,
}

impl Association {
    /// Datagrams kept for a second start: a ClientHello of a browser takes two.
    const KEPT_MAX: usize = 8;

    /// An association that has not begun. As the server it waits for the client.
    pub fn new(certificate: Certificate, role: DtlsRole) -> Association {
        let config = (role == DtlsRole::Server).then(|| certificate.handshake(role));
        let kept = (role == DtlsRole::Server).then(Vec::new);
        Association {
            endpoint: endpoint(config),
            certificate,
            role,
            kept,
            complete: false,
        }
    }

    /// As the client: sends the first flight.
    pub fn start(&mut self, now: Instant) -> Progress {
        let config = self.certificate.handshake(self.role);
        match self.endpoint.connect(now, PEER, config, None) {
            Ok(()) => Progress::None,
            Err(_) => Progress::Failed,
        }
    }

    /// Takes a datagram. What is malformed or forged is passed over: an unauthenticated datagram must not end a handshake.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Progress {
        if !is_acceptable(datagram) {
            return Progress::None;
        }
        let bytes = BytesMut::from(datagram);
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.len() < Association::KEPT_MAX) {
            kept.push(bytes.clone());
        }
        match self.endpoint.read(now, PEER, None, bytes) {
            Ok(events) => self.take_events(&events),
            Err(Error::ErrServerNoMatchingSrtpProfile) => self.fall_back(now),
            Err(_) => Progress::None,
        }
    }

    /// The client has no GCM: a new endpoint takes AES-CM with HMAC-SHA1, and is told everything that was said.
    fn fall_back(&mut self, now: Instant) -> Progress {
        let Some(kept) = self.kept.take() else {
            return Progress::None;
        };
        // With the old endpoint goes its alert.
        self.endpoint = endpoint(Some(self.certificate.fallback()));
        for datagram in kept {
            if let Ok(events) = self.endpoint.read(now, PEER, None, datagram) {
                match self.take_events(&events) {
                    Progress::None => {}
                    progress => return progress,
                }
            }
        }
        Progress::None
    }

    fn take_events(&mut self, events: &[EndpointEvent]) -> Progress {
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => return self.finish(),
                EndpointEvent::PeerClosed => return Progress::PeerClosed,
                _ => {}
            }
        }
        Progress::None
    }

    fn finish(&mut self) -> Progress {
        self.complete = true;
        self.kept = None;
        let keys = self.keys();
        let certificate = self
            .endpoint
            .get_connection_state(PEER)
            .and_then(|state| state.peer_certificates.first());
        match (keys, certificate) {
            (Some(keys), Some(certificate)) => Progress::Complete {
                keys,
                fingerprint: Fingerprint::of(certificate),
            },
            _ => Progress::Failed,
        }
    }

    fn keys(&self) -> Option<SrtpKeys> {
        let state = self.endpoint.get_connection_state(PEER)?;
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::Aes128CmSha1,
            _ => return None,
        };
        let len = profile.keying_material_len();
        let material = state
            .export_keying_material(rtc_srtp::config::LABEL_EXTRACTOR_DTLS_SRTP, &[], len)
            .ok()?;
        SrtpKeys::from_keying_material(profile, material.as_ref(), self.role == DtlsRole::Client)
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    /// When a flight must be sent again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.complete {
            None
        } else {
            self.endpoint.poll_timeout(&PEER)
        }
    }

    /// Sends a flight again, if that is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Progress {
        match self.poll_timeout() {
            Some(at) if at <= now => match self.endpoint.handle_timeout(PEER, now) {
                Ok(()) => Progress::None,
                Err(_) => Progress::Failed,
            },
            _ => Progress::None,
        }
    }

    /// Keeps of a complete association only what ending it takes. `None` when that fails.
    pub fn into_closing(mut self, now: Instant) -> Option<Closing> {
        let state = self.endpoint.get_connection_state(PEER)?.marshal_binary().ok()?;
        while self.poll_transmit().is_some() {}
        self.endpoint.stop(now, PEER);
        let close_notify = self.poll_transmit()?;
        Some(Closing {
            close_notify: close_notify[..].into(),
            state: state.into(),
        })
    }

    /// Ends the association; the close_notify is the next to [transmit](Self::poll_transmit).
    pub fn close(&mut self, now: Instant) {
        self.endpoint.stop(now, PEER);
    }
}

/// What remains of an association when media flows: about 600 bytes instead of 10 KB.
#[derive(Debug)]
pub struct Closing {
    close_notify: Box<[u8]>,
    state: Box<[u8]>,
}

impl Closing {
    /// Nothing: the association could not be kept.
    pub fn none() -> Closing {
        Closing {
            close_notify: Box::default(),
            state: Box::default(),
        }
    }

    /// Our close_notify, sealed in advance.
    pub fn close_notify(&self) -> &[u8] {
        &self.close_notify
    }

    /// Whether a datagram is the peer's close_notify.
    pub fn is_closed_by(&self, now: Instant, certificate: &Certificate, datagram: &[u8]) -> bool {
        let alert = datagram.first() == Some(&ALERT) && epoch(datagram).is_some_and(|epoch| epoch > 0);
        if !alert {
            return false;
        }
        let config = certificate.handshake(DtlsRole::Client);
        let mut endpoint = endpoint(None);
        let mut state = rtc_dtls::state::State::new(Arc::new(rtc_crypto::providers::AwsLcRsProvider::new()), false);
        if state.unmarshal_binary(&self.state).is_err() || endpoint.connect(now, PEER, config, Some(state)).is_err() {
            return false;
        }
        let events = endpoint.read(now, PEER, None, BytesMut::from(datagram));
        events.is_ok_and(|events| events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)))
    }
}

fn endpoint(config: Option<Arc<HandshakeConfig>>) -> Endpoint {
    Endpoint::new(LOCAL, TransportProtocol::UDP, config)
}

/// Whether every record is of a known type and none is an alert in the clear: anybody could send one, and it would end the handshake.
fn is_acceptable(mut datagram: &[u8]) -> bool {
    while !datagram.is_empty() {
        let (Some(epoch), Some(kind @ 20..=23)) = (epoch(datagram), datagram.first().copied()) else {
            return false;
        };
        if kind == ALERT && epoch == 0 {
            return false;
        }
        let len = RECORD_HEADER + usize::from(u16::from_be_bytes([datagram[11], datagram[12]]));
        let Some(rest) = datagram.get(len..) else { return false };
        datagram = rest;
    }
    true
}

/// The epoch of a datagram's first record (RFC 6347 section 4.1).
fn epoch(datagram: &[u8]) -> Option<u16> {
    let header: &[u8; RECORD_HEADER] = datagram.first_chunk()?;
    Some(u16::from_be_bytes([header[3], header[4]]))
}

/// A made-up address: one endpoint has one peer, wherever it is.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 1));
const LOCAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 1));
const ALERT: u8 = 21;
/// Type, version, epoch, sequence number, length.
const RECORD_HEADER: usize = 13;

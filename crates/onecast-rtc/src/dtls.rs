//! The DTLS association of one client (RFC 5764): from the first flight to the SRTP keys, and its orderly end.
//!
//! The DTLS crate does the handshake, but it does not see the network. It is given whole unencrypted messages, in order, each of them once
//! and only when its flight is complete; and one Finished, after it has been decrypted and checked here. So the crate's work is that of one
//! handshake, whatever arrives: a few messages of bounded length, one key agreement and one verified signature. Everything else costs no
//! more than reading it once.
//!
//! Reading and working are two steps, so that the caller can let clients take turns: [`Association::take`] reads a datagram, and
//! [`Association::work`] does the public-key operations that it makes possible.
//!
//! An [`Association`] takes ten kilobytes. When the client has shown that it has its keys, it is replaced by [`Remains`]: our close_notify,
//! sealed in advance, and the key to decrypt the client's.

mod error;
mod flights;
mod hello;
mod keys;
mod reassembly;
mod remains;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc_dtls::config::HandshakeConfig;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use rtc_srtp::config::LABEL_EXTRACTOR_DTLS_SRTP;

pub use self::error::HandshakeError;
use self::flights::{SECOND_HELLO_SEQ, Stage};
use self::hello::Cookie;
use self::keys::{Hellos, Keys, SEALED_FINISHED_LEN, open_finished};
use self::reassembly::{Flight, Message, Reassembly};
pub use self::remains::Remains;
use self::remains::{ALERT_FATAL, is_closing};
use super::certificate::{FLIGHT_INTERVAL, matches};
use super::record::{self, HandshakeFragment, Record, fragments, records, write_message, write_record};
use super::{Certificate, DtlsRole, PeerFingerprint, Profile, SrtpKeys, crypto};

/// What the caller has to act on.
#[derive(Debug)]
pub enum Step {
    /// The handshake is complete; the keys protect the media.
    Connected(SrtpKeys),
    /// The certificate matches no fingerprint of the offer.
    FingerprintMismatch,
    /// The handshake failed for good. An alert for the client, if any, is already among the datagrams to send.
    Failed(HandshakeError),
    /// An authenticated close_notify or fatal alert. The answer is already among the datagrams to send.
    PeerClosed,
}

/// A DTLS association in progress, or finished and still complete.
pub struct Association {
    certificate: Certificate,
    role: DtlsRole,
    fingerprints: Box<[PeerFingerprint]>,
    endpoint: Endpoint,
    stage: Stage,
    incoming: Reassembly,
    work: Option<Work>,
    /// Sequence number of the next unencrypted record for the endpoint.
    sequence: u16,
    /// The cookie that a client has to repeat before an endpoint is made for it.
    cookie: Option<Cookie>,
    hellos: Hellos,
    keys: Option<Keys>,
    /// Records that may be a sealed Finished and came before there was a key to decrypt them.
    early: VecDeque<Box<[u8]>>,
    /// How often our last flight will still be repeated for the client.
    repeats_left: u8,
    /// An unencrypted fatal alert, which may be forged.
    complaint: Option<u8>,
    /// When to send our flight again, and the interval after that.
    flight: Option<(Instant, Duration)>,
    fed: usize,
}

/// Work for the DTLS crate.
enum Work {
    Flight(Vec<Message>),
    /// The record of the other side's Finished, which is authentic and correct.
    Finished(Vec<u8>),
}

impl Association {
    /// A server waits for the client; a client waits for [`start`](Self::start).
    pub fn new(certificate: Certificate, role: DtlsRole, fingerprints: Vec<PeerFingerprint>) -> Self {
        let endpoint = server_endpoint(certificate.server_gcm());
        let (stage, first) = match role {
            DtlsRole::Server => (Stage::Hello, SECOND_HELLO_SEQ),
            DtlsRole::Client => (Stage::Idle, 0),
        };
        let mut incoming = Reassembly::default();
        incoming.expect(first);
        Self {
            certificate,
            role,
            fingerprints: fingerprints.into(),
            endpoint,
            stage,
            incoming,
            work: None,
            sequence: 0,
            cookie: None,
            hellos: Hellos::new(),
            keys: None,
            early: VecDeque::new(),
            repeats_left: REPEATS_MAX,
            complaint: None,
            flight: None,
            fed: 0,
        }
    }

    /// Sends the first flight of a client, once.
    pub fn start(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        if self.stage != Stage::Idle {
            return None;
        }
        self.stage = Stage::Hello;
        let client = self.certificate.client().clone();
        if self.endpoint.connect(now, PEER, client, None).is_err() {
            return Some(Step::Failed(HandshakeError::Start));
        }
        self.flush(now, send);
        None
    }

    /// Reads a datagram from a checked address, and does the work that it makes possible.
    pub fn handle(&mut self, now: Instant, datagram: &[u8], send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        self.take(now, datagram, send).or_else(|| self.work(now, send))
    }

    /// Reads a datagram from a checked address. Public-key operations are left for [`work`](Self::work).
    pub fn take(&mut self, now: Instant, datagram: &[u8], send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        // As DTLS client we do not connect before the nomination, whatever the other side sends.
        if self.stage == Stage::Idle {
            return None;
        }
        let mut is_asked = false;
        let step = records(datagram).find_map(|record| match (record.epoch, record.kind) {
            (0, record::HANDSHAKE) => self.take_clear(&record, &mut is_asked, send),
            (0, record::ALERT) => self.note_complaint(&record),
            (1, record::HANDSHAKE) => self.take_finished(now, &record, send),
            (1, record::ALERT) => self.take_alert(now, &record, send),
            // A ChangeCipherSpec adds nothing to the epoch of the records that follow it.
            _ => None,
        });
        if let Some(cookie) = self.cookie.filter(|_| is_asked) {
            send(hello::verify_request(&cookie));
        }
        step
    }

    /// Whether [`work`](Self::work) has something to do.
    pub fn has_work(&self) -> bool {
        self.work.is_some()
    }

    /// Continues the handshake: up to a key agreement, a signature and a verification.
    pub fn work(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        match self.work.take()? {
            Work::Finished(record) => self.complete(now, &record, send),
            Work::Flight(flight) => match (self.role, self.stage) {
                (DtlsRole::Server, Stage::Hello) => self.begin(now, &flight, send),
                (DtlsRole::Client, Stage::Hello) if flight.len() == 1 => self.follow(now, &flight, send),
                _ => self.agree(now, &flight, send),
            },
        }
    }

    /// Drops the work, as if the datagrams that led to it had been lost.
    pub fn forget_work(&mut self) {
        if let Some(Work::Flight(flight)) = self.work.take()
            && let Some(first) = flight.first()
        {
            self.incoming.expect(first.seq);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.flight.map(|(due, _)| due)
    }

    /// Repeats a flight that got no answer; the interval doubles each time (RFC 6347 section 4.2.4.1).
    pub fn handle_timeout(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        let Some((due, wait)) = self.flight else { return };
        if now < due {
            return;
        }
        let wait = (2 * wait).min(FLIGHT_INTERVAL_MAX);
        self.flight = Some((now + wait, wait));
        // An error means that the repetitions are used up. The deadline of the handshake is near then.
        let _ = self.endpoint.handle_timeout(PEER, now);
        while let Some(transmit) = self.endpoint.poll_transmit() {
            send(transmit.message.into());
        }
    }

    /// Sends our close_notify, if the client can decrypt it.
    pub fn close(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        if self.stage == Stage::Connected {
            self.endpoint.stop(now, PEER);
            self.flush(now, send);
        }
    }

    /// Frees a finished association, except for what its end needs.
    pub fn settle(mut self, now: Instant) -> Remains {
        self.endpoint.stop(now, PEER);
        let close_notify = self.endpoint.poll_transmit().map(|transmit| transmit.message.to_vec());
        Remains {
            close_notify: close_notify.unwrap_or_default().into(),
            peer: self.keys.map(|keys| keys.peer),
        }
    }

    /// Why the client gave up, according to an unencrypted alert, which may be forged.
    pub fn complaint(&self) -> Option<HandshakeError> {
        self.complaint.map(HandshakeError::Refused)
    }

    /// Bytes given to the DTLS crate so far.
    pub fn fed(&self) -> usize {
        self.fed
    }

    /// Bytes kept for incomplete messages.
    pub fn held(&self) -> usize {
        self.incoming.held() + self.early.iter().map(|record| record.len()).sum::<usize>()
    }

    /// The flights that can come now.
    fn awaited(&self) -> &'static [&'static Flight] {
        if self.work.is_some() {
            &[]
        } else {
            flights::awaited(self.role, self.stage)
        }
    }

    /// Reads an unencrypted handshake record. Messages that were taken already are ignored: if our answer to them was lost, the timer
    /// repeats it.
    fn take_clear(&mut self, record: &Record, is_asked: &mut bool, send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        for fragment in fragments(record.body) {
            let is_hello = self.role == DtlsRole::Server && self.stage == Stage::Hello;
            if is_hello && !self.is_of_known_hello(&fragment, is_asked) {
                continue;
            }
            self.incoming.insert(&fragment, self.awaited());
        }
        if self.shows_no_certificate() {
            send(BAD_CERTIFICATE.to_vec());
            return Some(Step::Failed(HandshakeError::NoCertificate));
        }
        if let Some(flight) = self.incoming.take(self.awaited()) {
            self.work = Some(Work::Flight(flight));
        }
        None
    }

    /// Whether a fragment belongs to a ClientHello with our cookie; a ClientHello without one asks for it. No state is kept before the
    /// first fragment, which has the cookie.
    fn is_of_known_hello(&mut self, fragment: &HandshakeFragment, is_asked: &mut bool) -> bool {
        if fragment.offset > 0 || fragment.kind != record::CLIENT_HELLO {
            return self.incoming.has_begun(fragment.seq);
        }
        let Some(span) = hello::cookie_span(fragment.bytes) else {
            return false;
        };
        if fragment.seq >= SECOND_HELLO_SEQ {
            return self.cookie.is_some_and(|cookie| fragment.bytes[span] == cookie);
        }
        if self.cookie.is_none() {
            self.cookie = crypto::random().ok();
        }
        *is_asked |= span.is_empty();
        false
    }

    /// A client without a suitable certificate sends an empty list, and no CertificateVerify.
    fn shows_no_certificate(&self) -> bool {
        let is_empty = |message: &Message| message.kind == record::CERTIFICATE && message.body == [0, 0, 0];
        self.role == DtlsRole::Server && self.stage == Stage::Flight && self.incoming.first().is_some_and(is_empty)
    }

    /// Takes the client's ClientHello with the cookie, which shows that the client receives what we send to its address.
    ///
    /// The DTLS crate follows the client's order of SRTP profiles. So the endpoint knows GCM only, and is replaced by one that knows
    /// SHA1_80 if the client does not offer GCM.
    fn begin(&mut self, now: Instant, flight: &[Message], send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        let hello = flight.first()?;
        let cookie = self.cookie?;
        let span = hello::cookie_span(&hello.body).filter(|span| hello.body[span.clone()] == cookie);
        let Some(span) = span else {
            // A later fragment has overwritten the cookie.
            self.incoming.expect(hello.seq);
            return None;
        };
        let first = Message {
            kind: record::CLIENT_HELLO,
            seq: 0,
            body: hello::without_cookie(&hello.body, span),
        };
        let certificate = self.certificate.clone();
        let mut result = Ok(Vec::new());
        for config in [certificate.server_gcm(), certificate.server_sha1()] {
            self.endpoint = server_endpoint(config);
            self.sequence = 0;
            result = crypto::with_cookie(cookie, || self.feed(now, std::slice::from_ref(&first)));
            if !matches!(result, Err(Error::ErrServerNoMatchingSrtpProfile)) {
                break;
            }
        }
        if result.is_ok() {
            // We have sent a HelloVerifyRequest of our own already.
            while self.endpoint.poll_transmit().is_some() {}
            self.hellos.note(hello.kind, hello.seq, &hello.body);
            result = self.feed(now, flight);
        }
        self.flush(now, send);
        match result {
            Err(error) => Some(Step::Failed(error.into())),
            Ok(_) if self.flight.is_none() => Some(Step::Failed(HandshakeError::Malformed)),
            Ok(_) => {
                self.stage = Stage::Flight;
                None
            }
        }
    }

    /// Takes the cookie of a server.
    fn follow(&mut self, now: Instant, flight: &[Message], send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        let request = flight.first()?;
        if !hello::is_verify_request(&request.body) {
            self.incoming.expect(request.seq);
            return None;
        }
        let result = self.feed(now, flight);
        self.flush(now, send);
        self.stage = Stage::Flight;
        result.err().map(|error| Step::Failed(error.into()))
    }

    /// Takes the other side's certificate, key share and signature: after this there are keys, or the handshake has failed.
    fn agree(&mut self, now: Instant, flight: &[Message], send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        for message in flight {
            self.hellos.note(message.kind, message.seq, &message.body);
        }
        let (result, master) = crypto::with_master_secret(|| self.feed(now, flight));
        self.flush(now, send);
        match (result, master) {
            (Err(error), _) => Some(Step::Failed(error.into())),
            (Ok(_), None) => Some(Step::Failed(HandshakeError::Malformed)),
            (Ok(_), Some(master)) => {
                self.keys = Some(self.hellos.derive(&master, self.role, self.incoming.next()));
                self.stage = Stage::Finished;
                let early = std::mem::take(&mut self.early);
                let mut early = early.iter().flat_map(|bytes| records(bytes));
                early
                    .find_map(|record| self.take_finished(now, &record, send))
                    .or_else(|| self.work(now, send))
            }
        }
    }

    /// Takes a record that may be the other side's Finished. Only an authentic and correct one has an effect.
    fn take_finished(&mut self, now: Instant, record: &Record, send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        if record.body.len() != SEALED_FINISHED_LEN {
            return None;
        }
        let Some(keys) = &self.keys else {
            self.keep_early(record);
            return None;
        };
        let said = open_finished(&keys.peer, record, keys.finished_seq)?;
        if keys.finished.is_some_and(|expected| expected != said) {
            return Some(Step::Failed(HandshakeError::BadFinished));
        }
        let bytes = [record.header, record.body].concat();
        match (self.stage, self.role) {
            (Stage::Finished, _) => self.work = Some(Work::Finished(bytes)),
            // Only a client can have lost our last flight: where we are the client, the server's is the last one.
            (Stage::Connected, DtlsRole::Server) if self.repeats_left > 0 => {
                self.repeats_left -= 1;
                // The handshake is over, so an error does not matter.
                let _ = self.read(now, &bytes);
                self.flush(now, send);
            }
            _ => {}
        }
        None
    }

    /// Keeps a Finished that overtakes its flight, or comes with it. Only the newest records are kept, and a Finished that came with its
    /// flight is among them.
    fn keep_early(&mut self, record: &Record) {
        if self.stage == Stage::Hello && self.role == DtlsRole::Server {
            return;
        }
        if self.early.len() >= EARLY_MAX {
            self.early.pop_front();
        }
        self.early.push_back([record.header, record.body].concat().into());
    }

    /// Completes the handshake.
    fn complete(&mut self, now: Instant, finished: &[u8], send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        let mut datagram = Vec::new();
        write_record(&mut datagram, record::CHANGE_CIPHER_SPEC, self.sequence, &[1]);
        self.sequence += 1;
        datagram.extend(finished);
        let step = match self.read(now, &datagram) {
            Ok(events) => events.iter().find_map(|event| match event {
                EndpointEvent::HandshakeComplete => Some(self.finish(now)),
                _ => None,
            }),
            Err(error) => Some(Step::Failed(error.into())),
        };
        self.flush(now, send);
        if let (Some(Step::FingerprintMismatch), DtlsRole::Server) = (&step, self.role) {
            send(BAD_CERTIFICATE.to_vec());
        }
        step
    }

    /// An unencrypted alert may be forged, so it ends nothing. It explains the failure if the handshake times out.
    fn note_complaint(&mut self, alert: &Record) -> Option<Step> {
        if let [ALERT_FATAL, description] = *alert.body {
            self.complaint = Some(description);
        }
        None
    }

    fn take_alert(&mut self, now: Instant, alert: &Record, send: &mut dyn FnMut(Vec<u8>)) -> Option<Step> {
        if !is_closing(&self.keys.as_ref()?.peer, alert) {
            return None;
        }
        self.close(now, send);
        Some(Step::PeerClosed)
    }

    /// Gives messages to the DTLS crate, each in a record of its own.
    fn feed(&mut self, now: Instant, messages: &[Message]) -> Result<Vec<EndpointEvent>, Error> {
        let mut datagram = Vec::new();
        for message in messages {
            let mut body = Vec::new();
            write_message(&mut body, message.kind, message.seq, &message.body);
            write_record(&mut datagram, record::HANDSHAKE, self.sequence, &body);
            self.sequence += 1;
        }
        self.read(now, &datagram)
    }

    fn read(&mut self, now: Instant, datagram: &[u8]) -> Result<Vec<EndpointEvent>, Error> {
        self.fed += datagram.len();
        self.endpoint.read(now, PEER, None, datagram.into())
    }

    fn finish(&mut self, now: Instant) -> Step {
        self.flight = None;
        let Some(state) = self.endpoint.get_connection_state(PEER) else {
            return Step::Failed(HandshakeError::NoKeyingMaterial);
        };
        let shown = state.peer_certificates.first();
        if !shown.is_some_and(|der| self.fingerprints.iter().any(|one| matches(one, der))) {
            // As server our last flight is not sent; as client it is, with a close_notify behind it.
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
        self.stage = Stage::Connected;
        keys.map_or(Step::Failed(HandshakeError::NoKeyingMaterial), Step::Connected)
    }

    /// Sends what the endpoint has written: a new flight, if any.
    fn flush(&mut self, now: Instant, send: &mut dyn FnMut(Vec<u8>)) {
        let mut is_flight = false;
        while let Some(transmit) = self.endpoint.poll_transmit() {
            // Our own messages are short, so the crate does not fragment them.
            for record in records(&transmit.message).filter(|record| record.kind == record::HANDSHAKE) {
                is_flight = true;
                if record.epoch == 0 {
                    fragments(record.body).for_each(|sent| self.hellos.note(sent.kind, sent.seq, sent.bytes));
                }
            }
            send(transmit.message.into());
        }
        if is_flight && self.stage != Stage::Connected {
            self.flight = Some((now + FLIGHT_INTERVAL, FLIGHT_INTERVAL));
        }
    }
}

fn server_endpoint(config: &Arc<HandshakeConfig>) -> Endpoint {
    Endpoint::new(PEER, TransportProtocol::UDP, Some(config.clone()))
}

/// Endpoints identify associations by address. Here each has only one association, wherever the client is at the moment.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));
/// An unencrypted fatal alert, bad_certificate (RFC 5246 section 7.2.2), for a client that waits for our last flight. No handshake reaches
/// its sequence number.
const BAD_CERTIFICATE: [u8; 15] = [
    record::ALERT,
    0xfe,
    0xfd,
    0,
    0,
    0,
    0,
    0,
    0,
    0xff,
    0,
    0,
    2,
    ALERT_FATAL,
    42,
];
/// Room for a Finished that overtook its flight, and for a few forged ones. If it is lost, the client repeats it when there is a key.
const EARLY_MAX: usize = 4;
/// The DTLS crate answers seven repetitions, and keeps them all.
const REPEATS_MAX: u8 = 7;
/// The deadline of the handshake comes before the eighth wait of 0.25, 0.5, 1, 2, 4, .. s.
const FLIGHT_INTERVAL_MAX: Duration = Duration::from_secs(4);

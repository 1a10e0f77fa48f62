//! The client's end of a session, without sockets: it checks, shakes hands and has the keys. Composed from the same parts as the
//! server's end, in the other roles.

use std::collections::VecDeque;
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
use crate::{Certificate, DtlsRole, Fingerprint, IceCredentials, PeerFingerprint, SrtpKeys};

/// What a client says in its offer.
#[derive(Debug, Clone)]
pub struct OfferParams<'a> {
    /// Its ICE credentials.
    pub ice: &'a IceCredentials,
    /// SHA-256 of its certificate.
    pub fingerprint: Fingerprint,
    /// It will be the DTLS client (`actpass`), as browsers are; else it offers `passive`, as FFmpeg does.
    pub active: bool,
    /// It publishes; else it watches.
    pub publishes: bool,
    /// Retransmissions by RTX; else on the media's own SSRC.
    pub rtx: bool,
}

/// Writes an offer of one audio line (Opus 111) and one video line (VP8 96, VP9 98, H264 102, AV1 45; each with RTX one higher).
pub fn write_offer(params: &OfferParams<'_>) -> String {
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:{}\r\na={}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n",
        params.ice.ufrag,
        params.ice.pwd,
        params.fingerprint,
        if params.active { "actpass" } else { "passive" },
        if params.publishes { "sendonly" } else { "recvonly" },
    );
    let mut sdp = String::from("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n");
    sdp.push_str("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n");
    sdp.push_str(&transport);
    sdp.push_str("a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n");
    let codecs = [(96, "VP8"), (98, "VP9"), (102, "H264"), (45, "AV1")];
    let types = codecs.map(|(pt, _)| {
        if params.rtx {
            format!("{pt} {}", pt + 1)
        } else {
            pt.to_string()
        }
    });
    sdp.push_str(&format!(
        "m=video 9 UDP/TLS/RTP/SAVPF {}\r\na=mid:1\r\n",
        types.join(" ")
    ));
    sdp.push_str(&transport);
    sdp.push_str(&format!("a=extmap:3 {TRANSPORT_CC}\r\n"));
    for (pt, name) in codecs {
        sdp.push_str(&format!("a=rtpmap:{pt} {name}/90000\r\n"));
        for feedback in ["nack", "nack pli", "ccm fir", "transport-cc"] {
            sdp.push_str(&format!("a=rtcp-fb:{pt} {feedback}\r\n"));
        }
        if name == "H264" {
            sdp.push_str(&format!(
                "a=fmtp:{pt} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"
            ));
        }
        if params.rtx {
            sdp.push_str(&format!("a=rtpmap:{0} rtx/90000\r\na=fmtp:{0} apt={pt}\r\n", pt + 1));
        }
    }
    sdp
}

/// What a client needs of an answer.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The server's ICE credentials.
    pub ice: IceCredentials,
    /// The server's certificate.
    pub fingerprint: Option<Fingerprint>,
    /// Candidates in the order of the answer.
    pub candidates: Vec<std::net::SocketAddr>,
    /// SSRCs that the answer announces, in its order.
    pub ssrcs: Vec<u32>,
}

impl Answered {
    /// Reads the lines that matter; `None` without ICE credentials.
    pub fn parse(sdp: &str) -> Option<Answered> {
        let values = |name: &'static str| sdp.lines().filter_map(move |line| line.trim_end().strip_prefix(name));
        let ice = IceCredentials {
            ufrag: values("a=ice-ufrag:").next()?.into(),
            pwd: values("a=ice-pwd:").next()?.into(),
        };
        let candidate = |line: &str| {
            let mut fields = line.split(' ');
            let ip = fields.nth(4)?.parse().ok()?;
            Some(std::net::SocketAddr::new(ip, fields.next()?.parse().ok()?))
        };
        let mut ssrcs: Vec<u32> = values("a=ssrc:")
            .filter_map(|line| line.split(' ').next()?.parse().ok())
            .collect();
        ssrcs.dedup();
        Some(Answered {
            ice,
            fingerprint: values("a=fingerprint:sha-256 ").next().and_then(parse_fingerprint),
            candidates: values("a=candidate:").filter_map(candidate).collect(),
            ssrcs,
        })
    }
}

fn parse_fingerprint(text: &str) -> Option<Fingerprint> {
    let mut bytes = [0; 32];
    let mut pairs = text.trim().split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(pairs.next()?, 16).ok()?;
    }
    Some(Fingerprint(bytes))
}

/// A client that connects to one server address.
pub struct ClientPeer {
    own: IceCredentials,
    server: IceCredentials,
    /// The server's address, as its requests name it.
    server_address: std::net::SocketAddr,
    role: DtlsRole,
    association: Association,
    nominated: bool,
    checks: u64,
    /// The first check of this ICE session.
    checks_from: u64,
    check_at: Instant,
    out: VecDeque<Vec<u8>>,
}

/// What happened to a client.
#[derive(Debug)]
pub enum ClientEvent {
    /// The keys are there.
    Connected(SrtpKeys),
    /// SRTP, for the caller to open.
    Media,
    /// SRTCP, for the caller to open.
    Control,
    /// The server ended the session, or the handshake failed.
    Closed,
}

impl ClientPeer {
    /// Between checks until one is answered, doubling is not worth it here.
    const CHECK_RETRY: Duration = Duration::from_millis(50);
    /// Between checks that keep the consent (RFC 7675 asks for 5 s).
    pub const CHECK_INTERVAL: Duration = Duration::from_secs(5);

    /// A client that begins now.
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

    /// Goes over to another ICE session (an ICE restart): checks until it is answered, with the same DTLS association.
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
        self.association
            .poll_timeout()
            .map_or(self.check_at, |at| at.min(self.check_at))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.check_at <= now {
            self.checks += 1;
            let check = write_check(&self.server, &self.own.ufrag, self.checks, !self.nominated);
            self.out.extend(check);
            self.check_at = now
                + if self.nominated {
                    ClientPeer::CHECK_INTERVAL
                } else {
                    ClientPeer::CHECK_RETRY
                };
        }
        self.association
            .handle_timeout(now, &mut |datagram| self.out.push_back(datagram));
    }

    /// Takes a datagram from the server.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Option<ClientEvent> {
        let is_of_now = self.is_of_now(datagram);
        let send = &mut |datagram| self.out.push_back(datagram);
        match classify(datagram) {
            Datagram::Stun if datagram.starts_with(&BINDING_SUCCESS) && !self.nominated && is_of_now => {
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
            _ => None,
        }
    }

    /// Whether a STUN response answers a check of this ICE session: its transaction is the check's number.
    fn is_of_now(&self, response: &[u8]) -> bool {
        let number = response.get(12..20).and_then(|bytes| bytes.first_chunk());
        number.is_some_and(|bytes| u64::from_be_bytes(*bytes) >= self.checks_from)
    }

    /// Ends the session with close_notify.
    pub fn close(&mut self, now: Instant) {
        self.association
            .close(now, &mut |datagram| self.out.push_back(datagram));
    }
}

/// The check of a full agent that controls. Like most, it nominates until that is answered, and only keeps the consent from then on.
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
    message.add(ATTR_PRIORITY, &0x6e00_01ff_u32.to_be_bytes());
    message.add(ATTR_ICE_CONTROLLING, &[1; 8]);
    if nominates {
        message.add(ATTR_USE_CANDIDATE, &[]);
    }
    integrity
        .add_to(&mut message)
        .and_then(|()| FINGERPRINT.add_to(&mut message))
        .ok()?;
    Some(message.raw)
}

/// A server without a candidate that we know. Nothing depends on it.
const UNKNOWN: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
/// The first two bytes of a binding success response.
const BINDING_SUCCESS: [u8; 2] = [1, 1];
/// The extension that our offers give id 3.
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

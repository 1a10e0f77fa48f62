//! The client's end of a session, without sockets: it checks, shakes hands and has the keys. Composed from the same parts as the
//! server's end, in the other roles.

use std::time::{Duration, Instant};

use crate::peer::demux::{Datagram, classify};
use crate::peer::dtls::{Association, Progress};
use crate::peer::srtp::SrtpKeys;
use crate::peer::{Certificate, DtlsRole, Fingerprint, IceCredentials, ice};

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
    own_ufrag: Box<str>,
    server: IceCredentials,
    fingerprint: Option<Fingerprint>,
    role: DtlsRole,
    association: Association,
    nominated: bool,
    connected: bool,
    checks: u64,
    check_at: Instant,
    out: Vec<Vec<u8>>,
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
    const CHECK_INTERVAL: Duration = Duration::from_secs(5);

    /// A client that begins now.
    pub fn new(
        own_ufrag: &str,
        answered: &Answered,
        active: bool,
        certificate: Certificate,
        now: Instant,
    ) -> ClientPeer {
        let role = if active { DtlsRole::Client } else { DtlsRole::Server };
        ClientPeer {
            own_ufrag: own_ufrag.into(),
            server: answered.ice.clone(),
            fingerprint: answered.fingerprint,
            role,
            association: Association::new(certificate, role),
            nominated: false,
            connected: false,
            checks: 0,
            check_at: now,
            out: Vec::new(),
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if let Some(datagram) = self.association.poll_transmit() {
            return Some(datagram.to_vec());
        }
        self.out.pop()
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
            let mut transaction = [0; 12];
            transaction[4..].copy_from_slice(&self.checks.to_be_bytes());
            self.out
                .extend(ice::write_check(&self.server, &self.own_ufrag, transaction, true));
            self.check_at = now
                + if self.nominated {
                    ClientPeer::CHECK_INTERVAL
                } else {
                    ClientPeer::CHECK_RETRY
                };
        }
        self.association.handle_timeout(now);
    }

    /// Takes a datagram from the server.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Option<ClientEvent> {
        match classify(datagram) {
            Datagram::Stun if ice::is_success(datagram) && !self.nominated => {
                self.nominated = true;
                self.check_at = now + ClientPeer::CHECK_INTERVAL;
                if self.role == DtlsRole::Client {
                    self.association.start(now);
                }
                None
            }
            Datagram::Dtls => match self.association.handle_datagram(now, datagram) {
                Progress::Complete { keys, fingerprint } => {
                    self.connected = true;
                    let expected = self.fingerprint.is_none_or(|expected| expected == fingerprint);
                    Some(if expected {
                        ClientEvent::Connected(keys)
                    } else {
                        ClientEvent::Closed
                    })
                }
                Progress::PeerClosed | Progress::Failed => Some(ClientEvent::Closed),
                Progress::None => None,
            },
            Datagram::Rtp => Some(ClientEvent::Media),
            Datagram::Rtcp => Some(ClientEvent::Control),
            _ => None,
        }
    }

    /// Ends the session with close_notify.
    pub fn close(&mut self, now: Instant) {
        self.association.close(now);
    }
}

/// The extension that our offers give id 3.
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

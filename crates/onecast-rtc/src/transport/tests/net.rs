//! A transport and an rtc-dtls endpoint as its client, in simulated time, with a link between them.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use crate::rtp::Ssrc;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile::{self, Srtp_Aead_Aes_128_Gcm as GCM};
use rtc_shared::TransportProtocol;
use rtc_srtp::config::LABEL_EXTRACTOR_DTLS_SRTP;

use super::super::*;
use crate::certificate::fingerprint_of;
use crate::crypto::{crypto, crypto_provider};
use crate::ice::probe::answer_request;
use crate::ice::tests::{controlling, credentials, request, use_candidate};
use crate::{Datagram, Fingerprint, Opener, PeerFingerprint, Profile, Sealer, demux};

/// A client of another implementation: its checks, its DTLS, and the result.
pub(super) struct Client {
    pub(super) endpoint: Endpoint,
    pub(super) config: Arc<HandshakeConfig>,
    /// The server's side of DTLS is the client's opposite.
    pub(super) starts: bool,
    pub(super) fingerprint: Fingerprint,
    pub(super) path: Path,
    pub(super) keys: Option<SrtpKeys>,
    pub(super) is_closed: bool,
}

impl Client {
    pub(super) fn new(profiles: Vec<SrtpProtectionProfile>, starts: bool) -> Self {
        Self::with(starts, |config| config.with_srtp_protection_profiles(profiles))
    }

    pub(super) fn with(starts: bool, more: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let certificate =
            rtc_dtls::crypto::Certificate::generate_self_signed(vec!["client".to_owned()], crypto()).unwrap();
        Self::showing(certificate, starts, more)
    }

    pub(super) fn showing(
        certificate: rtc_dtls::crypto::Certificate,
        starts: bool,
        more: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> Self {
        let fingerprint = fingerprint_of(&certificate.certificate[0]);
        let builder = ConfigBuilder::default()
            .with_crypto_provider(crypto_provider())
            .with_certificates(vec![certificate])
            .with_client_auth(if starts {
                ClientAuthType::NoClientCert
            } else {
                ClientAuthType::RequireAnyClientCert
            })
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_insecure_skip_verify(true)
            .with_server_name("server".to_owned())
            .with_flight_interval(Duration::from_millis(60));
        let config = Arc::new(more(builder).build(starts, None).unwrap());
        Self {
            endpoint: Endpoint::new(SERVER, TransportProtocol::UDP, (!starts).then(|| config.clone())),
            config,
            starts,
            fingerprint,
            path: path(1),
            keys: None,
            is_closed: false,
        }
    }

    pub(super) fn remote_transport(&self) -> RemoteTransport {
        RemoteTransport {
            ice: IceCredentials {
                ufrag: "theirs".into(),
                pwd: CLIENT_PWD.into(),
            },
            fingerprints: [Fingerprint([7; 32]), self.fingerprint]
                .map(PeerFingerprint::Sha256)
                .into(),
            role: if self.starts {
                DtlsRole::Server
            } else {
                DtlsRole::Client
            },
        }
    }

    pub(super) fn start(&mut self, now: Instant) {
        if self.starts {
            self.endpoint.connect(now, SERVER, self.config.clone(), None).unwrap();
        }
    }

    pub(super) fn handle(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(events) = self.endpoint.read(now, SERVER, None, datagram.into()) else {
            return;
        };
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => self.keys = Some(self.export()),
                EndpointEvent::PeerClosed => self.is_closed = true,
                _ => {}
            }
        }
    }

    pub(super) fn export(&self) -> SrtpKeys {
        let state = self.endpoint.get_connection_state(SERVER).unwrap();
        let profile = match state.srtp_protection_profile() {
            GCM => Profile::AeadAes128Gcm,
            _ => Profile::Aes128CmSha1_80,
        };
        let len = profile.keying_material_len();
        let material = state
            .export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], len)
            .unwrap();
        let role = if self.starts {
            DtlsRole::Client
        } else {
            DtlsRole::Server
        };
        SrtpKeys::from_keying_material(profile, material.as_ref(), role).unwrap()
    }
}

/// What the link does to the n-th DTLS datagram, counted over both directions.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fate {
    Deliver,
    Lose,
    Twice,
    Late,
}

pub(super) type FateOf = dyn FnMut(usize, &[u8]) -> Fate;

pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) server: Transport,
    pub(super) client: Client,
    pub(super) to_server: VecDeque<(Path, Vec<u8>)>,
    pub(super) to_client: VecDeque<Vec<u8>>,
    pub(super) late: Vec<(bool, Vec<u8>)>,
    pub(super) dtls_count: usize,
    pub(super) fate: Box<FateOf>,
    pub(super) events: Vec<TransportEvent>,
    pub(super) stun_answers: usize,
    /// Further paths of the client, on which it answers requests.
    pub(super) homes: Vec<Path>,
    /// All datagrams of the server: destination and length.
    pub(super) sent: Vec<(Path, usize)>,
}

impl Net {
    pub(super) fn new(client: Client) -> Self {
        let now = onecast_udp::clock::now();
        let server = transport(client.remote_transport(), now);
        Self {
            now,
            server,
            client,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            late: Vec::new(),
            dtls_count: 0,
            fate: Box::new(|_, _| Fate::Deliver),
            events: Vec::new(),
            stun_answers: 0,
            homes: Vec::new(),
            sent: Vec::new(),
        }
    }

    pub(super) fn check_from(&mut self, from: Path, nominate: bool) -> Result<Check, StunDrop> {
        self.check_with("ours:theirs", &credentials().pwd, from, nominate)
    }

    pub(super) fn check_with(&mut self, name: &str, pwd: &str, from: Path, nominate: bool) -> Result<Check, StunDrop> {
        let mut more = vec![controlling()];
        if nominate {
            more.push(use_candidate());
        }
        let datagram = request(name, pwd, more);
        let mut out = Vec::new();
        let check = self.server.handle_stun(self.now, from, &datagram, &mut out);
        self.send(out);
        check
    }

    pub(super) fn connect(&mut self) -> &mut Self {
        self.check_from(self.client.path, false).unwrap();
        self.check_from(self.client.path, true).unwrap();
        self.client.start(self.now);
        self.run(Duration::from_secs(14));
        self
    }

    pub(super) fn send(&mut self, out: Vec<Transmit>) {
        for transmit in out {
            assert!(self.server.is_checked(transmit.to) || demux::classify(&transmit.bytes) == Datagram::Stun);
            self.sent.push((transmit.to, transmit.bytes.len()));
            if transmit.bytes.starts_with(&[0, 1]) {
                self.take_request(transmit.to, &transmit.bytes);
            } else if demux::classify(&transmit.bytes) == Datagram::Stun {
                self.stun_answers += 1;
            } else if transmit.to == self.client.path {
                self.pass(false, transmit.bytes);
            }
        }
    }

    /// The client answers a request of the server if it is there.
    fn take_request(&mut self, at: Path, request: &[u8]) {
        if at != self.client.path && !self.homes.contains(&at) {
            return;
        }
        let name = |ufrag: &str| IceCredentials {
            ufrag: ufrag.into(),
            pwd: CLIENT_PWD.into(),
        };
        let sessions = [("theirs", "ours"), ("renewed", "new1"), ("renewed", "new2")];
        let answers = sessions.map(|(own, server)| answer_request(request, SERVER, &name(own), server));
        for answer in answers.into_iter().flatten() {
            let event = self.server.handle_answer(self.now, at, &answer).unwrap();
            self.events.extend(event);
        }
    }

    /// Bytes that the server sent there.
    pub(super) fn bytes_to(&self, at: Path) -> usize {
        self.sent.iter().filter(|(to, _)| *to == at).map(|(_, len)| len).sum()
    }

    pub(super) fn pass(&mut self, to_server: bool, bytes: Vec<u8>) {
        let fate = (self.fate)(self.dtls_count, &bytes);
        self.dtls_count += 1;
        let from = self.client.path;
        let copies = match fate {
            Fate::Deliver => 1,
            Fate::Twice => 2,
            Fate::Lose => 0,
            Fate::Late => {
                self.late.push((to_server, bytes));
                return;
            }
        };
        for _ in 0..copies {
            if to_server {
                self.to_server.push_back((from, bytes.clone()));
            } else {
                self.to_client.push_back(bytes.clone());
            }
        }
        for (to_server, bytes) in std::mem::take(&mut self.late) {
            if to_server {
                self.to_server.push_back((from, bytes));
            } else {
                self.to_client.push_back(bytes);
            }
        }
    }

    pub(super) fn pump_client(&mut self) {
        while let Some(transmit) = self.client.endpoint.poll_transmit() {
            self.pass(true, transmit.message.to_vec());
        }
    }

    /// Runs until nothing happens within `span`, or it has ended.
    pub(super) fn run(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            self.pump_client();
            let mut out = Vec::new();
            if let Some((from, bytes)) = self.to_server.pop_front() {
                self.events
                    .extend(self.server.handle_dtls(self.now, from, &bytes, &mut out));
            } else if let Some(bytes) = self.to_client.pop_front() {
                self.client.handle(self.now, &bytes);
            } else {
                let client = self.client.endpoint.poll_timeout(&SERVER);
                let next = [client, self.server.poll_timeout()].into_iter().flatten().min();
                match next.filter(|next| *next <= until && !self.is_idle()) {
                    Some(next) => self.now = self.now.max(next),
                    None => break,
                }
                let _ = self.client.endpoint.handle_timeout(SERVER, self.now);
                self.events.extend(self.server.handle_timeout(self.now, &mut out));
            }
            self.send(out);
        }
    }

    /// Both sides have their keys.
    pub(super) fn is_idle(&self) -> bool {
        self.client.keys.is_some() && !self.events.is_empty() || self.server.is_closed()
    }

    pub(super) fn advance(&mut self, span: Duration) {
        self.now += span;
        let mut out = Vec::new();
        self.events.extend(self.server.handle_timeout(self.now, &mut out));
        self.send(out);
    }

    pub(super) fn keys(&self) -> &SrtpKeys {
        match &self.events[..] {
            [TransportEvent::Connected(keys), ..] => keys,
            other => panic!("not connected: {other:?}"),
        }
    }

    pub(super) fn closed(&self) -> Option<CloseReason> {
        match self.events.last() {
            Some(TransportEvent::Closed(reason)) => Some(*reason),
            _ => None,
        }
    }

    pub(super) fn assert_connected(&self, profile: Profile) {
        let (ours, theirs) = (self.keys(), self.client.keys.as_ref().expect("the client has keys"));
        assert_eq!((ours.profile(), theirs.profile()), (profile, profile));
        let mut packet = [0; 64];
        packet[..12].copy_from_slice(&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]);
        let len = Sealer::new(ours).seal_rtp(&mut packet, 12, 40, 1);
        assert_eq!(Opener::new(theirs).open_rtp(&mut packet[..len], 12, Ssrc(9), 1), Ok(40));
    }
}

/// The server's end for this client, which is a viewer.
pub(super) fn transport(remote: RemoteTransport, now: Instant) -> Transport {
    Transport::new(credentials(), remote, certificate(), (Sends::Media, 0), now)
}

pub(super) const CLIENT_PWD: &str = "the-clients-password-22";
pub(super) const SERVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080));

pub(super) fn path(host: u8) -> Path {
    Path::udp(([192, 0, 2, host], 5000).into())
}

pub(super) fn certificate() -> Certificate {
    static CERTIFICATE: std::sync::OnceLock<Certificate> = std::sync::OnceLock::new();
    CERTIFICATE.get_or_init(|| Certificate::generate().unwrap()).clone()
}

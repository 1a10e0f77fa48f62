//! One client's transport, in simulated time: handshakes under loss, both DTLS roles, both profiles, endings.

#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use onecast::load::client_peer::{Answered, ClientEvent, ClientPeer};
use onecast::peer::srtp::{Opener, Profile, Sealer, SrtpKeys};
use onecast::peer::transport::{CloseReason, Outgoing, Transport, TransportEvent};
use onecast::peer::{Certificate, DtlsRole, Fingerprint, IceCredentials, RemoteTransport};

fn credentials(name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: name.into(),
        pwd: format!("{name}{name}0123456789012345678901").into(),
    }
}

fn address(port: u16) -> SocketAddr {
    ([192, 0, 2, 10], port).into()
}

/// A server's transport and a client, and whatever is between them.
struct Pair {
    now: Instant,
    transport: Transport,
    client: ClientPeer,
    from: SocketAddr,
    server_keys: Option<SrtpKeys>,
    client_keys: Option<SrtpKeys>,
    closed: Option<CloseReason>,
    client_closed: bool,
    /// Datagrams sent so far, and those that are lost.
    sent: usize,
    lost: Box<dyn Fn(usize) -> bool>,
}

impl Pair {
    fn new(active: bool, client_certificate: &Certificate, announced: Fingerprint) -> Pair {
        let now = onecast::clock::now();
        let certificate = Certificate::generate().unwrap();
        let (local, own) = (credentials("server"), credentials("client"));
        let remote = RemoteTransport {
            ice: own.clone(),
            fingerprints: vec![announced],
            role: if active { DtlsRole::Server } else { DtlsRole::Client },
        };
        let answered = Answered {
            ice: local.clone(),
            fingerprint: Some(certificate.fingerprint()),
            candidates: vec![],
            ssrcs: vec![],
        };
        Pair {
            now,
            transport: Transport::new(local, remote, certificate, now),
            client: ClientPeer::new(&own.ufrag, &answered, active, client_certificate.clone(), now),
            from: address(4_000),
            server_keys: None,
            client_keys: None,
            closed: None,
            client_closed: false,
            sent: 0,
            lost: Box::new(|_| false),
        }
    }

    fn usual() -> Pair {
        let certificate = Certificate::generate().unwrap();
        Pair::new(true, &certificate, certificate.fingerprint())
    }

    /// Goes on until both ends have keys, somebody closed, or the time is over.
    fn run(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self.now < end && self.closed.is_none() && (self.server_keys.is_none() || self.client_keys.is_none()) {
            self.step();
        }
    }

    fn step(&mut self) {
        let mut out = Vec::new();
        self.client.handle_timeout(self.now);
        let event = self.transport.handle_timeout(self.now, &mut out);
        self.take(event);
        self.exchange(out);
        self.now += Duration::from_millis(10);
    }

    fn exchange(&mut self, mut out: Vec<Outgoing>) {
        loop {
            for outgoing in std::mem::take(&mut out) {
                assert!(
                    self.transport.is_checked(outgoing.to),
                    "sent to an address that passed no check"
                );
                if self.is_lost() {
                    continue;
                }
                match self.client.handle_datagram(self.now, &outgoing.bytes) {
                    Some(ClientEvent::Connected(keys)) => self.client_keys = Some(keys),
                    Some(ClientEvent::Closed) => self.client_closed = true,
                    _ => {}
                }
            }
            let mut idle = true;
            while let Some(datagram) = self.client.poll_transmit() {
                idle = false;
                if !self.is_lost() {
                    self.deliver(&datagram, &mut out);
                }
            }
            if idle && out.is_empty() {
                return;
            }
        }
    }

    fn deliver(&mut self, datagram: &[u8], out: &mut Vec<Outgoing>) {
        if datagram[0] < 4 {
            let _ = self.transport.handle_stun(self.now, self.from, datagram, out);
        } else {
            let event = self.transport.handle_dtls(self.now, self.from, datagram, out);
            self.take(event);
        }
    }

    fn take(&mut self, event: Option<TransportEvent>) {
        match event {
            Some(TransportEvent::Connected(keys)) => self.server_keys = Some(keys),
            Some(TransportEvent::Closed(reason)) => self.closed = Some(reason),
            None => {}
        }
    }

    fn is_lost(&mut self) -> bool {
        self.sent += 1;
        (self.lost)(self.sent - 1)
    }

    fn assert_connected(&self, profile: Profile) {
        let (server, client) = (self.server_keys.as_ref().unwrap(), self.client_keys.as_ref().unwrap());
        assert_eq!((server.profile, client.profile), (profile, profile));
        let mut report = vec![0; 100];
        let len = onecast::rtp::rtcp::write_pli(&mut report, 1, 2);
        let len = Sealer::new(server).seal_rtcp(&mut report, len);
        assert!(
            Opener::new(client).open_rtcp(&mut report[..len]).is_ok(),
            "both ends have the same keys"
        );
    }
}

#[test]
fn gcm_is_chosen_although_the_client_lists_sha1_first() {
    let certificate = Certificate::generate_offering(&[Profile::Aes128CmSha1, Profile::AeadAes128Gcm]).unwrap();
    let mut pair = Pair::new(true, &certificate, certificate.fingerprint());
    pair.run(Duration::from_secs(1));
    pair.assert_connected(Profile::AeadAes128Gcm);
}

#[test]
fn a_client_without_gcm_is_served_with_sha1() {
    let certificate = Certificate::generate_offering(&[Profile::Aes128CmSha1]).unwrap();
    let mut pair = Pair::new(true, &certificate, certificate.fingerprint());
    pair.run(Duration::from_secs(5));
    pair.assert_connected(Profile::Aes128CmSha1);
}

#[test]
fn a_passive_client_is_called() {
    let certificate = Certificate::generate().unwrap();
    let mut pair = Pair::new(false, &certificate, certificate.fingerprint());
    pair.run(Duration::from_secs(1));
    pair.assert_connected(Profile::AeadAes128Gcm);
}

#[test]
fn any_one_datagram_may_be_lost() {
    for active in [true, false] {
        for lost in 0..20 {
            let certificate = Certificate::generate().unwrap();
            let mut pair = Pair::new(active, &certificate, certificate.fingerprint());
            pair.lost = Box::new(move |number| number == lost);
            pair.run(Duration::from_secs(5));
            assert!(
                pair.server_keys.is_some() && pair.client_keys.is_some(),
                "active {active}, lost {lost}"
            );
        }
    }
}

#[test]
fn a_certificate_that_was_not_announced_is_refused() {
    let (certificate, other) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
    let mut pair = Pair::new(true, &certificate, other.fingerprint());
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.closed, Some(CloseReason::FingerprintMismatch));
    assert!(pair.server_keys.is_none());
}

#[test]
fn forged_datagrams_do_not_end_a_handshake() {
    let mut pair = Pair::usual();
    pair.client.handle_timeout(pair.now);
    let check = pair.client.poll_transmit().unwrap();
    let mut out = Vec::new();
    pair.deliver(&check, &mut out);
    let fatal_alert = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let unknown_type = [25, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0];
    let mut seed = 3u32;
    for _ in 0..500 {
        let junk: Vec<u8> = (0..60)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        let mut handshake = junk.clone();
        handshake[..13].copy_from_slice(&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 47]);
        for forged in [&fatal_alert[..], &unknown_type, &junk, &handshake] {
            let mut answers = Vec::new();
            let event = pair.transport.handle_dtls(pair.now, pair.from, forged, &mut answers);
            assert!(event.is_none());
        }
    }
    pair.exchange(out);
    pair.run(Duration::from_secs(3));
    pair.assert_connected(Profile::AeadAes128Gcm);
}

#[test]
fn dtls_from_an_unchecked_address_is_passed_over() {
    let mut pair = Pair::usual();
    let mut out = Vec::new();
    let hello = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(
        pair.transport
            .handle_dtls(pair.now, address(1), &hello, &mut out)
            .is_none()
    );
    assert!(out.is_empty());
}

#[test]
fn the_client_says_goodbye_before_and_after_media() {
    for media in [false, true] {
        for active in [true, false] {
            let certificate = Certificate::generate().unwrap();
            let mut pair = Pair::new(active, &certificate, certificate.fingerprint());
            pair.run(Duration::from_secs(1));
            if media {
                pair.transport.handle_authenticated_media(pair.now);
            }
            pair.client.close(pair.now);
            pair.exchange(Vec::new());
            assert_eq!(
                pair.closed,
                Some(CloseReason::PeerClosed),
                "media {media}, active {active}"
            );
        }
    }
}

#[test]
fn we_say_goodbye_before_and_after_media() {
    for media in [false, true] {
        let mut pair = Pair::usual();
        pair.run(Duration::from_secs(1));
        if media {
            pair.transport.handle_authenticated_media(pair.now);
        }
        let mut out = Vec::new();
        pair.transport.close(pair.now, &mut out);
        assert_eq!(out.len(), 1);
        pair.exchange(out);
        assert!(pair.client_closed, "media {media}");
    }
}

#[test]
fn a_forged_goodbye_after_media_is_passed_over() {
    let mut pair = Pair::usual();
    pair.run(Duration::from_secs(1));
    pair.transport.handle_authenticated_media(pair.now);
    let mut forged = vec![21, 254, 253, 0, 1, 0, 0, 0, 0, 0, 9, 0, 26];
    forged.extend([7; 26]);
    let event = pair
        .transport
        .handle_dtls(pair.now, pair.from, &forged, &mut Vec::new());
    assert!(event.is_none());
}

#[test]
fn a_silent_client_is_gone_after_30_seconds() {
    let mut pair = Pair::usual();
    pair.run(Duration::from_secs(1));
    pair.lost = Box::new(|_| true);
    let silent_since = pair.now;
    while pair.closed.is_none() {
        pair.step();
    }
    assert_eq!(pair.closed, Some(CloseReason::ConsentExpired));
    let after = pair.now - silent_since;
    assert!(
        after > Duration::from_secs(24) && after <= Duration::from_secs(31),
        "{after:?}"
    );
}

#[test]
fn a_handshake_that_does_not_finish_is_given_up() {
    let mut pair = Pair::usual();
    pair.lost = Box::new(|number| number >= 6);
    pair.run(Duration::from_secs(60));
    assert!(
        matches!(
            pair.closed,
            Some(CloseReason::HandshakeTimeout | CloseReason::HandshakeFailed)
        ),
        "{:?}",
        pair.closed
    );
}

#[test]
fn media_follows_a_client_that_moves() {
    let mut pair = Pair::usual();
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.transport.remote(), Some(address(4_000)));
    pair.from = address(5_000);
    for _ in 0..600 {
        pair.step();
    }
    assert_eq!(pair.transport.remote(), Some(address(5_000)));
}

//! Against an rtc-dtls endpoint as the client, in simulated time, over a link that can lose, repeat and reorder.

mod hostile;
mod keys;
mod moves;
mod net;
mod restarts;

use rtc_dtls::config::ExtendedMasterSecretType;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile::{
    self, Srtp_Aead_Aes_128_Gcm as GCM, Srtp_Aes128_Cm_Hmac_Sha1_32 as SHA1_32, Srtp_Aes128_Cm_Hmac_Sha1_80 as SHA1,
};

use self::net::{Client, Fate, Net, SERVER, path, transport};
use super::*;
use crate::ice::tests::{credentials, request, use_candidate};
use crate::{Fingerprint, HandshakeError, PeerFingerprint, Profile};

fn connected() -> Net {
    let mut net = Net::new(Client::new(vec![SHA1, GCM], true));
    net.connect();
    net.assert_connected(Profile::AeadAes128Gcm);
    net
}

#[test]
fn gcm_is_chosen_over_the_clients_order() {
    let net = connected();
    assert_eq!(net.server.path(), Some(path(1)));
    assert_eq!(net.stun_answers, 2);
}

#[test]
fn a_client_without_gcm_is_served() {
    let mut net = Net::new(Client::new(vec![SHA1], true));
    net.connect().assert_connected(Profile::Aes128CmSha1_80);
    let heard = net.server.paths.selected().unwrap().heard;
    assert_eq!(net.now, heard, "at once, without a repeated flight");
}

#[test]
fn a_client_without_a_known_profile_is_reported() {
    let mut net = Net::new(Client::new(vec![SHA1_32], true));
    net.connect();
    assert_eq!(
        net.closed(),
        Some(CloseReason::HandshakeFailed(HandshakeError::NoSrtpProfile))
    );
    let mut net = Net::new(Client::new(vec![], true));
    net.connect();
    assert_eq!(
        net.closed(),
        Some(CloseReason::HandshakeFailed(HandshakeError::NoSrtpProfile))
    );
}

#[test]
fn we_start_dtls_when_the_client_is_passive() {
    for (profiles, profile) in [
        (vec![GCM, SHA1], Profile::AeadAes128Gcm),
        (vec![SHA1], Profile::Aes128CmSha1_80),
    ] {
        let mut net = Net::new(Client::new(profiles, false));
        net.check_from(path(1), false).unwrap();
        net.run(Duration::from_millis(100));
        assert_eq!(net.dtls_count, 0, "not before nomination");
        net.connect().assert_connected(profile);
    }
}

/// Connects over a link with this fate and returns how many datagrams went over it.
fn connect_over(
    starts: bool,
    profiles: &[SrtpProtectionProfile],
    fate: impl FnMut(usize, &[u8]) -> Fate + 'static,
) -> usize {
    let mut net = Net::new(Client::new(profiles.to_vec(), starts));
    net.fate = Box::new(fate);
    net.connect();
    let profile = if profiles.contains(&GCM) {
        Profile::AeadAes128Gcm
    } else {
        Profile::Aes128CmSha1_80
    };
    net.assert_connected(profile);
    net.dtls_count
}

#[test]
fn a_handshake_survives_the_loss_of_any_datagram() {
    for starts in [true, false] {
        for profiles in [[SHA1, GCM], [SHA1, SHA1]] {
            let count = connect_over(starts, &profiles, |_, _| Fate::Deliver);
            for lost in 0..count {
                connect_over(
                    starts,
                    &profiles,
                    move |n, _| if n == lost { Fate::Lose } else { Fate::Deliver },
                );
                connect_over(starts, &profiles, move |n, _| {
                    if (lost..lost + 3).contains(&n) {
                        Fate::Lose
                    } else {
                        Fate::Deliver
                    }
                });
            }
        }
    }
}

#[test]
fn a_handshake_survives_repetition_and_disorder() {
    for starts in [true, false] {
        connect_over(starts, &[SHA1, GCM], |_, _| Fate::Twice);
        let count = connect_over(starts, &[SHA1, GCM], |_, _| Fate::Deliver);
        for late in 0..count {
            connect_over(
                starts,
                &[SHA1, GCM],
                move |n, _| if n == late { Fate::Late } else { Fate::Deliver },
            );
        }
    }
}

#[test]
fn another_certificate_than_the_offers_is_refused() {
    for starts in [true, false] {
        let mut net = Net::new(Client::new(vec![GCM], starts));
        let mut remote = net.client.remote_transport();
        remote.fingerprints = vec![PeerFingerprint::Sha256(Fingerprint([7; 32]))];
        net.server = transport(remote, net.now);
        net.connect();
        assert_eq!(net.closed(), Some(CloseReason::FingerprintMismatch));
        assert!(net.server.is_closed());
        assert_eq!(net.events.len(), 1, "no keys came out");
        assert!(
            starts != net.client.is_closed,
            "a server hears a close_notify, a client never gets that far"
        );
        assert_eq!(net.client.keys.is_none(), starts);
    }
}

#[test]
fn extended_master_secret_is_required() {
    let mut net = Net::new(Client::with(true, |config| {
        config
            .with_srtp_protection_profiles(vec![GCM])
            .with_extended_master_secret(ExtendedMasterSecretType::Disable)
    }));
    net.connect();
    assert_eq!(
        net.closed(),
        Some(CloseReason::HandshakeFailed(HandshakeError::NoExtendedMasterSecret))
    );
}

#[test]
fn a_client_certificate_is_required() {
    let mut net = Net::new(Client::with(true, |config| {
        config
            .with_srtp_protection_profiles(vec![GCM])
            .with_certificates(vec![])
    }));
    net.connect();
    assert_eq!(
        net.closed(),
        Some(CloseReason::HandshakeFailed(HandshakeError::NoCertificate))
    );
}

#[test]
fn an_unencrypted_alert_ends_nothing_but_explains_a_timeout() {
    let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 90, 0, 2, 2, 40];
    let mut net = Net::new(Client::new(vec![GCM], true));
    net.check_from(path(1), true).unwrap();
    let mut out = Vec::new();
    assert!(net.server.handle_dtls(net.now, path(1), &alert, &mut out).is_none());
    assert!(out.is_empty());
    net.advance(HANDSHAKE_TIMEOUT);
    let reason = net.closed().unwrap();
    assert_eq!(reason, CloseReason::HandshakeFailed(HandshakeError::Refused(40)));
    assert!(reason.to_string().contains("handshake_failure"), "{reason}");
}

#[test]
fn stun_with_a_wrong_password_changes_nothing() {
    let mut net = Net::new(Client::new(vec![GCM], true));
    let forged = request("ours:theirs", "guessed-password-of-22", vec![use_candidate()]);
    let mut out = Vec::new();
    let dropped = net.server.handle_stun(net.now, path(6), &forged, &mut out);
    assert_eq!(dropped, Err(StunDrop::Integrity));
    assert!(out.is_empty() && !net.server.is_checked(path(6)) && net.server.path().is_none());
}

#[test]
fn dtls_from_an_unchecked_address_is_ignored() {
    let mut net = Net::new(Client::new(vec![GCM], true));
    net.check_from(path(2), true).unwrap();
    net.client.start(net.now);
    net.run(Duration::from_secs(5));
    assert!(net.events.is_empty());
    assert!(net.client.keys.is_none());
}

#[test]
fn forged_records_do_not_disturb_a_handshake() {
    let forged: [&[u8]; 7] = [
        &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 90, 0, 2, 2, 40],
        &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 91, 0, 2, 1, 0],
        &[20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 92, 0, 1, 9],
        &[20, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1],
        &[23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 93, 0, 1, 0],
        &[24, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 94, 0, 1, 0],
        &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 95, 0, 3, 1, 2, 3],
    ];
    for starts in [true, false] {
        let mut net = Net::new(Client::new(vec![GCM], starts));
        net.check_from(path(1), true).unwrap();
        net.client.start(net.now);
        for _ in 0..12 {
            net.pump_client();
            for bytes in forged {
                let mut out = Vec::new();
                let event = net.server.handle_dtls(net.now, path(1), bytes, &mut out);
                assert!(event.is_none() && out.is_empty(), "{bytes:?}");
            }
            let mut out = Vec::new();
            if let Some((from, bytes)) = net.to_server.pop_front() {
                net.events
                    .extend(net.server.handle_dtls(net.now, from, &bytes, &mut out));
            }
            net.send(out);
            while let Some(bytes) = net.to_client.pop_front() {
                net.client.handle(net.now, &bytes);
            }
        }
        net.assert_connected(Profile::AeadAes128Gcm);
    }
}

#[test]
fn a_close_of_the_client_is_answered_before_and_after_settling() {
    for starts in [true, false] {
        for settles in [false, true] {
            let mut net = Net::new(Client::new(vec![GCM], starts));
            net.connect().assert_connected(Profile::AeadAes128Gcm);
            if settles {
                net.server.handle_authenticated_media(net.now, path(1));
                assert!(matches!(net.server.phase, Phase::Settled(_)));
            }
            net.client.endpoint.stop(net.now, SERVER);
            net.pump_client();
            let mut answers = Vec::new();
            while let Some((from, bytes)) = net.to_server.pop_front() {
                net.events
                    .extend(net.server.handle_dtls(net.now, from, &bytes, &mut answers));
            }
            assert_eq!(
                net.closed(),
                Some(CloseReason::PeerClosed),
                "starts {starts}, settles {settles}"
            );
            assert!(!answers.is_empty());
        }
    }
}

#[test]
fn our_close_reaches_the_client_before_and_after_settling() {
    for starts in [true, false] {
        for settles in [false, true] {
            let mut net = Net::new(Client::new(vec![GCM], starts));
            net.connect().assert_connected(Profile::AeadAes128Gcm);
            if settles {
                net.advance(LINGER);
                assert!(matches!(net.server.phase, Phase::Settled(_)));
            }
            let mut out = Vec::new();
            net.server.close(&mut out);
            assert_eq!(out.len(), 1);
            net.send(out);
            net.run(Duration::ZERO);
            assert!(net.client.is_closed);
            assert!(net.server.is_closed());
            assert_eq!(net.server.poll_timeout(), None);
            assert_eq!(net.check_from(path(1), true), Err(StunDrop::Closed));
        }
    }
}

#[test]
fn forged_alerts_do_not_close_a_settled_peer() {
    let mut net = connected();
    net.server.handle_authenticated_media(net.now, path(1));
    let mut alert = vec![21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 3, 0, 26];
    alert.resize(13 + 26, 0x55);
    for _ in 0..200 {
        let mut out = Vec::new();
        assert!(net.server.handle_dtls(net.now, path(1), &alert, &mut out).is_none());
        assert!(out.is_empty());
    }
    assert!(!net.server.is_closed());
}

#[test]
fn a_lost_last_flight_is_repeated() {
    let mut net = Net::new(Client::new(vec![GCM], true));
    let mut is_lost = false;
    // The server's first datagram with a ChangeCipherSpec; the client's is larger.
    net.fate = Box::new(move |_, bytes| {
        if bytes[0] == 20 && !is_lost {
            is_lost = true;
            return Fate::Lose;
        }
        Fate::Deliver
    });
    net.connect().assert_connected(Profile::AeadAes128Gcm);
}

#[test]
fn consent_expires_thirty_seconds_after_the_last_check() {
    let mut net = connected();
    for _ in 0..20 {
        net.advance(Duration::from_secs(5));
        net.check_from(path(1), false).unwrap();
    }
    assert_eq!(net.events.len(), 1);
    assert_eq!(net.server.poll_timeout(), Some(net.now + CONSENT_TIMEOUT));
    net.advance(CONSENT_TIMEOUT - Duration::from_millis(1));
    assert!(net.closed().is_none());
    net.advance(Duration::from_millis(1));
    assert_eq!(net.closed(), Some(CloseReason::ConsentExpired));
    assert_eq!(net.server.poll_timeout(), None);
}

#[test]
fn a_client_that_never_connects_times_out() {
    let mut net = Net::new(Client::new(vec![GCM], true));
    net.advance(CHECK_TIMEOUT - Duration::from_millis(1));
    assert!(net.events.is_empty());
    net.advance(Duration::from_millis(1));
    assert_eq!(net.closed(), Some(CloseReason::HandshakeTimeout));
    for starts in [true, false] {
        let mut net = Net::new(Client::new(vec![GCM], starts));
        net.fate = Box::new(|_, _| Fate::Lose);
        net.homes = vec![path(1)];
        net.check_from(path(1), true).unwrap();
        let started = net.now;
        net.run(Duration::from_secs(60));
        assert_eq!(net.closed(), Some(CloseReason::HandshakeTimeout));
        assert_eq!(net.now - started, HANDSHAKE_TIMEOUT);
        assert!(net.dtls_count <= 8, "{} flights into the void", net.dtls_count);
    }
}

#[test]
fn media_follows_a_client_that_moves() {
    let mut net = connected();
    net.homes = vec![path(2)];
    net.server.handle_authenticated_media(net.now, path(1));
    assert_eq!(net.check_from(path(2), false), Ok(Check::New));
    assert_eq!(net.server.path(), Some(path(1)), "a check alone is no choice");
    assert_eq!(net.check_from(path(2), true), Ok(Check::Known));
    assert_eq!(net.server.path(), Some(path(2)));
    net.client.path = path(2);
    net.client.endpoint.stop(net.now, SERVER);
    net.run(Duration::ZERO);
    assert_eq!(net.closed(), Some(CloseReason::PeerClosed));
}

#[test]
fn a_handshake_continues_from_another_address() {
    let mut net = Net::new(Client::new(vec![GCM], true));
    net.check_from(path(1), true).unwrap();
    net.client.start(net.now);
    net.pump_client();
    let (_, hello) = net.to_server.pop_front().unwrap();
    let mut out = Vec::new();
    net.server.handle_dtls(net.now, path(1), &hello, &mut out);
    net.client.path = path(2);
    net.connect().assert_connected(Profile::AeadAes128Gcm);
}

#[test]
fn checked_addresses_are_bounded_and_the_remote_stays() {
    let mut net = connected();
    for host in 2..=CHECKED_MAX as u8 {
        assert_eq!(net.check_from(path(host), false), Ok(Check::New));
        assert_eq!(net.server.poll_lost(), None);
    }
    for host in 100..120 {
        assert_eq!(net.check_from(path(host), false), Ok(Check::New));
        let lost = net.server.poll_lost().expect("another made way");
        assert!(!net.server.is_checked(lost));
        assert_ne!(lost, path(1));
        assert_eq!(
            (net.server.checked().count(), net.server.poll_lost()),
            (CHECKED_MAX, None)
        );
    }
    assert!(net.server.is_checked(path(1)));
    assert!(net.server.is_checked(path(119)));
}

/// Every datagram of real handshakes, damaged in random places, at every stage.
#[test]
fn damaged_and_random_bytes_never_panic() {
    for seed in 1..80u64 {
        let mut random = seed;
        let mut net = Net::new(Client::new(vec![SHA1, GCM], seed % 2 == 0));
        net.check_from(path(1), true).unwrap();
        net.client.start(net.now);
        let mut next = move || {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (random >> 33) as usize
        };
        for _ in 0..60 {
            net.pump_client();
            let mut out = Vec::new();
            if let Some((from, whole)) = net.to_server.pop_front() {
                for _ in 0..1 + next() % 3 {
                    let mut bytes = whole.clone();
                    for _ in 0..1 + next() % 4 {
                        let at = next() % bytes.len();
                        bytes[at] = next() as u8;
                    }
                    bytes.truncate(1 + next() % (2 * bytes.len()));
                    net.events
                        .extend(net.server.handle_dtls(net.now, from, &bytes, &mut out));
                    let _ = net.server.handle_stun(net.now, from, &bytes, &mut out);
                }
                net.events
                    .extend(net.server.handle_dtls(net.now, from, &whole, &mut out));
            }
            let noise: Vec<u8> = (0..next() % 90).map(|_| next() as u8).collect();
            net.events
                .extend(net.server.handle_dtls(net.now, path(1), &noise, &mut out));
            let _ = net.server.handle_stun(net.now, path(1), &noise, &mut out);
            net.now += Duration::from_millis(50);
            net.events.extend(net.server.handle_timeout(net.now, &mut out));
            net.send(out);
            while let Some(bytes) = net.to_client.pop_front() {
                net.client.handle(net.now, &bytes);
            }
            let _ = net.client.endpoint.handle_timeout(SERVER, net.now);
        }
    }
}

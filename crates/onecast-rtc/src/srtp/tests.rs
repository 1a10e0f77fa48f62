//! Against rtc-srtp as the other implementation, and against every kind of bad packet.

use rtc_shared::marshal::Unmarshal;
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_no_replay_protection, srtp_no_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

use super::super::crypto::crypto;
use super::*;
use crate::rtp::Ssrc;

mod sources;

const PROFILES: [Profile; 2] = [Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80];
const SSRC: u32 = 0x1234_5678;

fn keys(profile: Profile, role: DtlsRole) -> SrtpKeys {
    let material: Vec<u8> = (0..profile.keying_material_len()).map(|i| (i * 7 + 3) as u8).collect();
    SrtpKeys::from_keying_material(profile, &material, role).unwrap()
}

/// We are the server, `other` is the client.
fn pair(profile: Profile) -> (Sealer, Opener) {
    (
        Sealer::new(&keys(profile, DtlsRole::Server)),
        Opener::new(&keys(profile, DtlsRole::Client)),
    )
}

fn reference(profile: Profile) -> Context {
    let master = keys(profile, DtlsRole::Server).local;
    let (profile, salt_len) = match profile {
        Profile::AeadAes128Gcm => (ProtectionProfile::AeadAes128Gcm, 12),
        Profile::Aes128CmSha1_80 => (ProtectionProfile::Aes128CmHmacSha1_80, 14),
    };
    Context::new(
        &master.key,
        &master.salt[..salt_len],
        profile,
        Some(srtp_no_replay_protection()),
        Some(srtcp_no_replay_protection()),
        crypto(),
    )
    .unwrap()
}

/// A packet with two one-byte extensions and a CSRC; its header is 28 bytes.
fn rtp(sequence: u16, payload_len: usize) -> Vec<u8> {
    let mut packet = vec![0x91, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend(90_000u32.to_be_bytes());
    packet.extend(SSRC.to_be_bytes());
    packet.extend(77u32.to_be_bytes());
    packet.extend([0xbe, 0xde, 0, 2, 0x10, 5, 0x22, 1, 2, 3, 0, 0]);
    packet.extend((0..payload_len).map(|i| i as u8 ^ sequence as u8));
    packet
}
const HEADER_LEN: usize = 28;

fn rtcp(ssrc: u32, words: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 201];
    packet.extend((words + 1).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..words * 4).map(|i| i as u8));
    packet
}

fn seal(sealer: &mut Sealer, clear: &[u8], index: u64) -> Vec<u8> {
    let mut buf = clear.to_vec();
    buf.resize(clear.len() + 32, 0xaa);
    let len = sealer.seal_rtp(&mut buf, HEADER_LEN, clear.len(), index);
    assert_eq!(len, clear.len() + sealer.overhead());
    buf.truncate(len);
    buf
}

fn seal_rtcp(sealer: &mut Sealer, clear: &[u8]) -> Vec<u8> {
    let mut buf = clear.to_vec();
    buf.resize(clear.len() + RTCP_OVERHEAD_MAX, 0xaa);
    let len = sealer.seal_rtcp(&mut buf, clear.len());
    buf.truncate(len);
    buf
}

fn open(opener: &mut Opener, sealed: &[u8], sequence: u16) -> Result<Vec<u8>, SrtpDrop> {
    let mut datagram = sealed.to_vec();
    let len = opener.open_rtp(&mut datagram, HEADER_LEN, Ssrc(SSRC), sequence)?;
    datagram.truncate(len);
    Ok(datagram)
}

fn open_rtcp(opener: &mut Opener, sealed: &[u8]) -> Result<Vec<u8>, SrtpDrop> {
    let mut datagram = sealed.to_vec();
    let len = opener.open_rtcp(&mut datagram)?;
    datagram.truncate(len);
    Ok(datagram)
}

#[test]
fn sealed_packets_equal_the_reference_across_roll_overs() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        let mut reference = reference(profile);
        for index in (65_500u64 - 40_000..200_000).step_by(97) {
            let clear = rtp(index as u16, (index % 1200) as usize);
            let sealed = seal(&mut sealer, &clear, index);
            assert_eq!(sealed, reference.encrypt_rtp(&clear).unwrap(), "{profile} {index}");
            assert_eq!(
                open(&mut opener, &sealed, index as u16).unwrap(),
                clear,
                "{profile} {index}"
            );
        }
    }
}

#[test]
fn sealed_reports_equal_the_reference() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        let mut reference = reference(profile);
        for words in 0..60 {
            let clear = rtcp(SSRC, words);
            let sealed = seal_rtcp(&mut sealer, &clear);
            assert_eq!(sealed, reference.encrypt_rtcp(&clear).unwrap(), "{profile} {words}");
            assert_eq!(open_rtcp(&mut opener, &sealed).unwrap(), clear);
        }
    }
}

#[test]
fn the_reference_implementation_opens_our_packets() {
    for profile in PROFILES {
        let (mut sealer, _) = pair(profile);
        let mut reference = reference(profile);
        let clear = rtp(9, 300);
        assert_eq!(reference.decrypt_rtp(&seal(&mut sealer, &clear, 9)).unwrap(), clear);
        let clear = rtcp(5, 6);
        assert_eq!(reference.decrypt_rtcp(&seal_rtcp(&mut sealer, &clear)).unwrap(), clear);
    }
}

#[test]
fn header_length_agrees_with_the_reference_parser() {
    let mut packet = &rtp(1, 10)[..];
    let before = packet.len();
    rtc_rtp::Header::unmarshal(&mut packet).unwrap();
    assert_eq!(before - packet.len(), HEADER_LEN);
}

#[test]
fn one_index_sealed_twice_gives_the_same_bytes_also_out_of_order() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        let old = rtp(65_530, 100);
        let first = seal(&mut sealer, &old, 65_530);
        let wrapped = seal(&mut sealer, &rtp(3, 100), 65_539);
        assert_eq!(seal(&mut sealer, &old, 65_530), first);
        assert!(open(&mut opener, &first, 65_530).is_ok());
        assert!(open(&mut opener, &wrapped, 3).is_ok());
        let late = rtp(65_531, 100);
        assert_eq!(
            open(&mut opener, &seal(&mut sealer, &late, 65_531), 65_531).unwrap(),
            late
        );
    }
}

#[test]
fn a_packet_is_taken_once_and_late_ones_within_the_window() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        let sealed: Vec<_> = (0..2100u64).map(|i| seal(&mut sealer, &rtp(i as u16, 20), i)).collect();
        assert!(open(&mut opener, &sealed[0], 0).is_ok());
        assert_eq!(open(&mut opener, &sealed[0], 0), Err(SrtpDrop::Replayed));
        assert!(open(&mut opener, &sealed[2000], 2000).is_ok());
        assert!(open(&mut opener, &sealed[977], 977).is_ok());
        assert_eq!(open(&mut opener, &sealed[977], 977), Err(SrtpDrop::Replayed));
        assert_eq!(
            open(&mut opener, &sealed[976], 976),
            Err(SrtpDrop::Replayed),
            "too old to tell"
        );
        assert_eq!(open(&mut opener, &sealed[2000], 2000), Err(SrtpDrop::Replayed));
    }
}

#[test]
fn each_sender_of_reports_has_its_own_replay_mark() {
    for profile in PROFILES {
        let mut audio = Sealer::new(&keys(profile, DtlsRole::Server));
        let mut video = Sealer::new(&keys(profile, DtlsRole::Server));
        let (_, mut opener) = pair(profile);
        for _ in 0..5 {
            let (first, second) = (seal_rtcp(&mut audio, &rtcp(1, 6)), seal_rtcp(&mut video, &rtcp(2, 6)));
            assert!(open_rtcp(&mut opener, &first).is_ok());
            assert!(open_rtcp(&mut opener, &second).is_ok());
            assert_eq!(open_rtcp(&mut opener, &first), Err(SrtpDrop::Replayed));
        }
    }
}

#[test]
fn truncated_packets_are_dropped_at_every_length() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        let sealed = seal(&mut sealer, &rtp(1, 40), 1);
        let report = seal_rtcp(&mut sealer, &rtcp(SSRC, 6));
        for len in 0..sealed.len() {
            assert!(open(&mut opener, &sealed[..len], 1).is_err(), "{profile} {len}");
        }
        for len in 0..report.len() {
            assert!(open_rtcp(&mut opener, &report[..len]).is_err(), "{profile} {len}");
        }
        assert!(open(&mut opener, &sealed, 1).is_ok());
        assert!(open_rtcp(&mut opener, &report).is_ok());
    }
}

#[test]
fn any_changed_bit_is_noticed_and_leaves_no_trace() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        let sealed = seal(&mut sealer, &rtp(1, 20), 1);
        let report = seal_rtcp(&mut sealer, &rtcp(SSRC, 3));
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                open(&mut opener, &forged, 1),
                Err(SrtpDrop::Forged),
                "{profile} bit {bit}"
            );
        }
        for bit in 0..report.len() * 8 {
            let mut forged = report.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let dropped = open_rtcp(&mut opener, &forged).unwrap_err();
            assert!(
                matches!(dropped, SrtpDrop::Forged | SrtpDrop::NotEncrypted),
                "{profile} bit {bit}"
            );
        }
        assert!(opener.rtp.as_ref().unwrap().sources.is_empty());
        assert!(opener.rtcp_sources.is_empty());
        assert!(open(&mut opener, &sealed, 1).is_ok());
    }
}

#[test]
fn reports_alone_never_build_the_rtp_side() {
    let (mut sealer, mut opener) = pair(Profile::AeadAes128Gcm);
    open_rtcp(&mut opener, &seal_rtcp(&mut sealer, &rtcp(SSRC, 2))).unwrap();
    assert!(opener.rtp.is_none());
    assert!(size_of::<Opener>() <= 160, "{}", size_of::<Opener>());
}

#[test]
fn an_exhausted_report_key_seals_nothing_more() {
    let (mut sealer, _) = pair(Profile::AeadAes128Gcm);
    sealer.rtcp.index = RTCP_INDEX_MAX - 1;
    assert_ne!(seal_rtcp(&mut sealer, &rtcp(1, 2)).len(), 0);
    assert_eq!(seal_rtcp(&mut sealer, &rtcp(1, 2)).len(), 0);
}

#[test]
fn random_bytes_never_panic() {
    let mut random = 0x5eed_u64;
    for profile in PROFILES {
        let (_, mut opener) = pair(profile);
        for _ in 0..20_000 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let len = (random >> 50) as usize % 80;
            let mut datagram: Vec<u8> = (0..len).map(|i| (random >> (i % 57)) as u8).collect();
            assert!(opener.open_rtcp(&mut datagram).is_err());
            assert!(opener.open_rtp(&mut datagram, 12 + len % 9, Ssrc(1), 2).is_err());
        }
    }
}

#[test]
fn keying_material_of_a_wrong_length_is_refused_and_debug_shows_no_key() {
    assert!(SrtpKeys::from_keying_material(Profile::AeadAes128Gcm, &[0; 60], DtlsRole::Server).is_none());
    let shown = format!("{:?}", keys(Profile::AeadAes128Gcm, DtlsRole::Server));
    assert_eq!(shown, "SrtpKeys { profile: AeadAes128Gcm, .. }");
}

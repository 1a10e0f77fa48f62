use super::*;
use crate::rtp::header::HeaderOut;
use rtc_crypto::{RTCCryptoProvider, providers::AwsLcRsProvider};
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

const PROFILES: [Profile; 2] = [Profile::AeadAes128Gcm, Profile::Aes128CmSha1];

fn pair(profile: Profile) -> (SrtpKeys, SrtpKeys) {
    let material: Vec<u8> = (0..profile.keying_material_len() as u8)
        .map(|byte| byte.wrapping_mul(37))
        .collect();
    let keys = |is_client| SrtpKeys::from_keying_material(profile, &material, is_client).unwrap();
    (keys(true), keys(false))
}

fn packet(sequence: u16, payload: &[u8]) -> (Vec<u8>, usize) {
    let header = HeaderOut {
        marker: false,
        padding: false,
        payload_type: 96,
        sequence,
        timestamp: 9,
        ssrc: 0x0102_0304,
    };
    let mut bytes = vec![0; 1_500];
    let len = header.write(&mut bytes, &[(3, &[1, 2, 3])]);
    bytes[len..len + payload.len()].copy_from_slice(payload);
    bytes.truncate(len + payload.len());
    (bytes, len)
}

fn seal(sealer: &mut Sealer, index: u64, payload: &[u8]) -> Vec<u8> {
    let (mut bytes, header_len) = packet(index as u16, payload);
    let len = bytes.len();
    bytes.resize(len + 20, 0);
    let sealed = sealer.seal_rtp(&mut bytes, header_len, len, index);
    bytes.truncate(sealed);
    bytes
}

fn open(opener: &mut Opener, datagram: &[u8]) -> Result<Vec<u8>, SrtpDrop> {
    let mut bytes = datagram.to_vec();
    let header = crate::rtp::header::RtpHeader::parse(&bytes).unwrap();
    let len = opener.open_rtp(&mut bytes, header.len, header.ssrc, header.sequence)?;
    Ok(bytes[header.len..len].to_vec())
}

fn library(keys: &SrtpKeys) -> Context {
    let (profile, salt) = match keys.profile {
        Profile::AeadAes128Gcm => (ProtectionProfile::AeadAes128Gcm, 12),
        Profile::Aes128CmSha1 => (ProtectionProfile::Aes128CmHmacSha1_80, 14),
    };
    let provider = AwsLcRsProvider::new();
    Context::new(
        &keys.local.key,
        &keys.local.salt[..salt],
        profile,
        None,
        None,
        provider.crypto(),
    )
    .unwrap()
}

#[test]
fn sealed_packets_are_byte_equal_to_the_librarys() {
    for profile in PROFILES {
        let (keys, _) = pair(profile);
        let (mut ours, mut theirs) = (Sealer::new(&keys), library(&keys));
        for index in 65_530..65_600u64 {
            // The library counts roll-overs by itself from 0.
            let index = index - 65_530 + 65_500;
            let (clear, _) = packet(index as u16, &[index as u8; 100]);
            assert_eq!(
                seal(&mut ours, index, &[index as u8; 100])[..],
                theirs.encrypt_rtp(&clear).unwrap()[..]
            );
        }
    }
}

#[test]
fn reports_are_byte_equal_to_the_librarys() {
    for profile in PROFILES {
        let (keys, remote) = pair(profile);
        let (mut ours, mut theirs) = (Sealer::new(&keys), library(&keys));
        let mut opener = Opener::new(&remote);
        for _ in 0..3 {
            let mut bytes = vec![0; 100];
            let len = crate::rtp::rtcp::write_pli(&mut bytes, 1, 2);
            let clear = bytes[..len].to_vec();
            let theirs = theirs.encrypt_rtcp(&clear).unwrap();
            let sealed = ours.seal_rtcp(&mut bytes, len);
            // Both count from their first packet, we from 0 and the library from 1: open each other's instead.
            let mut received = theirs.to_vec();
            assert_eq!(
                opener.open_rtcp(&mut received).map(|len| received[..len].to_vec()),
                Ok(clear.clone())
            );
            assert_eq!(sealed, theirs.len());
        }
    }
}

#[test]
fn packets_are_opened_once_in_any_order_and_across_the_wrap() {
    for profile in PROFILES {
        let (keys, remote) = pair(profile);
        let (mut sealer, mut opener) = (Sealer::new(&keys), Opener::new(&remote));
        for index in [65_534u64, 65_537, 65_535, 65_536, 66_000, 65_600] {
            let sealed = seal(&mut sealer, index, &index.to_be_bytes());
            assert_eq!(
                open(&mut opener, &sealed),
                Ok(index.to_be_bytes().to_vec()),
                "{profile:?} {index}"
            );
            assert_eq!(open(&mut opener, &sealed), Err(SrtpDrop::Replayed));
        }
        let old = seal(&mut sealer, 66_000 - 1_024, b"x");
        assert_eq!(open(&mut opener, &old), Err(SrtpDrop::Replayed), "too old to tell");
    }
}

#[test]
fn sealing_an_index_again_gives_the_same_bytes() {
    for profile in PROFILES {
        let mut sealer = Sealer::new(&pair(profile).0);
        let first = seal(&mut sealer, 70_000, b"picture");
        seal(&mut sealer, 70_001, b"other");
        assert_eq!(seal(&mut sealer, 70_000, b"picture"), first);
    }
}

#[test]
fn forged_and_truncated_packets_change_nothing() {
    for profile in PROFILES {
        let (keys, remote) = pair(profile);
        let (mut sealer, mut opener) = (Sealer::new(&keys), Opener::new(&remote));
        let sealed = seal(&mut sealer, 5, b"picture");
        for at in 12..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            if crate::rtp::header::RtpHeader::parse(&forged).is_ok() {
                assert!(open(&mut opener, &forged).is_err(), "byte {at}");
            }
        }
        for short in 20..sealed.len() {
            assert!(open(&mut opener, &sealed[..short]).is_err(), "{short} bytes");
        }
        assert!(opener.rtp.as_ref().unwrap().replay.is_empty(), "nothing was authentic");
        assert_eq!(open(&mut opener, &sealed), Ok(b"picture".to_vec()));
    }
}

#[test]
fn forged_replayed_and_truncated_reports_are_dropped() {
    for profile in PROFILES {
        let (keys, remote) = pair(profile);
        let (mut sealer, mut opener) = (Sealer::new(&keys), Opener::new(&remote));
        let mut sealed = vec![0; 100];
        let len = crate::rtp::rtcp::write_pli(&mut sealed, 1, 2);
        let len = sealer.seal_rtcp(&mut sealed, len);
        sealed.truncate(len);
        for at in 0..len {
            let mut forged = sealed.clone();
            forged[at] ^= 0x10;
            assert!(opener.open_rtcp(&mut forged).is_err(), "byte {at}");
        }
        for short in 0..len {
            assert!(opener.open_rtcp(&mut sealed[..short].to_vec()).is_err());
        }
        assert!(opener.open_rtcp(&mut sealed.clone()).is_ok());
        assert_eq!(opener.open_rtcp(&mut sealed), Err(SrtpDrop::Replayed));
    }
}

#[test]
fn a_peer_has_a_bounded_number_of_sources() {
    let (keys, remote) = pair(Profile::AeadAes128Gcm);
    let (mut sealer, mut opener) = (Sealer::new(&keys), Opener::new(&remote));
    for ssrc in 0..=Opener::SOURCES_MAX as u32 {
        let (mut bytes, header_len) = packet(1, b"x");
        bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let len = bytes.len();
        bytes.resize(len + 16, 0);
        sealer.seal_rtp(&mut bytes, header_len, len, 1);
        let opened = opener.open_rtp(&mut bytes, header_len, ssrc, 1);
        assert_eq!(opened.is_ok(), ssrc < Opener::SOURCES_MAX as u32);
    }
}

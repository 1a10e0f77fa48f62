//! Random numbers of new sessions.

use onecast_rtc::IceCredentials;

/// Bytes of the system's random source.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
    bytes
}

/// 16 and 32 hexadecimal digits: 64 and 128 random bits. RFC 8445 section 5.3 asks for 24 and 128, but sessions are found by the username
/// fragment: among 100,000 and all their restarts no two may be equal.
pub(super) fn credentials() -> IceCredentials {
    let ufrag = u64::from_be_bytes(random());
    let pwd = u128::from_be_bytes(random());
    IceCredentials {
        ufrag: format!("{ufrag:016x}").into(),
        pwd: format!("{pwd:032x}").into(),
    }
}

/// `o=` session id of a description: 62 bits, so that every parser takes it.
pub(super) fn sdp_session_id() -> u64 {
    u64::from_be_bytes(random()) >> 2
}

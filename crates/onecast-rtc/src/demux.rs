//! Tells the protocols that share the one UDP port apart by their first bytes (RFC 7983).

/// Protocol of a datagram. Nothing is checked but its first bytes and the minimum length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// STUN: first byte 0..=3, magic cookie in place.
    Stun,
    /// DTLS: first byte 20..=63.
    Dtls,
    /// RTP or SRTP: first byte 128..=191.
    Rtp,
    /// RTCP or SRTCP: as RTP, with a packet type in 192..=223 (RFC 5761 section 4).
    Rtcp,
    /// None of these, or too short to be one.
    Unknown,
}

/// The protocol of a datagram.
#[inline]
pub fn classify(datagram: &[u8]) -> Datagram {
    let len = datagram.len();
    match datagram {
        [0..=3, ..] if len >= STUN_HEADER_LEN && datagram[4..8] == MAGIC_COOKIE => Datagram::Stun,
        [20..=63, ..] if len > DTLS_HEADER_LEN => Datagram::Dtls,
        [128..=191, 192..=223, ..] if len >= RTCP_HEADER_LEN => Datagram::Rtcp,
        [128..=191, 192..=223, ..] => Datagram::Unknown,
        [128..=191, _, ..] if len >= RTP_HEADER_LEN => Datagram::Rtp,
        _ => Datagram::Unknown,
    }
}

/// RFC 8489 section 5.
pub(super) const STUN_HEADER_LEN: usize = 20;
/// RFC 8489 section 5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// RFC 6347 section 4.1.
const DTLS_HEADER_LEN: usize = 13;
/// Header and sender SSRC, RFC 3550 section 6.4.
const RTCP_HEADER_LEN: usize = 8;
/// RFC 3550 section 5.1.
const RTP_HEADER_LEN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_recognised_by_their_first_bytes() {
        let mut stun = [0; 20];
        stun[4..8].copy_from_slice(&MAGIC_COOKIE);
        assert_eq!(classify(&stun), Datagram::Stun);
        let mut dtls = [0; 30];
        dtls[0] = 22;
        assert_eq!(classify(&dtls), Datagram::Dtls);
        let mut media = [0; 12];
        media[0] = 0x80;
        for (second, kind) in [
            (96, Datagram::Rtp),
            (96 | 0x80, Datagram::Rtp),
            (191, Datagram::Rtp),
            (192, Datagram::Rtcp),
        ] {
            media[1] = second;
            assert_eq!(classify(&media), kind, "second byte {second}");
        }
        for (second, kind) in [
            (200, Datagram::Rtcp),
            (206, Datagram::Rtcp),
            (223, Datagram::Rtcp),
            (224, Datagram::Rtp),
        ] {
            media[1] = second;
            assert_eq!(classify(&media), kind, "second byte {second}");
        }
    }

    #[test]
    fn short_and_foreign_datagrams_are_unknown() {
        for first in 0..=255 {
            assert_eq!(classify(&[first]), Datagram::Unknown);
        }
        assert_eq!(classify(&[]), Datagram::Unknown);
        assert_eq!(classify(&[0; 20]), Datagram::Unknown, "no magic cookie");
        assert_eq!(classify(&[0x80, 200, 0, 1, 0, 0, 0]), Datagram::Unknown);
        assert_eq!(classify(&[0x80; 11]), Datagram::Unknown);
        assert_eq!(classify(&[64; 40]), Datagram::Unknown, "a TURN channel");
    }
}

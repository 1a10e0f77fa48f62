//! What a datagram is, by its first bytes (RFC 7983, RFC 5761).

/// The protocols that share one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// RFC 8489
    Stun,
    /// RFC 6347
    Dtls,
    /// SRTP media
    Rtp,
    /// SRTCP reports and feedback
    Rtcp,
    /// Nothing that we speak.
    Unknown,
}

/// Tells by the first two bytes: `[0..3]` STUN, `[20..63]` DTLS, `[128..191]` RTP, and RTCP by its packet type (192 to 223).
pub fn classify(datagram: &[u8]) -> Datagram {
    match datagram {
        [0..=3, ..] => Datagram::Stun,
        [20..=63, ..] => Datagram::Dtls,
        [128..=191, 192..=223, ..] => Datagram::Rtcp,
        [128..=191, _, ..] => Datagram::Rtp,
        _ => Datagram::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let expected = [
            (&[][..], Datagram::Unknown),
            (&[0, 1], Datagram::Stun),
            (&[4, 1], Datagram::Unknown),
            (&[22, 254], Datagram::Dtls),
            (&[64, 0], Datagram::Unknown),
            (&[128], Datagram::Unknown),
            (&[0x80, 96], Datagram::Rtp),
            (&[0x90, 0x80 | 111], Datagram::Rtp),
            (&[0x81, 200], Datagram::Rtcp),
            (&[0x81, 206], Datagram::Rtcp),
            (&[255, 0], Datagram::Unknown),
        ];
        for (bytes, kind) in expected {
            assert_eq!(classify(bytes), kind, "{bytes:?}");
        }
    }
}

//! The stateless cookie exchange of a DTLS server (RFC 6347 section 4.2.1): a ClientHello from a forged address neither costs a key pair
//! nor replaces the client's own.

use std::ops::Range;

use crate::record::{self, write_message, write_record};

/// The cookie that a client repeats in its second ClientHello. It has the length that the DTLS crate uses.
pub(super) type Cookie = [u8; 20];

/// Position of the cookie in a ClientHello, or in the first fragment of one.
///
/// ```text
/// | version (2) | random (32) | session id length (1), id | cookie length (1), cookie | .. |
/// ```
///
/// `None` also for a ClientHello with a session id: the DTLS crate does not skip it, and a new client has none.
pub(super) fn cookie_span(hello: &[u8]) -> Option<Range<usize>> {
    let session_id_len = *hello.get(34)?;
    let len = usize::from(*hello.get(35)?);
    (session_id_len == 0 && hello.len() >= 36 + len).then_some(36..36 + len)
}

/// The random of a ClientHello or a ServerHello.
pub(super) fn random(hello: &[u8]) -> Option<[u8; 32]> {
    hello.get(2..34)?.try_into().ok()
}

/// The client's first ClientHello, reconstructed from its second.
pub(super) fn without_cookie(hello: &[u8], span: Range<usize>) -> Vec<u8> {
    [&hello[..35], &[0], &hello[span.end..]].concat()
}

/// The answer to a ClientHello without a cookie. It is shorter than the ClientHello, so it cannot amplify an attack, and always the same.
pub(super) fn verify_request(cookie: &Cookie) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd, cookie.len() as u8];
    body.extend(cookie);
    let mut message = Vec::new();
    write_message(&mut message, record::HELLO_VERIFY_REQUEST, 0, &body);
    let mut datagram = Vec::new();
    write_record(&mut datagram, record::HANDSHAKE, 0, &message);
    datagram
}

/// Whether the body of a HelloVerifyRequest is valid: a version, which may be that of DTLS 1.0, and a cookie.
pub(super) fn is_verify_request(body: &[u8]) -> bool {
    matches!(body, [0xfe, 0xfd | 0xff, len, cookie @ ..] if usize::from(*len) == cookie.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verify_request_parses_and_is_short() {
        let datagram = verify_request(&[9; 20]);
        let record = record::records(&datagram).next().unwrap();
        let message = record::fragments(record.body).next().unwrap();
        assert_eq!(message.kind, record::HELLO_VERIFY_REQUEST);
        assert!(is_verify_request(message.bytes));
        assert!(!is_verify_request(&message.bytes[..22]) && !is_verify_request(&[7; 23]));
        // The shortest ClientHello: a version, a random, two empty fields, a suite, a compression method.
        assert!(
            datagram.len() <= 13 + 12 + 34 + 1 + 1 + 4 + 2,
            "{} bytes",
            datagram.len()
        );
    }

    #[test]
    fn the_cookie_is_found_and_cut_out() {
        let mut hello = vec![7; 34];
        hello.extend([0, 3, 1, 2, 3, 0, 2, 0xc0, 0x2b]);
        let span = cookie_span(&hello).unwrap();
        assert_eq!(hello[span.clone()], [1, 2, 3]);
        let first = without_cookie(&hello, span);
        assert_eq!(first[34..], [0, 0, 0, 2, 0xc0, 0x2b]);
        assert_eq!(cookie_span(&first), Some(36..36));
        for len in 0..39 {
            assert_eq!(cookie_span(&hello[..len]), None, "{len} bytes");
        }
        hello[34] = 1;
        assert_eq!(cookie_span(&hello), None, "a session id");
    }
}

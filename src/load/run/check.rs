//! Answers to the connectivity checks of servers that are full ICE agents; a lite one sends none.

use std::net::SocketAddr;

use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter};
use rtc_stun::xoraddr::XorMappedAddress;

/// The answer to a check that knows our password (RFC 8445 section 7.3); `None` for anything else.
pub(super) fn answer_check(datagram: &[u8], from: SocketAddr, password: &str) -> Option<Vec<u8>> {
    let provider = AwsLcRsProvider::new();
    let mut request = Message::new();
    request.unmarshal_binary(datagram).ok()?;
    FINGERPRINT.check(&request).ok()?;
    MessageIntegrity::check(&mut request, password.as_bytes(), provider.crypto()).ok()?;
    if request.typ != BINDING_REQUEST {
        return None;
    }
    let mapped = XorMappedAddress {
        ip: from.ip(),
        port: from.port(),
    };
    let setters: [Box<dyn Setter + '_>; 5] = [
        Box::new(request.transaction_id),
        Box::new(BINDING_SUCCESS),
        Box::new(mapped),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            password.to_owned(),
            provider.crypto(),
        )),
        Box::new(FINGERPRINT),
    ];
    let mut response = Message::new();
    response.build(&setters).ok()?;
    Some(response.raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_stun::message::TransactionId;

    const PASSWORD: &str = "0123456789012345678901";

    fn check(password: &str) -> Message {
        let provider = AwsLcRsProvider::new();
        let setters: [Box<dyn Setter + '_>; 4] = [
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId([7; 12])),
            Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
                password.to_owned(),
                provider.crypto(),
            )),
            Box::new(FINGERPRINT),
        ];
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message
    }

    #[test]
    fn a_check_that_knows_our_password_is_answered_with_where_it_came_from() {
        let from: SocketAddr = "192.0.2.1:8080".parse().unwrap();
        let answer = answer_check(&check(PASSWORD).raw, from, PASSWORD).unwrap();
        let mut message = Message::new();
        message.unmarshal_binary(&answer).unwrap();
        assert_eq!((message.typ, message.transaction_id.0), (BINDING_SUCCESS, [7; 12]));
        let crypto = AwsLcRsProvider::new();
        MessageIntegrity::check(&mut message, PASSWORD.as_bytes(), crypto.crypto()).unwrap();
        FINGERPRINT.check(&message).unwrap();
        let mut mapped = XorMappedAddress::default();
        rtc_stun::message::Getter::get_from(&mut mapped, &message).unwrap();
        assert_eq!((mapped.ip, mapped.port), (from.ip(), from.port()));
    }

    #[test]
    fn strangers_and_noise_get_no_answer() {
        let from: SocketAddr = "192.0.2.1:8080".parse().unwrap();
        let request = check("another").raw;
        assert_eq!(answer_check(&request, from, PASSWORD), None);
        for len in 0..request.len() {
            assert_eq!(answer_check(&check(PASSWORD).raw[..len], from, PASSWORD), None);
        }
    }
}

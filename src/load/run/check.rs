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

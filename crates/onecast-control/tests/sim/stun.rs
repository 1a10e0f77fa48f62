//! STUN messages of a client that knows the credentials or guesses them.

use onecast_engine::fanout::Session;
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;

/// A check of a session.
pub(crate) fn check(session: &Session, nominates: bool) -> Vec<u8> {
    check_with(session, &session.local.pwd, nominates)
}

/// The same with another password.
pub(crate) fn check_with(session: &Session, pwd: &str, nominates: bool) -> Vec<u8> {
    let provider = AwsLcRsProvider::new();
    let name = format!("{}:{}", session.local.ufrag, session.remote.ice.ufrag);
    let head: [Box<dyn Setter>; 3] = [
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId([3; 12])),
        Box::new(TextAttribute::new(ATTR_USERNAME, name)),
    ];
    let mut message = Message::new();
    message.build(&head).unwrap();
    message.add(ATTR_PRIORITY, &0x6e00_01ff_u32.to_be_bytes());
    message.add(ATTR_ICE_CONTROLLING, &[1; 8]);
    if nominates {
        message.add(ATTR_USE_CANDIDATE, &[]);
    }
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(pwd.to_owned(), provider.crypto());
    integrity.add_to(&mut message).unwrap();
    FINGERPRINT.add_to(&mut message).unwrap();
    message.raw
}

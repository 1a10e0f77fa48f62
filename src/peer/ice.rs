//! The ICE-lite agent (RFC 8445 section 2.5): it answers connectivity checks and sends none.

use std::net::SocketAddr;

use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
};
use rtc_stun::error_code::{CODE_ROLE_CONFLICT, ErrorCodeAttribute};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;
use rtc_stun::xoraddr::XorMappedAddress;

use super::IceCredentials;

/// What a valid check asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Answer it; the pair works.
    Success {
        /// The answer.
        response: Vec<u8>,
        /// The client chose this pair (USE-CANDIDATE).
        nominated: bool,
    },
    /// Answer it: the client believes to be controlled, but a lite agent never controls (RFC 8445 section 7.3.1.1).
    RoleConflict {
        /// The answer: error 487.
        response: Vec<u8>,
    },
}

/// Why a STUN datagram is not answered. Nobody learns anything from us who does not know the session's password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunDrop {
    /// No STUN message, or one that contradicts itself.
    #[error("malformed STUN message")]
    Malformed,
    /// Not a binding request.
    #[error("not a binding request")]
    NotARequest,
    /// USERNAME is not `ours:theirs`.
    #[error("wrong user name")]
    Username,
    /// MESSAGE-INTEGRITY is missing or made with another password.
    #[error("wrong message integrity")]
    Integrity,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

/// Our ufrag of a check (`USERNAME` is `ours:theirs`), found without reading the rest: it tells whose session this is.
pub fn local_ufrag(datagram: &[u8]) -> Option<&str> {
    let mut attributes = datagram.get(HEADER..)?;
    while let Some((head, rest)) = attributes.split_first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if u16::from_be_bytes([head[0], head[1]]) == USERNAME {
            let name = std::str::from_utf8(rest.get(..len)?).ok()?;
            return name.split_once(':').map(|(ours, _)| ours);
        }
        attributes = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}

/// Reads a check and writes the answer.
///
/// # Errors
/// Why there is none.
pub fn answer_check(
    datagram: &[u8],
    from: SocketAddr,
    local: &IceCredentials,
    remote_ufrag: &str,
) -> Result<Check, StunDrop> {
    let provider = AwsLcRsProvider::new();
    let mut message = Message::new();
    message.unmarshal_binary(datagram).map_err(|_| StunDrop::Malformed)?;
    if message.typ != BINDING_REQUEST {
        return Err(StunDrop::NotARequest);
    }
    if FINGERPRINT.check(&message).is_err() {
        return Err(StunDrop::Malformed);
    }
    let username = message.get(ATTR_USERNAME).map_err(|_| StunDrop::Username)?;
    if username != [local.ufrag.as_bytes(), b":", remote_ufrag.as_bytes()].concat() {
        return Err(StunDrop::Username);
    }
    MessageIntegrity::check(&mut message, local.pwd.as_bytes(), provider.crypto()).map_err(|_| StunDrop::Integrity)?;

    let integrity = || {
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            local.pwd.to_string(),
            provider.crypto(),
        ))
    };
    if message.contains(ATTR_ICE_CONTROLLED) {
        let error = ErrorCodeAttribute {
            code: CODE_ROLE_CONFLICT,
            reason: b"Role Conflict".to_vec(),
        };
        let response = build(&message, Box::new(BINDING_ERROR), Box::new(error), integrity())?;
        return Ok(Check::RoleConflict { response });
    }
    let mapped = XorMappedAddress {
        ip: from.ip().to_canonical(),
        port: from.port(),
    };
    let response = build(&message, Box::new(BINDING_SUCCESS), Box::new(mapped), integrity())?;
    Ok(Check::Success {
        response,
        nominated: message.contains(ATTR_USE_CANDIDATE),
    })
}

/// Writes the check of a full agent that controls, as our clients and tests need it.
///
/// # Errors
/// When the credentials make no STUN message.
pub fn write_check(
    server: &IceCredentials,
    own_ufrag: &str,
    transaction: [u8; 12],
    nominate: bool,
) -> Result<Vec<u8>, StunDrop> {
    let provider = AwsLcRsProvider::new();
    let mut message = Message::new();
    let username = TextAttribute::new(ATTR_USERNAME, format!("{}:{own_ufrag}", server.ufrag));
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(server.pwd.to_string(), provider.crypto());
    let head: [Box<dyn Setter>; 3] = [
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId(transaction)),
        Box::new(username),
    ];
    message.build(&head).map_err(|_| StunDrop::Malformed)?;
    message.add(ATTR_PRIORITY, &0x6e00_01ff_u32.to_be_bytes());
    message.add(ATTR_ICE_CONTROLLING, &[1; 8]);
    if nominate {
        message.add(ATTR_USE_CANDIDATE, &[]);
    }
    integrity
        .add_to(&mut message)
        .and_then(|()| FINGERPRINT.add_to(&mut message))
        .map_err(|_| StunDrop::Malformed)?;
    Ok(message.raw)
}

/// Whether a datagram is a success response.
pub fn is_success(datagram: &[u8]) -> bool {
    datagram.starts_with(&[1, 1])
}

fn build(
    request: &Message,
    class: Box<dyn Setter + '_>,
    content: Box<dyn Setter + '_>,
    integrity: Box<dyn Setter + '_>,
) -> Result<Vec<u8>, StunDrop> {
    let mut response = Message::new();
    let setters = [
        Box::new(request.transaction_id) as Box<dyn Setter>,
        class,
        content,
        integrity,
        Box::new(FINGERPRINT),
    ];
    response.build(&setters).map_err(|_| StunDrop::Malformed)?;
    Ok(response.raw)
}

/// Bytes of a STUN header.
const HEADER: usize = 20;
/// RFC 8489 section 14.3
const USERNAME: u16 = 0x0006;

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(ufrag: &str, pwd: &str) -> IceCredentials {
        IceCredentials {
            ufrag: ufrag.into(),
            pwd: pwd.into(),
        }
    }

    fn check(server: &IceCredentials, own_ufrag: &str, nominate: bool) -> Vec<u8> {
        write_check(server, own_ufrag, [7; 12], nominate).unwrap()
    }

    fn from() -> SocketAddr {
        ([192, 0, 2, 7], 4_000).into()
    }

    #[test]
    fn a_check_with_the_right_password_is_answered_with_the_clients_address() {
        let local = credentials("ours", "0123456789012345678901");
        let request = check(&local, "them", true);
        assert_eq!(local_ufrag(&request), Some("ours"));
        let Ok(Check::Success {
            response,
            nominated: true,
        }) = answer_check(&request, from(), &local, "them")
        else {
            panic!("not answered");
        };
        let mut message = Message::new();
        message.unmarshal_binary(&response).unwrap();
        assert_eq!(message.typ, BINDING_SUCCESS);
        let mut mapped = XorMappedAddress::default();
        rtc_stun::message::Getter::get_from(&mut mapped, &message).unwrap();
        assert_eq!(SocketAddr::new(mapped.ip, mapped.port), from());
        let provider = AwsLcRsProvider::new();
        MessageIntegrity::check(&mut message, local.pwd.as_bytes(), provider.crypto()).unwrap();
    }

    #[test]
    fn what_does_not_know_the_password_is_not_answered() {
        let local = credentials("ours", "0123456789012345678901");
        let other = credentials("ours", "another password of 22");
        let answer = |request: &[u8]| answer_check(request, from(), &local, "them");
        assert_eq!(answer(&check(&other, "them", false)), Err(StunDrop::Integrity));
        assert_eq!(answer(&check(&local, "thex", false)), Err(StunDrop::Username));
        let valid = check(&local, "them", false);
        for at in 0..valid.len() {
            let mut forged = valid.clone();
            forged[at] ^= 1;
            assert!(answer(&forged).is_err(), "byte {at}");
            assert!(answer(&valid[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn a_controlled_client_is_told_of_the_conflict() {
        let local = credentials("ours", "0123456789012345678901");
        let mut request = check(&local, "them", false);
        let mut message = Message::new();
        message.unmarshal_binary(&request).unwrap();
        let attributes = std::mem::take(&mut message.attributes.0);
        let provider = AwsLcRsProvider::new();
        let integrity =
            MessageIntegrity::new_short_term_integrity_with_provider(local.pwd.to_string(), provider.crypto());
        let mut controlled = Message::new();
        controlled
            .build(&[Box::new(BINDING_REQUEST), Box::new(message.transaction_id)])
            .unwrap();
        controlled.add(
            ATTR_USERNAME,
            &attributes.iter().find(|a| a.typ == ATTR_USERNAME).unwrap().value,
        );
        controlled.add(ATTR_ICE_CONTROLLED, &[0; 8]);
        integrity.add_to(&mut controlled).unwrap();
        FINGERPRINT.add_to(&mut controlled).unwrap();
        request = controlled.raw;
        assert!(matches!(
            answer_check(&request, from(), &local, "them"),
            Ok(Check::RoleConflict { .. })
        ));
    }

    #[test]
    fn any_bytes_have_a_user_name_or_not() {
        let valid = check(&credentials("ours", "0123456789012345678901"), "them", false);
        for at in 0..valid.len() {
            for bit in 0..8 {
                let mut mutated = valid.clone();
                mutated[at] ^= 1 << bit;
                let _ = local_ufrag(&mutated);
                let _ = local_ufrag(&mutated[..at]);
            }
        }
    }
}

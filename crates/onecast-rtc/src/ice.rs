//! The lite side of ICE (RFC 8445 section 2.5): it answers connectivity checks and sends none of its own.
//!
//! Nothing here keeps state. A request is read in place; only attributes before MESSAGE-INTEGRITY count.

pub mod probe;

use std::net::SocketAddr;

use aws_lc_rs::{constant_time, hmac};
use rtc_stun::attributes::ATTR_UNKNOWN_ATTRIBUTES;
use rtc_stun::error_code::{CODE_ROLE_CONFLICT, CODE_UNKNOWN_ATTRIBUTE, ErrorCode};
use rtc_stun::fingerprint::{FINGERPRINT, fingerprint_value};
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_ERROR, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::xoraddr::XorMappedAddress;

use super::crypto::crypto;
use super::demux::STUN_HEADER_LEN;
use super::{Datagram, IceCredentials, demux};

/// The answer to an authenticated binding request.
#[derive(Debug, PartialEq, Eq)]
pub enum Binding {
    /// The check is valid: its sender knows our password.
    Success {
        /// To send back.
        response: Vec<u8>,
        /// The client chose this path (USE-CANDIDATE).
        nominated: bool,
    },
    /// The client claims the controlled role. A lite agent never controls, so the client has to switch roles (487).
    RoleConflict {
        /// To send back.
        response: Vec<u8>,
    },
    /// The request contains an unknown attribute that must be understood (420).
    UnknownAttribute {
        /// To send back.
        response: Vec<u8>,
    },
}

/// Why a STUN datagram was dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunDrop {
    /// Not a whole STUN message.
    #[error("malformed STUN message")]
    Malformed,
    /// A response, an indication, or another method.
    #[error("not a binding request")]
    NotBindingRequest,
    /// FINGERPRINT does not match.
    #[error("wrong STUN fingerprint")]
    Fingerprint,
    /// USERNAME is missing or does not name this session.
    #[error("the STUN user name is not of this session")]
    Username,
    /// MESSAGE-INTEGRITY is missing or made with another password.
    #[error("wrong STUN message integrity")]
    Integrity,
    /// A response that answers no request of the server.
    #[error("not an answer to a request of the server")]
    Unasked,
    /// The session is over.
    #[error("the session is closed")]
    Closed,
}

/// The server's user name fragment in the USERNAME of a binding request (`ours:theirs`): names the session that the request is for.
/// Nothing is authenticated yet.
pub fn local_ufrag(datagram: &[u8]) -> Option<&str> {
    let request = Request::read(datagram).ok()?;
    Some(std::str::from_utf8(request.username?).ok()?.split_once(':')?.0)
}

/// Checks a binding request and answers it. Requests that are not authentic get no answer, so the server cannot be used to reflect traffic
/// or to probe for sessions.
///
/// # Errors
/// Why the request was dropped.
pub fn answer_binding(
    datagram: &[u8],
    from: SocketAddr,
    local: &IceCredentials,
    remote_ufrag: &str,
) -> Result<Binding, StunDrop> {
    let request = Request::read(datagram)?;
    request.check_fingerprint(datagram)?;
    request.check_username(&local.ufrag, remote_ufrag)?;
    request.check_integrity(datagram, &local.pwd)?;
    let writer = ResponseWriter {
        transaction: request.transaction,
        pwd: &local.pwd,
    };
    if let Some(unknown) = request.unknown {
        let response = writer.refuse(CODE_UNKNOWN_ATTRIBUTE, Some(unknown));
        return Ok(Binding::UnknownAttribute { response });
    }
    if request.controlled {
        let response = writer.refuse(CODE_ROLE_CONFLICT, None);
        return Ok(Binding::RoleConflict { response });
    }
    Ok(Binding::Success {
        response: writer.accept(from),
        nominated: request.use_candidate,
    })
}

/// The parts of a STUN message that matter here.
#[derive(Default)]
struct Request<'a> {
    transaction: TransactionId,
    username: Option<&'a [u8]>,
    /// Offset of the attribute, and its value.
    integrity: Option<(usize, &'a [u8])>,
    fingerprint: Option<(usize, &'a [u8])>,
    use_candidate: bool,
    controlled: bool,
    /// The first unknown attribute of those that must be understood (RFC 8489 section 14).
    unknown: Option<u16>,
}

impl<'a> Request<'a> {
    fn read(datagram: &'a [u8]) -> Result<Self, StunDrop> {
        Self::read_as(BINDING_REQUEST, datagram)
    }

    fn read_as(kind: [u8; 2], datagram: &'a [u8]) -> Result<Self, StunDrop> {
        if demux::classify(datagram) != Datagram::Stun {
            return Err(StunDrop::Malformed);
        }
        if datagram[..2] != kind {
            return Err(StunDrop::NotBindingRequest);
        }
        if usize::from(u16_at(datagram, 2)) + STUN_HEADER_LEN != datagram.len() {
            return Err(StunDrop::Malformed);
        }
        let mut request = Self::default();
        request.transaction.0.copy_from_slice(&datagram[8..STUN_HEADER_LEN]);
        let mut at = STUN_HEADER_LEN;
        while at < datagram.len() {
            let head = datagram.get(at..at + 4).ok_or(StunDrop::Malformed)?;
            let (kind, len) = (u16_at(head, 0), usize::from(u16_at(head, 2)));
            let value = datagram.get(at + 4..at + 4 + len).ok_or(StunDrop::Malformed)?;
            request.note(kind, at, value);
            at += 4 + len.next_multiple_of(4);
        }
        Ok(request)
    }

    /// After MESSAGE-INTEGRITY only FINGERPRINT counts (RFC 8489 section 14.5): anything else there is not authenticated.
    fn note(&mut self, kind: u16, at: usize, value: &'a [u8]) {
        match kind {
            attribute::FINGERPRINT => self.fingerprint = Some((at, value)),
            _ if self.integrity.is_some() => {}
            attribute::MESSAGE_INTEGRITY => self.integrity = Some((at, value)),
            attribute::USERNAME => self.username = self.username.or(Some(value)),
            attribute::USE_CANDIDATE => self.use_candidate = true,
            attribute::ICE_CONTROLLED => self.controlled = true,
            0x8000.. => {}
            _ if attribute::UNDERSTOOD.contains(&kind) => {}
            _ => self.unknown = self.unknown.or(Some(kind)),
        }
    }

    fn check_fingerprint(&self, datagram: &[u8]) -> Result<(), StunDrop> {
        match self.fingerprint {
            Some((at, value)) if value == fingerprint_value(&datagram[..at]).to_be_bytes() => Ok(()),
            Some(_) => Err(StunDrop::Fingerprint),
            None => Ok(()),
        }
    }

    fn check_username(&self, local: &str, remote: &str) -> Result<(), StunDrop> {
        let rest = self.username.and_then(|name| name.strip_prefix(local.as_bytes()));
        match rest.and_then(|rest| rest.strip_prefix(b":")) {
            Some(theirs) if theirs == remote.as_bytes() => Ok(()),
            _ => Err(StunDrop::Username),
        }
    }

    /// The digest covers everything before the attribute, with a length field as if the message ended with it (RFC 8489 section 14.5).
    fn check_integrity(&self, datagram: &[u8], pwd: &str) -> Result<(), StunDrop> {
        let (at, value) = self.integrity.ok_or(StunDrop::Integrity)?;
        let covered = (at + 4 + INTEGRITY_LEN - STUN_HEADER_LEN) as u16;
        let mut digest = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes()));
        digest.update(&datagram[..2]);
        digest.update(&covered.to_be_bytes());
        digest.update(&datagram[4..at]);
        constant_time::verify_slices_are_equal(digest.sign().as_ref(), value).map_err(|_| StunDrop::Integrity)
    }
}

/// Writes responses to one request.
struct ResponseWriter<'a> {
    transaction: TransactionId,
    pwd: &'a str,
}

impl ResponseWriter<'_> {
    fn accept(&self, from: SocketAddr) -> Vec<u8> {
        // A socket for both families sees IPv4 clients as mapped IPv6 addresses, but the clients compare with their IPv4 address.
        let mapped = XorMappedAddress {
            ip: from.ip().to_canonical(),
            port: from.port(),
        };
        self.write(vec![
            Box::new(self.transaction),
            Box::new(BINDING_SUCCESS),
            Box::new(mapped),
        ])
    }

    fn refuse(&self, code: ErrorCode, unknown: Option<u16>) -> Vec<u8> {
        let mut parts: Vec<Box<dyn Setter>> = vec![Box::new(self.transaction), Box::new(BINDING_ERROR), Box::new(code)];
        if let Some(kind) = unknown {
            parts.push(Box::new(UnknownAttributes(kind)));
        }
        self.write(parts)
    }

    fn write(&self, parts: Vec<Box<dyn Setter>>) -> Vec<u8> {
        write(parts, self.pwd)
    }
}

/// Writes a message with MESSAGE-INTEGRITY by `pwd` and FINGERPRINT.
fn write(mut parts: Vec<Box<dyn Setter>>, pwd: &str) -> Vec<u8> {
    parts.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
        pwd.to_owned(),
        crypto(),
    )));
    parts.push(Box::new(FINGERPRINT));
    let mut message = Message::new();
    message
        .build(&parts)
        .expect("every part of a message fits and is known");
    message.raw
}

/// UNKNOWN-ATTRIBUTES with one entry (RFC 8489 section 14.13).
struct UnknownAttributes(u16);

impl Setter for UnknownAttributes {
    fn add_to(&self, message: &mut Message) -> Result<(), rtc_shared::error::Error> {
        message.add(ATTR_UNKNOWN_ATTRIBUTES, &self.0.to_be_bytes());
        Ok(())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

const BINDING_REQUEST: [u8; 2] = [0, 1];
/// HMAC-SHA1.
const INTEGRITY_LEN: usize = 20;

/// Attribute types (RFC 8489 section 14, RFC 8445 section 16.1).
mod attribute {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
    /// Known attributes without a meaning for a lite agent: addresses, errors, realm, nonce, SHA-256 integrity, user hash, PRIORITY.
    pub(super) const UNDERSTOOD: [u16; 10] = [
        0x0001, 0x0009, 0x000a, 0x0014, 0x0015, 0x001c, 0x001d, 0x001e, 0x0020, 0x0024,
    ];
}

#[cfg(test)]
pub(super) mod tests {
    use rtc_stun::attributes::{
        ATTR_ERROR_CODE, ATTR_FINGERPRINT, ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_MESSAGE_INTEGRITY,
        ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
    };
    use rtc_stun::error_code::ErrorCodeAttribute;
    use rtc_stun::message::{BINDING_REQUEST as STUN_BINDING_REQUEST, Getter};

    use super::*;

    /// One attribute as it is.
    pub(in super::super) struct Raw(pub(in super::super) AttrType, pub(in super::super) Vec<u8>);

    impl Setter for Raw {
        fn add_to(&self, message: &mut Message) -> Result<(), rtc_shared::error::Error> {
            message.add(self.0, &self.1);
            Ok(())
        }
    }

    /// A binding request with these attributes, sealed with `pwd`.
    pub(in super::super) fn request(username: &str, pwd: &str, more: Vec<Raw>) -> Vec<u8> {
        let mut parts: Vec<Box<dyn Setter>> = vec![
            Box::new(TransactionId::new()),
            Box::new(STUN_BINDING_REQUEST),
            Box::new(Raw(ATTR_USERNAME, username.into())),
            Box::new(Raw(ATTR_PRIORITY, vec![1, 2, 3, 4])),
        ];
        for part in more {
            parts.push(Box::new(part));
        }
        parts.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            pwd.to_owned(),
            crypto(),
        )));
        parts.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&parts).unwrap();
        message.raw
    }

    pub(in super::super) fn controlling() -> Raw {
        Raw(ATTR_ICE_CONTROLLING, vec![9; 8])
    }

    pub(in super::super) fn use_candidate() -> Raw {
        Raw(ATTR_USE_CANDIDATE, vec![])
    }

    pub(in super::super) fn credentials() -> IceCredentials {
        IceCredentials {
            ufrag: "ours".into(),
            pwd: "a-password-of-22-chars".into(),
        }
    }

    fn answer(datagram: &[u8]) -> Result<Binding, StunDrop> {
        answer_binding(datagram, "192.0.2.7:5000".parse().unwrap(), &credentials(), "theirs")
    }

    fn good(more: Vec<Raw>) -> Vec<u8> {
        request("ours:theirs", &credentials().pwd, more)
    }

    fn read(response: &[u8]) -> Message {
        let mut message = Message::new();
        message.unmarshal_binary(response).unwrap();
        FINGERPRINT.check(&message).unwrap();
        MessageIntegrity::check(&mut message, credentials().pwd.as_bytes(), crypto()).unwrap();
        message
    }

    #[test]
    fn an_authentic_check_is_answered_with_the_address_it_came_from() {
        let datagram = good(vec![controlling()]);
        assert_eq!(local_ufrag(&datagram), Some("ours"));
        let Ok(Binding::Success { response, nominated }) = answer(&datagram) else {
            panic!("not a success");
        };
        assert!(!nominated);
        let message = read(&response);
        assert_eq!(message.typ, BINDING_SUCCESS);
        assert_eq!(message.transaction_id.0, datagram[8..20]);
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&message).unwrap();
        assert_eq!((mapped.ip.to_string().as_str(), mapped.port), ("192.0.2.7", 5000));
    }

    #[test]
    fn a_mapped_address_is_reported_as_ipv4() {
        let from = "[::ffff:192.0.2.7]:5000".parse().unwrap();
        let Ok(Binding::Success { response, .. }) = answer_binding(&good(vec![]), from, &credentials(), "theirs")
        else {
            panic!("not a success");
        };
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&read(&response)).unwrap();
        assert!(mapped.ip.is_ipv4());
    }

    #[test]
    fn use_candidate_nominates_only_when_it_is_authenticated() {
        let nominated = |datagram: &[u8]| matches!(answer(datagram), Ok(Binding::Success { nominated: true, .. }));
        assert!(nominated(&good(vec![use_candidate(), controlling()])));
        let mut message = Message::new();
        message.unmarshal_binary(&good(vec![])).unwrap();
        message
            .attributes
            .0
            .retain(|attribute| attribute.typ != ATTR_FINGERPRINT);
        message.attributes.0.push(rtc_stun::attributes::RawAttribute {
            typ: ATTR_USE_CANDIDATE,
            length: 0,
            value: vec![],
        });
        message.encode();
        assert!(matches!(
            answer(&message.raw),
            Ok(Binding::Success { nominated: false, .. })
        ));
    }

    #[test]
    fn a_client_that_claims_the_controlled_role_has_to_switch() {
        let Ok(Binding::RoleConflict { response }) = answer(&good(vec![Raw(ATTR_ICE_CONTROLLED, vec![1; 8])])) else {
            panic!("no role conflict");
        };
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&read(&response)).unwrap();
        assert_eq!(error.code.0, 487);
    }

    #[test]
    fn unknown_attributes_are_refused_if_they_must_be_understood() {
        let Ok(Binding::UnknownAttribute { response }) = answer(&good(vec![Raw(AttrType(0x7abc), vec![1; 4])])) else {
            panic!("not refused");
        };
        let message = read(&response);
        assert!(message.contains(ATTR_ERROR_CODE));
        assert_eq!(message.get(ATTR_UNKNOWN_ATTRIBUTES).unwrap(), [0x7a, 0xbc]);
        assert!(matches!(
            answer(&good(vec![Raw(AttrType(0xc057), vec![1; 5])])),
            Ok(Binding::Success { .. })
        ));
    }

    #[test]
    fn requests_that_are_not_authentic_get_no_answer() {
        let pwd = credentials().pwd;
        assert_eq!(
            answer(&request("ours:theirs", "another", vec![])),
            Err(StunDrop::Integrity)
        );
        assert_eq!(answer(&request("ours:others", &pwd, vec![])), Err(StunDrop::Username));
        assert_eq!(answer(&request("other:theirs", &pwd, vec![])), Err(StunDrop::Username));
        assert_eq!(answer(&request("ourstheirs", &pwd, vec![])), Err(StunDrop::Username));
        let mut damaged = good(vec![]);
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(answer(&damaged), Err(StunDrop::Fingerprint));
        let mut message = Message::new();
        message.unmarshal_binary(&good(vec![])).unwrap();
        message
            .attributes
            .0
            .retain(|attribute| attribute.typ != ATTR_MESSAGE_INTEGRITY);
        message
            .attributes
            .0
            .retain(|attribute| attribute.typ != ATTR_FINGERPRINT);
        message.encode();
        assert_eq!(answer(&message.raw), Err(StunDrop::Integrity));
        let mut indication = good(vec![]);
        indication[1] = 0x11;
        assert_eq!(answer(&indication), Err(StunDrop::NotBindingRequest));
    }

    #[test]
    fn truncated_and_damaged_requests_never_panic_nor_pass() {
        let whole = good(vec![controlling(), use_candidate()]);
        for len in 0..whole.len() {
            assert!(answer(&whole[..len]).is_err());
            local_ufrag(&whole[..len]);
        }
        // All but the head of FINGERPRINT itself, which nothing covers.
        for bit in (0..(whole.len() - 8) * 8).chain((whole.len() - 4) * 8..whole.len() * 8) {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(answer(&damaged).is_err(), "bit {bit}");
            local_ufrag(&damaged);
        }
    }
}

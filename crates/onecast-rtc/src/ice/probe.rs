//! Binding requests of the server, and the answers to them.
//!
//! A lite agent does not look for paths, but it may ask an address whether its client is there. Only a client that receives the request
//! there and knows the password of its offer can answer.

use std::net::SocketAddr;

use rtc_stun::attributes::{ATTR_ICE_CONTROLLED, ATTR_PRIORITY, ATTR_USERNAME, AttrType};
use rtc_stun::message::{BINDING_REQUEST as BINDING_REQUEST_TYPE, Message, Setter, TransactionId};

use super::{BINDING_REQUEST, IceCredentials, Request, ResponseWriter, write};

/// Transaction id of a request. A client that has not received the request cannot guess it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction([u8; 12]);

impl Transaction {
    /// A new id; `None` when the system has no random numbers. The answer carries `tag` back: see [`answered_tag`].
    pub fn new(tag: u32) -> Option<Transaction> {
        let mut bytes = [0; 12];
        let (head, random) = bytes.split_at_mut(TAG_LEN);
        head.copy_from_slice(&tag.to_be_bytes());
        aws_lc_rs::rand::fill(random).ok()?;
        Some(Transaction(bytes))
    }

    /// Whether the datagram answers this request. `pwd` is the client's password, which signs the answer (RFC 8489 section 9.1.4).
    pub fn is_answered_by(&self, datagram: &[u8], pwd: &str) -> bool {
        let Ok(answer) = Request::read_as(BINDING_SUCCESS, datagram) else {
            return false;
        };
        answer.transaction.0 == self.0
            && answer.check_fingerprint(datagram).is_ok()
            && answer.check_integrity(datagram, pwd).is_ok()
    }
}

/// Writes a binding request to a client whose credentials are `remote`.
pub fn write_request(transaction: Transaction, local_ufrag: &str, remote: &IceCredentials) -> Vec<u8> {
    let name = format!("{}:{local_ufrag}", remote.ufrag);
    let parts: Vec<Box<dyn Setter>> = vec![
        Box::new(TransactionId(transaction.0)),
        Box::new(BINDING_REQUEST_TYPE),
        Box::new(Attribute(ATTR_USERNAME, name.into_bytes())),
        Box::new(Attribute(ATTR_PRIORITY, PRIORITY.to_be_bytes().to_vec())),
        Box::new(Attribute(ATTR_ICE_CONTROLLED, TIE_BREAKER.to_vec())),
    ];
    write(parts, &remote.pwd)
}

/// The tag of the request that the datagram claims to answer; `None` if it is not a binding success response.
pub fn answered_tag(datagram: &[u8]) -> Option<u32> {
    let head = datagram.get(8..8 + TAG_LEN)?;
    let tag = u32::from_be_bytes(*head.first_chunk()?);
    datagram.starts_with(&BINDING_SUCCESS).then_some(tag)
}

/// Whether a check is authentic, without answering it.
pub fn is_authentic(datagram: &[u8], local: &IceCredentials, remote_ufrag: &str) -> bool {
    let check = |request: Request<'_>| {
        request.check_fingerprint(datagram)?;
        request.check_username(&local.ufrag, remote_ufrag)?;
        request.check_integrity(datagram, &local.pwd)
    };
    Request::read(datagram).and_then(check).is_ok()
}

/// The answer of a full agent to a binding request of the server; `None` if the request is not authentic.
pub fn answer_request(datagram: &[u8], from: SocketAddr, own: &IceCredentials, server_ufrag: &str) -> Option<Vec<u8>> {
    if !is_authentic(datagram, own, server_ufrag) {
        return None;
    }
    let request = Request::read_as(BINDING_REQUEST, datagram).ok()?;
    let writer = ResponseWriter {
        transaction: request.transaction,
        pwd: &own.pwd,
    };
    Some(writer.accept(from))
}

/// One attribute as it is.
struct Attribute(AttrType, Vec<u8>);

impl Setter for Attribute {
    fn add_to(&self, message: &mut Message) -> Result<(), rtc_shared::error::Error> {
        message.add(self.0, &self.1);
        Ok(())
    }
}

/// RFC 8489 section 5.
const BINDING_SUCCESS: [u8; 2] = [1, 1];
/// The other 8 of the 12 bytes are random, which no client can guess within the seconds that a request is open.
const TAG_LEN: usize = 4;
/// Priority of a host candidate (RFC 8445 section 5.1.2.1), for clients that insist on the attribute.
const PRIORITY: u32 = 0x7e00_01ff;
/// A lite agent is always controlled, so a role conflict never has to be decided.
const TIE_BREAKER: [u8; 8] = [0; 8];

#[cfg(test)]
mod tests {
    use super::super::tests::{credentials, request};
    use super::*;

    const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 8_080);

    fn client() -> IceCredentials {
        IceCredentials {
            ufrag: "theirs".into(),
            pwd: "the-clients-password-22".into(),
        }
    }

    #[test]
    fn an_answer_needs_the_request_and_the_clients_password() {
        let transaction = Transaction::new(7).unwrap();
        let datagram = write_request(transaction, "ours", &client());
        let answer = answer_request(&datagram, FROM, &client(), "ours").unwrap();
        assert_eq!(answered_tag(&answer), Some(7));
        assert!(transaction.is_answered_by(&answer, &client().pwd));
        assert!(!transaction.is_answered_by(&answer, "another"));
        assert!(!Transaction::new(7).unwrap().is_answered_by(&answer, &client().pwd));
        assert_eq!(answered_tag(&datagram), None, "a request answers nothing");
        for len in 0..answer.len() {
            assert!(!transaction.is_answered_by(&answer[..len], &client().pwd));
            answered_tag(&answer[..len]);
        }
    }

    #[test]
    fn a_client_answers_only_its_server() {
        let datagram = write_request(Transaction::new(7).unwrap(), "ours", &client());
        assert_eq!(answer_request(&datagram, FROM, &client(), "others"), None);
        let other = IceCredentials {
            pwd: "another-password-of-22-".into(),
            ..client()
        };
        assert_eq!(answer_request(&datagram, FROM, &other, "ours"), None);
    }

    #[test]
    fn a_check_is_authentic_with_the_right_password_only() {
        let good = request("ours:theirs", &credentials().pwd, vec![]);
        assert!(is_authentic(&good, &credentials(), "theirs"));
        assert!(!is_authentic(&good, &credentials(), "others"));
        let forged = request("ours:theirs", "guessed-password-of-22", vec![]);
        assert!(!is_authentic(&forged, &credentials(), "theirs"));
    }
}

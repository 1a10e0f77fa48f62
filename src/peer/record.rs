//! DTLS records as far as we look at them ourselves (RFC 6347 section 4.1): to keep out what would harm a handshake.
//!
//! ```text
//! | type (1) | version (2) | epoch (2) | sequence (6) | length (2) | body .. |
//! ```

/// One record of a datagram.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    /// All of it, header included.
    pub(super) bytes: &'a [u8],
    pub(super) kind: u8,
    pub(super) epoch: u16,
    pub(super) body: &'a [u8],
}

impl Record<'_> {
    /// Type of the first handshake message, when the record is a clear handshake record.
    pub(super) fn handshake_kind(&self) -> Option<u8> {
        (self.kind == HANDSHAKE && self.epoch == 0).then(|| self.body[0])
    }

    /// Whether the record may reach the handshake at all.
    ///
    /// Clear alerts are anybody's; unknown types and broken records would be answered with an alert of ours; a
    /// ChangeCipherSpec of a later epoch is believed without authentication. Application data is of no use to us.
    pub(super) fn is_acceptable(&self) -> bool {
        match (self.epoch, self.kind) {
            (0, HANDSHAKE) => has_sane_messages(self.body),
            (0, CHANGE_CIPHER_SPEC) => self.body == [1],
            (1, HANDSHAKE | ALERT) => true,
            _ => false,
        }
    }
}

/// The whole records at the front of a datagram; a broken one ends it.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header: &[u8; HEADER_LEN] = rest.first_chunk()?;
        let [kind, 0xfe, 0xfd | 0xff, epoch_high, epoch_low, ..] = *header else {
            return None;
        };
        let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
        if len == 0 || rest.len() < HEADER_LEN + len {
            return None;
        }
        let (bytes, next) = rest.split_at(HEADER_LEN + len);
        rest = next;
        Some(Record {
            bytes,
            kind,
            epoch: u16::from_be_bytes([epoch_high, epoch_low]),
            body: &bytes[HEADER_LEN..],
        })
    })
}

/// Whether each message fragment lies within its message and its record, and none is cut absurdly small: fragments
/// are put together by recursion, one level each.
fn has_sane_messages(mut body: &[u8]) -> bool {
    while let Some(head) = body.first_chunk::<MESSAGE_HEADER_LEN>() {
        let [len, offset, fragment] = [1, 6, 9].map(|at| u24(head, at));
        let is_last = offset + fragment == len;
        if offset + fragment > len || len > MESSAGE_LEN_MAX || (!is_last && fragment < FRAGMENT_LEN_MIN) {
            return false;
        }
        match body.get(MESSAGE_HEADER_LEN + fragment..) {
            Some([]) => return true,
            Some(rest) => body = rest,
            None => return false,
        }
    }
    false
}

fn u24(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes([0, bytes[at], bytes[at + 1], bytes[at + 2]]) as usize
}

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
/// Handshake message types (RFC 5246 section 7.4, RFC 6347 section 4.3.2).
pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
pub(super) const HELLO_VERIFY_REQUEST: u8 = 3;
const HEADER_LEN: usize = 13;
const MESSAGE_HEADER_LEN: usize = 12;
/// Certificate chains of self-signed peers take 0.3 to 2 KB.
const MESSAGE_LEN_MAX: usize = 16 * 1024;
/// No stack cuts finer than this but at a message's end.
const FRAGMENT_LEN_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0xfe, 0xfd];
        bytes.extend(epoch.to_be_bytes());
        bytes.extend([0; 6]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn message(len: u8, offset: u8, fragment: u8, present: usize) -> Vec<u8> {
        let mut bytes = vec![1, 0, 0, len, 0, 0, 0, 0, offset, 0, 0, fragment];
        bytes.resize(12 + present, 7);
        bytes
    }

    fn is_acceptable(bytes: &[u8]) -> bool {
        records(bytes).next().is_some_and(|record| record.is_acceptable())
    }

    #[test]
    fn clear_alerts_and_foreign_records_are_kept_out() {
        assert!(is_acceptable(&record(HANDSHAKE, 0, &message(40, 0, 40, 40))));
        assert!(is_acceptable(&record(CHANGE_CIPHER_SPEC, 0, &[1])));
        assert!(is_acceptable(&record(ALERT, 1, &[0; 26])));
        assert!(!is_acceptable(&record(ALERT, 0, &[2, 40])));
        assert!(!is_acceptable(&record(CHANGE_CIPHER_SPEC, 0, &[2])));
        assert!(!is_acceptable(&record(CHANGE_CIPHER_SPEC, 1, &[1])));
        assert!(!is_acceptable(&record(23, 1, &[0; 40])));
        assert!(!is_acceptable(&record(24, 0, &[0; 40])));
        assert!(!is_acceptable(&record(HANDSHAKE, 2, &message(40, 0, 40, 40))));
    }

    #[test]
    fn fragments_must_lie_within_message_and_record() {
        assert!(
            is_acceptable(&record(HANDSHAKE, 0, &message(0, 0, 0, 0))),
            "ServerHelloDone is empty"
        );
        assert!(
            is_acceptable(&record(HANDSHAKE, 0, &message(100, 96, 4, 4))),
            "a short tail"
        );
        let two = [message(40, 0, 40, 40), message(0, 0, 0, 0)].concat();
        assert!(is_acceptable(&record(HANDSHAKE, 0, &two)));
        assert!(!is_acceptable(&record(HANDSHAKE, 0, &message(40, 10, 40, 40))));
        assert!(!is_acceptable(&record(HANDSHAKE, 0, &message(40, 0, 40, 39))));
        assert!(!is_acceptable(&record(HANDSHAKE, 0, &message(40, 0, 1, 1))));
        assert!(!is_acceptable(&record(HANDSHAKE, 0, &[1; 11])));
    }

    #[test]
    fn a_broken_record_ends_the_datagram() {
        let mut bytes = record(HANDSHAKE, 0, &message(0, 0, 0, 0));
        let whole = bytes.len();
        bytes.extend(record(ALERT, 1, &[0; 26]));
        for len in 0..bytes.len() {
            assert_eq!(records(&bytes[..len]).count(), usize::from(len >= whole), "{len} bytes");
        }
        assert_eq!(records(&bytes).count(), 2);
    }
}

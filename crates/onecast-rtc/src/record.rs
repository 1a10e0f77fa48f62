//! DTLS records and the handshake fragments in them (RFC 6347 sections 4.1 and 4.2.2).
//!
//! ```text
//! record    | type (1) | version (2) | epoch (2) | sequence (6) | length (2) | body .. |
//! fragment  | type (1) | length (3) | message sequence (2) | offset (3) | fragment length (3) | bytes .. |
//! ```

/// One record of a datagram.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) header: &'a [u8; HEADER_LEN],
    pub(super) kind: u8,
    pub(super) epoch: u16,
    pub(super) body: &'a [u8],
}

/// A fragment of a handshake message. It lies within its message and its record.
#[derive(Clone, Copy)]
pub(super) struct HandshakeFragment<'a> {
    pub(super) kind: u8,
    /// Length of the whole message.
    pub(super) len: usize,
    pub(super) seq: u16,
    pub(super) offset: usize,
    pub(super) bytes: &'a [u8],
}

/// The records of a datagram, up to the first broken one.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    let next = move || {
        let (header, body) = rest.split_first_chunk::<HEADER_LEN>()?;
        let [kind, 0xfe, 0xfd | 0xff, epoch_high, epoch_low, ..] = *header else {
            return None;
        };
        let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let (body, next) = body.split_at_checked(len).filter(|_| len > 0)?;
        rest = next;
        Some(Record {
            header,
            kind,
            epoch: u16::from_be_bytes([epoch_high, epoch_low]),
            body,
        })
    };
    std::iter::from_fn(next).take(RECORDS_MAX)
}

/// The fragments in the body of an unencrypted handshake record, up to the first broken one.
pub(super) fn fragments(body: &[u8]) -> impl Iterator<Item = HandshakeFragment<'_>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (header, body) = rest.split_first_chunk::<MESSAGE_HEADER_LEN>()?;
        let [len, offset, fragment] = [1, 6, 9].map(|at| u24(header, at));
        let (bytes, next) = body.split_at_checked(fragment).filter(|_| offset + fragment <= len)?;
        rest = next;
        Some(HandshakeFragment {
            kind: header[0],
            len,
            seq: u16::from_be_bytes([header[4], header[5]]),
            offset,
            bytes,
        })
    })
}

/// Appends a handshake message in one fragment: the form that is hashed.
pub(super) fn write_message(out: &mut Vec<u8>, kind: u8, seq: u16, body: &[u8]) {
    let len = (body.len() as u32).to_be_bytes();
    out.push(kind);
    out.extend(&len[1..]);
    out.extend(seq.to_be_bytes());
    out.extend([0; 3]);
    out.extend(&len[1..]);
    out.extend(body);
}

/// Appends a record of epoch 0.
pub(super) fn write_record(out: &mut Vec<u8>, kind: u8, sequence: u16, body: &[u8]) {
    out.extend([kind, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0]);
    out.extend(sequence.to_be_bytes());
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
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
pub(super) const CERTIFICATE: u8 = 11;
pub(super) const SERVER_KEY_EXCHANGE: u8 = 12;
pub(super) const CERTIFICATE_REQUEST: u8 = 13;
pub(super) const SERVER_HELLO_DONE: u8 = 14;
pub(super) const CERTIFICATE_VERIFY: u8 = 15;
pub(super) const CLIENT_KEY_EXCHANGE: u8 = 16;
pub(super) const FINISHED: u8 = 20;
pub(super) const HEADER_LEN: usize = 13;
pub(super) const MESSAGE_HEADER_LEN: usize = 12;
/// The longest flight has five messages, and aiortc puts a flight of seven records into one datagram. Without a bound, a datagram of 2 KB
/// would have room for 150 empty ones.
const RECORDS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_record(&mut bytes, kind, 0, body);
        bytes[3..5].copy_from_slice(&epoch.to_be_bytes());
        bytes
    }

    fn fragment(len: u8, offset: u8, fragment: u8, present: usize) -> Vec<u8> {
        let mut bytes = vec![1, 0, 0, len, 0, 5, 0, 0, offset, 0, 0, fragment];
        bytes.resize(12 + present, 7);
        bytes
    }

    #[test]
    fn fragments_lie_within_message_and_record() {
        let count = |body: &[u8]| fragments(body).count();
        assert_eq!(count(&fragment(0, 0, 0, 0)), 1, "ServerHelloDone is empty");
        assert_eq!(count(&fragment(100, 96, 4, 4)), 1, "a tail");
        let two = [fragment(40, 0, 40, 40), fragment(0, 0, 0, 0)].concat();
        assert_eq!(count(&two), 2);
        assert_eq!(count(&fragment(40, 10, 40, 40)), 0, "longer than its message");
        assert_eq!(count(&fragment(40, 0, 40, 39)), 0, "longer than its record");
        assert_eq!(count(&[1; 11]), 0);
        let incomplete_first = [fragment(44, 0, 32, 32), fragment(40, 0, 40, 40)].concat();
        let lens: Vec<_> = fragments(&incomplete_first).map(|f| (f.len, f.bytes.len())).collect();
        assert_eq!(
            lens,
            [(44, 32), (40, 40)],
            "the next one begins where the fragment ends"
        );
    }

    #[test]
    fn written_records_parse_back() {
        let mut message = Vec::new();
        write_message(&mut message, CERTIFICATE, 2, b"certificate");
        let mut bytes = Vec::new();
        write_record(&mut bytes, HANDSHAKE, 9, &message);
        let record = records(&bytes).next().unwrap();
        assert_eq!((record.kind, record.epoch, record.header[10]), (HANDSHAKE, 0, 9));
        let read = fragments(record.body).next().unwrap();
        assert_eq!((read.kind, read.seq, read.offset, read.len), (CERTIFICATE, 2, 0, 11));
        assert_eq!(read.bytes, b"certificate");
    }

    #[test]
    fn a_broken_record_ends_the_datagram() {
        let mut bytes = record(HANDSHAKE, 0, &fragment(0, 0, 0, 0));
        let whole = bytes.len();
        bytes.extend(record(ALERT, 1, &[0; 26]));
        for len in 0..bytes.len() {
            assert_eq!(records(&bytes[..len]).count(), usize::from(len >= whole), "{len} bytes");
        }
        assert_eq!(records(&bytes).count(), 2);
        assert_eq!(records(&record(ALERT, 1, &[])).count(), 0, "an empty record");
    }

    #[test]
    fn a_datagram_has_a_bounded_number_of_records() {
        let many = record(ALERT, 1, &[0]).repeat(140);
        assert_eq!(records(&many).count(), RECORDS_MAX);
    }
}

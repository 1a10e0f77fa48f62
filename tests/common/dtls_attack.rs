//! DTLS that is a few messages to one reader and thousands to another.

/// 56 datagrams. The records of one half are two fragments if they are read by the length of fragments; read by the length of messages
/// they are a chain of fragments of one byte, each of which leads to the next. Each of the many small records of the other half has the
/// DTLS crate walk along the whole chain.
pub(crate) fn nested_fragments() -> Vec<Vec<u8>> {
    let chain = |number: u32| {
        let links: Vec<u8> = (90 * number..90 * (number + 1))
            .flat_map(|offset| header(0, 0, offset, 1))
            .collect();
        let mut body = header(44, 9, 0, 32);
        body.extend([7; 32]);
        body.extend(header(links.len() as u32, 9, 0, links.len() as u32));
        body.extend(links);
        record(number as u16, &body)
    };
    let small = |number: u16| {
        let records = (0..47).map(|at| record(100 + 47 * number + at, &header(0, 9, 0, 0)));
        records.collect::<Vec<_>>().concat()
    };
    (0..28).map(chain).chain((0..28).map(small)).collect()
}

/// Of a fragment of a ClientHello: `| type | length (3) | sequence (2) | offset (3) | fragment length (3) |`.
fn header(len: u32, seq: u16, offset: u32, fragment: u32) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(&len.to_be_bytes()[1..]);
    bytes.extend(seq.to_be_bytes());
    bytes.extend(&offset.to_be_bytes()[1..]);
    bytes.extend(&fragment.to_be_bytes()[1..]);
    bytes
}

/// Of the handshake, in the clear.
fn record(sequence: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

//! Packets of a real browser for tests: `tests/data/layers/*.heads`, see the README there.

use super::{SeqIndex, SequenceExtender};

/// What the recording keeps of one packet.
#[derive(Debug, Clone)]
pub(super) struct RecordedPacket {
    /// Stream of the line, in the order of the rids of the offer; 0 without simulcast.
    pub(super) stream: usize,
    pub(super) marker: bool,
    /// Extended sequence number in the stream.
    pub(super) index: SeqIndex,
    pub(super) timestamp: u32,
    pub(super) descriptor: Vec<u8>,
    pub(super) allocation: Vec<u8>,
    /// Payload descriptor and a few bytes of the frame.
    pub(super) payload: Vec<u8>,
}

pub(super) fn packets(name: &str) -> Vec<RecordedPacket> {
    let path = format!("{}/../../tests/data/layers/{name}.heads", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut rest = &bytes[..];
    let mut extenders = [SequenceExtender::new(); 3];
    let mut packets = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<10>() {
        let (descriptor, after) = after.split_at(head[7].into());
        let (allocation, after) = after.split_at(head[8].into());
        let (payload, after) = after.split_at(head[9].into());
        rest = after;
        let stream = usize::from(head[0] & 0x7f);
        packets.push(RecordedPacket {
            stream,
            marker: head[0] & 0x80 != 0,
            index: extenders[stream].extend(u16::from_be_bytes([head[1], head[2]])),
            timestamp: u32::from_be_bytes([head[3], head[4], head[5], head[6]]),
            descriptor: descriptor.into(),
            allocation: allocation.into(),
            payload: payload.into(),
        });
    }
    assert!(rest.is_empty(), "{path}: {} bytes are left", rest.len());
    packets
}

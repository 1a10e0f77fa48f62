//! One SSRC of a load's publisher: its numbering, and the packets that it can send again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use onecast_rtc::rtp::header::HeaderOut;
use onecast_rtc::rtp::{Pt, RtpTime, Ssrc};
use onecast_rtc::srtp::Sealer;
use onecast_udp::clock;

use crate::load::stamp::Stamp;
use crate::load::workload::VIDEO_BYTES;

/// One SSRC.
pub(super) struct RtpStream {
    pub(super) ssrc: Ssrc,
    payload_type: Pt,
    /// Index of the next packet; its lower 16 bits are the sequence number.
    index: u64,
    /// Packets sent so far.
    pub(super) packets: u64,
    /// Frames sent so far; each packet of audio is one.
    pub(super) frames: u64,
    pub(super) octets: u64,
    pub(super) timestamp: RtpTime,
    /// Header extensions of every packet.
    names: Vec<(u8, Box<[u8]>)>,
    /// The newest datagrams, by sequence number, for retransmission.
    kept: Vec<Vec<u8>>,
}

impl RtpStream {
    /// A stream that has sent nothing and begins with sequence number 0.
    pub(super) fn new(ssrc: Ssrc, payload_type: Pt) -> RtpStream {
        RtpStream {
            ssrc,
            payload_type,
            index: 0,
            packets: 0,
            frames: 0,
            octets: 0,
            timestamp: RtpTime(0),
            names: Vec::new(),
            kept: vec![Vec::new(); KEPT],
        }
    }

    /// The same, but it begins with this sequence number.
    pub(super) fn starting_at(self, sequence: u16) -> RtpStream {
        RtpStream {
            index: u64::from(sequence),
            ..self
        }
    }

    /// The header extensions of its packets from now on, by id.
    pub(super) fn set_names(&mut self, names: Vec<(u8, Box<[u8]>)>) {
        self.names = names;
    }

    fn header(&self, marker: bool) -> HeaderOut {
        HeaderOut {
            marker,
            padding: false,
            payload_type: self.payload_type,
            sequence: self.index as u16,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        }
    }

    /// Seals the next packet, a datagram of `bytes` with a stamped payload, and keeps it for retransmission. Returns it with the time
    /// of its stamp.
    pub(super) fn seal_next(
        &mut self,
        sealer: &mut Sealer,
        marker: bool,
        bytes: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> (&[u8], Duration) {
        let mut buffer = [FILLER; VIDEO_BYTES];
        let names: Vec<(u8, &[u8])> = self.names.iter().map(|(id, name)| (*id, &**name)).collect();
        let header_len = self.header(marker).write(&mut buffer, &names);
        let clear = bytes - sealer.overhead();
        let payload = &mut buffer[header_len..clear];
        write(payload);
        let (frame, sent) = (self.frames, clock::unix_time());
        Stamp { frame, sent }.write(payload);
        let len = sealer.seal_rtp(&mut buffer, header_len, clear, self.index);
        self.octets += (clear - header_len) as u64;
        (self.keep(&buffer[..len]), sent)
    }

    /// Keeps the next packet.
    fn keep(&mut self, datagram: &[u8]) -> &[u8] {
        let place = &mut self.kept[self.index as usize % KEPT];
        place.clear();
        place.extend_from_slice(datagram);
        self.index += 1;
        self.packets += 1;
        place
    }

    /// The packet with this number, if it is new enough.
    pub(super) fn kept(&self, sequence: u16) -> Option<&[u8]> {
        let datagram = &self.kept[usize::from(sequence) % KEPT];
        (datagram.get(2..4)? == sequence.to_be_bytes()).then_some(datagram)
    }
}

/// What OBS keeps for retransmission: the packets of all layers by their number alone. While it has a packet, others of the same number
/// are not kept; so a request for a packet of one layer may be answered with one of another.
#[derive(Debug, Default)]
pub(super) struct SharedHistory {
    by_number: HashMap<u16, Vec<u8>>,
    /// Numbers in the order of sending, those that were not kept, too.
    order: VecDeque<u16>,
}

impl SharedHistory {
    /// Keeps a packet that was sent.
    pub(super) fn keep(&mut self, datagram: &[u8]) {
        let Some(&[high, low]) = datagram.get(2..4).and_then(|number| number.first_chunk()) else {
            return;
        };
        let number = u16::from_be_bytes([high, low]);
        self.order.push_back(number);
        self.by_number.entry(number).or_insert_with(|| datagram.to_vec());
        if self.by_number.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_number.remove(&oldest);
        }
    }

    /// The packet of some layer with this number.
    pub(super) fn kept(&self, number: u16) -> Option<&[u8]> {
        self.by_number.get(&number).map(Vec::as_slice)
    }
}

const FILLER: u8 = 0x55;
/// More than a second of workload W1, and a divisor of 65,536, so that a sequence number is a position. OBS keeps as many.
pub(super) const KEPT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(number: u16, layer: u8) -> Vec<u8> {
        let [high, low] = number.to_be_bytes();
        vec![0x80, 96, high, low, layer]
    }

    #[test]
    fn only_the_newest_packets_can_be_sent_again() {
        let mut stream = RtpStream::new(Ssrc(1), Pt(96));
        for number in 0..600_u16 {
            let [high, low] = number.to_be_bytes();
            stream.keep(&[0, 0, high, low]);
        }
        assert_eq!(stream.kept(599), Some(&[0, 0, 2, 87][..]));
        assert_eq!((stream.kept(87), stream.kept(600)), (None, None));
    }

    #[test]
    fn the_shared_history_confuses_layers_of_equal_numbers() {
        let mut history = SharedHistory::default();
        history.keep(&datagram(7, 0));
        history.keep(&datagram(7, 1));
        history.keep(&datagram(8, 1));
        let layer = |number| history.kept(number).map(|datagram| datagram[4]);
        assert_eq!((layer(7), layer(8), layer(9)), (Some(0), Some(1), None));
    }

    #[test]
    fn the_shared_history_forgets_the_oldest() {
        let mut history = SharedHistory::default();
        (0..=KEPT as u16).for_each(|number| history.keep(&datagram(number, 0)));
        assert!(history.kept(0).is_none() && history.kept(1).is_some());
    }
}

//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01): when each packet arrived, so
//! that the publisher can estimate how much its path carries.
//!
//! ```text
//! |V=2|P| FMT=15 |    PT=205     |             length            |
//! |                      SSRC of packet sender                    |
//! |                      SSRC of media source                     |
//! |     base sequence number      |      packet status count      |
//! |           reference time (64 ms)              | fb pkt. count |
//! | status chunks, 16 bits each ... | deltas (250 us), 8 or 16 bits each ... | padding |
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::rtp::seq::SequenceExtender;

/// Arrivals that have not been told yet.
#[derive(Debug)]
pub(super) struct TransportFeedback {
    born: Instant,
    extender: SequenceExtender,
    /// Extended transport sequence number to arrival, in ticks of 250 us since `born`.
    arrivals: BTreeMap<u64, u64>,
    /// Everything below has been told.
    told: u64,
    count: u8,
    due_at: Option<Instant>,
}

impl TransportFeedback {
    /// Between feedbacks: browsers' own receivers use 50 to 250 ms.
    const INTERVAL: Duration = Duration::from_millis(50);
    /// Arrivals that may wait: 50 ms at 500 Mbit/s.
    const ARRIVALS_MAX: usize = 2_048;
    /// Statuses in one feedback, so that it fits a datagram: 2 bytes for every 7 statuses, at most 2 for each delta.
    const STATUSES_MAX: u64 = 480;

    pub(super) fn new(now: Instant) -> TransportFeedback {
        TransportFeedback {
            born: now,
            extender: SequenceExtender::default(),
            arrivals: BTreeMap::new(),
            told: 0,
            count: 0,
            due_at: None,
        }
    }

    /// A packet arrived with this transport-wide sequence number.
    pub(super) fn arrived(&mut self, now: Instant, sequence: u16) {
        let index = self.extender.extend(sequence);
        if index < self.told || self.arrivals.len() >= TransportFeedback::ARRIVALS_MAX {
            return;
        }
        let ticks = now.saturating_duration_since(self.born).as_micros() as u64 / TICK_US;
        self.arrivals.entry(index).or_insert(ticks);
        self.due_at.get_or_insert(now + TransportFeedback::INTERVAL);
    }

    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    /// Writes the next feedback if it is due and returns its length.
    ///
    /// # Panics
    /// When `out` is shorter than 1,200 bytes.
    pub(super) fn write(&mut self, now: Instant, sender: u32, media: u32, out: &mut [u8]) -> Option<usize> {
        if self.due_at? > now {
            return None;
        }
        let Some((&first, &first_ticks)) = self.arrivals.first_key_value() else {
            self.due_at = None;
            return None;
        };
        // Losses before the first arrival are told too, unless the gap is so long that it tells nothing.
        let near = self.told > 0 && first - self.told < TransportFeedback::STATUSES_MAX / 2;
        let base = if near { self.told } else { first };
        let reference = first_ticks / TICKS_PER_REFERENCE;
        let statuses = self.statuses(base, reference * TICKS_PER_REFERENCE);
        let end = base + statuses.len() as u64;
        self.arrivals = self.arrivals.split_off(&end);
        self.told = end;
        if self.arrivals.is_empty() {
            self.due_at = None;
        }
        let len = write_feedback(out, sender, media, base as u16, reference as u32, self.count, &statuses);
        self.count = self.count.wrapping_add(1);
        Some(len)
    }

    /// The status of each packet from `base` on: its delta to the one before, `None` if it did not arrive.
    fn statuses(&self, base: u64, reference_ticks: u64) -> Vec<Option<i16>> {
        let mut statuses = Vec::new();
        let mut before = reference_ticks as i64;
        for (&index, &ticks) in self.arrivals.range(base..base + TransportFeedback::STATUSES_MAX) {
            let Ok(delta) = i16::try_from(ticks as i64 - before) else {
                break;
            };
            statuses.resize((index - base) as usize, None);
            statuses.push(Some(delta));
            before = ticks as i64;
        }
        statuses
    }
}

fn write_feedback(
    out: &mut [u8],
    sender: u32,
    media: u32,
    base: u16,
    reference: u32,
    count: u8,
    statuses: &[Option<i16>],
) -> usize {
    out[4..8].copy_from_slice(&sender.to_be_bytes());
    out[8..12].copy_from_slice(&media.to_be_bytes());
    out[12..14].copy_from_slice(&base.to_be_bytes());
    out[14..16].copy_from_slice(&(statuses.len() as u16).to_be_bytes());
    out[16..19].copy_from_slice(&reference.to_be_bytes()[1..]);
    out[19] = count;
    let mut at = 20;
    for seven in statuses.chunks(7) {
        // A status vector chunk of two-bit symbols.
        let symbols = seven
            .iter()
            .enumerate()
            .map(|(place, status)| symbol(*status) << (12 - 2 * place));
        let chunk = symbols.fold(0xc000u16, |chunk, symbol| chunk | symbol);
        out[at..at + 2].copy_from_slice(&chunk.to_be_bytes());
        at += 2;
    }
    for delta in statuses.iter().flatten() {
        match u8::try_from(*delta) {
            Ok(small) => {
                out[at] = small;
                at += 1;
            }
            Err(_) => {
                out[at..at + 2].copy_from_slice(&delta.to_be_bytes());
                at += 2;
            }
        }
    }
    let len = at.next_multiple_of(4);
    let padding = len - at;
    out[at..len].fill(0);
    if padding > 0 {
        out[len - 1] = padding as u8;
    }
    out[..2].copy_from_slice(&[0x8f | (u8::from(padding > 0) << 5), 205]);
    out[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
    len
}

/// Not received, received with a small delta, received with a large or negative one.
fn symbol(status: Option<i16>) -> u16 {
    match status {
        None => 0,
        Some(0..=255) => 1,
        Some(_) => 2,
    }
}

const TICK_US: u64 = 250;
/// 64 ms.
const TICKS_PER_REFERENCE: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{SymbolTypeTcc, TransportLayerCc};
    use rtc_shared::marshal::Unmarshal;

    /// Reads a feedback with the family's own reader: (sequence, arrival in ms) of what arrived, and all that are told lost.
    fn read(bytes: &[u8]) -> (Vec<(u16, u64)>, Vec<u16>) {
        let feedback = TransportLayerCc::unmarshal(&mut bytes::Bytes::copy_from_slice(bytes)).unwrap();
        let mut symbols = Vec::new();
        for chunk in &feedback.packet_chunks {
            match chunk {
                rtc_rtcp::transport_feedbacks::transport_layer_cc::PacketStatusChunk::StatusVectorChunk(vector) => {
                    symbols.extend(vector.symbol_list.iter().copied());
                }
                other => panic!("{other:?}"),
            }
        }
        let mut ticks = u64::from(feedback.reference_time) * TICKS_PER_REFERENCE;
        let mut deltas = feedback.recv_deltas.iter();
        let (mut arrived, mut lost) = (Vec::new(), Vec::new());
        for (place, symbol) in symbols
            .iter()
            .take(usize::from(feedback.packet_status_count))
            .enumerate()
        {
            let sequence = feedback.base_sequence_number.wrapping_add(place as u16);
            if *symbol == SymbolTypeTcc::PacketNotReceived {
                lost.push(sequence);
            } else {
                ticks = ticks.wrapping_add_signed(deltas.next().unwrap().delta / TICK_US as i64);
                arrived.push((sequence, ticks * TICK_US / 1_000));
            }
        }
        (arrived, lost)
    }

    #[test]
    fn arrivals_and_losses_are_told_across_the_wrap() {
        let start = crate::clock::now();
        let mut feedback = TransportFeedback::new(start);
        let ms = |ms| start + Duration::from_millis(ms);
        for (at, sequence) in [(100, 65_533), (101, 65_535), (130, 0), (120, 1), (149, 9)] {
            feedback.arrived(ms(at), sequence);
        }
        let mut out = [0; 1_200];
        assert_eq!(feedback.write(ms(149), 1, 2, &mut out), None, "not due yet");
        let len = feedback.write(ms(150), 1, 2, &mut out).unwrap();
        let (arrived, lost) = read(&out[..len]);
        assert_eq!(arrived, [(65_533, 100), (65_535, 101), (0, 130), (1, 120), (9, 149)]);
        assert_eq!(lost, [65_534, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(feedback.due_at(), None);

        feedback.arrived(ms(200), 12);
        let len = feedback.write(ms(250), 1, 2, &mut out).unwrap();
        assert_eq!(read(&out[..len]), (vec![(12, 200)], vec![10, 11]));
    }

    #[test]
    fn a_burst_is_told_in_several_feedbacks_that_each_fit() {
        let start = crate::clock::now();
        let mut feedback = TransportFeedback::new(start);
        for sequence in 0..1_500 {
            feedback.arrived(start + Duration::from_micros(u64::from(sequence) * 10), sequence);
        }
        let mut out = [0; 1_200];
        let mut told = 0;
        while let Some(len) = feedback.write(start + Duration::from_millis(60), 1, 2, &mut out) {
            told += read(&out[..len]).0.len();
        }
        assert_eq!(told, 1_500);
    }

    #[test]
    fn a_long_silence_between_packets_starts_a_new_feedback() {
        let start = crate::clock::now();
        let mut feedback = TransportFeedback::new(start);
        feedback.arrived(start, 1);
        feedback.arrived(start + Duration::from_secs(20), 2);
        let mut out = [0; 1_200];
        let later = start + Duration::from_secs(21);
        let first = feedback.write(later, 1, 2, &mut out).unwrap();
        assert_eq!(read(&out[..first]).0, [(1, 0)]);
        let second = feedback.write(later, 1, 2, &mut out).unwrap();
        assert_eq!(read(&out[..second]).0, [(2, 20_000)]);
    }
}

//! One RTP source of a publisher and its place in the track's numbering.

use std::time::{Duration, Instant};

use super::nack::Missing;
use crate::media::packet::Continuity;
use crate::rtp::seq::SequenceExtender;

/// A source (SSRC) that feeds a track.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) ssrc: u32,
    pub(super) clock_rate: u32,
    extender: SequenceExtender,
    first: u64,
    /// Track index of the packet `first`.
    index_at_first: u64,
    /// Added to the source's timestamps.
    pub(super) timestamp_offset: u32,
    seen: Box<[u64; SEEN]>,
    pub(super) missing: Missing,
    received: u64,
    jitter: f64,
    last_transit: Option<(Instant, u32)>,
    reported_expected: u64,
    reported_received: u64,
    /// Middle 32 bits of the last sender report's NTP time, and when it arrived.
    pub(super) last_report: Option<(u32, Instant)>,
}

/// What is new about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It has this number in the track.
    New { index: u64, repaired: bool },
    /// It was there before.
    Duplicate,
    /// It is older than what is remembered, or than where the source joined the track.
    TooOld,
}

impl Source {
    /// A source whose first packet is this one, joined to the track where it stands.
    pub(super) fn new(
        ssrc: u32,
        clock_rate: u32,
        (sequence, timestamp): (u16, u32),
        continuity: Option<Continuity>,
        now: Instant,
    ) -> Source {
        let mut extender = SequenceExtender::default();
        let first = extender.extend(sequence);
        let (index_at_first, timestamp_offset) = match continuity {
            Some(before) => (
                before.next_index,
                next_timestamp(before, clock_rate, now).wrapping_sub(timestamp),
            ),
            None => (first, 0),
        };
        Source {
            ssrc,
            clock_rate,
            extender,
            first,
            index_at_first,
            timestamp_offset,
            seen: Box::new([0; SEEN]),
            missing: Missing::default(),
            received: 0,
            jitter: 0.0,
            last_transit: None,
            reported_expected: 0,
            reported_received: 0,
            last_report: None,
        }
    }

    /// Takes note of a packet. False second value: a gap opened that is too long to be asked for.
    pub(super) fn arrived(&mut self, now: Instant, sequence: u16, ask: bool) -> (Arrival, bool) {
        let before = self.extender.highest().unwrap_or(0);
        let extended = self.extender.extend(sequence);
        if extended < self.first || extended + SEEN as u64 <= before {
            return (Arrival::TooOld, true);
        }
        let place = &mut self.seen[extended as usize % SEEN];
        if *place == extended {
            return (Arrival::Duplicate, true);
        }
        *place = extended;
        self.received += 1;
        let repaired = self.missing.arrived(extended);
        let small_enough = !ask || extended <= before + 1 || self.missing.note_gap(now, before + 1, extended);
        (
            Arrival::New {
                index: self.index_at_first + (extended - self.first),
                repaired,
            },
            small_enough,
        )
    }

    /// Interarrival jitter (RFC 3550 section 6.4.1), for packets that were not sent again.
    pub(super) fn note_transit(&mut self, now: Instant, timestamp: u32) {
        if let Some((at, last)) = self.last_transit.replace((now, timestamp)) {
            let elapsed = now.saturating_duration_since(at).as_secs_f64() * f64::from(self.clock_rate);
            let difference = (elapsed - f64::from(timestamp.wrapping_sub(last) as i32)).abs();
            self.jitter += (difference - self.jitter) / 16.0;
        }
    }

    /// Writes the block of a receiver report about this source (24 bytes).
    pub(super) fn write_report(&mut self, now: Instant, out: &mut [u8]) {
        let highest = self.extender.highest().unwrap_or(self.first);
        let expected = highest - self.first + 1;
        let lost = expected as i64 - self.received as i64;
        let expected_since = expected - self.reported_expected;
        let received_since = self.received - self.reported_received;
        let fraction = (expected_since.saturating_sub(received_since) * 256)
            .checked_div(expected_since)
            .unwrap_or(0);
        (self.reported_expected, self.reported_received) = (expected, self.received);
        let (last_report, delay) = self.last_report.map_or((0, 0), |(middle, at)| {
            let delay = now.saturating_duration_since(at).min(Duration::from_secs(0xffff));
            (middle, (delay.as_secs_f64() * 65_536.0) as u32)
        });
        let cumulative = (lost.clamp(-0x80_0000, 0x7f_ffff) as u32) & 0xff_ffff;
        let words = [
            self.ssrc,
            ((fraction.min(255) as u32) << 24) | cumulative,
            // The extender starts at 65,536: the first cycle is 0.
            (highest - 0x1_0000) as u32,
            self.jitter as u32,
            last_report,
            delay,
        ];
        for (place, word) in out.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    }

    /// Packets that were expected and did not come, so far.
    pub(super) fn lost(&self) -> u64 {
        let highest = self.extender.highest().unwrap_or(self.first);
        (highest - self.first + 1).saturating_sub(self.received)
    }
}

/// The timestamp for a first packet: the last one and the time that has passed since, but at least one tick more.
fn next_timestamp(before: Continuity, clock_rate: u32, now: Instant) -> u32 {
    let elapsed = now.saturating_duration_since(before.last_at);
    let ticks = elapsed.as_nanos() * u128::from(clock_rate) / 1_000_000_000;
    before.last_timestamp.wrapping_add((ticks as u32).max(1))
}

/// Packets of which duplicates are known: 4 s at 250 packets a second.
const SEEN: usize = 1_024;

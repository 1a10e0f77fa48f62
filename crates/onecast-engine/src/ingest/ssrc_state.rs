//! State of one SSRC that feeds a layer: where its packets belong, and how well they arrive.

use std::time::Instant;

use onecast_rtc::rtp::rtcp::ReceptionBlock;
use onecast_rtc::rtp::{Codec, RtpHeader, RtpTime, SeqIndex, SequenceExtender, Ssrc};

use crate::media::continuity::Mapping;

/// An SSRC from its first packet on.
#[derive(Debug)]
pub(super) struct SsrcState {
    pub(super) ssrc: Ssrc,
    pub(super) codec: Codec,
    /// From its numbers to those of the track.
    pub(super) mapping: Mapping,
    pub(super) sender_report: Option<SenderReport>,
    first: SeqIndex,
    extender: SequenceExtender,
    newest_timestamp: RtpTime,
    arrivals: Arrivals,
    misplaced: MisplacedRun,
    reception: ReceptionStats,
}

/// A sender report, in the RTP time of its SSRC.
#[derive(Debug, Clone, Copy)]
pub(super) struct SenderReport {
    pub(super) ntp: u64,
    pub(super) rtp: RtpTime,
    pub(super) at: Instant,
}

/// Where a packet belongs in the numbering of its SSRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// Not seen before. The `missing` packets just before it have not arrived yet.
    New { extended: SeqIndex, missing: u64 },
    /// Seen before.
    Duplicate,
    /// Before the first packet, or too far back to know whether it was seen.
    Old,
    /// Too far away to belong to this numbering.
    FarAway,
    /// The sender has started another numbering.
    Restart,
}

impl SsrcState {
    /// The state after a first packet. `map` gets its extended number.
    pub(super) fn new(
        header: &RtpHeader,
        codec: Codec,
        now: Instant,
        map: impl FnOnce(SeqIndex) -> Mapping,
    ) -> SsrcState {
        let mut extender = SequenceExtender::new();
        let first = extender.extend(header.sequence);
        let mut arrivals = Arrivals::new();
        arrivals.advance(first, first);
        SsrcState {
            ssrc: header.ssrc,
            codec,
            mapping: map(first),
            sender_report: None,
            first,
            extender,
            newest_timestamp: header.timestamp,
            arrivals,
            misplaced: MisplacedRun::default(),
            reception: ReceptionStats::new(first, header.timestamp, codec.clock_rate(), now),
        }
    }

    /// The extended number of the first packet, which [`new`](Self::new) has placed already.
    pub(super) fn first(&self) -> SeqIndex {
        self.first
    }

    /// When the first packet arrived.
    pub(super) fn started(&self) -> Instant {
        self.reception.started
    }

    /// Places a packet that arrived on the media SSRC.
    pub(super) fn place(&mut self, header: &RtpHeader, codec: Codec, now: Instant) -> Placement {
        let extended = self.extender.peek(header.sequence);
        let highest = self.highest();
        if extended > highest.plus(AHEAD_MAX) || extended.plus(BEHIND_MAX) < highest {
            return self.misplaced.note(header.sequence, FAR_RUN, Placement::FarAway);
        }
        if extended < self.first || extended.plus(WINDOW) <= highest {
            return self.misplaced.note(header.sequence, BEHIND_RUN, Placement::Old);
        }
        if extended > highest && codec != self.codec && !self.timestamp_goes_on(header.timestamp) {
            return Placement::Restart;
        }
        self.misplaced = MisplacedRun::default();
        let placement = self.mark(extended);
        if matches!(placement, Placement::New { .. }) {
            self.reception.received += 1;
            if extended > highest {
                self.reception.note_timing(header.timestamp, now);
                self.newest_timestamp = header.timestamp;
                self.codec = codec;
            }
        }
        placement
    }

    /// Places a retransmitted packet. It repairs a loss, but says nothing about the path or the numbering.
    pub(super) fn place_repaired(&mut self, sequence: u16) -> Placement {
        let extended = self.extender.peek(sequence);
        let highest = self.highest();
        if extended > highest.plus(AHEAD_MAX) {
            return Placement::FarAway;
        }
        if extended < self.first || extended.plus(WINDOW) <= highest {
            return Placement::Old;
        }
        self.mark(extended)
    }

    /// A report block about what arrived since the last one; `None` if nothing did.
    pub(super) fn take_report(&mut self, now: Instant) -> Option<ReceptionBlock> {
        let highest = self.highest();
        let mut block = self.reception.take_block(highest)?;
        block.about = self.ssrc;
        if let Some(report) = self.sender_report {
            // The middle 32 bits of the NTP time, and the delay in units of 1/65,536 s (RFC 3550 section 6.4.1).
            block.last_sr = (report.ntp >> 16) as u32;
            let delay = now.saturating_duration_since(report.at);
            block.delay = (delay.as_micros() * 65_536 / 1_000_000) as u32;
        }
        Some(block)
    }

    fn highest(&self) -> SeqIndex {
        self.extender.highest().unwrap_or(self.first)
    }

    fn mark(&mut self, extended: SeqIndex) -> Placement {
        let highest = self.highest();
        if extended <= highest {
            return if self.arrivals.set(extended) {
                Placement::New { extended, missing: 0 }
            } else {
                Placement::Duplicate
            };
        }
        self.extender.extend(extended.wire());
        self.arrivals.advance(highest.next(), extended);
        Placement::New {
            extended,
            missing: extended.since(highest) - 1,
        }
    }

    /// Whether a timestamp is near the newest one: a codec switched within a session keeps the clock, a new encoder does not.
    fn timestamp_goes_on(&self, timestamp: RtpTime) -> bool {
        let step = timestamp.since(self.newest_timestamp);
        step.unsigned_abs() < TIMESTAMP_STEP_SECONDS_MAX * self.codec.clock_rate()
    }
}

/// Which of the last [`WINDOW`] packets arrived: a ring of bits.
#[derive(Debug)]
struct Arrivals(Box<[u64; (WINDOW / 64) as usize]>);

impl Arrivals {
    fn new() -> Arrivals {
        Arrivals(Box::new([0; (WINDOW / 64) as usize]))
    }

    /// Moves the window on: `from..newest` have not arrived, `newest` has.
    fn advance(&mut self, from: SeqIndex, newest: SeqIndex) {
        for extended in from.until(newest) {
            let (word, bit) = Arrivals::locate(extended);
            self.0[word] &= !bit;
        }
        let (word, bit) = Arrivals::locate(newest);
        self.0[word] |= bit;
    }

    /// Notes a packet within the window. True if it had not arrived before.
    fn set(&mut self, extended: SeqIndex) -> bool {
        let (word, bit) = Arrivals::locate(extended);
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    fn locate(extended: SeqIndex) -> (usize, u64) {
        let at = extended.0 % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }
}

/// Consecutive packets that did not fit the numbering (RFC 3550 appendix A.1).
#[derive(Debug, Default)]
struct MisplacedRun {
    run: u8,
    next: u16,
}

impl MisplacedRun {
    /// `placement`, or a restart if this packet completes a run of `run_max`.
    fn note(&mut self, sequence: u16, run_max: u8, placement: Placement) -> Placement {
        self.run = if sequence == self.next {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.next = sequence.wrapping_add(1);
        if self.run >= run_max {
            Placement::Restart
        } else {
            placement
        }
    }
}

/// What receiver reports are made from (RFC 3550 sections 6.4.1, A.3, A.8).
#[derive(Debug)]
struct ReceptionStats {
    clock_rate: u32,
    started: Instant,
    first: SeqIndex,
    received: u64,
    expected_before: u64,
    received_before: u64,
    /// Of the newest packet: arrival time less timestamp, in ticks.
    transit: u32,
    /// Times 16, so that the running average keeps its fraction.
    jitter: u32,
}

impl ReceptionStats {
    fn new(first: SeqIndex, timestamp: RtpTime, clock_rate: u32, now: Instant) -> ReceptionStats {
        ReceptionStats {
            clock_rate,
            started: now,
            first,
            received: 1,
            expected_before: 0,
            received_before: 0,
            transit: 0_u32.wrapping_sub(timestamp.0),
            jitter: 0,
        }
    }

    /// For packets in order only: a late one says nothing about the path's jitter.
    fn note_timing(&mut self, timestamp: RtpTime, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started).as_micros();
        let arrival = (elapsed * u128::from(self.clock_rate) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(timestamp.0);
        let change = transit.wrapping_sub(self.transit).cast_signed().unsigned_abs();
        self.transit = transit;
        // A step of the sender's clock is not jitter.
        if change < JITTER_STEP_SECONDS_MAX * self.clock_rate {
            self.jitter = self.jitter + change - ((self.jitter + 8) >> 4);
        }
    }

    fn take_block(&mut self, highest: SeqIndex) -> Option<ReceptionBlock> {
        let expected = highest.since(self.first) + 1;
        let expected_since = expected - self.expected_before;
        let received_since = self.received - self.received_before;
        if expected_since == 0 && received_since == 0 {
            return None;
        }
        let lost_since = expected_since.saturating_sub(received_since);
        self.expected_before = expected;
        self.received_before = self.received;
        Some(ReceptionBlock {
            fraction_lost: (lost_since * 256 / expected_since.max(1)).min(255) as u8,
            lost: (expected.cast_signed() - self.received.cast_signed()).clamp(-0x80_0000, 0x7f_ffff) as i32,
            // Extended numbers start in cycle 1 here, in cycle 0 on the wire.
            highest: (highest.0 - 65_536) as u32,
            jitter: self.jitter >> 4,
            ..ReceptionBlock::default()
        })
    }
}

/// Packets back for which duplicates are known: a second of 40 Mbit/s. A multiple of 64.
const WINDOW: u64 = 4_096;
/// A longer step ahead is another numbering, not loss (MAX_DROPOUT of RFC 3550 appendix A.1). Less than [`WINDOW`].
const AHEAD_MAX: u64 = 3_000;
/// A longer step back is another numbering, not a late retransmission: three seconds of 60 Mbit/s.
const BEHIND_MAX: u64 = 16_384;
/// So many consecutive packets far away prove another numbering (RFC 3550 appendix A.1).
const FAR_RUN: u8 = 2;
/// The same for packets a little behind, which may also be late retransmissions.
const BEHIND_RUN: u8 = 32;
/// A longer step of the timestamp, either way, comes from another clock: pauses within a session are shorter than this.
const TIMESTAMP_STEP_SECONDS_MAX: u32 = 10;
/// A greater change of the transit time comes from a clock that was set: no network delays a packet by so much.
const JITTER_STEP_SECONDS_MAX: u32 = 5;

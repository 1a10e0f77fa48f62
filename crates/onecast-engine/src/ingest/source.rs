//! One SSRC that currently feeds a track: where its packets belong, and how well they arrive.

use std::time::Instant;

use crate::media::continuity::Mapping;
use onecast_rtc::rtp::rtcp::ReceptionBlock;
use onecast_rtc::rtp::{Codec, RtpHeader, SequenceExtender};

/// The source of a track, from its first packet on.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) ssrc: u32,
    pub(super) codec: Codec,
    pub(super) mapping: Mapping,
    pub(super) sender_report: Option<SenderReport>,
    first: u64,
    extender: SequenceExtender,
    newest_timestamp: u32,
    received: Received,
    misplaced: Misplaced,
    reception: Reception,
}

/// A sender report, with the source's own RTP time.
#[derive(Debug, Clone, Copy)]
pub(super) struct SenderReport {
    pub(super) ntp: u64,
    pub(super) rtp: u32,
    pub(super) at: Instant,
}

/// Where a packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Never seen before. `missing` packets before it have not come yet.
    New { extended: u64, missing: u64 },
    /// Seen before.
    Duplicate,
    /// Before the source's first packet, or too far back to know whether it was seen.
    Old,
    /// Too far away to belong to this numbering.
    Stray,
    /// The source has started another numbering.
    Restart,
}

impl Source {
    pub(super) fn new(header: &RtpHeader, codec: Codec, now: Instant, map: impl FnOnce(u64) -> Mapping) -> Source {
        let mut extender = SequenceExtender::new();
        let first = extender.extend(header.sequence);
        let mut received = Received::new();
        received.advance(first, first);
        Source {
            ssrc: header.ssrc,
            codec,
            mapping: map(first),
            sender_report: None,
            first,
            extender,
            newest_timestamp: header.timestamp,
            received,
            misplaced: Misplaced::default(),
            reception: Reception::new(first, header.timestamp, codec.clock_rate(), now),
        }
    }

    /// The extended number of the first packet, which [`Source::new`] has placed already.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// When its first packet came.
    pub(super) fn started(&self) -> Instant {
        self.reception.started
    }

    /// Places a packet that came on the media SSRC itself.
    pub(super) fn place(&mut self, header: &RtpHeader, codec: Codec, now: Instant) -> Place {
        let extended = self.extender.peek(header.sequence);
        let highest = self.highest();
        if extended > highest + AHEAD_MAX || extended + BEHIND_MAX < highest {
            return self.misplaced.note(header.sequence, FAR_RUN, Place::Stray);
        }
        if extended < self.first || extended + WINDOW <= highest {
            return self.misplaced.note(header.sequence, BEHIND_RUN, Place::Old);
        }
        if extended > highest && codec != self.codec && !self.timestamp_goes_on(header.timestamp) {
            return Place::Restart;
        }
        self.misplaced = Misplaced::default();
        let place = self.mark(extended);
        if matches!(place, Place::New { .. }) {
            self.reception.received += 1;
            if extended > highest {
                self.reception.note_timing(header.timestamp, now);
                self.newest_timestamp = header.timestamp;
                self.codec = codec;
            }
        }
        place
    }

    /// Places a packet that came by retransmission: it repairs, but tells nothing about the path or the numbering.
    pub(super) fn place_repaired(&mut self, sequence: u16) -> Place {
        let extended = self.extender.peek(sequence);
        let highest = self.highest();
        if extended > highest + AHEAD_MAX {
            return Place::Stray;
        }
        if extended < self.first || extended + WINDOW <= highest {
            return Place::Old;
        }
        self.mark(extended)
    }

    /// A report block for what came since the last one; `None` when nothing did.
    pub(super) fn take_report(&mut self, now: Instant) -> Option<ReceptionBlock> {
        let highest = self.highest();
        let mut block = self.reception.take_block(highest)?;
        block.about = self.ssrc;
        if let Some(report) = self.sender_report {
            block.last_sr = (report.ntp >> 16) as u32;
            let delay = now.saturating_duration_since(report.at);
            block.delay = (delay.as_micros() * 65_536 / 1_000_000) as u32;
        }
        Some(block)
    }

    fn highest(&self) -> u64 {
        self.extender.highest().unwrap_or(self.first)
    }

    fn mark(&mut self, extended: u64) -> Place {
        let highest = self.highest();
        if extended <= highest {
            let fresh = self.received.set(extended);
            return if fresh {
                Place::New { extended, missing: 0 }
            } else {
                Place::Duplicate
            };
        }
        self.extender.extend(extended as u16);
        self.received.advance(highest + 1, extended);
        Place::New {
            extended,
            missing: extended - highest - 1,
        }
    }

    /// Whether a timestamp is near the newest: a codec that changed in mid-stream keeps the clock, a new encoder does not.
    fn timestamp_goes_on(&self, timestamp: u32) -> bool {
        let step = timestamp.wrapping_sub(self.newest_timestamp).cast_signed();
        step.unsigned_abs() < TIMESTAMP_STEP_SECONDS_MAX * self.codec.clock_rate()
    }
}

/// Which of the last [`WINDOW`] packets came.
#[derive(Debug)]
struct Received(Box<[u64; (WINDOW / 64) as usize]>);

impl Received {
    fn new() -> Received {
        Received(Box::new([0; (WINDOW / 64) as usize]))
    }

    /// Moves the window on: `from..newest` have not come, `newest` has.
    fn advance(&mut self, from: u64, newest: u64) {
        for extended in from..newest {
            let (word, bit) = Received::locate(extended);
            self.0[word] &= !bit;
        }
        let (word, bit) = Received::locate(newest);
        self.0[word] |= bit;
    }

    /// Notes a packet within the window. True when it had not come before.
    fn set(&mut self, extended: u64) -> bool {
        let (word, bit) = Received::locate(extended);
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    fn locate(extended: u64) -> (usize, u64) {
        let at = extended % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }
}

/// Packets in a row that did not fit the numbering (RFC 3550 appendix A.1).
#[derive(Debug, Default)]
struct Misplaced {
    run: u8,
    next: u16,
}

impl Misplaced {
    /// `place`, or a restart when this is the packet that completes a run of `run_max`.
    fn note(&mut self, sequence: u16, run_max: u8, place: Place) -> Place {
        self.run = if sequence == self.next {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.next = sequence.wrapping_add(1);
        if self.run >= run_max { Place::Restart } else { place }
    }
}

/// Counts for receiver reports (RFC 3550 sections 6.4.1, A.3, A.8).
#[derive(Debug)]
struct Reception {
    clock_rate: u32,
    started: Instant,
    first: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    transit: u32,
    /// Times 16.
    jitter: u32,
}

impl Reception {
    fn new(first: u64, timestamp: u32, clock_rate: u32, now: Instant) -> Reception {
        Reception {
            clock_rate,
            started: now,
            first,
            received: 1,
            expected_before: 0,
            received_before: 0,
            transit: 0_u32.wrapping_sub(timestamp),
            jitter: 0,
        }
    }

    /// Of packets in order only: a retransmission says nothing about the path's jitter.
    fn note_timing(&mut self, timestamp: u32, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started).as_micros();
        let arrival = (elapsed * u128::from(self.clock_rate) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        let change = transit.wrapping_sub(self.transit).cast_signed().unsigned_abs();
        self.transit = transit;
        // A step of the sender's clock is not jitter.
        if change < JITTER_STEP_SECONDS_MAX * self.clock_rate {
            self.jitter = self.jitter + change - ((self.jitter + 8) >> 4);
        }
    }

    fn take_block(&mut self, highest: u64) -> Option<ReceptionBlock> {
        let expected = highest - self.first + 1;
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
            highest: (highest - 65_536) as u32,
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
/// Packets in sequence far away that prove another numbering (RFC 3550 appendix A.1).
const FAR_RUN: u8 = 2;
/// The same for packets a little behind, which late retransmissions may be too.
const BEHIND_RUN: u8 = 32;
const TIMESTAMP_STEP_SECONDS_MAX: u32 = 10;
const JITTER_STEP_SECONDS_MAX: u32 = 5;

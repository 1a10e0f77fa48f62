//! One m-line of a publisher: the source that feeds its track now, and the way from a received packet to a packet of the track.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::keyframes::{KeyframeRequests, KeyframeStatus};
use super::missing::Missing;
use super::pictures::Pictures;
use super::source::{Place, SenderReport, Source};
use super::{IngestDrop, KeyframeFeedback, ReceiveStats, SenderClock};
use crate::media::KeyframeNeed;
use crate::media::continuity::{Continuity, Mapping};
use crate::media::packet::{Packet, Passed, PassedExtensions};
use onecast_rtc::rtp::rtcp::{self, ReceptionBlock};
use onecast_rtc::rtp::{Codec, RtpHeader};
use onecast_rtc::sdp::{ExtensionIds, Format, MediaLine};

/// A packet on its way in: decrypted, its payload type known.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) now: Instant,
    pub(super) header: &'a RtpHeader,
    pub(super) clear: &'a [u8],
    /// Without padding.
    pub(super) payload: &'a [u8],
    pub(super) format: Accepted,
}

/// What ingest needs to know of a negotiated format.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepted {
    pub(super) codec: Codec,
    pub(super) payload_type: u8,
    pub(super) nack: bool,
    pub(super) keyframe_feedback: KeyframeFeedback,
}

impl Accepted {
    pub(super) fn new(format: &Format, fir: bool) -> Accepted {
        Accepted {
            codec: format.codec,
            payload_type: format.payload_type,
            nack: format.nack,
            keyframe_feedback: match (format.pli, fir) {
                (true, _) => KeyframeFeedback::Pli,
                (false, true) => KeyframeFeedback::Fir,
                (false, false) => KeyframeFeedback::None,
            },
        }
    }
}

/// The receiving state of one track.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) continuity: Continuity,
    pub(super) stats: ReceiveStats,
    extensions: ExtensionIds,
    feeding: Feeding,
    /// Of the newest packet's format, at first of the preferred one.
    format: Option<Accepted>,
    heard_at: Option<Instant>,
    former: Former,
    repairs: Repairs,
    missing: Missing,
    keyframes: KeyframeRequests,
    pictures: Pictures,
    /// Reused by each NACK.
    due: Vec<u16>,
}

/// What feeds the track.
#[derive(Debug)]
enum Feeding {
    /// Nothing came yet; the SSRC that was announced.
    Nothing(Option<u32>),
    /// Packets of this SSRC come, but none to start with.
    Waiting { ssrc: u32, since: Instant },
    /// Packets of this source go into the track.
    Source(Box<Source>),
}

impl Line {
    pub(super) fn new(line: Option<&MediaLine>, continuity: Continuity, fir: bool, keyframe_share: u8) -> Line {
        let mut repairs = Repairs::default();
        if let Some((Some(ssrc), Some(rtx))) = line.map(|line| (line.ssrc, line.rtx_ssrc)) {
            repairs.belongs(rtx, ssrc);
        }
        let mut pictures = Pictures::default();
        pictures.announce(line);
        Line {
            continuity,
            stats: ReceiveStats::default(),
            extensions: line.map(|line| line.extensions).unwrap_or_default(),
            feeding: Feeding::Nothing(line.and_then(|line| line.ssrc)),
            format: line
                .and_then(|line| line.formats.first())
                .map(|format| Accepted::new(format, fir)),
            heard_at: None,
            former: Former::default(),
            repairs,
            missing: Missing::default(),
            keyframes: KeyframeRequests::new(keyframe_share),
            pictures,
            due: Vec::new(),
        }
    }

    /// Another line, or none, takes the place of this one. Who feeds the track goes on if the new line has it, too.
    pub(super) fn change(&mut self, line: Option<&MediaLine>, fir: bool) {
        self.extensions = line.map(|line| line.extensions).unwrap_or_default();
        self.pictures.announce(line);
        let Some(line) = line else {
            // It may come back under the same SSRC.
            self.forget_source(None);
            self.format = None;
            return;
        };
        if let (Some(ssrc), Some(rtx)) = (line.ssrc, line.rtx_ssrc) {
            self.repairs.belongs(rtx, ssrc);
        }
        if let Some(announced) = line.ssrc {
            self.former.forget(announced);
        }
        match (self.ssrc(), line.ssrc) {
            (Some(before), Some(announced)) if before != announced => {
                self.former.push(before);
                self.forget_source(Some(announced));
            }
            (None, announced) => self.feeding = Feeding::Nothing(announced),
            _ => {}
        }
        if matches!(self.feeding, Feeding::Nothing(_)) {
            self.format = line.formats.first().map(|format| Accepted::new(format, fir));
        }
    }

    /// The track is another one, which stands there.
    pub(super) fn go_on_from(&mut self, continuity: Continuity) {
        self.continuity = continuity;
        self.forget_source(self.ssrc());
    }

    fn forget_source(&mut self, announced: Option<u32>) {
        self.missing.clear();
        self.pictures
            .begin_anew(announced.is_some() && announced == self.ssrc());
        self.feeding = Feeding::Nothing(announced);
    }

    /// A packet on the media SSRC.
    pub(super) fn handle_media(&mut self, incoming: Incoming<'_>) -> Result<Packet, IngestDrop> {
        self.follow(incoming.now, incoming.header.ssrc)?;
        let Feeding::Source(source) = &mut self.feeding else {
            return self.try_start(incoming);
        };
        let mapping = source.mapping;
        match source.place(incoming.header, incoming.format.codec, incoming.now) {
            Place::New { extended, missing } => {
                self.format = Some(incoming.format);
                self.pictures.note_format(incoming.format);
                self.note_gap(extended - missing..extended, incoming);
                Ok(self.take(incoming, incoming.payload, mapping, extended))
            }
            Place::Duplicate => {
                self.stats.duplicates += 1;
                Err(IngestDrop::Duplicate)
            }
            Place::Old => Err(IngestDrop::Old),
            Place::Stray => Err(IngestDrop::Stray),
            Place::Restart => {
                self.wait_for(incoming.now, incoming.header.ssrc);
                self.try_start(incoming)
            }
        }
    }

    /// A retransmission (RFC 4588 section 4): two bytes of original sequence number, then the original payload. One without them is
    /// a probe of the sender's and yields nothing.
    pub(super) fn handle_rtx(&mut self, incoming: Incoming<'_>) -> Result<Option<Packet>, IngestDrop> {
        let Some((original, payload)) = incoming.payload.split_first_chunk::<2>() else {
            return if incoming.payload.is_empty() {
                Ok(None)
            } else {
                Err(IngestDrop::Malformed)
            };
        };
        let Feeding::Source(source) = &mut self.feeding else {
            return Err(IngestDrop::NoSource);
        };
        if self.repairs.belongs(incoming.header.ssrc, source.ssrc) != source.ssrc {
            if incoming.now < source.started() + SILENCE {
                return Err(IngestDrop::FormerSource);
            }
            // Nobody asks for packets of the former source any more: the sender has kept the SSRC of its retransmissions.
            self.repairs.assign(incoming.header.ssrc, source.ssrc);
        }
        let mapping = source.mapping;
        match source.place_repaired(u16::from_be_bytes(*original)) {
            Place::New { extended, missing } => {
                self.note_gap(extended - missing..extended, incoming);
                Ok(Some(self.take(incoming, payload, mapping, extended)))
            }
            Place::Duplicate => {
                self.stats.duplicates += 1;
                Err(IngestDrop::Duplicate)
            }
            Place::Old | Place::Stray | Place::Restart => Err(IngestDrop::Old),
        }
    }

    /// The SSRC that feeds the track, or will.
    pub(super) fn ssrc(&self) -> Option<u32> {
        match &self.feeding {
            Feeding::Nothing(announced) => *announced,
            Feeding::Waiting { ssrc, .. } => Some(*ssrc),
            Feeding::Source(source) => Some(source.ssrc),
        }
    }

    /// The SSRC of which something has come. A sender that has not begun begins with a keyframe by itself, or else is asked for one
    /// at its first packet: asking before that would only make it send two.
    fn heard_ssrc(&self) -> Option<u32> {
        self.ssrc().filter(|_| !matches!(self.feeding, Feeding::Nothing(_)))
    }

    /// Keeps a sender report if it is about the source. Returns whether it was.
    pub(super) fn handle_sender_report(&mut self, ssrc: u32, report: SenderReport) -> bool {
        match &mut self.feeding {
            Feeding::Source(source) if source.ssrc == ssrc => {
                source.sender_report = Some(report);
                true
            }
            _ => false,
        }
    }

    /// The source says that it ends.
    pub(super) fn handle_bye(&mut self, ssrc: u32) {
        if self.ssrc() == Some(ssrc) && !matches!(self.feeding, Feeding::Nothing(_)) {
            self.former.push(ssrc);
            self.missing.clear();
            self.feeding = Feeding::Nothing(None);
        }
    }

    /// A viewer needs a keyframe.
    pub(super) fn request_keyframe(&mut self, need: KeyframeNeed) {
        self.keyframes.want(need);
    }

    /// The operator's timer wants a keyframe.
    pub(super) fn tick_keyframes(&mut self) {
        self.keyframes.tick();
    }

    /// Keyframes and requests for them.
    pub(super) fn keyframe_status(&self) -> KeyframeStatus {
        self.keyframes.status()
    }

    /// Writes the NACKs and keyframe requests that are due. Returns their length.
    pub(super) fn write_feedback(&mut self, now: Instant, local_ssrc: u32, out: &mut [u8]) -> usize {
        let (Some(ssrc), Some(format)) = (self.heard_ssrc(), self.format) else {
            return 0;
        };
        let keyframe_len = self
            .keyframes
            .write(now, (local_ssrc, ssrc), format.keyframe_feedback, out);
        self.stats.plis_sent += u64::from(keyframe_len > 0);
        let out = &mut out[keyframe_len..];
        let room = out.len().saturating_sub(rtcp::NACK_HEAD_LEN) / 4;
        self.missing.take_due(now, room, &mut self.due);
        self.stats.nacks_sent += self.due.len() as u64;
        keyframe_len + rtcp::write_nack(out, local_ssrc, ssrc, self.due.iter().copied())
    }

    /// A report block about the source, if anything came since the last.
    pub(super) fn take_report(&mut self, now: Instant) -> Option<ReceptionBlock> {
        match &mut self.feeding {
            Feeding::Source(source) => source.take_report(now),
            _ => None,
        }
    }

    /// When [`Line::write_feedback`] has something to write; `asap` if at once.
    pub(super) fn deadline(&self, asap: Instant) -> Option<Instant> {
        let format = self.format.filter(|_| self.heard_ssrc().is_some())?;
        let keyframe = match format.keyframe_feedback {
            KeyframeFeedback::None => None,
            _ => self.keyframes.deadline(asap),
        };
        [keyframe, self.missing.deadline()].into_iter().flatten().min()
    }

    /// The source's clock on the track's timeline.
    pub(super) fn clock(&self) -> Option<SenderClock> {
        let Feeding::Source(source) = &self.feeding else {
            return None;
        };
        let report = source.sender_report?;
        Some(SenderClock {
            ntp: report.ntp,
            rtp: source.mapping.timestamp(report.rtp),
            received_at: report.at,
        })
    }

    /// Makes `ssrc` the one that feeds the track, unless it had its turn and the present one is alive.
    fn follow(&mut self, now: Instant, ssrc: u32) -> Result<(), IngestDrop> {
        let current = match &self.feeding {
            Feeding::Nothing(_) => None,
            Feeding::Waiting { ssrc, .. } => Some(*ssrc),
            Feeding::Source(source) => Some(source.ssrc),
        };
        if current != Some(ssrc) {
            let silent = self.heard_at.is_none_or(|heard| now >= heard + SILENCE);
            if self.former.contains(ssrc) && !silent {
                return Err(IngestDrop::FormerSource);
            }
            if let Some(current) = current {
                self.former.push(current);
            }
            self.wait_for(now, ssrc);
        }
        self.heard_at = Some(now);
        Ok(())
    }

    fn wait_for(&mut self, now: Instant, ssrc: u32) {
        self.missing.clear();
        self.pictures.begin_anew(self.ssrc() == Some(ssrc));
        self.feeding = Feeding::Waiting { ssrc, since: now };
        self.stats.ssrc = Some(ssrc);
    }

    /// Begins a source at this packet if it can: viewers hold the pictures of what was there before, which nothing but a keyframe
    /// replaces. After [`WAIT_MAX`] any packet will do, for streams whose keyframes are not recognised.
    fn try_start(&mut self, incoming: Incoming<'_>) -> Result<Packet, IngestDrop> {
        let Incoming {
            now,
            header,
            payload,
            format,
            ..
        } = incoming;
        let Feeding::Waiting { since, .. } = self.feeding else {
            return Err(IngestDrop::NoSource);
        };
        self.format = Some(format);
        if !Pictures::may_begin(format.codec, payload) && now < since + WAIT_MAX {
            if now == since {
                self.keyframes.want(KeyframeNeed::Urgent);
            }
            self.stats.before_keyframe += 1;
            return Err(IngestDrop::BeforeKeyframe);
        }
        let source = Source::new(header, format.codec, now, |first| {
            self.continuity
                .append(first, header.timestamp, now, format.codec.clock_rate())
        });
        let (mapping, first) = (source.mapping, source.first());
        self.feeding = Feeding::Source(Box::new(source));
        self.pictures.note_format(format);
        Ok(self.take(incoming, payload, mapping, first))
    }

    fn note_gap(&mut self, gap: Range<u64>, incoming: Incoming<'_>) {
        let len = gap.end - gap.start;
        if len == 0 {
            return;
        }
        self.stats.lost += len;
        if incoming.format.nack && self.missing.note_gap(gap, incoming.now) > 0 {
            // Too many to ask for: the pictures in between are lost.
            self.keyframes.want(KeyframeNeed::Repair);
        }
    }

    /// Turns a placed packet into one of the track, and counts it.
    fn take(&mut self, incoming: Incoming<'_>, payload: &[u8], mapping: Mapping, extended: u64) -> Packet {
        let Incoming {
            now,
            header,
            clear,
            format,
            ..
        } = incoming;
        let index = mapping.index(extended);
        let timestamp = mapping.timestamp(header.timestamp);
        if index < self.continuity.next_index {
            self.stats.lost = self.stats.lost.saturating_sub(1);
            self.stats.repaired += u64::from(self.missing.arrived(now, extended));
        }
        self.continuity.advance(index, timestamp, now);
        let noted = self.pictures.note(format.codec, payload, timestamp, index);
        if noted.is_new {
            self.stats.keyframes += 1;
            self.keyframes.satisfied(now);
        }
        self.stats.picture_size = noted.size.or(self.stats.picture_size);
        self.keyframes.note_packet(payload.len(), noted.of_keyframe);
        self.stats.packets += 1;
        self.stats.bytes += payload.len() as u64;
        self.stats.codec = Some(format.codec);
        Packet {
            codec: format.codec,
            marker: header.marker,
            keyframe: noted.keyframe,
            refresh: noted.refresh,
            index,
            timestamp,
            payload: payload.into(),
            sets: noted.sets,
            extensions: passed_extensions(&self.extensions, header, clear),
            arrived: now,
        }
    }
}

fn passed_extensions(ids: &ExtensionIds, header: &RtpHeader, clear: &[u8]) -> PassedExtensions {
    PassedExtensions::collect(header.extensions(clear).filter_map(|(id, value)| {
        let known = [
            (ids.video_orientation, Passed::VideoOrientation),
            (ids.abs_capture_time, Passed::AbsCaptureTime),
            (ids.dependency_descriptor, Passed::DependencyDescriptor),
        ];
        let which = known.into_iter().find(|(known, _)| *known == Some(id))?.1;
        Some((which, value))
    }))
}

/// SSRCs that fed the track before: a late packet of theirs must not bring them back.
#[derive(Debug, Default)]
struct Former {
    ssrcs: [Option<u32>; FORMER_MAX],
    next: usize,
}

impl Former {
    fn push(&mut self, ssrc: u32) {
        if !self.contains(ssrc) {
            self.ssrcs[self.next] = Some(ssrc);
            self.next = (self.next + 1) % FORMER_MAX;
        }
    }

    fn contains(&self, ssrc: u32) -> bool {
        self.ssrcs.contains(&Some(ssrc))
    }

    fn forget(&mut self, ssrc: u32) {
        for known in self.ssrcs.iter_mut().filter(|known| **known == Some(ssrc)) {
            *known = None;
        }
    }
}

/// Which retransmission SSRC repairs which media SSRC: announced, or the one that was fed when it first came.
#[derive(Debug, Default)]
struct Repairs {
    pairs: [Option<(u32, u32)>; FORMER_MAX],
    next: usize,
}

impl Repairs {
    /// The media SSRC that `rtx` repairs; `current` if it was not known before.
    fn belongs(&mut self, rtx: u32, current: u32) -> u32 {
        if let Some((_, media)) = self.pairs.iter().flatten().find(|(known, _)| *known == rtx) {
            return *media;
        }
        self.pairs[self.next] = Some((rtx, current));
        self.next = (self.next + 1) % FORMER_MAX;
        current
    }

    /// A known `rtx` repairs another SSRC from now on.
    fn assign(&mut self, rtx: u32, media: u32) {
        for pair in self.pairs.iter_mut().flatten().filter(|(known, _)| *known == rtx) {
            pair.1 = media;
        }
    }
}

/// A former source may come back when the present one has been silent for this long.
const SILENCE: Duration = Duration::from_millis(500);
/// Longest wait for a keyframe to start a source with. By then it was asked for three times, and viewers see nothing.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// More SSRC changes than that within [`SILENCE`] are not real.
const FORMER_MAX: usize = 8;

//! The receiving side of one publisher.

use std::time::{Duration, Instant};

use super::nack::Missing;
use super::source::{Arrival, Source};
use super::transport_feedback::TransportFeedback;
use crate::media::packet::{Continuity, PassedExtensions};
use crate::media::{Packet, SenderClock};
use crate::peer::sdp::{ExtensionIds, MediaLine, Negotiated};
use crate::rtp::header::RtpHeader;
use crate::rtp::rtcp::{self, Report};
use crate::rtp::{Codec, Kind, keyframe};

/// What ingest is made with.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// What the publisher and we agreed on.
    pub negotiated: Negotiated,
    /// The SSRC of our reports.
    pub local_ssrc: u32,
    /// Where the audio track stands.
    pub audio: Option<Continuity>,
    /// Where the video track stands.
    pub video: Option<Continuity>,
}

/// Why a packet leads to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IngestDrop {
    /// Its payload type was not negotiated.
    #[error("payload type was not negotiated")]
    PayloadType,
    /// Its padding is malformed.
    #[error("malformed padding")]
    Malformed,
    /// It was there before.
    #[error("duplicate")]
    Duplicate,
    /// It came too late.
    #[error("too late")]
    TooOld,
}

/// What came of one track, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveStats {
    /// Packets taken.
    pub packets: u64,
    /// Payload bytes of those.
    pub bytes: u64,
    /// Packets that came after they had been missed.
    pub repaired: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets still missing or given up.
    pub lost: u64,
    /// Keyframes seen.
    pub keyframes: u64,
    /// Requests for a keyframe sent.
    pub keyframe_requests: u64,
    /// Packets asked for again, each time.
    pub nacked: u64,
    /// Width and height, where keyframes tell them simply.
    pub picture_size: Option<(u16, u16)>,
}

/// Everything that one publisher sends.
#[derive(Debug)]
pub struct Ingest {
    local_ssrc: u32,
    payload_types: Box<[Option<Payload>; 128]>,
    lines: [Option<Line>; 2],
    feedback: Option<TransportFeedback>,
    report_at: Instant,
}

/// What a payload type stands for.
#[derive(Debug, Clone, Copy)]
struct Payload {
    kind: Kind,
    codec: Codec,
    /// Retransmissions of that codec (RFC 4588).
    rtx: bool,
    nack: bool,
    pli: bool,
}

#[derive(Debug)]
struct Line {
    ids: ExtensionIds,
    continuity: Option<Continuity>,
    source: Option<Source>,
    payload: Option<Payload>,
    clock: Option<SenderClock>,
    keyframe_wanted: bool,
    keyframe_asked: Option<Instant>,
    last_keyframe: Option<u32>,
    stats: ReceiveStats,
}

impl Ingest {
    /// Between two requests for a keyframe of the same track: an encoder needs about that to answer the first.
    pub const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(500);
    /// Between receiver reports.
    const REPORT_INTERVAL: Duration = Duration::from_secs(1);

    /// A publisher that has sent nothing yet.
    pub fn new(config: IngestConfig, now: Instant) -> Ingest {
        let negotiated = &config.negotiated;
        let mut payload_types = Box::new([None; 128]);
        for line in [&negotiated.audio, &negotiated.video].into_iter().flatten() {
            for format in &line.formats {
                let media = Payload {
                    kind: line.kind,
                    codec: format.codec,
                    rtx: false,
                    nack: format.nack,
                    pli: format.pli,
                };
                payload_types[usize::from(format.payload_type & 0x7f)] = Some(media);
                if let Some(rtx) = format.rtx {
                    payload_types[usize::from(rtx & 0x7f)] = Some(Payload { rtx: true, ..media });
                }
            }
        }
        let line = |line: &Option<MediaLine>, continuity| line.as_ref().map(|line| Line::new(line, continuity));
        let tells_transport = [&negotiated.audio, &negotiated.video]
            .into_iter()
            .flatten()
            .any(|line| {
                line.extensions.transport_cc.is_some() && line.formats.iter().any(|format| format.transport_cc)
            });
        Ingest {
            local_ssrc: config.local_ssrc,
            payload_types,
            lines: [
                line(&negotiated.audio, config.audio),
                line(&negotiated.video, config.video),
            ],
            feedback: tells_transport.then(|| TransportFeedback::new(now)),
            report_at: now + Ingest::REPORT_INTERVAL,
        }
    }

    /// One decrypted packet. `None` for what carries no media, as padding that probes the path.
    ///
    /// # Errors
    /// Why the packet was dropped.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        clear: &[u8],
        header: &RtpHeader,
    ) -> Result<Option<(Kind, Packet)>, IngestDrop> {
        let payload_type =
            self.payload_types[usize::from(header.payload_type & 0x7f)].ok_or(IngestDrop::PayloadType)?;
        let line = self.lines[payload_type.kind as usize]
            .as_mut()
            .ok_or(IngestDrop::PayloadType)?;
        if let Some(feedback) = &mut self.feedback
            && let Some(sequence) = line.transport_sequence(clear, header)
        {
            feedback.arrived(now, sequence);
        }
        let payload = header.payload(clear).map_err(|_| IngestDrop::Malformed)?;
        let packet = if payload_type.rtx {
            line.take_retransmission(now, clear, header, payload, payload_type)?
        } else {
            line.take(now, clear, header, payload, payload_type).map(Some)?
        };
        Ok(packet.map(|packet| (payload_type.kind, packet)))
    }

    /// One decrypted RTCP datagram.
    pub fn handle_rtcp(&mut self, now: Instant, clear: &[u8]) {
        // What came before a malformed part counts.
        let _ = rtcp::parse(clear, |report| {
            if let Report::SenderReport { ssrc, ntp, rtp } = report {
                self.lines
                    .iter_mut()
                    .flatten()
                    .for_each(|line| line.take_clock(now, ssrc, ntp, rtp));
            }
        });
    }

    /// Asks for a keyframe at the next [`poll_rtcp`](Self::poll_rtcp), but not sooner than
    /// [`KEYFRAME_REQUEST_INTERVAL`](Self::KEYFRAME_REQUEST_INTERVAL) after the last request.
    pub fn request_keyframe(&mut self, kind: Kind) {
        if let Some(line) = &mut self.lines[kind as usize] {
            line.keyframe_wanted = true;
        }
    }

    /// Writes the next thing to tell the publisher, as clear RTCP (reduced size, RFC 5506), and returns its length.
    ///
    /// # Panics
    /// When `out` is shorter than 1,200 bytes.
    pub fn poll_rtcp(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let sender = self.local_ssrc;
        for line in self.lines.iter_mut().flatten() {
            let written = line
                .write_keyframe_request(now, sender, out)
                .or_else(|| line.write_nack(now, sender, out));
            if written.is_some() {
                return written;
            }
        }
        if let Some(feedback) = &mut self.feedback {
            let media = self
                .lines
                .iter()
                .flatten()
                .find_map(|line| line.source.as_ref())
                .map_or(0, |source| source.ssrc);
            if let Some(len) = feedback.write(now, sender, media, out) {
                return Some(len);
            }
        }
        self.write_receiver_report(now, out)
    }

    fn write_receiver_report(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if self.report_at > now {
            return None;
        }
        self.report_at = now + Ingest::REPORT_INTERVAL;
        let mut len = 8;
        for source in self.lines.iter_mut().flatten().filter_map(|line| line.source.as_mut()) {
            source.write_report(now, &mut out[len..len + 24]);
            len += 24;
        }
        let blocks = ((len - 8) / 24) as u8;
        out[..2].copy_from_slice(&[0x80 | blocks, 201]);
        out[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
        out[4..8].copy_from_slice(&self.local_ssrc.to_be_bytes());
        Some(len)
    }

    /// When [`poll_rtcp`](Self::poll_rtcp) has something to tell next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let lines = self.lines.iter().flatten().filter_map(Line::next_at);
        let feedback = self.feedback.as_ref().and_then(TransportFeedback::due_at);
        lines.chain(feedback).chain([self.report_at]).min()
    }

    /// The publisher's latest clock for a track, in the track's timeline.
    pub fn clock(&self, kind: Kind) -> Option<SenderClock> {
        self.lines[kind as usize].as_ref()?.clock
    }

    /// What came of a track.
    pub fn stats(&self, kind: Kind) -> ReceiveStats {
        let Some(line) = &self.lines[kind as usize] else {
            return ReceiveStats::default();
        };
        ReceiveStats {
            lost: line.source.as_ref().map_or(0, Source::lost),
            ..line.stats
        }
    }
}

impl Line {
    fn new(line: &MediaLine, continuity: Option<Continuity>) -> Line {
        Line {
            ids: line.extensions,
            continuity,
            source: None,
            payload: None,
            clock: None,
            keyframe_wanted: false,
            keyframe_asked: None,
            last_keyframe: None,
            stats: ReceiveStats::default(),
        }
    }

    fn transport_sequence(&self, clear: &[u8], header: &RtpHeader) -> Option<u16> {
        let id = self.ids.transport_cc?;
        let (_, value) = header.extensions(clear).find(|(known, _)| *known == id)?;
        Some(u16::from_be_bytes(*value.first_chunk()?))
    }

    /// A packet of the source itself. Another SSRC than before is a new source, which goes on where the last one stopped.
    fn take(
        &mut self,
        now: Instant,
        clear: &[u8],
        header: &RtpHeader,
        payload: &[u8],
        payload_type: Payload,
    ) -> Result<Packet, IngestDrop> {
        let start = (header.sequence, header.timestamp);
        let clock_rate = payload_type.codec.clock_rate();
        if self.source.as_ref().is_none_or(|source| source.ssrc != header.ssrc) {
            self.source = Some(Source::new(header.ssrc, clock_rate, start, self.continuity, now));
            self.clock = None;
        }
        self.payload = Some(payload_type);
        if let Some(source) = &mut self.source {
            source.note_transit(now, header.timestamp);
        }
        self.number(now, clear, header, header.sequence, payload, payload_type)
    }

    /// A packet sent again under another SSRC: two bytes of original sequence number, then the original payload (RFC 4588).
    fn take_retransmission(
        &mut self,
        now: Instant,
        clear: &[u8],
        header: &RtpHeader,
        payload: &[u8],
        payload_type: Payload,
    ) -> Result<Option<Packet>, IngestDrop> {
        let Some((sequence, payload)) = payload.split_first_chunk::<2>() else {
            return Ok(None);
        };
        if self.source.is_none() {
            return Err(IngestDrop::TooOld);
        }
        self.number(now, clear, header, u16::from_be_bytes(*sequence), payload, payload_type)
            .map(Some)
    }

    fn number(
        &mut self,
        now: Instant,
        clear: &[u8],
        header: &RtpHeader,
        sequence: u16,
        payload: &[u8],
        payload_type: Payload,
    ) -> Result<Packet, IngestDrop> {
        let source = self.source.as_mut().ok_or(IngestDrop::TooOld)?;
        let (arrival, small_gap) = source.arrived(now, sequence, payload_type.nack);
        if !small_gap {
            self.keyframe_wanted = true;
        }
        let index = match arrival {
            Arrival::New { index, repaired } => {
                self.stats.repaired += u64::from(repaired);
                index
            }
            Arrival::Duplicate => {
                self.stats.duplicates += 1;
                return Err(IngestDrop::Duplicate);
            }
            Arrival::TooOld => return Err(IngestDrop::TooOld),
        };
        let timestamp = header.timestamp.wrapping_add(source.timestamp_offset);
        if self.continuity.is_none_or(|before| index >= before.next_index) {
            self.continuity = Some(Continuity {
                next_index: index + 1,
                last_timestamp: timestamp,
                last_at: now,
            });
        }
        let codec = payload_type.codec;
        let keyframe = keyframe::starts_keyframe(codec, payload);
        self.count(codec, header.timestamp, payload, keyframe);
        Ok(Packet {
            codec,
            marker: header.marker,
            keyframe,
            index,
            timestamp,
            payload: payload.into(),
            extensions: self.passed(clear, header),
            arrived: now,
        })
    }

    fn passed(&self, clear: &[u8], header: &RtpHeader) -> PassedExtensions {
        let wanted = [
            self.ids.video_orientation,
            self.ids.abs_capture_time,
            self.ids.dependency_descriptor,
        ];
        if wanted.iter().all(Option::is_none) {
            return PassedExtensions::default();
        }
        let mut values = [None; 3];
        for (id, value) in header.extensions(clear) {
            for (place, wanted) in values.iter_mut().zip(wanted) {
                if wanted == Some(id) {
                    *place = Some(value);
                }
            }
        }
        PassedExtensions::new(values[0], values[1], values[2])
    }

    fn count(&mut self, codec: Codec, timestamp: u32, payload: &[u8], keyframe: bool) {
        self.stats.packets += 1;
        self.stats.bytes += payload.len() as u64;
        if keyframe && self.last_keyframe != Some(timestamp) {
            self.last_keyframe = Some(timestamp);
            self.stats.keyframes += 1;
            self.stats.picture_size = keyframe::picture_size(codec, payload).or(self.stats.picture_size);
        }
    }

    fn take_clock(&mut self, now: Instant, ssrc: u32, ntp: u64, rtp: u32) {
        if let Some(source) = self.source.as_mut().filter(|source| source.ssrc == ssrc) {
            source.last_report = Some(((ntp >> 16) as u32, now));
            self.clock = Some(SenderClock {
                ntp,
                rtp: rtp.wrapping_add(source.timestamp_offset),
                at: now,
            });
        }
    }

    fn write_keyframe_request(&mut self, now: Instant, sender: u32, out: &mut [u8]) -> Option<usize> {
        if self.keyframe_due()? > now {
            return None;
        }
        let about = self.source.as_ref()?.ssrc;
        self.keyframe_wanted = false;
        self.keyframe_asked = Some(now);
        self.stats.keyframe_requests += 1;
        Some(rtcp::write_pli(out, sender, about))
    }

    /// When the wanted keyframe may be asked for. Never before the source is known, nor where PLI was not negotiated.
    fn keyframe_due(&self) -> Option<Instant> {
        let pli = self.payload.is_some_and(|payload| payload.pli);
        let wanted = self.keyframe_wanted && pli && self.source.is_some();
        let asked = self
            .keyframe_asked
            .map(|asked| asked + Ingest::KEYFRAME_REQUEST_INTERVAL);
        wanted
            .then(|| asked.or_else(|| self.continuity.map(|continuity| continuity.last_at)))
            .flatten()
    }

    fn write_nack(&mut self, now: Instant, sender: u32, out: &mut [u8]) -> Option<usize> {
        let source = self.source.as_mut()?;
        if source.missing.next_at()? > now {
            return None;
        }
        let due = source.missing.due(now);
        self.stats.nacked += due.len() as u64;
        let len = rtcp::write_nack(out, sender, source.ssrc, due.iter().map(|&index| index as u16));
        Some(len).filter(|&len| len > 0)
    }

    fn next_at(&self) -> Option<Instant> {
        let missing = self
            .source
            .as_ref()
            .and_then(|source| Missing::next_at(&source.missing));
        missing.into_iter().chain(self.keyframe_due()).min()
    }
}

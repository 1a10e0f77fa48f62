//! Ingest: what a publisher sends becomes packets of a track. Pure.
//!
//! ```text
//!  RTP ──> transport feedback ──> payload type: line ──> RTX undone ──> source: placed, de-duplicated ──> track's numbers ──> Packet
//!                                                                         └─> gaps: NACK      reports: RR, PLI <── requests
//! ```
//!
//! A video source enters its track at its first keyframe. What feeds a track may change (another SSRC, codec or publisher); the
//! track's numbering and timeline go on without a gap.

mod feedback;
mod keyframes;
mod line;
mod missing;
mod pictures;
mod source;
mod speech;
#[cfg(test)]
mod tests;
mod twcc;

use std::time::{Duration, Instant};

pub use crate::media::{Continuity, KeyframeNeed, SenderClock};
pub use feedback::TransportFeedback;
pub use keyframes::KeyframeStatus;
pub use speech::{AudioLevel, Speech};

use crate::media::packet::Packet;
use line::{Accepted, Incoming, Line};
use onecast_rtc::rtp::rtcp::{self, Report};
use onecast_rtc::rtp::{Codec, Kind, RtpHeader};
use onecast_rtc::sdp::{MediaLine, Negotiated};
use source::SenderReport;

/// What ingest is told about one publisher.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// What was agreed.
    pub negotiated: Negotiated,
    /// The SSRC under which feedback is sent.
    pub local_ssrc: u32,
    /// `ccm fir` was negotiated for video: used where PLI was not.
    pub video_fir: bool,
    /// What requested keyframes may take of the video's bytes, percent; first pictures are asked for in any case.
    pub keyframe_share: u8,
    /// The client sends nothing but this: its transport-wide feedback is made here. Of several ingests none may, for what the others
    /// received would be told as lost.
    pub transport_cc: bool,
    /// Where the audio track stands.
    pub audio: Continuity,
    /// Where the video track stands.
    pub video: Continuity,
}

/// Why a packet yields none for a track. All are normal in small numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum IngestDrop {
    /// Padding or retransmission header are wrong.
    #[error("malformed RTP payload")]
    Malformed,
    /// The payload type was not negotiated.
    #[error("payload type was not negotiated")]
    UnknownPayloadType,
    /// Seen before.
    #[error("duplicate")]
    Duplicate,
    /// Before the source's first packet, or too late.
    #[error("too old")]
    Old,
    /// Far away from its source's numbering; a second one restarts it.
    #[error("sequence number far away")]
    Stray,
    /// Of an SSRC that was replaced.
    #[error("of a former source")]
    FormerSource,
    /// A retransmission before there is media to repair.
    #[error("retransmission without a source")]
    NoSource,
    /// Video before the source's first keyframe.
    #[error("before the first keyframe")]
    BeforeKeyframe,
}

/// Counters of one track, over all its sources at this publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveStats {
    /// Packets passed to the track.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Packets that did not come, so far.
    pub lost: u64,
    /// Packets that came after they were asked for.
    pub repaired: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Video packets dropped before a source's first keyframe.
    pub before_keyframe: u64,
    /// Keyframes begun; 0 for audio.
    pub keyframes: u64,
    /// Packets asked for by NACK, repetitions included.
    pub nacks_sent: u64,
    /// Keyframe requests sent.
    pub plis_sent: u64,
    /// Encoding of the newest packet.
    pub codec: Option<Codec>,
    /// The newest source.
    pub ssrc: Option<u32>,
    /// Width and height, for codecs that tell them plainly.
    pub picture_size: Option<(u16, u16)>,
}

/// How a keyframe is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyframeFeedback {
    Pli,
    Fir,
    None,
}

/// The receiving side of one publisher.
pub struct Ingest {
    local_ssrc: u32,
    negotiated: Negotiated,
    video_fir: bool,
    audio: Line,
    video: Line,
    routes: Box<[Option<Route>; 128]>,
    /// Empty when it was not negotiated, or is not made here.
    transport_cc: Option<TransportFeedback>,
    /// Sender reports that came before their source.
    early_reports: [Option<(u32, SenderReport)>; 4],
    report_at: Option<Instant>,
    unknown_payload_types: u64,
    now: Instant,
}

/// Where a payload type belongs.
#[derive(Debug, Clone, Copy)]
struct Route {
    kind: Kind,
    format: Accepted,
    rtx: bool,
}

impl Ingest {
    /// Ready for a publisher's packets.
    pub fn new(config: &IngestConfig, now: Instant) -> Ingest {
        let Negotiated { audio, video } = &config.negotiated;
        let lines = [video, audio].map(Option::as_ref);
        let feedback = TransportFeedback::new(lines.into_iter().flatten(), config.local_ssrc);
        Ingest {
            local_ssrc: config.local_ssrc,
            negotiated: config.negotiated.clone(),
            video_fir: config.video_fir,
            audio: Line::new(audio.as_ref(), config.audio, false, config.keyframe_share),
            video: Line::new(video.as_ref(), config.video, config.video_fir, config.keyframe_share),
            routes: routes(&config.negotiated, config.video_fir),
            transport_cc: feedback.filter(|_| config.transport_cc),
            early_reports: [None; 4],
            report_at: None,
            unknown_payload_types: 0,
            now,
        }
    }

    /// The line of a kind is another from now on, or none: its track goes on in numbering and timeline, the other kind is untouched.
    pub fn set_line(&mut self, kind: Kind, line: Option<&MediaLine>) {
        let known = match kind {
            Kind::Audio => &mut self.negotiated.audio,
            Kind::Video => &mut self.negotiated.video,
        };
        if known.as_ref() == line {
            return;
        }
        *known = line.cloned();
        self.routes = routes(&self.negotiated, self.video_fir);
        let fir = self.video_fir && kind == Kind::Video;
        self.line_mut(kind).change(line, fir);
    }

    /// The packets go on in other tracks, which stand there: video from a keyframe on.
    pub fn go_on_from(&mut self, audio: Continuity, video: Continuity) {
        self.audio.go_on_from(audio);
        self.video.go_on_from(video);
    }

    /// One decrypted RTP packet (header and payload, no tag) and its header. Yields at most one packet of a track; `Ok(None)` for a
    /// probe that carries no media.
    ///
    /// # Errors
    /// Why nothing comes of it.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        clear: &[u8],
        header: &RtpHeader,
    ) -> Result<Option<(Kind, Packet)>, IngestDrop> {
        self.now = self.now.max(now);
        if let Some(feedback) = &mut self.transport_cc {
            feedback.record(now, clear, header);
        }
        let Some(Route { kind, format, rtx }) = self.routes[usize::from(header.payload_type & 0x7f)] else {
            self.unknown_payload_types += 1;
            return Err(IngestDrop::UnknownPayloadType);
        };
        let payload = header.payload(clear).map_err(|_| IngestDrop::Malformed)?;
        let incoming = Incoming {
            now,
            header,
            clear,
            payload,
            format,
        };
        let packet = if rtx {
            self.line_mut(kind).handle_rtx(incoming)?
        } else {
            Some(self.line_mut(kind).handle_media(incoming)?)
        };
        if packet.is_some() {
            self.report_at.get_or_insert(now + REPORT_INTERVAL);
            self.match_early_report(kind);
        }
        Ok(packet.map(|packet| (kind, packet)))
    }

    /// One decrypted RTCP packet. What is broken or unknown in it is ignored.
    pub fn handle_rtcp(&mut self, now: Instant, clear: &[u8]) {
        self.now = self.now.max(now);
        // The rest of a truncated compound packet is lost, what came before it stands.
        let _ = rtcp::parse(clear, |report| self.handle_report(now, &report));
    }

    /// One report of a decrypted RTCP packet.
    pub fn handle_report(&mut self, now: Instant, report: &Report<'_>) {
        self.now = self.now.max(now);
        match *report {
            Report::SenderReport { ssrc, ntp, rtp, .. } => {
                self.handle_sender_report(ssrc, SenderReport { ntp, rtp, at: now });
            }
            Report::Bye { ssrc } => {
                self.audio.handle_bye(ssrc);
                self.video.handle_bye(ssrc);
            }
            _ => {}
        }
    }

    /// Asks the publisher for a keyframe at the next [`Ingest::poll_rtcp`], or when 500 ms have passed since the last request; a repair
    /// only when keyframes have not had their share of the stream. The request is repeated until a keyframe comes.
    pub fn request_keyframe(&mut self, need: KeyframeNeed) {
        self.video.request_keyframe(need);
    }

    /// The regular request: as often as this is called, but at most every 500 ms.
    pub fn tick_keyframes(&mut self) {
        self.video.tick_keyframes();
    }

    /// The video's keyframes and the requests for them.
    pub fn keyframe_status(&self) -> KeyframeStatus {
        self.video.keyframe_status()
    }

    /// Writes the next clear compound RTCP packet into `buf` and returns its length; `None` when nothing is due. Call it until then,
    /// with room for a datagram (1,200 bytes).
    pub fn poll_rtcp(&mut self, now: Instant, buf: &mut [u8]) -> Option<usize> {
        self.handle_timeout(now);
        let mut len = self.write_reports(now, buf);
        if len == 0 {
            return None;
        }
        for line in [&mut self.video, &mut self.audio] {
            len += line.write_feedback(now, self.local_ssrc, &mut buf[len..]);
        }
        if let Some(feedback) = &mut self.transport_cc {
            len += feedback.write(&mut buf[len..], len == EMPTY_REPORT_LEN);
        }
        (len > EMPTY_REPORT_LEN).then_some(len)
    }

    /// When [`Ingest::poll_rtcp`] has something to write; a time in the past means now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let twcc = self
            .transport_cc
            .as_ref()
            .and_then(|feedback| feedback.deadline(self.now));
        let lines = [&self.audio, &self.video].map(|line| line.deadline(self.now));
        [self.report_at, twcc, lines[0], lines[1]].into_iter().flatten().min()
    }

    /// Lets time pass. [`Ingest::poll_rtcp`] does it too.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if let Some(feedback) = &mut self.transport_cc {
            feedback.handle_timeout(now);
        }
    }

    /// The latest sender report of the track's source, on the track's timeline.
    pub fn clock(&self, kind: Kind) -> Option<SenderClock> {
        self.line(kind).clock()
    }

    /// Where the track stands, for the ingest of the publisher who follows.
    pub fn continuity(&self, kind: Kind) -> Continuity {
        self.line(kind).continuity
    }

    /// Counters of a track.
    pub fn stats(&self, kind: Kind) -> ReceiveStats {
        self.line(kind).stats
    }

    /// Packets dropped because their payload type was not negotiated.
    pub fn unknown_payload_types(&self) -> u64 {
        self.unknown_payload_types
    }

    fn line(&self, kind: Kind) -> &Line {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }

    fn line_mut(&mut self, kind: Kind) -> &mut Line {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }

    fn handle_sender_report(&mut self, ssrc: u32, report: SenderReport) {
        let known = [&mut self.audio, &mut self.video]
            .into_iter()
            .any(|line| line.handle_sender_report(ssrc, report));
        if !known {
            self.early_reports.rotate_right(1);
            self.early_reports[0] = Some((ssrc, report));
        }
    }

    /// Hands a source, which exists, the report that came before it.
    fn match_early_report(&mut self, kind: Kind) {
        if self.early_reports.iter().all(Option::is_none) {
            return;
        }
        let ssrc = self.line(kind).ssrc();
        let newest = self
            .early_reports
            .iter()
            .position(|early| early.map(|(of, _)| of) == ssrc);
        if let Some((of, report)) = newest.and_then(|at| self.early_reports[at].take()) {
            self.line_mut(kind).handle_sender_report(of, report);
        }
    }

    /// Starts a compound packet: with report blocks and CNAME when they are due, else with an empty report (RFC 3550 section 6.1).
    fn write_reports(&mut self, now: Instant, buf: &mut [u8]) -> usize {
        if self.report_at.is_none_or(|at| at > now) {
            return rtcp::write_receiver_report_empty(buf, self.local_ssrc);
        }
        let reports = [&mut self.audio, &mut self.video].map(|line| line.take_report(now));
        // A silent publisher is not reported about; the next packet starts the interval again.
        self.report_at = reports.iter().any(Option::is_some).then(|| now + REPORT_INTERVAL);
        let blocks: Vec<_> = reports.into_iter().flatten().collect();
        let len = rtcp::write_receiver_report(buf, self.local_ssrc, &blocks);
        if blocks.is_empty() {
            return len;
        }
        len + rtcp::write_cname(&mut buf[len..], self.local_ssrc, CNAME)
    }
}

fn routes(negotiated: &Negotiated, video_fir: bool) -> Box<[Option<Route>; 128]> {
    let mut routes = Box::new([None; 128]);
    for line in [&negotiated.audio, &negotiated.video].into_iter().flatten() {
        add_routes(&mut routes, line, video_fir);
    }
    routes
}

fn add_routes(routes: &mut [Option<Route>; 128], line: &MediaLine, fir: bool) {
    for format in &line.formats {
        let accepted = Accepted::new(format, fir && line.kind == Kind::Video);
        let route = Route {
            kind: line.kind,
            format: accepted,
            rtx: false,
        };
        routes[usize::from(format.payload_type & 0x7f)] = Some(route);
        if let Some(rtx) = format.rtx {
            routes[usize::from(rtx & 0x7f)] = Some(Route { rtx: true, ..route });
        }
    }
}

/// As often as libwebrtc reports on video; round-trip times and loss shown by publishers depend on it.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A receiver report without blocks.
const EMPTY_REPORT_LEN: usize = 8;
/// Names this end in its reports. It says nothing about the machine (RFC 7022).
const CNAME: &str = "onecast";

//! Ingest: a publisher's packets become packets of a track. Pure.
//!
//! ```text
//!  RTP ─> transport feedback ─> payload type: track ─> SSRC: layer ─> RTX undone ─> placed, deduplicated ─> track's numbers ─> Packet
//!                                                                          └─> gaps: NACK       RR, PLI <─ requests
//! ```
//!
//! A `TrackReceiver` per m-line has one `LayerReceiver` per encoding of the track, which follows the SSRC
//! that feeds it. Video enters its track at a keyframe. The SSRC, the codec and even the publisher may change; the track's numbering
//! and timeline continue without a gap.

mod allocation;
mod early_reports;
mod incoming;
mod keyframe_requests;
mod layer;
mod layer_meter;
mod nack_tracker;
mod payload_routes;
mod pictures;
mod speech;
mod ssrc_history;
mod ssrc_state;
#[cfg(test)]
mod tests;
mod timeline;
mod track_receiver;
mod transport_feedback;
mod twcc;

use std::time::{Duration, Instant};

use onecast_rtc::rtp::rtcp::{self, Report};
use onecast_rtc::rtp::{Codec, Kind, RtpHeader, Ssrc};
use onecast_rtc::sdp::{MediaLine, Negotiated};

use crate::media::packet::Packet;
use crate::media::{KeyframeNeed, KeyframeStats, LayerContinuity, LayerFacts, LayerIndex, SenderClock};
use early_reports::EarlyReports;
use incoming::Incoming;
use payload_routes::{PayloadRoute, PayloadRoutes};
pub use speech::{AudioLevel, SpeechDetector};
use ssrc_state::SenderReport;
use track_receiver::TrackReceiver;
pub use transport_feedback::TransportFeedback;

/// What ingest needs to know about one publisher.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// The negotiated lines.
    pub negotiated: Negotiated,
    /// SSRC of the feedback that is sent.
    pub local_ssrc: Ssrc,
    /// `ccm fir` was negotiated for video. It is used for formats without PLI.
    pub video_fir: bool,
    /// What requested keyframes may take of the video's bytes, in percent. Requests for a viewer's first picture are exempt.
    pub keyframe_share: u8,
    /// Makes the transport-wide feedback here. Only right for a client that sends nothing else: the feedback reports every packet
    /// that this ingest does not see as lost.
    pub transport_cc: bool,
    /// Where each track stands, in the order of [`Kind::ALL`].
    pub continuity: [LayerContinuity; 2],
}

/// Why a packet yields none for a track. All reasons are normal in small numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum IngestDrop {
    /// The padding or the retransmission header is wrong.
    #[error("malformed RTP payload")]
    Malformed,
    /// The payload type was not negotiated.
    #[error("payload type was not negotiated")]
    UnknownPayloadType,
    /// The track has several layers, and the SSRC is bound to none of them.
    #[error("SSRC is not bound to a layer")]
    UnboundSsrc,
    /// Received before.
    #[error("duplicate")]
    Duplicate,
    /// Before the first packet of its SSRC, or too late.
    #[error("too old")]
    Old,
    /// Far away from the numbering of its SSRC. A second such packet in sequence starts a new numbering.
    #[error("sequence number far away")]
    FarAway,
    /// From an SSRC that was replaced.
    #[error("from a former SSRC")]
    FormerSsrc,
    /// A retransmission before there is media to repair.
    #[error("retransmission without media")]
    NoMedia,
    /// Video before the first keyframe of its SSRC.
    #[error("before the first keyframe")]
    BeforeKeyframe,
}

/// Counters of one track, over all SSRCs of this publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveStats {
    /// Packets passed to the track.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Packets missing so far.
    pub lost: u64,
    /// Packets that arrived after they were requested.
    pub repaired: u64,
    /// Packets that arrived more than once.
    pub duplicates: u64,
    /// Video packets dropped before the first keyframe of an SSRC.
    pub before_keyframe: u64,
    /// Keyframes begun; 0 for audio.
    pub keyframes: u64,
    /// Packets requested by NACK, repetitions included.
    pub nacks_sent: u64,
    /// Keyframe requests sent.
    pub keyframe_requests_sent: u64,
    /// Encoding of the newest packet.
    pub codec: Option<Codec>,
    /// The newest SSRC.
    pub ssrc: Option<Ssrc>,
    /// Width and height, for codecs that tell them in clear.
    pub picture_size: Option<(u16, u16)>,
}

/// The receiving side of one publisher.
pub struct Ingest {
    local_ssrc: Ssrc,
    video_fir: bool,
    /// Negotiated lines, indexed by [`Kind`].
    lines: [Option<MediaLine>; 2],
    /// Indexed by [`Kind`].
    tracks: [TrackReceiver; 2],
    routes: PayloadRoutes,
    /// `None` if it was not negotiated, or is made elsewhere.
    transport_cc: Option<TransportFeedback>,
    early_reports: EarlyReports,
    /// When the next receiver report is due.
    report_at: Option<Instant>,
    unknown_payload_types: u64,
    now: Instant,
}

impl Ingest {
    /// Ready for a publisher's packets.
    pub fn new(config: &IngestConfig, now: Instant) -> Ingest {
        let Negotiated { audio, video } = config.negotiated.clone();
        let lines = [audio, video];
        let feedback = TransportFeedback::new(lines.iter().flatten(), config.local_ssrc);
        let track = |kind: Kind| {
            let (line, continuity) = (&lines[kind as usize], &config.continuity[kind as usize]);
            let fir = config.video_fir && kind == Kind::Video;
            TrackReceiver::new(line.as_ref(), continuity, fir, config.keyframe_share)
        };
        Ingest {
            local_ssrc: config.local_ssrc,
            video_fir: config.video_fir,
            tracks: Kind::ALL.map(track),
            routes: PayloadRoutes::new(&lines, config.video_fir),
            lines,
            transport_cc: feedback.filter(|_| config.transport_cc),
            early_reports: EarlyReports::default(),
            report_at: None,
            unknown_payload_types: 0,
            now,
        }
    }

    /// Replaces the line of a kind, or removes it (`None`). Its track continues in numbering and timeline; the other is untouched.
    pub fn set_line(&mut self, kind: Kind, line: Option<&MediaLine>) {
        let known = &mut self.lines[kind as usize];
        if known.as_ref() == line {
            return;
        }
        *known = line.cloned();
        self.routes = PayloadRoutes::new(&self.lines, self.video_fir);
        self.tracks[kind as usize].set_line(line);
    }

    /// The packets go to other tracks from now on, which stand there (in the order of [`Kind::ALL`]); video from a keyframe on.
    pub fn resume_at(&mut self, continuity: [LayerContinuity; 2]) {
        for (track, continuity) in self.tracks.iter_mut().zip(continuity) {
            track.resume_at(&continuity);
        }
    }

    /// Takes one decrypted RTP packet (header and payload, no tag) and its header. Returns at most one packet of a track; `Ok(None)`
    /// for a bandwidth probe, which carries no media.
    ///
    /// # Errors
    /// Why the packet was dropped.
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
        let Some(PayloadRoute { kind, format, rtx }) = self.routes.find(header.payload_type) else {
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
        let track = &mut self.tracks[kind as usize];
        let packet = if rtx {
            track.handle_rtx(incoming)?
        } else {
            Some(track.handle_media(incoming)?)
        };
        if packet.is_some() {
            self.report_at.get_or_insert(now + REPORT_INTERVAL);
            self.early_reports.deliver(track);
        }
        Ok(packet.map(|packet| (kind, packet)))
    }

    /// Takes one decrypted RTCP packet. Broken and unknown parts are ignored.
    pub fn handle_rtcp(&mut self, now: Instant, clear: &[u8]) {
        self.now = self.now.max(now);
        // A truncated compound packet loses only its rest: the reports before it hold.
        let _ = rtcp::parse(clear, |report| self.handle_report(now, &report));
    }

    /// Takes one report of a decrypted RTCP packet.
    pub fn handle_report(&mut self, now: Instant, report: &Report<'_>) {
        self.now = self.now.max(now);
        match *report {
            Report::SenderReport { ssrc, ntp, rtp, .. } => {
                let report = SenderReport { ntp, rtp, at: now };
                let mut tracks = self.tracks.iter_mut();
                if !tracks.any(|track| track.handle_sender_report(ssrc, report)) {
                    self.early_reports.push(ssrc, report);
                }
            }
            Report::Bye { ssrc } => self.tracks.iter_mut().for_each(|track| track.handle_bye(ssrc)),
            _ => {}
        }
    }

    /// Requests a keyframe from the publisher with the next [`poll_rtcp`](Self::poll_rtcp), but not within 500 ms of the last
    /// request, and for a repair only while keyframes have not used up their share of the stream. The request is repeated until a
    /// keyframe comes.
    pub fn request_keyframe(&mut self, need: KeyframeNeed) {
        self.tracks[Kind::Video as usize].request_keyframe(need);
    }

    /// Makes the regular request of the operator's timer, at most one every 500 ms.
    pub fn tick_keyframes(&mut self) {
        self.tracks[Kind::Video as usize].tick_keyframes();
    }

    /// Keyframes of the video and the requests for them.
    pub fn keyframe_stats(&self) -> KeyframeStats {
        self.tracks[Kind::Video as usize].keyframe_stats()
    }

    /// Writes the next clear compound RTCP packet into `buf` and returns its length; `None` if nothing is due. Call it until then,
    /// with room for a datagram (1,200 bytes).
    pub fn poll_rtcp(&mut self, now: Instant, buf: &mut [u8]) -> Option<usize> {
        self.handle_timeout(now);
        let mut len = self.write_reports(now, buf);
        if len == 0 {
            return None;
        }
        // Video first: its NACKs and keyframe requests are the urgent ones if the room does not suffice for all.
        for track in self.tracks.iter_mut().rev() {
            len += track.write_feedback(now, self.local_ssrc, &mut buf[len..]);
        }
        if let Some(feedback) = &mut self.transport_cc {
            len += feedback.write(&mut buf[len..], len == EMPTY_REPORT_LEN);
        }
        (len > EMPTY_REPORT_LEN).then_some(len)
    }

    /// When [`poll_rtcp`](Self::poll_rtcp) has something to write; a time in the past means now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let feedback = self.transport_cc.as_ref();
        let feedback = feedback.and_then(|feedback| feedback.deadline(self.now));
        let tracks = self.tracks.iter().filter_map(|track| track.deadline(self.now));
        tracks.chain(self.report_at).chain(feedback).min()
    }

    /// Lets time pass. [`poll_rtcp`](Self::poll_rtcp) does so too.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if let Some(feedback) = &mut self.transport_cc {
            feedback.handle_timeout(now);
        }
    }

    /// The latest sender report about a track, on the track's timeline.
    pub fn clock(&self, kind: Kind) -> Option<SenderClock> {
        self.tracks[kind as usize].clock()
    }

    /// Whether the video may come in several layers.
    pub fn has_layers(&self) -> bool {
        self.tracks[Kind::Video as usize].has_layers()
    }

    /// What is known of the layers of the video. Layers that were not accepted are not live.
    pub fn layers(&self) -> [LayerFacts; LayerIndex::COUNT] {
        self.tracks[Kind::Video as usize].layer_facts()
    }

    /// When the newest keyframe of each layer of the video began.
    pub fn keyframes_at(&self) -> [Option<Instant>; LayerIndex::COUNT] {
        self.tracks[Kind::Video as usize].keyframes_at()
    }

    /// Where a track stands, for the ingest of the next publisher.
    pub fn continuity(&self, kind: Kind) -> LayerContinuity {
        self.tracks[kind as usize].continuity()
    }

    /// Counters of a track.
    pub fn stats(&self, kind: Kind) -> ReceiveStats {
        self.tracks[kind as usize].stats()
    }

    /// Packets dropped because their payload type was not negotiated.
    pub fn unknown_payload_types(&self) -> u64 {
        self.unknown_payload_types
    }

    /// Starts a compound packet: report blocks and CNAME if they are due, else an empty report (RFC 3550 section 6.1 requires one).
    fn write_reports(&mut self, now: Instant, buf: &mut [u8]) -> usize {
        if self.report_at.is_none_or(|at| at > now) {
            return rtcp::write_receiver_report_empty(buf, self.local_ssrc);
        }
        let blocks: Vec<_> = self
            .tracks
            .iter_mut()
            .flat_map(|track| track.take_reports(now))
            .collect();
        // There is nothing to report about a silent publisher; its next packet starts the interval again.
        self.report_at = (!blocks.is_empty()).then(|| now + REPORT_INTERVAL);
        let len = rtcp::write_receiver_report(buf, self.local_ssrc, &blocks);
        if blocks.is_empty() {
            return len;
        }
        len + rtcp::write_cname(&mut buf[len..], self.local_ssrc, CNAME)
    }
}

impl ReceiveStats {
    /// Adds the counts of another layer.
    fn add(&mut self, other: &ReceiveStats) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.repaired += other.repaired;
        self.duplicates += other.duplicates;
        self.before_keyframe += other.before_keyframe;
        self.keyframes += other.keyframes;
        self.nacks_sent += other.nacks_sent;
    }
}

/// As often as libwebrtc reports about video. Publishers derive their round-trip time and loss from it.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A receiver report without blocks.
const EMPTY_REPORT_LEN: usize = 8;
/// Names this end in its reports. It reveals nothing about the machine (RFC 7022).
const CNAME: &str = "onecast";

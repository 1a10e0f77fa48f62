//! Receive side of one layer: the SSRC that feeds it, and the way from a received packet to a packet of the track.

use std::ops::Range;
use std::time::{Duration, Instant};

use onecast_rtc::rtp::dependency_descriptor::DependencyState;
use onecast_rtc::rtp::payload_descriptor::{Vp9Descriptor, payload_layer};
use onecast_rtc::rtp::rtcp::{self, ReceptionBlock};
use onecast_rtc::rtp::{Codec, LayerId, RtpHeader, SeqIndex, Ssrc};
use onecast_rtc::sdp::{ExtensionIds, MediaLine};

use super::allocation::Allocation;
use super::incoming::{Incoming, ReceiveFormat};
use super::keyframe_requests::KeyframeRequests;
use super::layer_meter::LayerMeter;
use super::nack_tracker::NackTracker;
use super::pictures::Pictures;
use super::ssrc_history::{FormerSsrcs, RtxSsrcs};
use super::ssrc_state::{Placement, SenderReport, SsrcState};
use super::timeline::Timeline;
use super::{IngestDrop, ReceiveStats};
use crate::media::continuity::{Continuity, Mapping};
use crate::media::packet::{Packet, Passed, PassedExtensions};
use crate::media::{KeyframeNeed, LayerIndex, SenderClock};

/// One encoding of a track. Without simulcast it is the only one.
///
/// A layer has a numbering of its own. An SSRC that begins to feed it is mapped to where the numbering stands, so that a restarted
/// encoder or the next publisher continues without a gap.
#[derive(Debug)]
pub(super) struct LayerReceiver {
    place: LayerIndex,
    continuity: Continuity,
    stats: ReceiveStats,
    feed: Feed,
    /// Format of the newest packet; before the first packet, the publisher's preferred one.
    format: Option<ReceiveFormat>,
    last_packet_at: Option<Instant>,
    former: FormerSsrcs,
    rtx: RtxSsrcs,
    nacks: NackTracker,
    pictures: Pictures,
    dependencies: DependencyState,
    meter: LayerMeter,
    /// Scratch space for the sequence numbers of a NACK.
    due: Vec<u16>,
}

/// What the layers of a track have in common.
#[derive(Debug)]
pub(super) struct SharedByLayers {
    pub(super) extensions: ExtensionIds,
    /// Browsers answer a request for one layer with a keyframe in every layer, so the requests are those of the track.
    pub(super) keyframes: KeyframeRequests,
    pub(super) timeline: Timeline,
    pub(super) allocation: Allocation,
}

/// What feeds a layer.
#[derive(Debug)]
enum Feed {
    /// Nothing yet. The SSRC is the one that the offer announced.
    Idle { announced: Option<Ssrc> },
    /// This SSRC sends, but nothing yet that viewers can start with.
    Waiting { ssrc: Ssrc, since: Instant },
    /// Packets of this SSRC enter the track.
    Active(Box<SsrcState>),
}

impl LayerReceiver {
    /// `ssrcs` are those of media and RTX that the offer announced for it.
    pub(super) fn new(
        place: LayerIndex,
        line: Option<&MediaLine>,
        ssrcs: (Option<Ssrc>, Option<Ssrc>),
        continuity: Continuity,
        fir: bool,
    ) -> LayerReceiver {
        let mut rtx = RtxSsrcs::default();
        if let (Some(media), Some(rtx_ssrc)) = ssrcs {
            rtx.bind(rtx_ssrc, media);
        }
        let mut pictures = Pictures::default();
        pictures.announce(line);
        LayerReceiver {
            place,
            continuity,
            stats: ReceiveStats::default(),
            feed: Feed::Idle { announced: ssrcs.0 },
            format: preferred_format(line, fir),
            last_packet_at: None,
            former: FormerSsrcs::default(),
            rtx,
            nacks: NackTracker::default(),
            pictures,
            dependencies: DependencyState::default(),
            meter: LayerMeter::default(),
            due: Vec::new(),
        }
    }

    /// The m-line was renegotiated, or removed (`None`). The SSRC that feeds the layer goes on if the new line announces it too, or
    /// announces none.
    pub(super) fn set_line(&mut self, line: Option<&MediaLine>, ssrcs: (Option<Ssrc>, Option<Ssrc>), fir: bool) {
        self.pictures.announce(line);
        let Some(line) = line else {
            // The line may come back with the same SSRC, so that one does not count as a former one.
            self.stop(None);
            self.format = None;
            return;
        };
        if let (Some(media), Some(rtx)) = ssrcs {
            self.rtx.bind(rtx, media);
        }
        let announced = ssrcs.0;
        if let Some(announced) = announced {
            self.former.forget(announced);
        }
        match (self.ssrc(), announced) {
            (Some(before), Some(announced)) if before != announced => {
                self.former.push(before);
                self.stop(Some(announced));
            }
            (None, announced) => self.feed = Feed::Idle { announced },
            _ => {}
        }
        if matches!(self.feed, Feed::Idle { .. }) {
            self.format = preferred_format(Some(line), fir);
        }
    }

    /// The packets go to another track from now on, whose numbering stands there.
    pub(super) fn resume_at(&mut self, continuity: Continuity) {
        self.continuity = continuity;
        self.stop(self.ssrc());
    }

    fn stop(&mut self, announced: Option<Ssrc>) {
        self.meter.restart();
        self.nacks.clear();
        self.pictures.restart(announced.is_some() && announced == self.ssrc());
        self.feed = Feed::Idle { announced };
    }

    /// Handles a packet on the media SSRC.
    pub(super) fn handle_media(
        &mut self,
        incoming: Incoming<'_>,
        shared: &mut SharedByLayers,
    ) -> Result<Packet, IngestDrop> {
        self.follow(incoming.now, incoming.ssrc(), shared)?;
        let Feed::Active(state) = &mut self.feed else {
            return self.try_start(incoming, shared);
        };
        match state.place(incoming.header, incoming.format.codec, incoming.now) {
            Placement::New { extended, missing } => {
                if let Some(offset) = shared
                    .timeline
                    .note_packet(self.place, incoming.header.timestamp, incoming.now)
                {
                    state.mapping = state.mapping.with_timestamp_offset(offset);
                }
                let mapping = state.mapping;
                self.format = Some(incoming.format);
                self.pictures.note_format(incoming.format);
                self.note_gap(extended.minus(missing)..extended, incoming, shared);
                Ok(self.take(incoming, incoming.payload, mapping, extended, shared))
            }
            Placement::Duplicate => {
                self.stats.duplicates += 1;
                Err(IngestDrop::Duplicate)
            }
            Placement::Old => Err(IngestDrop::Old),
            Placement::FarAway => Err(IngestDrop::FarAway),
            Placement::Restart => {
                self.wait_for(incoming.now, incoming.ssrc(), shared);
                self.try_start(incoming, shared)
            }
        }
    }

    /// Handles a retransmission (RFC 4588 section 4): two bytes of original sequence number, then the original payload. An empty
    /// payload is a bandwidth probe and yields nothing.
    pub(super) fn handle_rtx(
        &mut self,
        incoming: Incoming<'_>,
        shared: &mut SharedByLayers,
    ) -> Result<Option<Packet>, IngestDrop> {
        let Some((original, payload)) = incoming.payload.split_first_chunk::<2>() else {
            return if incoming.payload.is_empty() {
                Ok(None)
            } else {
                Err(IngestDrop::Malformed)
            };
        };
        let Feed::Active(state) = &mut self.feed else {
            return Err(IngestDrop::NoMedia);
        };
        if self.rtx.bind(incoming.ssrc(), state.ssrc) != state.ssrc {
            if incoming.now < state.started() + SILENCE {
                return Err(IngestDrop::FormerSsrc);
            }
            // No NACK for the former SSRC is outstanding any more: the sender kept its RTX SSRC when it changed the media SSRC.
            self.rtx.rebind(incoming.ssrc(), state.ssrc);
        }
        let mapping = state.mapping;
        match state.place_repaired(u16::from_be_bytes(*original)) {
            Placement::New { extended, missing } => {
                self.note_gap(extended.minus(missing)..extended, incoming, shared);
                Ok(Some(self.take(incoming, payload, mapping, extended, shared)))
            }
            Placement::Duplicate => {
                self.stats.duplicates += 1;
                Err(IngestDrop::Duplicate)
            }
            Placement::Old | Placement::FarAway | Placement::Restart => Err(IngestDrop::Old),
        }
    }

    /// The SSRC that feeds the layer, or is announced to.
    pub(super) fn ssrc(&self) -> Option<Ssrc> {
        match &self.feed {
            Feed::Idle { announced } => *announced,
            Feed::Waiting { ssrc, .. } => Some(*ssrc),
            Feed::Active(state) => Some(state.ssrc),
        }
    }

    /// The SSRC whose packets enter the track.
    pub(super) fn active_ssrc(&self) -> Option<Ssrc> {
        match &self.feed {
            Feed::Active(state) => Some(state.ssrc),
            _ => None,
        }
    }

    /// What is measured of it.
    pub(super) fn meter(&self) -> &LayerMeter {
        &self.meter
    }

    /// Whether retransmissions with this SSRC repair the layer.
    pub(super) fn is_repaired_by(&self, rtx: Ssrc) -> bool {
        self.rtx.media_of(rtx).is_some_and(|media| self.ssrc() == Some(media))
    }

    /// The SSRC and format to send feedback about; `None` until a packet arrived. A sender starts with a keyframe on its own, or is
    /// asked for one at its first packet: an earlier request would only make it send two.
    pub(super) fn sending(&self) -> Option<(Ssrc, ReceiveFormat)> {
        let ssrc = self.ssrc().filter(|_| !matches!(self.feed, Feed::Idle { .. }))?;
        Some((ssrc, self.format?))
    }

    /// Where the numbering stands.
    pub(super) fn continuity(&self) -> Continuity {
        self.continuity
    }

    pub(super) fn stats(&self) -> &ReceiveStats {
        &self.stats
    }

    /// Stores a sender report if it is about the SSRC whose packets enter the track. Returns whether it is.
    pub(super) fn handle_sender_report(&mut self, ssrc: Ssrc, report: SenderReport) -> bool {
        match &mut self.feed {
            Feed::Active(state) if state.ssrc == ssrc => {
                state.sender_report = Some(report);
                true
            }
            _ => false,
        }
    }

    /// An RTCP BYE: the SSRC stops sending.
    pub(super) fn handle_bye(&mut self, ssrc: Ssrc) {
        if self.ssrc() == Some(ssrc) && !matches!(self.feed, Feed::Idle { .. }) {
            self.former.push(ssrc);
            self.nacks.clear();
            self.meter.restart();
            self.feed = Feed::Idle { announced: None };
        }
    }

    /// Writes the NACK that is due. Returns its length.
    pub(super) fn write_nack(&mut self, now: Instant, local_ssrc: Ssrc, out: &mut [u8]) -> usize {
        let Some((ssrc, _)) = self.sending() else { return 0 };
        // Four bytes name one sequence number at least.
        let room = out.len().saturating_sub(rtcp::NACK_HEAD_LEN) / 4;
        self.nacks.take_due(now, room, &mut self.due);
        self.stats.nacks_sent += self.due.len() as u64;
        rtcp::write_nack(out, local_ssrc, ssrc, self.due.iter().copied())
    }

    /// When [`write_nack`](Self::write_nack) has something to write.
    pub(super) fn nack_deadline(&self) -> Option<Instant> {
        self.sending().and_then(|_| self.nacks.deadline())
    }

    /// A report block about what arrived since the last one; `None` if nothing did.
    pub(super) fn take_report(&mut self, now: Instant) -> Option<ReceptionBlock> {
        match &mut self.feed {
            Feed::Active(state) => state.take_report(now),
            _ => None,
        }
    }

    /// The sender's clock on the track's timeline.
    pub(super) fn clock(&self) -> Option<SenderClock> {
        let Feed::Active(state) = &self.feed else {
            return None;
        };
        let report = state.sender_report?;
        Some(SenderClock {
            ntp: report.ntp,
            rtp: state.mapping.timestamp(report.rtp),
            received_at: report.at,
        })
    }

    /// Lets `ssrc` feed the layer, unless it fed it before and the present one is still sending.
    fn follow(&mut self, now: Instant, ssrc: Ssrc, shared: &mut SharedByLayers) -> Result<(), IngestDrop> {
        let current = self.ssrc().filter(|_| !matches!(self.feed, Feed::Idle { .. }));
        if current != Some(ssrc) {
            let is_silent = self.last_packet_at.is_none_or(|last| now >= last + SILENCE);
            if self.former.contains(ssrc) && !is_silent {
                return Err(IngestDrop::FormerSsrc);
            }
            if let Some(current) = current {
                self.former.push(current);
            }
            self.wait_for(now, ssrc, shared);
        }
        self.last_packet_at = Some(now);
        Ok(())
    }

    fn wait_for(&mut self, now: Instant, ssrc: Ssrc, shared: &mut SharedByLayers) {
        self.nacks.clear();
        self.meter.restart();
        shared.timeline.end(self.place);
        self.pictures.restart(self.ssrc() == Some(ssrc));
        self.feed = Feed::Waiting { ssrc, since: now };
        self.stats.ssrc = Some(ssrc);
    }

    /// Starts to take packets of the waiting SSRC if this one allows it. Viewers hold pictures of the SSRC before, which only a
    /// keyframe replaces. After [`WAIT_MAX`] any packet will do, for streams whose keyframes are not recognised.
    fn try_start(&mut self, incoming: Incoming<'_>, shared: &mut SharedByLayers) -> Result<Packet, IngestDrop> {
        let Incoming {
            now,
            header,
            payload,
            format,
            ..
        } = incoming;
        let Feed::Waiting { since, .. } = self.feed else {
            return Err(IngestDrop::NoMedia);
        };
        self.format = Some(format);
        if !Pictures::may_begin(format.codec, payload) && now < since + WAIT_MAX {
            // Only once: `KeyframeRequests` repeats the request until a keyframe comes.
            if now == since {
                shared.keyframes.want(KeyframeNeed::Urgent);
            }
            self.stats.before_keyframe += 1;
            return Err(IngestDrop::BeforeKeyframe);
        }
        let mut continuity = self.continuity;
        if let Some((newest, at)) = shared.timeline.newest() {
            // Another layer is further on.
            (continuity.last_timestamp, continuity.last_at) = (newest, Some(at));
        }
        let by_others = shared.timeline.offset_by_others(self.place, header.timestamp, now);
        let state = SsrcState::new(header, format.codec, now, |first| {
            let mapping = continuity.append(first, header.timestamp, now, format.codec.clock_rate());
            by_others.map_or(mapping, |offset| mapping.with_timestamp_offset(offset))
        });
        let offset = state.mapping.timestamp_offset();
        shared.timeline.begin(self.place, offset, by_others.is_some());
        shared.timeline.note_packet(self.place, header.timestamp, now);
        let (mapping, first) = (state.mapping, state.first());
        self.feed = Feed::Active(Box::new(state));
        self.pictures.note_format(format);
        Ok(self.take(incoming, payload, mapping, first, shared))
    }

    /// The spatial and temporal layer of the packet's frame, and whether the packet ends it. The dependency descriptor knows best; where it
    /// is negotiated, browsers leave the layers out of VP8's own descriptor.
    fn place_in_picture(
        &mut self,
        incoming: Incoming<'_>,
        payload: &[u8],
        extended: SeqIndex,
        ids: &ExtensionIds,
    ) -> (LayerId, bool) {
        let value = ids.dependency_descriptor.and_then(|id| incoming.extension(id));
        if let Some(Ok(descriptor)) = value.map(|value| self.dependencies.read(extended, value)) {
            if let Some(size) = descriptor.size {
                self.meter.note_size(descriptor.layer.spatial, size);
            }
            return (descriptor.layer, descriptor.ends_frame);
        }
        let layer = payload_layer(incoming.format.codec, payload);
        layer.map_or((LayerId::default(), false), |layer| (layer.layer, layer.ends_frame))
    }

    /// Keyframes say how large the pictures of each spatial layer are.
    fn note_vp9_sizes(&mut self, payload: &[u8]) {
        let Some(structure) = Vp9Descriptor::read(payload).and_then(|descriptor| descriptor.structure) else {
            return;
        };
        for spatial in 0..structure.spatial_layers() {
            if let Some(size) = structure.size(spatial) {
                self.meter.note_size(spatial, size);
            }
        }
    }

    fn note_gap(&mut self, gap: Range<SeqIndex>, incoming: Incoming<'_>, shared: &mut SharedByLayers) {
        let len = gap.end.since(gap.start);
        if len == 0 {
            return;
        }
        self.stats.lost += len;
        if incoming.format.nack && self.nacks.note_gap(gap, incoming.now) > 0 {
            // Too many to ask for: the pictures in between are lost.
            shared.keyframes.want(KeyframeNeed::Repair);
        }
    }

    /// Makes a placed packet one of the track, and counts it.
    fn take(
        &mut self,
        incoming: Incoming<'_>,
        payload: &[u8],
        mapping: Mapping,
        extended: SeqIndex,
        shared: &mut SharedByLayers,
    ) -> Packet {
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
            // It was counted as lost when a later packet revealed the gap.
            self.stats.lost = self.stats.lost.saturating_sub(1);
            self.stats.repaired += u64::from(self.nacks.note_arrival(now, extended));
        }
        self.continuity.advance(index, timestamp, now);
        let picture = self.pictures.note(format.codec, payload, timestamp, index);
        if picture.begins_keyframe {
            self.stats.keyframes += 1;
            self.meter.note_keyframe(now);
            if format.codec == Codec::Vp9 {
                self.note_vp9_sizes(payload);
            }
            // Those of other layers come with it, and count as one.
            if shared.timeline.note_keyframe(self.place, header.timestamp, now) {
                shared.keyframes.satisfied(now);
            }
        }
        self.stats.picture_size = picture.size.or(self.stats.picture_size);
        shared.keyframes.note_packet(payload.len(), picture.of_keyframe);
        self.stats.packets += 1;
        self.stats.bytes += payload.len() as u64;
        self.stats.codec = Some(format.codec);
        let (place, ends_frame) = self.place_in_picture(incoming, payload, extended, &shared.extensions);
        self.meter.note(now, payload.len(), place, header.marker);
        shared.allocation.note_packet(incoming);
        Packet {
            codec: format.codec,
            layer: self.place,
            place,
            ends_frame,
            marker: header.marker,
            keyframe: picture.start,
            refresh: picture.refresh,
            index,
            timestamp,
            payload: payload.into(),
            sets: picture.sets,
            extensions: passed_extensions(&shared.extensions, header, clear),
            arrived: now,
        }
    }
}

fn preferred_format(line: Option<&MediaLine>, fir: bool) -> Option<ReceiveFormat> {
    let format = line?.formats.first()?;
    Some(ReceiveFormat::new(format, fir))
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

/// When the present SSRC has been silent for this long, a former one may come back.
const SILENCE: Duration = Duration::from_millis(500);
/// Longest wait for a keyframe to start with. By then three requests went out, and viewers see nothing.
const WAIT_MAX: Duration = Duration::from_secs(5);

//! One subscription of a peer to a stream: keys, path, two forwarders. The state that every frame touches.

use std::time::Instant;

use super::formats::ViewerLine;
use super::forwarder::{Forwarder, Rewrite};
use super::ids::PeerIndex;
use super::layers::LayerControl;
use super::pacer::{Pacer, Volume};
use super::round_trip::RoundTrip;
use crate::media::packet::Passed;
use crate::media::{LayerLimit, LayerReason, Packet, Rendition};
use onecast_rtc::rtp::dependency_descriptor::{frame_number, set_frame_number};
use onecast_rtc::rtp::header::HeaderOut;
use onecast_rtc::rtp::{Kind, Ssrc};
use onecast_rtc::sdp::ExtensionIds;
use onecast_rtc::transmit::SendQueue;
use onecast_rtc::{Path, RtcpSealer, RtpSealer};

/// A peer's place in a stream that it is sent.
pub struct Subscriber {
    /// Its peer's place in the shard.
    pub peer: PeerIndex,
    /// Where its packets go: the path that its ICE checks chose.
    pub to: Path,
    /// Next sender reports.
    pub report_at: Instant,
    /// It has been sent a whole keyframe.
    pub has_picture: bool,
    /// When it last started from a keyframe; `None` if it has not started.
    pub started_at: Option<Instant>,
    /// How often it was started again because it asked for a keyframe.
    pub repeated: u8,
    /// It is in the shard's start queue.
    pub starting: bool,
    /// It is to start again, although it has started.
    pub again: bool,
    /// It started where there was no keyframe, and has been sent none since.
    pub blind: bool,
    /// What it is sent of the video.
    pub rendition: Rendition,
    /// `None` while there is nothing to choose.
    layers: Option<Box<ViewerLayers>>,
    sealer: RtpSealer,
    /// By kind, of tracks that it is sent.
    forwarders: [Option<Forwarder>; 2],
    /// By kind, of tracks that are switched off: they keep their numbering.
    parked: Option<Box<[Option<Forwarder>; 2]>>,
    pub(super) round_trip: RoundTrip,
    /// `None` while it is sent nothing but live packets.
    pacer: Option<Box<Pacer>>,
}

/// What a viewer may be and is to be sent of a video with several layers.
#[derive(Debug)]
pub(super) struct ViewerLayers {
    /// What it is to be sent next: a part of what it has as soon as a picture ends, anything else from a keyframe on.
    pub(super) next: Option<Rendition>,
    /// Why it is or will be sent that layer.
    pub(super) reason: LayerReason,
    /// Which layers it may be sent.
    pub(super) limit: LayerLimit,
    /// The automatic choice; `None` while there is nothing to choose from.
    pub(super) control: Option<LayerControl>,
    /// What its last report acknowledged.
    pub(super) acknowledged: Option<Acknowledged>,
    /// The highest number of that report.
    pub(super) highest: Option<u32>,
}

/// What a report acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledged {
    /// The index, in what the viewer was sent then.
    pub(super) index: u64,
    /// Bytes of that up to there. Wraps.
    pub(super) total: u32,
    pub(super) at: Instant,
}

impl Default for ViewerLayers {
    fn default() -> ViewerLayers {
        ViewerLayers {
            next: None,
            reason: LayerReason::Start,
            limit: LayerLimit::default(),
            control: None,
            acknowledged: None,
            highest: None,
        }
    }
}

/// What a change of lines did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switched {
    /// Nothing to do.
    Stays,
    /// Packets come from now on, video from a keyframe.
    On,
    /// Packets look different from now on, and may have to start again.
    Over,
    /// No more packets.
    Off,
}

/// A packet, and the header that it gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) packet: &'a Packet,
    pub(super) ssrc: Ssrc,
    pub(super) rewrite: Rewrite,
    pub(super) padded: bool,
    /// Sequence number under which it was first sent, in front of the payload (RFC 4588); `None` on the media SSRC.
    pub(super) original_sequence: Option<u16>,
}

impl Subscriber {
    /// A subscriber that has been sent nothing yet.
    pub fn new(
        peer: PeerIndex,
        to: Path,
        now: Instant,
        sealer: RtpSealer,
        lines: [Option<ViewerLine>; 2],
    ) -> Subscriber {
        Subscriber {
            peer,
            to,
            report_at: now,
            has_picture: false,
            started_at: None,
            repeated: 0,
            starting: false,
            again: false,
            blind: false,
            rendition: Rendition::default(),
            layers: None,
            sealer,
            forwarders: lines.map(|line| line.map(Forwarder::new)),
            parked: None,
            round_trip: RoundTrip::default(),
            pacer: None,
        }
    }

    /// Its forwarder for a track; `None` if it is not sent that kind.
    #[inline]
    pub fn forwarder(&mut self, kind: Kind) -> Option<&mut Forwarder> {
        self.forwarders[kind as usize].as_mut()
    }

    /// Whether it starts in a layer now that a keyframe is there: because it waits, or because it is to be sent that layer instead of the
    /// one that it sees.
    pub(super) fn may_start_in(&mut self, rendition: Rendition, is_young: bool) -> bool {
        let (present, next) = (self.rendition, self.next_rendition());
        let Some(forwarder) = self.forwarder(Kind::Video) else {
            return false;
        };
        if forwarder.is_waiting() {
            next.unwrap_or(present) == rendition
        } else {
            next == Some(rendition) && is_young
        }
    }

    /// The newest packet of its video, while others of its picture are to follow.
    pub(super) fn open_picture(&self) -> Option<u64> {
        self.forwarders[Kind::Video as usize].as_ref()?.open_picture()
    }

    /// Whether it is sent the past of a track.
    pub(super) fn catches_up(&mut self, kind: Kind) -> bool {
        self.forwarder(kind).is_some_and(|forwarder| forwarder.is_catching_up())
    }

    /// Paces what is not live.
    pub(super) fn pacer(&mut self) -> &mut Pacer {
        self.pacer.get_or_insert_default()
    }

    /// Whether its budget for retransmissions of a track is whole, so that forgetting it gives nothing away.
    pub(super) fn has_whole_budget(&mut self, now: Instant, kind: Kind, volume: Volume) -> bool {
        let pacer = self.pacer.as_mut();
        pacer.is_none_or(|pacer| pacer.is_whole(now, kind, volume))
    }

    /// Forgets its requests for packets of a track.
    pub(super) fn end_repairs(&mut self, kind: Kind) {
        if let Some(forwarder) = self.forwarder(kind) {
            forwarder.repairs = None;
        }
        if let Some(pacer) = &mut self.pacer {
            pacer.end_repairs(kind);
        }
    }

    /// Frees what is not needed any more.
    pub(super) fn tidy(&mut self, now: Instant) {
        let video = self.forwarder(Kind::Video);
        let has_ended = video.is_some_and(|forwarder| forwarder.forget_past(now));
        let Some(pacer) = &mut self.pacer else { return };
        if has_ended {
            pacer.end_past();
        }
        self.pacer.take_if(|pacer| pacer.is_idle());
    }

    /// Everything is sent on another path from now on.
    pub(super) fn move_to(&mut self, now: Instant, to: Path) {
        if self.to == to {
            return;
        }
        self.to = to;
        let forwarders = self.forwarders.iter_mut().flatten();
        forwarders
            .filter_map(|forwarder| forwarder.repairs.as_mut())
            .for_each(|repairs| repairs.moved(now));
    }

    /// Switches a track on, off, or over to another line.
    pub(super) fn switch(&mut self, kind: Kind, line: Option<&ViewerLine>) -> Switched {
        let place = &mut self.forwarders[kind as usize];
        match (place.as_mut(), line) {
            (None, None) => Switched::Stays,
            (Some(forwarder), Some(line)) if forwarder.line() == line => Switched::Stays,
            (Some(forwarder), Some(line)) => {
                forwarder.change_line(line.clone());
                Switched::Over
            }
            (Some(forwarder), None) => {
                forwarder.close();
                self.parked.get_or_insert_default()[kind as usize] = place.take();
                if let Some(pacer) = &mut self.pacer {
                    pacer.end_repairs(kind);
                }
                Switched::Off
            }
            (None, Some(line)) => {
                let parked = self.parked.as_mut().and_then(|parked| parked[kind as usize].take());
                let forwarder = parked.map(|mut forwarder| {
                    forwarder.change_line(line.clone());
                    forwarder
                });
                *place = Some(forwarder.unwrap_or_else(|| Forwarder::new(line.clone())));
                Switched::On
            }
        }
    }

    /// What it is sent of the track of a kind.
    pub(super) fn rendition_of(&self, kind: Kind) -> Rendition {
        match kind {
            Kind::Audio => Rendition::default(),
            Kind::Video => self.rendition,
        }
    }

    /// Whether the dependency descriptor of its video was negotiated.
    pub(super) fn has_descriptor(&self) -> bool {
        let video = self.forwarders[Kind::Video as usize].as_ref();
        video.is_some_and(|video| video.line().extensions.dependency_descriptor.is_some())
    }

    /// It may be sent other layers than before.
    pub fn set_limit(&mut self, limit: LayerLimit) {
        if self.limit() != limit {
            self.layers_mut().limit = limit;
        }
    }

    /// Which layers it may be sent.
    pub(super) fn limit(&self) -> LayerLimit {
        self.layers
            .as_ref()
            .map_or_else(LayerLimit::default, |layers| layers.limit)
    }

    /// What it is to be sent next.
    #[inline]
    pub(super) fn next_rendition(&self) -> Option<Rendition> {
        self.layers.as_ref()?.next
    }

    /// Why it is or will be sent its layer.
    pub(super) fn layer_reason(&self) -> LayerReason {
        self.layers.as_ref().map_or(LayerReason::Start, |layers| layers.reason)
    }

    /// State of a viewer of a stream with something to choose.
    pub(super) fn layers_mut(&mut self) -> &mut ViewerLayers {
        self.layers.get_or_insert_default()
    }

    /// The automatic choice among layers.
    pub(super) fn control(&mut self) -> Option<&mut LayerControl> {
        self.layers.as_mut()?.control.as_mut()
    }

    /// Nothing else is to be sent any more. Returns what was.
    pub(super) fn take_next_rendition(&mut self) -> Option<Rendition> {
        self.layers.as_mut()?.next.take()
    }

    /// What it is sent or waits for.
    pub(super) fn bindings(&self) -> impl Iterator<Item = (Kind, Rendition)> + use<> {
        let of_kind = |kind| {
            self.bindings_of(kind)
                .map(|rendition| rendition.map(|rendition| (kind, rendition)))
        };
        Kind::ALL.map(of_kind).into_iter().flatten().flatten()
    }

    /// What it is sent of a kind, and waits for.
    pub(super) fn bindings_of(&self, kind: Kind) -> [Option<Rendition>; 2] {
        match (kind, &self.forwarders[kind as usize]) {
            (_, None) => [None; 2],
            (Kind::Audio, _) => [Some(Rendition::default()), None],
            (Kind::Video, _) => [Some(self.rendition), self.next_rendition()],
        }
    }

    /// Seals one packet into the queue. False when it does not fit a datagram.
    pub(super) fn seal(&mut self, out: &mut SendQueue, outgoing: Outgoing<'_>) -> bool {
        let extensions = self
            .forwarder(outgoing.packet.codec.kind())
            .map(|forwarder| forwarder.line().extensions);
        let buffer = out.reserve();
        let Some((header_len, len)) = render(buffer, &outgoing, extensions.unwrap_or_default()) else {
            return false;
        };
        if len + self.sealer.overhead() > SendQueue::DATAGRAM_MAX {
            return false;
        }
        let len = self.sealer.seal(buffer, header_len, len, outgoing.rewrite.index);
        out.commit(self.to, self.peer.number(), len);
        true
    }

    /// Seals RTCP with its peer's sealer. `write` fills a buffer with a compound packet and returns its length; 0 sends nothing.
    pub(super) fn seal_rtcp(
        &self,
        sealer: &mut RtcpSealer,
        out: &mut SendQueue,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) {
        let buffer = out.reserve();
        let len = write(buffer);
        if len > 0 {
            let len = sealer.seal(buffer, len);
            out.commit(self.to, self.peer.number(), len);
        }
    }
}

/// Writes header, original sequence number, payload and padding; returns header length and clear length.
fn render(buffer: &mut [u8], outgoing: &Outgoing<'_>, ids: ExtensionIds) -> Option<(usize, usize)> {
    let packet = outgoing.packet;
    let header = HeaderOut {
        marker: packet.marker,
        padding: outgoing.padded,
        payload_type: outgoing.rewrite.payload_type,
        sequence: outgoing.rewrite.index as u16,
        timestamp: outgoing.rewrite.timestamp,
        ssrc: outgoing.ssrc,
    };
    let mut extensions: [(u8, &[u8]); PASSED_MAX] = [(0, &[]); PASSED_MAX];
    let count = if packet.extensions.is_empty() {
        0
    } else {
        passed(packet, ids, &mut extensions)
    };
    let more = usize::from(outgoing.original_sequence.is_some()) * 2 + usize::from(outgoing.padded);
    if HeaderOut::len(&extensions[..count]) + packet.payload.len() + more > buffer.len() {
        return None;
    }
    let header_len = header.write(buffer, &extensions[..count]);
    if outgoing.rewrite.frames_ahead != 0 {
        renumber_frame(buffer, &extensions[..count], ids, outgoing.rewrite.frames_ahead);
    }
    let mut at = header_len;
    if let Some(sequence) = outgoing.original_sequence {
        buffer[at..at + 2].copy_from_slice(&sequence.to_be_bytes());
        at += 2;
    }
    buffer[at..at + packet.payload.len()].copy_from_slice(&packet.payload);
    at += packet.payload.len();
    if outgoing.padded {
        buffer[at] = 1;
        at += 1;
    }
    Some((header_len, at))
}

/// The extensions of the packet for which the viewer has an id.
fn passed<'a>(packet: &'a Packet, ids: ExtensionIds, list: &mut [(u8, &'a [u8]); PASSED_MAX]) -> usize {
    let values = [
        (ids.video_orientation, Passed::VideoOrientation),
        (ids.abs_capture_time, Passed::AbsCaptureTime),
        (ids.dependency_descriptor, Passed::DependencyDescriptor),
    ];
    let mut count = 0;
    for (id, which) in values {
        if let (Some(id), Some(value)) = (id, packet.extensions.value(which)) {
            list[count] = (id, value);
            count += 1;
        }
    }
    count
}

/// Moves the frame number of the dependency descriptor, if there is one.
fn renumber_frame(buffer: &mut [u8], extensions: &[(u8, &[u8])], ids: ExtensionIds, ahead: u16) {
    let place = extensions
        .iter()
        .position(|(id, _)| Some(*id) == ids.dependency_descriptor);
    let range = place.and_then(|place| HeaderOut::value_range(extensions, place));
    let Some(value) = range.map(|range| &mut buffer[range]) else {
        return;
    };
    if let Some(number) = frame_number(value) {
        set_frame_number(value, number.wrapping_add(ahead));
    }
}

/// Header extensions that are passed on.
const PASSED_MAX: usize = 3;

//! The local track that all viewers of a published track bind to.
//!
//! The track is shared by all shards without a lock. What it is made of:
//!
//! - Its lanes are bounded queues; see [`lane`](super::lane).
//! - `takers` of a shard is changed by that shard only. The publisher's shard reads it with each packet: zero keeps the packet from
//!   that shard. A packet that is written while the first viewer binds may be missed; that viewer starts with the packets since the
//!   newest keyframe, which its shard requests.
//! - Requests to the publisher are stored here, the shard that serves it is signalled afterwards. The publisher's shard takes requests
//!   by swapping them with "none", so each is served once.
//! - The numbering is written by the holder of the write ticket ([`WriteTicket`](super::WriteTicket)) and read by the next one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use onecast_rtc::rtp::{Kind, RtpTime, Ssrc};

use super::SenderClock;
use super::continuity::{Continuity, LayerContinuity, REORDER_MAX};
use super::keyframes::{KeyframeNeed, SharedKeyframeReading};
use super::lane::{Lane, LaneItem};
use super::layers::{LayerIndex, Rendition, SharedLayerFacts};
use super::packet::Packet;
use super::window::GopSnapshot;

/// The one local track of a published audio or video line.
///
/// Viewers bind shard by shard; [`write_rtp`](TrackLocalStaticRtp::write_rtp) hands the packet to every shard with a bound viewer.
/// The track outlives its publishers: the next one continues the same numbering and timeline.
#[derive(Debug)]
pub struct TrackLocalStaticRtp {
    kind: Kind,
    ssrc: Ssrc,
    rtx_ssrc: Ssrc,
    /// One per shard.
    lanes: Box<[TrackLane]>,
    /// The greatest need for a keyframe, as [`KeyframeNeed::bits`]; 0 for none.
    keyframe_wanted: AtomicU8,
    keyframes: SharedKeyframeReading,
    layers: SharedLayerFacts,
    numbering: SharedNumbering,
    profile: AtomicU8,
}

/// The track's way to one shard.
#[derive(Debug)]
struct TrackLane {
    lane: Lane,
    /// Viewers of the shard that are bound to each layer.
    viewers: [AtomicU32; LayerIndex::COUNT],
    /// Viewers of the shard that are sent packets of each encoding.
    takers: [AtomicU32; LayerIndex::COUNT],
    /// The shard got its first viewer of a layer and requests the packets since the newest keyframe.
    past_wanted: [AtomicBool; LayerIndex::COUNT],
}

/// Where the numbering stands, for the shard of the next publisher.
#[derive(Debug)]
struct SharedNumbering {
    next_index: [AtomicU64; LayerIndex::COUNT],
    last_timestamp: AtomicU32,
    /// Microseconds since `born` at which the newest packet arrived; 0 before the first.
    last_at: AtomicU64,
    born: Instant,
}

impl TrackLocalStaticRtp {
    pub(super) fn new(kind: Kind, (ssrc, rtx_ssrc): (Ssrc, Ssrc), lanes: &[Lane], now: Instant) -> TrackLocalStaticRtp {
        TrackLocalStaticRtp {
            kind,
            ssrc,
            rtx_ssrc,
            lanes: lanes.iter().cloned().map(TrackLane::new).collect(),
            keyframe_wanted: AtomicU8::new(0),
            keyframes: SharedKeyframeReading::default(),
            layers: SharedLayerFacts::new(now),
            numbering: SharedNumbering::new(now),
            profile: AtomicU8::new(0),
        }
    }

    /// Audio or video.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// SSRC towards every viewer.
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// SSRC of retransmissions (RFC 4588) towards every viewer.
    pub fn rtx_ssrc(&self) -> Ssrc {
        self.rtx_ssrc
    }

    /// Hands the packet to every shard with a viewer that is bound to its layer. Returns how many shards took it. Only the holder of the write ticket may
    /// call this.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] if no viewer is bound to it, which is normal: there may be no viewers yet.
    pub fn write_rtp(&self, packet: &Arc<Packet>) -> io::Result<usize> {
        self.numbering.note(packet);
        let mut bound = false;
        let mut taken = 0;
        for to in self.lanes.iter().filter(|to| to.takes(packet.layer)) {
            bound = true;
            taken += usize::from(to.lane.push(LaneItem::Packet(self.kind, packet.clone())));
        }
        if bound {
            Ok(taken)
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    /// Hands the publisher's clock to every shard with a bound viewer.
    pub fn write_clock(&self, clock: SenderClock) {
        for to in self.bound_lanes() {
            to.lane.push(LaneItem::Clock(self.kind, clock));
        }
    }

    /// Tells every shard with a bound viewer that the publisher left.
    pub fn write_ended(&self) {
        for to in self.bound_lanes() {
            to.lane.push(LaneItem::Ended);
        }
    }

    /// Tells every shard with a bound viewer that a layer has come or gone.
    pub fn write_layers_changed(&self) {
        for to in self.bound_lanes() {
            to.lane.push(LaneItem::LayersChanged);
        }
    }

    fn bound_lanes(&self) -> impl Iterator<Item = &TrackLane> {
        let is_bound = |to: &&TrackLane| LayerIndex::all().any(|encoding| to.takes(encoding));
        self.lanes.iter().filter(is_bound)
    }

    /// Binds a viewer of shard `shard` to a layer, or a part of it.
    pub fn bind(&self, shard: usize, rendition: Rendition) {
        let lane = &self.lanes[shard];
        lane.viewers[rendition.layer.index()].fetch_add(1, Ordering::Relaxed);
        lane.takers[rendition.encoding.index()].fetch_add(1, Ordering::AcqRel);
    }

    /// Unbinds a viewer of shard `shard` from a layer, or a part of it.
    pub fn unbind(&self, shard: usize, rendition: Rendition) {
        let lane = &self.lanes[shard];
        lane.viewers[rendition.layer.index()].fetch_sub(1, Ordering::Relaxed);
        lane.takers[rendition.encoding.index()].fetch_sub(1, Ordering::AcqRel);
    }

    /// Viewers that are bound to a layer, on all shards.
    pub fn viewers(&self, layer: LayerIndex) -> u32 {
        let viewers = self
            .lanes
            .iter()
            .map(|to| to.viewers[layer.index()].load(Ordering::Relaxed));
        viewers.sum()
    }

    /// What is known of its layers.
    pub fn layers(&self) -> &SharedLayerFacts {
        &self.layers
    }

    /// Whether any viewer is bound.
    pub fn is_bound(&self) -> bool {
        self.bound_lanes().next().is_some()
    }

    /// Items that full lanes dropped.
    pub fn dropped(&self) -> u64 {
        self.lanes.iter().map(|to| to.lane.dropped()).sum()
    }

    /// Where the next publisher continues.
    pub fn continuity(&self) -> LayerContinuity {
        let start = Continuity::starting((u64::from(self.ssrc.0) << 32) | u64::from(self.rtx_ssrc.0));
        self.numbering.continuity(start)
    }

    /// The codec profile that the publisher negotiated: first byte of H264's `profile-level-id`, `profile-id` of VP9; 0 if unknown.
    pub fn profile(&self) -> u8 {
        self.profile.load(Ordering::Relaxed)
    }

    /// Sets the [`profile`](Self::profile).
    pub fn set_profile(&self, profile: u8) {
        self.profile.store(profile, Ordering::Relaxed);
    }

    /// Requests a keyframe. Returns whether that is news to the publisher.
    pub(super) fn request_keyframe(&self, need: KeyframeNeed) -> bool {
        self.keyframe_wanted.fetch_or(need.bits(), Ordering::AcqRel) & need.bits() != need.bits()
    }

    /// Takes the request for a keyframe, if there is one.
    pub fn take_keyframe_request(&self) -> Option<KeyframeNeed> {
        KeyframeNeed::from_bits(self.keyframe_wanted.swap(0, Ordering::AcqRel))
    }

    /// What is known of the track's keyframes.
    pub fn keyframes(&self) -> &SharedKeyframeReading {
        &self.keyframes
    }

    /// Requests the packets since the newest keyframe for a shard.
    pub(super) fn request_past(&self, shard: usize, layer: LayerIndex) {
        self.lanes[shard].past_wanted[layer.index()].store(true, Ordering::Release);
    }

    pub(super) fn has_requests(&self) -> bool {
        let mut past = self.lanes.iter().flat_map(|to| &to.past_wanted);
        past.any(|wanted| wanted.load(Ordering::Acquire)) || self.keyframe_wanted.load(Ordering::Acquire) != 0
    }

    /// Gives the packets of a layer since the newest keyframe to every shard that requested them. Calls `past` at most once.
    pub fn answer_past(&self, layer: LayerIndex, past: impl FnOnce() -> GopSnapshot) {
        let mut past = Some(past);
        let mut made = None;
        for to in &self.lanes {
            let wanted = &to.past_wanted[layer.index()];
            if !wanted.load(Ordering::Relaxed) || !wanted.swap(false, Ordering::AcqRel) {
                continue;
            }
            if let Some(make) = past.take() {
                made = Some(make());
            }
            if let Some(past) = &made {
                to.lane.push(LaneItem::Past(layer, Box::new(past.clone())));
            }
        }
    }
}

impl TrackLane {
    fn new(lane: Lane) -> TrackLane {
        TrackLane {
            lane,
            viewers: Default::default(),
            takers: Default::default(),
            past_wanted: Default::default(),
        }
    }

    fn takes(&self, encoding: LayerIndex) -> bool {
        self.takers[encoding.index()].load(Ordering::Acquire) > 0
    }
}

impl SharedNumbering {
    fn new(now: Instant) -> SharedNumbering {
        SharedNumbering {
            next_index: Default::default(),
            last_timestamp: AtomicU32::new(0),
            last_at: AtomicU64::new(0),
            born: now,
        }
    }

    /// Notes a packet that is written.
    fn note(&self, packet: &Packet) {
        let next = packet.index + 1;
        let next_index = &self.next_index[packet.layer.index()];
        if next <= next_index.load(Ordering::Relaxed) {
            return;
        }
        next_index.store(next, Ordering::Relaxed);
        let step = packet
            .timestamp
            .since(RtpTime(self.last_timestamp.load(Ordering::Relaxed)));
        // A B-frame, or another layer of a picture before: the timeline stands at the picture that is shown last.
        let is_shown_earlier = (-REORDER_MAX..0).contains(&step);
        if is_shown_earlier && self.last_at.load(Ordering::Relaxed) > 0 {
            return;
        }
        self.last_timestamp.store(packet.timestamp.0, Ordering::Relaxed);
        let at = packet.arrived.saturating_duration_since(self.born).as_micros() as u64;
        // `Release` makes the other two visible to a reader that acquires this one.
        self.last_at.store(at.max(1), Ordering::Release);
    }

    /// Layers without packets are at the `start`.
    fn continuity(&self, start: Continuity) -> LayerContinuity {
        let at = self.last_at.load(Ordering::Acquire);
        if at == 0 {
            return [start; LayerIndex::COUNT];
        }
        self.next_index.each_ref().map(|next_index| Continuity {
            next_index: next_index.load(Ordering::Relaxed).max(start.next_index),
            last_timestamp: RtpTime(self.last_timestamp.load(Ordering::Relaxed)),
            last_at: Some(self.born + Duration::from_micros(at)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::{packet, tracks};

    #[test]
    fn writing_without_a_viewer_is_a_closed_pipe() {
        let (tracks, ..) = tracks(2);
        let error = tracks.video.write_rtp(&packet(1).build()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_packet_goes_once_to_each_shard_with_viewers() {
        let (tracks, inboxes, _) = tracks(3);
        tracks.video.bind(0, Rendition::default());
        tracks.video.bind(0, Rendition::default());
        tracks.video.bind(2, Rendition::default());
        assert_eq!(tracks.video.write_rtp(&packet(1).build()).unwrap(), 2);
        assert!(inboxes[1].is_empty());
        assert!(inboxes[0].pop().is_some() && inboxes[0].pop().is_none());
        tracks.video.unbind(2, Rendition::default());
        assert_eq!(tracks.video.write_rtp(&packet(2).build()).unwrap(), 1);
    }

    #[test]
    fn a_full_lane_drops_and_counts_and_is_no_closed_pipe() {
        let (tracks, ..) = tracks(1);
        tracks.video.bind(0, Rendition::default());
        for index in 0..Lane::ITEMS_MAX as u64 {
            assert_eq!(tracks.video.write_rtp(&packet(index).build()).unwrap(), 1);
        }
        assert_eq!(tracks.video.write_rtp(&packet(5_000).build()).unwrap(), 0);
        assert_eq!(tracks.video.dropped(), 1);
    }

    #[test]
    fn the_next_publisher_continues_where_the_last_one_stopped() {
        let (tracks, ..) = tracks(1);
        assert_eq!(tracks.video.continuity()[0].last_at, None);
        let _ = tracks.video.write_rtp(&packet(70_000).timestamp(RtpTime(900)).build());
        let _ = tracks.video.write_rtp(&packet(69_999).timestamp(RtpTime(800)).build());
        let [continuity, ..] = tracks.video.continuity();
        assert_eq!(
            (continuity.next_index, continuity.last_timestamp),
            (70_001, RtpTime(900))
        );
    }

    #[test]
    fn the_next_publisher_continues_after_the_frame_that_is_shown_last() {
        let (tracks, ..) = tracks(1);
        for (index, timestamp) in [(70_000, 3_000), (70_001, 12_000), (70_002, 6_000), (70_003, 9_000)] {
            let _ = tracks
                .video
                .write_rtp(&packet(index).timestamp(RtpTime(timestamp)).build());
        }
        let [continuity, ..] = tracks.video.continuity();
        assert_eq!(
            (continuity.next_index, continuity.last_timestamp),
            (70_004, RtpTime(12_000))
        );
        // A clock that was set back is followed.
        let _ = tracks
            .video
            .write_rtp(&packet(70_004).timestamp(RtpTime(0u32.wrapping_sub(900_000))).build());
        assert_eq!(
            tracks.video.continuity()[0].last_timestamp,
            RtpTime(0u32.wrapping_sub(900_000))
        );
    }
}

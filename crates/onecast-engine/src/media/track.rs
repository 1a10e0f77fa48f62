//! The local track that all viewers of a published track bind to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::SenderClock;
use super::continuity::{Continuity, REORDER_MAX};
use super::keyframes::{KeyframeFacts, KeyframeNeed};
use super::lane::{Inbox, Lane, LaneItem, StreamKey};
use super::packet::Packet;
use super::window::Past;
use onecast_rtc::rtp::Kind;

/// The one local track of a published audio or video line.
///
/// Viewers bind shard by shard; [`write_rtp`](TrackLocalStaticRtp::write_rtp) hands the packet to every shard with a bound viewer.
/// The track outlives its publishers: the next one continues the same numbering and timeline.
#[derive(Debug)]
pub struct TrackLocalStaticRtp {
    kind: Kind,
    ssrc: u32,
    rtx_ssrc: u32,
    lanes: Box<[Binding]>,
    /// The greatest need for a keyframe, as [`KeyframeNeed::bits`].
    keyframe_wanted: AtomicU8,
    keyframes: KeyframeFacts,
    numbering: Numbering,
    profile: AtomicU32,
}

#[derive(Debug)]
struct Binding {
    lane: Lane,
    viewers: AtomicU32,
    /// The shard has a first viewer and wants to know what was before.
    past_wanted: AtomicBool,
}

/// Where the numbering stands, readable by the shard of the next publisher.
#[derive(Debug)]
struct Numbering {
    next_index: AtomicU64,
    last_timestamp: AtomicU32,
    /// Microseconds since `born` at which the last packet was written; 0 before the first.
    last_at: AtomicU64,
    born: Instant,
}

impl TrackLocalStaticRtp {
    fn new(kind: Kind, ssrcs: (u32, u32), lanes: &[Lane], now: Instant) -> TrackLocalStaticRtp {
        TrackLocalStaticRtp {
            kind,
            ssrc: ssrcs.0,
            rtx_ssrc: ssrcs.1,
            lanes: lanes
                .iter()
                .map(|lane| Binding {
                    lane: lane.clone(),
                    viewers: AtomicU32::new(0),
                    past_wanted: AtomicBool::new(false),
                })
                .collect(),
            keyframe_wanted: AtomicU8::new(0),
            keyframes: KeyframeFacts::default(),
            numbering: Numbering {
                next_index: AtomicU64::new(0),
                last_timestamp: AtomicU32::new(0),
                last_at: AtomicU64::new(0),
                born: now,
            },
            profile: AtomicU32::new(0),
        }
    }

    /// Audio or video.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// SSRC towards every viewer.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// SSRC of retransmissions (RFC 4588) towards every viewer.
    pub fn rtx_ssrc(&self) -> u32 {
        self.rtx_ssrc
    }

    /// Hands the packet to every shard with a bound viewer and returns how many took it.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] when no viewer is bound. Ingest takes that as normal: nobody watches yet.
    pub fn write_rtp(&self, packet: &Arc<Packet>) -> io::Result<usize> {
        self.numbering.note(packet);
        let mut bound = false;
        let mut taken = 0;
        for binding in self
            .lanes
            .iter()
            .filter(|binding| binding.viewers.load(Ordering::Acquire) > 0)
        {
            bound = true;
            taken += usize::from(binding.lane.push(LaneItem::Packet(self.kind, packet.clone())));
        }
        if bound {
            Ok(taken)
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    /// Hands the publisher's clock to every shard with a bound viewer.
    pub fn write_clock(&self, clock: SenderClock) {
        self.push_to_bound(|kind| LaneItem::Clock(kind, clock));
    }

    /// Tells every shard with a bound viewer that the publisher left.
    pub fn write_ended(&self) {
        self.push_to_bound(|_| LaneItem::Ended);
    }

    fn push_to_bound(&self, item: impl Fn(Kind) -> LaneItem) {
        for binding in self
            .lanes
            .iter()
            .filter(|binding| binding.viewers.load(Ordering::Acquire) > 0)
        {
            binding.lane.push(item(self.kind));
        }
    }

    /// A viewer of shard `shard` binds.
    pub fn bind(&self, shard: usize) {
        self.lanes[shard].viewers.fetch_add(1, Ordering::AcqRel);
    }

    /// A viewer of shard `shard` leaves.
    pub fn unbind(&self, shard: usize) {
        self.lanes[shard].viewers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether anybody watches.
    pub fn is_bound(&self) -> bool {
        self.lanes
            .iter()
            .any(|binding| binding.viewers.load(Ordering::Acquire) > 0)
    }

    /// Packets that full lanes dropped.
    pub fn dropped(&self) -> u64 {
        self.lanes.iter().map(|binding| binding.lane.dropped()).sum()
    }

    /// Where the next publisher goes on.
    pub fn continuity(&self) -> Continuity {
        let start = Continuity::starting((u64::from(self.ssrc) << 32) | u64::from(self.rtx_ssrc));
        self.numbering.continuity().unwrap_or(start)
    }

    /// The codec profile that the publisher negotiated: first byte of H264's `profile-level-id`, `profile-id` of VP9; 0 if unknown.
    pub fn profile(&self) -> u8 {
        self.profile.load(Ordering::Relaxed) as u8
    }

    /// Sets what [`profile`](Self::profile) tells.
    pub fn set_profile(&self, profile: u8) {
        self.profile.store(u32::from(profile), Ordering::Relaxed);
    }

    /// Takes the need for a keyframe, if there is one.
    pub fn take_keyframe_request(&self) -> Option<KeyframeNeed> {
        KeyframeNeed::from_bits(self.keyframe_wanted.swap(0, Ordering::AcqRel))
    }

    /// What is known of its keyframes.
    pub fn keyframes(&self) -> &KeyframeFacts {
        &self.keyframes
    }

    fn has_wishes(&self) -> bool {
        let past = self.lanes.iter().any(|lane| lane.past_wanted.load(Ordering::Acquire));
        past || self.keyframe_wanted.load(Ordering::Acquire) != 0
    }

    /// Gives every shard that asked what was before its first viewer came. `past` is called once at most.
    pub fn answer_past(&self, past: impl FnOnce() -> Past) {
        let mut past = Some(past);
        let mut made = None;
        for binding in &self.lanes {
            if !binding.past_wanted.load(Ordering::Relaxed) || !binding.past_wanted.swap(false, Ordering::AcqRel) {
                continue;
            }
            if let Some(make) = past.take() {
                made = Some(make());
            }
            if let Some(past) = &made {
                binding.lane.push(LaneItem::Past(Box::new(past.clone())));
            }
        }
    }
}

impl Numbering {
    fn note(&self, packet: &Packet) {
        let next = packet.index + 1;
        if next > self.next_index.load(Ordering::Relaxed) {
            self.next_index.store(next, Ordering::Relaxed);
            let step = packet
                .timestamp
                .wrapping_sub(self.last_timestamp.load(Ordering::Relaxed));
            let is_shown_earlier = (-REORDER_MAX..0).contains(&step.cast_signed());
            if is_shown_earlier && self.last_at.load(Ordering::Relaxed) > 0 {
                return;
            }
            self.last_timestamp.store(packet.timestamp, Ordering::Relaxed);
            let at = packet.arrived.saturating_duration_since(self.born).as_micros() as u64;
            self.last_at.store(at.max(1), Ordering::Release);
        }
    }

    fn continuity(&self) -> Option<Continuity> {
        let at = self.last_at.load(Ordering::Acquire);
        (at > 0).then(|| Continuity {
            next_index: self.next_index.load(Ordering::Relaxed),
            last_timestamp: self.last_timestamp.load(Ordering::Relaxed),
            last_at: Some(self.born + Duration::from_micros(at)),
        })
    }
}

/// The tracks of one stream, shared by all shards.
#[derive(Debug)]
pub struct StreamTracks {
    /// The stream's place in the shards' tables.
    pub key: StreamKey,
    /// The stream's name; `cname` and `msid` towards viewers.
    pub name: Box<str>,
    /// The audio track.
    pub audio: TrackLocalStaticRtp,
    /// The video track.
    pub video: TrackLocalStaticRtp,
    inboxes: Arc<[Arc<Inbox>]>,
    publisher_shard: AtomicU32,
    /// Which publisher may write: the serial of the newest that connected.
    writer: AtomicU64,
}

impl StreamTracks {
    const NO_SHARD: u32 = u32::MAX;

    /// Tracks with lanes into every inbox. `ssrcs` are video, RTX of the video, audio: three different numbers.
    pub fn new(key: StreamKey, name: &str, ssrcs: [u32; 3], inboxes: Arc<[Arc<Inbox>]>, now: Instant) -> StreamTracks {
        let lanes: Vec<Lane> = inboxes.iter().map(|inbox| Lane::new(key, inbox.clone())).collect();
        StreamTracks {
            key,
            name: name.into(),
            audio: TrackLocalStaticRtp::new(Kind::Audio, (ssrcs[2], ssrcs[2]), &lanes, now),
            video: TrackLocalStaticRtp::new(Kind::Video, (ssrcs[0], ssrcs[1]), &lanes, now),
            inboxes,
            publisher_shard: AtomicU32::new(StreamTracks::NO_SHARD),
            writer: AtomicU64::new(0),
        }
    }

    /// The track of a kind.
    pub fn track(&self, kind: Kind) -> &TrackLocalStaticRtp {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }

    /// A publisher adopted by `shard` starts to write; whoever wrote before may not any more. Returns the ticket to write with.
    pub fn start_writing(&self, shard: usize) -> u64 {
        self.publisher_shard.store(shard as u32, Ordering::Release);
        let ticket = self.writer.fetch_add(1, Ordering::AcqRel) + 1;
        // What was wished of the one before, and not done, is for this one to do.
        if self.video.has_wishes()
            && let Some(inbox) = self.inboxes.get(shard)
        {
            inbox.raise_wish();
        }
        ticket
    }

    /// Whether the holder of `ticket` is still the one who writes.
    pub fn may_write(&self, ticket: u64) -> bool {
        self.writer.load(Ordering::Acquire) == ticket
    }

    /// Whether a publisher writes. `false` also when the newest is gone while an older one is still there.
    pub fn is_written(&self) -> bool {
        self.publisher_shard.load(Ordering::Acquire) != StreamTracks::NO_SHARD
    }

    /// The holder of `ticket` is gone. Viewers are told unless another one writes already.
    pub fn stop_writing(&self, ticket: u64) {
        if self.may_write(ticket) {
            self.publisher_shard.store(StreamTracks::NO_SHARD, Ordering::Release);
            self.video.write_ended();
            self.audio.write_ended();
        }
    }

    /// Asks the publisher for a keyframe, wherever it is. Ingest coalesces.
    pub fn request_keyframe(&self, need: KeyframeNeed) {
        let wanted = &self.video.keyframe_wanted;
        if let Some(inbox) = self.publishers_inbox()
            && wanted.fetch_or(need.bits(), Ordering::AcqRel) & need.bits() != need.bits()
        {
            inbox.raise_wish();
        }
    }

    /// Asks the publisher's shard for the video since the newest keyframe: it comes on the lane, unless nobody publishes.
    pub fn request_past(&self, shard: usize) {
        if let Some(inbox) = self.publishers_inbox() {
            self.video.lanes[shard].past_wanted.store(true, Ordering::Release);
            inbox.raise_wish();
        }
    }

    fn publishers_inbox(&self) -> Option<&Arc<Inbox>> {
        self.inboxes.get(self.publisher_shard.load(Ordering::Acquire) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Wake;
    use crate::media::testing::packet;
    use std::sync::atomic::AtomicUsize;

    struct CountWakes(Arc<AtomicUsize>);
    impl Wake for CountWakes {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tracks(shards: usize) -> (StreamTracks, Vec<Arc<Inbox>>, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let inboxes: Vec<_> = (0..shards)
            .map(|_| Inbox::new(Box::new(CountWakes(wakes.clone()))))
            .collect();
        let key = StreamKey { slot: 0, serial: 1 };
        (
            StreamTracks::new(
                key,
                "live",
                [10, 20, 30],
                inboxes.clone().into(),
                onecast_udp::clock::now(),
            ),
            inboxes,
            wakes,
        )
    }

    #[test]
    fn writing_with_no_viewer_is_a_closed_pipe() {
        let (tracks, ..) = tracks(2);
        let error = tracks.video.write_rtp(&packet(1).build()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_packet_goes_once_to_each_shard_with_viewers() {
        let (tracks, inboxes, _) = tracks(3);
        tracks.video.bind(0);
        tracks.video.bind(0);
        tracks.video.bind(2);
        assert_eq!(tracks.video.write_rtp(&packet(1).build()).unwrap(), 2);
        assert!(inboxes[1].is_empty());
        assert!(inboxes[0].pop().is_some() && inboxes[0].pop().is_none());
        tracks.video.unbind(2);
        assert_eq!(tracks.video.write_rtp(&packet(2).build()).unwrap(), 1);
    }

    #[test]
    fn a_full_lane_drops_and_counts_and_is_no_closed_pipe() {
        let (tracks, ..) = tracks(1);
        tracks.video.bind(0);
        for index in 0..Lane::ITEMS_MAX as u64 {
            assert_eq!(tracks.video.write_rtp(&packet(index).build()).unwrap(), 1);
        }
        assert_eq!(tracks.video.write_rtp(&packet(5_000).build()).unwrap(), 0);
        assert_eq!(tracks.video.dropped(), 1);
    }

    #[test]
    fn the_next_publisher_goes_on_where_the_last_one_stopped() {
        let (tracks, ..) = tracks(1);
        assert_eq!(tracks.video.continuity().last_at, None);
        let _ = tracks.video.write_rtp(&packet(70_000).timestamp(900).build());
        let _ = tracks.video.write_rtp(&packet(69_999).timestamp(800).build());
        let continuity = tracks.video.continuity();
        assert_eq!((continuity.next_index, continuity.last_timestamp), (70_001, 900));
    }

    #[test]
    fn only_the_newest_publisher_writes_and_tells_when_it_ends() {
        let (tracks, inboxes, _) = tracks(1);
        tracks.video.bind(0);
        let first = tracks.start_writing(0);
        let second = tracks.start_writing(0);
        assert!(!tracks.may_write(first) && tracks.may_write(second));
        tracks.stop_writing(first);
        assert!(inboxes[0].is_empty());
        tracks.stop_writing(second);
        assert!(matches!(inboxes[0].pop(), Some((_, LaneItem::Ended))));
    }

    #[test]
    fn the_next_publisher_goes_on_after_the_frame_that_is_shown_last() {
        let (tracks, ..) = tracks(1);
        for (index, timestamp) in [(70_000, 3_000), (70_001, 12_000), (70_002, 6_000), (70_003, 9_000)] {
            let _ = tracks.video.write_rtp(&packet(index).timestamp(timestamp).build());
        }
        let continuity = tracks.video.continuity();
        assert_eq!((continuity.next_index, continuity.last_timestamp), (70_004, 12_000));
        // A clock that was set back is followed.
        let _ = tracks
            .video
            .write_rtp(&packet(70_004).timestamp(0u32.wrapping_sub(900_000)).build());
        assert_eq!(tracks.video.continuity().last_timestamp, 0u32.wrapping_sub(900_000));
    }

    #[test]
    fn wishes_for_keyframes_reach_the_publishers_shard_as_one() {
        let (tracks, inboxes, wakes) = tracks(2);
        tracks.request_keyframe(KeyframeNeed::Repair);
        assert_eq!(wakes.load(Ordering::Relaxed), 0, "nobody publishes");
        tracks.start_writing(1);
        tracks.request_keyframe(KeyframeNeed::Repair);
        tracks.request_keyframe(KeyframeNeed::Repair);
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert!(inboxes[1].take_wish() && !inboxes[0].take_wish());
        tracks.request_keyframe(KeyframeNeed::Urgent);
        tracks.request_keyframe(KeyframeNeed::Repair);
        assert_eq!(wakes.load(Ordering::Relaxed), 2, "a greater need is told");
        assert_eq!(tracks.video.take_keyframe_request(), Some(KeyframeNeed::Urgent));
        assert_eq!(tracks.video.take_keyframe_request(), None);
    }

    #[test]
    fn the_past_is_made_once_for_all_who_ask() {
        let (tracks, inboxes, _) = tracks(3);
        tracks.request_past(0);
        tracks.start_writing(1);
        tracks.request_past(0);
        tracks.request_past(2);
        let mut made = 0;
        for _ in 0..2 {
            tracks.video.answer_past(|| {
                made += 1;
                Past::default()
            });
        }
        assert_eq!(made, 1);
        for (shard, inbox) in inboxes.iter().enumerate() {
            assert_eq!(matches!(inbox.pop(), Some((_, LaneItem::Past(_)))), shard != 1);
        }
    }
}

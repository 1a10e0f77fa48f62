//! The tracks of one stream, and which publisher may write to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use onecast_rtc::rtp::{Kind, Ssrc};

use super::continuity::LayerContinuity;
use super::keyframes::KeyframeNeed;
use super::lane::{Inbox, Lane, StreamKey};
use super::layers::LayerIndex;
use super::track::TrackLocalStaticRtp;

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
    writer: Writer,
}

/// The right to write to the tracks of a stream: the number of a publisher among all that ever wrote to them.
///
/// Two publishers of a stream can be connected at the same time, on different shards: a new one takes the stream over before the old
/// one is closed. Only one of them may write, and a lock per packet is out of the question. Therefore:
///
/// 1. [`start_writing`](StreamTracks::start_writing) issues a ticket with the next number, and from that moment only this ticket is
///    valid. The newest publisher always wins; the old one need not cooperate, and the new one does not wait for it.
/// 2. A publisher checks [`may_write`](StreamTracks::may_write) before each packet. With an invalid ticket it drops the packet.
/// 3. [`stop_writing`](StreamTracks::stop_writing) ends the writing of a valid ticket, and does nothing for an invalid one: an old
///    publisher that leaves late does not end the stream of the new one.
/// 4. If the newest publisher leaves while an older one is still connected, none writes ([`is_written`](StreamTracks::is_written) is
///    false). The older one may then take a new ticket, and starts again with a keyframe.
///
/// The check and the write are two steps. A publisher that checked just before its ticket became invalid may still write one packet
/// while the new one reads where the numbering stands, so that both use one index. This is harmless because a viewer's shard takes
/// only the first packet with an index into its [`Window`](super::Window), and seals only what the window holds: the other packet is
/// lost as if on the network, and no key seals an index twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteTicket(u64);

/// The valid ticket and the shard of its holder. One atomic number holds both, so that they always belong together:
///
/// ```text
///  63                    16 15             0
/// [ number of the ticket   | shard + 1      ]   0 in the lower half: no publisher writes
/// ```
#[derive(Debug, Default)]
struct Writer(AtomicU64);

impl StreamTracks {
    /// Tracks with lanes into every inbox. `ssrcs` are video, RTX of the video, audio: three different numbers.
    pub fn new(key: StreamKey, name: &str, ssrcs: [Ssrc; 3], inboxes: Arc<[Arc<Inbox>]>, now: Instant) -> StreamTracks {
        let lanes: Vec<Lane> = inboxes.iter().map(|inbox| Lane::new(key, inbox.clone())).collect();
        StreamTracks {
            key,
            name: name.into(),
            audio: TrackLocalStaticRtp::new(Kind::Audio, (ssrcs[2], ssrcs[2]), &lanes, now),
            video: TrackLocalStaticRtp::new(Kind::Video, (ssrcs[0], ssrcs[1]), &lanes, now),
            inboxes,
            writer: Writer::default(),
        }
    }

    /// The server's own SSRC in the RTCP to the publisher: the number after video's, which no track has.
    pub fn feedback_ssrc(&self) -> Ssrc {
        Ssrc(self.video.ssrc().0 ^ 1)
    }

    /// The track of a kind.
    pub fn track(&self, kind: Kind) -> &TrackLocalStaticRtp {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }

    /// All tracks, in the order of [`Kind::ALL`].
    pub fn all(&self) -> [&TrackLocalStaticRtp; 2] {
        Kind::ALL.map(|kind| self.track(kind))
    }

    /// Where the next publisher continues, in the order of [`Kind::ALL`].
    pub fn continuity(&self) -> [LayerContinuity; 2] {
        self.all().map(TrackLocalStaticRtp::continuity)
    }

    /// A publisher that shard `shard` adopted starts to write. Tickets issued before become invalid.
    pub fn start_writing(&self, shard: usize) -> WriteTicket {
        let ticket = self.writer.start(shard);
        // Requests that the previous publisher did not serve are left to this one.
        if self.video.has_requests()
            && let Some(inbox) = self.inboxes.get(shard)
        {
            inbox.signal();
        }
        ticket
    }

    /// Whether the ticket is valid: no other was issued after it.
    #[inline]
    pub fn may_write(&self, ticket: WriteTicket) -> bool {
        self.writer.is_valid(ticket)
    }

    /// Whether a publisher writes. Also `false` if the newest one left while an older one is still connected.
    pub fn is_written(&self) -> bool {
        self.writer.shard().is_some()
    }

    /// The holder of the ticket leaves. Viewers learn that the publisher left, unless another one writes already.
    pub fn stop_writing(&self, ticket: WriteTicket) {
        if self.writer.stop(ticket) {
            self.all().into_iter().for_each(TrackLocalStaticRtp::write_ended);
        }
    }

    /// Requests a keyframe from the publisher, whichever shard serves it. Ingest coalesces requests.
    pub fn request_keyframe(&self, need: KeyframeNeed) {
        if let Some(inbox) = self.publishers_inbox()
            && self.video.request_keyframe(need)
        {
            inbox.signal();
        }
    }

    /// Requests a layer of the video since the newest keyframe from the publisher's shard. It comes on the lane, unless there is no
    /// publisher.
    pub fn request_past(&self, shard: usize, layer: LayerIndex) {
        if let Some(inbox) = self.publishers_inbox() {
            self.video.request_past(shard, layer);
            inbox.signal();
        }
    }

    fn publishers_inbox(&self) -> Option<&Arc<Inbox>> {
        self.inboxes.get(self.writer.shard()?)
    }
}

impl Writer {
    const SHARD_BITS: u32 = 16;
    const SHARD_MASK: u64 = (1 << Writer::SHARD_BITS) - 1;

    /// Issues the next ticket, to a publisher on `shard`.
    fn start(&self, shard: usize) -> WriteTicket {
        let shard = (shard as u64 + 1) & Writer::SHARD_MASK;
        let next = |writer: u64| (((writer >> Writer::SHARD_BITS) + 1) << Writer::SHARD_BITS) | shard;
        // `AcqRel`: the holder sees everything that was written under the tickets before.
        let updated = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |writer| Some(next(writer)));
        let before = updated.unwrap_or_else(|writer| writer);
        WriteTicket(next(before) >> Writer::SHARD_BITS)
    }

    #[inline]
    fn is_valid(&self, ticket: WriteTicket) -> bool {
        self.0.load(Ordering::Acquire) >> Writer::SHARD_BITS == ticket.0
    }

    /// The shard of the publisher that writes.
    fn shard(&self) -> Option<usize> {
        let shard = self.0.load(Ordering::Acquire) & Writer::SHARD_MASK;
        (shard as usize).checked_sub(1)
    }

    /// Ends the writing of a valid ticket. Returns false for an invalid one.
    fn stop(&self, ticket: WriteTicket) -> bool {
        let without_shard = |writer: u64| {
            let is_valid = writer >> Writer::SHARD_BITS == ticket.0;
            is_valid.then_some(writer & !Writer::SHARD_MASK)
        };
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, without_shard)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::tracks;
    use crate::media::window::GopSnapshot;
    use crate::media::{LaneItem, Rendition};

    #[test]
    fn only_the_newest_publisher_writes_and_ends_the_stream() {
        let (tracks, inboxes, _) = tracks(1);
        tracks.video.bind(0, Rendition::default());
        let first = tracks.start_writing(0);
        let second = tracks.start_writing(0);
        assert!(!tracks.may_write(first) && tracks.may_write(second));
        tracks.stop_writing(first);
        assert!(inboxes[0].is_empty() && tracks.is_written());
        tracks.stop_writing(second);
        assert!(matches!(inboxes[0].pop(), Some((_, LaneItem::Ended))));
        assert!(!tracks.is_written());
        let third = tracks.start_writing(0);
        assert!(tracks.may_write(third) && !tracks.may_write(second));
    }

    #[test]
    fn keyframe_requests_reach_the_publishers_shard_as_one() {
        let (tracks, inboxes, wakes) = tracks(2);
        tracks.request_keyframe(KeyframeNeed::Repair);
        assert_eq!(wakes.load(Ordering::Relaxed), 0, "there is no publisher");
        tracks.start_writing(1);
        tracks.request_keyframe(KeyframeNeed::Repair);
        tracks.request_keyframe(KeyframeNeed::Repair);
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert!(inboxes[1].take_signal() && !inboxes[0].take_signal());
        tracks.request_keyframe(KeyframeNeed::Urgent);
        tracks.request_keyframe(KeyframeNeed::Repair);
        assert_eq!(wakes.load(Ordering::Relaxed), 2, "a greater need is signalled");
        assert_eq!(tracks.video.take_keyframe_request(), Some(KeyframeNeed::Urgent));
        assert_eq!(tracks.video.take_keyframe_request(), None);
    }

    #[test]
    fn the_past_is_made_once_for_all_shards_that_request_it() {
        let (tracks, inboxes, _) = tracks(3);
        tracks.request_past(0, LayerIndex::FIRST);
        tracks.start_writing(1);
        tracks.request_past(0, LayerIndex::FIRST);
        tracks.request_past(2, LayerIndex::FIRST);
        let mut made = 0;
        for _ in 0..2 {
            tracks.video.answer_past(LayerIndex::FIRST, || {
                made += 1;
                GopSnapshot::default()
            });
        }
        assert_eq!(made, 1);
        for (shard, inbox) in inboxes.iter().enumerate() {
            assert_eq!(matches!(inbox.pop(), Some((_, LaneItem::Past(..)))), shard != 1);
        }
    }
}

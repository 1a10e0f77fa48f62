//! Makes the tracks of streams: a slot in the tables of every shard, and SSRCs that no other stream of this process ever had.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use onecast_engine::media::lane::{StreamKey, StreamSlot};
use onecast_engine::media::{Inbox, StreamTracks};
use onecast_rtc::rtp::Ssrc;

/// Makes the tracks of streams.
#[derive(Debug)]
pub struct TrackMaker {
    inboxes: Arc<[Arc<Inbox>]>,
    /// The slot that has been free for longest is reused first: by then every shard knows that its last stream has ended.
    free_slots: VecDeque<StreamSlot>,
    slots: u32,
    /// Streams made so far.
    made: u32,
    /// What SSRCs are scattered by.
    mask: u32,
}

impl TrackMaker {
    /// For streams whose packets go into `inboxes`. `mask` is a random number.
    pub fn new(inboxes: Arc<[Arc<Inbox>]>, mask: u32) -> TrackMaker {
        TrackMaker {
            inboxes,
            free_slots: VecDeque::new(),
            slots: 0,
            made: 0,
            mask,
        }
    }

    /// The tracks of another stream.
    pub fn open(&mut self, now: Instant, name: &str) -> Arc<StreamTracks> {
        let slot = self.free_slots.pop_front().unwrap_or_else(|| {
            self.slots += 1;
            StreamSlot(self.slots - 1)
        });
        let ssrcs = loop {
            self.made = self.made.wrapping_add(1);
            if let Some(ssrcs) = ssrcs(self.made, self.mask) {
                break ssrcs;
            }
        };
        let key = StreamKey {
            slot,
            serial: self.made,
        };
        Arc::new(StreamTracks::new(key, name, ssrcs, self.inboxes.clone(), now))
    }

    /// Slots that are free.
    #[cfg(test)]
    pub(super) fn free_slots(&self) -> impl Iterator<Item = StreamSlot> {
        self.free_slots.iter().copied()
    }

    /// No command mentions the stream any more: its slot is free for another.
    pub fn close(&mut self, key: StreamKey) {
        self.free_slots.push_back(key.slot);
    }
}

/// Video, RTX of the video, audio; `None` for the one stream that would have 0, which some receivers take for no SSRC at all. The
/// number after video's is for what we tell its publisher.
///
/// A member of a room is sent many streams under one key, one after the other in the same place, too: an SSRC that came again would
/// seal an index twice. Multiplication by an odd number hits every number once before it repeats.
fn ssrcs(stream: u32, mask: u32) -> Option<[Ssrc; 3]> {
    const SCATTER: u32 = 0x9E37_79B1;
    let base = (stream.wrapping_mul(SCATTER) ^ mask) << 2;
    (base > 0).then_some([base, base | 2, base | 3].map(Ssrc))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_streams_share_an_ssrc() {
        for mask in [0, 1, 0xffff_ffff, 0x1234_5678] {
            let mut seen = BTreeSet::new();
            for (stream, [video, rtx, audio]) in (1..100_000).filter_map(|stream| Some((stream, ssrcs(stream, mask)?)))
            {
                let all = [video, Ssrc(video.0 ^ 1), rtx, audio];
                assert!(
                    all.into_iter().all(|ssrc| ssrc.0 > 1 && seen.insert(ssrc)),
                    "{mask} {stream}"
                );
            }
        }
    }

    #[test]
    fn the_place_that_was_free_for_longest_is_taken_first() {
        let mut maker = TrackMaker::new(Arc::new([]), 7);
        let now = onecast_udp::clock::now();
        let open = |maker: &mut TrackMaker| maker.open(now, "x").key;
        let keys: Vec<StreamKey> = (0..3).map(|_| open(&mut maker)).collect();
        assert_eq!(keys.iter().map(|key| key.slot.0).collect::<Vec<_>>(), [0, 1, 2]);
        maker.close(keys[1]);
        maker.close(keys[0]);
        assert_eq!(
            [open(&mut maker).slot, open(&mut maker).slot, open(&mut maker).slot],
            [1, 0, 3].map(StreamSlot)
        );
    }
}

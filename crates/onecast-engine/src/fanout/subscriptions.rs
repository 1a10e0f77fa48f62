//! The books of what a member is sent: where its viewers are, and whose SSRCs it hears.

use std::collections::VecDeque;

use crate::media::StreamTracks;
use crate::media::lane::StreamKey;

/// The streams that a member is sent, each at most once.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// In the order of their slots.
    list: Vec<Subscription>,
    /// SSRC and slot, in the order of the SSRCs.
    ssrcs: Vec<(u32, u32)>,
    /// Streams that it was sent before, the latest last.
    former: VecDeque<StreamKey>,
    /// Whose sender reports are next.
    next: usize,
}

/// One stream that a member is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    pub(super) key: StreamKey,
    /// Its viewer's place in the stream.
    pub(super) position: u32,
}

impl Subscriptions {
    /// Streams that one member may be sent: more than the largest rooms have.
    pub(super) const MAX: usize = 1_024;
    /// Former streams that are remembered, so that their numbering is never begun again. A room tells of changes in their order; one
    /// that overtook a thousand others is no more on its way.
    const FORMER_MAX: usize = 1_024;

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Subscription] {
        &self.list
    }

    /// Whether the stream may be added: there is room, and it was not sent before.
    pub(super) fn may_add(&self, key: StreamKey) -> bool {
        let is_new = self.position(key.slot).is_none() && !self.former.contains(&key);
        is_new && self.list.len() < Subscriptions::MAX
    }

    /// Where the member's viewer is in the stream at a slot.
    pub(super) fn position(&self, slot: u32) -> Option<u32> {
        Some(self.list[self.find(slot).ok()?].position)
    }

    /// The stream at a slot, if it is sent that.
    pub(super) fn key(&self, slot: u32) -> Option<StreamKey> {
        Some(self.list[self.find(slot).ok()?].key)
    }

    /// The slot of the stream that has this SSRC.
    pub(super) fn slot_of(&self, ssrc: u32) -> Option<u32> {
        let at = self.ssrcs.binary_search_by_key(&ssrc, |(known, _)| *known).ok()?;
        Some(self.ssrcs[at].1)
    }

    pub(super) fn set_position(&mut self, slot: u32, position: u32) {
        if let Ok(at) = self.find(slot) {
            self.list[at].position = position;
        }
    }

    pub(super) fn add(&mut self, tracks: &StreamTracks, position: u32) {
        let key = tracks.key;
        if let Err(at) = self.find(key.slot) {
            self.list.insert(at, Subscription { key, position });
            for ssrc in [tracks.audio.ssrc(), tracks.video.ssrc()] {
                let at = self.ssrcs.partition_point(|(known, _)| *known < ssrc);
                self.ssrcs.insert(at, (ssrc, key.slot));
            }
        }
    }

    /// Takes the stream at a slot out of the books.
    pub(super) fn remove(&mut self, slot: u32) {
        let Ok(at) = self.find(slot) else { return };
        let Subscription { key, .. } = self.list.remove(at);
        self.ssrcs.retain(|(_, of)| *of != slot);
        if self.former.len() == Subscriptions::FORMER_MAX {
            self.former.pop_front();
        }
        self.former.push_back(key);
    }

    /// The one whose sender reports are next, all in turn.
    pub(super) fn next_to_report(&mut self) -> Option<Subscription> {
        let at = if self.next < self.list.len() { self.next } else { 0 };
        self.next = at + 1;
        self.list.get(at).copied()
    }

    fn find(&self, slot: u32) -> Result<usize, usize> {
        self.list.binary_search_by_key(&slot, |known| known.key.slot)
    }
}

//! Which streams a peer is sent, and where its subscribers are in them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use onecast_rtc::SrtpKeys;
use onecast_rtc::rtp::Ssrc;

use super::ids::SubscriberPosition;
use super::stream::ShardStream;
use crate::media::lane::{StreamKey, StreamSlot};
use crate::media::{StreamTracks, TrackLocalStaticRtp};

/// The streams that a peer is sent.
pub(super) enum Subscriptions {
    /// One at most, for the life of the peer. It is kept inline, because most peers are viewers. `None` for a publisher, and when the
    /// stream's slot has been given to another stream.
    One(Option<Subscription>),
    /// A set that changes: the peer is a member of a room.
    Many(Box<Changing>),
}

/// One stream that a peer is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    pub(super) key: StreamKey,
    /// Where its subscriber is in the stream.
    pub(super) position: SubscriberPosition,
}

/// The streams that a member of a room is sent, each at most once.
pub(super) struct Changing {
    /// Each subscription has a sealer of its own, made from them.
    keys: SrtpKeys,
    /// In the order of their slots.
    list: Vec<Subscription>,
    /// SSRC and slot, in the order of the SSRCs.
    ssrcs: Vec<(Ssrc, StreamSlot)>,
    /// Streams that it was sent before, the latest last.
    former: VecDeque<StreamKey>,
    /// Whose sender reports are next.
    next: usize,
    /// When the next sender reports are due.
    report_at: Instant,
    /// Until when RTCP from the client shows that it is ready to receive.
    ready_until: Instant,
    /// It has been sent a whole keyframe of any stream.
    has_picture: bool,
}

impl Subscriptions {
    pub(super) fn one() -> Subscriptions {
        Subscriptions::One(None)
    }

    /// A changing set of a peer that has just connected.
    pub(super) fn many(keys: &SrtpKeys, now: Instant) -> Subscriptions {
        Subscriptions::Many(Box::new(Changing {
            keys: keys.clone(),
            list: Vec::new(),
            ssrcs: Vec::new(),
            former: VecDeque::new(),
            next: 0,
            report_at: now,
            ready_until: now + Changing::READY_WITHIN,
            has_picture: false,
        }))
    }

    /// All of them.
    #[inline]
    pub(super) fn all(&self) -> &[Subscription] {
        match self {
            Subscriptions::One(one) => one.as_slice(),
            Subscriptions::Many(many) => &many.list,
        }
    }

    /// Where the peer's subscriber is in the stream at a slot.
    #[inline]
    pub(super) fn position(&self, slot: StreamSlot) -> Option<SubscriberPosition> {
        Some(self.get(slot)?.position)
    }

    /// The stream at a slot, if the peer is sent it.
    pub(super) fn key(&self, slot: StreamSlot) -> Option<StreamKey> {
        Some(self.get(slot)?.key)
    }

    /// Whether it is a viewer's: there is one at most.
    pub(super) fn is_single(&self) -> bool {
        matches!(self, Subscriptions::One(_))
    }

    /// The slot of the stream that a report on this SSRC may be about.
    pub(super) fn slot_of(&self, ssrc: Ssrc) -> Option<StreamSlot> {
        match self {
            // The stream itself knows its SSRCs.
            Subscriptions::One(one) => one.map(|one| one.key.slot),
            Subscriptions::Many(many) => {
                let at = many.ssrcs.binary_search_by_key(&ssrc, |(known, _)| *known).ok()?;
                Some(many.ssrcs[at].1)
            }
        }
    }

    /// Whether a subscription to the stream may begin: there is room, and it was not sent before.
    pub(super) fn may_add(&self, key: StreamKey) -> bool {
        match self {
            Subscriptions::One(one) => one.is_none(),
            Subscriptions::Many(many) => {
                let is_new = many.find(key.slot).is_err() && !many.former.contains(&key);
                is_new && many.list.len() < Changing::MAX
            }
        }
    }

    pub(super) fn add(&mut self, tracks: &StreamTracks, position: SubscriberPosition) {
        let one = Subscription {
            key: tracks.key,
            position,
        };
        match self {
            Subscriptions::One(place) => *place = Some(one),
            Subscriptions::Many(many) => many.add(tracks, one),
        }
    }

    pub(super) fn set_position(&mut self, slot: StreamSlot, position: SubscriberPosition) {
        let one = match self {
            Subscriptions::One(one) => one.as_mut().filter(|one| one.key.slot == slot),
            Subscriptions::Many(many) => many.find(slot).ok().map(|at| &mut many.list[at]),
        };
        if let Some(one) = one {
            one.position = position;
        }
    }

    /// The subscription to the stream at a slot has ended.
    pub(super) fn remove(&mut self, slot: StreamSlot) {
        match self {
            Subscriptions::One(one) => *one = one.filter(|one| one.key.slot != slot),
            Subscriptions::Many(many) => many.remove(slot),
        }
    }

    /// The keys from which further subscriptions are sealed; `None` if there are none to come.
    pub(super) fn keys(&self) -> Option<&SrtpKeys> {
        match self {
            Subscriptions::One(_) => None,
            Subscriptions::Many(many) => Some(&many.keys),
        }
    }

    /// RTCP of the peer has come. Returns the streams that it is ready to receive by that: a member's are looked through only while it
    /// is new, because it may have a thousand.
    pub(super) fn ready(&self, now: Instant) -> &[Subscription] {
        match self {
            Subscriptions::Many(many) if now >= many.ready_until => &[],
            _ => self.all(),
        }
    }

    /// The peer has been sent a whole keyframe. True if that is worth an event: of many streams only the first picture is.
    pub(super) fn is_first_picture(&mut self) -> bool {
        match self {
            Subscriptions::One(_) => true,
            Subscriptions::Many(many) => !std::mem::replace(&mut many.has_picture, true),
        }
    }

    fn get(&self, slot: StreamSlot) -> Option<&Subscription> {
        match self {
            Subscriptions::One(one) => one.as_ref().filter(|one| one.key.slot == slot),
            Subscriptions::Many(many) => many.list.get(many.find(slot).ok()?),
        }
    }
}

impl Changing {
    /// Streams that one member may be sent: more than the largest rooms have.
    const MAX: usize = 1_024;
    /// Former streams that are remembered, so that their numbering never begins again. A room sends its changes in order; one that was
    /// overtaken by a thousand others is no longer on its way.
    const FORMER_MAX: usize = 1_024;
    /// RTCP within this time of connecting shows that the receiver is ready to start.
    const READY_WITHIN: Duration = Duration::from_millis(100);
    /// The sender reports of all streams go out in so many turns.
    const REPORT_TURNS: u32 = 8;

    /// When the next sender reports are due.
    pub(super) fn report_at(&self) -> Option<Instant> {
        (!self.list.is_empty()).then_some(self.report_at)
    }

    /// Sender reports are due: how many streams have their turn now, and when the next turn is.
    pub(super) fn begin_reports(&mut self, now: Instant) -> usize {
        self.report_at = now + ShardStream::REPORT_INTERVAL / Changing::REPORT_TURNS;
        let turn = self.list.len().div_ceil(Changing::REPORT_TURNS as usize);
        // What the send queue is asked to have room for.
        turn.min(ShardStream::SHARE_MAX / 2)
    }

    /// The stream whose sender reports are next, all in turn.
    pub(super) fn next_to_report(&mut self) -> Option<Subscription> {
        let at = if self.next < self.list.len() { self.next } else { 0 };
        self.next = at + 1;
        self.list.get(at).copied()
    }

    fn add(&mut self, tracks: &StreamTracks, one: Subscription) {
        let slot = one.key.slot;
        let Err(at) = self.find(slot) else { return };
        self.list.insert(at, one);
        for ssrc in tracks.all().map(TrackLocalStaticRtp::ssrc) {
            let at = self.ssrcs.partition_point(|(known, _)| *known < ssrc);
            self.ssrcs.insert(at, (ssrc, slot));
        }
    }

    fn remove(&mut self, slot: StreamSlot) {
        let Ok(at) = self.find(slot) else { return };
        let Subscription { key, .. } = self.list.remove(at);
        self.ssrcs.retain(|(_, of)| *of != slot);
        if self.former.len() == Changing::FORMER_MAX {
            self.former.pop_front();
        }
        self.former.push_back(key);
    }

    fn find(&self, slot: StreamSlot) -> Result<usize, usize> {
        self.list.binary_search_by_key(&slot, |known| known.key.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Inbox, Wake};
    use onecast_rtc::{DtlsRole, Profile};

    struct Silent;

    impl Wake for Silent {
        fn wake(&self) {}
    }

    fn tracks(slot: u32, serial: u32) -> StreamTracks {
        let inbox = Inbox::new(Box::new(Silent));
        let ssrcs = [1, 2, 3].map(|ssrc| Ssrc(100 * serial + ssrc));
        let key = key(slot, serial);
        StreamTracks::new(key, "live", ssrcs, [inbox].into(), onecast_udp::clock::now())
    }

    fn key(slot: u32, serial: u32) -> StreamKey {
        let slot = StreamSlot(slot);
        StreamKey { slot, serial }
    }

    fn at(position: usize) -> SubscriberPosition {
        SubscriberPosition::new(position)
    }

    fn many(now: Instant) -> Subscriptions {
        let profile = Profile::AeadAes128Gcm;
        let material = vec![7; profile.keying_material_len()];
        let keys = SrtpKeys::from_keying_material(profile, &material, DtlsRole::Server).unwrap();
        Subscriptions::many(&keys, now)
    }

    fn slots(subscriptions: &[Subscription]) -> Vec<u32> {
        subscriptions.iter().map(|one| one.key.slot.0).collect()
    }

    #[test]
    fn a_single_subscription_needs_no_allocation() {
        assert!(size_of::<Subscriptions>() <= 16);
        let (mut one, tracks) = (Subscriptions::one(), tracks(4, 1));
        let [four, five] = [4, 5].map(StreamSlot);
        assert!(one.all().is_empty() && one.may_add(tracks.key));
        one.add(&tracks, at(9));
        assert_eq!((one.position(four), one.position(five)), (Some(at(9)), None));
        assert_eq!(one.slot_of(Ssrc(12_345)), Some(four), "the stream knows its own SSRCs");
        assert!(!one.may_add(key(5, 2)));
        one.set_position(four, at(3));
        one.remove(five);
        assert_eq!(one.position(four), Some(at(3)));
        one.remove(four);
        assert!(one.all().is_empty());
    }

    #[test]
    fn reports_find_their_stream_by_ssrc() {
        let mut many = many(onecast_udp::clock::now());
        for (slot, serial) in [(7, 1), (2, 2), (5, 3)] {
            many.add(&tracks(slot, serial), at(0));
        }
        assert_eq!(slots(many.all()), [2, 5, 7]);
        assert_eq!(
            [101, 203, 102].map(|ssrc| many.slot_of(Ssrc(ssrc))),
            [Some(StreamSlot(7)), Some(StreamSlot(2)), None]
        );
        many.remove(StreamSlot(2));
        assert_eq!(
            [203, 303].map(|ssrc| many.slot_of(Ssrc(ssrc))),
            [None, Some(StreamSlot(5))]
        );
    }

    #[test]
    fn a_stream_that_has_ended_never_begins_again() {
        let mut many = many(onecast_udp::clock::now());
        let first = tracks(3, 1);
        many.add(&first, at(0));
        many.remove(StreamSlot(3));
        assert!(!many.may_add(first.key) && many.may_add(key(3, 2)));
    }

    #[test]
    fn early_rtcp_shows_that_a_member_is_ready() {
        let now = onecast_udp::clock::now();
        let (mut many, mut one, tracks) = (many(now), Subscriptions::one(), tracks(3, 1));
        many.add(&tracks, at(0));
        one.add(&tracks, at(0));
        let later = now + Changing::READY_WITHIN;
        assert_eq!((many.ready(now).len(), many.ready(later).len()), (1, 0));
        assert_eq!((one.ready(now).len(), one.ready(later).len()), (1, 1));
    }

    #[test]
    fn every_stream_has_its_sender_reports_in_turn() {
        let now = onecast_udp::clock::now();
        let mut many = many(now);
        (0..20).for_each(|slot| many.add(&tracks(slot, slot + 1), at(0)));
        let Subscriptions::Many(many) = &mut many else {
            unreachable!()
        };
        let mut reported = Vec::new();
        for turn in 0..8 {
            for _ in 0..many.begin_reports(now + turn * ShardStream::REPORT_INTERVAL / 8) {
                reported.extend(many.next_to_report().map(|one| one.key.slot.0));
            }
        }
        reported.truncate(20);
        assert_eq!(reported, (0..20).collect::<Vec<_>>());
        assert_eq!(many.report_at(), Some(now + ShardStream::REPORT_INTERVAL));
    }
}

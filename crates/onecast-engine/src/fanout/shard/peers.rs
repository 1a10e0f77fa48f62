//! The peers of a shard.

use std::sync::Arc;
use std::time::Instant;

use onecast_rtc::Transport;
use onecast_rtc::transmit::SendQueue;

use crate::fanout::ids::{PeerIndex, SubscriberPosition};
use crate::fanout::peer_media::PeerMedia;
use crate::fanout::published_stream::PublishedStream;
use crate::fanout::session::Session;
use crate::fanout::slab::Slab;
use crate::fanout::subscriptions::{Subscription, Subscriptions};
use crate::media::StreamTracks;
use crate::media::lane::StreamSlot;

/// All peers, by index.
pub(super) struct Peers {
    slab: Slab<Peer>,
    /// Peers that may send media: publishers, and members of rooms.
    senders: Vec<PeerIndex>,
    /// Peers for which there is a new plan.
    changed: Vec<PeerIndex>,
}

/// One connected client, or one whose handshake is under way.
pub(super) struct Peer {
    pub(super) session: Arc<Session>,
    pub(super) transport: Transport,
    /// `None` until the handshake has finished. Boxed, because slabs grow by doubling.
    pub(super) media: Option<Box<PeerMedia>>,
    /// The earliest deadline that is in the shard's timers.
    pub(super) timer_at: Option<Instant>,
}

impl Peers {
    pub(super) fn new() -> Peers {
        Peers {
            slab: Slab::new(),
            senders: Vec::new(),
            changed: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn indices(&self) -> Vec<PeerIndex> {
        self.slab.indices()
    }

    #[inline]
    pub(super) fn get(&self, index: PeerIndex) -> Option<&Peer> {
        self.slab.get(index)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: PeerIndex) -> Option<&mut Peer> {
        self.slab.get_mut(index)
    }

    /// Changes when the index is given to another peer.
    #[inline]
    pub(super) fn generation(&self, index: PeerIndex) -> u32 {
        self.slab.generation(index)
    }

    /// The index that the next peer gets.
    pub(super) fn vacant(&self) -> PeerIndex {
        self.slab.vacant()
    }

    pub(super) fn insert(&mut self, peer: Peer) -> PeerIndex {
        self.slab.insert(peer)
    }

    pub(super) fn remove(&mut self, index: PeerIndex) -> Option<Peer> {
        let peer = self.slab.remove(index)?;
        if peer.media.as_ref().is_some_and(|media| media.receiver.is_some()) {
            self.senders.retain(|&sender| sender != index);
        }
        Some(peer)
    }

    /// The handshake of a peer has finished.
    pub(super) fn set_connected(&mut self, index: PeerIndex, media: PeerMedia) {
        if let Some(peer) = self.get_mut(index) {
            let sends = media.receiver.is_some();
            peer.media = Some(Box::new(media));
            if sends {
                self.senders.push(index);
            }
        }
    }

    /// The peer that may send media at a position of the list of all that do.
    pub(super) fn sender(&self, position: usize) -> Option<PeerIndex> {
        self.senders.get(position).copied()
    }

    /// Notes that there is a new plan for a peer.
    pub(super) fn note_change(&mut self, index: PeerIndex) {
        if !self.changed.contains(&index) {
            self.changed.push(index);
        }
    }

    pub(super) fn poll_changed(&mut self) -> Option<PeerIndex> {
        self.changed.pop()
    }

    /// What a connected peer is sent.
    #[inline]
    pub(super) fn subscriptions(&self, index: PeerIndex) -> Option<&Subscriptions> {
        Some(&self.get(index)?.media.as_ref()?.subscriptions)
    }

    fn subscriptions_mut(&mut self, index: PeerIndex) -> Option<&mut Subscriptions> {
        Some(&mut self.get_mut(index)?.media.as_mut()?.subscriptions)
    }

    /// Where a peer's subscriber is in the stream at a slot.
    #[inline]
    pub(super) fn position(&self, index: PeerIndex, slot: StreamSlot) -> Option<SubscriberPosition> {
        self.subscriptions(index)?.position(slot)
    }

    pub(super) fn add_subscription(&mut self, index: PeerIndex, tracks: &StreamTracks, position: SubscriberPosition) {
        if let Some(subscriptions) = self.subscriptions_mut(index) {
            subscriptions.add(tracks, position);
        }
    }

    pub(super) fn set_position(&mut self, index: PeerIndex, slot: StreamSlot, now_at: SubscriberPosition) {
        if let Some(subscriptions) = self.subscriptions_mut(index) {
            subscriptions.set_position(slot, now_at);
        }
    }

    /// The peer's subscription to the stream at a slot has ended.
    pub(super) fn remove_subscription(&mut self, index: PeerIndex, slot: StreamSlot) {
        if let Some(subscriptions) = self.subscriptions_mut(index) {
            subscriptions.remove(slot);
        }
    }
}

impl Peer {
    /// A peer whose handshake begins.
    pub(super) fn new(session: Arc<Session>, transport: Transport) -> Peer {
        Peer {
            session,
            transport,
            media: None,
            timer_at: None,
        }
    }

    /// The streams that it sends.
    pub(super) fn sources(&mut self) -> &mut [PublishedStream] {
        let receiver = self.media.as_mut().and_then(|media| media.receiver.as_mut());
        receiver.map_or(&mut [], |receiver| receiver.sources())
    }

    /// The streams that it is sent.
    #[inline]
    pub(super) fn subscriptions(&self) -> &[Subscription] {
        self.media.as_ref().map_or(&[], |media| media.subscriptions.all())
    }

    /// It has been sent a whole keyframe. True if that is worth an event.
    pub(super) fn is_first_picture(&mut self) -> bool {
        let media = self.media.as_mut();
        media.is_some_and(|media| media.subscriptions.is_first_picture())
    }

    /// Lets time pass for the streams that it sends.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(receiver) = self.media.as_mut().and_then(|media| media.receiver.as_mut()) {
            receiver.handle_timeout(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_rtcp`](Self::poll_rtcp) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.media.as_ref()?.receiver.as_ref()?.poll_timeout()
    }

    /// Seals the RTCP that is due about the streams that the client sends.
    pub(super) fn poll_rtcp(&mut self, now: Instant, index: PeerIndex, queue: &mut SendQueue) {
        if let (Some(media), Some(to)) = (&mut self.media, self.transport.path()) {
            media.poll_rtcp(now, to, index, queue);
        }
    }
}

//! Which layer of the video each subscriber is sent, and how it changes to another one.
//!
//! A change is a start in another layer: at a keyframe, with numbers that were not used before. Until that keyframe comes, the subscriber
//! is sent the layer that it has. No change costs a keyframe request.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::Kind;

use super::ShardStream;
use crate::fanout::ids::SubscriberPosition;
use crate::fanout::subscriber::Subscriber;
use crate::media::{LayerIndex, LayerLimit, LayerReason, RankedLayers};

impl ShardStream {
    /// A subscriber that sees another layer changes only to a keyframe that has just come: from older ones on, its decoder would have to
    /// catch up, and the picture would stand still.
    pub(super) const YOUNG: Duration = Duration::from_millis(200);
    pub(super) const YOUNG_FRAMES: u32 = 6;

    /// The live layers that a subscriber may be sent, the lowest first.
    pub(super) fn allowed_layers(&self, subscriber: &Subscriber) -> RankedLayers {
        let facts = self.tracks.video.layers();
        facts.ranked().within(&subscriber.limit(), facts)
    }

    /// Limits the layers that a subscriber may be sent. True if it can change to another one at once.
    pub fn set_limit(&mut self, now: Instant, position: SubscriberPosition, limit: LayerLimit) -> bool {
        let subscriber = &mut self.subscribers[position.index()];
        if subscriber.limit() == limit {
            return false;
        }
        subscriber.set_limit(limit);
        let subscriber = &self.subscribers[position.index()];
        let allowed = self.allowed_layers(subscriber);
        let Some(highest) = allowed.as_slice().last().copied() else {
            return false;
        };
        let present = subscriber.next_layer.unwrap_or(subscriber.layer);
        if allowed.contains(present) {
            return false;
        }
        self.want_layer(now, position, highest, LayerReason::Limit);
        !self.subscribers[position.index()].starting && self.video(highest).is_young()
    }

    /// The subscriber is to be sent another layer, from its next keyframe on.
    pub(super) fn want_layer(
        &mut self,
        now: Instant,
        position: SubscriberPosition,
        layer: LayerIndex,
        reason: LayerReason,
    ) {
        let subscriber = &mut self.subscribers[position.index()];
        let wanted = (layer != subscriber.layer).then_some(layer);
        if subscriber.next_layer == wanted || subscriber.forwarder(Kind::Video).is_none() {
            return;
        }
        subscriber.layer_reason = reason;
        let before = std::mem::replace(&mut subscriber.next_layer, wanted);
        if let Some(layer) = wanted {
            self.bind(now, Kind::Video, layer);
        }
        if let Some(layer) = before {
            self.unbind(Kind::Video, layer);
        }
    }

    /// The subscriber has started in the layer that it was to be sent.
    pub(super) fn end_change(&mut self, position: SubscriberPosition) {
        let subscriber = &mut self.subscribers[position.index()];
        if let Some(layer) = subscriber.next_layer.take() {
            let before = std::mem::replace(&mut subscriber.layer, layer);
            self.unbind(Kind::Video, before);
        }
    }

    /// A layer has come or gone. Subscribers of one that has gone start in the best of those that remain, at once.
    pub(super) fn follow_layers(&mut self, now: Instant) {
        let live = self.tracks.video.layers().ranked();
        for place in 0..self.subscribers.len() {
            self.follow_layers_of(now, SubscriberPosition::new(place), &live);
        }
    }

    fn follow_layers_of(&mut self, now: Instant, position: SubscriberPosition, live: &RankedLayers) {
        let subscriber = &self.subscribers[position.index()];
        let (present, next, reason) = (subscriber.layer, subscriber.next_layer, subscriber.layer_reason);
        let allowed = self.allowed_layers(subscriber);
        let is_limited = !allowed.contains(present) && subscriber.limit.is_some();
        if live.contains(present) {
            if next.is_some_and(|layer| !live.contains(layer)) {
                self.want_layer(now, position, present, reason);
            } else if let (Some(highest), true, None) = (allowed.as_slice().last(), is_limited, next) {
                // The layer that it was limited to is back.
                self.want_layer(now, position, *highest, LayerReason::Limit);
            }
            return;
        }
        let Some(best) = self.best_instead_of(present, &allowed) else {
            return;
        };
        self.want_layer(now, position, best, LayerReason::Gone);
        let subscriber = &mut self.subscribers[position.index()];
        if let Some(forwarder) = subscriber.forwarder(Kind::Video) {
            forwarder.await_keyframe();
        }
        if let Some(sender) = self.senders.get_mut(super::place_of(Kind::Video, best)) {
            sender.waiting.note_stranded();
        }
    }

    /// The best live layer that is no larger than one that has gone; if there is none, the smallest.
    fn best_instead_of(&self, gone: LayerIndex, live: &RankedLayers) -> Option<LayerIndex> {
        let facts = self.tracks.video.layers();
        let limit = facts.read(gone);
        let is_no_larger = |layer: &&LayerIndex| facts.read(**layer).is_within(&limit);
        let layers = live.as_slice();
        layers.iter().rev().find(is_no_larger).or(layers.first()).copied()
    }
}

//! Which layer of the video each subscriber is sent, and how it changes to another one.
//!
//! A change is a start in another layer: at a keyframe, with numbers that were not used before. Until that keyframe comes, the subscriber
//! is sent the layer that it has. No change costs a keyframe request.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::Kind;

use super::ShardStream;
use crate::fanout::ids::SubscriberPosition;
use crate::media::{LayerIndex, RankedLayers};

impl ShardStream {
    /// A subscriber that sees another layer changes only to a keyframe that has just come: from older ones on, its decoder would have to
    /// catch up, and the picture would stand still.
    pub(super) const YOUNG: Duration = Duration::from_millis(200);
    pub(super) const YOUNG_FRAMES: u32 = 6;

    /// The subscriber is to be sent another layer, from its next keyframe on.
    pub fn want_layer(&mut self, now: Instant, position: SubscriberPosition, layer: LayerIndex) {
        let subscriber = &mut self.subscribers[position.index()];
        let wanted = (layer != subscriber.layer).then_some(layer);
        if subscriber.next_layer == wanted || subscriber.forwarder(Kind::Video).is_none() {
            return;
        }
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
        let ranked = self.tracks.video.layers().ranked();
        for place in 0..self.subscribers.len() {
            let position = SubscriberPosition::new(place);
            self.follow_layers_of(now, position, &ranked);
        }
    }

    fn follow_layers_of(&mut self, now: Instant, position: SubscriberPosition, ranked: &RankedLayers) {
        let subscriber = &mut self.subscribers[position.index()];
        let present = subscriber.layer;
        let next_is_gone = subscriber.next_layer.is_some_and(|layer| !ranked.contains(layer));
        if ranked.contains(present) {
            if next_is_gone {
                self.want_layer(now, position, present);
            }
            return;
        }
        let Some(best) = self.best_instead_of(present, ranked) else {
            return;
        };
        self.want_layer(now, position, best);
        let subscriber = &mut self.subscribers[position.index()];
        if let Some(forwarder) = subscriber.forwarder(Kind::Video) {
            forwarder.await_keyframe();
        }
        if let Some(sender) = self.senders.get_mut(super::place_of(Kind::Video, best)) {
            sender.waiting.note_stranded();
        }
    }

    /// The best live layer that is no larger than one that has gone; if there is none, the smallest.
    fn best_instead_of(&self, gone: LayerIndex, ranked: &RankedLayers) -> Option<LayerIndex> {
        let facts = self.tracks.video.layers();
        let limit = facts.read(gone);
        let is_no_larger = |layer: &&LayerIndex| facts.read(**layer).is_within(&limit);
        let layers = ranked.as_slice();
        layers.iter().rev().find(is_no_larger).or(layers.first()).copied()
    }
}

//! Which layer of the video each subscriber is sent, and how it changes to another one.
//!
//! A change is a start in another layer: at a keyframe, with numbers that were not used before. Until that keyframe comes, the subscriber
//! is sent the layer that it has. All that wait for one change in the same batch. Encoders that make keyframes of their own are waited for;
//! others, as those of browsers, are asked for one, every 2.2 s at most. That is what encoders with regular keyframes spend on them.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::Kind;

use super::ShardStream;
use super::output::LayerChange;
use super::sender::TrackSender;
use crate::fanout::ids::SubscriberPosition;
use crate::fanout::subscriber::Subscriber;
use crate::media::{KeyframeNeed, LayerIndex, LayerLimit, LayerReason, RankedLayers, Rendition, Target};

/// Subscribers that wait to change to another layer.
#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: usize,
    /// Since when one has waited, or since the last keyframe to which one has changed.
    since: Option<Instant>,
}

impl Changes {
    fn begin(&mut self, now: Instant) {
        self.waiting += 1;
        self.since.get_or_insert(now);
    }

    /// One waits no longer.
    pub(super) fn end(&mut self) {
        self.waiting -= 1;
        self.since = self.since.filter(|_| self.waiting > 0);
    }

    /// One has changed. The others can with the same picture.
    fn note_change(&mut self, now: Instant) {
        self.end();
        self.since = self.since.and(Some(now));
    }
}

impl ShardStream {
    /// A subscriber that sees another layer changes only to a keyframe that has just come: from older ones on, its decoder would have to
    /// catch up, and the picture would stand still.
    pub(super) const YOUNG: Duration = Duration::from_millis(200);
    pub(super) const YOUNG_FRAMES: u32 = 6;
    /// An encoder that makes no keyframes of its own is asked for one when a change has waited for so long,
    const CHANGE_WAIT: Duration = Duration::from_millis(500);
    /// but no more often than others make them: every 2 s is usual.
    const OFTEN: Duration = Duration::from_millis(2_200);

    /// The live layers that a subscriber may be sent, the lowest first.
    pub(super) fn allowed_layers(&self, subscriber: &Subscriber) -> RankedLayers {
        let facts = self.tracks.video.layers();
        let allowed = facts.ranked().within(&subscriber.limit(), facts);
        match subscriber.has_descriptor() {
            true => allowed,
            false => allowed.without_descriptor(facts),
        }
    }

    /// Limits the layers that a subscriber may be sent. True if it can change to another one at once.
    pub fn set_limit(&mut self, now: Instant, position: SubscriberPosition, limit: LayerLimit) -> bool {
        let subscriber = &mut self.subscribers[position.index()];
        if subscriber.limit() == limit {
            return false;
        }
        subscriber.set_limit(limit);
        if self.limit_choice(now, position) {
            return self.may_change_now(position);
        }
        let subscriber = &self.subscribers[position.index()];
        let allowed = self.allowed_layers(subscriber);
        let Some(highest) = allowed.as_slice().last().copied() else {
            return false;
        };
        let present = subscriber.next_rendition().unwrap_or(subscriber.rendition).layer;
        if allowed.contains(present) {
            return false;
        }
        self.want_layer(now, position, highest, LayerReason::Limit);
        self.may_change_now(position)
    }

    fn may_change_now(&self, position: SubscriberPosition) -> bool {
        let subscriber = &self.subscribers[position.index()];
        let next = subscriber.next_rendition().map(|rendition| self.video(rendition));
        !subscriber.starting && next.is_some_and(TrackSender::is_young)
    }

    /// What a subscriber can be sent of a layer: of AV1 with spatial layers, without the dependency descriptor, only the lowest. Players that
    /// did not negotiate it would show nothing at all.
    pub(super) fn rendition_of(&self, subscriber: &Subscriber, layer: LayerIndex) -> Rendition {
        let facts = self.tracks.video.layers().read(layer);
        let mut rendition = Rendition::from(layer);
        if let Some(spatial) = facts.part {
            rendition.encoding = LayerIndex::FIRST;
            rendition.target = Target::up_to(spatial, u8::MAX);
        }
        if facts.needs_descriptor && !subscriber.has_descriptor() {
            rendition.target = Target::LOWEST;
        }
        rendition
    }

    /// The subscriber is to be sent another layer, from its next keyframe on.
    pub(super) fn want_layer(
        &mut self,
        now: Instant,
        position: SubscriberPosition,
        layer: LayerIndex,
        reason: LayerReason,
    ) {
        let rendition = self.rendition_of(&self.subscribers[position.index()], layer);
        self.want(now, position, rendition, reason);
    }

    /// The subscriber is to be sent something else of the video.
    pub(super) fn want(
        &mut self,
        now: Instant,
        position: SubscriberPosition,
        rendition: Rendition,
        reason: LayerReason,
    ) {
        let subscriber = &mut self.subscribers[position.index()];
        let wanted = (rendition != subscriber.rendition).then_some(rendition);
        if subscriber.next_rendition() == wanted || subscriber.forwarder(Kind::Video).is_none() {
            return;
        }
        let layers = subscriber.layers_mut();
        layers.reason = reason;
        let before = std::mem::replace(&mut layers.next, wanted);
        if let Some(rendition) = wanted {
            self.changes.begin(now);
            self.bind(now, Kind::Video, rendition);
        }
        if let Some(rendition) = before {
            self.changes.end();
            self.unbind(Kind::Video, rendition);
        }
    }

    /// Asks for the keyframe that changes have waited for too long.
    pub(super) fn ask_for_change(&mut self, now: Instant) {
        let is_long = |since: Instant| now >= since + ShardStream::CHANGE_WAIT;
        if self.changes.since.is_some_and(is_long) && self.keyframe_age() >= ShardStream::OFTEN {
            self.changes.since = Some(now);
            self.tracks.request_keyframe(KeyframeNeed::Urgent);
        }
    }

    /// Since the newest keyframe of any layer that subscribers are sent.
    fn keyframe_age(&self) -> Duration {
        let video = self.senders[Kind::Video as usize..].iter();
        let gops = video
            .filter(|sender| sender.subscribers > 0)
            .map(|sender| sender.window.gop());
        let newest = gops.filter(|gop| gop.start().is_some()).map(|gop| gop.age()).min();
        newest.unwrap_or(Duration::MAX)
    }

    /// The subscriber has started in what it was to be sent.
    pub(super) fn end_change(&mut self, now: Instant, position: SubscriberPosition) {
        let subscriber = &mut self.subscribers[position.index()];
        if let Some(rendition) = subscriber.take_next_rendition() {
            self.changes.note_change(now);
            let before = std::mem::replace(&mut subscriber.rendition, rendition);
            self.unbind(Kind::Video, before);
        }
    }

    /// Goes on with a part of what a subscriber is sent, if a picture has just ended. Returns the layer if that is another one.
    pub(super) fn narrow(&mut self, now: Instant, position: SubscriberPosition) -> Option<LayerChange> {
        let subscriber = &self.subscribers[position.index()];
        let (present, next) = (subscriber.rendition, subscriber.next_rendition()?);
        if !next.is_part_of(&present) {
            return None;
        }
        let from = self.place_of(Kind::Video, present)?;
        let to = self.place_of(Kind::Video, next)?;
        let forwarder = self.subscribers[position.index()].forwarder(Kind::Video)?;
        let newest = forwarder.ended_picture()?;
        let number = self.senders[from].index_in_layer(newest)?;
        let first = self.senders[to].index_of(number + 1)?;
        forwarder.go_on_at(first);
        self.end_change(now, position);
        self.note_choice(now, position);
        let change = self.layer_change(position);
        // The layer to change to comes next.
        self.apply_choice(now, position);
        (next.layer != present.layer).then_some(change)
    }

    /// The layer that a subscriber is sent, to be reported.
    pub(super) fn layer_change(&self, position: SubscriberPosition) -> LayerChange {
        let subscriber = &self.subscribers[position.index()];
        LayerChange {
            peer: subscriber.peer,
            stream: self.tracks.key,
            layer: subscriber.rendition.layer,
            reason: subscriber.layer_reason(),
        }
    }

    /// A layer has come or gone. Subscribers of one that has gone start in the best of those that remain, at once.
    pub(super) fn follow_layers(&mut self, now: Instant) {
        self.note_live_layers(now);
        let live = self.tracks.video.layers().ranked();
        for place in 0..self.subscribers.len() {
            self.follow_layers_of(now, SubscriberPosition::new(place), &live);
        }
    }

    fn follow_layers_of(&mut self, now: Instant, position: SubscriberPosition, live: &RankedLayers) {
        let chosen = self.update_choice(position);
        let subscriber = &self.subscribers[position.index()];
        let (present, reason) = (subscriber.rendition.layer, subscriber.layer_reason());
        let next = subscriber.next_rendition().map(|rendition| rendition.layer);
        let allowed = self.allowed_layers(subscriber);
        let is_limited = !allowed.contains(present) && subscriber.limit() != LayerLimit::default();
        if live.contains(present) {
            let wanted = match next {
                Some(next) if live.contains(next) => None,
                Some(_) => Some((present, reason)),
                None if self.has_other_frames(subscriber) => Some((present, reason)),
                // The layer that it was limited to is back.
                None if is_limited => allowed.as_slice().last().map(|highest| (*highest, LayerReason::Limit)),
                None => None,
            };
            if let Some((layer, reason)) = wanted {
                self.want_layer(now, position, layer, reason);
            }
            return;
        }
        let chosen = chosen.filter(|layer| live.contains(*layer));
        let Some(best) = chosen.or_else(|| self.best_instead_of(present, &allowed)) else {
            return;
        };
        let goes_on = live.contains(self.subscribers[position.index()].rendition.encoding);
        self.want_layer(now, position, best, LayerReason::Gone);
        if goes_on {
            // The encoder has dropped spatial layers, and what is left of them comes.
            return;
        }
        let subscriber = &mut self.subscribers[position.index()];
        if let Some(forwarder) = subscriber.forwarder(Kind::Video) {
            forwarder.await_keyframe();
        }
        let rendition = subscriber.next_rendition().unwrap_or(subscriber.rendition);
        if let Some(place) = self.place_of(Kind::Video, rendition) {
            self.senders[place].waiting.note_stranded();
        }
    }

    /// Whether a subscriber's layer is made of other frames than it was: another publisher's layers may have the same places, or the encoder
    /// has begun with spatial layers that the subscriber cannot decode.
    fn has_other_frames(&self, subscriber: &Subscriber) -> bool {
        let (present, now) = (
            subscriber.rendition,
            self.rendition_of(subscriber, subscriber.rendition.layer),
        );
        now.encoding != present.encoding || now.target.is_less_than(present.target)
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

//! What peers send and are sent: plans of the control plane, applied to the peers that they are for.

use std::sync::Arc;
use std::time::Instant;

use onecast_rtc::rtp::Kind;
use onecast_rtc::{RtpSealer, SrtpKeys};

use super::Shard;
use super::streams::Occupant;
use crate::fanout::ids::PeerIndex;
use crate::fanout::plan::{Plan, SubscriptionSpec};
use crate::fanout::published_stream::SourceConfig;
use crate::fanout::session::Session;
use crate::fanout::subscriber::Subscriber;

impl Shard {
    /// The newest plan is kept until the peer is connected, and for the shard that adopts it.
    pub(super) fn expect_plan(&mut self, session: &Session, plan: Arc<Plan>) {
        if let Some(index) = self.sessions.set_plan(session, plan) {
            self.peers.note_change(index);
        }
    }

    /// Applies the plans that have come since the last turn.
    pub(super) fn apply_plans(&mut self, now: Instant) {
        while let Some(index) = self.peers.poll_changed() {
            let Some(peer) = self.peers.get(index) else { continue };
            let expected = self.sessions.get(&peer.session);
            let plan = expected.and_then(|expected| expected.plan.clone());
            // A peer whose handshake has not finished looks its plan up when it has.
            let (Some(plan), Some(media)) = (plan, &peer.media) else {
                continue;
            };
            if plan.number > media.plan_number {
                let keys = media.subscriptions.keys().cloned();
                self.apply_plan(now, (index, keys.as_ref()), &plan, now);
            }
            self.schedule(index);
        }
    }

    /// Applies the newest plan of a peer that has just connected. Video begins a little later.
    pub(super) fn apply_first_plan(&mut self, now: Instant, index: PeerIndex, session: &Session, keys: &SrtpKeys) {
        let expected = self.sessions.get(session);
        let newer = expected.and_then(|expected| expected.plan.clone());
        let plan = newer.as_deref().unwrap_or(&session.plan);
        self.apply_plan(now, (index, Some(keys)), plan, now + Shard::START_WAIT);
    }

    /// Video begins at `start_at` at the earliest. Subscriptions are sealed from `keys`; without keys none can be added.
    fn apply_plan(
        &mut self,
        now: Instant,
        (index, keys): (PeerIndex, Option<&SrtpKeys>),
        plan: &Plan,
        start_at: Instant,
    ) {
        let config = self.source_config();
        let peer = self.peers.get_mut(index);
        let Some(media) = peer.and_then(|peer| peer.media.as_deref_mut()) else {
            return;
        };
        media.plan_number = plan.number;
        if let Some(receiver) = &mut media.receiver {
            receiver.apply(now, &plan.sources, config);
        }
        self.end_subscriptions(index, plan);
        for spec in &plan.subscriptions {
            self.subscribe(now, (index, keys), spec, start_at);
        }
    }

    fn source_config(&self) -> SourceConfig {
        SourceConfig {
            shard: self.config.id,
            keyframe_interval: self.config.pli_interval,
            keyframe_share: self.config.keyframe_share,
            cache: self.config.start.cache,
            transport_cc: false,
        }
    }

    /// Streams that the plan does not have any more are gone for good.
    fn end_subscriptions(&mut self, index: PeerIndex, plan: &Plan) {
        let Some(peer) = self.peers.get(index) else { return };
        if peer.subscriptions().is_empty() {
            return;
        }
        let mut keys: Vec<_> = plan.subscriptions.iter().map(|spec| spec.tracks.key).collect();
        keys.sort_unstable_by_key(|key| (key.slot, key.serial));
        let is_gone = |key| keys.binary_search_by_key(&key, |key| (key.slot, key.serial)).is_err();
        let all = peer.subscriptions().iter();
        let gone: Vec<_> = all
            .filter(|one| is_gone((one.key.slot, one.key.serial)))
            .copied()
            .collect();
        for one in gone {
            self.remove_subscriber(one.key.slot, one.position);
            self.peers.remove_subscription(index, one.key.slot);
        }
    }

    /// Begins to send a peer a stream, or switches its tracks.
    fn subscribe(
        &mut self,
        now: Instant,
        (index, keys): (PeerIndex, Option<&SrtpKeys>),
        spec: &SubscriptionSpec,
        start_at: Instant,
    ) {
        let key = spec.tracks.key;
        let Some(subscriptions) = self.peers.subscriptions(index) else {
            return;
        };
        if subscriptions.key(key.slot) != Some(key) {
            if let Some(keys) = keys {
                self.begin_subscription(now, (index, keys), spec, start_at);
            }
            return;
        }
        let Some(position) = self.peers.position(index, key.slot) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(key.slot) else {
            return;
        };
        let changes = stream.set_limit(now, position, spec.limit);
        stream.switch(now, position, (Kind::Audio, spec.audio.as_ref()));
        if stream.switch(now, position, (Kind::Video, spec.video.as_ref())) || changes {
            self.start_later(index, key.slot, start_at);
        }
    }

    fn begin_subscription(
        &mut self,
        now: Instant,
        (index, keys): (PeerIndex, &SrtpKeys),
        spec: &SubscriptionSpec,
        start_at: Instant,
    ) {
        let key = spec.tracks.key;
        let to = self.peers.get(index).and_then(|peer| peer.transport.path());
        let (Some(subscriptions), Some(to)) = (self.peers.subscriptions(index), to) else {
            return;
        };
        if !subscriptions.may_add(key) {
            return;
        }
        let adapts = self.config.adapts && subscriptions.is_single();
        match self.streams.occupant(key) {
            Occupant::None | Occupant::Same => {}
            Occupant::Older => self.clear_slot(key.slot),
            // The stream has ended already.
            Occupant::Newer => return,
        }
        let lines = [spec.audio.clone(), spec.video.clone()];
        let mut subscriber = Subscriber::new(index, to, now, RtpSealer::new(keys), lines);
        subscriber.set_limit(spec.limit);
        let stream = self
            .streams
            .get_or_create(now, &spec.tracks, (self.config.id, self.config.start));
        let position = stream.add(now, subscriber, adapts);
        self.peers.add_subscription(index, &spec.tracks, position);
        self.start_later(index, key.slot, start_at);
    }
}

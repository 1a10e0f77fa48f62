//! Members of rooms: what they send and are sent is brought about as their rooms decide it, and what they say of it is heard.

use super::*;
use crate::fanout::membership::SubscriptionSpec;
use crate::fanout::subscriptions::Subscriptions;

impl Shard {
    /// The newest word on a member is kept until it is connected, and for whoever adopts it.
    pub(super) fn expect_membership(&mut self, session: &Arc<Session>, membership: Arc<Membership>) {
        let Some(expected) = self.expected_session(session) else {
            return;
        };
        let is_newer = |known: &Arc<Membership>| membership.number > known.number;
        if expected.membership.as_ref().is_none_or(is_newer) {
            expected.membership = Some(membership);
            let peer = expected.peer;
            self.change_later(peer);
        }
    }

    /// The newest word on what becomes of a publisher in a room.
    pub(super) fn expect_lift(&mut self, lift: Arc<Lift>) {
        let Some(expected) = self.expected_session(&lift.session) else {
            return;
        };
        if expected.lift.as_ref().is_none_or(|known| lift.number > known.number) {
            expected.lift = Some(lift);
            let peer = expected.peer;
            self.change_later(peer);
        }
    }

    fn expected_session(&mut self, session: &Session) -> Option<&mut Expected> {
        let expected = self.sessions.get_mut(&session.local.ufrag)?;
        (expected.session.id == session.id).then_some(expected)
    }

    fn change_later(&mut self, peer: Option<u32>) {
        if let Some(index) = peer.filter(|index| !self.changed.contains(index)) {
            self.changed.push(index);
        }
    }

    /// Brings about what rooms have decided since the last turn.
    pub(super) fn bring_changes_about(&mut self, now: Instant) {
        while let Some(index) = self.changed.pop() {
            let Some(peer) = self.peers.get_mut(index) else {
                continue;
            };
            let Some(expected) = self.sessions.get(&peer.session.local.ufrag) else {
                continue;
            };
            match &mut peer.state {
                State::Publishing(publisher) => {
                    if let Some(lift) = &expected.lift {
                        publisher.lift(now, lift);
                    }
                }
                State::Member(_) => {
                    if let Some(membership) = expected.membership.clone() {
                        self.change_member(now, index, &membership, now);
                    }
                }
                // What was decided is looked up when it has its keys.
                State::Connecting | State::Viewing { .. } => {}
            }
            self.schedule(index);
        }
    }

    /// A member has its keys: what it sends and is sent begins.
    pub(super) fn add_member(&mut self, now: Instant, index: u32, membership: &Arc<Membership>, keys: &SrtpKeys) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        peer.state = State::Member(Box::new(Member::new(keys, now)));
        let expected = self.sessions.get(&peer.session.local.ufrag);
        let newer = expected.and_then(|expected| expected.membership.clone());
        let newest = newer
            .filter(|newer| newer.number > membership.number)
            .unwrap_or_else(|| membership.clone());
        self.publishers.push(index);
        self.change_member(now, index, &newest, now + Shard::START_WAIT);
    }

    /// Brings a membership about, unless it is an old one. Video begins at `start_at` at the earliest.
    fn change_member(&mut self, now: Instant, index: u32, membership: &Membership, start_at: Instant) {
        let (shard, config) = (self.config.id, self.source_config());
        let Some(State::Member(member)) = self.peers.get_mut(index).map(|peer| &mut peer.state) else {
            return;
        };
        if member.number.is_some_and(|number| number >= membership.number) {
            return;
        }
        member.number = Some(membership.number);
        member.set_sources(now, &membership.sources, shard, config);
        self.end_subscriptions(index, membership);
        for spec in &membership.subscriptions {
            self.subscribe(now, index, spec, start_at);
        }
    }

    /// Streams that are not among the subscriptions any more are gone for good.
    fn end_subscriptions(&mut self, index: u32, membership: &Membership) {
        let Some(State::Member(member)) = self.peers.get(index).map(|peer| &peer.state) else {
            return;
        };
        let mut keys: Vec<_> = membership.subscriptions.iter().map(|spec| spec.tracks.key).collect();
        keys.sort_unstable_by_key(|key| (key.slot, key.serial));
        let is_gone = |key| keys.binary_search_by_key(&key, |key| (key.slot, key.serial)).is_err();
        let all = member.subscriptions.all().iter();
        let gone: Vec<_> = all
            .filter(|one| is_gone((one.key.slot, one.key.serial)))
            .copied()
            .collect();
        for one in gone {
            self.remove_viewer(one.key.slot, one.position);
            if let Some(State::Member(member)) = self.peers.get_mut(index).map(|peer| &mut peer.state) {
                member.subscriptions.remove(one.key.slot);
            }
        }
    }

    /// Begins to send a member a stream, or switches its tracks.
    fn subscribe(&mut self, now: Instant, index: u32, spec: &SubscriptionSpec, start_at: Instant) {
        let key = spec.tracks.key;
        let Some(State::Member(member)) = self.peers.get(index).map(|peer| &peer.state) else {
            return;
        };
        if member.subscriptions.key(key.slot) != Some(key) {
            return self.begin_subscription(now, index, spec, start_at);
        }
        let shard = self.config.id;
        let Some(position) = self.position(index, key.slot) else {
            return;
        };
        let Some(stream) = self.stream(key.slot) else { return };
        stream.switch(now, position, (Kind::Audio, spec.audio.as_ref()), shard);
        if stream.switch(now, position, (Kind::Video, spec.video.as_ref()), shard) {
            self.start_later(index, key.slot, start_at);
        }
    }

    fn begin_subscription(&mut self, now: Instant, index: u32, spec: &SubscriptionSpec, start_at: Instant) {
        let Some(peer) = self.peers.get(index) else { return };
        let (State::Member(member), Some(to)) = (&peer.state, peer.transport.remote()) else {
            return;
        };
        if !member.subscriptions.may_add(spec.tracks.key) {
            return;
        }
        let ciphers = (member.subscription_sealer(), None);
        let lines = (spec.audio.clone(), spec.video.clone());
        let viewer = Viewer::new(index, to, peer.session.created, now, ciphers, lines);
        let Some(position) = self.watch(now, &spec.tracks, viewer) else {
            return;
        };
        if let Some(State::Member(member)) = self.peers.get_mut(index).map(|peer| &mut peer.state) {
            member.subscriptions.add(&spec.tracks, position);
        }
        self.start_later(index, spec.tracks.key.slot, start_at);
    }

    /// RTCP of a member: about what it sends, and about what it is sent. False if it is not authentic.
    pub(super) fn handle_member_rtcp(&mut self, now: Instant, index: u32, datagram: &mut [u8]) -> bool {
        let Some(peer) = self.peers.get_mut(index) else {
            return false;
        };
        let State::Member(member) = &mut peer.state else {
            return false;
        };
        let Some(len) = member.open_rtcp(now, datagram) else {
            return false;
        };
        let clear = &datagram[..len];
        member.handle_reports(now, clear);
        if let Some(to) = peer.transport.remote() {
            member.poll_rtcp(now, to, index, &mut self.queue);
        }
        self.handle_member_feedback(now, index, clear);
        true
    }

    fn handle_member_feedback(&mut self, now: Instant, index: u32, clear: &[u8]) {
        let Some(State::Member(member)) = self.peers.get(index).map(|peer| &peer.state) else {
            return;
        };
        let is_new = now < member.connected_at + Shard::HEARD_EARLY;
        let mut heard = Heard {
            now,
            streams: &mut self.streams,
            subscriptions: &member.subscriptions,
            queue: &mut self.queue,
            flow: Flow::default(),
            keyframes: Vec::new(),
            remedies: Vec::new(),
        };
        let _ = rtcp::parse(clear, |report| heard.take(report));
        let Heard {
            flow,
            keyframes,
            remedies,
            ..
        } = heard;
        let all = member.subscriptions.all().iter().filter(|_| is_new);
        let starting: Vec<u32> = all.map(|one| one.key.slot).collect();
        self.counters.keyframe_requests.add(keyframes.len() as u64);
        self.count_repairs(&flow);
        for slot in keyframes {
            self.keyframe_wanted(now, index, slot);
        }
        for (slot, remedy) in remedies {
            self.bring_remedy(now, index, slot, remedy);
        }
        for slot in starting {
            self.hear_of(now, index, slot);
        }
    }

    /// How long a member that is heard of is one that has just become ready.
    const HEARD_EARLY: Duration = Duration::from_millis(100);
}

/// What a member says of the streams that it is sent, on its way to each of them.
struct Heard<'a> {
    now: Instant,
    streams: &'a mut [Option<Box<ShardStream>>],
    subscriptions: &'a Subscriptions,
    queue: &'a mut SendQueue,
    flow: Flow,
    /// Slots of streams of which it wants a keyframe.
    keyframes: Vec<u32>,
    /// And what else it needs of streams.
    remedies: Vec<(u32, Remedy)>,
}

impl Heard<'_> {
    fn take(&mut self, report: Report<'_>) {
        let about = match &report {
            Report::Nack { about, .. } | Report::Pli { about } => *about,
            Report::Fir { about, .. } | Report::ReceiverReport { about, .. } => *about,
            _ => return,
        };
        let Some(slot) = self.subscriptions.slot_of(about) else {
            return;
        };
        let place = self.streams.get_mut(slot as usize).and_then(Option::as_mut);
        let Some((stream, position)) = place.zip(self.subscriptions.position(slot)) else {
            return;
        };
        let (now, position) = (self.now, position as usize);
        let is_video = stream.kind_of(about) == Some(Kind::Video);
        match report {
            Report::Nack { sequences, .. } => {
                let remedy = stream.retransmit(now, position, about, sequences, self.queue, &mut self.flow);
                if remedy != Remedy::None {
                    self.remedies.push((slot, remedy));
                }
            }
            Report::ReceiverReport {
                fraction_lost,
                last_sr,
                delay,
                ..
            } => {
                stream.note_report(now, position, about, last_sr, delay);
                if is_video && fraction_lost > 0 {
                    stream.note_loss(now, position, Lost::Share(fraction_lost));
                }
            }
            Report::Pli { .. } | Report::Fir { .. } if is_video => self.keyframes.push(slot),
            _ => {}
        }
    }
}

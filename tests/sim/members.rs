//! Rooms: members that send and are sent, in simulated time.

use std::sync::Arc;
use std::time::Duration;

use onecast::fanout::{
    Command, Event, Lift, Membership, Session, SessionRole, SourceSpec, SubscriptionSpec, ViewerLine,
};
use onecast::media::StreamTracks;
use onecast::media::lane::StreamKey;
use onecast::peer::sdp::{MediaLine, Negotiated};
use onecast::rtp::Codec;

use crate::client::Actor;
use crate::member::Member;
use crate::publisher::{Ledger, Publisher};
use crate::scenarios::{FOR_EVER, ms};
use crate::viewer::{Received, Viewer};
use crate::world::{Joining, Link, World};

/// A room as its server's side decides it, and its members.
struct Room {
    world: World,
    members: Vec<Place>,
    number: u64,
    serial: u32,
}

/// One member: whether it is there, what it sends and what it is to be sent.
struct Place {
    client: usize,
    session: Arc<Session>,
    tracks: Arc<StreamTracks>,
    lines: Negotiated,
    ledger: usize,
    camera: bool,
    air: bool,
    left: bool,
    /// Members whose video it is not sent.
    paused: Vec<usize>,
    /// Whose streams it was told of, in the order of its viewers.
    told: Vec<usize>,
}

impl Room {
    fn new(seed: u64, shards: usize, link: Link) -> Room {
        Room {
            world: World::new(seed, shards, link),
            members: Vec::new(),
            number: 1,
            serial: 100,
        }
    }

    fn tracks(&mut self, slot: u32) -> Arc<StreamTracks> {
        self.serial += 1;
        let base = 0x2222_0000 + 16 * self.serial;
        let ssrcs = [base + 1, base + 2, base + 3];
        self.world.guard.rtx_ssrcs.insert(ssrcs[1]);
        let key = StreamKey {
            slot,
            serial: self.serial,
        };
        let (inboxes, now) = (self.world.inboxes.clone(), self.world.now);
        Arc::new(StreamTracks::new(key, "m", ssrcs, inboxes, now))
    }

    /// A member joins that sends a stream in the slot. What it is sent it is told with the next [`Room::tell`].
    fn join(&mut self, slot: u32) -> usize {
        let tracks = self.tracks(slot);
        let world = &mut self.world;
        world.ledgers.push(Ledger::default());
        let ledger = world.ledgers.len() - 1;
        let seed = world.seed + 1_000 * ledger as u64;
        let rtx = world.seed.is_multiple_of(2);
        let publisher = Publisher::new(ledger, seed, Codec::Vp8, rtx, true, FOR_EVER);
        let joining = Joining {
            publishes: true,
            rtx,
            active: ledger.is_multiple_of(2),
        };
        let mut lines = None;
        let actor = Actor::Member(Member::new(Some(publisher)));
        let client = world.join_as(joining, actor, tracks.clone(), |role| {
            let SessionRole::Publisher(negotiated) = role else {
                panic!("it offered to publish")
            };
            lines = Some(*negotiated);
            SessionRole::Member(Arc::default())
        });
        self.members.push(Place {
            client,
            session: world.clients[client].session.clone(),
            tracks,
            lines: lines.unwrap(),
            ledger,
            camera: true,
            air: false,
            left: false,
            paused: Vec::new(),
            told: Vec::new(),
        });
        self.members.len() - 1
    }

    /// Tells the shards, and the clients, what everybody sends and is sent now.
    fn tell(&mut self) {
        self.number += 1;
        for at in 0..self.members.len() {
            self.tell_client(at);
            let member = &self.members[at];
            let membership = Membership {
                number: self.number,
                sources: vec![self.source(member)],
                subscriptions: (0..self.members.len())
                    .filter_map(|of| self.subscription(at, of))
                    .collect(),
            };
            if !member.left {
                let command = Command::Membership(member.session.clone(), Arc::new(membership));
                self.world.command(&command);
            }
        }
    }

    fn source(&self, member: &Place) -> SourceSpec {
        SourceSpec {
            tracks: member.tracks.clone(),
            audio: member.lines.audio.clone(),
            video: member.lines.video.clone().filter(|_| member.camera),
            air: member.air.then(|| self.world.tracks.clone()),
        }
    }

    fn subscription(&self, at: usize, of: usize) -> Option<SubscriptionSpec> {
        let sender = &self.members[of];
        let line = |line: &Option<MediaLine>| line.as_ref().map(ViewerLine::new);
        let sees = sender.camera && !self.members[at].paused.contains(&of);
        (at != of && !sender.left).then(|| SubscriptionSpec {
            tracks: sender.tracks.clone(),
            audio: line(&sender.lines.audio),
            video: line(&sender.lines.video).filter(|_| sees),
        })
    }

    fn tell_client(&mut self, at: usize) {
        for of in 0..self.members.len() {
            if of == at || self.members[of].left || self.members[at].told.contains(&of) {
                continue;
            }
            let tracks = &self.members[of].tracks;
            let mut viewer = Viewer::new(self.world.seed);
            viewer.ssrcs = [tracks.video.ssrc(), tracks.video.rtx_ssrc(), tracks.audio.ssrc()];
            let (now, client) = (self.world.now, self.members[at].client);
            self.world.clients[client].member().expect(now, viewer);
            self.members[at].told.push(of);
        }
    }

    fn leave(&mut self, at: usize) {
        self.members[at].left = true;
        let client = self.members[at].client;
        self.world.goodbye(client);
    }

    fn camera(&mut self, at: usize, on: bool) {
        self.members[at].camera = on;
        let client = self.members[at].client;
        self.world.clients[client]
            .member()
            .publisher
            .as_mut()
            .unwrap()
            .audio_only = !on;
    }

    /// Everybody stops to send, and what was lost is repaired.
    fn end(&mut self) {
        for at in 0..self.members.len() {
            let client = self.members[at].client;
            self.world.clients[client].member().publisher.as_mut().unwrap().stop();
        }
        self.world.run(ms(1_500));
        for at in 0..self.members.len() {
            let client = self.members[at].client;
            for place in 0..self.members[at].told.len() {
                self.world.clients[client].member().viewers[place].check(&self.world.ledgers);
            }
        }
        self.world.check();
    }

    /// What a member has of another.
    fn viewer(&mut self, at: usize, of: usize) -> &mut Viewer {
        let client = self.members[at].client;
        let place = self.members[at].told.iter().position(|told| *told == of).unwrap();
        &mut self.world.clients[client].member().viewers[place]
    }

    /// The video packets that a member has of another.
    fn count(&mut self, at: usize, of: usize) -> usize {
        self.viewer(at, of).video.packets.len()
    }

    /// A member has every packet of another's video from its first keyframe on to the end, from no one else.
    fn assert_complete(&mut self, at: usize, of: usize) {
        let (seed, ledger) = (self.world.seed, self.members[of].ledger);
        let last = self.world.ledgers[ledger].video.len() - 1;
        let lossy = self.world.network.down.loss > 0;
        let viewer = self.viewer(at, of);
        // What was lost at the end, before a pause, is not sent again after it.
        let gap = if lossy {
            viewer.video.gap_since_start()
        } else {
            viewer.video.gap()
        };
        let around = |gap: u64| viewer.video.packets.range(gap - 3..gap + 8).collect::<Vec<_>>();
        assert!(
            gap.is_none(),
            "seed {seed}: {at} misses {gap:?} of {of}, {:?}, it began with {:?}",
            gap.map(around),
            viewer.video.packets.first_key_value(),
        );
        let of_sender = |received: &Received| received.packets.values().all(|got| got.publisher == ledger);
        assert!(of_sender(&viewer.video) && of_sender(&viewer.audio), "seed {seed}");
        let (first, newest) = viewer
            .video
            .span(ledger)
            .unwrap_or_else(|| panic!("seed {seed}: {at} has nothing of {of}"));
        assert!(last - newest <= 40, "seed {seed}: {at} has {newest} of {last} of {of}");
        assert!(
            viewer.audio.packets.len() > 20,
            "seed {seed}: {at} hears nothing of {of}"
        );
        // The very first packets may be lost without a trace, for instance while a handshake's last flight is repeated.
        assert!(
            lossy || self.world.ledgers[ledger].video[first].keyframe,
            "seed {seed}: {at} began amid something"
        );
    }
}

fn everybody_has_everybody(seed: u64, shards: usize, link: Link) {
    let mut room = Room::new(seed, shards, link);
    let members: Vec<usize> = (0..4).map(|slot| room.join(10 + slot)).collect();
    room.tell();
    room.world.connect();
    room.world.run(ms(1_000));
    // Whoever comes later is sent what was before.
    let late = room.join(20);
    room.tell();
    room.world.connect();
    room.world.run(ms(2_500));
    room.end();
    for &at in members.iter().chain([&late]) {
        for &of in members.iter().chain([&late]) {
            if at != of {
                room.assert_complete(at, of);
            }
        }
    }
}

#[test]
fn members_have_all_the_others_on_a_clean_network() {
    for seed in 1..=3 {
        everybody_has_everybody(seed, 1, Link::CLEAN);
        everybody_has_everybody(seed, 3, Link::CLEAN);
    }
}

#[test]
fn members_have_all_the_others_on_networks_that_lose_and_reorder() {
    for seed in 4..=7 {
        everybody_has_everybody(seed, 2, Link::LOSSY);
        // With RTX: what overtakes its keyframe is dropped, and without RTX its repetition is a replay.
        everybody_has_everybody(2 * seed, 2, Link::WILD);
    }
}

#[test]
fn a_late_subscription_starts_at_once_with_the_cached_keyframe_and_asks_for_none() {
    let mut room = Room::new(1, 2, Link::CLEAN);
    let (a, b) = (room.join(10), room.join(11));
    room.members[b].paused.push(a);
    room.tell();
    room.world.connect();
    room.world.run(ms(1_400));
    let client = room.members[a].client;
    let plis = room.world.clients[client]
        .member()
        .publisher
        .as_ref()
        .unwrap()
        .plis
        .len();
    room.members[b].paused.clear();
    room.tell();
    room.world.run(ms(200));
    let ledger = room.members[a].ledger;
    let (first, _) = room.viewer(b, a).video.span(ledger).unwrap();
    assert!(room.world.ledgers[ledger].video[first].keyframe);
    let asked = room.world.clients[client]
        .member()
        .publisher
        .as_ref()
        .unwrap()
        .plis
        .len();
    assert_eq!(asked, plis, "the keyframe was there already");
    room.end();
    room.assert_complete(b, a);
}

#[test]
fn video_that_is_paused_and_goes_on_is_numbered_without_a_gap() {
    for (seed, shards) in [(1, 1), (2, 2), (3, 2)] {
        let mut room = Room::new(seed, shards, Link::CLEAN);
        let (a, b, c) = (room.join(10), room.join(11), room.join(12));
        room.tell();
        room.world.connect();
        room.world.run(ms(1_000));
        for _ in 0..3 {
            room.members[b].paused.push(a);
            room.tell();
            room.world.run(ms(300));
            let (before, heard) = (room.count(b, a), room.viewer(b, a).audio.packets.len());
            room.world.run(ms(500));
            assert_eq!(room.count(b, a), before, "seed {seed}: nothing while it is paused");
            assert!(
                room.viewer(b, a).audio.packets.len() >= heard + 24,
                "seed {seed}: sound goes on"
            );
            room.members[b].paused.clear();
            room.tell();
            room.world.run(ms(400));
            assert!(room.count(b, a) > before, "seed {seed}: it goes on");
        }
        room.end();
        for (at, of) in [(b, a), (c, a), (a, b), (b, c)] {
            room.assert_complete(at, of);
        }
        assert_eq!(room.viewer(b, a).audio.gap(), None, "seed {seed}");
        assert_eq!(room.viewer(b, a).video.starts(), 4, "seed {seed}");
        assert_eq!(room.viewer(c, a).video.starts(), 1, "seed {seed}");
    }
}

#[test]
fn a_camera_that_is_switched_off_and_on_leaves_sound_untouched() {
    for (seed, link) in [(1, Link::CLEAN), (2, Link::CLEAN), (3, Link::LOSSY)] {
        let mut room = Room::new(seed, 2, link);
        let (a, b) = (room.join(10), room.join(11));
        room.tell();
        room.world.connect();
        room.world.run(ms(1_000));
        for _ in 0..2 {
            room.camera(a, false);
            room.tell();
            room.world.run(ms(700));
            room.camera(a, true);
            room.tell();
            room.world.run(ms(900));
        }
        room.end();
        room.assert_complete(b, a);
        room.assert_complete(a, b);
        if link.loss == 0 {
            assert_eq!(room.viewer(b, a).audio.gap(), None, "seed {seed}");
        }
    }
}

#[test]
fn a_slot_whose_member_left_is_used_again() {
    for seed in 1..=4 {
        let mut room = Room::new(seed, 2, Link::CLEAN);
        let (a, b, c) = (room.join(10), room.join(11), room.join(12));
        room.tell();
        room.world.connect();
        room.world.run(ms(800));
        room.leave(a);
        // The others may hear of the new stream before they hear that the old one is gone.
        let d = room.join(10);
        if seed % 2 == 0 {
            room.world.run(ms(100));
        }
        room.tell();
        room.world.run(ms(2_500));
        let before = room.count(b, a);
        room.end();
        for (at, of) in [(b, d), (c, d), (d, b), (d, c), (b, c)] {
            room.assert_complete(at, of);
        }
        assert_eq!(room.count(b, a), before, "seed {seed}");
    }
}

#[test]
fn nothing_stays_of_members_that_left() {
    let mut room = Room::new(5, 2, Link::CLEAN);
    let members: Vec<usize> = (0..3).map(|slot| room.join(10 + slot)).collect();
    room.tell();
    room.world.connect();
    room.world.run(ms(500));
    members.iter().for_each(|&at| room.leave(at));
    room.world.run(ms(1_000));
    assert_eq!(
        (room.world.peers(), room.world.sessions(), room.world.starting()),
        (0, 0, 0)
    );
    assert!(
        !room
            .members
            .iter()
            .any(|member| member.tracks.video.is_bound() || member.tracks.audio.is_bound())
    );
}

#[test]
fn sends_that_fail_cost_a_member_the_rest_of_frames_only() {
    let mut room = Room::new(6, 1, Link::CLEAN);
    let (a, b, c) = (room.join(10), room.join(11), room.join(12));
    room.tell();
    room.world.connect();
    let client = room.members[b].client;
    room.world.failing = Some(room.world.clients[client].address);
    room.world.run(ms(2_000));
    room.world.failing = None;
    room.world.run(ms(2_500));
    room.end();
    room.assert_complete(a, c);
    room.assert_complete(c, a);
    assert!(room.world.guard.runs_failed > 0);
}

#[test]
fn viewers_of_the_program_see_one_member_after_another_without_a_gap() {
    for (seed, shards) in [(1, 1), (2, 2), (3, 3)] {
        let mut room = Room::new(seed, shards, Link::CLEAN);
        let viewer = room.world.watch(true);
        let (a, b) = (room.join(10), room.join(11));
        room.members[a].air = true;
        room.tell();
        room.world.connect();
        room.world.run(ms(1_500));
        for _ in 0..2 {
            for (on, off) in [(b, a), (a, b)] {
                room.members[off].air = false;
                room.members[on].air = true;
                room.tell();
                room.world.run(ms(1_200));
            }
        }
        let late = room.world.watch(true);
        room.world.run(ms(1_000));
        room.end();
        let received = room.world.received(viewer);
        assert_eq!(received.gap(), None, "seed {seed}");
        let mut seen: Vec<usize> = received.packets.values().map(|got| got.publisher).collect();
        seen.dedup();
        assert_eq!(seen, [0, 1, 0, 1, 0], "seed {seed}: each once, one after another");
        let heard = &room.world.clients[viewer].viewer().audio;
        assert_eq!(heard.gap(), None, "seed {seed}");
        assert!(!room.world.received(late).packets.is_empty(), "seed {seed}");
        room.assert_complete(b, a);
    }
}

#[test]
fn whoever_is_on_air_stays_until_the_next_one_has_a_picture() {
    let mut room = Room::new(3, 1, Link::CLEAN);
    let viewer = room.world.watch(true);
    let (a, b) = (room.join(10), room.join(11));
    room.members[a].air = true;
    room.camera(b, true);
    room.tell();
    room.world.connect();
    room.world.run(ms(1_000));
    // Nobody is on air any more: the program goes on.
    room.members[a].air = false;
    room.tell();
    let before = room.world.received(viewer).packets.len();
    room.world.run(ms(500));
    assert!(room.world.received(viewer).packets.len() > before + 40);
    // It ends when its member leaves.
    room.leave(a);
    room.members[b].air = true;
    room.tell();
    room.world.run(ms(1_000));
    room.end();
    let received = room.world.received(viewer);
    assert!(received.packets.last_key_value().unwrap().1.publisher == room.members[b].ledger);
    assert_eq!(received.gap(), None);
}

#[test]
fn a_broadcast_is_lifted_into_a_room_and_back_and_its_viewers_notice_nothing() {
    for (seed, shards) in [(1, 1), (2, 2)] {
        let mut room = Room::new(seed, shards, Link::CLEAN);
        let publisher = room.world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = room.world.watch(true);
        let a = room.join(10);
        room.tell();
        room.world.connect();
        room.world.run(ms(1_000));
        let tracks = room.tracks(15);
        let session = room.world.clients[publisher].session.clone();
        let home = room.world.tracks.clone();
        for number in [1, 2, 2, 1] {
            let lift = Lift {
                session: session.clone(),
                number,
                tracks: tracks.clone(),
                air: Some(home.clone()),
            };
            room.world.command(&Command::Lift(Arc::new(lift)));
            room.world.run(ms(100));
        }
        // The member is sent it, too.
        let mut seen = Viewer::new(seed);
        seen.ssrcs = [tracks.video.ssrc(), tracks.video.rtx_ssrc(), tracks.audio.ssrc()];
        let (now, client) = (room.world.now, room.members[a].client);
        room.world.clients[client].member().expect(now, seen);
        let lines = &room.members[a].lines;
        let membership = Membership {
            number: 100,
            sources: vec![room.source(&room.members[a])],
            subscriptions: vec![SubscriptionSpec {
                tracks: tracks.clone(),
                audio: lines.audio.as_ref().map(ViewerLine::new),
                video: lines.video.as_ref().map(ViewerLine::new),
            }],
        };
        let command = Command::Membership(room.members[a].session.clone(), Arc::new(membership));
        room.world.command(&command);
        room.world.run(ms(1_000));
        let back = Lift {
            session,
            number: 3,
            tracks: home,
            air: None,
        };
        room.world.command(&Command::Lift(Arc::new(back)));
        room.world.run(ms(1_000));
        room.world.clients[publisher].publisher_mut().stop();
        room.end();
        room.world.assert_complete(viewer, 0);
        assert_eq!(room.world.received(viewer).starts(), 1, "seed {seed}");
        let told = room
            .world
            .events
            .iter()
            .filter(|(_, event)| matches!(event, Event::Media { stream, .. } if *stream == tracks.key));
        assert_eq!(told.count(), 2, "seed {seed}: audio and video");
        let member = room.world.clients[client].member();
        let packets = &member.viewers.last().unwrap().video;
        assert!(packets.packets.len() > 100 && packets.gap().is_none(), "seed {seed}");
    }
}

#[test]
fn a_membership_that_comes_before_the_client_counts_and_an_older_one_does_not() {
    let mut room = Room::new(2, 2, Link::CLEAN);
    let (a, b) = (room.join(10), room.join(11));
    room.tell();
    let stale = Membership {
        number: 1,
        ..Membership::default()
    };
    let command = Command::Membership(room.members[b].session.clone(), Arc::new(stale));
    room.world.command(&command);
    room.world.connect();
    room.world.command(&command);
    room.world.run(Duration::from_secs(1));
    room.end();
    room.assert_complete(b, a);
    room.assert_complete(a, b);
}

//! Rooms: members that send and are sent, in simulated time.

use std::sync::Arc;
use std::time::Duration;

use onecast_engine::fanout::{Command, Event, Plan, SourceSpec, SubscriptionSpec, ViewerLine};
use onecast_engine::media::LayerLimit;
use onecast_rtc::rtp::Codec;

use crate::network::{Link, Random};
use crate::room::Room;
use crate::scenarios::{FOR_EVER, ms};
use crate::starts::WITHOUT_CACHE;
use crate::viewer::Viewer;

fn assert_all_receive_all(seed: u64, shards: usize, link: Link) {
    let mut room = Room::new(seed, shards, link);
    let members: Vec<usize> = (0..4).map(|slot| room.join(10 + slot)).collect();
    room.tell();
    room.world.connect();
    room.world.run(ms(1_000));
    // A late member receives what was sent before it joined.
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
fn members_receive_all_others_on_a_clean_network() {
    for seed in 1..=3 {
        assert_all_receive_all(seed, 1, Link::CLEAN);
        assert_all_receive_all(seed, 3, Link::CLEAN);
    }
}

#[test]
fn members_receive_all_others_on_networks_that_lose_and_reorder() {
    for seed in 4..=7 {
        assert_all_receive_all(seed, 2, Link::LOSSY);
        // With RTX: what overtakes its keyframe is dropped, and without RTX its repetition is a replay.
        assert_all_receive_all(2 * seed, 2, Link::WILD);
    }
}

#[test]
fn a_late_subscription_starts_at_once_with_the_cached_keyframe() {
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
fn video_that_pauses_and_resumes_is_numbered_without_a_gap() {
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
fn the_slot_of_a_member_that_left_is_reused() {
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
fn members_that_left_leave_nothing_behind() {
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
fn failed_sends_cost_a_member_only_the_rest_of_the_frame() {
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
fn the_active_speaker_stays_until_the_next_one_has_a_picture() {
    let mut room = Room::new(3, 1, Link::CLEAN);
    let viewer = room.world.watch(true);
    let (a, b) = (room.join(10), room.join(11));
    room.members[a].air = true;
    room.camera(b, true);
    room.tell();
    room.world.connect();
    room.world.run(ms(1_000));
    // No member is on air any more, but the program continues.
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
fn a_speaker_without_a_cached_picture_is_shown() {
    for watched in [true, false] {
        let mut room = Room::with(5, 1, Link::CLEAN, WITHOUT_CACHE);
        let early = watched.then(|| room.world.watch(true));
        let (a, b) = (room.join(10), room.join(11));
        for place in &room.members {
            let publisher = room.world.clients[place.client].member().publisher.as_mut();
            publisher.unwrap().shape.keyframes = FOR_EVER;
        }
        room.members[a].air = true;
        room.tell();
        room.world.connect();
        room.world.run(ms(1_500));
        (room.members[a].air, room.members[b].air) = (false, true);
        room.tell();
        room.world.run(ms(1_500));
        let viewer = early.unwrap_or_else(|| {
            let late = room.world.watch(true);
            room.world.connect();
            late
        });
        room.world.run(ms(1_500));
        room.end();
        let received = &room.world.received(viewer).packets;
        let newest = received.last_key_value().map(|(_, got)| got.publisher);
        assert_eq!(newest, Some(room.members[b].ledger), "watched: {watched}");
    }
}

#[test]
fn a_broadcast_moves_into_a_room_and_back_without_disturbing_its_viewers() {
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
        let source = SourceSpec {
            tracks: tracks.clone(),
            program: Some(home.clone()),
            detects_speech: true,
            ..session.plan.sources[0].clone()
        };
        for number in [1, 2, 2, 1] {
            let plan = Plan {
                number,
                sources: Box::new([source.clone()]),
                ..Plan::default()
            };
            room.world.command(&Command::Plan(session.clone(), Arc::new(plan)));
            room.world.run(ms(100));
        }
        // The member is sent it, too.
        let mut seen = Viewer::new(seed);
        seen.ssrcs = [tracks.video.ssrc(), tracks.video.rtx_ssrc(), tracks.audio.ssrc()];
        let (now, client) = (room.world.now, room.members[a].client);
        room.world.clients[client].member().expect(now, seen);
        let lines = &room.members[a].lines;
        let plan = Plan {
            number: 100,
            sources: Box::new([room.source(&room.members[a])]),
            subscriptions: Box::new([SubscriptionSpec {
                tracks: tracks.clone(),
                audio: lines.audio.as_ref().map(ViewerLine::new),
                video: lines.video.as_ref().map(ViewerLine::new),
                limit: LayerLimit::default(),
            }]),
        };
        let command = Command::Plan(room.members[a].session.clone(), Arc::new(plan));
        room.world.command(&command);
        room.world.run(ms(1_000));
        let back = SourceSpec {
            tracks: home,
            program: None,
            ..source
        };
        let plan = Plan {
            number: 3,
            sources: Box::new([back]),
            ..Plan::default()
        };
        room.world.command(&Command::Plan(session, Arc::new(plan)));
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
fn a_plan_that_arrives_before_its_client_is_applied_and_an_older_one_is_not() {
    let mut room = Room::new(2, 2, Link::CLEAN);
    let (a, b) = (room.join(10), room.join(11));
    room.tell();
    let stale = Plan {
        number: 1,
        ..Plan::default()
    };
    let command = Command::Plan(room.members[b].session.clone(), Arc::new(stale));
    room.world.command(&command);
    room.world.connect();
    room.world.command(&command);
    room.world.run(Duration::from_secs(1));
    room.end();
    room.assert_complete(b, a);
    room.assert_complete(a, b);
}

#[test]
fn the_speaker_is_detected_from_audio_levels() {
    let mut room = Room::new(2, 2, Link::CLEAN);
    let (a, b) = (room.join(10), room.join(11));
    room.set_level(a, 90);
    room.set_level(b, 90);
    room.tell();
    room.world.connect();
    for (member, level) in [(a, 30), (a, 90), (b, 20), (b, 90)] {
        room.set_level(member, level);
        room.world.run(ms(1_500));
    }
    // A member that stops sending audio without a quiet packet is silent, too.
    room.set_level(a, 30);
    room.world.run(ms(500));
    room.end();
    let told = room.world.events.iter().filter_map(|(_, event)| match event {
        Event::Speaking {
            session,
            stream,
            speaking,
        } => {
            let of = room
                .members
                .iter()
                .position(|member| member.tracks.key == *stream)
                .unwrap();
            assert_eq!(*session, room.members[of].session.id);
            Some((of, *speaking))
        }
        _ => None,
    });
    let expected = [(a, true), (a, false), (b, true), (b, false), (a, true), (a, false)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[test]
fn in_any_order_of_events_numbers_are_sealed_once_and_all_members_converge() {
    for seed in 1..=12 {
        let link = if seed % 3 == 0 { Link::LOSSY } else { Link::CLEAN };
        let mut room = Room::new(seed, 1 + seed as usize % 3, link);
        let watching = room.world.watch(true);
        let mut random = Random::new(seed);
        let mut there: Vec<usize> = (0..3).map(|slot| room.join(10 + slot)).collect();
        let mut slots: Vec<u32> = vec![10, 11, 12];
        room.tell();
        room.world.connect();
        for _ in 0..25 {
            let place = random.below(there.len() as u64) as usize;
            let (at, of) = (there[place], there[random.below(there.len() as u64) as usize]);
            match random.below(6) {
                0 => room.members[at].paused.push(of),
                1 => room.members[at].paused.clear(),
                2 => room.camera(at, false),
                3 => room.camera(at, true),
                4 => there.iter().for_each(|&one| room.members[one].air = one == at),
                _ => {
                    room.leave(at);
                    there[place] = room.join(slots[place]);
                    slots.swap(0, place);
                    there.swap(0, place);
                }
            }
            room.tell();
            room.world.run(ms(random.below(250)));
        }
        for &at in &there {
            room.members[at].paused.clear();
            room.camera(at, true);
        }
        room.tell();
        room.world.connect();
        room.world.run(ms(3_000));
        room.end();
        assert!(!room.world.received(watching).packets.is_empty(), "seed {seed}");
        for &at in &there {
            for &of in there.iter().filter(|of| **of != at) {
                let last = room.world.ledgers[room.members[of].ledger].video.len() - 1;
                let ledger = room.members[of].ledger;
                let (_, newest) = room.viewer(at, of).video.span(ledger).unwrap();
                assert!(last - newest <= 40, "seed {seed}: {at} has {newest} of {last} of {of}");
            }
        }
    }
}

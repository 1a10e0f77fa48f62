//! Sources whose numbering is lost on the way, that change all the time, or whose packets are large.

use std::time::Duration;

use onecast_engine::fanout::{CloseCause, Event};
use onecast_rtc::rtp::Codec;
use onecast_rtc::transmit::SendQueue;

use crate::network::Link;
use crate::publisher::Shape;
use crate::room::Room;
use crate::scenarios::{FOR_EVER, ms};
use crate::world::World;

const ROLL_OVER: u64 = 1 << 16;

fn packets(world: &World, viewer: usize) -> usize {
    world.received(viewer).packets.len()
}

/// Why and when the first session ended that did.
fn closed(world: &World) -> Option<(Duration, CloseCause)> {
    world.events.iter().find_map(|(at, event)| match event {
        Event::Closed { cause, .. } => Some((*at, cause.clone())),
        _ => None,
    })
}

fn jump(world: &mut World, publisher: usize, packets: [u64; 2]) {
    let publisher = world.clients[publisher].publisher_mut();
    for (first, packets) in publisher.firsts.iter_mut().zip(packets) {
        *first += packets;
    }
}

#[test]
fn packets_lost_around_the_first_wrap_cost_only_the_first_pictures() {
    // Indices of the first packet that is sent, and of the first that arrives.
    let starts = [
        (65_535, 65_536),
        (65_533, 65_536),
        (65_530, 65_580),
        (65_536, 65_536),
        (65_540, 2 * ROLL_OVER + 3),
    ];
    for (seed, (first, arrives)) in (0..10).zip(starts.into_iter().cycle()) {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let publisher = world.publish(Codec::Vp8, seed % 2 == 0, FOR_EVER);
        let viewer = world.watch(true);
        let publisher = world.clients[publisher].publisher_mut();
        publisher.firsts = if arrives > first + 100 {
            [arrives; 2]
        } else {
            [first; 2]
        };
        publisher.lost = first..arrives;
        world.connect();
        world.broadcast(ms(3_000));
        assert!(
            packets(&world, viewer) > 300,
            "seed {seed}: {}",
            packets(&world, viewer)
        );
        assert_eq!(world.received(viewer).gap(), None, "seed {seed}");
        assert!(world.clients[viewer].viewer().audio.packets.len() > 140, "seed {seed}");
        assert_eq!(closed(&world), None, "seed {seed}");
    }
}

#[test]
fn the_first_packets_may_overtake_each_other_across_the_wrap() {
    for seed in 0..20 {
        let mut world = World::new(seed, 1, Link::WILD);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        let first = ROLL_OVER - 1 - seed % 6;
        world.clients[publisher].publisher_mut().firsts = [first; 2];
        world.connect();
        world.broadcast(ms(1_500));
        assert!(packets(&world, viewer) > 150, "seed {seed}");
        assert_eq!(world.received(viewer).gap(), None, "seed {seed}");
    }
}

#[test]
fn a_publisher_continues_after_an_outage_of_several_roll_overs() {
    for (seed, lost) in (0..).zip([32_000, 33_000, 40_000, 70_000, 140_000, 250_000]) {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(1_000));
        let before = packets(&world, viewer);
        assert!(before > 50, "seed {seed}");
        jump(&mut world, publisher, [lost; 2]);
        world.broadcast(ms(3_000));
        let after = packets(&world, viewer) - before;
        assert!(after > 300, "seed {seed}: {after} packets after {lost} were lost");
        assert_eq!(world.received(viewer).gap(), None, "seed {seed}");
        assert_eq!(closed(&world), None, "seed {seed}");
    }
}

#[test]
fn an_outage_may_follow_minutes_of_silence() {
    let mut world = World::new(3, 1, Link::CLEAN);
    let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
    let viewer = world.watch(true);
    world.connect();
    world.run(ms(1_000));
    world.clients[publisher].publisher_mut().muted = true;
    world.run(ms(180_000));
    let before = packets(&world, viewer);
    jump(&mut world, publisher, [90_000, 50_000]);
    world.clients[publisher].publisher_mut().muted = false;
    world.broadcast(ms(2_000));
    assert!(packets(&world, viewer) > before + 200);
}

#[test]
fn retransmissions_are_decrypted_after_their_own_wrap_was_lost() {
    for seed in (0..20).step_by(2) {
        let mut world = World::new(seed, 1, Link::LOSSY);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        world.clients[publisher].publisher_mut().rtx_next = ROLL_OVER + seed;
        world.connect();
        world.run(ms(1_500));
        world.clients[publisher].publisher_mut().rtx_next += 70_000;
        world.broadcast(ms(1_500));
        assert_eq!(world.received(viewer).gap(), None, "seed {seed}");
        assert!(packets(&world, viewer) > 150, "seed {seed}");
    }
}

#[test]
fn a_publisher_may_change_its_sources_with_every_group_of_pictures() {
    for (seed, link) in [(0, Link::CLEAN), (1, Link::CLEAN), (2, Link::LOSSY)] {
        let mut world = World::new(seed, 1, link);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(500));
        for change in 0..100 {
            let heard = world.clients[viewer].viewer().audio.packets.len();
            let before = packets(&world, viewer);
            let ledger = &world.ledgers[0];
            world.clients[publisher].publisher_mut().change_sources(ledger);
            world.run(ms(300));
            assert!(packets(&world, viewer) > before, "seed {seed}: none of change {change}");
            let audio = world.clients[viewer].viewer().audio.packets.len();
            assert!(audio > heard, "seed {seed}: no sound of change {change}");
        }
        // A hundred times the track's timeline went on by the clock: too often for the exact check of sender reports.
        world.run(ms(500));
        if link.loss == 0 {
            assert_eq!(world.received(viewer).gap(), None, "seed {seed}");
        }
    }
}

#[test]
fn a_member_of_a_room_may_change_its_sources_all_the_time() {
    let mut room = Room::new(2, 2, Link::CLEAN);
    let (a, b) = (room.join(10), room.join(11));
    room.tell();
    room.world.connect();
    room.world.run(ms(1_000));
    let (client, ledger) = (room.members[a].client, room.members[a].ledger);
    for change in 0..100 {
        let (before, heard) = (room.count(b, a), room.viewer(b, a).audio.packets.len());
        let sent = &room.world.ledgers[ledger];
        let publisher = room.world.clients[client].member().publisher.as_mut();
        publisher.unwrap().change_sources(sent);
        room.world.run(ms(300));
        assert!(room.count(b, a) > before, "none of change {change}");
        assert!(
            room.viewer(b, a).audio.packets.len() > heard,
            "no sound of change {change}"
        );
    }
    room.end();
    room.assert_complete(b, a);
    room.assert_complete(a, b);
}

#[test]
fn a_publisher_with_undecryptable_media_is_ended_and_its_viewers_stay() {
    for seed in 0..4 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(1_000));
        // Out of reach of every guess; half of them also far behind the newest by their low bits.
        jump(&mut world, publisher, [20 * ROLL_OVER + seed % 2 * 40_000; 2]);
        let lost = world.elapsed();
        world.run(ms(10_000));
        let (at, cause) = closed(&world).expect("it is ended");
        assert_eq!(cause, CloseCause::Unreadable, "seed {seed}");
        assert!(
            (ms(5_000)..ms(7_000)).contains(&(at - lost)),
            "seed {seed}: {:?}",
            at - lost
        );
        assert!(world.clients[publisher].closed, "seed {seed}: it got close_notify");
        assert_eq!(world.peers(), 1);
        // It comes back with another session.
        world.publish(Codec::Vp8, true, FOR_EVER);
        world.connect();
        world.broadcast(ms(1_000));
        world.assert_complete(viewer, 1);
    }
}

#[test]
fn a_publisher_with_one_decryptable_source_stays() {
    let mut world = World::new(1, 1, Link::CLEAN);
    let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
    world.connect();
    world.run(ms(1_000));
    jump(&mut world, publisher, [0, 20 * ROLL_OVER]);
    world.run(ms(30_000));
    assert_eq!(closed(&world), None);
}

#[test]
fn forged_packets_do_not_end_a_sending_or_silent_publisher() {
    for muted in [false, true] {
        let mut world = World::new(1, 1, Link::CLEAN);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(1_000));
        let address = world.clients[publisher].address;
        world.clients[publisher].publisher_mut().muted = muted;
        let ssrc = world.clients[publisher].publisher_mut().ssrcs[1];
        for number in 0..1_500_u16 {
            let mut forged = vec![0x80, 96];
            forged.extend(number.wrapping_mul(7_919).to_be_bytes());
            forged.extend([0; 4]);
            forged.extend(ssrc.to_be_bytes());
            forged.extend([7; 200]);
            world.network.send(world.now, address, true, &forged);
            world.run(ms(20));
        }
        assert_eq!(closed(&world), None, "muted {muted}");
        world.clients[publisher].publisher_mut().muted = false;
        let before = packets(&world, viewer);
        world.broadcast(ms(2_000));
        assert!(packets(&world, viewer) > before + 200, "muted {muted}");
        assert_eq!(world.received(viewer).gap(), None, "muted {muted}");
    }
}

#[test]
fn large_packets_reach_viewers_and_are_repaired() {
    for (seed, payload) in (0..).zip([1_440, 1_470, 1_472, 1_488, 1_500, 2_030, 4_000, 9_170]) {
        // The limit of what is repaired is a rate: the largest come without loss.
        let link = if payload < 1_600 { Link::LOSSY } else { Link::CLEAN };
        let mut world = World::new(seed, 1, link);
        // Keyframes of so many large packets are no single batch.
        let shape = Shape {
            payload,
            keyframe_packets: if payload > 1_500 { 60 } else { 0 },
            ..Shape::USUAL
        };
        let publisher = world.publish_as(Codec::Vp8, true, FOR_EVER, shape);
        let viewers = [world.watch(true), world.watch(false)];
        world.connect();
        world.broadcast(ms(2_000));
        for viewer in viewers {
            assert!(packets(&world, viewer) > 200, "{payload}");
            assert_eq!(world.received(viewer).gap(), None, "{payload}");
        }
        assert_eq!(world.counts().rtp_out_oversized, 0, "{payload}");
        let session = &world.clients[publisher].session;
        let is_large = payload + 12 + 8 + 16 > SendQueue::PATH_DATAGRAM_MAX;
        assert_eq!(session.counters.large_packets.value() > 0, is_large, "{payload}");
        assert_eq!(
            session.counters.longest_datagram.value() > payload as u64,
            is_large,
            "{payload}"
        );
    }
}

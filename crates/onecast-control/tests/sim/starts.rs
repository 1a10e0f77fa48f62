//! How viewers start: at every point of a group of pictures, over bad paths, and with publishers of all kinds.

use std::time::{Duration, Instant};

use onecast_engine::fanout::{Command, Stamping, StartConfig};
use onecast_engine::media::window::CacheBounds;
use onecast_rtc::rtp::Codec;

use crate::network::Link;
use crate::publisher::Shape;
use crate::scenarios::{FOR_EVER, ms};
use crate::viewer::{Got, Viewer};
use crate::world::World;

pub(crate) const WITHOUT_CACHE: StartConfig = StartConfig {
    cache: CacheBounds::OFF,
    stamping: Stamping::Live,
};

impl World {
    pub(crate) fn viewer(&self, client: usize) -> &Viewer {
        self.clients[client].viewer()
    }

    /// Requests for keyframes that a publisher was sent.
    pub(crate) fn asked(&self, publisher: usize) -> usize {
        self.clients[publisher].publisher().plis.len()
    }

    /// From its keys to its first picture packet.
    pub(crate) fn waited(&self, client: usize) -> Duration {
        let viewer = self.viewer(client);
        let first = viewer.video.packets.values().next().and_then(|got| got.at);
        first.expect("it got nothing") - viewer.began().unwrap()
    }

    /// Frames behind the newest one that the publisher has sent a round trip ago.
    pub(crate) fn behind(&self, client: usize, publisher: usize) -> usize {
        let newest = |got: &&Got| got.publisher == publisher;
        let got = self.viewer(client).video.packets.values().rfind(newest);
        let position = got.map_or(0, |got| got.position);
        let frames = |sent: &[crate::publisher::Sent]| sent.iter().filter(|sent| sent.marker).count();
        frames(&self.ledgers[publisher].video[position..])
    }

    /// Frames of the past carry the timestamp that a live frame would have had at the moment at which they were sent.
    fn assert_stamped_with_the_live_clock(&self, client: usize, publisher: usize) -> usize {
        let ledger = &self.ledgers[publisher];
        let packets = || self.viewer(client).video.packets.values();
        let offset = |got: &Got| got.timestamp.wrapping_sub(ledger.video[got.position].timestamp);
        let own = offset(packets().next_back().unwrap());
        let began = self.clients[publisher].publisher().began().unwrap();
        let travelled = 2 * Link::CLEAN.delay;
        let mut stamped = 0;
        for got in packets().filter(|got| offset(got) != own) {
            let sent = got.at.unwrap() - travelled;
            let live = ledger.epoch.1[1].wrapping_add(((sent - began).as_micros() * 9 / 100) as u32);
            let off = got.timestamp.wrapping_sub(live.wrapping_add(own)).cast_signed();
            assert!(off.abs() < 3_100, "seed {}: {off} ticks off the live clock", self.seed);
            stamped += 1;
        }
        stamped
    }
}

#[test]
fn a_viewer_that_joins_at_any_point_of_a_gop_starts_at_once() {
    for seed in 0..40 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let publisher = world.publish_as(Codec::Vp8, true, FOR_EVER, Shape::DEAF);
        world.connect();
        world.run(ms(1 + 240 * seed));
        let first = world.watch(true);
        world.connect();
        world.run(ms(700));
        let second = world.watch(false);
        world.connect();
        world.run(ms(1_500));
        for viewer in [first, second] {
            // A round trip, the wait for the receiver, and at most the rest of a frame's interval.
            assert!(
                world.waited(viewer) <= ms(20 + 20 + 35),
                "seed {seed}: {:?}",
                world.waited(viewer)
            );
            assert!(
                world.behind(viewer, 0) <= 2,
                "seed {seed}: {} behind",
                world.behind(viewer, 0)
            );
            world.assert_starts_with_keyframe(viewer, 0);
            let stamped = world.assert_stamped_with_the_live_clock(viewer, 0);
            assert!(stamped > 0 || seed == 0, "seed {seed}");
        }
        world.broadcast(ms(500));
        for viewer in [first, second] {
            world.assert_complete(viewer, 0);
            // One more when a keyframe came on the way.
            let most = 1 + world.counts().starts_skipped_ahead as usize;
            assert!(world.viewer(viewer).video.starts() <= most, "seed {seed}");
        }
        assert_eq!(world.asked(publisher), 0, "seed {seed}: joining needs no keyframe");
    }
}

#[test]
fn lost_packets_are_repaired() {
    for seed in 0..40 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        world.publish_as(Codec::Vp8, true, FOR_EVER, Shape::DEAF);
        world.connect();
        world.run(ms(3_000));
        world.network.down = Link::LOSSY;
        let viewers = [world.watch(true), world.watch(false)];
        world.connect();
        world.broadcast(ms(2_000));
        for viewer in viewers {
            assert_eq!(world.received(viewer).gap(), None, "seed {seed}: client {viewer}");
            assert!(world.behind(viewer, 0) <= 2, "seed {seed}");
        }
        assert!(world.viewer(viewers[0]).by_rtx > 0, "seed {seed}");
    }
}

#[test]
fn losses_on_the_way_to_the_server_delay_no_viewer() {
    for seed in 0..40 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        world.publish_as(Codec::Vp8, seed % 2 == 0, FOR_EVER, Shape::DEAF);
        world.connect();
        // Without its one keyframe there would be nothing to see.
        world.run(ms(60));
        world.network.up = Link {
            jitter: ms(12),
            ..Link::LOSSY
        };
        let mut viewers = Vec::new();
        for _ in 0..6 {
            world.run(ms(400));
            viewers.push(world.watch(true));
        }
        world.connect();
        world.broadcast(ms(2_000));
        for viewer in viewers {
            assert!(
                world.behind(viewer, 0) <= 4,
                "seed {seed}: {} behind, {:?}",
                world.behind(viewer, 0),
                world.nodes[0].shard.counters().read()
            );
            world.assert_starts_with_keyframe(viewer, 0);
        }
    }
}

#[test]
fn a_viewer_starts_when_a_gap_is_closed_after_its_timeout() {
    for seed in 0..6 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let publisher = world.publish_as(Codec::Vp8, true, FOR_EVER, Shape::DEAF);
        world.connect();
        let early = world.watch(true);
        world.connect();
        world.run(ms(2_000));
        world.network.up.loss = 1_000;
        world.run(ms(50));
        world.network.up.loss = 0;
        world.clients[publisher].publisher_mut().repairs_from = Some(world.now + ms(500));
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(1_500));
        assert!(
            !world.received(viewer).packets.is_empty(),
            "seed {seed}: waits for the next keyframe"
        );
        assert!(
            world.waited(viewer) <= ms(900),
            "seed {seed}: {:?}",
            world.waited(viewer)
        );
        world.broadcast(ms(500));
        world.assert_complete(viewer, 0);
        world.assert_complete(early, 0);
    }
}

#[test]
fn a_start_skips_to_a_newer_keyframe_only_if_it_is_usable() {
    for seed in 0..40 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let publisher = world.publish_as(Codec::Vp8, true, FOR_EVER, Shape::DEAF);
        world.connect();
        let until = |world: &World, time| (began(world, publisher) + ms(time)).saturating_duration_since(world.now);
        let come = 9_620 + 7 * seed;
        world.run(until(&world, come));
        let viewer = world.watch(true);
        world.connect();
        // Half of the second keyframe is lost, and repaired late.
        world.run(until(&world, 10_025));
        world.network.up.loss = 500;
        world.run(ms(20));
        world.network.up.loss = 0;
        world.clients[publisher].publisher_mut().repairs_from = Some(world.now + ms(300));
        world.broadcast(ms(1_500));
        assert_eq!(world.asked(publisher), 0, "seed {seed}: a keyframe was asked for");
        let mut got: Vec<_> = world
            .received(viewer)
            .packets
            .values()
            .filter_map(|got| got.at)
            .collect();
        got.sort();
        let pause = got
            .windows(2)
            .map(|pair| pair[1].saturating_duration_since(pair[0]))
            .max();
        assert!(pause < Some(ms(200)), "seed {seed}: nothing for {pause:?}");
    }
}

#[test]
fn a_replaced_publisher_that_stays_receives_no_keyframe_requests() {
    let shape = Shape {
        keyframes: ms(60_000),
        ..Shape::USUAL
    };
    for config in [WITHOUT_CACHE, StartConfig::default()] {
        let mut world = World::with(5, 1, Link::CLEAN, config);
        let first = world.publish_as(Codec::Vp8, true, FOR_EVER, shape);
        world.connect();
        world.run(ms(500));
        let second = world.publish_as(Codec::Vp8, true, FOR_EVER, shape);
        world.connect();
        world.run(ms(1_000));
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(1_000));
        let cached = config != WITHOUT_CACHE;
        assert_eq!((world.asked(first), world.asked(second)), (0, usize::from(!cached)));
        assert!(
            world.waited(viewer) <= ms(200),
            "{config:?}: {:?}",
            world.waited(viewer)
        );
        world.assert_starts_with_keyframe(viewer, 1);
    }
}

#[test]
fn a_viewer_that_leaves_during_its_start_leaves_nothing_behind() {
    for seed in 0..4 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        // The publisher pauses, so a viewer that has caught up waits for its next frame.
        world.publish_as(Codec::Vp8, true, ms(1_000), Shape::DEAF);
        world.connect();
        world.run(ms(1_500));
        for _ in 0..3 {
            let viewers = [world.watch(true), world.watch(true)];
            world.connect();
            world.run(ms(300));
            assert!(world.behind(viewers[0], 0) <= 1, "seed {seed}");
            assert_eq!(world.starting(), 2, "seed {seed}");
            viewers.into_iter().for_each(|viewer| world.goodbye(viewer));
            world.run(ms(300));
            assert_eq!(world.starting(), 0, "seed {seed}");
        }
    }
}

#[test]
fn a_start_is_repeated_for_a_receiver_that_was_not_ready() {
    for seed in 0..20 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        let publisher = world.publish_as(Codec::Vp8, true, FOR_EVER, Shape::DEAF);
        world.connect();
        world.run(ms(2_500));
        let viewer = world.watch_as(seed % 2 == 0, |viewer| viewer.blind_for = ms(170));
        world.connect();
        world.broadcast(ms(2_000));
        assert!(
            world.waited(viewer) <= ms(250),
            "seed {seed}: {:?}",
            world.waited(viewer)
        );
        assert_eq!(world.counts().starts_repeated, 1, "seed {seed}");
        assert_eq!(world.asked(publisher), 0, "seed {seed}");
        world.assert_complete(viewer, 0);
        world.assert_starts_with_keyframe(viewer, 0);
    }
}

#[test]
fn a_start_continues_with_the_next_publisher() {
    for seed in 0..30 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let first = world.publish_as(Codec::Vp8, true, FOR_EVER, Shape::DEAF);
        world.connect();
        world.run(ms(8_000));
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(30 + seed));
        assert!(world.behind(viewer, 0) > 10, "seed {seed}: it has caught up already");
        let session = world.clients[first].session.clone();
        world.command(&Command::Close(session));
        let codec = if seed % 2 == 0 { Codec::Vp9 } else { Codec::Vp8 };
        world.publish(codec, true, FOR_EVER);
        world.connect();
        world.broadcast(ms(1_000));
        world.assert_complete(viewer, 1);
        world.assert_starts_with_keyframe(viewer, 1);
    }
}

#[test]
fn without_room_in_the_cache_viewers_wait_for_the_next_keyframe() {
    let small = |bytes, pixels| StartConfig {
        cache: CacheBounds { bytes, pixels },
        stamping: Stamping::Live,
    };
    let shape = Shape {
        keyframes: ms(4_000),
        ..Shape::DEAF
    };
    for (seed, config) in [WITHOUT_CACHE, small(100_000, u64::MAX), small(usize::MAX, 30_000_000)]
        .into_iter()
        .enumerate()
    {
        let mut world = World::with(seed as u64, 1, Link::CLEAN, config);
        let publisher = world.publish_as(Codec::Vp8, true, FOR_EVER, shape);
        world.connect();
        world.run(ms(2_000));
        let viewers = [world.watch(true), world.watch(true), world.watch(true)];
        world.connect();
        let connected = world.now;
        world.run(ms(500));
        for viewer in viewers {
            assert!(world.received(viewer).packets.is_empty(), "{config:?}");
        }
        world.broadcast(ms(4_000));
        let keyframe_at = began(&world, publisher) + ms(4_000);
        for viewer in viewers {
            let waited = world.waited(viewer);
            let expected = keyframe_at.saturating_duration_since(connected) + ms(20);
            assert!(waited < expected + ms(120), "{config:?}: {waited:?} of {expected:?}");
            world.assert_starts_with_keyframe(viewer, 0);
            world.assert_complete(viewer, 0);
        }
        // One request, and its repetitions after 1 s.
        assert!(
            (1..=2).contains(&world.asked(publisher)),
            "{} requests",
            world.asked(publisher)
        );
        assert!(world.counts().starts_waiting >= 1);
    }
}

pub(crate) fn began(world: &World, publisher: usize) -> Instant {
    world.clients[publisher].publisher().began().unwrap()
}

#[test]
fn on_a_slow_path_a_viewer_starts_slower_and_still_catches_up() {
    for seed in 0..10 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        world.publish_as(Codec::Vp8, true, FOR_EVER, Shape::DEAF);
        world.connect();
        world.run(ms(5_000));
        // Three times the stream.
        world.network.down.rate = Some(400_000);
        let viewer = world.watch(true);
        let level = world.watch(true);
        world.connect();
        world.network.crowded_out = 0;
        world.run(ms(5_500));
        let lost = world.network.crowded_out;
        assert!(
            world.behind(viewer, 0) <= 8,
            "seed {seed}: {} behind",
            world.behind(viewer, 0)
        );
        assert!(lost < 2_500, "seed {seed}: {lost} packets found no room");
        world.run(ms(1_000));
        assert_eq!(
            world.network.crowded_out, lost,
            "seed {seed}: level, and still too much"
        );
        world.broadcast(ms(500));
        for viewer in [viewer, level] {
            assert_eq!(
                world.received(viewer).gap_since_start(),
                None,
                "seed {seed}: client {viewer}"
            );
        }
    }
}

#[test]
fn viewers_receive_what_strange_publishers_send() {
    let shapes = [
        Shape {
            keyframes_only: true,
            ..Shape::DEAF
        },
        Shape {
            keyframe_packets: 5_000,
            ..Shape::DEAF
        },
        Shape {
            unmarked: true,
            ..Shape::DEAF
        },
        Shape {
            jump: 3_600 * 90_000,
            ..Shape::DEAF
        },
        Shape {
            jump: 0u32.wrapping_sub(3_600 * 90_000),
            ..Shape::DEAF
        },
        Shape {
            bidirectional: true,
            ..Shape::DEAF
        },
    ];
    for (seed, shape) in shapes.into_iter().enumerate() {
        let mut world = World::new(seed as u64, 1 + seed % 2, Link::CLEAN);
        world.publish_as(Codec::Vp8, true, FOR_EVER, shape);
        world.connect();
        world.run(ms(1_700));
        let viewers = [world.watch(true), world.watch(false)];
        world.connect();
        world.run(ms(4_000));
        for viewer in viewers {
            let newest = world.received(viewer).span(0).map(|(_, newest)| newest);
            let last = world.ledgers[0].video.len();
            assert!(
                newest.is_some_and(|newest| newest + 60 > last),
                "{shape:?}: {newest:?} of {last}"
            );
            assert!(world.waited(viewer) < ms(100), "{shape:?}: {:?}", world.waited(viewer));
        }
        assert!(world.counts().start_cache_bytes <= 8 << 20, "{shape:?}");
    }
}

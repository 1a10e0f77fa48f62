//! Streams as encoders make them: without keyframes, without parameter sets, with frames sent in another order than they are shown.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::time::Duration;

use onecast_engine::fanout::{Command, Event, Stamping, StartConfig};
use onecast_engine::media::window::CacheBounds;
use onecast_rtc::rtp::Codec;

use crate::network::Link;
use crate::publisher::{Shape, parameter_sets};
use crate::scenarios::{FOR_EVER, ms};
use crate::starts::WITHOUT_CACHE;
use crate::world::World;

/// One keyframe at the beginning, and recovery points every second.
const REFRESHING: Shape = Shape {
    keyframes: FOR_EVER,
    recovery: 30,
    ..Shape::DEAF
};

/// Some three seconds of what publishers here send.
const SMALL: StartConfig = StartConfig {
    cache: CacheBounds {
        bytes: 400_000,
        pixels: u64::MAX,
    },
    stamping: Stamping::Live,
};

impl World {
    /// Watches and does not mind where it starts.
    fn watch_anything(&mut self, rtx: bool) -> usize {
        self.watch_as(rtx, |viewer| {
            viewer.undemanding = true;
            viewer.video.undemanding = true;
        })
    }

    /// The next publisher of H264 says in its offer what its parameter sets are.
    fn announce(&mut self, publisher: usize) {
        let sets = parameter_sets(publisher);
        let encode = |nal: &[u8]| BASE64_STANDARD.encode(nal);
        self.announces = format!(";sprop-parameter-sets={},{}", encode(&sets[3..12]), encode(&sets[14..]));
    }

    fn assert_has_sets(&self, client: usize, publisher: usize) {
        let sets = self.received(client).sets_for(publisher);
        assert_eq!(
            sets,
            Some(&parameter_sets(publisher)[..]),
            "seed {}: client {client}",
            self.seed
        );
    }
}

#[test]
fn a_late_viewer_of_a_stream_with_intra_refresh_starts_at_a_recovery_point() {
    for seed in 0..12 {
        let mut world = World::with(seed, 1 + seed as usize % 2, Link::CLEAN, SMALL);
        let publisher = world.publish_as(Codec::H264, true, FOR_EVER, REFRESHING);
        let early = world.watch(true);
        world.connect();
        world.run(ms(6_000 + 77 * seed));
        let viewer = world.watch(seed % 2 == 0);
        world.connect();
        world.run(ms(1_000));
        assert!(
            world.waited(viewer) <= ms(75),
            "seed {seed}: {:?}",
            world.waited(viewer)
        );
        assert!(
            world.behind(viewer, 0) <= 2,
            "seed {seed}: {} behind",
            world.behind(viewer, 0)
        );
        world.assert_starts_with_keyframe(viewer, 0);
        world.assert_has_sets(viewer, 0);
        // Whatever is missing at the live edge was complete before the viewer came there.
        let (first, _) = world.received(viewer).span(0).unwrap();
        let frames = world.ledgers[0].video[first..]
            .iter()
            .filter(|sent| sent.marker)
            .count();
        assert!(frames >= 10 + 30, "seed {seed}: {frames} frames since");
        assert!(world.asked(publisher) <= 1, "seed {seed}: no keyframe is needed");
        world.broadcast(ms(500));
        for viewer in [early, viewer] {
            world.assert_complete(viewer, 0);
        }
        assert_eq!(world.counts().starts_without_keyframe, 0);
    }
}

#[test]
fn without_a_cache_viewers_wait_for_a_recovery_point_as_for_a_keyframe() {
    for seed in 0..6 {
        let mut world = World::with(seed, 1, Link::CLEAN, WITHOUT_CACHE);
        world.publish_as(Codec::H264, true, FOR_EVER, REFRESHING);
        world.connect();
        world.run(ms(3_300 + 100 * seed));
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(1_500));
        assert!(
            world.waited(viewer) <= ms(1_100),
            "seed {seed}: {:?}",
            world.waited(viewer)
        );
        world.assert_starts_with_keyframe(viewer, 0);
        world.broadcast(ms(300));
    }
}

#[test]
fn viewers_start_at_recovery_points_with_announced_parameter_sets() {
    for seed in 0..6 {
        let mut world = World::with(seed, 1 + seed as usize % 2, Link::CLEAN, SMALL);
        world.announce(0);
        world.publish_as(
            Codec::H264,
            true,
            FOR_EVER,
            Shape {
                bare: true,
                ..REFRESHING
            },
        );
        world.connect();
        world.run(ms(7_000));
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(500));
        assert!(
            world.waited(viewer) <= ms(75),
            "seed {seed}: {:?}",
            world.waited(viewer)
        );
        world.assert_has_sets(viewer, 0);
        world.broadcast(ms(300));
    }
}

#[test]
fn a_viewer_that_needs_a_keyframe_requests_one_despite_recovery_points() {
    let shape = Shape {
        deaf: false,
        ..REFRESHING
    };
    let mut world = World::with(2, 1, Link::CLEAN, SMALL);
    let publisher = world.publish_as(Codec::H264, true, FOR_EVER, shape);
    world.connect();
    world.run(ms(6_000));
    let viewer = world.watch_as(true, |viewer| viewer.impatient = true);
    world.connect();
    world.run(ms(2_000));
    assert!(world.asked(publisher) >= 1);
    let keyframes = world.ledgers[0]
        .video
        .iter()
        .filter(|sent| sent.payload.windows(2).any(|two| two == [0x65, 0x88]));
    assert!(keyframes.count() >= 2, "the publisher was asked and answered");
    world.assert_starts_with_keyframe(viewer, 0);
}

#[test]
fn parameter_sets_that_are_only_announced_reach_every_viewer() {
    let bare = Shape {
        bare: true,
        keyframes: ms(1_000),
        ..Shape::DEAF
    };
    for seed in 0..12 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let early = world.watch(true);
        world.connect();
        world.run(ms(300));
        world.announce(0);
        let first = world.publish_as(Codec::H264, true, FOR_EVER, bare);
        world.connect();
        world.run(ms(1_700));
        let late = world.watch(false);
        world.connect();
        world.run(ms(1_000));
        for viewer in [early, late] {
            world.assert_has_sets(viewer, 0);
        }
        // The next one takes its place, or comes after it; its sets are others.
        if seed % 3 == 0 {
            let session = world.clients[first].session.clone();
            world.command(&Command::Close(session));
            world.run(ms(500));
        }
        world.announce(1);
        world.publish_as(Codec::H264, true, FOR_EVER, bare);
        world.connect();
        world.run(ms(1_500));
        let last = world.watch(true);
        world.connect();
        world.broadcast(ms(1_000));
        for viewer in [early, late, last] {
            world.assert_has_sets(viewer, 1);
            world.assert_starts_with_keyframe(viewer, 1);
            assert_eq!(
                world.received(viewer).gap_since_start(),
                None,
                "seed {seed}: client {viewer}"
            );
        }
    }
}

#[test]
fn lost_announced_parameter_sets_are_retransmitted() {
    let bare = Shape {
        bare: true,
        ..Shape::USUAL
    };
    for seed in 0..10 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        world.announce(0);
        world.publish_as(Codec::H264, true, FOR_EVER, bare);
        let viewer = world.watch(seed % 2 == 0);
        world.connect();
        world.run(ms(1_000));
        world.network.down = Link::LOSSY;
        world.announce(1);
        world.publish_as(Codec::H264, true, FOR_EVER, bare);
        world.connect();
        world.broadcast(ms(2_000));
        world.assert_has_sets(viewer, 1);
    }
}

#[test]
fn viewers_wait_for_a_camera_that_pauses() {
    for seed in 0..6 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        let publisher = world.publish_as(Codec::Vp8, true, FOR_EVER, Shape::USUAL);
        world.connect();
        world.clients[publisher].publisher_mut().audio_only = true;
        world.run(ms(500));
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(8_000));
        // Half of its first keyframe is lost at first.
        world.network.up.loss = 500;
        world.clients[publisher].publisher_mut().audio_only = false;
        world.run(ms(20));
        world.network.up.loss = 0;
        world.broadcast(ms(2_000));
        world.assert_starts_with_keyframe(viewer, 0);
        assert_eq!(world.counts().starts_without_keyframe, 0, "seed {seed}");
    }
}

#[test]
fn viewers_get_the_closest_alternative_when_keyframe_requests_fail() {
    let shape = Shape {
        keyframes: FOR_EVER,
        ..Shape::DEAF
    };
    for (seed, codec) in (0..).zip([Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Vp8]) {
        let config = if seed == 3 { WITHOUT_CACHE } else { SMALL };
        let mut world = World::with(seed, 1 + seed as usize % 2, Link::CLEAN, config);
        let publisher = world.publish_as(codec, true, FOR_EVER, shape);
        world.connect();
        world.run(ms(6_000));
        let viewers = [world.watch_anything(true), world.watch_anything(false)];
        world.connect();
        world.run(ms(7_000));
        for viewer in viewers {
            let waited = world.waited(viewer);
            assert!((ms(3_900)..ms(4_200)).contains(&waited), "{codec}: {waited:?}");
            assert!(
                world.behind(viewer, 0) <= 2,
                "{codec}: {} behind",
                world.behind(viewer, 0)
            );
        }
        assert!(
            (3..=4).contains(&world.asked(publisher)),
            "{codec}: asked {} times",
            world.asked(publisher)
        );
        assert_eq!(world.counts().starts_without_keyframe, 2, "{codec}");
        assert!(pictures(&world).is_empty(), "{codec}: nothing to see is no picture");
        // By now it is known.
        let third = world.watch_anything(true);
        world.connect();
        world.run(ms(300));
        assert!(world.waited(third) <= ms(100), "{codec}: {:?}", world.waited(third));
        // A keyframe after all.
        world.clients[publisher].publisher_mut().shape.deaf = false;
        world.run(ms(10_000));
        assert_eq!(pictures(&world).len(), 3, "{codec}");
        world.broadcast(ms(300));
        for viewer in [viewers[0], viewers[1], third] {
            world.assert_complete(viewer, 0);
        }
    }
}

/// Times at which viewers had their first picture.
fn pictures(world: &World) -> Vec<Duration> {
    let picture = |event: &Event| matches!(event, Event::Picture { .. });
    let pictures = world.events.iter().filter(|(_, event)| picture(event));
    pictures.map(|(at, _)| *at).collect()
}

#[test]
fn without_any_keyframe_viewers_start_anyway_after_a_timeout() {
    for (seed, codec) in (0..).zip([Codec::Vp8, Codec::Vp9, Codec::H264]) {
        let keyless = Shape {
            keyless: true,
            ..Shape::DEAF
        };
        let mut world = World::new(seed, 1, Link::CLEAN);
        let publisher = world.publish_as(codec, true, FOR_EVER, keyless);
        let viewer = world.watch_anything(true);
        world.connect();
        world.run(ms(20_000));
        let waited = world.waited(viewer);
        // Ingest waits for a first keyframe, and then viewers do.
        assert!((ms(4_000)..ms(9_500)).contains(&waited), "{codec}: {waited:?}");
        assert!(world.behind(viewer, 0) <= 2, "{codec}");
        assert_eq!(world.counts().start_cache_bytes, 0);
        assert!(
            world.asked(publisher) <= 8,
            "{} requests in 20 s",
            world.asked(publisher)
        );
        let unanswered = |event: &Event| matches!(event, Event::Keyframes { unanswered: true, .. });
        assert_eq!(world.events.iter().filter(|(_, event)| unanswered(event)).count(), 1);
    }
}

#[test]
fn a_successor_without_keyframes_is_shown_after_a_timeout() {
    let mut world = World::new(4, 1, Link::CLEAN);
    let first = world.publish(Codec::Vp8, true, FOR_EVER);
    let viewer = world.watch_anything(true);
    world.connect();
    world.run(ms(2_000));
    let session = world.clients[first].session.clone();
    world.command(&Command::Close(session));
    world.run(ms(200));
    let keyless = Shape {
        keyless: true,
        ..Shape::DEAF
    };
    world.publish_as(Codec::Vp8, true, FOR_EVER, keyless);
    world.connect();
    world.run(ms(12_000));
    assert!(world.received(viewer).span(1).is_some(), "it waits for ever");
    assert!(world.behind(viewer, 1) <= 2);
}

#[test]
fn no_viewer_waits_forever_for_a_missing_packet() {
    let shape = Shape {
        keyframes: FOR_EVER,
        ..Shape::DEAF
    };
    for seed in 0..4 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        let publisher = world.publish_as(Codec::Vp8, true, FOR_EVER, shape);
        world.connect();
        world.run(ms(1_000));
        world.network.up.loss = 1_000;
        world.run(ms(50));
        world.network.up.loss = 0;
        world.clients[publisher].publisher_mut().repairs_from = Some(world.now + FOR_EVER);
        world.run(ms(500));
        let viewer = world.watch_anything(true);
        world.connect();
        world.run(ms(6_000));
        let waited = world.waited(viewer);
        assert!(waited < ms(4_600), "seed {seed}: {waited:?}");
        world.assert_starts_with_keyframe(viewer, 0);
        assert!(world.behind(viewer, 0) <= 2, "seed {seed}");
    }
}

#[test]
fn viewers_wait_for_the_periodic_keyframes_of_an_encoder() {
    let shape = Shape {
        keyframes: ms(8_000),
        ..Shape::DEAF
    };
    let mut world = World::with(1, 1, Link::CLEAN, SMALL);
    world.publish_as(Codec::Vp8, true, FOR_EVER, shape);
    world.connect();
    world.run(ms(10_500));
    let first = world.watch(true);
    world.connect();
    // The interval is known, and the cache full.
    world.run(ms(2_000));
    let viewer = world.watch(true);
    world.connect();
    world.run(ms(6_000));
    for viewer in [first, viewer] {
        world.assert_starts_with_keyframe(viewer, 0);
    }
    assert_eq!(world.counts().starts_without_keyframe, 0);
}

#[test]
fn reordered_frames_keep_their_presentation_order_wherever_a_viewer_starts() {
    let shape = Shape {
        bidirectional: true,
        ..Shape::DEAF
    };
    for step in 0..45 {
        let mut world = World::new(step, 1 + step as usize % 2, Link::CLEAN);
        world.publish_as(Codec::Vp8, true, FOR_EVER, shape);
        let early = world.watch(true);
        world.connect();
        world.run(ms(1_000 + 34 * step));
        let viewers = [world.watch(true), world.watch(false)];
        world.connect();
        world.run(ms(800));
        for viewer in viewers {
            assert!(world.waited(viewer) <= ms(75), "{step}: {:?}", world.waited(viewer));
            assert!(
                world.behind(viewer, 0) <= 2,
                "{step}: {} behind",
                world.behind(viewer, 0)
            );
        }
        // Compares the order of presentation.
        world.broadcast(ms(300));
        for viewer in [early, viewers[0], viewers[1]] {
            world.assert_complete(viewer, 0);
        }
        assert_eq!(world.starting(), 0, "{step}: all are level");
    }
}

#[test]
fn the_presentation_order_survives_losses_and_new_starts() {
    let shape = Shape {
        bidirectional: true,
        keyframes: ms(1_500),
        ..Shape::USUAL
    };
    for seed in 0..20 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        world.publish_as(Codec::Vp8, seed % 2 == 0, FOR_EVER, shape);
        world.connect();
        world.run(ms(1_000));
        world.network.up = Link::LOSSY;
        world.network.down = Link::LOSSY;
        world.watch_as(true, |viewer| viewer.blind_for = ms(170));
        world.watch(true);
        world.connect();
        world.broadcast(ms(3_000));
    }
}

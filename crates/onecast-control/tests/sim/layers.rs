//! Publishers with several layers, and viewers that change between them.

use std::time::Instant;

use onecast_engine::fanout::{Command, Event, Plan};
use onecast_engine::media::{LayerIndex, LayerLimit, LayerReason};
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::sdp::{Offer, Role, SendLayers};

use crate::client::Actor;
use crate::habits::Habit;
use crate::network::Link;
use crate::publisher::{DESCRIPTOR_ID, LAYERS, Layer, Ledger, Publisher, Shape};
use crate::scenarios::{FOR_EVER, ms};
use crate::viewer::Viewer;
use crate::world::{Joining, World};

const OFFER: &str = include_str!("../../../../tests/data/layers/chromium156-vp8-simulcast.offer.sdp");
/// Payload bytes of a packet, and picture sizes, by layer.
const SIZES: [(usize, (u16, u16)); LAYERS] = [(100, (320, 180)), (400, (640, 360)), (1_024, (1_280, 720))];
const Q: LayerIndex = LayerIndex::new(0);
const H: LayerIndex = LayerIndex::new(1);
const F: LayerIndex = LayerIndex::new(2);

/// The rids q, h and f.
fn accepted() -> SendLayers {
    let offer = Offer::parse(OFFER).unwrap();
    offer
        .negotiate(Role::Publisher)
        .unwrap()
        .with_layers()
        .layers()
        .unwrap()
}

/// As our page in Chromium is.
fn chromium(viewer: &mut Viewer) {
    viewer.accustomed(Habit::Chromium { round_trip: ms(20) });
    viewer.report_interval = ms(230);
    viewer.described = true;
}

fn pinned(layer: LayerIndex) -> LayerLimit {
    LayerLimit {
        pin: Some(layer),
        ..LayerLimit::default()
    }
}

impl World {
    /// A publisher whose layers have clocks and numbers of their own, and keyframes of the same pictures.
    fn publish_layers(&mut self, shape: Shape) -> usize {
        let mut layers = Vec::new();
        for (place, (payload, size)) in SIZES.into_iter().enumerate() {
            let ledger = self.ledgers.len();
            self.ledgers.push(Ledger::default());
            let shape = Shape { payload, ..shape };
            let mut layer =
                Publisher::new(ledger, self.seed + 31 * place as u64, Codec::Vp8, true, true, FOR_EVER).shaped(shape);
            layer.video_only = place > 0;
            layer.layer = Some(Layer {
                rid: ["q", "h", "f"][place],
                size,
                clock: 0x4321_0000u32.wrapping_mul(place as u32 + 1),
                order: if self.seed.is_multiple_of(2) {
                    place
                } else {
                    LAYERS - 1 - place
                } as u16,
                reported: false,
            });
            layers.push(layer);
        }
        let joining = Joining {
            publishes: true,
            rtx: true,
            active: true,
        };
        let tracks = self.tracks.clone();
        self.join_as(joining, Actor::Layers(layers), tracks, |direction, mut plan| {
            let video = plan.sources[0].video.as_mut().unwrap();
            video.layers = Some(accepted());
            video.extensions.dependency_descriptor = Some(DESCRIPTOR_ID);
            (direction, plan)
        })
    }

    /// A viewer like our page in Chromium.
    fn watch_in_chromium(&mut self, rtx: bool) -> usize {
        self.watch_as(rtx, chromium)
    }

    /// Limits the layers of a viewer, as the control plane does.
    fn limit(&mut self, viewer: usize, number: u64, limit: LayerLimit) {
        let session = self.clients[viewer].session.clone();
        let mut plan = Plan {
            number,
            ..session.plan.clone()
        };
        plan.subscriptions[0].limit = limit;
        self.command(&Command::Plan(session, plan.into()));
    }

    /// The layer whose packets the viewer got last.
    fn seen(&self, viewer: usize) -> usize {
        let packets = &self.viewer(viewer).video.packets;
        packets.values().next_back().map_or(usize::MAX, |got| got.publisher)
    }

    /// The highest spatial layer of what a viewer has got since then.
    fn spatial_since(&self, viewer: usize, from: Instant) -> Option<u8> {
        let packets = self.viewer(viewer).video.packets.values();
        let since = packets.filter(|got| got.at.is_some_and(|at| at > from));
        since
            .map(|got| self.ledgers[got.publisher].video[got.position].payload[1] >> 1 & 7)
            .max()
    }

    /// The highest spatial layer that a viewer gets now.
    fn spatial_seen(&self, viewer: usize) -> u8 {
        self.spatial_since(viewer, self.now - ms(500)).unwrap_or(u8::MAX)
    }

    /// Layers that a viewer was sent, as the shards reported them.
    fn told(&self, viewer: usize) -> Vec<(LayerIndex, LayerReason)> {
        let id = self.clients[viewer].session.id;
        let layer = |event: &Event| match event {
            Event::Layer {
                session, layer, reason, ..
            } if *session == id => Some((*layer, *reason)),
            _ => None,
        };
        self.events.iter().filter_map(|(_, event)| layer(event)).collect()
    }

    /// Pictures that were taken at the same moment have the same timestamp in every layer.
    fn assert_one_timeline(&self, viewer: usize) {
        let mut origins = Vec::new();
        for (layer, ledger) in self.ledgers.iter().enumerate() {
            let of_layer = self
                .viewer(viewer)
                .video
                .packets
                .values()
                .rfind(|got| got.publisher == layer);
            if let Some(got) = of_layer {
                let elapsed = ledger.of(Kind::Video)[got.position]
                    .timestamp
                    .wrapping_sub(ledger.epoch.1[1]);
                origins.push(got.timestamp.wrapping_sub(elapsed));
            }
        }
        origins.dedup();
        assert_eq!(origins.len(), 1, "seed {}: {origins:x?}", self.seed);
    }
}

#[test]
fn a_viewer_starts_at_once_on_the_middle_layer_and_changes_at_keyframes() {
    for seed in 0..24 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let publisher = world.publish_layers(Shape::USUAL);
        world.connect();
        world.run(ms(1_100 + 37 * seed));
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(1_000));
        assert!(
            world.waited(viewer) <= ms(20 + 20 + 35),
            "seed {seed}: {:?}",
            world.waited(viewer)
        );
        assert_eq!(world.seen(viewer), H.index(), "seed {seed}");
        let asked: Vec<_> = world.clients[publisher]
            .layers()
            .iter()
            .map(|layer| layer.plis.len())
            .collect();
        let changes = world.now;
        for (number, layer) in [(1, F), (2, Q), (3, H), (4, F)] {
            world.limit(viewer, number, pinned(layer));
            world.run(ms(2_200));
            assert_eq!(world.seen(viewer), layer.index(), "seed {seed}");
        }
        assert!(
            world.longest_gap(viewer, changes) <= ms(80),
            "seed {seed}: {:?}",
            world.longest_gap(viewer, changes)
        );
        let then: Vec<_> = world.clients[publisher]
            .layers()
            .iter()
            .map(|layer| layer.plis.len())
            .collect();
        assert_eq!(asked, then, "seed {seed}: a change costs no keyframe request");
        let limit = LayerReason::Limit;
        assert_eq!(
            world.told(viewer),
            [(H, LayerReason::Start), (F, limit), (Q, limit), (H, limit), (F, limit)]
        );
        world.viewer(viewer).check(&world.ledgers);
        assert_eq!(
            world.viewer(viewer).video.gap(),
            None,
            "seed {seed}: numbers are contiguous"
        );
        world.assert_one_timeline(viewer);
        assert_eq!(world.viewer(viewer).plis, 0);
    }
}

#[test]
fn viewers_of_a_layer_that_stops_go_on_with_the_best_of_the_others() {
    for seed in 0..24 {
        let mut world = World::new(seed, 2, Link::CLEAN);
        let publisher = world.publish_layers(Shape::USUAL);
        world.connect();
        world.run(ms(1_000));
        let viewers = [(); 3].map(|()| world.watch(true));
        world.connect();
        let [top, pinned_top, middle] = viewers;
        world.limit(
            top,
            1,
            LayerLimit {
                max_height: Some(1_080),
                ..LayerLimit::default()
            },
        );
        world.limit(pinned_top, 1, pinned(F));
        world.run(ms(2_500));
        assert_eq!(viewers.map(|viewer| world.seen(viewer)), [1, 2, 1], "seed {seed}");
        let stops = world.now;
        world.clients[publisher].layers()[2].audio_only = true;
        world.run(ms(1_500));
        assert_eq!(viewers.map(|viewer| world.seen(viewer)), [1, 1, 1], "seed {seed}");
        assert!(
            world.longest_gap(pinned_top, stops) <= ms(700),
            "seed {seed}: {:?}",
            world.longest_gap(pinned_top, stops)
        );
        assert_eq!(world.told(pinned_top).last(), Some(&(H, LayerReason::Gone)));
        // The encoder makes keyframes in all layers when it begins one again.
        for layer in world.clients[publisher].layers() {
            layer.audio_only = false;
            layer.want_keyframe();
        }
        world.run(ms(3_000));
        assert_eq!(viewers.map(|viewer| world.seen(viewer)), [1, 2, 1], "seed {seed}");
        for viewer in [pinned_top, middle] {
            world.viewer(viewer).check(&world.ledgers);
            world.assert_one_timeline(viewer);
        }
    }
}

#[test]
fn viewers_change_layers_over_bad_paths() {
    for seed in 0..60 {
        let link = [Link::LOSSY, Link::WILD][seed as usize % 2];
        let mut world = World::new(seed, 1 + seed as usize % 2, link);
        world.publish_layers(Shape::USUAL);
        world.connect();
        world.run(ms(1_500));
        let viewer = world.watch_as(seed % 4 < 2, |viewer| viewer.described = true);
        world.connect();
        for number in 1..8 {
            let layer = LayerIndex::new(world.network.random.below(3) as u8);
            world.limit(viewer, number, pinned(layer));
            let wait = 300 + world.network.random.below(2_000);
            world.run(ms(wait));
        }
        world.run(ms(5_000));
        world.viewer(viewer).check(&world.ledgers);
        assert!(world.behind(viewer, world.seen(viewer)) <= 20, "seed {seed}");
    }
}

#[test]
fn a_viewer_is_sent_what_its_path_carries() {
    for seed in 0..60 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        world.publish_layers(Shape::USUAL);
        world.connect();
        world.run(ms(2_000));
        let viewer = world.watch_in_chromium(true);
        world.connect();
        world.run(ms(9_000));
        assert_eq!(
            world.seen(viewer),
            F.index(),
            "seed {seed}: an unrestricted path carries the top layer"
        );
        // 400 kbit/s.
        world.network.down.rate = Some(50_000);
        world.run(ms(6_000));
        assert_eq!(world.seen(viewer), Q.index(), "seed {seed}");
        let narrow = world.now;
        world.run(ms(20_000));
        assert!(
            world.longest_gap(viewer, narrow) <= ms(1_000),
            "seed {seed}: {:?}",
            world.longest_gap(viewer, narrow)
        );
        world.network.down.rate = None;
        world.run(ms(20_000));
        assert_eq!(world.seen(viewer), F.index(), "seed {seed}: {:?}", world.told(viewer));
        world.viewer(viewer).check(&world.ledgers);
    }
}

#[test]
fn a_change_asks_an_encoder_that_makes_no_keyframes_once() {
    for seed in 0..12 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let rare = Shape {
            keyframes: FOR_EVER,
            ..Shape::USUAL
        };
        let publisher = world.publish_layers(rare);
        world.connect();
        world.run(ms(1_500));
        let viewers = [(); 3].map(|()| world.watch(true));
        world.connect();
        world.run(ms(4_000));
        let asked = world.clients[publisher].layers()[0].plis.len();
        for viewer in viewers {
            world.limit(viewer, 1, pinned(F));
            world.run(ms(100));
        }
        world.run(ms(1_500));
        assert_eq!(viewers.map(|viewer| world.seen(viewer)), [2, 2, 2], "seed {seed}");
        world.run(ms(4_000));
        let then = world.clients[publisher].layers()[0].plis.len();
        assert!(then - asked <= 2, "seed {seed}: {} requests", then - asked);
    }
}

#[test]
fn a_slow_viewer_of_one_layer_is_sent_keyframes_and_sound_until_its_path_carries_all() {
    for seed in 0..24 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        world.publish_as(
            Codec::Vp8,
            true,
            FOR_EVER,
            Shape {
                payload: 200,
                ..Shape::USUAL
            },
        );
        world.connect();
        world.run(ms(2_000));
        let viewer = world.watch_in_chromium(true);
        world.connect();
        world.run(ms(5_000));
        world.network.down.rate = Some(25_000);
        let narrow = world.now;
        world.run(ms(5_000));
        let heard = world.viewer(viewer).audio.packets.len();
        world.run(ms(15_000));
        // A picture with every keyframe, all of the sound.
        let gap = world.longest_gap(viewer, narrow + ms(5_000));
        assert!(gap <= ms(2_200), "seed {seed}: {gap:?}");
        let heard = world.viewer(viewer).audio.packets.len() - heard;
        assert!(heard >= 750 * 85 / 100, "seed {seed}: {heard}");
        world.network.down.rate = None;
        world.run(ms(15_000));
        let gap = world.longest_gap(viewer, world.now - ms(2_000));
        assert!(gap <= ms(80), "seed {seed}: {gap:?}");
        world.viewer(viewer).check(&world.ledgers);
    }
}

#[test]
fn a_viewer_whose_path_carries_only_sound_hears_it_and_gets_its_picture_back() {
    for seed in 0..24 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        world.publish_layers(Shape::USUAL);
        world.connect();
        world.run(ms(2_000));
        // Without RTX there are no probes.
        let viewer = world.watch_in_chromium(seed % 2 == 0);
        world.connect();
        world.run(ms(5_000));
        // 80 kbit/s.
        world.network.down.rate = Some(10_000);
        world.run(ms(10_000));
        let heard = world.viewer(viewer).audio.packets.len();
        world.run(ms(20_000));
        let heard = world.viewer(viewer).audio.packets.len() - heard;
        assert!(heard >= 1_000 * 85 / 100, "seed {seed}: {heard}");
        world.network.down.rate = None;
        world.run(ms(25_000));
        let gap = world.longest_gap(viewer, world.now - ms(2_000));
        assert!(gap <= ms(80), "seed {seed}: {gap:?}");
        world.viewer(viewer).check(&world.ledgers);
    }
}

#[test]
fn spatial_layers_are_chosen_like_others_and_left_out_at_once() {
    for seed in 0..24 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let shape = Shape {
            spatial: 3,
            payload: 700,
            ..Shape::USUAL
        };
        world.publish_as(Codec::Vp9, true, FOR_EVER, shape);
        world.connect();
        world.run(ms(2_000));
        let viewers = [(); 2].map(|()| {
            world.watch_as(true, |viewer| {
                chromium(viewer);
                // The numbers close over what is left out of each picture, as at a start.
                viewer.video.undemanding = true;
            })
        });
        world.connect();
        world.run(ms(9_000));
        assert_eq!(viewers.map(|viewer| world.spatial_seen(viewer)), [2, 2], "seed {seed}");
        let small = LayerLimit {
            max_height: Some(100),
            ..LayerLimit::default()
        };
        let before = world.now;
        world.limit(viewers[1], 1, small);
        world.run(ms(150));
        let from = world.now;
        world.run(ms(1_000));
        assert_eq!(world.spatial_since(viewers[1], from), Some(0), "seed {seed}");
        // 640 kbit/s, of 1.2 Mbit/s. The other viewer's path is as narrow, and carries what it is sent.
        world.network.down.rate = Some(80_000);
        world.run(ms(4_000));
        let from = world.now;
        world.run(ms(10_000));
        assert!(world.spatial_since(viewers[0], from) <= Some(1), "seed {seed}");
        for viewer in viewers {
            let gap = world.longest_gap(viewer, before);
            assert!(gap <= ms(600), "seed {seed}: {gap:?}");
        }
        world.network.down.rate = None;
        world.run(ms(20_000));
        assert_eq!(viewers.map(|viewer| world.spatial_seen(viewer)), [2, 0], "seed {seed}");
        // The whole encoding is the first layer, and its lowest part the second.
        let told = viewers.map(|viewer| world.told(viewer).last().copied());
        let expected = [(0, LayerReason::Recovered), (1, LayerReason::Limit)];
        assert_eq!(
            told,
            expected.map(|(layer, reason)| Some((LayerIndex::new(layer), reason)))
        );
        for viewer in viewers {
            world.viewer(viewer).check(&world.ledgers);
        }
    }
}

/// Paths, layers and choices change at random; every datagram is checked by the simulation.
#[test]
fn whatever_changes_every_viewer_has_a_live_layer_and_its_sound() {
    for seed in 0..24 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let publisher = world.publish_layers(Shape::USUAL);
        world.connect();
        world.run(ms(2_000));
        let viewers = [true, true, false].map(|rtx| world.watch_in_chromium(rtx));
        world.connect();
        let mut number = 0;
        for _ in 0..24 {
            let rate = [None, Some(30_000), Some(60_000), Some(120_000), Some(400_000)];
            world.network.down.rate = rate[world.network.random.below(5) as usize];
            world.network.down.loss = [0, 0, 20][world.network.random.below(3) as usize];
            // The lowest goes on, as in browsers.
            let layer = 1 + world.network.random.below(2) as usize;
            let stops = world.network.random.below(3) == 0;
            world.clients[publisher].layers()[layer].audio_only = stops;
            if !stops {
                let layers = world.clients[publisher].layers();
                layers.iter_mut().for_each(|layer| layer.want_keyframe());
            }
            number += 1;
            let viewer = viewers[world.network.random.below(3) as usize];
            let choice = [LayerLimit::default(), pinned(Q), pinned(H), pinned(F)];
            let choice = choice[world.network.random.below(4) as usize];
            world.limit(viewer, number, choice);
            let wait = 300 + world.network.random.below(3_000);
            world.run(ms(wait));
        }
        (world.network.down.rate, world.network.down.loss) = (None, 0);
        // What has failed often is not tried again for 15 s.
        world.run(ms(25_000));
        for viewer in viewers {
            world.viewer(viewer).check(&world.ledgers);
            let seen = world.seen(viewer);
            assert!(
                world.behind(viewer, seen) <= 20,
                "seed {seed}: its layer {seen} has stopped"
            );
            let gap = world.longest_gap(viewer, world.now - ms(2_000));
            assert!(gap <= ms(500), "seed {seed}: {gap:?}");
            let audio = &world.viewer(viewer).audio;
            let newest = audio.packets.values().next_back().and_then(|got| got.at);
            assert!(
                newest.is_some_and(|at| world.now - at < ms(100)),
                "seed {seed}: no sound"
            );
        }
        // One byte in twenty, or 1 Mbit/s of each shard, and what is saved of that; a probe may end a little beyond.
        let counts = world.counts();
        let seconds = (world.now - world.start).as_secs() + 6;
        let budget = counts.rtp_out_bytes / 20 + world.nodes.len() as u64 * 125_000 * seconds;
        assert!(
            counts.probed_bytes <= budget,
            "seed {seed}: {} of {budget}",
            counts.probed_bytes
        );
    }
}

//! Publishers with several layers, and viewers that change between them.

use onecast_engine::fanout::{Command, Event, Plan};
use onecast_engine::media::{LayerIndex, LayerLimit, LayerReason};
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::sdp::{Offer, Role, SendLayers};

use crate::client::Actor;
use crate::habits::Habit;
use crate::publisher::{Layer, Ledger, Publisher, Shape};
use crate::scenarios::{FOR_EVER, ms};
use crate::world::{Joining, Link, World};

const OFFER: &str = include_str!("../../../../tests/data/layers/chromium156-vp8-simulcast.offer.sdp");
/// Payload bytes of a packet, and picture sizes, by layer.
const LAYERS: [(usize, (u16, u16)); 3] = [(100, (320, 180)), (400, (640, 360)), (1_024, (1_280, 720))];
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
        for (place, (payload, size)) in LAYERS.into_iter().enumerate() {
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
            (direction, plan)
        })
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
        let viewer = world.watch(seed % 4 < 2);
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
    let habit = Habit::Chromium { round_trip: ms(20) };
    for seed in 0..6 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        world.publish_layers(Shape::USUAL);
        world.connect();
        world.run(ms(2_000));
        let viewer = world.watch_as(true, |viewer| {
            viewer.accustomed(habit);
            viewer.report_interval = ms(230);
        });
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

//! The broadcasts.

use std::time::Duration;

use onecast::rtp::Codec;

use crate::client::Actor;
use crate::publisher::{Ledger, Publisher};
use crate::viewer::{Received, Viewer};
use crate::world::{Joining, Link, World};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Ends of media at which everything must have arrived.
const REPAIR: Duration = ms(1_500);

impl World {
    fn publish(&mut self, codec: Codec, rtx: bool, sends_for: Duration) -> usize {
        self.ledgers.push(Ledger::default());
        let number = self.ledgers.len() - 1;
        let seed = self.seed + 1_000 * number as u64;
        let publisher = Publisher::new(number, seed, codec, rtx, true, sends_for);
        let joining = Joining {
            publishes: true,
            rtx,
            active: self.seed % 3 != 0,
        };
        self.join(joining, Actor::Publisher(publisher))
    }

    fn watch(&mut self, rtx: bool) -> usize {
        self.watch_as(rtx, |_| {})
    }

    fn watch_as(&mut self, rtx: bool, change: impl FnOnce(&mut Viewer)) -> usize {
        let mut viewer = Viewer::new(self.seed);
        change(&mut viewer);
        let joining = Joining {
            publishes: false,
            rtx,
            active: self.clients.len() % 2 == 0,
        };
        self.join(joining, Actor::Viewer(viewer))
    }

    fn received(&self, client: usize) -> &Received {
        &self.clients[client].viewer().video
    }

    /// Everything from the viewer's first packet to the publisher's last is there, and it began with a keyframe.
    fn assert_complete(&self, client: usize, publisher: usize) {
        let seed = self.seed;
        let received = self.received(client);
        assert_eq!(received.gap(), None, "seed {seed}: client {client} misses a packet");
        let span = received
            .span(publisher)
            .unwrap_or_else(|| panic!("seed {seed}: client {client} got nothing"));
        let last = self.ledgers[publisher].video.len() - 1;
        assert_eq!(
            span.1, last,
            "seed {seed}: client {client} does not have the last packet"
        );
    }

    fn assert_starts_with_keyframe(&self, client: usize, publisher: usize) {
        let (first, _) = self.received(client).span(publisher).unwrap();
        assert!(self.ledgers[publisher].video[first].keyframe, "seed {}", self.seed);
    }
}

#[test]
fn on_a_clean_network_every_viewer_gets_everything() {
    for seed in 0..10 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        world.publish(Codec::Vp8, true, ms(2_500));
        let mut viewers: Vec<_> = (0..2).map(|_| world.watch(true)).collect();
        world.run(ms(1_000));
        viewers.push(world.watch(false));
        world.run(ms(3_000));
        for viewer in viewers {
            world.assert_complete(viewer, 0);
            world.assert_starts_with_keyframe(viewer, 0);
            let viewer = world.clients[viewer].viewer();
            assert_eq!(viewer.audio.gap(), None);
            assert_eq!(viewer.audio.span(0).unwrap().1, world.ledgers[0].audio.len() - 1);
            assert_eq!(viewer.by_rtx, 0);
            assert!(
                viewer.mapped > 0,
                "seed {seed}: no sender report by the publisher's clock"
            );
        }
    }
}

#[test]
fn loss_is_repaired_with_rtx_and_without() {
    for seed in 0..20 {
        let rtx = seed % 2 == 0;
        let mut world = World::new(seed, 1 + seed as usize / 2 % 2, Link::LOSSY);
        world.publish(Codec::Vp8, rtx, ms(2_500));
        let viewers = [world.watch(true), world.watch(false)];
        world.run(ms(4_000) + REPAIR);
        for viewer in viewers {
            assert_eq!(world.received(viewer).gap(), None, "seed {seed}: client {viewer}");
            let got = world.received(viewer).packets.len();
            assert!(
                got > 100,
                "seed {seed}: client {viewer} got {got} {:?} connected {:?}",
                world.events,
                world.clients.iter().map(|c| c.connected).collect::<Vec<_>>()
            );
        }
        assert!(world.clients[viewers[0]].viewer().by_rtx > 0, "seed {seed}");
        assert_eq!(world.clients[viewers[1]].viewer().by_rtx, 0, "seed {seed}");
    }
}

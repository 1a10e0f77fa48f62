//! The broadcasts.

use std::time::Duration;

use onecast_engine::fanout::{Command, StartConfig};
use onecast_rtc::rtp::Codec;

use crate::client::{Actor, Client};
use crate::network::{Link, Random};
use crate::publisher::{DESCRIPTOR_ID, Ledger, Publisher, Shape};
use crate::starts::WITHOUT_CACHE;
use crate::viewer::{Received, Viewer};
use crate::world::{Joining, World};

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Ends of media at which everything must have arrived.
const REPAIR: Duration = ms(1_500);
pub(crate) const FOR_EVER: Duration = Duration::from_secs(3_600);

impl World {
    pub(crate) fn publish(&mut self, codec: Codec, rtx: bool, sends_for: Duration) -> usize {
        self.publish_as(codec, rtx, sends_for, Shape::USUAL)
    }

    pub(crate) fn publish_as(&mut self, codec: Codec, rtx: bool, sends_for: Duration, shape: Shape) -> usize {
        self.ledgers.push(Ledger::default());
        let number = self.ledgers.len() - 1;
        let seed = self.seed + 1_000 * number as u64;
        let publisher = Publisher::new(number, seed, codec, rtx, true, sends_for).shaped(shape);
        let joining = Joining {
            publishes: true,
            rtx,
            active: !self.seed.is_multiple_of(3),
        };
        self.join(joining, Actor::Publisher(Box::new(publisher)))
    }

    pub(crate) fn watch(&mut self, rtx: bool) -> usize {
        self.watch_as(rtx, |_| {})
    }

    pub(crate) fn watch_as(&mut self, rtx: bool, change: impl FnOnce(&mut Viewer)) -> usize {
        let mut viewer = Viewer::new(self.seed);
        change(&mut viewer);
        let descriptor = viewer.described.then_some(DESCRIPTOR_ID);
        let joining = Joining {
            publishes: false,
            rtx,
            active: self.clients.len().is_multiple_of(2),
        };
        let tracks = self.tracks.clone();
        self.join_as(
            joining,
            Actor::Viewer(Box::new(viewer)),
            tracks,
            |direction, mut plan| {
                let video = plan.subscriptions[0].video.as_mut().unwrap();
                video.extensions.dependency_descriptor = descriptor;
                (direction, plan)
            },
        )
    }

    /// Until all clients have keys.
    pub(crate) fn connect(&mut self) {
        let connected = |client: &Client| client.connected || client.closed;
        let end = self.now + ms(15_000);
        while !self.clients.iter().all(connected) {
            let connected = self.clients.iter().map(|client| client.connected).collect::<Vec<_>>();
            assert!(
                self.now < end,
                "seed {}: not connected in 15 s: {connected:?}, {:?}",
                self.seed,
                self.events
            );
            self.run(ms(5));
        }
    }

    /// Media for so long, and time for repair. With loss the last packets cannot be missed: no later ones show the gap.
    pub(crate) fn broadcast(&mut self, time: Duration) {
        self.run(time);
        for client in &mut self.clients {
            if let Actor::Publisher(publisher) = &mut client.actor {
                publisher.stop();
            }
        }
        self.run(REPAIR);
        self.check();
    }

    /// What every viewer has fits together.
    pub(crate) fn check(&self) {
        for client in &self.clients {
            if let Actor::Viewer(viewer) = &client.actor {
                viewer.check(&self.ledgers);
            }
        }
    }

    pub(crate) fn goodbye(&mut self, client: usize) {
        let now = self.now;
        self.clients[client].peer.close(now);
    }

    pub(crate) fn received(&self, client: usize) -> &Received {
        &self.clients[client].viewer().video
    }

    /// Everything from the viewer's first packet to the publisher's last is there, and it began with a keyframe.
    pub(crate) fn assert_complete(&self, client: usize, publisher: usize) {
        let seed = self.seed;
        let received = self.received(client);
        let got = (received.packets.first_key_value(), received.packets.last_key_value());
        assert_eq!(
            received.gap(),
            None,
            "seed {seed}: client {client} misses a packet of {got:?}"
        );
        let span = received
            .span(publisher)
            .unwrap_or_else(|| panic!("seed {seed}: client {client} got nothing"));
        let last = self.ledgers[publisher].video.len() - 1;
        assert_eq!(
            span.1, last,
            "seed {seed}: client {client} does not have the last packet"
        );
    }

    pub(crate) fn assert_starts_with_keyframe(&self, client: usize, publisher: usize) {
        let (first, _) = self.received(client).span(publisher).unwrap();
        assert!(self.ledgers[publisher].video[first].keyframe, "seed {}", self.seed);
    }
}

#[test]
fn on_a_clean_network_every_viewer_receives_everything() {
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
                viewer.mapped() > 0,
                "seed {seed}: no sender report by the publisher's clock"
            );
        }
    }
}

#[test]
fn loss_is_repaired_with_rtx_and_without() {
    for seed in 0..60 {
        let rtx = seed % 2 == 0;
        let mut world = World::new(seed, 1 + seed as usize / 2 % 2, Link::LOSSY);
        world.publish(Codec::Vp8, rtx, FOR_EVER);
        let viewers = [world.watch(true), world.watch(false)];
        world.connect();
        world.broadcast(ms(2_000));
        for viewer in viewers {
            assert_eq!(world.received(viewer).gap(), None, "seed {seed}: client {viewer}");
            let got = world.received(viewer).packets.len();
            assert!(got > 100, "seed {seed}: client {viewer} got {got}");
        }
        assert!(world.clients[viewers[0]].viewer().by_rtx > 0, "seed {seed}");
        assert_eq!(world.clients[viewers[1]].viewer().by_rtx, 0, "seed {seed}");
    }
}

#[test]
fn reordered_and_duplicated_packets_arrive_once_and_in_order() {
    for seed in 0..60 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::WILD);
        world.publish(Codec::Vp8, true, FOR_EVER);
        let viewers = [world.watch(true), world.watch(false)];
        world.connect();
        world.broadcast(ms(2_000));
        for viewer in viewers {
            world.assert_complete(viewer, 0);
        }
    }
}

#[test]
fn viewers_that_join_before_the_publisher_start_with_its_first_keyframe() {
    for seed in 0..10 {
        let mut world = World::new(seed, 2, Link::CLEAN);
        let viewers = [world.watch(true), world.watch(true), world.watch(false)];
        world.connect();
        assert!(world.tracks.video.is_bound());
        world.publish(Codec::Vp8, true, FOR_EVER);
        world.connect();
        world.broadcast(ms(1_000));
        for viewer in viewers {
            world.assert_complete(viewer, 0);
            assert_eq!(
                world.received(viewer).span(0).unwrap().0,
                0,
                "seed {seed}: nothing was left out"
            );
        }
    }
}

#[test]
fn viewers_stay_when_another_publisher_with_another_codec_takes_over() {
    for seed in 0..10 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let first = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewers = [world.watch(true), world.watch(false)];
        world.connect();
        world.broadcast(ms(1_000));
        if seed % 3 == 0 {
            world.goodbye(first);
        } else {
            let session = world.clients[first].session.clone();
            world.command(&Command::Close(session));
        }
        world.run(ms(500));
        let codec = if seed % 2 == 0 { Codec::Vp9 } else { Codec::Vp8 };
        world.publish(codec, seed % 3 == 1, FOR_EVER);
        world.connect();
        world.broadcast(ms(1_000));
        for viewer in viewers {
            // No gap at all: the numbering goes on where it stopped.
            world.assert_complete(viewer, 1);
            world.assert_starts_with_keyframe(viewer, 1);
            assert_eq!(
                world.received(viewer).span(0).unwrap().1,
                world.ledgers[0].video.len() - 1
            );
        }
    }
}

#[test]
fn a_publisher_continues_when_its_successor_is_refused() {
    for seed in 0..10 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        world.publish(Codec::Vp8, true, FOR_EVER);
        let viewers = [world.watch(true), world.watch(false)];
        world.connect();
        world.run(ms(500));
        let refused = world.publish(Codec::Vp8, true, FOR_EVER);
        world.connect();
        // What the registry decides when the one before sends again.
        let session = world.clients[refused].session.clone();
        world.command(&Command::Close(session));
        world.broadcast(ms(2_000));
        for viewer in viewers {
            assert_eq!(world.received(viewer).gap(), None, "seed {seed}");
            let last = world.received(viewer).span(0).unwrap().1;
            assert_eq!(last, world.ledgers[0].video.len() - 1, "seed {seed}");
        }
    }
}

#[test]
fn a_viewer_that_vanishes_is_gone_after_30_seconds() {
    for seed in 0..4 {
        let mut world = World::new(seed, 2, Link::CLEAN);
        let viewer = world.watch(true);
        world.connect();
        world.clients[viewer].vanished = true;
        world.run(ms(24_000));
        assert_eq!(world.peers(), 1, "seed {seed}: not on a whim");
        world.run(ms(6_100));
        assert_eq!((world.peers(), world.sessions()), (0, 0), "seed {seed}");
        assert!(!world.tracks.video.is_bound() && !world.tracks.audio.is_bound());
    }
}

#[test]
fn a_viewer_that_requests_everything_gets_only_its_allowance() {
    for seed in 0..6 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        world.publish(Codec::Vp8, true, FOR_EVER);
        let greedy = world.watch_as(seed % 2 == 0, |viewer| viewer.greedy = true);
        let other = world.watch(true);
        world.connect();
        world.broadcast(ms(3_000));
        let got = world.guard.retransmitted(world.clients[greedy].address);
        // A fifth of what it is sent, and at first as much as most keyframes; 32 kbit/s when it is sent little.
        let quiet = (world.elapsed().as_secs_f64() * 4_000.0) as usize;
        let share = world.guard.media(world.clients[greedy].address) / 5;
        // A start repairs itself out of its own pace: each of its packets once.
        let past = world.counts().start_packets as usize * 1_100;
        let most = 65_536 + share + quiet + past;
        assert!(got > 65_536 && got <= most, "seed {seed}: {got} of {most} bytes");
        assert_eq!(world.guard.retransmitted(world.clients[other].address), 0);
        world.assert_complete(other, 0);
        world.assert_complete(greedy, 0);
    }
}

#[test]
fn a_failed_send_affects_one_viewer() {
    for seed in 0..10 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        world.publish(Codec::Vp8, true, FOR_EVER);
        let viewers = [world.watch(true), world.watch(true), world.watch(false)];
        world.connect();
        world.run(ms(300));
        world.failing = Some(world.clients[viewers[1]].address);
        world.run(ms(1_500));
        world.failing = None;
        world.broadcast(ms(300));
        assert!(world.guard.runs_failed > 5, "seed {seed}");
        // Of what is sent again as much fails, and nothing is sent again more than three times.
        let got = &world.received(viewers[1]).packets;
        let span = got.last_key_value().unwrap().0 - got.first_key_value().unwrap().0 + 1;
        assert!(
            (span - got.len() as u64) * 25 <= span,
            "seed {seed}: {} of {span}",
            got.len()
        );
        for viewer in [viewers[0], viewers[2]] {
            world.assert_complete(viewer, 0);
            assert_eq!(
                world.guard.retransmitted(world.clients[viewer].address),
                0,
                "seed {seed}"
            );
        }
    }
}

#[test]
fn fifty_impatient_viewers_cost_the_publisher_little() {
    for cached in [true, false] {
        let config = if cached { StartConfig::default() } else { WITHOUT_CACHE };
        let mut world = World::with(1, 2, Link::CLEAN, config);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        for _ in 0..50 {
            world.watch_as(true, |viewer| viewer.impatient = true);
        }
        world.connect();
        world.broadcast(ms(3_000));
        let asked = &world.clients[publisher].publisher().plis;
        let most = if cached { 1 } else { 9 };
        assert!(asked.len() <= most, "{} requests, cache {cached}", asked.len());
        for pair in asked.windows(2) {
            assert!(pair[1] - pair[0] >= ms(500), "{:?} apart", pair[1] - pair[0]);
        }
        for viewer in world.clients.iter().skip(1) {
            let starts = viewer.viewer().video.starts();
            assert!(starts <= 12, "started {starts} times");
        }
    }
}

#[test]
fn a_crowd_connects_in_turns_and_completely() {
    let mut world = World::new(5, 1, Link::CLEAN);
    world.publish(Codec::Vp8, true, FOR_EVER);
    let early = world.watch(true);
    world.connect();
    world.run(ms(500));
    let crowd: Vec<usize> = (0..90).map(|_| world.watch(true)).collect();
    world.connect();
    world.broadcast(ms(500));
    world.assert_complete(early, 0);
    crowd.iter().for_each(|&viewer| world.assert_complete(viewer, 0));
    assert_eq!(world.counts().handshakes_dropped, 0);
}

#[test]
fn viewers_that_join_and_leave_in_mid_frame_do_not_affect_the_others() {
    for seed in 0..6 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        let mut random = Random::new(seed);
        world.publish(Codec::Vp8, true, FOR_EVER);
        let mut early: Vec<usize> = (0..40).map(|_| world.watch(true)).collect();
        let mut late = Vec::new();
        world.connect();
        world.run(ms(500));
        while early.len() > 10 {
            world.run(Duration::from_micros(300 * random.below(40)));
            // With the largest slice a frame goes out in one moment.
            while seed % 3 < 2 && !world.is_flushing() {
                world.run(Duration::from_micros(1 + random.below(100)));
            }
            let leaves = early.swap_remove(random.below(early.len() as u64) as usize);
            if random.below(2) == 0 {
                world.goodbye(leaves);
            } else {
                let session = world.clients[leaves].session.clone();
                world.command(&Command::Close(session));
            }
            late.push(world.watch(true));
        }
        world.connect();
        world.broadcast(ms(500));
        let stayed = early.iter().chain(&late);
        stayed.for_each(|&viewer| world.assert_complete(viewer, 0));
        assert_eq!(
            world.guard.repeated, 0,
            "seed {seed}: no viewer was sent a packet twice"
        );
        assert_eq!(world.counts().retransmitted, 0, "seed {seed}: no viewer missed one");
    }
}

#[test]
fn datagrams_that_reach_the_wrong_shard_are_handed_over() {
    for seed in 0..10 {
        let mut world = World::new(seed, 3, Link::CLEAN);
        world.scattered = true;
        world.publish(Codec::Vp8, true, FOR_EVER);
        let viewers = [world.watch(true), world.watch(false)];
        world.run(ms(5_000));
        world.connect();
        world.broadcast(ms(1_000));
        assert!(world.strays > 100, "seed {seed}");
        viewers.iter().for_each(|&viewer| world.assert_complete(viewer, 0));
    }
}

#[test]
fn a_session_that_is_closed_ends_with_close_notify() {
    for seed in 0..6 {
        let mut world = World::new(seed, 2, Link::CLEAN);
        let clients = [
            world.publish(Codec::Vp8, true, FOR_EVER),
            world.watch(true),
            world.watch(true),
        ];
        world.connect();
        world.run(ms(500 * seed));
        let session = world.clients[clients[1]].session.clone();
        world.command(&Command::Close(session));
        world.run(ms(100));
        assert!(
            world.clients[clients[1]].closed && !world.clients[clients[2]].closed,
            "seed {seed}"
        );
        assert_eq!(world.peers(), 2);
        world.command(&Command::Shutdown);
        world.run(ms(100));
        assert!(
            clients.iter().all(|&client| world.clients[client].closed),
            "seed {seed}"
        );
        assert_eq!((world.peers(), world.sessions()), (0, 0));
        assert!(!world.tracks.video.is_bound());
    }
}

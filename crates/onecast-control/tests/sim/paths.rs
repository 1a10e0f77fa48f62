//! Where media goes: clients that move, clients that send only media, and clients that name the address of another one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use onecast_engine::fanout::Event;
use onecast_rtc::rtp::Codec;

use crate::network::Link;
use crate::room::Room;
use crate::scenarios::{FOR_EVER, ms};
use crate::stun::check;
use crate::viewer::Received;
use crate::world::{Joining, World};

/// The longest a bystander may wait for its next packet while others are attacked.
const GAP_MAX: Duration = ms(100);
/// Until media is where its client has gone without a word: a consent check, and the silence of the old address.
const FOLLOWS_WITHIN: Duration = ms(15_000);

pub(crate) fn victim(number: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, number], 5_004))
}

impl World {
    /// A NAT gives the client another port: its datagrams come from there, and what goes to the old one is lost.
    pub(crate) fn rebind(&mut self, client: usize) -> SocketAddr {
        let address = &mut self.clients[client].address;
        let before = *address;
        address.set_port(before.port() + 3_000);
        before
    }

    /// The longest time between two packets of a viewer since `from`, until now.
    pub(crate) fn longest_gap(&self, viewer: usize, from: Instant) -> Duration {
        longest_gap(self.received(viewer), from, self.now)
    }

    fn is_closed(&self, client: usize) -> bool {
        let id = self.clients[client].session.id;
        let closed = |event: &Event| matches!(event, Event::Closed { session, .. } if *session == id);
        self.events.iter().any(|(_, event)| closed(event))
    }
}

fn longest_gap(received: &Received, from: Instant, to: Instant) -> Duration {
    let mut times: Vec<Instant> = received.packets.values().filter_map(|got| got.at).collect();
    times.retain(|at| *at > from);
    times.extend([from, to]);
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[test]
fn a_spoofed_nomination_sends_nothing_to_its_victim_and_disturbs_no_client() {
    for (seed, shards) in [(1, 1), (2, 2)] {
        for often in [false, true] {
            let mut world = World::new(seed, shards, Link::CLEAN);
            let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
            let (attacker, bystander) = (world.watch(true), world.watch(true));
            world.connect();
            world.run(ms(500));
            let from = world.now;
            let mut received = 0;
            for second in 0..45 {
                for client in [attacker, publisher] {
                    if second == 0 || often {
                        let check = check(&world.clients[client].session, true);
                        world.spoof(victim(client as u8), &check);
                        received += check.len();
                    }
                }
                world.run(ms(1_000));
            }
            for client in [attacker, publisher] {
                let sent = world.guard.sent(victim(client as u8));
                assert!(
                    sent.bytes <= 3 * received / 2,
                    "seed {seed}: {sent:?} for {received} bytes"
                );
                assert_eq!((sent.media, sent.control, sent.dtls), (0, 0, 0), "seed {seed}");
                assert!(!world.is_closed(client), "seed {seed}");
            }
            for viewer in [attacker, bystander] {
                let gap = world.longest_gap(viewer, from);
                assert!(gap <= GAP_MAX, "seed {seed}: nothing for {gap:?}");
            }
        }
    }
}

#[test]
fn a_viewer_with_a_new_nat_port_resumes() {
    for seed in 0..6 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(500 + 900 * seed));
        let before = world.rebind(viewer);
        let from = world.now;
        world.run(FOLLOWS_WITHIN);
        let gap = world.longest_gap(viewer, from);
        assert!(gap < ms(13_000), "seed {seed}: nothing for {gap:?}");
        let sent = world.guard.sent(before);
        world.run(ms(40_000));
        assert_eq!(
            world.guard.sent(before),
            sent,
            "seed {seed}: media goes to the old port"
        );
        assert!(!world.is_closed(viewer), "seed {seed}");
        // What was lost on the way is not there any more; it has started again since.
        let from = world.now - ms(35_000);
        assert!(world.longest_gap(viewer, from) <= GAP_MAX, "seed {seed}");
    }
}

#[test]
fn media_and_rtcp_continue_when_a_nat_gives_a_publisher_another_port() {
    for seed in 0..6 {
        for unanswering in [false, true] {
            let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
            let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
            let viewer = world.watch(true);
            world.connect();
            // Some publishers answer requests only during the handshake.
            world.clients[publisher].unanswering = unanswering;
            world.run(ms(500 + 900 * seed));
            world.rebind(publisher);
            let moved = world.clients[publisher].address;
            world.run(FOLLOWS_WITHIN);
            let told = world.guard.sent(moved).control;
            assert!(told > 0, "seed {seed}: no feedback reaches it");
            let from = world.now;
            world.run(ms(40_000));
            assert!(world.longest_gap(viewer, from) <= GAP_MAX, "seed {seed}");
            assert!(world.guard.sent(moved).control > told + 30, "seed {seed}");
        }
    }
}

#[test]
fn a_member_with_a_new_nat_port_resumes_in_both_directions() {
    for seed in 1..4 {
        let mut room = Room::new(seed, 2, Link::CLEAN);
        let (a, b) = (room.join(10), room.join(11));
        room.tell();
        room.world.connect();
        room.world.run(ms(1_000));
        let client = room.members[a].client;
        room.world.rebind(client);
        room.world.run(FOLLOWS_WITHIN);
        let from = room.world.now;
        room.world.run(ms(10_000));
        let now = room.world.now;
        for (at, of) in [(a, b), (b, a)] {
            let gap = longest_gap(&room.viewer(at, of).video, from, now);
            assert!(gap <= GAP_MAX, "seed {seed}: {at} has nothing of {of} for {gap:?}");
        }
        let moved = room.world.clients[client].address;
        assert!(room.world.guard.sent(moved).control > 0, "seed {seed}");
    }
}

#[test]
fn clients_that_send_only_media_stay_and_time_out_when_they_vanish() {
    for seed in 0..3 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        world.connect();
        for client in [publisher, viewer] {
            world.clients[client].uncheckable = true;
        }
        let from = world.now;
        world.run(ms(70_000));
        assert!(world.longest_gap(viewer, from) <= GAP_MAX, "seed {seed}");
        for client in [publisher, viewer] {
            assert!(!world.is_closed(client), "seed {seed}");
            world.clients[client].vanished = true;
        }
        world.run(ms(31_000));
        assert_eq!((world.peers(), world.sessions()), (0, 0), "seed {seed}");
        assert!(world.paths().iter().all(|known| *known == (0, 0)), "seed {seed}");
    }
}

#[test]
fn members_that_send_only_media_stay() {
    let mut room = Room::new(1, 2, Link::CLEAN);
    let (a, b) = (room.join(10), room.join(11));
    room.tell();
    room.world.connect();
    room.world
        .clients
        .iter_mut()
        .for_each(|client| client.uncheckable = true);
    room.world.run(ms(65_000));
    let (from, now) = (room.world.now - ms(60_000), room.world.now);
    for (at, of) in [(a, b), (b, a)] {
        assert!(longest_gap(&room.viewer(at, of).video, from, now) <= GAP_MAX);
    }
    for at in [a, b] {
        let client = room.members[at].client;
        room.world.clients[client].vanished = true;
    }
    room.world.run(ms(31_000));
    assert_eq!(room.world.peers(), 0);
}

#[test]
fn a_client_that_nominates_another_network_is_followed_at_once_there_and_back() {
    for seed in 0..12 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(500));
        for _ in 0..4 {
            let from = world.now;
            let wifi: Vec<SocketAddr> = [publisher, viewer].map(|client| world.rebind(client)).into();
            for client in [publisher, viewer] {
                let now = world.now;
                world.clients[client].peer.nominate(now);
            }
            world.run(ms(1_500));
            let gap = world.longest_gap(viewer, from);
            assert!(gap <= ms(150), "seed {seed}: nothing for {gap:?} on the way there");
            let from = world.now;
            for (client, wifi) in [publisher, viewer].into_iter().zip(wifi) {
                let now = world.now;
                world.clients[client].address = wifi;
                world.clients[client].peer.nominate(now);
            }
            world.run(ms(1_500));
            let gap = world.longest_gap(viewer, from);
            assert!(gap <= ms(150), "seed {seed}: nothing for {gap:?} on the way back");
        }
        world.broadcast(ms(500));
        assert_eq!(world.received(viewer).gap_since_start(), None, "seed {seed}");
    }
}

#[test]
fn a_handshake_sends_at_most_two_flights_to_a_victim() {
    for active in [true, false] {
        let mut world = World::new(1, 1, Link::CLEAN);
        let joining = Joining {
            publishes: false,
            rtx: true,
            active,
        };
        let actor = crate::client::Actor::Viewer(Box::new(crate::viewer::Viewer::new(1)));
        let client = world.join(joining, actor);
        world.clients[client].vanished = true;
        let check = check(&world.clients[client].session, true);
        world.spoof(victim(1), &check);
        world.run(ms(40_000));
        let sent = world.guard.sent(victim(1));
        assert_eq!(sent.dtls, if active { 0 } else { 2 }, "{sent:?}");
        assert!(sent.stun <= 3, "{sent:?}");
        assert!(sent.bytes <= 3 * check.len() + 2 * 250, "{sent:?} for {}", check.len());
        assert_eq!(world.peers(), 0);
    }
}

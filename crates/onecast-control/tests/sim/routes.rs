//! Which client an address belongs to, on whichever shard its datagrams arrive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use onecast_engine::fanout::{Command, Direction, Plan, Session};
use onecast_rtc::rtp::Codec;
use onecast_rtc::{IceCredentials, SessionId};

use crate::network::Link;
use crate::scenarios::{FOR_EVER, ms};
use crate::stun::{check, check_with};
use crate::world::World;

/// The longest a bystander may wait for its next packet while others are attacked.
const GAP_MAX: Duration = ms(100);

/// An address whose datagrams reach a shard of two.
fn address_at(shard: u16, number: u16) -> SocketAddr {
    let host = (number / 20_000) as u8;
    SocketAddr::from(([203, 0, 113, host], 10_000 + 2 * (number % 20_000) + shard))
}

impl World {
    /// A session whose client only ever checks.
    fn stranger(&mut self, number: u32) -> Arc<Session> {
        self.strangers += 1;
        let credentials = |name: &str| IceCredentials {
            ufrag: format!("{name}{number}").into(),
            pwd: format!("{name}{number}01234567890123456789012").into(),
        };
        let mut id = [9; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let mut remote = self.clients[0].session.remote.clone();
        remote.ice = credentials("stranger");
        let plan = Plan::watch(self.tracks.clone(), None, None);
        let (id, local) = (SessionId::from_random(id), credentials("ours"));
        let session = Session::new(id, local, remote, Direction::ReceiveOnly, plan, self.now);
        let session = Arc::new(session);
        self.command(&Command::Expect(session.clone()));
        session
    }
}

#[test]
fn checks_with_a_wrong_password_change_no_routes() {
    let mut world = World::new(2, 2, Link::CLEAN);
    // Everything of a client reaches another shard than its first check.
    world.scattered = true;
    let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
    let viewer = world.watch(true);
    world.connect();
    world.run(ms(6_000));
    let known = world.paths();
    assert!(known.iter().all(|(own, foreign)| *own > 0 || *foreign > 0), "{known:?}");
    assert!(
        known.iter().map(|(_, foreign)| foreign).sum::<usize>() >= 2,
        "{known:?}"
    );
    let (from, strays) = (world.now, world.strays);
    let forged = check_with(&world.clients[publisher].session, "guessed0123456789012345", true);
    for port in 0..9_500 {
        for shard in 0..2 {
            world.spoof(address_at(shard, port), &forged);
            world.spoof(address_at(shard, port), &forged);
        }
        if port % 50 == 0 {
            world.run(ms(10));
        }
    }
    world.run(ms(500));
    assert_eq!(world.paths(), known);
    assert!(world.counts().stun_dropped >= 38_000);
    assert_eq!(world.counts().strays_dropped, 0);
    let handed_over = world.strays - strays;
    assert!(handed_over < 3_000, "{handed_over} forged checks were handed over");
    let gap = world.longest_gap(viewer, from);
    assert!(gap <= GAP_MAX, "nothing for {gap:?}");
}

#[test]
fn a_shard_knows_any_number_of_clients_of_other_shards() {
    const STRANGERS: u16 = 4_500;
    let mut world = World::new(2, 2, Link::CLEAN);
    world.command(&Command::PeersMax(10_000));
    world.scattered = true;
    world.publish(Codec::Vp8, true, FOR_EVER);
    let viewer = world.watch(true);
    world.connect();
    world.run(ms(6_000));
    let from = world.now;
    let before: usize = world.paths().iter().map(|(_, foreign)| foreign).sum();
    world.scattered = false;
    for number in 0..STRANGERS {
        let session = world.stranger(u32::from(number));
        let check = check(&session, false);
        // Adopted on one shard, heard of again on the other.
        let shard = number % 2;
        world.spoof(address_at(shard, number), &check);
        world.run(ms(if number % 50 == 0 { 15 } else { 0 }));
        world.spoof(address_at(1 - shard, number), &check);
    }
    world.run(ms(300));
    let foreign: usize = world.paths().iter().map(|(_, foreign)| foreign).sum();
    assert!(
        foreign >= before + usize::from(STRANGERS) * 9 / 10,
        "{foreign} of {STRANGERS}"
    );
    let gap = world.longest_gap(viewer, from);
    assert!(gap <= GAP_MAX, "nothing for {gap:?}");
    // Their handshakes never come.
    world.run(ms(60_000));
    let foreign: usize = world.paths().iter().map(|(_, foreign)| foreign).sum();
    assert_eq!((foreign, world.peers()), (before, 2), "no shard knows what has ended");
}

#[test]
fn routes_from_ever_changing_addresses_are_bounded() {
    let mut world = World::new(2, 2, Link::CLEAN);
    world.publish(Codec::Vp8, true, FOR_EVER);
    let (attacker, viewer) = (world.watch(true), world.watch(true));
    world.connect();
    world.run(ms(500));
    let from = world.now;
    let check = check(&world.clients[attacker].session, true);
    for port in 0..4_000 {
        world.spoof(address_at(port % 2, port), &check);
        if port % 50 == 0 {
            world.run(ms(10));
        }
    }
    world.run(ms(300));
    let known = world.paths();
    let all: usize = known.iter().map(|(own, foreign)| own + foreign).sum();
    assert!(all <= 2 * 8 + 4, "{known:?}");
    for viewer in [attacker, viewer] {
        let gap = world.longest_gap(viewer, from);
        assert!(gap <= GAP_MAX, "nothing for {gap:?}");
    }
}

#[test]
fn a_check_from_the_address_of_another_client_does_not_take_it_over() {
    for seed in 1..7 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let (attacker, bystander) = (world.watch(true), world.watch(true));
        world.connect();
        world.run(ms(500));
        let (from, dropped) = (world.now, world.counts().rtcp_dropped);
        let check = check(&world.clients[attacker].session, true);
        for _ in 0..40 {
            for victim in [publisher, bystander] {
                let address = world.clients[victim].address;
                world.spoof(address, &check);
            }
            world.run(ms(500));
        }
        for viewer in [attacker, bystander] {
            let gap = world.longest_gap(viewer, from);
            assert!(gap <= GAP_MAX, "seed {seed}: nothing for {gap:?}");
        }
        // Reports, and requests for what was lost, are heard as well.
        assert_eq!(world.counts().rtcp_dropped, dropped, "seed {seed}");
        world.broadcast(ms(300));
        world.assert_complete(bystander, publisher);
    }
}

#[test]
fn a_client_at_the_address_of_one_that_has_left_connects() {
    for seed in 0..6 {
        for unanswering in [false, true] {
            let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
            // Nothing is published: what the shard seals for the one that is gone would go to the same address.
            let gone = world.watch(true);
            world.connect();
            world.run(ms(500));
            world.clients[gone].vanished = true;
            let address = world.clients[gone].address;
            world.clients[gone].address = SocketAddr::from(([0, 0, 0, 0], 1));
            let next = world.watch(true);
            world.clients[next].address = address;
            world.clients[next].unanswering = unanswering;
            // With an answer at once; without one when the other has been silent long enough.
            world.run(ms(if unanswering { 12_000 } else { 1_000 }));
            assert!(world.clients[next].connected, "seed {seed}: answers {}", !unanswering);
        }
    }
}

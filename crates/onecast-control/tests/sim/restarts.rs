//! ICE restarts: the client goes over to other credentials, perhaps from another address, and media goes on.

use std::net::SocketAddr;
use std::sync::Arc;

use onecast_engine::fanout::{Command, Event, Restart, StartConfig};
use onecast_rtc::rtp::Codec;
use onecast_rtc::{IceCredentials, IceSession};

use crate::client::Client;
use crate::network::Link;
use crate::scenarios::{FOR_EVER, ms};
use crate::world::World;

/// What both ends have agreed on for a restart.
struct Agreed {
    client: usize,
    own: IceCredentials,
    server: IceCredentials,
}

impl World {
    /// Answers a restart as the server does: tells every shard.
    fn agree(&mut self, client: usize, number: u32) -> Agreed {
        let session = self.clients[client].session.clone();
        let own = IceCredentials {
            ufrag: format!("again{client}x{number}").into(),
            pwd: format!("again{client}x{number}012345678901234567").into(),
        };
        let server = IceCredentials {
            ufrag: format!("renewed{client}x{number}").into(),
            pwd: format!("renewed{client}x{number}0123456789012345").into(),
        };
        let ice = IceSession {
            number,
            local: server.clone(),
            remote: own.clone(),
        };
        self.command(&Command::Restart(Arc::new(Restart { session, ice })));
        Agreed { client, own, server }
    }

    /// The client goes over.
    fn follow(&mut self, agreed: &Agreed) {
        let now = self.now;
        let client = &mut self.clients[agreed.client];
        client.peer.restart(&agreed.own, agreed.server.clone(), now);
    }

    /// The client has another address: its datagrams reach another shard, and what is sent to the old address is lost.
    fn move_away(&mut self, client: usize) -> SocketAddr {
        let address = &mut self.clients[client].address;
        let before = *address;
        address.set_port(before.port() + 1_001);
        before
    }

    fn assert_gone_over(&self, client: usize, times: usize) {
        let Client { session, address, .. } = &self.clients[client];
        let told = self.events.iter().filter_map(|(_, event)| match event {
            Event::Restarted { session: id, path } if *id == session.id => Some(path.remote),
            _ => None,
        });
        let told: Vec<SocketAddr> = told.collect();
        assert_eq!(told.len(), times, "seed {}: {told:?}", self.seed);
        assert_eq!(told.last(), Some(address), "seed {}", self.seed);
        assert!(!self.clients[client].closed, "seed {}", self.seed);
    }
}

#[test]
fn a_restart_in_mid_play_loses_nothing() {
    for seed in 0..12 {
        let mut world = World::new(seed, 1 + seed as usize % 2, Link::CLEAN);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewers = [world.watch(true), world.watch(false)];
        world.connect();
        world.run(ms(500));
        for client in [publisher, viewers[0]] {
            let agreed = world.agree(client, 1);
            world.follow(&agreed);
        }
        world.run(ms(100));
        world.broadcast(ms(1_000));
        for client in [publisher, viewers[0]] {
            world.assert_gone_over(client, 1);
        }
        viewers
            .iter()
            .for_each(|&viewer| world.assert_complete(viewer, publisher));
        assert_eq!(world.counts().connected, 3, "seed {seed}: the keys stay");
        assert_eq!((world.counts().ice_restarts, world.counts().retransmitted), (2, 0));
    }
}

#[test]
fn media_follows_to_an_address_on_another_shard_and_losses_are_repaired() {
    for link in [Link::CLEAN, Link::LOSSY, Link::WILD] {
        for seed in 0..20 {
            let mut world = World::new(seed, 2, link);
            let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
            let viewer = world.watch(true);
            world.connect();
            world.run(ms(500));
            for client in [publisher, viewer] {
                let agreed = world.agree(client, 1);
                world.move_away(client);
                world.follow(&agreed);
                world.run(ms(300));
            }
            world.broadcast(ms(1_500));
            world.assert_gone_over(publisher, 1);
            world.assert_gone_over(viewer, 1);
            assert!(world.strays > 50, "seed {seed}: {} strays", world.strays);
            // A start of which much was lost on the way is sent again as a whole.
            assert_eq!(world.received(viewer).gap_since_start(), None, "seed {seed}");
            let last = *world.received(viewer).packets.last_key_value().unwrap().1;
            let sent = world.ledgers[0].video.len();
            assert!(last.position + 60 > sent, "seed {seed}: {} of {sent}", last.position);
            assert_eq!(world.counts().connected, 2, "seed {seed}");
        }
    }
}

#[test]
fn without_the_restart_a_move_is_not_followed() {
    let mut world = World::new(2, 2, Link::CLEAN);
    world.publish(Codec::Vp8, true, FOR_EVER);
    let viewer = world.watch(true);
    world.connect();
    world.run(ms(500));
    let agreed = world.agree(viewer, 1);
    world.move_away(viewer);
    // An attacker that knows the new ufrag guesses the password.
    let forged = Agreed {
        server: IceCredentials {
            pwd: "guessed0123456789012345".into(),
            ..agreed.server.clone()
        },
        ..agreed
    };
    world.follow(&forged);
    world.run(ms(100));
    let before = world.received(viewer).packets.len();
    world.run(ms(2_000));
    assert_eq!(world.received(viewer).packets.len(), before);
    assert_eq!(world.counts().ice_restarts, 0);
}

#[test]
fn an_abandoned_restart_disturbs_nothing() {
    for seed in 0..4 {
        let mut world = World::with(seed, 2, Link::CLEAN, StartConfig::default());
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(200));
        for client in [publisher, viewer] {
            world.agree(client, 1);
        }
        // Longer than consent lasts, in the credentials of before.
        world.broadcast(ms(40_000));
        world.assert_complete(viewer, publisher);
        assert_eq!((world.peers(), world.counts().ice_restarts), (2, 0), "seed {seed}");
        let session = world.clients[viewer].session.clone();
        world.command(&Command::Close(session));
        world.goodbye(publisher);
        world.run(ms(200));
        assert_eq!(
            (world.sessions(), world.restarts()),
            (0, 0),
            "seed {seed}: nothing stays"
        );
    }
}

#[test]
fn many_restarts_some_of_them_unused_keep_the_session() {
    for seed in 0..12 {
        let mut world = World::new(seed, 2, Link::LOSSY);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        world.connect();
        world.run(ms(500));
        let mut used = 0;
        for number in 1..=9 {
            for client in [publisher, viewer] {
                let agreed = world.agree(client, number);
                if (u64::from(number) + seed) % 3 == 0 {
                    world.move_away(client);
                    world.follow(&agreed);
                }
            }
            used += usize::from((u64::from(number) + seed).is_multiple_of(3));
            world.run(ms(700));
            // On each of the two shards: the one in use, and those that may come next.
            assert!(world.restarts() <= 2 * 2 * 3, "seed {seed}: {}", world.restarts());
        }
        // In what it used last, at whichever shard, it lives on.
        world.run(ms(31_000));
        world.broadcast(ms(500));
        world.assert_gone_over(publisher, used);
        world.assert_gone_over(viewer, used);
        // A start of which much was lost on the way is sent again as a whole.
        assert_eq!(world.received(viewer).gap_since_start(), None, "seed {seed}");
        assert_eq!(world.peers(), 2, "seed {seed}");
        world.command(&Command::Shutdown);
        world.run(ms(200));
        assert_eq!((world.sessions(), world.restarts()), (0, 0), "seed {seed}");
    }
}

#[test]
fn a_session_may_restart_before_it_connects_and_use_either_ice_session() {
    for seed in 0..12 {
        let mut world = World::new(seed, 2, Link::LOSSY);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        for client in [publisher, viewer] {
            let agreed = world.agree(client, 1);
            if seed % 2 == 0 {
                world.follow(&agreed);
            }
        }
        world.connect();
        world.broadcast(ms(1_000));
        let expected = if seed % 2 == 0 { 2 } else { 0 };
        assert_eq!(world.counts().ice_restarts, expected, "seed {seed}");
        // A start of which much was lost on the way is sent again as a whole.
        assert_eq!(world.received(viewer).gap_since_start(), None, "seed {seed}");
    }
}

#[test]
fn a_client_that_restarts_ice_during_the_handshake_gets_its_keys() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2, Link::CLEAN);
        let publisher = world.publish(Codec::Vp8, true, FOR_EVER);
        let viewer = world.watch(true);
        world.run(ms(5 + 4 * seed));
        for client in [publisher, viewer] {
            let agreed = world.agree(client, 1);
            world.move_away(client);
            world.follow(&agreed);
        }
        world.connect();
        world.broadcast(ms(1_000));
        world.assert_complete(viewer, publisher);
        world.assert_gone_over(viewer, 1);
    }
}

#[test]
fn no_shard_expects_a_session_that_has_ended() {
    let mut world = World::new(1, 2, Link::CLEAN);
    let viewer = world.watch(true);
    let session = world.clients[viewer].session.clone();
    session.withdraw();
    world.command(&Command::Close(session.clone()));
    world.command(&Command::Expect(session));
    world.run(ms(100));
    assert_eq!(world.sessions(), 0);
}

#[test]
fn restarts_unknown_to_some_shards_do_not_accumulate() {
    let mut world = World::new(1, 2, Link::CLEAN);
    world.publish(Codec::Vp8, true, FOR_EVER);
    let viewer = world.watch(true);
    world.connect();
    let session = world.clients[viewer].session.clone();
    for attempt in 0..50 {
        let ice = IceSession {
            number: 1,
            local: IceCredentials {
                ufrag: format!("void{attempt}").into(),
                pwd: format!("void{attempt:02}0123456789012345").into(),
            },
            remote: IceCredentials {
                ufrag: "again".into(),
                pwd: "again0123456789012345678".into(),
            },
        };
        let session = session.clone();
        world.command(&Command::Restart(Arc::new(Restart { session, ice })));
    }
    world.run(ms(100));
    assert_eq!(world.restarts(), 2, "the last one, on each shard");
    world.command(&Command::Close(session));
    world.run(ms(200));
    assert_eq!(world.restarts(), 0);
}

//! Viewers that make the server work beside a broadcast, whose other viewers must not notice.

use std::time::Duration;

use onecast_rtc::rtp::Codec;
use onecast_udp::thread_cpu_time;

use crate::dtls_attack::nested_fragments;
use crate::network::Link;
use crate::scenarios::{FOR_EVER, ms};
use crate::world::World;

/// Lets time pass in steps, and gives the most processor time that one of them took.
fn longest_step(world: &mut World, steps: u32) -> Duration {
    let step = |_| {
        let before = thread_cpu_time();
        world.run(ms(1));
        thread_cpu_time()
            .zip(before)
            .map_or(Duration::ZERO, |(after, before)| after - before)
    };
    (0..steps).map(step).max().unwrap_or_default()
}

/// The longest time between two packets of a viewer's video.
fn longest_gap(world: &World, viewer: usize) -> Duration {
    let mut arrivals: Vec<_> = world
        .received(viewer)
        .packets
        .values()
        .filter_map(|got| got.at)
        .collect();
    arrivals.sort_unstable();
    let gaps = arrivals.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().expect("the viewer has packets")
}

#[test]
fn viewers_that_send_nested_fragments_stall_no_other_client() {
    for seed in 0..3 {
        let mut world = World::new(seed, 1, Link::CLEAN);
        world.publish(Codec::Vp8, true, FOR_EVER);
        let bystander = world.watch(true);
        world.connect();
        world.run(ms(500));
        // They may watch, have passed a check, and go no further.
        let attackers: Vec<usize> = (0..4).map(|_| world.watch(true)).collect();
        world.run(ms(25));
        let addresses = attackers.iter().map(|&attacker| {
            world.clients[attacker].vanished = true;
            world.clients[attacker].address
        });
        let addresses: Vec<_> = addresses.collect();
        let late = world.watch(true);
        let mut longest = Duration::ZERO;
        for datagram in nested_fragments().iter().cycle().take(4 * 56) {
            for &address in &addresses {
                world.network.send(world.now, address, true, datagram);
            }
            longest = longest.max(longest_step(&mut world, 5));
        }
        // Processor time, which a busy machine does not stretch. All of media waits as long as a step takes.
        assert!(longest < ms(100), "seed {seed}: {longest:?} in a millisecond");
        assert!(world.clients[late].connected, "seed {seed}: a viewer gets in meanwhile");
        world.broadcast(ms(200));
        world.assert_complete(bystander, 0);
        let gap = longest_gap(&world, bystander);
        assert!(gap <= ms(100), "seed {seed}: {gap:?} without a packet");
    }
}

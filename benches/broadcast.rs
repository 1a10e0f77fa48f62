//! A broadcast in simulated time: CPU of a shard for a frame and for a join, without a network. Every run has the same packets.

use std::hint::black_box;
use std::time::Duration;

use broadcast::Broadcast;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onecast_rtc::Certificate;

#[path = "../tests/common/broadcast.rs"]
#[expect(clippy::unwrap_used, reason = "shared with a test")]
mod broadcast;

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame of 6 packets");
    for viewers in [10, 100, 1_000] {
        let mut broadcast = Broadcast::of(viewers, false);
        broadcast.frame(true);
        broadcast.pass(Duration::from_millis(100));
        (0..400).for_each(|_| broadcast.frame(false));
        group.throughput(Throughput::Elements(6 * u64::from(viewers)));
        group.bench_function(format!("{viewers} viewers"), |b| {
            b.iter(|| broadcast.frame(false));
        });
        while broadcast.shard.poll_event().is_some() {}
    }
}

/// A packet to a viewer of one of three layers, next to one of a single layer: in turns, in one run.
fn layers(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame of 6 packets to 1000 viewers");
    group.throughput(Throughput::Elements(6 * 1_000));
    for (name, mut broadcast) in [
        ("of one layer", Broadcast::of(1_000, false)),
        ("of three layers", Broadcast::of_layers(1_000)),
    ] {
        broadcast.frame(true);
        broadcast.pass(Duration::from_millis(100));
        (0..400).for_each(|_| broadcast.frame(false));
        group.bench_function(name, |b| b.iter(|| broadcast.frame(false)));
        while broadcast.shard.poll_event().is_some() {}
    }
}

/// A report of each of 1,000 viewers of three layers, where the shard chooses by them what viewers are sent, and where it does not.
fn reports(c: &mut Criterion) {
    let mut group = c.benchmark_group("reports of 1000 viewers");
    group.throughput(Throughput::Elements(1_000));
    for (name, adapts) in [("without a choice", false), ("with a choice", true)] {
        let mut broadcast = Broadcast::of_layers_if(1_000, adapts);
        broadcast.frame(true);
        broadcast.pass(Duration::from_millis(100));
        (0..400).for_each(|_| broadcast.frame(false));
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                let mut time = Duration::ZERO;
                for _ in 0..count {
                    broadcast.pass(Duration::from_millis(30));
                    let mut reports = broadcast.reports();
                    let start = onecast_udp::clock::now();
                    broadcast.take_reports(&mut reports);
                    time += onecast_udp::clock::now() - start;
                    while broadcast.shard.poll_event().is_some() {}
                }
                time
            });
        });
    }
}

fn joins(c: &mut Criterion) {
    let certificate = Certificate::generate().expect("randomness");
    let mut group = c.benchmark_group("join");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    group.bench_function("offer to keys, both ends", |b| {
        b.iter_custom(|count| {
            let mut broadcast = Broadcast::of(1, false);
            let start = onecast_udp::clock::now();
            for number in 0..count {
                // Numbers repeat after 5,000: the later client takes over the address.
                let number = 2 + (number % 5_000) as u16;
                black_box(broadcast.connect(number, false, &certificate));
            }
            onecast_udp::clock::now() - start
        });
    });
}

criterion_group!(benches, frames, layers, reports, joins);
criterion_main!(benches);

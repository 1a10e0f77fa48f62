//! Single steps of a packet's path: header, window, keyframe detection. Sealing and SDP have their own benchmarks.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use onecast_engine::media::packet::PassedExtensions;
use onecast_engine::media::window::{CacheBounds, Window, WindowBounds};
use onecast_engine::media::{LayerIndex, Packet};
use onecast_rtc::rtp::header::{HeaderOut, RtpHeader};
use onecast_rtc::rtp::keyframe::starts_keyframe;
use onecast_rtc::rtp::{Codec, LayerId, Pt, Refresh, RtpTime, Ssrc};

fn header(c: &mut Criterion) {
    let mut buffer = [0; 64];
    let mut sequence = 0u16;
    let out = |sequence| HeaderOut {
        marker: true,
        padding: false,
        payload_type: Pt(96),
        sequence,
        timestamp: RtpTime(3_000),
        ssrc: Ssrc(7),
    };
    c.bench_function("header, written", |b| {
        b.iter(|| {
            sequence = sequence.wrapping_add(1);
            out(sequence).write(black_box(&mut buffer), &[])
        });
    });
    let orientation = [1];
    c.bench_function("header with an extension, written", |b| {
        b.iter(|| out(1).write(black_box(&mut buffer), &[(4, &orientation)]));
    });
    let len = out(1).write(&mut buffer, &[(4, &orientation)]);
    c.bench_function("header with an extension, read", |b| {
        b.iter(|| RtpHeader::parse(black_box(&buffer[..len + 20])).map(|header| header.sequence));
    });
}

fn window(c: &mut Criterion) {
    let arrived = onecast_udp::clock::now();
    let packet = |index: u64| {
        let starts = index.is_multiple_of(600);
        Arc::new(Packet {
            codec: Codec::Vp8,
            layer: LayerIndex::FIRST,
            place: LayerId::default(),
            ends_frame: false,
            marker: index % 6 == 5,
            keyframe: starts,
            refresh: starts.then_some(Refresh::Keyframe),
            index,
            timestamp: RtpTime((index / 6 * 3_000) as u32),
            payload: vec![0; 1_000].into(),
            sets: None,
            extensions: PassedExtensions::default(),
            arrived,
        })
    };
    let cache = CacheBounds {
        bytes: 8 << 20,
        pixels: 300 * 1_280 * 720,
    };
    let mut window = Window::new(WindowBounds { packets: 2_048, cache });
    let mut index = 0;
    // The packets are created in advance: they are not part of the measurement.
    let packets: Vec<_> = (0..6_000).map(packet).collect();
    c.bench_function("window, one packet in, one out", |b| {
        b.iter_batched(
            || {
                index += 1;
                let mut packet = Packet::clone(&packets[index as usize % packets.len()]);
                packet.index = index;
                Arc::new(packet)
            },
            |packet| window.insert(packet),
            criterion::BatchSize::SmallInput,
        );
    });
    c.bench_function("window, looked up", |b| {
        b.iter(|| window.get(black_box(index - 100)).is_some());
    });
}

fn keyframes(c: &mut Criterion) {
    let payloads: [(Codec, &[u8]); 4] = [
        (
            Codec::Vp8,
            &[0x10, 0x50, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01],
        ),
        (
            Codec::Vp9,
            &[0x8a, 0x81, 0x00, 0x49, 0x83, 0x42, 0x00, 0x27, 0xf0, 0x16],
        ),
        (
            Codec::H264,
            &[
                0x78, 0x00, 0x04, 0x67, 0x42, 0x00, 0x1f, 0x00, 0x04, 0x68, 0xce, 0x3c, 0x80,
            ],
        ),
        (
            Codec::Av1,
            &[
                0x18, 0x0a, 0x0b, 0x00, 0x00, 0x00, 0x24, 0xcf, 0x7f, 0x0d, 0xbf, 0xff, 0x30,
            ],
        ),
    ];
    for (codec, payload) in payloads {
        c.bench_function(&format!("keyframe detection, {codec:?}"), |b| {
            b.iter(|| starts_keyframe(codec, black_box(payload)));
        });
    }
}

criterion_group!(benches, header, window, keyframes);
criterion_main!(benches);

//! Cost of protecting one packet for one viewer.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onecast_rtc::rtp::Ssrc;
use onecast_rtc::{DtlsRole, Opener, Profile, Sealer, SrtpKeys};

const PACKET_LEN: usize = 1200;
const HEADER_LEN: usize = 12;

fn keys(profile: Profile, role: DtlsRole) -> SrtpKeys {
    SrtpKeys::from_keying_material(profile, &vec![7; profile.keying_material_len()], role).expect("the length fits")
}

fn packet(index: u64) -> [u8; PACKET_LEN + 32] {
    let mut packet = [0x55; PACKET_LEN + 32];
    packet[..2].copy_from_slice(&[0x80, 96]);
    packet[2..4].copy_from_slice(&(index as u16).to_be_bytes());
    packet
}

fn seal(c: &mut Criterion) {
    let mut group = c.benchmark_group("seal");
    group.throughput(Throughput::Bytes(PACKET_LEN as u64));
    for profile in [Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80] {
        let mut sealer = Sealer::new(&keys(profile, DtlsRole::Server));
        let mut buf = packet(1);
        group.bench_function(format!("rtp 1200 B {profile}"), |b| {
            b.iter(|| sealer.seal_rtp(black_box(&mut buf), HEADER_LEN, PACKET_LEN, 1));
        });
        let mut report = [0x80; 128];
        group.bench_function(format!("rtcp 60 B {profile}"), |b| {
            b.iter(|| sealer.seal_rtcp(black_box(&mut report), 60));
        });
    }
}

fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    group.throughput(Throughput::Bytes(PACKET_LEN as u64));
    for profile in [Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80] {
        let mut sealer = Sealer::new(&keys(profile, DtlsRole::Server));
        let mut opener = Opener::new(&keys(profile, DtlsRole::Client));
        let mut index = 0;
        group.bench_function(format!("rtp 1200 B {profile}"), |b| {
            b.iter_batched_ref(
                || {
                    index += 1;
                    let mut packet = packet(index);
                    let len = sealer.seal_rtp(&mut packet, HEADER_LEN, PACKET_LEN, index);
                    (packet, len, index as u16)
                },
                |(packet, len, sequence)| {
                    opener.open_rtp(&mut packet[..*len], HEADER_LEN, Ssrc(0x5555_5555), *sequence)
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, seal, open);
criterion_main!(benches);

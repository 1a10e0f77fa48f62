//! Loss, reordering, duplicates and their repair.

use super::*;
use onecast_rtc::rtp::{Pt, RtpTime, Ssrc};

#[test]
fn reordered_packets_keep_their_place_and_are_not_requested() {
    let mut world = World::new();
    world.video(65_535, KEY);
    assert_eq!(world.video(1, DELTA).index, 65_538);
    world.pass(5);
    assert_eq!(world.video(0, DELTA).index, 65_537);
    assert!(world.nacks(500).is_empty());
    let stats = world.ingest.stats(Kind::Video);
    assert_eq!((stats.lost, stats.repaired), (0, 0));
}

#[test]
fn a_lost_packet_is_requested_and_repaired_by_rtx() {
    let mut world = World::new();
    world.video(10, KEY);
    world.video(12, DELTA);
    assert_eq!(world.nacks(60), [(15, vec![11]), (55, vec![11])]);
    let repaired = world.rtx(500, 11, DELTA).unwrap().unwrap();
    assert_eq!(
        (repaired.index, repaired.timestamp, &*repaired.payload),
        (65_537, RtpTime(3_001), DELTA)
    );
    assert!(world.nacks(900).is_empty());
    let stats = world.ingest.stats(Kind::Video);
    assert_eq!((stats.lost, stats.repaired, stats.nacks_sent), (0, 1, 2));
}

#[test]
fn a_lost_packet_may_be_resent_on_its_own_ssrc() {
    let mut world = World::new();
    world.video(65_535, KEY);
    world.video(1, DELTA);
    assert_eq!(world.nacks(20), [(15, vec![0])]);
    assert_eq!(world.video(0, DELTA).index, 65_537);
    assert_eq!(world.ingest.stats(Kind::Video).repaired, 1);
    assert!(world.nacks(900).is_empty());
}

#[test]
fn requests_end_after_a_second() {
    let mut world = World::new();
    world.video(10, KEY);
    world.video(13, DELTA);
    let nacks = world.nacks(5_000);
    assert_eq!(nacks.len(), 8);
    assert!(nacks.iter().all(|(at, asked)| *at < 1_000 && *asked == [11, 12]));
    assert_eq!(world.ingest.stats(Kind::Video).lost, 2);
}

#[test]
fn audio_is_not_requested_unless_negotiated() {
    let mut world = World::new();
    world.rtp(AUDIO, OPUS, 1, &[1]).unwrap();
    world.rtp(AUDIO, OPUS, 5, &[1]).unwrap();
    assert!(world.nacks(900).is_empty());
    assert_eq!(world.ingest.stats(Kind::Audio).lost, 3);
}

#[test]
fn too_many_missing_packets_need_a_keyframe() {
    let mut world = World::new();
    world.video(1, KEY);
    world.video(2_500, DELTA);
    let said = world.run(300);
    assert!(said.iter().any(|(_, said)| *said == Said::Pli(VIDEO.0)));
    let asked: usize = said
        .iter()
        .map(|(_, said)| if let Said::Nack(n) = said { n.len() } else { 0 })
        .sum();
    assert!((1_000..=4_000).contains(&asked), "{asked}");
}

#[test]
fn duplicates_are_dropped_on_either_ssrc() {
    let mut world = World::new();
    world.video(10, KEY);
    world.video(11, DELTA);
    assert_eq!(world.rtp(VIDEO, VP8, 11, DELTA).unwrap_err(), IngestDrop::Duplicate);
    assert_eq!(world.rtp(VIDEO, VP8, 10, DELTA).unwrap_err(), IngestDrop::Duplicate);
    assert_eq!(world.rtx(1, 10, KEY).unwrap_err(), IngestDrop::Duplicate);
    assert_eq!(world.rtp(VIDEO, VP8, 9, DELTA).unwrap_err(), IngestDrop::Old);
    assert_eq!(world.ingest.stats(Kind::Video).duplicates, 3);
}

#[test]
fn probes_and_padding_yield_nothing_or_keep_their_number() {
    let mut world = World::new();
    world.video(10, KEY);
    let padding = HeaderOut {
        padding: true,
        timestamp: RtpTime(30_000),
        ..header(VIDEO_RTX, VP8_RTX, 7)
    };
    assert!(world.send(padding, &[], &[0, 0, 0, 4]).unwrap().is_none());
    let on_media = HeaderOut {
        payload_type: VP8,
        sequence: 11,
        ssrc: VIDEO,
        ..padding
    };
    let packet = world.send(on_media, &[], &[0, 0, 0, 4]).unwrap().unwrap();
    assert_eq!(
        (packet.index, packet.payload.len(), packet.keyframe),
        (65_537, 0, false)
    );
    let broken = HeaderOut {
        sequence: 12,
        ..on_media
    };
    assert_eq!(
        world.send(broken, &[], &[0, 0, 0, 9]).unwrap_err(),
        IngestDrop::Malformed
    );
    assert_eq!(
        world.rtp(VIDEO_RTX, VP8_RTX, 8, &[1]).unwrap_err(),
        IngestDrop::Malformed
    );
}

#[test]
fn loss_reorder_and_duplicates_end_in_a_contiguous_track() {
    for seed in 1..20 {
        let mut noise = Noise::seeded(seed);
        let mut world = World::new();
        let mut got = std::collections::BTreeSet::from([world.video(65_000, KEY).index]);
        let mut pending: Vec<u16> = Vec::new();
        for step in 1..2_000_u16 {
            pending.push(65_000_u16.wrapping_add(step));
            world.pass(1);
            while pending.len() > noise.below(6) {
                let sequence = pending.remove(noise.below(pending.len()));
                for _ in 0..[0, 1, 1, 1, 1, 1, 1, 2][noise.below(8)] {
                    got.extend(
                        world
                            .rtp(VIDEO, VP8, sequence, DELTA)
                            .ok()
                            .flatten()
                            .map(|packet| packet.index),
                    );
                }
            }
            for said in world.said() {
                let Said::Nack(asked) = said else { continue };
                let answered: Vec<_> = asked.into_iter().filter(|_| noise.below(4) > 0).collect();
                for sequence in answered {
                    got.extend(
                        world
                            .rtx(noise.next() as u16, sequence, DELTA)
                            .ok()
                            .flatten()
                            .map(|p| p.index),
                    );
                }
            }
        }
        let highest = *got.last().unwrap();
        let settled = got.range(..highest - 400).count() as u64;
        assert_eq!(settled, highest - 400 - 65_536, "seed {seed}");
    }
}

#[test]
fn garbage_never_panics_and_polling_always_ends() {
    let mut noise = Noise::seeded(5);
    let mut world = World::new();
    for _ in 0..60_000 {
        match noise.below(8) {
            0 => {
                let mut report = noise.bytes(60);
                if report.len() > 8 {
                    report[..4].copy_from_slice(&[0x81, 200 + noise.below(8) as u8, 0, noise.below(8) as u8]);
                    report[4..8].copy_from_slice(&[0, 0, 3, 0xe8]);
                }
                world.ingest.handle_rtcp(world.now, &report);
            }
            1 => world.ingest.request_keyframe(KeyframeNeed::Urgent),
            2 => world.pass(noise.below(40) as u64),
            3 => {
                let mut buf = vec![0; noise.below(200)];
                let _ = world.ingest.poll_rtcp(world.now, &mut buf);
            }
            4 => assert!(world.feedback().len() < 100, "polling does not end"),
            _ => {
                let out = HeaderOut {
                    marker: noise.below(2) == 0,
                    padding: noise.below(4) == 0,
                    payload_type: [VP8, VP8_RTX, H264, OPUS, Pt(3)][noise.below(5)],
                    sequence: [noise.next() as u16, noise.below(50) as u16][noise.below(2)],
                    timestamp: RtpTime(noise.next() as u32),
                    ssrc: [VIDEO, VIDEO_RTX, AUDIO, Ssrc(noise.next() as u32)][noise.below(4)],
                };
                let value = noise.bytes(3);
                let _ = world.send(out, &[(TWCC_ID, &value), (4, &noise.bytes(20))], &noise.bytes(30));
            }
        }
    }
}

#[test]
fn an_rtx_ssrc_that_stays_repairs_the_next_media_ssrc() {
    let mut world = World::new();
    world.video(10, KEY);
    world.rtx(1, 10, KEY).unwrap_err();
    world.rtp(Ssrc(7_777), VP8, 1, KEY).unwrap();
    let last = world.rtp(Ssrc(7_777), VP8, 3, DELTA).unwrap().unwrap();
    let early = world.rtx(2, 2, DELTA);
    assert_eq!(
        early.unwrap_err(),
        IngestDrop::FormerSsrc,
        "it may be of the source before"
    );
    world.pass(600);
    let repaired = world.rtx(3, 2, DELTA).unwrap().unwrap();
    assert_eq!(repaired.index, last.index - 1);
}

#[test]
fn an_rtx_ssrc_that_changes_all_the_time_repairs() {
    let mut world = World::new();
    world.video(10, KEY);
    for step in 1..100_u16 {
        let last = world.video(10 + 2 * step, DELTA);
        let out = HeaderOut {
            marker: true,
            timestamp: RtpTime(1),
            ..header(Ssrc(50_000 + u32::from(step)), VP8_RTX, step)
        };
        let original = (10 + 2 * step - 1).to_be_bytes();
        let repaired = world.send(out, &[], &[&original, DELTA].concat()).unwrap().unwrap();
        assert_eq!(repaired.index, last.index - 1, "{step}");
    }
}

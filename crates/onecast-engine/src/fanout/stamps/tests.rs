//! Whatever the order of the frames and wherever a viewer starts: one stamp a frame, none twice, in the order in which they are shown.

use std::sync::Arc;

use super::*;
use crate::media::testing::packet;
use onecast_rtc::rtp::RtpTime;
use onecast_testing::Noise;

/// Presentation times in decoding order, frames of 3,000 ticks.
type Pattern = (&'static str, fn(u32) -> Vec<u32>);

/// Group after group: offsets in presentation order, as they are sent.
fn groups(frames: u32, group: &[u32]) -> Vec<u32> {
    let len = group.len() as u32;
    (0..frames / len + 1)
        .flat_map(|number| group.iter().map(move |place| 1 + number * len + place))
        .collect()
}

const PATTERNS: [Pattern; 8] = [
    ("I P P P", |frames| (0..frames).collect()),
    ("I P B B", |frames| [vec![0], groups(frames, &[2, 0, 1])].concat()),
    ("pyramid of 4", |frames| {
        [vec![0], groups(frames, &[3, 1, 0, 2])].concat()
    }),
    ("pyramid of 8", |frames| {
        [vec![0], groups(frames, &[7, 3, 1, 0, 2, 5, 4, 6])].concat()
    }),
    ("pyramid of 16", |frames| {
        let group = [15, 7, 3, 1, 0, 2, 5, 4, 6, 11, 9, 8, 10, 13, 12, 14];
        [vec![0], groups(frames, &group)].concat()
    }),
    ("backwards", |frames| {
        [vec![0], groups(frames, &[5, 4, 3, 2, 1, 0])].concat()
    }),
    // Two anchors before the frames between them.
    ("late B", |frames| {
        [vec![0], groups(frames, &[2, 5, 0, 1, 3, 4])].concat()
    }),
    // Open: the first frames behind the first one are shown before it.
    ("leading", |frames| {
        [
            vec![3, 1, 0, 2],
            groups(frames, &[2, 0, 1]).iter().map(|place| place + 3).collect(),
        ]
        .concat()
    }),
];

const FRAME: u32 = 3_000;
/// Its wrap lies within all of this.
const EPOCH: RtpTime = RtpTime(u32::MAX - 40 * FRAME);

/// The packets of a stream: `packets` a frame, in decoding order, and when they arrive, in ticks.
fn stream(pattern: Pattern, frames: u32, packets: u64, interval: u32) -> Vec<(u32, Arc<Packet>)> {
    let places = pattern.1(frames);
    let sent = places.iter().enumerate().flat_map(|(number, place)| {
        let timestamp = EPOCH.plus(place * interval);
        (0..packets).map(move |part| {
            let index = 1_000 + number as u64 * packets + part;
            (number as u32 * interval, packet(index).timestamp(timestamp).build())
        })
    });
    sent.collect()
}

/// A viewer that starts `start` packets into the stream when `newest` have come, and is sent `speed` packets while one comes.
/// Returns its timestamps in decoding order.
fn watch(
    stream: &[(u32, Arc<Packet>)],
    start: usize,
    newest: usize,
    speed: usize,
    before: Option<RtpTime>,
) -> Vec<RtpTime> {
    let mut stamps = Stamps::new();
    let mut highest = before;
    let (mut cursor, mut come, mut got) = (start, newest, Vec::new());
    let mut level = 0;
    while cursor < stream.len() {
        // The clock is that of the packet that is shown last; a little time has passed since.
        let (arrived, _) = &stream[come];
        let clock = stream[..=come]
            .iter()
            .max_by_key(|(_, packet)| packet.timestamp.ticks_since(EPOCH))
            .unwrap();
        let live = clock.1.timestamp.plus(arrived - clock.0);
        for turn in 0..speed {
            let Some((_, packet)) = stream.get(cursor).filter(|_| cursor <= come) else {
                break;
            };
            let target = StampTarget {
                stamp: live.plus(turn as u32 * 9),
                is_newest: packet.timestamp == clock.1.timestamp,
                highest,
                other_clock: false,
            };
            let stamp = stamps.stamp(packet, |_| target);
            assert_eq!(stamps.find(packet), Some(stamp), "sent again it is the same");
            highest = Some(later(highest, stamp));
            got.push(stamp);
            cursor += 1;
        }
        level += u32::from(cursor > come);
        assert!(
            level < 80 || stamps.own_since().is_some(),
            "level, and not on the track's own timestamps"
        );
        come = (come + 1).min(stream.len() - 1);
    }
    got
}

/// Frame by frame: own timestamp and the one that the viewer was sent.
fn check(what: &str, sent: &[(u32, Arc<Packet>)], got: &[RtpTime], before: Option<RtpTime>) {
    let mut shown = std::collections::BTreeMap::new();
    for ((_, packet), stamp) in sent.iter().zip(got) {
        let own = packet.timestamp.ticks_since(EPOCH);
        let known = *shown.entry(own).or_insert(*stamp);
        assert_eq!(known, *stamp, "{what}: a frame of two timestamps");
    }
    let stamps: Vec<RtpTime> = shown.values().copied().collect();
    for (place, pair) in stamps.windows(2).enumerate() {
        assert!(
            pair[1].is_after(pair[0]),
            "{what}: frame {place} is shown at {} before {}",
            pair[0],
            pair[1]
        );
    }
    if let (Some(before), Some(first)) = (before, stamps.first()) {
        assert!(first.is_after(before), "{what}: it was shown {before} before");
    }
}

#[test]
fn every_start_in_every_pattern_keeps_the_order_of_presentation() {
    for pattern in PATTERNS {
        for interval in [FRAME, 1_500, 750] {
            for parts in [1, 2] {
                let stream = stream(pattern, 120, parts, interval);
                for newest in 0..stream.len() - 60 {
                    for speed in [2, 5, 100] {
                        let got = watch(&stream, 0, newest, speed, None);
                        let what = format!("{}, {interval} ticks, {newest} in, {speed} times", pattern.0);
                        check(&what, &stream, &got, None);
                    }
                }
            }
        }
    }
}

#[test]
fn a_start_again_goes_on_after_what_was_shown() {
    for pattern in PATTERNS {
        let stream = stream(pattern, 90, 2, FRAME);
        for newest in 0..100 {
            let live = EPOCH.plus(stream[newest].0);
            for before in [live, live.plus(100), live.minus(5_000), live.plus(20_000)] {
                let got = watch(&stream, 0, newest, 5, Some(before));
                check(&format!("{}, {newest} in", pattern.0), &stream, &got, Some(before));
            }
        }
    }
}

#[test]
fn frames_in_order_are_stamped_by_the_live_clock_alone() {
    let stream = stream(PATTERNS[0], 60, 1, FRAME);
    let got = watch(&stream, 0, 30, 100, None);
    let live = EPOCH.plus(30 * FRAME);
    for (place, stamp) in got[..30].iter().enumerate() {
        assert_eq!(*stamp, live.plus(11 * place as u32), "{place}");
    }
    assert_eq!(
        got[31..],
        stream[31..]
            .iter()
            .map(|(_, packet)| packet.timestamp)
            .collect::<Vec<_>>()
    );
}

#[test]
fn random_orders_within_the_depth_of_codecs_keep_theirs() {
    let mut noise = Noise::seeded(41);
    for round in 0..300 {
        // Groups of up to 16, each in any order behind its last frame.
        let mut places = vec![0];
        while places.len() < 120 {
            let len = 1 + noise.below(16) as u32;
            let first = places.len() as u32;
            let mut group: Vec<u32> = (first..first + len - 1).collect();
            for place in (1..group.len()).rev() {
                group.swap(place, noise.below(place + 1));
            }
            places.push(first + len - 1);
            places.extend(group);
        }
        let stream: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(number, place)| {
                let timestamp = EPOCH.plus(place * FRAME);
                (
                    number as u32 * FRAME,
                    packet(1_000 + number as u64).timestamp(timestamp).build(),
                )
            })
            .collect();
        let newest = noise.below(90);
        let got = watch(&stream, 0, newest, 1 + noise.below(20), None);
        check(&format!("round {round}, {newest} in"), &stream, &got, None);
    }
}

#[test]
fn any_clock_at_all_gives_no_stamp_twice() {
    let mut noise = Noise::seeded(42);
    for _ in 0..2_000 {
        let mut stamps = Stamps::new();
        let (mut own, mut highest, mut seen) = (noise.next() as u32, None, Vec::new());
        for index in 0..60 {
            own = match noise.below(6) {
                0 => noise.next() as u32,
                1 => own.wrapping_sub(noise.below(200_000) as u32),
                2 => own,
                _ => own.wrapping_add(noise.below(9_000) as u32),
            };
            let packet = packet(index).timestamp(RtpTime(own)).build();
            let target = StampTarget {
                stamp: RtpTime(own.wrapping_add(noise.below(500) as u32)),
                is_newest: false,
                highest,
                other_clock: false,
            };
            let known = stamps.frames.last().is_some_and(|frame| frame.knot.own == RtpTime(own));
            let stamp = stamps.stamp(&packet, |_| target);
            assert!(known || !seen.contains(&stamp), "{stamp} twice");
            seen.push(stamp);
            highest = Some(later(highest, stamp));
        }
    }
}

//! Numbering, starts and what is sent again, packet by packet.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::media::packet::Passed;
use crate::media::testing::packet;
use onecast_rtc::rtp::{Pt, RtpTime};
use onecast_rtc::sdp::{ExtensionIds, Format, MediaLine};

fn format(codec: Codec, payload_type: Pt) -> Format {
    Format {
        codec,
        payload_type,
        rtx: Some(Pt(payload_type.0 + 1)),
        fmtp: "".into(),
        nack: true,
        pli: true,
        transport_cc: false,
    }
}

fn forwarder() -> Forwarder {
    Forwarder::new(ViewerLine::new(&MediaLine {
        kind: Kind::Video,
        mid: "1".into(),
        formats: vec![format(Codec::Vp8, Pt(96)), format(Codec::Av1, Pt(45))],
        extensions: ExtensionIds::default(),
        ssrc: None,
        rtx_ssrc: None,
        layers: None,
    }))
}

/// Timestamps are 3,000 apart: number n has n times that, as far as 32 bits go.
fn numbered(index: u64) -> Arc<Packet> {
    packet(index).timestamp(RtpTime((index * 3_000) as u32)).build()
}

fn at(index: u64) -> StartPoint {
    StartPoint {
        index,
        parameter_sets: None,
        frames: 1,
    }
}

/// Starts at `from` while `newest` is the newest packet, and goes to the live edge.
fn start_at(forwarder: &mut Forwarder, codec: Codec, from: u64, newest: u64) -> Vec<Result<Rewrite, Skip>> {
    let now = onecast_udp::clock::now();
    let live = LiveClock {
        timestamp: RtpTime((newest * 3_000) as u32),
        at: now,
    };
    forwarder.start(at(from), (codec, 0), Stamping::Live).unwrap();
    let routes = (from..=newest)
        .map(|index| {
            assert_eq!(forwarder.cursor(), Some(index));
            let packet = packet(index)
                .codec(codec)
                .timestamp(RtpTime((index * 3_000) as u32))
                .build();
            forwarder.next(now, &packet, live)
        })
        .collect();
    forwarder.reach_edge(now);
    routes
}

fn rewrite(payload_type: Pt, index: u64, of: u64) -> Result<Rewrite, Skip> {
    Ok(Rewrite {
        payload_type,
        index,
        timestamp: RtpTime((of * 3_000) as u32),
        frames_ahead: 0,
    })
}

#[test]
fn a_viewer_starts_at_a_keyframe_with_roll_over_counter_0() {
    let mut forwarder = forwarder();
    let start = 7 * 65_536 + 1_000;
    assert_eq!(forwarder.admit(&numbered(start), 0), Err(Skip::Waiting));
    assert_eq!(
        start_at(&mut forwarder, Codec::Vp8, start, start),
        [rewrite(Pt(96), 1_000, start)]
    );
    assert!(forwarder.is_live());
    assert_eq!(
        forwarder.admit(&numbered(start + 1), 0),
        rewrite(Pt(96), 1_001, start + 1)
    );
    assert_eq!(forwarder.admit(&numbered(start - 1), 0), Err(Skip::BeforeStart));
}

#[test]
fn a_start_near_the_wrap_is_moved_so_that_losing_it_does_no_harm() {
    let mut forwarder = forwarder();
    let start = 3 * 65_536 - 1;
    assert_eq!(
        start_at(&mut forwarder, Codec::Vp8, start, start),
        [rewrite(Pt(96), 0x7fff, start)]
    );
    assert_eq!(
        forwarder.admit(&numbered(start + 1), 0),
        rewrite(Pt(96), 0x8000, start + 1)
    );
}

#[test]
fn live_packets_wait_until_the_past_was_sent() {
    let mut forwarder = forwarder();
    let (now, start) = (onecast_udp::clock::now(), 70_000);
    forwarder.start(at(start), (Codec::Vp8, 0), Stamping::Live).unwrap();
    assert_eq!(forwarder.admit(&numbered(start + 2), 0), Err(Skip::Waiting));
    assert!(!forwarder.is_live() && !forwarder.is_waiting());
    // The past is stamped with the live clock, and stays so when it is asked for again.
    let live = LiveClock {
        timestamp: RtpTime((start as u32 + 2) * 3_000),
        at: now,
    };
    let first = forwarder.next(now, &numbered(start), live).unwrap();
    assert_eq!(first.timestamp, live.timestamp);
    assert_eq!(forwarder.readmit(&numbered(start)), Some(first));
    assert_eq!(forwarder.readmit(&numbered(start + 1)), None, "not sent yet");
    forwarder.pass_over();
    assert!(!forwarder.reach_edge(now), "its timestamp is that of the first");
    let third = forwarder.next(now, &numbered(start + 2), live).unwrap();
    assert_eq!(
        (third.index, third.timestamp),
        (first.index + 2, first.timestamp.plus(23))
    );
    let live = LiveClock {
        timestamp: RtpTime((start as u32 + 3) * 3_000),
        at: now,
    };
    let own = forwarder.next(now, &numbered(start + 3), live);
    assert_eq!(own, rewrite(Pt(96), first.index + 3, start + 3));
    assert!(forwarder.reach_edge(now));
    // What was passed over is of a frame that never got a stamp.
    assert_eq!(forwarder.admit(&numbered(start + 1), 0), Err(Skip::BeforeStart));
    forwarder.forget_past(now + Duration::from_secs(4));
    assert_eq!(forwarder.readmit(&numbered(start)), Some(first));
    forwarder.forget_past(now + Duration::from_secs(6));
    assert_eq!(forwarder.readmit(&numbered(start)), None, "its timestamp is forgotten");
    assert_eq!(forwarder.readmit(&numbered(start + 3)), own.ok());
}

#[test]
fn a_repeated_start_goes_on_with_new_numbers_and_closes_the_past() {
    let mut forwarder = forwarder();
    let start = 70_000;
    let before = start_at(&mut forwarder, Codec::Vp8, start, start + 5);
    let again = start_at(&mut forwarder, Codec::Vp8, start, start + 6);
    let numbers: Vec<u64> = before
        .iter()
        .chain(&again)
        .map(|rewrite| rewrite.unwrap().index)
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let sequence = |number: u64| number as u16;
    assert_eq!(forwarder.track_index(sequence(numbers[8])), Some(start + 2));
    assert_eq!(forwarder.track_index(sequence(numbers[5])), None, "before the start");
}

#[test]
fn parameter_sets_go_in_front_under_the_number_before() {
    let mut forwarder = forwarder();
    let now = onecast_udp::clock::now();
    let point = StartPoint {
        index: 70_000,
        parameter_sets: Some(packet(70_000).build()),
        frames: 1,
    };
    forwarder.start(point, (Codec::Vp8, 0), Stamping::Live).unwrap();
    let live = LiveClock {
        timestamp: RtpTime(70_000 * 3_000),
        at: now,
    };
    let first = forwarder.next(now, &numbered(70_000), live).unwrap();
    let (_, sets) = forwarder.parameter_sets().unwrap();
    assert_eq!((sets.index + 1, sets.timestamp), (first.index, first.timestamp));
    let named = forwarder.track_index(sets.index as u16).unwrap();
    assert!(forwarder.is_parameter_sets(named));
    assert_eq!(forwarder.track_index(sets.index as u16 - 1), None);
}

#[test]
fn sequence_numbers_named_by_the_viewer_are_found_across_the_wrap() {
    let mut forwarder = forwarder();
    let start = 65_536 + 5;
    start_at(&mut forwarder, Codec::Vp8, start, start);
    let newest = start + 70_000;
    forwarder.admit(&numbered(newest), 0).unwrap();
    for index in [newest, newest - 1, newest - 5_000] {
        assert_eq!(forwarder.track_index((index - 65_536) as u16), Some(index));
    }
    let mut forwarder = super::tests::forwarder();
    start_at(&mut forwarder, Codec::Vp8, start, start + 5);
    assert_eq!(forwarder.track_index(4), None, "before the start");
}

#[test]
fn a_codec_change_waits_for_its_keyframe_and_closes_the_past() {
    let mut forwarder = forwarder();
    let last = start_at(&mut forwarder, Codec::Vp8, 70_000, 70_000)[0].unwrap();
    let old = numbered(70_000);
    assert!(forwarder.readmit(&old).is_some());
    let av1 = packet(70_001).codec(Codec::Av1).build();
    assert_eq!(forwarder.admit(&av1, 0), Err(Skip::Waiting));
    assert!(forwarder.is_waiting());
    // What was skipped leaves no gap.
    assert_eq!(
        start_at(&mut forwarder, Codec::Av1, 70_005, 70_005),
        [rewrite(Pt(45), last.index + 1, 70_005)]
    );
    assert_eq!(forwarder.admit(&numbered(69_999), 0), Err(Skip::BeforeStart));
    assert_eq!(
        forwarder.readmit(&old),
        None,
        "another payload type under the same index would reuse a nonce"
    );
}

#[test]
fn a_codec_the_viewer_lacks_is_waited_out() {
    let mut forwarder = forwarder();
    assert_eq!(
        forwarder.start(at(70_000), (Codec::H265, 0), Stamping::Live),
        Err(Skip::Codec)
    );
    assert!(forwarder.is_waiting());
    assert_eq!(start_at(&mut forwarder, Codec::Vp8, 70_002, 70_002).len(), 1);
}

#[test]
fn after_a_failed_send_the_rest_of_the_frame_is_given_up() {
    let mut forwarder = forwarder();
    start_at(&mut forwarder, Codec::Vp8, 70_001, 70_001);
    let of_frame = |index| packet(index).timestamp(RtpTime(70_001 * 3_000));
    forwarder.skip_rest_of_frame();
    assert_eq!(forwarder.admit(&of_frame(70_002).build(), 0), Err(Skip::RestOfFrame));
    let last = of_frame(70_003).marker().build();
    assert_eq!(forwarder.admit(&last, 0), Err(Skip::RestOfFrame));
    assert!(forwarder.admit(&numbered(70_004), 0).is_ok());
}

#[test]
fn a_frame_that_is_given_up_ends_with_the_next_one_where_ends_are_not_marked() {
    let mut forwarder = forwarder();
    start_at(&mut forwarder, Codec::Vp8, 70_001, 70_001);
    forwarder.skip_rest_of_frame();
    assert!(forwarder.admit(&numbered(70_002), 0).is_ok());
    assert!(forwarder.admit(&numbered(70_003), 0).is_ok());
}

#[test]
fn after_a_failed_send_of_a_whole_frame_the_next_one_is_sent() {
    let mut forwarder = forwarder();
    start_at(&mut forwarder, Codec::Vp8, 70_001, 70_001);
    forwarder.admit(&packet(70_002).marker().build(), 0).unwrap();
    forwarder.skip_rest_of_frame();
    assert!(forwarder.admit(&numbered(70_003), 0).is_ok());
}

#[test]
fn when_the_publisher_left_the_numbering_goes_on_from_the_next_keyframe() {
    let mut forwarder = forwarder();
    let last = start_at(&mut forwarder, Codec::Vp8, 70_010, 70_010)[0].unwrap();
    forwarder.await_keyframe();
    assert_eq!(forwarder.admit(&numbered(70_011), 0), Err(Skip::Waiting));
    assert_eq!(
        start_at(&mut forwarder, Codec::Vp8, 70_011, 70_011),
        [rewrite(Pt(96), last.index + 1, 70_011)]
    );
}

#[test]
fn retransmissions_have_their_own_numbering() {
    let mut forwarder = forwarder();
    let original = start_at(&mut forwarder, Codec::Vp8, 70_010, 70_010)[0].unwrap();
    let numbers: Vec<_> = (0..3)
        .filter_map(|_| forwarder.retransmission(&original))
        .map(|rewrite| rewrite.index)
        .collect();
    assert_eq!(numbers, [0, 1, 2]);
}

/// Number of the packet, frame number of its descriptor.
fn described(index: u64, frame: u16) -> Arc<Packet> {
    let [high, low] = frame.to_be_bytes();
    packet(index)
        .timestamp(RtpTime((index * 3_000) as u32))
        .extension(Passed::DependencyDescriptor, &[0xc0, high, low])
        .build()
}

#[test]
fn frame_numbers_go_on_at_each_start_and_stay_in_between() {
    let mut line = forwarder().line().clone();
    line.extensions.dependency_descriptor = Some(4);
    let mut forwarder = Forwarder::new(line);
    let now = onecast_udp::clock::now();
    let ahead = |forwarder: &mut Forwarder, frames: [(u64, u16); 2]| {
        let start = frames[0].0;
        forwarder.start(at(start), (Codec::Vp8, 0), Stamping::Live).unwrap();
        let live = LiveClock {
            timestamp: RtpTime((start * 3_000) as u32),
            at: now,
        };
        let key = described(start, frames[0].1);
        let first = forwarder.next(now, &key, live).unwrap();
        forwarder.reach_edge(now);
        let second = forwarder.admit(&described(frames[1].0, frames[1].1), 0).unwrap();
        assert_eq!(forwarder.readmit(&key).unwrap(), first);
        assert_eq!(
            forwarder.retransmission(&first).unwrap().frames_ahead,
            first.frames_ahead
        );
        assert_eq!(first.frames_ahead, second.frames_ahead);
        first.frames_ahead
    };
    assert_eq!(ahead(&mut forwarder, [(70_000, 101), (70_001, 104)]), 0);
    // Another layer of the same picture, whose numbers are lower.
    assert_eq!(ahead(&mut forwarder, [(71_000, 100), (71_001, 103)]), 5);
    assert_eq!(ahead(&mut forwarder, [(72_000, 102), (72_001, 105)]), 7);
}

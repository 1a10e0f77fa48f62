//! SSRCs and the track they feed.

use super::*;
use onecast_rtc::rtp::{Pt, RtpTime, Ssrc};

#[test]
fn packets_in_order_are_numbered_in_order() {
    let mut world = World::new();
    let first = world.video(65_534, KEY);
    assert!(first.keyframe && first.marker && first.codec == Codec::Vp8);
    assert_eq!(
        (first.index, first.timestamp, &*first.payload),
        (65_536, RtpTime(1), KEY)
    );
    for step in 1..5_u16 {
        let packet = world.video(65_534_u16.wrapping_add(step), DELTA);
        assert_eq!(packet.index, 65_536 + u64::from(step));
        assert!(!packet.keyframe);
    }
    let stats = world.ingest.stats(Kind::Video);
    assert_eq!((stats.packets, stats.bytes, stats.keyframes, stats.lost), (5, 25, 1, 0));
    assert_eq!((stats.codec, stats.ssrc), (Some(Codec::Vp8), Some(VIDEO)));
}

#[test]
fn timestamps_keep_their_distances_over_the_wrap() {
    let mut world = World::new();
    let out = HeaderOut {
        timestamp: RtpTime(0xffff_ff00),
        ..header(VIDEO, VP8, 1)
    };
    let first = world.send(out, &[], KEY).unwrap().unwrap();
    let later = HeaderOut {
        sequence: 2,
        timestamp: RtpTime(0xffff_ff00_u32.wrapping_add(3_000)),
        ..out
    };
    let second = world.send(later, &[], DELTA).unwrap().unwrap();
    assert_eq!(second.timestamp.ticks_since(first.timestamp), 3_000);
}

#[test]
fn an_unknown_payload_type_is_a_counted_drop() {
    let mut world = World::new();
    assert_eq!(
        world.rtp(VIDEO, Pt(77), 1, KEY).unwrap_err(),
        IngestDrop::UnknownPayloadType
    );
    assert_eq!(world.ingest.unknown_payload_types(), 1);
}

#[test]
fn video_enters_at_its_first_keyframe_which_is_requested() {
    let mut world = World::new();
    assert_eq!(world.rtp(VIDEO, VP8, 5, DELTA).unwrap_err(), IngestDrop::BeforeKeyframe);
    assert_eq!(world.said(), [Said::Pli(VIDEO.0)]);
    world.pass(600);
    assert_eq!(world.rtp(VIDEO, VP8, 6, DELTA).unwrap_err(), IngestDrop::BeforeKeyframe);
    assert_eq!(world.said(), []);
    assert_eq!(world.rtx(1, 5, DELTA).unwrap_err(), IngestDrop::NoMedia);
    assert_eq!(world.video(7, KEY).index, 65_536);
    assert_eq!(world.ingest.stats(Kind::Video).before_keyframe, 2);
}

#[test]
fn a_stream_without_recognised_keyframes_is_passed_after_a_while() {
    let mut world = World::new();
    let mut plis = 0;
    for sequence in 0..50 {
        assert!(world.rtp(VIDEO, VP8, sequence, DELTA).is_err());
        plis += world.said().len();
        world.pass(100);
    }
    assert_eq!(plis, 3, "after 0, 1 and 3 s");
    assert_eq!(world.video(50, DELTA).index, 65_536);
}

#[test]
fn a_new_ssrc_continues_numbering_and_timeline() {
    let mut world = World::new();
    world.video(10, KEY);
    let last = world.video(11, DELTA);
    world.pass(2_000);
    assert_eq!(
        world.rtp(Ssrc(7_777), VP8, 40_000, DELTA).unwrap_err(),
        IngestDrop::BeforeKeyframe
    );
    let first = world.rtp(Ssrc(7_777), VP8, 40_001, KEY).unwrap().unwrap();
    assert_eq!(first.index, last.index + 1);
    assert_eq!(first.timestamp.ticks_since(last.timestamp), 180_000);
    assert_eq!(world.ingest.stats(Kind::Video).ssrc, Some(Ssrc(7_777)));
}

#[test]
fn a_late_packet_of_the_former_ssrc_does_not_bring_it_back() {
    let mut world = World::new();
    world.video(10, KEY);
    world.rtx(1, 10, KEY).unwrap_err();
    world.rtp(Ssrc(7_777), VP8, 1, KEY).unwrap();
    assert_eq!(world.rtp(VIDEO, VP8, 11, DELTA).unwrap_err(), IngestDrop::FormerSsrc);
    assert_eq!(world.rtx(2, 1, KEY).unwrap_err(), IngestDrop::FormerSsrc);
    assert_eq!(world.rtp(Ssrc(7_777), VP8, 2, DELTA).unwrap().unwrap().index, 65_538);
    world.pass(600);
    assert_eq!(world.rtp(VIDEO, VP8, 12, KEY).unwrap().unwrap().index, 65_539);
}

#[test]
fn an_ssrc_that_restarts_its_numbering_continues() {
    let mut world = World::new();
    let last = world.video(50_000, KEY);
    assert_eq!(world.rtp(VIDEO, VP8, 100, KEY).unwrap_err(), IngestDrop::FarAway);
    assert_eq!(world.video(101, KEY).index, last.index + 1);
    assert_eq!(world.video(102, DELTA).index, last.index + 2);
}

#[test]
fn an_ssrc_that_restarts_a_little_behind_continues_soon() {
    let mut world = World::new();
    let last = world.video(1_000, KEY);
    let mut refused = 0;
    let first = (900..).find_map(|sequence| match world.rtp(VIDEO, VP8, sequence, KEY) {
        Ok(packet) => packet,
        Err(IngestDrop::Old) => {
            refused += 1;
            None
        }
        Err(other) => panic!("{other:?}"),
    });
    assert_eq!((refused, first.unwrap().index), (31, last.index + 1));
}

#[test]
fn a_codec_change_by_payload_type_continues() {
    let mut world = World::new();
    world.video(10, KEY);
    let h264 = world.rtp(VIDEO, H264, 11, &[0x67, 0x42, 0xc0]).unwrap().unwrap();
    assert_eq!((h264.codec, h264.index, h264.keyframe), (Codec::H264, 65_537, true));
    assert_eq!(world.ingest.stats(Kind::Video).codec, Some(Codec::H264));
}

#[test]
fn a_codec_change_with_another_clock_waits_for_a_keyframe() {
    let mut world = World::new();
    let last = world.video(10, KEY);
    world.pass(100);
    let other = HeaderOut {
        timestamp: RtpTime(3_000_000_000),
        ..header(VIDEO, H264, 11)
    };
    assert_eq!(
        world.send(other, &[], &[0x41, 0x9a]).unwrap_err(),
        IngestDrop::BeforeKeyframe
    );
    let key = HeaderOut { sequence: 12, ..other };
    let first = world.send(key, &[], &[0x67, 0x42]).unwrap().unwrap();
    assert_eq!(
        (first.index, first.timestamp.ticks_since(last.timestamp)),
        (last.index + 1, 9_000)
    );
}

#[test]
fn parameter_sets_and_picture_are_one_keyframe() {
    let mut world = World::new();
    let out = HeaderOut {
        timestamp: RtpTime(9),
        ..header(VIDEO, H264, 1)
    };
    let sps = [0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xf6, 0x80];
    assert!(world.send(out, &[], &sps).unwrap().unwrap().keyframe);
    let idr = HeaderOut { sequence: 2, ..out };
    assert!(!world.send(idr, &[], &[0x65, 0x88]).unwrap().unwrap().keyframe);
    let stats = world.ingest.stats(Kind::Video);
    assert_eq!((stats.keyframes, stats.picture_size), (1, Some((640, 480))));
}

#[test]
fn a_replaced_publisher_continues_the_track() {
    let mut world = World::new();
    world.video(10, KEY);
    let last = world.video(11, DELTA);
    world.pass(3_000);
    let second = IngestConfig {
        continuity: Kind::ALL.map(|kind| world.ingest.continuity(kind)),
        ..config()
    };
    world.ingest = Ingest::new(&second, world.now);
    let first = world.rtp(Ssrc(5), H264, 60_000, &[0x65, 0x88]).unwrap().unwrap();
    assert_eq!(
        (first.index, first.timestamp.ticks_since(last.timestamp)),
        (last.index + 1, 270_000)
    );
}

#[test]
fn a_bye_ends_the_ssrc_and_another_follows() {
    let mut world = World::new();
    let last = world.video(10, KEY);
    world.video(12, DELTA);
    world
        .ingest
        .handle_rtcp(world.now, &[0x81, 203, 0, 1, 0, 0, 0x03, 0xe8]);
    assert!(world.nacks(900).is_empty());
    let first = world.rtp(Ssrc(8), VP8, 1, KEY).unwrap().unwrap();
    assert_eq!(first.index, last.index + 3);
}

#[test]
fn a_line_that_is_removed_and_returns_continues_its_track_and_leaves_the_other_alone() {
    let mut world = World::new();
    let lines = config().negotiated;
    world.video(10, KEY);
    let last = world.video(11, DELTA);
    let sound = world.rtp(Ssrc(9), OPUS, 1, &[0x78]).unwrap().unwrap();
    world.ingest.set_line(Kind::Video, None);
    let refused = world.rtp(VIDEO, VP8, 12, DELTA);
    assert_eq!(refused.unwrap_err(), IngestDrop::UnknownPayloadType);
    world.pass(1_000);
    world.ingest.set_line(Kind::Video, lines.video.as_ref());
    // The same SSRC, in the middle of its numbering, starts only with a keyframe.
    let refused = world.rtp(VIDEO, VP8, 20, DELTA);
    assert_eq!(refused.unwrap_err(), IngestDrop::BeforeKeyframe);
    let first = world.video(21, KEY);
    assert_eq!(first.index, last.index + 1);
    assert!(first.timestamp.ticks_since(last.timestamp) >= 90_000);
    let more = world.rtp(Ssrc(9), OPUS, 2, &[0x78]).unwrap().unwrap();
    assert_eq!(
        (more.index, more.timestamp),
        (sound.index + 1, sound.timestamp.plus(3_000))
    );
}

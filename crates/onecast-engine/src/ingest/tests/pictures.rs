//! Where decoders can begin, and the parameter sets that they need there.

use super::*;
use crate::media::{Continuity, LayerIndex};
use onecast_rtc::rtp::{Pt, Refresh, Ssrc};

const SPS: [u8; 9] = [0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xf6, 0x80];
const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];
const IDR: &[u8] = &[0x65, 0x88, 1];
const P: &[u8] = &[0x41, 0x9a, 1];
const SEI: &[u8] = &[6, 6, 1, 0x84, 0x80];
const OTHER_H264: Pt = Pt(102);
/// `SPS` and `PPS`, and another picture parameter set.
const SPROP: &str = "packetization-mode=1;sprop-parameter-sets=Z0LAHtoCgPaA,aM48gA==";
const OTHER_SPROP: &str = "packetization-mode=1;sprop-parameter-sets=Z0LAHtoCgPaA,aM48gQ==";

fn announcing(fmtp: &str, other: &str) -> IngestConfig {
    let mut config = config();
    let line = config.negotiated.video.as_mut().unwrap();
    line.formats[1].fmtp = fmtp.into();
    line.formats.push(Format {
        fmtp: other.into(),
        ..format(Codec::H264, OTHER_H264, None)
    });
    config
}

fn sets(last: u8) -> Vec<u8> {
    let mut sets = [&[0x78, 0, 9][..], &SPS, &[0, 4], &PPS].concat();
    *sets.last_mut().unwrap() = last;
    sets
}

impl World {
    fn h264(&mut self, sequence: u16, payload: &[u8]) -> Packet {
        self.rtp(VIDEO, H264, sequence, payload).unwrap().unwrap()
    }
}

#[test]
fn announced_parameter_sets_travel_with_the_first_packet_of_each_frame() {
    let mut world = World::with(&announcing(SPROP, ""));
    assert_eq!(world.h264(1, IDR).sets.as_deref(), Some(&sets(0x80)[..]));
    assert_eq!(world.h264(2, &[0x41, 0x08]).sets, None, "another slice");
    assert_eq!(world.h264(3, P).sets.as_deref(), Some(&sets(0x80)[..]));
    let own = [&[0x78, 0, 9][..], &SPS, &[0, 4], &PPS, &[0, 3], IDR].concat();
    assert_eq!(world.h264(4, &own).sets, None);
    assert_eq!(world.ingest.stats(Kind::Video).picture_size, Some((640, 480)));
}

#[test]
fn parameter_sets_in_packets_replace_announced_ones() {
    let mut world = World::with(&announcing(SPROP, ""));
    world.h264(1, IDR);
    world.h264(2, &[0x68, 0xce, 0x3c, 0x82]);
    assert_eq!(world.h264(3, IDR).sets.as_deref(), Some(&sets(0x82)[..]));
}

#[test]
fn each_payload_type_has_its_own_parameter_sets() {
    let mut world = World::with(&announcing(SPROP, OTHER_SPROP));
    world.h264(1, IDR);
    let other = world.rtp(VIDEO, OTHER_H264, 2, IDR).unwrap().unwrap();
    assert_eq!(other.sets.as_deref(), Some(&sets(0x81)[..]));
    world.video(3, KEY);
    assert_eq!(world.h264(4, IDR).sets.as_deref(), Some(&sets(0x80)[..]));
}

#[test]
fn parameter_sets_belong_to_their_ssrc() {
    let mut world = World::new();
    world.h264(1, &sets(0x80));
    assert!(world.h264(2, IDR).sets.is_some());
    world
        .ingest
        .resume_at([5, 6].map(|random| [Continuity::starting(random); LayerIndex::COUNT]));
    assert!(world.h264(3, IDR).sets.is_some(), "the same encoder in another track");
    let other = world.rtp(Ssrc(7_777), H264, 9, IDR).unwrap().unwrap();
    assert_eq!(other.sets, None, "another encoder");
}

#[test]
fn another_offer_announces_other_parameter_sets() {
    let mut world = World::with(&announcing(SPROP, ""));
    world.h264(1, IDR);
    let changed = announcing(OTHER_SPROP, "").negotiated.video;
    world.ingest.set_line(Kind::Video, changed.as_ref());
    assert_eq!(world.h264(2, IDR).sets.as_deref(), Some(&sets(0x81)[..]));
}

#[test]
fn an_ssrc_starts_at_a_recovery_point_which_does_not_answer_a_request() {
    let mut world = World::with(&announcing(SPROP, ""));
    assert_eq!(world.rtp(VIDEO, H264, 1, P).unwrap_err(), IngestDrop::BeforeKeyframe);
    assert_eq!(world.said(), [Said::Pli(VIDEO.0)]);
    let first = world.h264(2, SEI);
    assert!(first.keyframe && first.sets.is_some());
    assert_eq!(first.refresh, Some(Refresh::Recovery { frames: 0 }));
    assert_eq!(world.ingest.stats(Kind::Video).keyframes, 0);
    world.pass(1_000);
    assert!(world.said().contains(&Said::Pli(VIDEO.0)), "it is asked again");
    world.h264(3, IDR);
    assert_eq!(world.ingest.stats(Kind::Video).keyframes, 1);
}

use super::*;
use crate::rtp::dependency_descriptor::DependencyState;
use crate::rtp::keyframe::{picture_size, starts_keyframe};
use crate::rtp::recorded::packets;
use onecast_testing::Noise;

fn long(value: u16) -> Option<PictureId> {
    Some(PictureId { value, is_long: true })
}

#[test]
fn vp8_descriptors_have_every_field() {
    let all = Vp8Descriptor::read(&[0xb0, 0xf0, 0xb9, 0x7d, 0x4f, 0xa3, 0x11]).unwrap();
    assert_eq!(
        all,
        Vp8Descriptor {
            len: 6,
            is_discardable: true,
            starts_partition: true,
            partition: 0,
            picture_id: long(0x397d),
            tl0_picture_index: Some(0x4f),
            temporal: Some(2),
            layer_sync: true,
            key_index: Some(3),
        }
    );
    let short = Vp8Descriptor::read(&[0x83, 0x80, 0x05, 0x10]).unwrap();
    let id = PictureId {
        value: 5,
        is_long: false,
    };
    assert_eq!((short.len, short.partition, short.picture_id), (3, 3, Some(id)));
    assert_eq!(
        (short.temporal, short.key_index, short.tl0_picture_index),
        (None, None, None)
    );
    // Only T, only K.
    let temporal = Vp8Descriptor::read(&[0x90, 0x20, 0x63, 0x10]).unwrap();
    assert_eq!(
        (temporal.temporal, temporal.layer_sync, temporal.key_index),
        (Some(1), true, None)
    );
    let key = Vp8Descriptor::read(&[0x90, 0x10, 0x63, 0x10]).unwrap();
    assert_eq!((key.temporal, key.layer_sync, key.key_index), (None, false, Some(3)));
    let bare = Vp8Descriptor::read(&[0x10, 0x00]).unwrap();
    assert!(bare.len == 1 && bare.starts_frame() && bare.picture_id.is_none());
}

#[test]
fn truncated_descriptors_are_refused() {
    let vp8 = [0xb0, 0xf0, 0xb9, 0x7d, 0x4f, 0xa3, 0x11];
    for len in 0..vp8.len() {
        assert_eq!(Vp8Descriptor::read(&vp8[..len]), None, "{len}");
    }
    let vp9 = [
        0xba, 0xd9, 0x1a, 0x10, 0x50, 1, 0x40, 0, 0xb4, 2, 0x80, 1, 0x68, 5, 0, 2, 0xd0,
    ];
    for len in 0..vp9.len() {
        assert_eq!(Vp9Descriptor::read(&vp9[..len]), None, "{len}");
    }
    assert_eq!(Vp9Descriptor::read(&vp9).unwrap().len, vp9.len());
    assert_eq!(Vp9Descriptor::read(&[0xa8, 0x05, 0x02, 0x00]), None, "no frame data");
}

#[test]
fn vp9_descriptors_have_every_field() {
    let key = Vp9Descriptor::read(&[
        0xba, 0xd9, 0x1a, 0x10, 0x50, 1, 0x40, 0, 0xb4, 2, 0x80, 1, 0x68, 5, 0, 2, 0xd0, 0x83,
    ])
    .unwrap();
    assert_eq!((key.len, key.picture_id), (17, long(0x591a)));
    assert!(key.starts_frame && !key.ends_frame && !key.is_predicted && key.is_flexible);
    let structure = key.structure.unwrap();
    let sizes: Vec<_> = (0..4).map(|spatial| structure.size(spatial)).collect();
    assert_eq!(sizes, [Some((320, 180)), Some((640, 360)), Some((1_280, 720)), None]);
    assert_eq!(
        (structure.spatial_layers(), structure.largest()),
        (3, Some((1_280, 720)))
    );
    let upper = Vp9Descriptor::read(&[0xfd, 0xd9, 0x19, 0x55, 0x03, 0x05, 0x02, 0x87]).unwrap();
    let layers = upper.layers.unwrap();
    assert_eq!((layers.id, upper.references), (LayerId::new(2, 2), [1, 2, 1]));
    assert!(layers.switches_up && layers.is_inter_layer_predicted && upper.ends_frame);
    assert!(upper.is_not_reference_for_upper && upper.is_predicted);
    let fixed = Vp9Descriptor::read(&[0xa8, 0x05, 0x20, 0x07, 0x82]).unwrap();
    assert_eq!((fixed.tl0_picture_index, fixed.len), (Some(7), 4));
    assert_eq!(fixed.layers.unwrap().id, LayerId::new(0, 1));
    // A picture group of two pictures with one and three references.
    let group = Vp9Descriptor::read(&[0x0a, 0x08, 2, 0x04, 1, 0x0c, 1, 2, 3, 0x82]).unwrap();
    assert_eq!((group.len, group.structure.unwrap().largest()), (9, None));
}

#[test]
fn vp8_of_a_recording_counts_pictures_and_base_layers() {
    let packets = packets("vp8");
    for (stream, size) in [(0, (320, 180)), (1, (640, 360)), (2, (1_280, 720))] {
        let mut last: Option<Vp8Descriptor> = None;
        let mut seen = [0; 4];
        for packet in packets.iter().filter(|packet| packet.stream == stream) {
            let descriptor = Vp8Descriptor::read(&packet.payload).unwrap();
            let layer = payload_layer(Codec::Vp8, &packet.payload).unwrap();
            assert_eq!(Some(layer.layer.temporal), descriptor.temporal);
            let Some(before) = last.replace(descriptor) else {
                assert!(starts_keyframe(Codec::Vp8, &packet.payload));
                assert_eq!(picture_size(Codec::Vp8, &packet.payload), Some(size));
                continue;
            };
            if !descriptor.starts_frame() {
                assert_eq!(
                    (before.picture_id, before.temporal),
                    (descriptor.picture_id, descriptor.temporal)
                );
                continue;
            }
            assert_eq!(descriptor.picture_id, before.picture_id.map(PictureId::next));
            let temporal = descriptor.temporal.unwrap();
            seen[usize::from(temporal)] += 1;
            let counts = u8::from(temporal == 0);
            let expected = before.tl0_picture_index.unwrap().wrapping_add(counts);
            assert_eq!(descriptor.tl0_picture_index, Some(expected));
            assert!(!descriptor.is_discardable || temporal == 2);
        }
        assert!(seen[..3].iter().all(|count| *count > 2) && seen[3] == 0, "{seen:?}");
    }
}

/// With the dependency descriptor, the VP8 descriptor has one byte.
#[test]
fn vp8_with_dependency_descriptors_shows_no_layer() {
    for packet in packets("vp8dd").iter().filter(|packet| !packet.payload.is_empty()) {
        assert_eq!(Vp8Descriptor::read(&packet.payload).unwrap().len, 1);
        assert_eq!(payload_layer(Codec::Vp8, &packet.payload), None);
    }
}

#[test]
fn vp9_descriptors_agree_with_dependency_descriptors() {
    let mut state = DependencyState::default();
    let mut structures = 0;
    // Timestamp and first frame of the picture.
    let mut picture = (0, 0);
    for packet in packets("k33") {
        let dependency = state.read(packet.index, &packet.descriptor).unwrap();
        if picture.0 != packet.timestamp {
            picture = (packet.timestamp, dependency.frame_number);
        }
        let shown = payload_layer(Codec::Vp9, &packet.payload).unwrap();
        assert_eq!(shown.layer, dependency.layer);
        assert_eq!(
            (shown.starts_frame, shown.ends_frame),
            (dependency.starts_frame, dependency.ends_frame)
        );
        let descriptor = Vp9Descriptor::read(&packet.payload).unwrap();
        if let Some(structure) = descriptor.structure {
            structures += 1;
            assert!(dependency.brings_structure);
            assert_eq!(structure.size(0), dependency.size);
            let active = state.active_targets().iter().count() as u8;
            assert_eq!(structure.spatial_layers(), active / 3);
        }
        let in_picture = dependency.frame_number - picture.1;
        let mut references = dependency.references.as_slice().iter();
        assert_eq!(descriptor.is_predicted, references.any(|diff| *diff > in_picture));
    }
    assert_eq!(structures, 4);
}

#[test]
fn h264_shows_layers_in_prefix_units_only() {
    let prefix = [0x6e, 0xc0, 0x80, 0x4f];
    let layer = |payload: &[u8]| payload_layer(Codec::H264, payload).map(|shown| shown.layer);
    assert_eq!(layer(&prefix), Some(LayerId::new(0, 2)));
    let aggregated = [&[0x78, 0, 4][..], &prefix, &[0, 2, 0x41, 0x9a]].concat();
    let shown = payload_layer(Codec::H264, &aggregated).unwrap();
    assert!(shown.layer == LayerId::new(0, 2) && shown.starts_frame && !shown.ends_frame);
    assert_eq!(layer(&[0x74, 0x80, 0x10, 0x27, 0x9a]), Some(LayerId::new(1, 1)));
    for none in [
        &[][..],
        &[0x41, 0x9a],
        &[0x6e, 0xc0, 0x80],
        &[0x6e, 0x40, 0x80, 0x4f],
        &[0x7c, 0x8e, 0xc0, 0x80, 0x4f],
    ] {
        assert_eq!(layer(none), None, "{none:02x?}");
    }
}

#[test]
fn h265_shows_temporal_layers_in_every_packet() {
    let shown = |payload: &[u8]| payload_layer(Codec::H265, payload);
    let parts = |payload: &[u8]| {
        let shown = shown(payload)?;
        assert_ne!(shown.switch_point, SwitchPoint::Next);
        Some((
            shown.layer.temporal,
            shown.starts_frame,
            shown.switch_point == SwitchPoint::Here,
        ))
    };
    // A trailing picture, TSA, STSA, IDR.
    assert_eq!(parts(&[0x02, 0x01, 0xd0]), Some((0, true, false)));
    assert_eq!(parts(&[0x04, 0x03, 0x50]), Some((2, false, true)));
    assert_eq!(parts(&[0x08, 0x02, 0xd0]), Some((1, true, true)));
    assert_eq!(parts(&[0x26, 0x01, 0xaf]), Some((0, true, true)));
    // The start of a fragment of TSA and its rest, an aggregation of parameter sets and an IDR.
    assert_eq!(parts(&[0x62, 0x03, 0x82, 0xd0]), Some((2, true, true)));
    assert_eq!(parts(&[0x62, 0x03, 0x02, 0xd0]), Some((2, false, false)));
    assert_eq!(
        parts(&[0x60, 0x01, 0, 2, 0x40, 0x01, 0, 3, 0x26, 0x01, 0xaf]),
        Some((0, true, true))
    );
    assert_eq!(shown(&[0x02, 0x09, 0xd0]).unwrap().layer, LayerId::new(1, 0));
    assert_eq!(
        (shown(&[0x02, 0x00, 0xd0]), shown(&[0x03, 0x01]), shown(&[0x02])),
        (None, None, None)
    );
}

/// VP8 marks the frame whose layer may be taken, VP9 the one after which higher layers may be.
#[test]
fn switch_points_begin_with_the_frame_or_after_it() {
    for (codec, payload, expected) in [
        (Codec::Vp8, &[0x90, 0x20, 0x60, 0x10][..], SwitchPoint::Here),
        (Codec::Vp8, &[0x90, 0x20, 0x40, 0x10], SwitchPoint::None),
        (Codec::Vp9, &[0x28, 0x30, 0x07, 0x82], SwitchPoint::Next),
        (Codec::Vp9, &[0x28, 0x20, 0x07, 0x82], SwitchPoint::None),
        (Codec::H264, &[0x6e, 0xc0, 0x80, 0x4f], SwitchPoint::None),
    ] {
        let shown = payload_layer(codec, payload).unwrap();
        assert_eq!(shown.switch_point, expected, "{codec:?} {payload:02x?}");
    }
}

#[test]
fn picture_ids_wrap() {
    assert_eq!(long(0x7fff).map(PictureId::next), long(0));
    let short = PictureId {
        value: 0x7f,
        is_long: false,
    };
    assert_eq!(short.next().value, 0);
}

#[test]
fn no_bytes_panic() {
    let mut noise = Noise::seeded(51);
    for _ in 0..200_000 {
        let payload = noise.bytes(40);
        if let Some(descriptor) = Vp8Descriptor::read(&payload) {
            assert!(descriptor.len < payload.len() && descriptor.len <= 6);
        }
        if let Some(descriptor) = Vp9Descriptor::read(&payload) {
            assert!(descriptor.len <= payload.len());
        }
        for codec in Codec::ALL {
            if let Some(shown) = payload_layer(codec, &payload) {
                assert!(usize::from(shown.layer.spatial) < LayerId::SPATIAL_LAYERS_MAX);
                assert!(usize::from(shown.layer.temporal) < LayerId::TEMPORAL_LAYERS_MAX);
            }
        }
    }
}

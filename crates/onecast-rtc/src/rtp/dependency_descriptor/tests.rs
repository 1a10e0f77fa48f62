use super::*;
use crate::rtp::recorded::{RecordedPacket, packets};
use onecast_testing::Noise;

/// The descriptors of one stream of a recording.
struct Reading {
    state: DependencyState,
    /// Those that begin a frame.
    frames: Vec<DependencyDescriptor>,
}

fn read_stream(name: &str, stream: usize) -> Reading {
    let mut reading = Reading {
        state: DependencyState::default(),
        frames: Vec::new(),
    };
    let packets = packets(name);
    let mut open: Option<DependencyDescriptor> = None;
    for packet in packets
        .iter()
        .filter(|packet| packet.stream == stream && !packet.descriptor.is_empty())
    {
        let descriptor = read(&mut reading.state, packet);
        if descriptor.starts_frame {
            // A keyframe clears Chromium's queue: the rest of the frame in front of it is never sent, and the sequence numbers show no gap.
            assert!(open.is_none() || descriptor.brings_structure, "{name}: {descriptor:?}");
            reading.frames.push(descriptor);
        } else {
            let open = open.expect("the start of the frame");
            assert_eq!(
                (open.frame_number, open.layer),
                (descriptor.frame_number, descriptor.layer)
            );
            assert_eq!(open.indications, descriptor.indications);
        }
        assert!(
            !packet.marker || descriptor.ends_frame,
            "{name}: a picture ends with a frame"
        );
        open = (!descriptor.ends_frame).then_some(descriptor);
    }
    reading
}

fn read(state: &mut DependencyState, packet: &RecordedPacket) -> DependencyDescriptor {
    let value = &packet.descriptor;
    state
        .read(packet.index, value)
        .unwrap_or_else(|error| panic!("{error}: {value:02x?}"))
}

fn symbols(indications: Indications, targets: DecodeTargets) -> String {
    let symbol = |target| match indications.of(target) {
        Indication::NotPresent => '-',
        Indication::Discardable => 'D',
        Indication::Switch => 'S',
        Indication::Required => 'R',
    };
    targets.iter().map(symbol).collect()
}

fn target(state: &DependencyState, spatial: u8, temporal: u8) -> DecodeTarget {
    state
        .structure()
        .unwrap()
        .target(LayerId::new(spatial, temporal))
        .unwrap()
}

/// All frames of a recording with one stream have numbers without a gap.
fn check_numbers(frames: &[DependencyDescriptor]) {
    for pair in frames.windows(2) {
        assert_eq!(pair[1].frame_number, pair[0].frame_number.wrapping_add(1));
    }
}

/// Every frame that another refers to was sent before it, in the same stream, on no higher layer.
fn check_references(frames: &[DependencyDescriptor]) {
    for (index, frame) in frames.iter().enumerate() {
        for diff in frame.references.as_slice() {
            let number = frame.frame_number.wrapping_sub(*diff);
            let referred = frames[..index]
                .iter()
                .rev()
                .find(|before| before.frame_number == number);
            // The recording is cut before some.
            let Some(referred) = referred else { continue };
            assert!(
                referred.layer.is_within(frame.layer),
                "{} refers to {}",
                frame.layer,
                referred.layer
            );
        }
    }
}

#[test]
fn vp8_of_chromium_has_seven_templates_and_three_targets() {
    for (stream, size) in [(0, (240, 135)), (1, (480, 270)), (2, (960, 540))] {
        let Reading { state, frames } = read_stream("vp8dd", stream);
        let structure = state.structure().unwrap();
        let targets = structure.targets();
        assert_eq!(
            (structure.template_count(), targets.iter().count()),
            (7, 3),
            "stream {stream}"
        );
        assert_eq!((structure.chain_count(), structure.spatial_max()), (0, 0));
        assert_eq!((structure.size(0), structure.size(1)), (Some(size), None));
        assert_eq!(structure.chain(DecodeTarget(0)), None);
        for temporal in 0..3 {
            assert_eq!(structure.layer(DecodeTarget(temporal)), Some(LayerId::new(0, temporal)));
        }
        assert_eq!(state.active_targets(), targets);
        let key = &frames[0];
        assert!(key.brings_structure && key.is_independent());
        assert_eq!((key.size, &*symbols(key.indications, targets)), (Some(size), "SSS"));
        for frame in &frames {
            let expected: &[&str] = match frame.layer.temporal {
                0 => &["SSS", "SRR"],
                1 => &["-SS", "-DS"],
                _ => &["--D"],
            };
            let symbols = symbols(frame.indications, targets);
            assert!(expected.contains(&&*symbols), "{} {symbols}", frame.layer);
            assert_eq!(frame.is_independent(), frame.brings_structure);
            assert!(frame.belongs_to(DecodeTarget(2)));
        }
        check_references(&frames);
    }
}

/// All streams of a simulcast line of Chromium count their frames together, so a stream alone has gaps.
#[test]
fn streams_of_a_line_share_the_frame_numbers() {
    let mut states: [DependencyState; 3] = Default::default();
    let mut numbers = Vec::new();
    for packet in packets("vp8dd").iter().filter(|packet| !packet.descriptor.is_empty()) {
        let descriptor = read(&mut states[packet.stream], packet);
        if descriptor.starts_frame {
            numbers.push(descriptor.frame_number);
        }
    }
    // Streams overtake each other on the way, and the recording has two parts.
    numbers.sort_unstable();
    let gaps = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert_eq!(gaps, 1);
    let alone = read_stream("vp8dd", 2).frames;
    let steps: Vec<u16> = alone
        .windows(2)
        .map(|pair| pair[1].frame_number - pair[0].frame_number)
        .collect();
    assert!(steps.iter().all(|step| *step == 3), "{steps:?}");
}

#[test]
fn vp9_l3t3_key_has_fifteen_templates_nine_targets_and_a_chain_for_each_spatial_layer() {
    let Reading { state, frames } = read_stream("k33", 0);
    let structure = state.structure().unwrap();
    assert_eq!(
        (structure.template_count(), structure.targets()),
        (15, DecodeTargets::first(9))
    );
    assert_eq!((structure.chain_count(), structure.spatial_max()), (3, 2));
    let sizes: Vec<_> = (0..4).map(|spatial| structure.size(spatial)).collect();
    assert_eq!(sizes, [Some((320, 180)), Some((640, 360)), Some((1_280, 720)), None]);
    for (spatial, temporal) in (0..3).flat_map(|spatial| (0..3).map(move |temporal| (spatial, temporal))) {
        let target = DecodeTarget(3 * spatial + temporal);
        let layer = LayerId::new(spatial, temporal);
        assert_eq!(
            (structure.layer(target), structure.target(layer)),
            (Some(layer), Some(target))
        );
        assert_eq!(structure.chain(target), Some(spatial.into()));
    }
    assert_eq!(
        (structure.target(LayerId::new(0, 3)), structure.layer(DecodeTarget(9))),
        (None, None)
    );
    check_numbers(&frames);
    check_references(&frames);
}

#[test]
fn frames_between_keyframes_of_key_modes_are_for_their_own_spatial_layer() {
    for (name, spatial_layers) in [("k33", 3), ("av1k", 2)] {
        let Reading { state, frames } = read_stream(name, 0);
        let structure = state.structure().unwrap();
        let mut key_picture = 0..0;
        let mut seen = [false; 9];
        for frame in &frames {
            if frame.brings_structure {
                key_picture = frame.frame_number..frame.frame_number + spatial_layers;
            }
            let LayerId { spatial, temporal } = frame.layer;
            seen[usize::from(3 * spatial + temporal)] = true;
            let of_key = key_picture.contains(&frame.frame_number) && temporal == 0;
            for other in structure.targets().iter() {
                let layer = structure.layer(other).unwrap();
                let belongs = frame.layer.is_within(layer) && (of_key || layer.spatial == spatial);
                assert_eq!(frame.belongs_to(other), belongs, "{name}: {} and {layer}", frame.layer);
            }
            let own = structure.target(frame.layer).unwrap();
            assert_eq!(frame.is_switch_to(own), temporal == 0, "{name}: {}", frame.layer);
            assert_eq!(
                frame.is_in_chain_of(own, structure, state.active_targets()),
                temporal == 0
            );
        }
        let expected = usize::from(spatial_layers) * 3;
        assert_eq!(seen.iter().filter(|seen| **seen).count(), expected, "{name}");
    }
}

#[test]
fn chains_name_the_frame_that_must_not_be_lost() {
    for (name, spatial_layers) in [("k33", 3), ("av1k", 2)] {
        let Reading { state, frames } = read_stream(name, 0);
        let structure = state.structure().unwrap();
        let mut newest = [None; 3];
        for frame in &frames {
            for chain in 0..spatial_layers {
                let previous = frame.previous_in_chain(chain).unwrap();
                if let Some(newest) = newest[chain].filter(|_| previous != frame.frame_number) {
                    assert_eq!(previous, newest, "{name}: chain {chain} at {}", frame.frame_number);
                }
                let mut targets = structure.targets().iter();
                let protected = targets.find(|target| structure.chain(*target) == Some(chain));
                if frame.is_in_chain_of(protected.unwrap(), structure, state.active_targets()) {
                    newest[chain] = Some(frame.frame_number);
                }
            }
            assert_eq!(frame.previous_in_chain(spatial_layers), None);
        }
    }
}

/// Until the estimate is high enough for S1 and S2, nothing promises that their chains go on.
#[test]
fn chains_without_an_active_target_have_no_frames() {
    let mut state = DependencyState::default();
    let mut inactive = 0;
    for packet in packets("k33") {
        let frame = read(&mut state, &packet);
        let (structure, active) = (state.structure().unwrap(), state.active_targets());
        for target in structure.targets().iter() {
            let chain = structure.chain(target).unwrap();
            let is_produced = active.contains(DecodeTarget(3 * chain as u8));
            assert_eq!(structure.is_active_chain(chain, active), is_produced);
            let would_be = frame.is_in_chain_of(target, structure, structure.targets());
            assert_eq!(frame.is_in_chain_of(target, structure, active), would_be && is_produced);
            inactive += usize::from(would_be && !is_produced);
        }
        assert!(!structure.is_active_chain(structure.chain_count(), DecodeTargets(u32::MAX)));
    }
    assert!(inactive > 0, "the first keyframe is of S0 only, and of use for all");
}

#[test]
fn targets_become_active_as_the_estimate_grows() {
    let mut state = DependencyState::default();
    let mut masks = Vec::new();
    for packet in packets("k33") {
        if let Some(active) = read(&mut state, &packet).active_targets {
            masks.push(active);
            assert_eq!(state.active_targets(), active);
        }
    }
    assert_eq!(masks[..3], [3, 6, 9].map(DecodeTargets::first));
    assert!(masks[3..].iter().all(|mask| *mask == DecodeTargets::first(9)));
}

#[test]
fn av1_l2t3_key_has_ten_templates_six_targets_and_two_chains() {
    let Reading { state, frames } = read_stream("av1k", 0);
    let structure = state.structure().unwrap();
    assert_eq!(
        (structure.template_count(), structure.targets()),
        (10, DecodeTargets::first(6))
    );
    assert_eq!((structure.chain_count(), structure.size(1)), (2, Some((640, 360))));
    for index in 0..6 {
        let target = DecodeTarget(index);
        assert_eq!(structure.layer(target), Some(LayerId::new(index / 3, index % 3)));
    }
    assert_eq!(frames.iter().filter(|frame| frame.brings_structure).count(), 2);
    check_numbers(&frames);
    check_references(&frames);
    assert_eq!(target(&state, 1, 2), DecodeTarget(5));
}

#[test]
fn allocations_of_the_recordings_agree_with_the_structures() {
    use crate::rtp::video_layers_allocation::LayersAllocation;
    for (name, streams) in [("vp8dd", 3), ("k33", 1), ("av1k", 1)] {
        let mut states: [DependencyState; 3] = Default::default();
        let mut read_ones = 0;
        for packet in packets(name) {
            let state = &mut states[packet.stream];
            if !packet.descriptor.is_empty() {
                read(state, &packet);
            }
            if packet.allocation.is_empty() {
                continue;
            }
            let allocation = LayersAllocation::read(&packet.allocation).unwrap();
            assert_eq!(allocation.stream(), packet.stream, "{name}");
            assert!((packet.stream + 1..=streams).contains(&allocation.streams()), "{name}");
            for (stream, spatial, layer) in allocation.layers().filter(|(stream, ..)| *stream == packet.stream) {
                let size = state.structure().unwrap().size(spatial as u8);
                assert!(
                    layer.size().is_none_or(|allocated| Some(allocated) == size),
                    "{name} {stream}"
                );
                assert_eq!(layer.kbps().len(), 3);
            }
            read_ones += 1;
        }
        assert!(read_ones > 2, "{name}");
    }
}

/// The first packet of the VP8 recording's lowest stream.
const VP8_KEY: [u8; 23] = [
    0xc0, 0x00, 0x01, 0x80, 0x02, 0x04, 0x4e, 0xaa, 0xaf, 0x28, 0x60, 0x41, 0x4d, 0x34, 0x53, 0x8a, 0x09, 0x40, 0x40,
    0x3b, 0xc0, 0x21, 0x80,
];

#[test]
fn a_late_packet_does_not_bring_back_its_structure() {
    let packets: Vec<_> = packets("k33")
        .into_iter()
        .filter(|packet| packet.descriptor.len() > 8)
        .collect();
    let mut state = DependencyState::default();
    read(&mut state, &packets[2]);
    let newest = state.clone();
    let late = read(&mut state, &packets[0]);
    assert_eq!(
        (late.active_targets, late.brings_structure),
        (Some(DecodeTargets::first(3)), true)
    );
    assert_eq!(state.structure(), newest.structure());
    assert_eq!(state.active_targets(), DecodeTargets::first(9));
    assert_eq!(state.structure_since, newest.structure_since);
}

#[test]
fn descriptors_need_their_structure() {
    let mut state = DependencyState::default();
    let delta = [0xc1, 0, 2];
    assert_eq!(state.read(SeqIndex(1), &delta), Err(DependencyError::NoStructure));
    state.read(SeqIndex(2), &VP8_KEY).unwrap();
    assert!(state.read(SeqIndex(3), &delta).is_ok());
    assert_eq!(
        state.read(SeqIndex(4), &[0xc7, 0, 3]),
        Err(DependencyError::UnknownTemplate)
    );
    assert_eq!(state.read(SeqIndex(4), &[0xc1, 0]), Err(DependencyError::Truncated));
    // Custom indications: six bits after the flags.
    assert_eq!(
        state.read(SeqIndex(4), &[0xc1, 0, 3, 0x20]),
        Err(DependencyError::Truncated)
    );
    let custom = state.read(SeqIndex(4), &[0xc1, 0, 3, 0x20, 0xc0]).unwrap();
    assert_eq!(symbols(custom.indications, DecodeTargets::first(3)), "-DS");
}

#[test]
fn a_cut_structure_is_refused_and_leaves_the_state_as_it_is() {
    let mut state = DependencyState::default();
    for len in 0..VP8_KEY.len() {
        let result = state.read(SeqIndex(1), &VP8_KEY[..len]);
        let expected = if len == 3 {
            DependencyError::NoStructure
        } else {
            DependencyError::Truncated
        };
        assert_eq!(result, Err(expected), "{len} bytes");
        assert!(state.structure().is_none());
    }
    assert!(state.read(SeqIndex(1), &VP8_KEY).is_ok());
    let padded = [&VP8_KEY[..], &[0xff; 9]].concat();
    assert!(state.read(SeqIndex(2), &padded).is_ok(), "padding is ignored");
}

#[test]
fn structures_are_bounded() {
    let mut state = DependencyState::default();
    // Template layers: offset and targets are 11 bits behind the flags.
    let structure = |layers: u8| [&[0x80, 0, 1, 0x80, 0x00][..], &[layers; 40]].concat();
    for (layers, error) in [
        (0x00, DependencyError::TooManyTemplates),
        (0x55, DependencyError::TooManyLayers),
        (0xaa, DependencyError::TooManyLayers),
    ] {
        assert_eq!(state.read(SeqIndex(1), &structure(layers)), Err(error));
    }
    // One template and one target, then a reference for every five bits.
    let mut references = vec![0x80, 0, 1, 0x80, 0x00];
    references.extend([
        0b1110_1000,
        0b0100_0010,
        0b0001_0000,
        0b1000_0100,
        0b0010_0001,
        0b0000_1000,
        0x42,
        0x10,
        0x84,
    ]);
    assert_eq!(
        state.read(SeqIndex(1), &references),
        Err(DependencyError::TooManyReferences)
    );
}

#[test]
fn the_target_sets_are_bits() {
    assert_eq!(DecodeTargets::first(0), DecodeTargets(0));
    assert_eq!(DecodeTargets::first(6), DecodeTargets(0b11_1111));
    assert_eq!(DecodeTargets::first(32), DecodeTargets(u32::MAX));
    assert_eq!(DecodeTargets::first(33), DecodeTargets(u32::MAX));
    let some: Vec<u8> = DecodeTargets(0b1001).iter().map(|target| target.0).collect();
    assert_eq!(some, [0, 3]);
    assert!(!DecodeTargets(u32::MAX).contains(DecodeTarget(32)));
    assert_eq!(Indications(u64::MAX).of(DecodeTarget(32)), Indication::NotPresent);
}

#[test]
fn no_bytes_panic() {
    let recorded: Vec<_> = ["vp8dd", "k33", "av1k"].into_iter().flat_map(packets).collect();
    let mut noise = Noise::seeded(41);
    let mut state = DependencyState::default();
    let mut read = 0;
    for index in 0..100_000 {
        let mut value = match noise.below(3) {
            0 => noise.bytes(60),
            _ => recorded[noise.below(recorded.len())].descriptor.clone(),
        };
        for _ in 0..noise.below(4) {
            if !value.is_empty() {
                let at = noise.below(value.len());
                value[at] ^= 1 << noise.below(8);
            }
        }
        let Ok(descriptor) = state.read(SeqIndex(index), &value) else {
            continue;
        };
        read += 1;
        let structure = state.structure().unwrap();
        assert!(
            descriptor
                .references
                .as_slice()
                .iter()
                .all(|diff| (1..=4_096).contains(diff))
        );
        assert!(usize::from(descriptor.layer.spatial) < TemplateStructure::SPATIAL_LAYERS_MAX);
        for target in structure.targets().iter() {
            assert!(structure.layer(target).is_some());
            assert!(
                structure
                    .chain(target)
                    .is_none_or(|chain| chain < structure.chain_count())
            );
            let _ = descriptor.is_in_chain_of(target, structure, state.active_targets());
        }
    }
    assert!(read > 10_000, "{read}");
}

#[test]
fn frame_numbers_are_read_and_changed_without_a_structure() {
    let mut value = [0xc1, 0x12, 0x34, 0x80];
    assert_eq!(frame_number(&value), Some(0x1234));
    set_frame_number(&mut value, 0xfffe);
    assert_eq!((frame_number(&value), value), (Some(0xfffe), [0xc1, 0xff, 0xfe, 0x80]));
    let mut truncated = [1, 2];
    assert_eq!(frame_number(&truncated), None);
    set_frame_number(&mut truncated, 7);
    assert_eq!(truncated, [1, 2]);
}

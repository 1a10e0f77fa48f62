//! Starts of keyframes and frames per codec, from the RTP payload alone. No bytes make this panic.

pub use super::picture::picture_size;

use super::Codec;
use super::payload_descriptor::{Vp8Descriptor, Vp9Descriptor};

/// Whether the packet is the first of a keyframe. For H264 and H265 the parameter sets in front of it count as its start, so this may be
/// true for several packets of one keyframe. Audio can always be joined.
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => true,
        Codec::Vp8 => vp8_keyframe(payload).is_some(),
        Codec::Vp9 => {
            let starts = |vp9: &Vp9Descriptor| !vp9.is_predicted && vp9_starts_picture(vp9);
            let vp9 = Vp9Descriptor::read(payload).filter(starts);
            // Some senders leave P unset in every packet, so the frame's own header counts, too.
            vp9.is_some_and(|vp9| vp9_frame_is_keyframe(&payload[vp9.len..]))
        }
        Codec::H264 => h264_any(payload, |nal| matches!(nal.first().map(|b| b & 0x1f), Some(5 | 7))),
        Codec::H265 => h265_any(payload, |nal| h265_type(nal).is_some_and(h265_opens_keyframe)),
        Codec::Av1 => av1_new_sequence(payload),
    }
}

/// Calls `found` for each whole parameter set in the packet: SPS and PPS of H264, VPS, SPS and PPS of H265. Fragmented ones are left out;
/// the other codecs have none outside their keyframes.
pub fn parameter_sets(codec: Codec, payload: &[u8], mut found: impl FnMut(ParameterSet<'_>)) {
    let head = payload.first().copied().unwrap_or(0);
    let mut show = |nal: &[u8], read: fn(&[u8]) -> Option<(u8, u8)>| {
        if let Some((unit, id)) = read(nal) {
            found(ParameterSet { unit, id, nal });
        }
        false
    };
    // A fragment has only the beginning of its unit.
    match codec {
        Codec::H264 if head & 0x1f != 28 => h264_any(payload, |nal| show(nal, h264_parameter_set)),
        Codec::H265 if head >> 1 & 0x3f != 49 => h265_any(payload, |nal| show(nal, h265_parameter_set)),
        _ => false,
    };
}

/// Head of a packet of several parameter sets: STAP-A (RFC 6184 section 5.7.1) or AP (RFC 7798 section 4.4.2). The sets follow, each behind
/// its length in two bytes.
pub fn aggregation_head(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::H264 => &[0x78],
        _ => &[48 << 1, 1],
    }
}

/// The most bytes of all parameter sets of a stream, including their lengths: one packet carries them.
pub const PARAMETER_SETS_BYTES_MAX: usize = 1_100;

/// One parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterSet<'a> {
    /// NAL unit type.
    pub unit: u8,
    /// Id of the set. Another set with the same type and id replaces it.
    pub id: u8,
    /// The NAL unit.
    pub nal: &'a [u8],
}

/// Type and id: H.264 sections 7.3.2.1.1 and 7.3.2.2.
fn h264_parameter_set(nal: &[u8]) -> Option<(u8, u8)> {
    let unit = nal.first()? & 0x1f;
    let id = match unit {
        7 => exp_golomb(nal.get(4..)?)?,
        8 => exp_golomb(nal.get(1..)?)?,
        _ => return None,
    };
    Some((unit, id))
}

/// Type and id: H.265 sections 7.3.2.1 to 7.3.2.3. The id of an SPS lies behind fields of varying length, and is always 0 in practice.
fn h265_parameter_set(nal: &[u8]) -> Option<(u8, u8)> {
    let unit = h265_type(nal)?;
    let id = match unit {
        32 => nal.get(2)? >> 4,
        33 => 0,
        34 => exp_golomb(nal.get(2..)?)?,
        _ => return None,
    };
    Some((unit, id))
}

/// ue(v) up to 254 at the beginning (H.264 section 9.1).
fn exp_golomb(bytes: &[u8]) -> Option<u8> {
    let code = u32::from(*bytes.first()?) << 24 | u32::from(*bytes.get(1).unwrap_or(&0)) << 16;
    let zeros = code.leading_zeros();
    (zeros <= 7).then(|| ((code >> (31 - 2 * zeros)) - 1) as u8)
}

/// Whether the packet is the first of a frame, as far as the payload shows. For H264 and H265 this includes NAL units in front of the first
/// slice.
pub fn starts_frame(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => true,
        Codec::Vp8 => vp8_starts_frame(payload),
        Codec::Vp9 => Vp9Descriptor::read(payload).is_some_and(|vp9| vp9_starts_picture(&vp9)),
        Codec::H264 => h264_any(payload, h264_opens_frame),
        Codec::H265 => h265_any(payload, h265_opens_frame),
        Codec::Av1 => payload.len() > 1 && payload[0] & AV1_CONTINUES == 0,
    }
}

/// The frame data behind the descriptor, if a keyframe begins with the packet: P = 0 in the frame tag (RFC 7741 section 4.3), no
/// prediction from other frames.
pub(super) fn vp8_keyframe(payload: &[u8]) -> Option<&[u8]> {
    let descriptor = Vp8Descriptor::read(payload).filter(Vp8Descriptor::starts_frame)?;
    let frame = &payload[descriptor.len..];
    (frame[0] & 1 == 0).then_some(frame)
}

/// S = 1 and PID = 0: the start of the first partition.
fn vp8_starts_frame(payload: &[u8]) -> bool {
    payload.first().is_some_and(|first| first & 0x17 == 0x10)
}

/// The first packet of the lowest spatial layer.
fn vp9_starts_picture(descriptor: &Vp9Descriptor) -> bool {
    descriptor.starts_frame && descriptor.layers.is_none_or(|layers| layers.id.spatial == 0)
}

/// Whether a VP9 frame is a keyframe, by its own header (VP9 bitstream section 6.2).
pub fn vp9_frame_is_keyframe(frame: &[u8]) -> bool {
    let Some(head) = frame.first() else { return false };
    let profile_3 = head & 0x30 == 0x30;
    // Marker, profile, a reserved bit in profile 3, show_existing_frame, frame_type.
    let rest = head << if profile_3 { 5 } else { 4 };
    head >> 6 == 0b10 && rest & 0xc0 == 0
}

/// Whether `matches` holds for a NAL unit that starts in this payload (RFC 6184 section 5.2: single, STAP-A or the start of a FU-A).
/// A fragment is shown with its NAL header rebuilt and the first byte behind it.
pub(super) fn h264_any(payload: &[u8], mut matches: impl FnMut(&[u8]) -> bool) -> bool {
    let Some(&head) = payload.first() else {
        return false;
    };
    match head & 0x1f {
        1..=23 => matches(payload),
        24 => aggregated(&payload[1..]).any(matches),
        28 => match payload {
            [_, fu, rest @ ..] if fu & 0x80 != 0 => matches(&[head & 0xe0 | fu & 0x1f, first_or_zero(rest)]),
            _ => false,
        },
        _ => false,
    }
}

/// A first slice (`first_mb_in_slice` is 0, a single 1 bit) or a unit before it in its access unit (RFC 6184, H.264 section 7.4.1.2.3).
fn h264_opens_frame(nal: &[u8]) -> bool {
    match nal.first().map(|byte| byte & 0x1f) {
        Some(1 | 2 | 5) => nal.get(1).is_some_and(|byte| byte & 0x80 != 0),
        Some(6..=9) => true,
        _ => false,
    }
}

/// As [`h264_any`] for H265 (RFC 7798 section 4.4: single, AP, or the start of a FU). NAL headers are two bytes.
pub(super) fn h265_any(payload: &[u8], mut matches: impl FnMut(&[u8]) -> bool) -> bool {
    match (h265_type(payload), payload) {
        (Some(0..=47), nal) => matches(nal),
        (Some(48), [_, _, units @ ..]) => aggregated(units).any(matches),
        (Some(49), [first, second, fu, rest @ ..]) if fu & 0x80 != 0 => {
            matches(&[first & 0x81 | (fu & 0x3f) << 1, *second, first_or_zero(rest)])
        }
        _ => false,
    }
}

pub(super) fn h265_type(nal: &[u8]) -> Option<u8> {
    (nal.len() >= 2).then(|| nal[0] >> 1 & 0x3f)
}

/// BLA, IDR and CRA pictures (16..=21), VPS (32) and SPS (33).
fn h265_opens_keyframe(nal_type: u8) -> bool {
    matches!(nal_type, 16..=21 | 32 | 33)
}

/// A first slice segment (the first bit behind the header), or a unit before it: parameter sets, delimiter, prefix SEI.
fn h265_opens_frame(nal: &[u8]) -> bool {
    match h265_type(nal) {
        Some(0..=31) => nal.get(2).is_some_and(|byte| byte & 0x80 != 0),
        Some(32..=35 | 39) => true,
        _ => false,
    }
}

/// NAL units of an aggregation packet, each behind its 16-bit length. A truncated one ends the iteration.
fn aggregated(mut units: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = units.split_first_chunk::<2>()?;
        let (unit, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        units = rest;
        Some(unit)
    })
}

/// N = 1 in the aggregation header: the first packet of a coded video sequence (AV1 RTP section 4.4). A sequence header in front counts,
/// too, for senders that leave the bit unset: it comes with keyframes only.
fn av1_new_sequence(payload: &[u8]) -> bool {
    let Some((head, elements)) = payload.split_first() else {
        return false;
    };
    head & AV1_CONTINUES == 0
        && (head & AV1_NEW_SEQUENCE != 0 && !elements.is_empty()
            || av1_first_obu(*head, elements) == Some(AV1_SEQUENCE_HEADER))
}

/// Type of the first OBU element: behind its LEB128 length, unless it is the only one (W = 1).
fn av1_first_obu(head: u8, elements: &[u8]) -> Option<u8> {
    let alone = head >> 4 & 0x03 == 1;
    let at = if alone {
        0
    } else {
        elements.iter().take(8).position(|byte| byte & 0x80 == 0)? + 1
    };
    elements.get(at).map(|obu| obu >> 3 & 0x0f)
}

fn first_or_zero(bytes: &[u8]) -> u8 {
    bytes.first().copied().unwrap_or(0)
}

const AV1_CONTINUES: u8 = 0x80;
const AV1_NEW_SEQUENCE: u8 = 0x08;
const AV1_SEQUENCE_HEADER: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_testing::Noise;

    #[test]
    fn vp8_keyframes_are_seen_behind_every_descriptor() {
        let yes: [&[u8]; 5] = [
            &[0x10, 0x00],
            &[0x90, 0x80, 0x05, 0x10],
            &[0x90, 0x80, 0x85, 0x01, 0x10],
            &[0x90, 0xe0, 0x85, 0x01, 0x07, 0x20, 0x10],
            &[0x90, 0x10, 0x20, 0x10],
        ];
        for payload in yes {
            assert!(starts_keyframe(Codec::Vp8, payload), "{payload:02x?}");
        }
        let no: [&[u8]; 6] = [
            &[],
            &[0x10],
            &[0x00, 0x00],
            &[0x11, 0x00],
            &[0x10, 0x01],
            &[0x90, 0x80, 0x85, 0x01],
        ];
        for payload in no {
            assert!(!starts_keyframe(Codec::Vp8, payload), "{payload:02x?}");
        }
    }

    #[test]
    fn vp9_keyframes_start_without_prediction_in_the_base_layer() {
        // 0x82: marker, profile 0, a shown keyframe. 0x86: not a keyframe.
        let yes: [&[u8]; 6] = [
            &[0x08, 0x82],
            &[0x8a, 0x85, 0x01, 0x10, 5, 0, 2, 0xd0, 0x82],
            &[0x8a, 0x85, 0x01, 0x18, 5, 0, 2, 0xd0, 2, 0x04, 1, 0x00, 0x82],
            &[0xa8, 0x05, 0x00, 0x00, 0x82],
            &[0xb8, 0x05, 0x01, 0x82],
            &[0x08, 0xb0],
        ];
        for payload in yes {
            assert!(starts_keyframe(Codec::Vp9, payload), "{payload:02x?}");
        }
        let no: [&[u8]; 9] = [
            &[],
            &[0x00, 0x82],
            &[0x48, 0x82],
            &[0xa8, 0x05, 0x02, 0x00, 0x82],
            &[0x88, 0x80],
            &[0x08, 0x86],
            &[0x08, 0x8a],
            &[0x08, 0xb4],
            &[0x0a, 0x10, 5, 0, 2],
        ];
        for payload in no {
            assert!(!starts_keyframe(Codec::Vp9, payload), "{payload:02x?}");
        }
        assert!(starts_frame(Codec::Vp9, &[0x48, 0]) && !starts_frame(Codec::Vp9, &[0x40, 0]));
    }

    #[test]
    fn h264_keyframes_are_seen_in_single_aggregated_and_fragmented_units() {
        let yes: [&[u8]; 5] = [
            &[0x67, 0x42],
            &[0x65, 0x88],
            &[0x78, 0, 2, 0x09, 0xf0, 0, 2, 0x67, 0x42],
            &[0x78, 0, 2, 0x06, 0xf0, 0, 2, 0x65, 0x88],
            &[0x7c, 0x85, 0x88],
        ];
        for payload in yes {
            assert!(starts_keyframe(Codec::H264, payload), "{payload:02x?}");
        }
        let no: [&[u8]; 7] = [
            &[],
            &[0x41, 0x9a],
            &[0x68, 0xce],
            &[0x7c, 0x05, 0x88],
            &[0x7c, 0x45],
            &[0x78, 0, 9, 0x67, 0x42],
            &[0x7c],
        ];
        for payload in no {
            assert!(!starts_keyframe(Codec::H264, payload), "{payload:02x?}");
        }
    }

    #[test]
    fn h265_keyframes_are_seen_in_single_aggregated_and_fragmented_units() {
        let yes: [&[u8]; 6] = [
            &[0x40, 0x01, 0x0c],
            &[0x42, 0x01],
            &[0x26, 0x01, 0xaf],
            &[0x2a, 0x01, 0xaf],
            &[0x60, 0x01, 0, 2, 0x46, 0x01, 0, 3, 0x42, 0x01, 0x01],
            &[0x62, 0x01, 0x93, 0xaf],
        ];
        for payload in yes {
            assert!(starts_keyframe(Codec::H265, payload), "{payload:02x?}");
        }
        let no: [&[u8]; 6] = [
            &[],
            &[0x40],
            &[0x02, 0x01, 0xd0],
            &[0x44, 0x01],
            &[0x62, 0x01, 0x13],
            &[0x62, 0x01],
        ];
        for payload in no {
            assert!(!starts_keyframe(Codec::H265, payload), "{payload:02x?}");
        }
    }

    #[test]
    fn av1_keyframes_open_a_new_sequence() {
        assert!(starts_keyframe(Codec::Av1, &[0x18, 0x0a, 0x0b]));
        assert!(starts_keyframe(Codec::Av1, &[0x20, 0x0b, 0x0a]) && starts_keyframe(Codec::Av1, &[0x10, 0x0a]));
        assert!(!starts_keyframe(Codec::Av1, &[0x10, 0x32]));
        assert!(!starts_keyframe(Codec::Av1, &[0x98, 0x32]));
        assert!(!starts_keyframe(Codec::Av1, &[0x18]));
        assert!(starts_frame(Codec::Av1, &[0x10, 0x32]) && !starts_frame(Codec::Av1, &[0x90, 0x32]));
    }

    #[test]
    fn frame_starts_are_distinguished_from_later_slices() {
        assert!(starts_frame(Codec::H264, &[0x41, 0x9a]) && !starts_frame(Codec::H264, &[0x41, 0x1a]));
        assert!(starts_frame(Codec::H264, &[0x7c, 0x81, 0x9a]) && !starts_frame(Codec::H264, &[0x7c, 0x81, 0x1a]));
        assert!(starts_frame(Codec::H265, &[0x02, 0x01, 0xd0]) && !starts_frame(Codec::H265, &[0x02, 0x01, 0x50]));
        assert!(starts_frame(Codec::Vp8, &[0x10, 0x01]) && !starts_frame(Codec::Vp8, &[0x00, 0x01]));
    }

    #[test]
    fn whole_parameter_sets_are_found_with_their_ids() {
        let found = |codec, payload: &[u8]| {
            let mut list = Vec::new();
            parameter_sets(codec, payload, |set| list.push((set.unit, set.id, set.nal.len())));
            list
        };
        let sets = [
            0x78, 0, 5, 0x67, 0x42, 0, 30, 0x80, 0, 3, 0x68, 0x44, 0x80, 0, 2, 0x65, 0x88,
        ];
        assert_eq!(found(Codec::H264, &sets), [(7, 0, 5), (8, 1, 3)]);
        assert_eq!(found(Codec::H264, &[0x68, 0x24, 0x80]), [(8, 3, 3)]);
        assert_eq!(found(Codec::H264, &[0x7c, 0x87, 0x42]), []);
        assert_eq!(found(Codec::H264, &[0x68]), []);
        assert_eq!(found(Codec::H265, &[0x40, 0x01, 0x1c]), [(32, 1, 3)]);
        assert_eq!(found(Codec::H265, &[0x44, 0x01, 0xc1]), [(34, 0, 3)]);
        assert_eq!(found(Codec::Vp8, &[0x67, 0x42, 0, 30, 0x80]), []);
    }

    #[test]
    fn opus_can_be_joined_anywhere() {
        assert!(starts_keyframe(Codec::Opus, &[]) && starts_keyframe(Codec::Opus, &[0xfc]));
    }

    #[test]
    fn no_bytes_panic() {
        let mut noise = Noise::seeded(21);
        for _ in 0..100_000 {
            let payload = noise.bytes(48);
            for codec in Codec::ALL {
                let _ = (
                    starts_keyframe(codec, &payload),
                    starts_frame(codec, &payload),
                    parameter_sets(codec, &payload, |set| assert!(set.nal.len() <= payload.len())),
                    picture_size(codec, &payload),
                );
            }
        }
    }
}

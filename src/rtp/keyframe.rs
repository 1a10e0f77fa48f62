//! Keyframe detection per codec, from the RTP payload alone. Never panics, whatever the bytes.

use super::Codec;

/// Whether a packet with this payload is the first of a keyframe (or carries the parameter sets that lead one in). Audio always is.
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => true,
        Codec::Vp8 => vp8_frame(payload).is_some_and(|frame| frame.first().is_some_and(|tag| tag & 1 == 0)),
        Codec::Vp9 => vp9(payload),
        Codec::H264 => h264(payload),
        Codec::H265 => h265(payload),
        // N: the first packet of a coded video sequence (AV1 RTP payload format, section 4.4).
        Codec::Av1 => payload.first().is_some_and(|aggregation| aggregation & 0x08 != 0),
    }
}

/// Width and height that a keyframe's first packet tells, where that is simple: VP8.
pub fn picture_size(codec: Codec, payload: &[u8]) -> Option<(u16, u16)> {
    if codec != Codec::Vp8 {
        return None;
    }
    // RFC 6386 section 9.1: 3 bytes of frame tag, start code 9d 01 2a, 14 bits of width, 14 of height.
    let frame: &[u8; 10] = vp8_frame(payload)?.first_chunk()?;
    let size = |low, high| u16::from_le_bytes([low, high]) & 0x3fff;
    (frame[0] & 1 == 0 && frame[3..6] == [0x9d, 0x01, 0x2a])
        .then(|| (size(frame[6], frame[7]), size(frame[8], frame[9])))
}

/// What follows the descriptor (RFC 7741 section 4.2) of a packet that starts a frame: S = 1, PID = 0.
fn vp8_frame(payload: &[u8]) -> Option<&[u8]> {
    let first = *payload.first()?;
    if first & 0x10 == 0 || first & 0x07 != 0 {
        return None;
    }
    let mut at = 1;
    if first & 0x80 != 0 {
        let extended = *payload.get(1)?;
        at = 2;
        if extended & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extended & 0x40 != 0) + usize::from(extended & 0x30 != 0);
    }
    payload.get(at..)
}

/// RFC 9628 section 4.2: start of a frame (B), not inter-predicted (P), lowest spatial layer.
fn vp9(payload: &[u8]) -> bool {
    let Some(&first) = payload.first() else { return false };
    let (picture_id, inter, layers, start) = (
        first & 0x80 != 0,
        first & 0x40 != 0,
        first & 0x20 != 0,
        first & 0x08 != 0,
    );
    if !start || inter {
        return false;
    }
    if !layers {
        return true;
    }
    let mut at = 1;
    if picture_id {
        let Some(id) = payload.get(at) else { return false };
        at += if id & 0x80 != 0 { 2 } else { 1 };
    }
    payload.get(at).is_some_and(|layer| layer & 0x0e == 0)
}

/// RFC 6184: a sequence parameter set (7) or an IDR slice (5), alone, aggregated (STAP-A, 24) or as the start of fragments (FU-A, 28).
fn h264(payload: &[u8]) -> bool {
    let Some((&head, rest)) = payload.split_first() else {
        return false;
    };
    let leads = |unit: u8| matches!(unit & 0x1f, 5 | 7);
    match head & 0x1f {
        24 => units(rest).any(|unit| unit.first().is_some_and(|&head| leads(head))),
        28 => rest
            .first()
            .is_some_and(|fragment| fragment & 0x80 != 0 && leads(*fragment)),
        _ => leads(head),
    }
}

/// RFC 7798: parameter sets (32 to 34) or a random access picture (16 to 21), alone, aggregated (48) or as the start of fragments (49).
fn h265(payload: &[u8]) -> bool {
    let (Some(&head), Some(rest)) = (payload.first(), payload.get(2..)) else {
        return false;
    };
    let leads = |unit_type: u8| matches!(unit_type, 16..=21 | 32..=34);
    match (head >> 1) & 0x3f {
        48 => units(rest).any(|unit| unit.first().is_some_and(|&head| leads((head >> 1) & 0x3f))),
        49 => rest
            .first()
            .is_some_and(|fragment| fragment & 0x80 != 0 && leads(fragment & 0x3f)),
        unit_type => leads(unit_type),
    }
}

/// The units of an aggregation packet: 16 bits of length, then the unit.
fn units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len));
        let unit = after.get(..len)?;
        rest = &after[len..];
        Some(unit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vp8_keyframes_start_with_partition_0_and_an_even_tag() {
        let size = [0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
        let keyframe = [&[0x10, 0x50, 0x01, 0x02][..], &size].concat();
        assert!(starts_keyframe(Codec::Vp8, &keyframe));
        assert_eq!(picture_size(Codec::Vp8, &keyframe), Some((640, 360)));
        let with_long_picture_id = [&[0x90, 0x80, 0x81, 0x23, 0x50, 0x01, 0x02][..], &size].concat();
        assert!(starts_keyframe(Codec::Vp8, &with_long_picture_id));
        assert_eq!(picture_size(Codec::Vp8, &with_long_picture_id), Some((640, 360)));
        assert!(!starts_keyframe(Codec::Vp8, &[0x10, 0x51, 0, 0]), "an inter frame");
        assert!(!starts_keyframe(Codec::Vp8, &[0x00, 0x50, 0, 0]), "not the start");
        assert!(!starts_keyframe(Codec::Vp8, &[0x11, 0x50, 0, 0]), "another partition");
    }

    #[test]
    fn vp9_keyframes_start_a_frame_that_predicts_from_nothing() {
        assert!(starts_keyframe(Codec::Vp9, &[0x8a, 0x81, 0x02]));
        assert!(starts_keyframe(Codec::Vp9, &[0xa8, 0x81, 0x02, 0x00]));
        assert!(
            !starts_keyframe(Codec::Vp9, &[0xa8, 0x81, 0x02, 0x02]),
            "an upper spatial layer"
        );
        assert!(!starts_keyframe(Codec::Vp9, &[0xc8, 0x01]), "inter-predicted");
        assert!(!starts_keyframe(Codec::Vp9, &[0x80, 0x01]), "not the start");
    }

    #[test]
    fn h264_and_h265_keyframes_start_with_parameter_sets_or_a_random_access_picture() {
        for payload in [
            &[0x67, 1][..],
            &[0x65],
            &[0x78, 0, 2, 0x67, 1, 0, 1, 0x68],
            &[0x7c, 0x85],
        ] {
            assert!(starts_keyframe(Codec::H264, payload), "{payload:x?}");
        }
        for payload in [
            &[0x41, 1][..],
            &[0x7c, 0x05],
            &[0x7c, 0x81],
            &[0x78, 0, 9, 0x67],
            &[0x68],
        ] {
            assert!(!starts_keyframe(Codec::H264, payload), "{payload:x?}");
        }
        for payload in [
            &[0x40, 1, 0][..],
            &[0x26, 1],
            &[0x60, 1, 0, 3, 0x42, 1, 0],
            &[0x62, 1, 0x93],
        ] {
            assert!(starts_keyframe(Codec::H265, payload), "{payload:x?}");
        }
        for payload in [&[0x02, 1][..], &[0x62, 1, 0x13], &[0x62, 1]] {
            assert!(!starts_keyframe(Codec::H265, payload), "{payload:x?}");
        }
    }

    #[test]
    fn av1_keyframes_start_a_coded_video_sequence() {
        assert!(starts_keyframe(Codec::Av1, &[0x18, 0x0a]));
        assert!(!starts_keyframe(Codec::Av1, &[0x10, 0x32]));
    }

    #[test]
    fn short_payloads_are_no_keyframes() {
        for codec in Codec::ALL.into_iter().filter(|codec| *codec != Codec::Opus) {
            assert!(!starts_keyframe(codec, &[]));
            for byte in 0..=255u8 {
                starts_keyframe(codec, &[byte]);
                starts_keyframe(codec, &[byte, byte]);
                picture_size(codec, &[byte, byte, byte]);
            }
        }
    }
}

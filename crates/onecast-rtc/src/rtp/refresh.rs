//! Points at which a decoder can begin, from the RTP payload alone. No bytes make this panic.

use super::Codec;
use super::keyframe::{h264_any, h265_any, h265_type, starts_keyframe};
use super::picture::Bits;

/// A picture that does not depend on those before it, or a point after which pictures soon do not. Later variants are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refresh {
    /// An intra picture, as far as its first slice shows. Later pictures may still refer to earlier ones.
    Intra,
    /// A recovery point SEI message: the encoder promises that pictures are complete after `frames` more of them. Streams with intra
    /// refresh or open groups of pictures have nothing better.
    Recovery {
        /// Pictures that may still be incomplete, at most [`Refresh::FRAMES_MAX`].
        frames: u16,
    },
    /// A keyframe: nothing from here on depends on anything before it.
    Keyframe,
}

impl Refresh {
    /// More pictures than encoders take for a refresh: ten seconds at 60 a second.
    pub const FRAMES_MAX: u16 = 600;
}

/// The best refresh point that begins in this packet. A recovery point may come in a packet in front of its picture.
pub fn refresh(codec: Codec, payload: &[u8]) -> Option<Refresh> {
    let mut best = None;
    match codec {
        Codec::H264 => {
            h264_any(payload, |nal| {
                best = best.max(h264_refresh(nal));
                false
            });
        }
        Codec::H265 => {
            h265_any(payload, |nal| {
                best = best.max(h265_refresh(nal));
                false
            });
        }
        _ => return starts_keyframe(codec, payload).then_some(Refresh::Keyframe),
    }
    best
}

fn h264_refresh(nal: &[u8]) -> Option<Refresh> {
    let (head, body) = nal.split_first()?;
    match head & 0x1f {
        5 => Some(Refresh::Keyframe),
        6 => recovery_point(body, |bits| bits.exp_golomb()),
        1 => body
            .first()
            .is_some_and(|slice| is_first_intra_slice(*slice))
            .then_some(Refresh::Intra),
        _ => None,
    }
}

/// BLA, IDR and CRA pictures, and prefix SEI. Intra pictures cannot be recognised: the slice type lies behind fields whose length depends
/// on the picture parameter set.
fn h265_refresh(nal: &[u8]) -> Option<Refresh> {
    match h265_type(nal)? {
        16..=21 => Some(Refresh::Keyframe),
        39 => recovery_point(nal.get(2..)?, |bits| {
            bits.signed_exp_golomb().map(|count| count.max(0).cast_unsigned())
        }),
        _ => None,
    }
}

/// H.264 section 7.3.3: `first_mb_in_slice` is 0 (one bit), and `slice_type` 2 or 7: I, here or in all slices of the picture.
fn is_first_intra_slice(slice: u8) -> bool {
    slice & 0xf0 == 0b1011 << 4 || slice == 0b1000_1000
}

/// Searches the messages of an SEI unit for a recovery point (H.264 and H.265 sections 7.3.2.3 and D.1: type and length are each coded as
/// bytes of 255 and a last one). `count` reads the number of pictures until the refresh is complete.
fn recovery_point(body: &[u8], count: fn(&mut Bits<'_>) -> Option<u64>) -> Option<Refresh> {
    let mut bits = Bits::new(body);
    for _ in 0..MESSAGES_MAX {
        let kind = message_number(&mut bits)?;
        let len = message_number(&mut bits)?;
        if kind == RECOVERY_POINT {
            let frames = count(&mut bits)?.min(u64::from(Refresh::FRAMES_MAX)) as u16;
            return Some(Refresh::Recovery { frames });
        }
        for _ in 0..len {
            bits.byte()?;
        }
    }
    None
}

fn message_number(bits: &mut Bits<'_>) -> Option<u32> {
    let mut number = 0;
    loop {
        let byte = bits.byte()?;
        number += u32::from(byte);
        if byte != 255 {
            return Some(number);
        }
    }
}

/// `payloadType` of a recovery point (H.264 section D.2.8, H.265 section D.3.8).
const RECOVERY_POINT: u32 = 6;
/// The most messages of one unit that are read: encoders write two or three.
const MESSAGES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_testing::Noise;

    fn h264(payload: &[u8]) -> Option<Refresh> {
        refresh(Codec::H264, payload)
    }

    const fn recovery(frames: u16) -> Option<Refresh> {
        Some(Refresh::Recovery { frames })
    }

    #[test]
    fn a_recovery_point_is_found_alone_aggregated_and_behind_other_messages() {
        let sei = [6, 6, 1, 0x84, 0x80];
        assert_eq!(h264(&sei), recovery(0));
        let aggregated = [0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce, 0, 5, 6, 6, 1, 0x84, 0x80];
        assert_eq!(h264(&aggregated), recovery(0));
        // 59 pictures: ue(59) is 00000111100.
        let buffering_first = [6, 0, 2, 0x11, 0x22, 6, 2, 0x07, 0x92, 0x80];
        assert_eq!(h264(&buffering_first), recovery(59));
        // A message whose bytes hold emulation prevention, and a length of 256.
        let mut long = vec![6, 5, 255, 1];
        long.extend([0, 0, 3, 1].repeat(85));
        long.extend([9, 6, 1, 0xc4, 0x80]);
        assert_eq!(h264(&long), recovery(0));
        // As x264 writes them: with intra refresh, 320 pixels wide, and with an open group of pictures.
        assert_eq!(h264(&[6, 6, 2, 0x09, 0xc4, 0x80]), recovery(18));
        assert_eq!(h264(&[6, 6, 1, 0xc4, 0x80]), recovery(0));
        assert_eq!(h264(&[6, 5, 1, 6, 0x80]), None, "the contents of another message");
        assert_eq!(h264(&[6, 6]), None);
    }

    #[test]
    fn an_absurd_count_is_bounded() {
        let sei = [6, 6, 5, 0x00, 0x00, 0x80, 0x00, 0x00, 0x80];
        assert_eq!(h264(&sei), recovery(Refresh::FRAMES_MAX));
    }

    #[test]
    fn the_best_in_a_packet_counts() {
        assert_eq!(
            h264(&[0x78, 0, 5, 6, 6, 1, 0x84, 0x80, 0, 2, 0x65, 0x88]),
            Some(Refresh::Keyframe)
        );
        assert_eq!(h264(&[0x78, 0, 5, 6, 6, 1, 0x84, 0x80, 0, 2, 0x41, 0x88]), recovery(0));
        assert!(
            Refresh::Keyframe > Refresh::Recovery { frames: 0 } && Refresh::Recovery { frames: 9 } > Refresh::Intra
        );
    }

    #[test]
    fn parameter_sets_in_front_are_not_a_picture() {
        for payload in [&[0x67, 0x42][..], &[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce]] {
            assert!(starts_keyframe(Codec::H264, payload) && h264(payload).is_none());
        }
        assert_eq!(
            h264(&[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x65, 0x88]),
            Some(Refresh::Keyframe)
        );
        assert_eq!(h264(&[0x7c, 0x85, 0x88]), Some(Refresh::Keyframe));
        assert_eq!(refresh(Codec::H265, &[0x42, 0x01]), None);
        assert_eq!(refresh(Codec::H265, &[0x26, 0x01, 0xaf]), Some(Refresh::Keyframe));
    }

    #[test]
    fn intra_pictures_are_recognised_by_their_first_slice() {
        for payload in [&[0x41, 0x88][..], &[0x61, 0xb4], &[0x7c, 0x81, 0x88]] {
            assert_eq!(h264(payload), Some(Refresh::Intra), "{payload:02x?}");
        }
        // P and B pictures, a later slice, a later fragment.
        for payload in [
            &[0x41, 0x9a][..],
            &[0x41, 0xe0],
            &[0x01, 0x9e],
            &[0x41, 0x08],
            &[0x7c, 0x01, 0x88],
        ] {
            assert_eq!(h264(payload), None, "{payload:02x?}");
        }
    }

    #[test]
    fn h265_has_random_access_pictures_and_recovery_points() {
        assert_eq!(refresh(Codec::H265, &[0x2a, 0x01, 0xaf]), Some(Refresh::Keyframe));
        assert_eq!(refresh(Codec::H265, &[0x4e, 0x01, 6, 1, 0xd0, 0x80]), recovery(0));
        // se(v) 00101 is -2.
        assert_eq!(refresh(Codec::H265, &[0x4e, 0x01, 6, 1, 0x2e, 0x80]), recovery(0));
        assert_eq!(refresh(Codec::H265, &[0x50, 0x01, 6, 1, 0xd0, 0x80]), None, "a suffix");
        assert_eq!(refresh(Codec::H265, &[0x02, 0x01, 0xd0]), None);
    }

    #[test]
    fn other_codecs_have_keyframes_only() {
        assert_eq!(refresh(Codec::Vp8, &[0x10, 0x00]), Some(Refresh::Keyframe));
        assert_eq!(refresh(Codec::Vp8, &[0x10, 0x01]), None);
    }

    #[test]
    fn no_bytes_panic_or_take_long() {
        let mut noise = Noise::seeded(31);
        for _ in 0..100_000 {
            let mut payload = noise.bytes(64);
            let heads: [&[u8]; 4] = [&[6], &[0x78, 0, 40, 6], &[0x4e, 1], &[0x7c, 0x86]];
            let head = heads[noise.below(4)];
            payload.splice(0..0, head.iter().copied());
            for codec in Codec::ALL {
                let _ = refresh(codec, &payload);
            }
        }
        assert_eq!(h264(&[&[6][..], &[255; 1_400]].concat()), None);
    }
}

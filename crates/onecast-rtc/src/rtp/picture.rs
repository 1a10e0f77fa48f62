//! The size of the picture, from the payload of codecs that have it in a simple place.

use super::Codec;
use super::keyframe::{h264_any, vp8_keyframe};
use super::payload_descriptor::Vp9Descriptor;
use super::sequence_size::sequence_size;

/// Width and height in pixels, if this payload has them: the first packet of a VP8 keyframe, a VP9 packet with a scalability structure
/// (its largest layer), a whole sequence parameter set of H264 or H265, or an AV1 sequence header. `None` otherwise.
pub fn picture_size(codec: Codec, payload: &[u8]) -> Option<(u16, u16)> {
    match codec {
        Codec::Vp8 => vp8_size(payload),
        Codec::Vp9 => Vp9Descriptor::read(payload)?.structure?.largest(),
        Codec::H264 => h264_size(payload),
        Codec::H265 | Codec::Av1 => sequence_size(codec, payload),
        Codec::Opus => None,
    }
}

/// RFC 6386 section 9.1: frame tag (3 bytes), start code, then 14 bits each, little endian.
fn vp8_size(payload: &[u8]) -> Option<(u16, u16)> {
    let frame = vp8_keyframe(payload)?;
    match *frame.get(3..)?.first_chunk::<7>()? {
        [0x9d, 0x01, 0x2a, w0, w1, h0, h1] => {
            let (width, height) = (u16::from_le_bytes([w0, w1]), u16::from_le_bytes([h0, h1]));
            Some((width & 0x3fff, height & 0x3fff))
        }
        _ => None,
    }
}

fn h264_size(payload: &[u8]) -> Option<(u16, u16)> {
    let mut size = None;
    // Of a fragment there are only two bytes here, too few for a parameter set.
    h264_any(payload, |nal| {
        if nal.first().is_some_and(|head| head & 0x1f == 7) {
            size = sps_size(nal);
        }
        size.is_some()
    });
    size
}

/// H.264 section 7.3.2.1.1: width and height in macroblocks, less the cropping.
fn sps_size(nal: &[u8]) -> Option<(u16, u16)> {
    let profile = *nal.get(1)?;
    let mut bits = Bits::new(nal.get(4..)?);
    bits.exp_golomb()?;
    let chroma_format = if HIGH_PROFILES.contains(&profile) {
        sps_high_profile(&mut bits)?
    } else {
        1
    };
    bits.exp_golomb()?;
    sps_picture_order(&mut bits)?;
    bits.exp_golomb()?;
    bits.bit()?;
    let width = 16 * (bits.exp_golomb()? + 1);
    let map_units = bits.exp_golomb()? + 1;
    let frame_only = bits.bit()?;
    if frame_only == 0 {
        bits.bit()?;
    }
    bits.bit()?;
    let height = 16 * map_units * (2 - frame_only);
    let mut crop = [0; 4];
    if bits.bit()? == 1 {
        for side in &mut crop {
            *side = bits.exp_golomb()?;
        }
    }
    let step_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
    let step_y = if chroma_format == 1 { 2 } else { 1 } * (2 - frame_only);
    let width = width.checked_sub(step_x * (crop[0] + crop[1]))?;
    let height = height.checked_sub(step_y * (crop[2] + crop[3]))?;
    Some((u16::try_from(width).ok()?, u16::try_from(height).ok()?))
}

/// The fields that only high profiles have; returns `chroma_format_idc`.
fn sps_high_profile(bits: &mut Bits<'_>) -> Option<u64> {
    let chroma_format = bits.exp_golomb()?;
    if chroma_format == 3 {
        bits.bit()?;
    }
    bits.exp_golomb()?;
    bits.exp_golomb()?;
    bits.bit()?;
    if bits.bit()? == 1 {
        let lists = if chroma_format == 3 { 12 } else { 8 };
        for list in 0..lists {
            if bits.bit()? == 1 {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma_format)
}

fn skip_scaling_list(bits: &mut Bits<'_>, len: usize) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..len {
        if next != 0 {
            next = (last + bits.signed_exp_golomb()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

fn sps_picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.exp_golomb()? {
        0 => {
            bits.exp_golomb()?;
        }
        1 => {
            bits.bit()?;
            bits.exp_golomb()?;
            bits.exp_golomb()?;
            // At most 255 by the standard; more is not a parameter set.
            let cycle = bits.exp_golomb().filter(|&cycle| cycle <= 255)?;
            for _ in 0..cycle {
                bits.exp_golomb()?;
            }
        }
        _ => {}
    }
    Some(())
}

/// Reads bits of a NAL unit, without its emulation prevention bytes (H.264 section 7.4.1).
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    bit: u8,
    zeros: u8,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits {
            bytes,
            at: 0,
            bit: 0,
            zeros: 0,
        }
    }

    pub(super) fn bit(&mut self) -> Option<u64> {
        let mut byte = *self.bytes.get(self.at)?;
        if self.bit == 0 && self.zeros >= 2 && byte == 3 {
            self.at += 1;
            self.zeros = 0;
            byte = *self.bytes.get(self.at)?;
        }
        let value = byte >> (7 - self.bit) & 1;
        self.bit += 1;
        if self.bit == 8 {
            self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
            self.bit = 0;
            self.at += 1;
        }
        Some(u64::from(value))
    }

    /// The next byte. Only valid at a byte boundary.
    pub(super) fn byte(&mut self) -> Option<u8> {
        if self.zeros >= 2 && *self.bytes.get(self.at)? == 3 {
            self.at += 1;
            self.zeros = 0;
        }
        let byte = *self.bytes.get(self.at)?;
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        self.at += 1;
        Some(byte)
    }

    /// ue(v), up to 32 bits (H.264 section 9.1).
    pub(super) fn exp_golomb(&mut self) -> Option<u64> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 32 {
                return None;
            }
        }
        let mut value = 1;
        for _ in 0..zeros {
            value = value << 1 | self.bit()?;
        }
        Some(value - 1)
    }

    /// se(v)
    pub(super) fn signed_exp_golomb(&mut self) -> Option<i64> {
        let code = self.exp_golomb()? as i64;
        Some(if code % 2 == 0 { -(code / 2) } else { code / 2 + 1 })
    }
}

/// profile_idc values with the chroma and scaling fields (H.264 section 7.3.2.1.1).
const HIGH_PROFILES: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vp8_has_its_size_in_keyframes_only() {
        let mut payload = vec![
            0x90, 0x80, 0x85, 0x01, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0xe0, 0x01,
        ];
        assert_eq!(picture_size(Codec::Vp8, &payload), Some((640, 480)));
        payload[4] |= 1;
        assert_eq!(picture_size(Codec::Vp8, &payload), None);
    }

    #[test]
    fn vp9_has_the_size_of_its_largest_layer() {
        let one = [0x8a, 0x85, 0x01, 0x10, 0x05, 0x00, 0x02, 0xd0, 0x82];
        assert_eq!(picture_size(Codec::Vp9, &one), Some((1280, 720)));
        let two = [0x0a, 0x30, 0x02, 0x80, 0x01, 0x68, 0x05, 0x00, 0x02, 0xd0, 0x82];
        assert_eq!(picture_size(Codec::Vp9, &two), Some((1280, 720)));
        assert_eq!(picture_size(Codec::Vp9, &two[..9]), None);
    }

    #[test]
    fn h264_has_its_size_in_whole_parameter_sets() {
        // Baseline 640x480; high 1920x1080 (1088 lines cropped by 8).
        let baseline = [0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xf6, 0x80];
        let high = [0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0];
        assert_eq!(picture_size(Codec::H264, &baseline), Some((640, 480)));
        assert_eq!(picture_size(Codec::H264, &high), Some((1920, 1080)));
        let mut aggregated = vec![0x78, 0, 2, 0x09, 0xf0, 0, baseline.len() as u8];
        aggregated.extend_from_slice(&baseline);
        assert_eq!(picture_size(Codec::H264, &aggregated), Some((640, 480)));
        assert_eq!(picture_size(Codec::H264, &[0x7c, 0x87, 0x42]), None);
    }

    #[test]
    fn emulation_prevention_bytes_are_skipped() {
        let mut bits = Bits::new(&[0, 0, 3, 0x80]);
        let read: Vec<_> = (0..17).map(|_| bits.bit().unwrap()).collect();
        assert_eq!(read.iter().sum::<u64>(), 1);
        assert_eq!(read[16], 1);
    }
}

//! The size of pictures in the sequence headers of H265 and AV1, which come with keyframes. Senders without a layers allocation, such as
//! OBS, show nothing else that ranks their encodings.

use super::Codec;
use super::bits::{BitReader, EndOfBits};
use super::keyframe::{h265_any, h265_type};
use super::picture::Bits;

/// Width and height in pixels, if this payload has a whole H265 sequence parameter set, or begins with an AV1 sequence header: the size of
/// the highest spatial layer. `None` otherwise, and for other codecs.
pub fn sequence_size(codec: Codec, payload: &[u8]) -> Option<(u16, u16)> {
    match codec {
        Codec::H265 => h265_size(payload),
        Codec::Av1 => av1_size(payload),
        _ => None,
    }
}

fn h265_size(payload: &[u8]) -> Option<(u16, u16)> {
    let mut size = None;
    // Of a fragment there are only three bytes here, too few for a parameter set.
    h265_any(payload, |nal| {
        if h265_type(nal) == Some(33) {
            size = h265_sps_size(nal);
        }
        size.is_some()
    });
    size
}

/// H.265 section 7.3.2.2.1: width and height in luma samples, less the conformance window.
fn h265_sps_size(nal: &[u8]) -> Option<(u16, u16)> {
    let mut bits = Bits::new(nal.get(2..)?);
    skip(&mut bits, 4)?;
    let sub_layers = skip(&mut bits, 3)? & 7;
    bits.bit()?;
    skip_profile_tier_level(&mut bits, sub_layers)?;
    bits.exp_golomb()?;
    let chroma_format = bits.exp_golomb()?;
    if chroma_format == 3 {
        bits.bit()?;
    }
    let (mut width, mut height) = (bits.exp_golomb()?, bits.exp_golomb()?);
    if bits.bit()? == 1 {
        let mut window = [0; 4];
        for side in &mut window {
            *side = bits.exp_golomb()?;
        }
        let step_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
        let step_y = if chroma_format == 1 { 2 } else { 1 };
        width = width.checked_sub(step_x * (window[0] + window[1]))?;
        height = height.checked_sub(step_y * (window[2] + window[3]))?;
    }
    whole((width, height))
}

/// H.265 section 7.3.3, with the general profile; `sub_layers` is one less than there are.
fn skip_profile_tier_level(bits: &mut Bits<'_>, sub_layers: u64) -> Option<()> {
    skip(bits, PROFILE_BITS + LEVEL_BITS)?;
    let mut sub_layer_bits = 0;
    for _ in 0..sub_layers {
        sub_layer_bits += PROFILE_BITS * usize::from(bits.bit()? == 1);
        sub_layer_bits += LEVEL_BITS * usize::from(bits.bit()? == 1);
    }
    if sub_layers > 0 {
        // Each of the missing ones up to eight has two reserved bits.
        sub_layer_bits += 2 * (8 - sub_layers as usize);
    }
    skip(bits, sub_layer_bits)?;
    Some(())
}

/// Skips bits of a NAL unit, and gives the last 64 of them.
fn skip(bits: &mut Bits<'_>, count: usize) -> Option<u64> {
    (0..count).try_fold(0, |value, _| Some(value << 1 | bits.bit()?))
}

/// The first OBU element, if it is a sequence header (AV1 RTP specification section 4.4).
fn av1_size(payload: &[u8]) -> Option<(u16, u16)> {
    let (head, elements) = payload.split_first()?;
    if head & 0x80 != 0 {
        return None;
    }
    let is_alone = head >> 4 & 0x03 == 1;
    let element = if is_alone { elements } else { leb128_prefixed(elements)? };
    let (obu, rest) = element.split_first()?;
    if obu >> 3 & 0x0f != 1 {
        return None;
    }
    let rest = if obu & 0x04 != 0 { rest.get(1..)? } else { rest };
    let header = if obu & 0x02 != 0 { leb128_prefixed(rest)? } else { rest };
    whole(av1_sequence_size(&mut BitReader::new(header)).ok()?)
}

/// `sequence_header_obu()` up to the size (AV1 specification section 5.5.1).
fn av1_sequence_size(bits: &mut BitReader<'_>) -> Result<(u64, u64), EndOfBits> {
    bits.bits(3 + 1)?;
    if bits.flag()? {
        // reduced_still_picture_header
        bits.bits(5)?;
    } else {
        let buffer_delay_bits = if bits.flag()? { av1_timing_info(bits)? } else { None };
        av1_operating_points(bits, buffer_delay_bits)?;
    }
    let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
    let width = bits.bits(width_bits as usize)?;
    let height = bits.bits(height_bits as usize)?;
    Ok((u64::from(width) + 1, u64::from(height) + 1))
}

/// `timing_info()` and `decoder_model_info()`: the bits of buffer delays, if there is a decoder model.
fn av1_timing_info(bits: &mut BitReader<'_>) -> Result<Option<usize>, EndOfBits> {
    bits.bits(32)?;
    bits.bits(32)?;
    if bits.flag()? {
        // uvlc(): as many bits as there are zeros in front of the first 1.
        let mut zeros = 0;
        while !bits.flag()? {
            zeros += 1;
        }
        // With 32 zeros the value is known.
        if zeros < 32 {
            bits.bits(zeros)?;
        }
    }
    if !bits.flag()? {
        return Ok(None);
    }
    let buffer_delay_bits = bits.bits(5)? as usize + 1;
    bits.bits(32)?;
    bits.bits(5 + 5)?;
    Ok(Some(buffer_delay_bits))
}

fn av1_operating_points(bits: &mut BitReader<'_>, buffer_delay_bits: Option<usize>) -> Result<(), EndOfBits> {
    let has_display_delay = bits.flag()?;
    for _ in 0..=bits.bits(5)? {
        bits.bits(12)?;
        // seq_level_idx, and seq_tier for the higher ones.
        if bits.bits(5)? > 7 {
            bits.flag()?;
        }
        if let Some(delay) = buffer_delay_bits
            && bits.flag()?
        {
            bits.bits(delay)?;
            bits.bits(delay)?;
            bits.flag()?;
        }
        if has_display_delay && bits.flag()? {
            bits.bits(4)?;
        }
    }
    Ok(())
}

/// The bytes that a LEB128 length in front of them counts.
fn leb128_prefixed(bytes: &[u8]) -> Option<&[u8]> {
    let last = bytes.iter().take(8).position(|byte| byte & 0x80 == 0)?;
    let (prefix, rest) = bytes.split_at(last + 1);
    let len = prefix
        .iter()
        .rev()
        .fold(0_u64, |len, byte| len << 7 | u64::from(byte & 0x7f));
    rest.get(..usize::try_from(len).ok()?)
}

fn whole((width, height): (u64, u64)) -> Option<(u16, u16)> {
    let size = (u16::try_from(width).ok()?, u16::try_from(height).ok()?);
    (size.0 > 0 && size.1 > 0).then_some(size)
}

/// Profile, tier and constraint flags.
const PROFILE_BITS: usize = 88;
const LEVEL_BITS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_testing::Noise;

    fn bytes(hex: &str) -> Vec<u8> {
        let pairs = hex.as_bytes().chunks_exact(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Parameter sets of x265: 4:2:0 with three temporal layers, 4:2:2, and 4:4:4 with 10 bits.
    const H265: [(&str, (u16, u16)); 7] = [
        (
            "42010101600000030090000003000003003ca00a080b9f796566924caf0168080000030008000003002840",
            (320, 180),
        ),
        (
            "42010101600000030090000003000003003fa00502016965959a4932bc05a020000003002000000300a1",
            (640, 360),
        ),
        (
            "42010101600000030090000003000003005da00280802d165959a4932bc05a020000030002000003000a10",
            (1_280, 720),
        ),
        (
            "420101016000000300900000030000030078a002ac80301d796566924caf0168080000030008000003002840",
            (1_366, 768),
        ),
        (
            "420101016000000300900000030000030078a003c08010e596566924caf016808000000300800000030284",
            (1_920, 1_080),
        ),
        (
            "4201010408000003009d0800000300003fb00502016965959a4932bc05a020000003002000000300a1",
            (640, 360),
        ),
        (
            "4201010408000003009c0800000300005a9000d6403c3bdb2cacd24995e02d010000030001000003000508",
            (854, 480),
        ),
    ];

    #[test]
    fn h265_has_its_size_in_whole_parameter_sets() {
        for (hex, size) in H265 {
            let sps = bytes(hex);
            assert_eq!(sequence_size(Codec::H265, &sps), Some(size), "{hex}");
            let vps_first = [&[0x60, 1, 0, 3, 0x40, 1, 0x0c, 0, sps.len() as u8][..], &sps].concat();
            assert_eq!(sequence_size(Codec::H265, &vps_first), Some(size));
            assert_eq!(sequence_size(Codec::H265, &sps[..16]), None);
        }
        assert_eq!(
            sequence_size(Codec::H265, &[0x62, 1, 0xa1, 1, 1, 1]),
            None,
            "a fragment"
        );
    }

    /// A set with three sub-layers, of which the first has a profile and a level.
    #[test]
    fn h265_profiles_of_sub_layers_are_skipped() {
        let mut sps = vec![0x42, 0x01, 0x05];
        sps.extend([0x01, 0x60, 0, 0, 0x90, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x5d]);
        // Both flags, none for the second, six times two reserved bits.
        sps.extend([0b1100_0000, 0]);
        sps.extend([0x11; 12]);
        // ue(0), ue(1), ue(640), ue(360), no window.
        sps.extend([
            0b1010_0000,
            0b0000_0101,
            0b0000_0010,
            0b0000_0001,
            0b0110_1001,
            0b0000_0000,
        ]);
        assert_eq!(sequence_size(Codec::H265, &sps), Some((640, 360)));
    }

    #[test]
    fn av1_has_its_size_in_the_sequence_header() {
        for (hex, size) in [
            // Chromium with two spatial and three temporal layers: six operating points.
            (
                "681608005307098184c04220e1103088086627fb380340103400129face04fe02ce8ea0104104090",
                (640, 360),
            ),
            // libaom and rav1e with sizes in the OBUs; the latter with timing.
            ("180a0b00000024c6abdf3ffe6010", (854, 480)),
            ("100a0e000000fa6355ef8842b204040428", (854, 480)),
        ] {
            assert_eq!(sequence_size(Codec::Av1, &bytes(hex)), Some(size), "{hex}");
        }
    }

    #[test]
    fn payloads_without_a_sequence_header_have_no_size() {
        for hex in [
            "",
            "10",
            "1032",
            "90080000",
            "6816",
            "68160800530709",
            "180a0b00000024c6",
            "18020b00000024c6abdf3ffe6010",
        ] {
            assert_eq!(sequence_size(Codec::Av1, &bytes(hex)), None, "{hex}");
        }
        assert_eq!(sequence_size(Codec::Vp8, &bytes("180a0b00000024c6abdf3ffe6010")), None);
    }

    #[test]
    fn no_bytes_panic_or_take_long() {
        let mut noise = Noise::seeded(61);
        let known: Vec<Vec<u8>> = H265.iter().map(|(hex, _)| bytes(hex)).collect();
        for _ in 0..100_000 {
            let mut payload = match noise.below(3) {
                0 => noise.bytes(60),
                1 => known[noise.below(known.len())].clone(),
                _ => [&[0x18, 0x08][..], &noise.bytes(40)].concat(),
            };
            if !payload.is_empty() {
                let at = noise.below(payload.len());
                payload[at] ^= 1 << noise.below(8);
            }
            for codec in Codec::ALL {
                assert!(sequence_size(codec, &payload).is_none_or(|(width, height)| width > 0 && height > 0));
            }
        }
        // Timing with a number of ticks that never ends.
        let mut endless = vec![0; 1_400];
        endless[..3].copy_from_slice(&[0x18, 0x08, 0x04]);
        endless[10] = 0x02;
        assert_eq!(sequence_size(Codec::Av1, &endless), None);
    }
}

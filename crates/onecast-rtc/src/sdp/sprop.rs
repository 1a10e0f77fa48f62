//! Parameter sets that an offer announces: some senders never send them in RTP.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::payload::parameter;
use crate::rtp::Codec;
use crate::rtp::keyframe::{self, PARAMETER_SETS_BYTES_MAX};

/// The parameter sets in an `a=fmtp`, as the payload of one aggregation packet: `sprop-parameter-sets` of H264 (RFC 6184 section 8.1),
/// `sprop-vps`, `sprop-sps` and `sprop-pps` of H265 (RFC 7798 section 7.1). What is not base64 of a parameter set, or does not fit
/// [`PARAMETER_SETS_BYTES_MAX`] any more, is left out; `None` when nothing is left.
pub fn announced_parameter_sets(codec: Codec, fmtp: &str) -> Option<Vec<u8>> {
    let names: &[&str] = match codec {
        Codec::H264 => &["sprop-parameter-sets"],
        Codec::H265 => &["sprop-vps", "sprop-sps", "sprop-pps"],
        _ => return None,
    };
    let head = keyframe::aggregation_head(codec);
    let mut payload = head.to_vec();
    let values = names.iter().filter_map(|name| parameter(fmtp, name));
    for text in values.flat_map(|value| value.split(',')) {
        let room = PARAMETER_SETS_BYTES_MAX.saturating_sub(payload.len() - head.len() + 2);
        if let Some(nal) = decode(text.trim(), room).filter(|nal| is_parameter_set(codec, nal)) {
            payload.extend((nal.len() as u16).to_be_bytes());
            payload.extend(nal);
        }
    }
    (payload.len() > head.len()).then_some(payload)
}

/// With or without padding, but nothing that is longer than there is room for.
fn decode(text: &str, bytes_max: usize) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    if text.len() > bytes_max.div_ceil(3) * 4 {
        return None;
    }
    LENIENT.decode(text).ok().filter(|nal| nal.len() <= bytes_max)
}

/// It is one whole set, not a packet of several.
fn is_parameter_set(codec: Codec, nal: &[u8]) -> bool {
    let mut whole = false;
    keyframe::parameter_sets(codec, nal, |set| whole |= set.nal.len() == nal.len());
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(codec: Codec, fmtp: &str) -> Vec<(u8, usize)> {
        let payload = announced_parameter_sets(codec, fmtp).unwrap_or_default();
        let mut found = Vec::new();
        keyframe::parameter_sets(codec, &payload, |set| found.push((set.unit, set.nal.len())));
        found
    }

    #[test]
    fn h264_sets_are_read_from_one_parameter() {
        let fmtp =
            "packetization-mode=1;sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==;profile-level-id=42c01e";
        assert_eq!(sets(Codec::H264, fmtp), [(7, 21), (8, 4)]);
        assert_eq!(
            sets(Codec::H264, "Sprop-Parameter-Sets = aMuMsg , Z0LAHtkD"),
            [(8, 4), (7, 6)]
        );
        assert_eq!(announced_parameter_sets(Codec::Vp8, fmtp), None);
    }

    #[test]
    fn h265_sets_have_a_parameter_each() {
        let fmtp = "sprop-sps=QgEBAWAAAAMAsAAAAwAAAwB4oAPAgBDljb5JMvTcBAQEAg==;sprop-pps=RAHA8vA8kA==;sprop-vps=QAEMAf//AWAAAAMAsAAAAwAAAwB4";
        let found: Vec<u8> = sets(Codec::H265, fmtp).into_iter().map(|(unit, _)| unit).collect();
        assert_eq!(found, [32, 33, 34]);
    }

    #[test]
    fn bytes_that_are_not_a_parameter_set_are_left_out() {
        for text in [
            "",
            "=",
            "!!!!",
            "Zg",
            "Z",
            "ZYiE",
            "eAAEaMuMsgAEaMuMsg==",
            "aMuMsg==aMuMsg==",
        ] {
            let fmtp = format!("sprop-parameter-sets={text}");
            assert_eq!(announced_parameter_sets(Codec::H264, &fmtp), None, "{text}");
            let fmtp = format!("sprop-parameter-sets={text},aMuMsg==");
            assert_eq!(sets(Codec::H264, &fmtp), [(8, 4)], "{text}");
        }
    }

    #[test]
    fn sets_that_do_not_fit_one_packet_are_left_out() {
        let long = "aMuM".repeat(400);
        assert_eq!(
            sets(Codec::H264, &format!("sprop-parameter-sets={long},aMuMsg==,{long}")),
            [(8, 4)]
        );
        let many = "aMuMsg==,".repeat(100_000);
        let payload = announced_parameter_sets(Codec::H264, &format!("sprop-parameter-sets={many}")).unwrap();
        assert!(payload.len() <= 1 + PARAMETER_SETS_BYTES_MAX);
    }
}

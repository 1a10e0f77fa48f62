//! Layers in the NAL unit headers of H264 and H265.

use super::{PayloadLayer, SwitchPoint};
use crate::rtp::keyframe::{h264_any, h265_any, h265_type, starts_frame};
use crate::rtp::{Codec, LayerId};

/// The header extension of a prefix NAL unit or a slice of an enhancement layer (H.264 section G.7.3.1.1). Encoders without SVC have
/// neither, and fragments do not show it.
///
/// ```text
///  |F|NRI|14 / 20  |1|I| priority  |N| DID | quality |TID|U|D|O|RR |
/// ```
pub(super) fn h264_layer(payload: &[u8]) -> Option<PayloadLayer> {
    let mut layer = None;
    h264_any(payload, |nal| {
        if let [head, extension, dependency, temporal, ..] = *nal
            && matches!(head & 0x1f, 14 | 20)
            && extension & 0x80 != 0
        {
            layer = Some(LayerId::new(dependency >> 4 & 0x07, temporal >> 5));
        }
        layer.is_some()
    });
    Some(PayloadLayer {
        layer: layer?,
        starts_frame: starts_frame(Codec::H264, payload),
        ends_frame: false,
        switch_point: SwitchPoint::None,
    })
}

/// The NAL unit header, which fragments repeat, and which has the lowest temporal layer of an aggregation packet (RFC 7798 section 4.4).
///
/// ```text
///  |F|   type    | layer id  | TID |    TID counts from 1
/// ```
pub(super) fn h265_layer(payload: &[u8]) -> Option<PayloadLayer> {
    let [first, second, ..] = *payload else { return None };
    let temporal = (second & 0x07).checked_sub(1)?;
    let spatial = (first & 1) << 5 | second >> 3;
    if usize::from(spatial) >= LayerId::SPATIAL_LAYERS_MAX {
        return None;
    }
    // TSA, STSA and random access pictures (H.265 table 7-1).
    let opens_layer = |nal: &[u8]| matches!(h265_type(nal), Some(2..=5 | 16..=21));
    Some(PayloadLayer {
        layer: LayerId::new(spatial, temporal),
        starts_frame: starts_frame(Codec::H265, payload),
        ends_frame: false,
        switch_point: SwitchPoint::here(h265_any(payload, opens_layer)),
    })
}

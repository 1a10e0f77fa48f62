//! What one viewer negotiated, in a few bytes.

use std::sync::Arc;

use onecast_rtc::rtp::{Codec, Pt};
use onecast_rtc::sdp::{ExtensionIds, MediaLine};

/// The formats and extensions of one m-line towards a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewerLine {
    /// Shared by the session and the forwarder of its viewer.
    formats: Arc<[ViewerFormat]>,
    /// Header extensions that may be written.
    pub extensions: ExtensionIds,
}

/// One payload type of a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewerFormat {
    /// The encoding.
    pub codec: Codec,
    /// Its payload type.
    pub payload_type: Pt,
    /// Payload type of its retransmissions.
    pub rtx: Option<Pt>,
    /// The viewer may ask for retransmissions.
    pub nack: bool,
    profile: u8,
}

impl ViewerLine {
    /// Keeps of a negotiated m-line what sending needs.
    pub fn new(line: &MediaLine) -> ViewerLine {
        let formats = line.formats.iter().map(|format| ViewerFormat {
            codec: format.codec,
            payload_type: format.payload_type,
            rtx: format.rtx,
            nack: format.nack,
            profile: profile(format.codec, &format.fmtp),
        });
        ViewerLine {
            formats: formats.collect(),
            extensions: line.extensions,
        }
    }

    /// All payload types.
    pub fn formats(&self) -> impl Iterator<Item = ViewerFormat> {
        self.formats.iter().copied()
    }

    /// The payload type for a codec: of several (H264 profiles) the one whose profile the publisher announced, else the first.
    pub fn format(&self, codec: Codec, profile: u8) -> Option<ViewerFormat> {
        let mut of_codec = self.formats.iter().filter(|format| format.codec == codec);
        let exact = of_codec.clone().find(|format| format.profile == profile);
        exact.or_else(|| of_codec.next()).copied()
    }
}

/// First byte of H264's `profile-level-id` (RFC 6184 section 8.1), `profile-id` of VP9 (RFC 9628 section 7) and H265 (RFC 7798
/// section 7.1), `profile` of AV1 (its RTP specification, section 7.2.1); 0 for the others.
pub fn profile(codec: Codec, fmtp: &str) -> u8 {
    let value = |key: &str| {
        fmtp.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case(key).then(|| value.trim())
        })
    };
    match codec {
        Codec::H264 => value("profile-level-id")
            .and_then(|id| u8::from_str_radix(id.get(..2)?, 16).ok())
            .unwrap_or(0x42),
        Codec::Vp9 => value("profile-id").and_then(|id| id.parse().ok()).unwrap_or(0),
        Codec::H265 => value("profile-id").and_then(|id| id.parse().ok()).unwrap_or(1),
        Codec::Av1 => value("profile").and_then(|id| id.parse().ok()).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::rtp::Kind;
    use onecast_rtc::sdp::Format;

    fn line(formats: &[(Codec, u8, &str)]) -> ViewerLine {
        let formats = formats.iter().map(|&(codec, payload_type, fmtp)| Format {
            codec,
            payload_type: Pt(payload_type),
            rtx: None,
            fmtp: fmtp.into(),
            nack: true,
            pli: true,
            transport_cc: false,
        });
        ViewerLine::new(&MediaLine {
            kind: Kind::Video,
            mid: "0".into(),
            formats: formats.collect(),
            extensions: ExtensionIds::default(),
            ssrc: None,
            rtx_ssrc: None,
            layers: None,
        })
    }

    #[test]
    fn the_publishers_profile_is_preferred_and_any_other_will_do() {
        let line = line(&[
            (Codec::H264, 102, "profile-level-id=42001f;packetization-mode=1"),
            (Codec::H264, 112, "level-asymmetry-allowed=1; profile-level-id=64001f"),
        ]);
        let chosen = |profile| line.format(Codec::H264, profile).map(|format| format.payload_type);
        assert_eq!(chosen(0x64), Some(Pt(112)));
        assert_eq!(chosen(0x42), Some(Pt(102)));
        assert_eq!(chosen(0x4d), Some(Pt(102)));
        assert_eq!(line.format(Codec::Vp8, 0), None);
    }

    #[test]
    fn broken_format_parameters_mean_the_default() {
        for fmtp in [
            "",
            "profile-level-id",
            "profile-level-id=",
            "profile-level-id=zz",
            "profile-level-id=\u{e9}\u{e9}",
        ] {
            assert_eq!(profile(Codec::H264, fmtp), 0x42, "{fmtp}");
        }
        assert_eq!(profile(Codec::Vp9, "profile-id=2"), 2);
        assert_eq!(
            (
                profile(Codec::H265, ""),
                profile(Codec::H265, "tx-mode=SRST;profile-id=2")
            ),
            (1, 2)
        );
        assert_eq!(
            (
                profile(Codec::Av1, "level-idx=5"),
                profile(Codec::Av1, "level-idx=5;profile=1;tier=0")
            ),
            (0, 1)
        );
    }
}

//! The formats in which a client may send a stream, and which of them it uses.

use onecast_rtc::rtp::{Codec, Kind, Pt};
use onecast_rtc::sdp::{Format, MediaLine};

use super::formats;

/// The negotiated formats of both lines.
#[derive(Debug, Default)]
pub(super) struct SentFormats {
    list: Vec<SentFormat>,
    /// By kind, the payload type of the newest packets that were no retransmissions.
    used: [Option<Pt>; 2],
}

/// One payload type.
#[derive(Debug, PartialEq, Eq)]
struct SentFormat {
    codec: Codec,
    payload_type: Pt,
    profile: u8,
    /// What the profile does not tell apart, for instance parameter sets.
    fmtp: Box<str>,
}

/// What a packet in another format than before means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FormatChange {
    /// It is in a negotiated format, of this profile.
    Negotiated {
        /// For viewers to choose their payload type by.
        profile: u8,
    },
    /// It is a retransmission, or in none of the formats; this profile is the best guess if no other packet has come.
    Unknown {
        /// `None` if the format of earlier packets stands.
        profile: Option<u8>,
    },
}

impl SentFormats {
    /// The negotiated lines are these from now on.
    pub(super) fn set_lines(&mut self, audio: Option<&MediaLine>, video: Option<&MediaLine>) {
        let formats = [audio, video].into_iter().flatten().flat_map(|line| &line.formats);
        let list: Vec<_> = formats.map(SentFormat::new).collect();
        if list != self.list {
            // A payload type may stand for another format now.
            self.forget_used();
        }
        self.list = list;
    }

    /// The next packet of each kind counts as one in another format.
    pub(super) fn forget_used(&mut self) {
        self.used = [None; 2];
    }

    /// Whether packets of this payload type came last.
    #[inline]
    pub(super) fn is_used(&self, kind: Kind, payload_type: Pt) -> bool {
        self.used[kind as usize] == Some(payload_type)
    }

    /// A packet came whose payload type is not [used](Self::is_used), or the first one of a codec.
    pub(super) fn note(&mut self, kind: Kind, codec: Codec, payload_type: Pt) -> FormatChange {
        let mut of_codec = self.list.iter().filter(|format| format.codec == codec);
        if let Some(format) = of_codec.clone().find(|format| format.payload_type == payload_type) {
            self.used[kind as usize] = Some(payload_type);
            return FormatChange::Negotiated {
                profile: format.profile,
            };
        }
        let guess = of_codec.next().map_or(0, |format| format.profile);
        let profile = self.used[kind as usize].is_none().then_some(guess);
        FormatChange::Unknown { profile }
    }
}

impl SentFormat {
    fn new(format: &Format) -> SentFormat {
        SentFormat {
            codec: format.codec,
            payload_type: format.payload_type,
            profile: formats::profile(format.codec, &format.fmtp),
            fmtp: format.fmtp.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::sdp::ExtensionIds;

    fn video(formats: &[(u8, &str)]) -> MediaLine {
        let formats = formats.iter().map(|&(payload_type, fmtp)| Format {
            codec: Codec::H264,
            payload_type: Pt(payload_type),
            rtx: None,
            fmtp: fmtp.into(),
            nack: true,
            pli: true,
            transport_cc: false,
        });
        MediaLine {
            kind: Kind::Video,
            mid: "0".into(),
            formats: formats.collect(),
            extensions: ExtensionIds::default(),
            ssrc: None,
            rtx_ssrc: None,
            layers: None,
        }
    }

    #[test]
    fn the_profile_follows_the_payload_type_but_not_that_of_retransmissions() {
        let mut formats = SentFormats::default();
        let line = video(&[(102, "profile-level-id=42e01f"), (112, "profile-level-id=64001f")]);
        formats.set_lines(None, Some(&line));
        let mut note = |payload_type| formats.note(Kind::Video, Codec::H264, payload_type);
        assert_eq!(note(Pt(97)), FormatChange::Unknown { profile: Some(0x42) });
        assert_eq!(note(Pt(112)), FormatChange::Negotiated { profile: 0x64 });
        assert_eq!(note(Pt(97)), FormatChange::Unknown { profile: None });
        assert!(formats.is_used(Kind::Video, Pt(112)));
    }

    #[test]
    fn a_payload_type_of_other_lines_is_looked_up_again() {
        let mut formats = SentFormats::default();
        let line = video(&[(102, "profile-level-id=42e01f")]);
        formats.set_lines(None, Some(&line));
        formats.note(Kind::Video, Codec::H264, Pt(102));
        formats.set_lines(None, Some(&line));
        assert!(formats.is_used(Kind::Video, Pt(102)));
        formats.set_lines(None, Some(&video(&[(102, "profile-level-id=64001f")])));
        assert!(!formats.is_used(Kind::Video, Pt(102)));
    }
}

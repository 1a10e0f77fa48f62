//! The codecs that this server carries. It never decodes them; it only has to name them and recognise keyframes.

use std::fmt;

/// Audio or video, as in an SDP m-line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `m=audio`
    Audio,
    /// `m=video`
    Video,
}

impl Kind {
    /// Both, in the order of tables by kind: `ALL[kind as usize] == kind`.
    pub const ALL: [Kind; 2] = [Kind::Audio, Kind::Video];

    /// As an m-line names it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Audio => "audio",
            Kind::Video => "video",
        }
    }
}

/// An encoding carried end to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 7587
    Opus,
    /// RFC 7741
    Vp8,
    /// RFC 9628
    Vp9,
    /// RFC 6184; the first byte of `profile-level-id` is the profile.
    H264,
    /// RFC 7798
    H265,
    /// AV1 RTP payload format 1.0
    Av1,
}

impl Codec {
    /// Every codec, in the order in which we list them without a preference.
    pub const ALL: [Codec; 6] = [
        Codec::Opus,
        Codec::Vp8,
        Codec::Vp9,
        Codec::H264,
        Codec::H265,
        Codec::Av1,
    ];

    /// The encoding name of `a=rtpmap` (RFC 8866 section 6.6), compared without case.
    pub fn from_encoding_name(name: &str) -> Option<Codec> {
        Codec::ALL
            .into_iter()
            .find(|codec| codec.encoding_name().eq_ignore_ascii_case(name))
    }

    /// The encoding name as written in `a=rtpmap`.
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::H264 => "H264",
            Codec::H265 => "H265",
            Codec::Av1 => "AV1",
        }
    }

    /// Audio or video.
    pub const fn kind(self) -> Kind {
        match self {
            Codec::Opus => Kind::Audio,
            _ => Kind::Video,
        }
    }

    /// RTP clock, ticks a second.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            _ => 90_000,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Opus => "Opus",
            other => other.encoding_name(),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

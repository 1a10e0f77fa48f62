//! What both sides can carry on an m-line: formats in the client's order with its payload types, and header extensions; and what we
//! list ourselves where the client has not listed anything yet.

use super::extension::{Extension, Extensions, Extmap};
use super::media::{Direction, MediaSection};
use super::payload::{Encoding, Payload};
use super::{Fault, Format, MediaLine};
use crate::rtp::{Codec, Kind, Pt, Ssrc};

/// A format with what only a description needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) format: Format,
    /// `ccm fir` (RFC 5104) was offered.
    pub(crate) fir: bool,
}

/// What flows one way on an m-line of the client, as both sides can carry it.
#[derive(Debug)]
pub(super) struct Agreed {
    /// Never empty.
    pub(super) formats: Vec<Chosen>,
    pub(super) extensions: Extensions,
}

impl Agreed {
    /// From the client. `may_use` is asked of each extension.
    pub(super) fn inbound(
        section: &MediaSection,
        mut formats: Vec<Chosen>,
        may_use: impl Fn(Extension, Extmap) -> bool,
    ) -> Agreed {
        let has_feedback = formats.iter().any(|chosen| chosen.format.transport_cc);
        let extensions = section.extensions.filter(|extension, extmap| {
            extmap.direction.is_none_or(Direction::sends)
                && (extension != Extension::TransportCc || has_feedback)
                && may_use(extension, extmap)
        });
        // Feedback is made from the numbers that the extension carries.
        let numbered = extensions
            .iter()
            .any(|(extension, _)| *extension == Extension::TransportCc);
        for chosen in &mut formats {
            chosen.format.transport_cc &= numbered;
        }
        Agreed { formats, extensions }
    }

    /// To the client. `may_use` is asked of each extension.
    pub(super) fn outbound(
        section: &MediaSection,
        mut formats: Vec<Chosen>,
        may_use: impl Fn(Extension, Extmap) -> bool,
    ) -> Agreed {
        without_transport_feedback(&mut formats);
        let extensions = section.extensions.filter(|extension, extmap| {
            extmap.direction.is_none_or(Direction::receives) && extension.is_passed_on() && may_use(extension, extmap)
        });
        Agreed { formats, extensions }
    }

    /// As the rest of the server sees it. `ssrcs` are those that the client announced, of media and of RTX.
    pub(super) fn media_line(
        &self,
        section: &MediaSection,
        (ssrc, rtx_ssrc): (Option<Ssrc>, Option<Ssrc>),
    ) -> MediaLine {
        MediaLine {
            kind: self.formats[0].format.codec.kind(),
            mid: section.mid.clone().unwrap_or_default(),
            formats: self.formats.iter().map(|chosen| chosen.format.clone()).collect(),
            extensions: self.extensions.iter().copied().collect(),
            ssrc,
            rtx_ssrc,
            layers: None,
        }
    }
}

/// Transport-wide feedback is about what the client sends: the server asks for none about what it sends itself.
pub(super) fn without_transport_feedback(formats: &mut [Chosen]) {
    formats.iter_mut().for_each(|chosen| chosen.format.transport_cc = false);
}

/// Whether any format has RTX.
pub(super) fn has_rtx(formats: &[Chosen]) -> bool {
    formats.iter().any(|chosen| chosen.format.rtx.is_some())
}

/// The formats of a line that this server carries, as the client lists them.
pub(super) fn common_formats(section: &MediaSection, kind: Kind) -> Vec<Chosen> {
    let payloads = &section.payloads;
    let rtx = payloads.rtx_by_number();
    // Mode 1 is what every encoder here sends; mode 0 forbids the fragments it needs (RFC 6184 section 6.2).
    let has_fragments = payloads.iter().any(Payload::is_h264_with_fragments);
    let usable = |payload: &&Payload| {
        let without_fragments = has_fragments && !payload.is_h264_with_fragments();
        match payload.codec() {
            Some(Codec::H264) if without_fragments => false,
            codec => codec.is_some_and(|codec| codec.kind() == kind),
        }
    };
    let usable = payloads.iter().filter(usable);
    let chosen = usable.filter_map(|payload| {
        let feedback = payloads.feedback(payload);
        let is_video = kind == Kind::Video;
        Some(Chosen {
            format: Format {
                codec: payload.codec()?,
                payload_type: payload.number,
                rtx: rtx[payload.number.index()].filter(|_| is_video),
                fmtp: payload.fmtp.clone(),
                nack: feedback.nack,
                pli: feedback.pli && is_video,
                transport_cc: feedback.transport_cc,
            },
            fir: feedback.fir && is_video,
        })
    });
    chosen.collect()
}

pub(super) fn no_common_codec(section: &MediaSection, kind: Kind) -> Fault {
    let mut names: Vec<&str> = Vec::new();
    for payload in section.payloads.iter() {
        let name = match &payload.encoding {
            Encoding::Codec(codec) => codec.encoding_name(),
            Encoding::Other(name) => name,
            Encoding::Rtx => continue,
        };
        if !name.is_empty() && !names.contains(&name) && names.len() < MAX_NAMES_IN_MESSAGE {
            names.push(name);
        }
    }
    let offered = if names.is_empty() {
        "none with a name".to_owned()
    } else {
        names.join(", ")
    };
    let carried = Codec::ALL.iter().filter(|codec| codec.kind() == kind);
    let carried = carried.map(Codec::to_string).collect::<Vec<_>>().join(", ");
    Fault::NoCommonCodec {
        kind,
        offered: offered.into(),
        carried: carried.into(),
    }
}

/// A format of [`FORMATS`]: payload type, that of its RTX, `a=fmtp`.
pub(super) type TableFormat = (Codec, Pt, Option<Pt>, &'static str);

/// The table's format as we offer it.
pub(super) fn offered_format((codec, payload_type, rtx, fmtp): TableFormat) -> Chosen {
    let is_video = codec.kind() == Kind::Video;
    Chosen {
        format: Format {
            codec,
            payload_type,
            rtx,
            fmtp: fmtp.into(),
            nack: is_video,
            pli: is_video,
            transport_cc: false,
        },
        fir: is_video,
    }
}

/// The extensions of [`EXTENSIONS`] for a line of this kind, with the ids that we prefer.
pub(super) fn offered_extensions(kind: Kind) -> impl Iterator<Item = (Extension, u8)> {
    let is_of_kind = move |extension| kind == Kind::Video || extension == Extension::AbsCaptureTime;
    EXTENSIONS
        .into_iter()
        .filter(move |(extension, _)| is_of_kind(*extension))
}

/// Everything that is carried, under the payload types and with the parameters that browsers use themselves: the profiles of H264
/// and VP9 are formats of their own, and a browser takes those that it can decode.
pub(super) const FORMATS: [TableFormat; 10] = [
    (Codec::Opus, Pt(111), None, "minptime=10;useinbandfec=1"),
    (Codec::Vp8, Pt(96), Some(Pt(97)), ""),
    (
        Codec::H264,
        Pt(102),
        Some(Pt(103)),
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    ),
    (
        Codec::H264,
        Pt(104),
        Some(Pt(105)),
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f",
    ),
    (
        Codec::H264,
        Pt(106),
        Some(Pt(107)),
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f",
    ),
    (Codec::Vp9, Pt(98), Some(Pt(99)), "profile-id=0"),
    (Codec::Vp9, Pt(100), Some(Pt(101)), "profile-id=2"),
    (Codec::Av1, Pt(45), Some(Pt(46)), "level-idx=5;profile=0;tier=0"),
    (
        Codec::H265,
        Pt(49),
        Some(Pt(50)),
        "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST",
    ),
    (
        Codec::H265,
        Pt(51),
        Some(Pt(52)),
        "level-id=180;profile-id=2;tier-flag=0;tx-mode=SRST",
    ),
];
/// Those that are passed on to viewers. One id means one extension in the whole bundle (RFC 8843 section 7).
const EXTENSIONS: [(Extension, u8); 3] = [
    (Extension::AbsCaptureTime, 1),
    (Extension::VideoOrientation, 2),
    (Extension::DependencyDescriptor, 3),
];
/// RFC 9429 section 5.1.2: of all lines of an offer.
pub(crate) const PROTOCOL: &str = "UDP/TLS/RTP/SAVPF";
/// Browsers list at most nine names.
const MAX_NAMES_IN_MESSAGE: usize = 16;

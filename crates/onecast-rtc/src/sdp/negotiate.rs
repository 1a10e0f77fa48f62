//! What both sides can carry on one m-line: formats in the client's order with its payload types, and header extensions.

use super::extension::{Extension, Extmap};
use super::media::{Direction, MediaSection};
use super::payload::{Encoding, Payload};
use super::{ExtensionIds, Format, MediaLine, Role, SdpError};
use crate::rtp::{Codec, Kind};

/// An m-line that is not rejected.
#[derive(Debug)]
pub(super) struct Accepted<'a> {
    pub(super) kind: Kind,
    /// Whether media will flow in the role's direction; if not the line is inactive.
    pub(super) flows: bool,
    pub(super) section: &'a MediaSection,
    /// Never empty.
    pub(super) formats: Vec<Chosen>,
    pub(super) extensions: Vec<(Extension, Extmap)>,
}

/// A format with what only the answer needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) format: Format,
    /// `ccm fir` (RFC 5104) was offered.
    pub(super) fir: bool,
}

/// `Ok(None)` for a line that is rejected: not in use, or of no use.
///
/// A line that does not flow in the role's direction is kept as inactive: it may be the tagged line of the bundle, and Chromium
/// refuses an answer that rejects that one.
///
/// # Errors
/// [`SdpError::NoCommonCodec`] for a line that could flow.
pub(super) fn negotiate(section: &MediaSection, role: Role) -> Result<Option<Accepted<'_>>, SdpError> {
    let Some(kind) = section.kind else {
        return Ok(None);
    };
    let flows = match role {
        Role::Publisher => section.direction().sends(),
        Role::Viewer(_) => section.direction().receives(),
    };
    let mut formats = common_formats(section, kind);
    if formats.is_empty() {
        return if flows {
            Err(no_common_codec(section, kind))
        } else {
            Ok(None)
        };
    }
    let extensions = match role {
        _ if !flows => Vec::new(),
        Role::Publisher => publisher_extensions(section, &formats),
        Role::Viewer(_) => viewer_extensions(section),
    };
    // Feedback is made from the numbers that the extension carries.
    let numbered = extensions
        .iter()
        .any(|(extension, _)| *extension == Extension::TransportCc);
    for chosen in &mut formats {
        chosen.format.transport_cc &= numbered;
    }
    Ok(Some(Accepted {
        kind,
        flows,
        section,
        formats,
        extensions,
    }))
}

impl Accepted<'_> {
    /// Whether any format has RTX.
    pub(super) fn has_rtx(&self) -> bool {
        self.formats.iter().any(|chosen| chosen.format.rtx.is_some())
    }

    /// The result as the rest of the server sees it.
    pub(super) fn into_media_line(self, role: Role) -> MediaLine {
        let (ssrc, rtx_ssrc) = match role {
            Role::Publisher => self.section.ssrcs(),
            Role::Viewer(_) => (None, None),
        };
        MediaLine {
            kind: self.kind,
            mid: self.section.mid.clone().unwrap_or_default(),
            formats: self.formats.into_iter().map(|chosen| chosen.format).collect(),
            extensions: self.extensions.into_iter().collect::<ExtensionIds>(),
            ssrc,
            rtx_ssrc,
        }
    }
}

pub(super) fn publisher_extensions(section: &MediaSection, formats: &[Chosen]) -> Vec<(Extension, Extmap)> {
    let feedback = formats.iter().any(|chosen| chosen.format.transport_cc);
    section.extensions.filter(|extension, extmap| {
        extmap.direction.is_none_or(Direction::sends) && (extension != Extension::TransportCc || feedback)
    })
}

pub(super) fn viewer_extensions(section: &MediaSection) -> Vec<(Extension, Extmap)> {
    section
        .extensions
        .filter(|extension, extmap| extmap.direction.is_none_or(Direction::receives) && extension.is_for_viewers())
}

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
                rtx: rtx[usize::from(payload.number)].filter(|_| is_video),
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

pub(super) fn no_common_codec(section: &MediaSection, kind: Kind) -> SdpError {
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
    SdpError::NoCommonCodec {
        kind,
        offered: offered.into(),
        carried: carried.into(),
    }
}

/// Browsers list at most nine names.
const MAX_NAMES_IN_MESSAGE: usize = 16;

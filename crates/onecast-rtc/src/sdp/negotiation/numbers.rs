//! What payload types and extension ids mean: one thing in the whole bundle (RFC 8843 sections 9.1 and 10.3).

use super::super::extension::{Extension, Extensions, Extmap};
use super::super::format::{self, Chosen, FORMATS, TableFormat};
use super::super::media::MediaSection;
use super::super::payload::{Encoding, Payload};
use super::Fault;
use crate::rtp::{Codec, Kind, Pt};

/// The numbers in use, chosen by the client or by us.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    payload_types: [Option<Meaning>; 128],
    /// What both sides can carry: as the client's lines list it, and what we have added.
    formats: Vec<Chosen>,
    /// By [`Extension`].
    extensions: [Option<u8>; Extension::ALL.len()],
    /// Ids that mean an extension we do not know, one bit each.
    foreign: u16,
}

/// What a payload type means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Codec(Codec),
    Rtx,
    /// Nothing that this server carries.
    Foreign,
}

impl Meaning {
    pub(super) fn of(payload: &Payload) -> Meaning {
        match payload.encoding {
            Encoding::Codec(codec) => Meaning::Codec(codec),
            Encoding::Rtx => Meaning::Rtx,
            Encoding::Other(_) => Meaning::Foreign,
        }
    }
}

impl Numbers {
    /// Nothing is taken.
    pub(super) fn new() -> Numbers {
        Numbers {
            payload_types: [None; 128],
            formats: Vec::new(),
            extensions: [None; Extension::ALL.len()],
            foreign: 0,
        }
    }

    /// Takes the numbers of one line of the client.
    ///
    /// # Errors
    /// [`Fault::AmbiguousPayloadType`] for one that means something else already.
    pub(super) fn add(&mut self, section: &MediaSection) -> Result<(), Fault> {
        let Some(kind) = section.kind else { return Ok(()) };
        for payload in section.payloads.iter() {
            let meaning = Meaning::of(payload);
            let place = &mut self.payload_types[payload.number.index()];
            if *place.get_or_insert(meaning) != meaning {
                return Err(Fault::AmbiguousPayloadType {
                    payload_type: payload.number,
                });
            }
        }
        for chosen in format::common_formats(section, kind) {
            let is_known = |known: &Chosen| known.format.payload_type == chosen.format.payload_type;
            if !self.formats.iter().any(is_known) {
                self.formats.push(chosen);
            }
        }
        for (extension, extmap) in section.extensions.filter(|_, _| true) {
            if self.extensions[extension as usize].is_none() && !self.is_id_taken(extmap.id) {
                self.extensions[extension as usize] = Some(extmap.id);
            }
        }
        self.foreign |= section.extensions.foreign();
        Ok(())
    }

    /// Whether the id means this extension in the whole bundle.
    pub(super) fn means(&self, extension: Extension, extmap: Extmap) -> bool {
        self.extensions[extension as usize] == Some(extmap.id)
    }

    /// Formats for a line of the server, codec by codec: the client's own, or those of our table under free numbers. Empty if
    /// there are none left.
    pub(super) fn formats(&mut self, codecs: &[Codec]) -> Vec<Chosen> {
        let mut formats = Vec::new();
        for &codec in codecs {
            if !self.formats.iter().any(|known| known.format.codec == codec) {
                FORMATS
                    .iter()
                    .filter(|format| format.0 == codec)
                    .for_each(|&format| self.add_ours(format));
            }
            let of_codec = self.formats.iter().filter(|known| known.format.codec == codec);
            formats.extend(of_codec.take(FORMATS_PER_CODEC_MAX).cloned());
        }
        format::without_transport_feedback(&mut formats);
        formats
    }

    /// Header extensions for a line of the server: those that are passed on from publishers.
    pub(super) fn extensions(&mut self, kind: Kind) -> Extensions {
        let of_kind = format::offered_extensions(kind).filter_map(|(extension, preferred)| {
            let id = self.extensions[extension as usize].or_else(|| self.free_id(preferred))?;
            self.extensions[extension as usize] = Some(id);
            Some((extension, Extmap { id, direction: None }))
        });
        of_kind.collect()
    }

    fn add_ours(&mut self, (codec, payload_type, rtx, fmtp): TableFormat) {
        let Some(payload_type) = self.free_payload_type(payload_type) else {
            return;
        };
        self.payload_types[payload_type.index()] = Some(Meaning::Codec(codec));
        let rtx = rtx.and_then(|rtx| self.free_payload_type(rtx));
        if let Some(rtx) = rtx {
            self.payload_types[rtx.index()] = Some(Meaning::Rtx);
        }
        self.formats
            .push(format::offered_format((codec, payload_type, rtx, fmtp)));
    }

    fn free_payload_type(&self, preferred: Pt) -> Option<Pt> {
        let mut all = [preferred.0].into_iter().chain(DYNAMIC).chain(MORE);
        all.find(|number| self.payload_types[usize::from(*number)].is_none())
            .map(Pt)
    }

    fn free_id(&self, preferred: u8) -> Option<u8> {
        [preferred].into_iter().chain(1..=14).find(|id| !self.is_id_taken(*id))
    }

    fn is_id_taken(&self, id: u8) -> bool {
        let is_foreign = id < 16 && self.foreign & (1 << id) != 0;
        is_foreign || self.extensions.contains(&Some(id))
    }
}

/// RFC 3551 section 6.
const DYNAMIC: std::ops::RangeInclusive<u8> = 96..=127;
/// For when the dynamic ones are used up: RFC 3551 leaves them unassigned. 64 to 95 would be taken for RTCP (RFC 5761 section 4).
const MORE: std::ops::RangeInclusive<u8> = 35..=63;

/// Formats of one codec on a line of the server: browsers have up to six profiles of H264. Without the bound, a client that lists a hundred would
/// get them all back on each of two hundred lines.
const FORMATS_PER_CODEC_MAX: usize = 8;

//! RTP header extensions in SDP (RFC 8285 section 5): the six that this server knows.

use std::fmt::{self, Write};

use super::ExtensionIds;
use super::media::Direction;

/// The extensions that the `a=extmap` lines of one m-line offer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OfferedExtensions {
    known: [Option<Extmap>; Extension::ALL.len()],
    /// Ids of 1..=14 of unknown extensions, one bit each.
    foreign: u16,
}

/// `a=extmap:<id>[/<direction>] <uri>`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extmap {
    pub(crate) id: u8,
    /// As the client sees it; without one the direction of the m-line holds.
    pub(crate) direction: Option<Direction>,
}

/// The extensions of one m-line, each with its id.
pub(super) type Extensions = Vec<(Extension, Extmap)>;

/// A header extension we may negotiate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extension {
    Mid,
    TransportCc,
    VideoOrientation,
    AbsCaptureTime,
    DependencyDescriptor,
    AudioLevel,
}

impl OfferedExtensions {
    /// Takes the value of an `a=extmap`. Unknown extensions, ids out of range, and repeated URIs or ids are left out.
    pub(super) fn take(&mut self, value: &str) {
        let Some((extmap, uri)) = Extmap::read(value) else {
            return;
        };
        let Some(extension) = Extension::ALL.into_iter().find(|e| e.uri() == uri) else {
            self.foreign |= 1_u16.checked_shl(extmap.id.into()).unwrap_or_default();
            return;
        };
        let taken = self.known[extension as usize].is_some() || self.has_id(extmap.id);
        if !taken {
            self.known[extension as usize] = Some(extmap);
        }
    }

    /// Whether a known extension has this id.
    pub(super) fn has_id(&self, id: u8) -> bool {
        self.known.iter().flatten().any(|extmap| extmap.id == id)
    }

    /// Ids of 1..=14 of unknown extensions, one bit each.
    pub(super) fn foreign(&self) -> u16 {
        self.foreign
    }

    /// The extensions that `keep` accepts, as they were offered, in a fixed order.
    pub(super) fn filter(&self, keep: impl Fn(Extension, Extmap) -> bool) -> Vec<(Extension, Extmap)> {
        let offered = Extension::ALL.into_iter().zip(self.known);
        let offered = offered.filter_map(|(extension, extmap)| Some((extension, extmap?)));
        offered
            .filter(|(extension, extmap)| keep(*extension, *extmap))
            .collect()
    }
}

impl Extmap {
    /// The value of an `a=extmap`, with its URI; `None` if the id is out of range or the direction is unknown.
    pub(super) fn read(value: &str) -> Option<(Extmap, &str)> {
        let mut words = value.split_ascii_whitespace();
        let (id, uri) = (words.next()?, words.next()?);
        let (id, direction) = match id.split_once('/') {
            Some((id, direction)) => (id, Some(Direction::from_name(direction)?)),
            None => (id, None),
        };
        let id = id.parse().ok().filter(|id| matches!(id, 1..=14 | 16..))?;
        Some((Extmap { id, direction }, uri))
    }

    /// The attribute of the other side.
    pub(super) fn write_mirrored(self, out: &mut String, uri: &str) -> fmt::Result {
        write!(out, "a=extmap:{}", self.id)?;
        if let Some(direction) = self.direction {
            write!(out, "/{}", direction.mirrored().name())?;
        }
        write!(out, " {uri}\r\n")
    }
}

impl Extension {
    /// In the order of the variants: `ALL[e as usize] == e`.
    pub(super) const ALL: [Extension; 6] = [
        Extension::Mid,
        Extension::TransportCc,
        Extension::VideoOrientation,
        Extension::AbsCaptureTime,
        Extension::DependencyDescriptor,
        Extension::AudioLevel,
    ];

    /// Whether viewers get it too. The others are about the publisher's own path.
    pub(super) const fn is_passed_on(self) -> bool {
        matches!(
            self,
            Extension::VideoOrientation | Extension::AbsCaptureTime | Extension::DependencyDescriptor
        )
    }

    pub(super) const fn uri(self) -> &'static str {
        match self {
            Extension::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Extension::TransportCc => "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
            Extension::VideoOrientation => "urn:3gpp:video-orientation",
            Extension::AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Extension::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
            Extension::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        }
    }

    /// The field of `ids` for this extension.
    fn slot(self, ids: &mut ExtensionIds) -> &mut Option<u8> {
        match self {
            Extension::Mid => &mut ids.mid,
            Extension::TransportCc => &mut ids.transport_cc,
            Extension::VideoOrientation => &mut ids.video_orientation,
            Extension::AbsCaptureTime => &mut ids.abs_capture_time,
            Extension::DependencyDescriptor => &mut ids.dependency_descriptor,
            Extension::AudioLevel => &mut ids.audio_level,
        }
    }
}

impl FromIterator<(Extension, Extmap)> for ExtensionIds {
    fn from_iter<T: IntoIterator<Item = (Extension, Extmap)>>(negotiated: T) -> Self {
        let mut ids = ExtensionIds::default();
        for (extension, extmap) in negotiated {
            *extension.slot(&mut ids) = Some(extmap.id);
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(values: &[&str]) -> Vec<(Extension, Extmap)> {
        let mut extensions = OfferedExtensions::default();
        values.iter().for_each(|v| extensions.take(v));
        extensions.filter(|_, _| true)
    }

    #[test]
    fn table_is_in_the_order_of_the_variants() {
        for (index, extension) in Extension::ALL.into_iter().enumerate() {
            assert_eq!(extension as usize, index);
        }
    }

    #[test]
    fn direction_suffix_is_understood() {
        let extmap = Extmap {
            id: 2,
            direction: Some(Direction::RecvOnly),
        };
        assert_eq!(
            offered(&["2/recvonly urn:3gpp:video-orientation"]),
            [(Extension::VideoOrientation, extmap)]
        );
        assert_eq!(offered(&["2/upwards urn:3gpp:video-orientation"]), []);
    }

    #[test]
    fn only_known_uris_with_usable_ids_count() {
        for value in ["", "1", "0 urn:3gpp:video-orientation", "15 urn:3gpp:video-orientation"] {
            assert_eq!(offered(&[value]), [], "{value}");
        }
        assert_eq!(offered(&["4096 urn:3gpp:video-orientation", "3 urn:x:unknown"]), []);
        assert_eq!(offered(&["255 urn:3gpp:video-orientation"])[0].1.id, 255);
    }

    #[test]
    fn the_first_of_two_with_the_same_id_or_uri_counts() {
        let ids = offered(&[
            "3 urn:3gpp:video-orientation",
            "3 urn:ietf:params:rtp-hdrext:sdes:mid",
            "4 urn:3gpp:video-orientation",
        ]);
        assert_eq!(ids.len(), 1);
        assert_eq!((ids[0].0, ids[0].1.id), (Extension::VideoOrientation, 3));
    }
}

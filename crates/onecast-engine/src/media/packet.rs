//! A media packet, and the header extensions that travel with it to viewers.

use std::sync::Arc;
use std::time::Instant;

use onecast_rtc::rtp::dependency_descriptor::frame_number;
use onecast_rtc::rtp::{Codec, LayerId, Refresh, RtpTime};

use super::layers::LayerIndex;

/// One RTP packet: received once, decrypted once, never changed, shared through `Arc`.
#[derive(Debug, Clone)]
pub struct Packet {
    /// The encoding.
    pub codec: Codec,
    /// The layer of the track that it belongs to.
    pub layer: LayerIndex,
    /// Where its frame is among the spatial and temporal layers inside the encoding; the lowest of both where nothing tells.
    pub place: LayerId,
    /// The last packet of its frame, as far as it tells. Other spatial layers of the picture may follow.
    pub ends_frame: bool,
    /// Marker bit: the last packet of a video frame.
    pub marker: bool,
    /// The first packet of what may be a keyframe or a recovery point, counting parameter sets in front of the picture; always true
    /// for audio.
    pub keyframe: bool,
    /// What a decoder without any state can begin with here. The picture's parameter sets may travel in packets in front of it.
    pub refresh: Option<Refresh>,
    /// Extended sequence number in the layer's own numbering. Its low 16 bits go on the wire.
    pub index: u64,
    /// RTP timestamp on the track's own timeline.
    pub timestamp: RtpTime,
    /// Payload without padding. Empty for a packet of padding only, which just keeps its number.
    pub payload: Box<[u8]>,
    /// The newest parameter sets as one payload, where a frame begins that does not bring its own: a viewer that starts here needs them
    /// in front.
    pub sets: Option<Arc<[u8]>>,
    /// Header extensions passed on to viewers.
    pub extensions: PassedExtensions,
    /// When it was received.
    pub arrived: Instant,
}

/// A header extension that is passed on from the publisher to viewers. All others are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Passed {
    /// `urn:3gpp:video-orientation`, 1 byte.
    VideoOrientation,
    /// `abs-capture-time`, 8 or 16 bytes.
    AbsCaptureTime,
    /// AV1 dependency descriptor, at most [`PassedExtensions::DESCRIPTOR_LEN_MAX`] bytes.
    DependencyDescriptor,
}

/// The values of the passed extensions of one packet. 16 bytes without any, one small allocation otherwise.
///
/// ```text
///  [ which | length | value ... ][ which | length | value ... ]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PassedExtensions(Box<[u8]>);

impl Passed {
    /// All of them.
    pub const ALL: [Passed; 3] = [
        Passed::VideoOrientation,
        Passed::AbsCaptureTime,
        Passed::DependencyDescriptor,
    ];

    fn allows(self, len: usize) -> bool {
        match self {
            Passed::VideoOrientation => len == 1,
            Passed::AbsCaptureTime => len == 8 || len == 16,
            Passed::DependencyDescriptor => (3..=PassedExtensions::DESCRIPTOR_LEN_MAX).contains(&len),
        }
    }
}

impl PassedExtensions {
    /// Longest dependency descriptor that is passed. With the templates of three spatial and three temporal layers it takes about
    /// 100 bytes.
    pub const DESCRIPTOR_LEN_MAX: usize = 160;
    /// All extensions at their longest.
    pub(crate) const BYTES_MAX: usize = 3 * 2 + 1 + 16 + PassedExtensions::DESCRIPTOR_LEN_MAX;

    /// Keeps the first value of each extension. Leaves out a value of the wrong length.
    pub fn collect<'a>(values: impl IntoIterator<Item = (Passed, &'a [u8])>) -> PassedExtensions {
        let mut bytes = [0; PassedExtensions::BYTES_MAX];
        let mut len = 0;
        let mut seen = [false; Passed::ALL.len()];
        for (which, value) in values {
            if !which.allows(value.len()) || std::mem::replace(&mut seen[which as usize], true) {
                continue;
            }
            bytes[len..len + 2].copy_from_slice(&[which as u8, value.len() as u8]);
            bytes[len + 2..][..value.len()].copy_from_slice(value);
            len += 2 + value.len();
        }
        PassedExtensions(Box::from(&bytes[..len]))
    }

    /// The values, in the order of the publisher's packet.
    pub fn iter(&self) -> impl Iterator<Item = (Passed, &[u8])> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (&[which, len], after) = rest.split_first_chunk::<2>()?;
            let (value, after) = after.split_at_checked(usize::from(len))?;
            rest = after;
            Some((*Passed::ALL.get(usize::from(which))?, value))
        })
    }

    /// The value of one extension.
    pub fn value(&self, which: Passed) -> Option<&[u8]> {
        self.iter().find_map(|(this, value)| (this == which).then_some(value))
    }

    /// The frame number of the dependency descriptor.
    pub fn frame_number(&self) -> Option<u16> {
        frame_number(self.value(Passed::DependencyDescriptor)?)
    }

    /// Whether there are none, which is the usual case.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_in_order() {
        let values: [(Passed, &[u8]); 3] = [
            (Passed::AbsCaptureTime, &[8; 8]),
            (Passed::VideoOrientation, &[2]),
            (Passed::DependencyDescriptor, &[3; 90]),
        ];
        let kept = PassedExtensions::collect(values);
        assert_eq!(kept.iter().collect::<Vec<_>>(), values);
        assert_eq!(kept.value(Passed::VideoOrientation), Some(&[2][..]));
    }

    #[test]
    fn wrong_lengths_and_repeats_are_left_out() {
        let kept = PassedExtensions::collect([
            (Passed::VideoOrientation, &[1, 2][..]),
            (Passed::AbsCaptureTime, &[0; 9]),
            (Passed::DependencyDescriptor, &[0; 161]),
            (Passed::AbsCaptureTime, &[1; 16]),
            (Passed::AbsCaptureTime, &[2; 16]),
        ]);
        assert_eq!(
            kept.iter().collect::<Vec<_>>(),
            [(Passed::AbsCaptureTime, &[1; 16][..])]
        );
    }

    #[test]
    fn without_extensions_nothing_is_allocated() {
        let none = PassedExtensions::collect([]);
        assert!(none.is_empty() && none.iter().next().is_none());
    }
}

//! One RTP packet as the server keeps it.

use std::time::Instant;

use crate::rtp::Codec;

/// One RTP packet of a track: received once, decrypted once, never changed, shared by `Arc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The encoding.
    pub codec: Codec,
    /// The last packet of a video frame.
    pub marker: bool,
    /// The first packet of a keyframe, or parameter sets that lead one in. Always true for audio.
    pub keyframe: bool,
    /// Extended sequence number in the track's own numbering, which outlives publishers.
    pub index: u64,
    /// Timestamp in the track's own timeline.
    pub timestamp: u32,
    /// Without padding; empty for a packet that was padding only, whose number must not be missed.
    pub payload: Box<[u8]>,
    /// Header extensions that are passed on.
    pub extensions: PassedExtensions,
    /// When it arrived.
    pub arrived: Instant,
}

/// Values of the header extensions that viewers are given on purpose. Most packets have none, and then it owns no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedExtensions {
    lens: [u8; 3],
    bytes: Box<[u8]>,
}

impl PassedExtensions {
    /// Longest value kept: a dependency descriptor with its template structure stays well below.
    pub const VALUE_MAX: usize = 128;

    /// Keeps the values; one that is longer than [`VALUE_MAX`](Self::VALUE_MAX) is left out.
    pub fn new(
        video_orientation: Option<&[u8]>,
        abs_capture_time: Option<&[u8]>,
        dependency_descriptor: Option<&[u8]>,
    ) -> PassedExtensions {
        let kept = [video_orientation, abs_capture_time, dependency_descriptor].map(|value| {
            value
                .filter(|value| value.len() <= PassedExtensions::VALUE_MAX)
                .unwrap_or_default()
        });
        PassedExtensions {
            lens: kept.map(|value| value.len() as u8),
            bytes: kept.concat().into(),
        }
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of all values.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// `urn:3gpp:video-orientation`
    pub fn video_orientation(&self) -> Option<&[u8]> {
        self.value(0)
    }

    /// Absolute capture time
    pub fn abs_capture_time(&self) -> Option<&[u8]> {
        self.value(1)
    }

    /// AV1's dependency descriptor
    pub fn dependency_descriptor(&self) -> Option<&[u8]> {
        self.value(2)
    }

    fn value(&self, which: usize) -> Option<&[u8]> {
        let start: usize = self.lens[..which].iter().map(|&len| usize::from(len)).sum();
        Some(&self.bytes[start..][..usize::from(self.lens[which])]).filter(|value| !value.is_empty())
    }
}

/// Where a track stands when its publisher changes, so that the next one goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuity {
    /// The number of the next packet.
    pub next_index: u64,
    /// Timestamp of the last packet.
    pub last_timestamp: u32,
    /// When that arrived.
    pub last_at: Instant,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;

    /// A packet for tests of other modules: VP8, one byte of payload.
    pub(crate) fn packet(index: u64) -> Builder {
        Builder(Packet {
            codec: Codec::Vp8,
            marker: false,
            keyframe: false,
            index,
            timestamp: 0,
            payload: [index as u8].into(),
            extensions: PassedExtensions::default(),
            arrived: crate::clock::now(),
        })
    }

    pub(crate) struct Builder(Packet);

    impl Builder {
        pub(crate) fn codec(mut self, codec: Codec) -> Builder {
            self.0.codec = codec;
            self
        }
        pub(crate) fn keyframe(mut self) -> Builder {
            self.0.keyframe = true;
            self
        }
        pub(crate) fn marker(mut self) -> Builder {
            self.0.marker = true;
            self
        }
        pub(crate) fn payload(mut self, payload: &[u8]) -> Builder {
            self.0.payload = payload.into();
            self
        }
        pub(crate) fn timestamp(mut self, timestamp: u32) -> Builder {
            self.0.timestamp = timestamp;
            self
        }
        pub(crate) fn build(self) -> Arc<Packet> {
            Arc::new(self.0)
        }
    }

    #[test]
    fn extension_values_are_kept_apart() {
        let extensions = PassedExtensions::new(Some(&[1]), None, Some(&[2, 3]));
        assert_eq!(extensions.video_orientation(), Some(&[1][..]));
        assert_eq!(extensions.abs_capture_time(), None);
        assert_eq!(extensions.dependency_descriptor(), Some(&[2, 3][..]));
        assert_eq!(extensions.len(), 3);
        assert!(
            PassedExtensions::new(None, None, Some(&[0; 200])).is_empty(),
            "too long a value is left out"
        );
    }
}

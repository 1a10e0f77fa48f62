//! Packets for the tests of other modules.

use std::sync::Arc;

use super::Packet;
use onecast_rtc::rtp::{Codec, Refresh};

/// A packet for tests of other modules: VP8, one byte of payload.
pub(crate) fn packet(index: u64) -> Builder {
    Builder(Packet {
        codec: Codec::Vp8,
        marker: false,
        keyframe: false,
        refresh: None,
        index,
        timestamp: 0,
        payload: [index as u8].into(),
        sets: None,
        extensions: crate::media::packet::PassedExtensions::default(),
        arrived: onecast_udp::clock::now(),
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
        self.0.refresh = Some(Refresh::Keyframe);
        self
    }
    /// Parameter sets in front of a keyframe's picture.
    pub(crate) fn before_refresh(mut self) -> Builder {
        self.0.keyframe = true;
        self
    }
    /// The picture behind parameter sets.
    pub(crate) fn refresh(mut self) -> Builder {
        self.0.refresh = Some(Refresh::Keyframe);
        self
    }
    /// A recovery point, complete after so many pictures.
    pub(crate) fn recovery(mut self, frames: u16) -> Builder {
        self.0.keyframe = true;
        self.0.refresh = Some(Refresh::Recovery { frames });
        self
    }
    /// Parameter sets to be sent in front.
    pub(crate) fn sets(mut self, sets: &[u8]) -> Builder {
        self.0.sets = Some(sets.into());
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

//! Packets and tracks for tests of this crate.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use onecast_rtc::rtp::{Codec, LayerId, Refresh, RtpTime, Ssrc};

use super::lane::{StreamKey, StreamSlot};
use super::packet::{Passed, PassedExtensions};
use super::{Inbox, LayerIndex, Packet, StreamTracks, Wake};

/// A VP8 packet with one byte of payload.
pub(crate) fn packet(index: u64) -> PacketBuilder {
    PacketBuilder(Packet {
        codec: Codec::Vp8,
        layer: LayerIndex::FIRST,
        place: LayerId::default(),
        ends_frame: false,
        marker: false,
        keyframe: false,
        refresh: None,
        index,
        timestamp: RtpTime(0),
        payload: [index as u8].into(),
        sets: None,
        extensions: PassedExtensions::default(),
        arrived: onecast_udp::clock::now(),
    })
}

pub(crate) struct PacketBuilder(Packet);

impl PacketBuilder {
    pub(crate) fn codec(mut self, codec: Codec) -> PacketBuilder {
        self.0.codec = codec;
        self
    }
    /// Of these spatial and temporal layers, in one packet.
    pub(crate) fn frame_of(mut self, spatial: u8, temporal: u8) -> PacketBuilder {
        self.0.place = LayerId::new(spatial, temporal);
        self.0.ends_frame = true;
        self
    }
    pub(crate) fn keyframe(mut self) -> PacketBuilder {
        self.0.keyframe = true;
        self.0.refresh = Some(Refresh::Keyframe);
        self
    }
    /// Parameter sets in front of a keyframe's picture.
    pub(crate) fn before_refresh(mut self) -> PacketBuilder {
        self.0.keyframe = true;
        self
    }
    /// The picture behind parameter sets.
    pub(crate) fn refresh(mut self) -> PacketBuilder {
        self.0.refresh = Some(Refresh::Keyframe);
        self
    }
    /// A recovery point, complete after so many pictures.
    pub(crate) fn recovery(mut self, frames: u16) -> PacketBuilder {
        self.0.keyframe = true;
        self.0.refresh = Some(Refresh::Recovery { frames });
        self
    }
    /// Parameter sets to be sent in front.
    pub(crate) fn sets(mut self, sets: &[u8]) -> PacketBuilder {
        self.0.sets = Some(sets.into());
        self
    }
    pub(crate) fn marker(mut self) -> PacketBuilder {
        self.0.marker = true;
        self
    }
    pub(crate) fn payload(mut self, payload: &[u8]) -> PacketBuilder {
        self.0.payload = payload.into();
        self
    }

    pub(crate) fn extension(mut self, which: Passed, value: &[u8]) -> PacketBuilder {
        self.0.extensions = PassedExtensions::collect([(which, value)]);
        self
    }

    pub(crate) fn timestamp(mut self, timestamp: RtpTime) -> PacketBuilder {
        self.0.timestamp = timestamp;
        self
    }
    pub(crate) fn build(self) -> Arc<Packet> {
        Arc::new(self.0)
    }
}

/// Counts how often shards were woken.
struct CountWakes(Arc<AtomicUsize>);

impl Wake for CountWakes {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tracks with lanes into the inboxes of so many shards, and a count of their wakes.
pub(crate) fn tracks(shards: usize) -> (StreamTracks, Vec<Arc<Inbox>>, Arc<AtomicUsize>) {
    let wakes = Arc::new(AtomicUsize::new(0));
    let inboxes: Vec<_> = (0..shards)
        .map(|_| Inbox::new(Box::new(CountWakes(wakes.clone()))))
        .collect();
    let key = StreamKey {
        slot: StreamSlot(0),
        serial: 1,
    };
    let now = onecast_udp::clock::now();
    let tracks = StreamTracks::new(key, "live", [Ssrc(10), Ssrc(20), Ssrc(30)], inboxes.clone().into(), now);
    (tracks, inboxes, wakes)
}

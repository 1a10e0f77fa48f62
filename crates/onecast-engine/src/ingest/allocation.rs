//! Which layers the publisher says that it sends. A layer that is missing has stopped, which its silence shows only after some pictures.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::video_layers_allocation::LayersAllocation;
use onecast_rtc::sdp::SendLayers;

use super::incoming::Incoming;
use crate::media::LayerIndex;

/// The newest layers allocation of a line.
#[derive(Debug, Default)]
pub(super) struct Allocation {
    /// Id of the header extension; `None` where it was not negotiated.
    extension: Option<u8>,
    /// The stream in allocations of each layer.
    streams: [Option<u8>; LayerIndex::COUNT],
    /// When it came, and which of its streams are sent, a bit each; `None` before the first one.
    newest: Option<(Instant, u8)>,
}

impl Allocation {
    /// A layer that goes on sending for so long after an allocation without it has not stopped.
    const BELIEVED: Duration = Duration::from_secs(1);

    /// Of a line that sends these layers.
    pub(super) fn new(layers: Option<&SendLayers>) -> Allocation {
        let mut allocation = Allocation {
            extension: layers.and_then(SendLayers::allocation_extension),
            ..Allocation::default()
        };
        let layers = layers.map_or(&[][..], SendLayers::as_slice);
        for (stream, layer) in allocation.streams.iter_mut().zip(layers) {
            *stream = Some(layer.stream);
        }
        allocation
    }

    /// A packet of the line. Allocations that cannot be read change nothing.
    pub(super) fn note_packet(&mut self, incoming: Incoming<'_>) {
        let value = self.extension.and_then(|id| incoming.extension(id));
        if let Some(value) = value {
            self.note(incoming.now, value);
        }
    }

    fn note(&mut self, now: Instant, value: &[u8]) {
        if let Ok(allocation) = LayersAllocation::read(value) {
            let sent = allocation.layers().fold(0, |sent, (stream, ..)| sent | 1 << stream);
            self.newest = Some((now, sent));
        }
    }

    /// Whether the publisher has said that it does not send a layer any more, whose newest packet came at `last`.
    pub(super) fn has_stopped(&self, layer: LayerIndex, last: Option<Instant>) -> bool {
        let Some(((at, sent), stream)) = self.newest.zip(self.streams[layer.index()]) else {
            return false;
        };
        sent & 1 << stream == 0 && last.is_none_or(|last| last < at + Allocation::BELIEVED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stream 2 of 3, and stream 0 of 2 after the third has stopped, both recorded from Chromium.
    const THREE: [u8; 33] = [
        0xa1, 0xa8, 0x3c, 0x5a, 0x96, 0x01, 0xc8, 0x01, 0xac, 0x02, 0xf4, 0x03, 0xe4, 0x03, 0xd5, 0x05, 0xb9, 0x09,
        0x01, 0x3f, 0x00, 0xb3, 0x14, 0x02, 0x7f, 0x01, 0x67, 0x14, 0x04, 0xff, 0x02, 0xcf, 0x14,
    ];
    const ONE: [u8; 11] = [0x01, 0x80, 0x50, 0x78, 0xc8, 0x01, 0x01, 0x3f, 0x00, 0xb3, 0x3c];

    fn of_three() -> Allocation {
        Allocation {
            extension: Some(14),
            streams: [Some(0), Some(1), Some(2), None],
            newest: None,
        }
    }

    fn stopped(allocation: &Allocation, last: Instant) -> Vec<usize> {
        let stopped = LayerIndex::all().filter(|layer| allocation.has_stopped(*layer, Some(last)));
        stopped.map(LayerIndex::index).collect()
    }

    #[test]
    fn layers_that_are_missing_have_stopped_until_they_are_listed_again() {
        let now = onecast_udp::clock::now();
        let mut allocation = of_three();
        assert_eq!(stopped(&allocation, now), [], "nothing is known yet");
        for (value, expected) in [
            (&THREE[..], vec![]),
            (&ONE[..], vec![1, 2]),
            (&[0][..], vec![0, 1, 2]),
            (&THREE[..], vec![]),
        ] {
            allocation.note(now, value);
            assert_eq!(stopped(&allocation, now), expected);
        }
        allocation.note(now, &ONE);
        allocation.note(now, &THREE[..20]);
        assert_eq!(stopped(&allocation, now), [1, 2], "what cannot be read changes nothing");
    }

    #[test]
    fn a_layer_that_goes_on_sending_has_not_stopped() {
        let now = onecast_udp::clock::now();
        let mut allocation = of_three();
        allocation.note(now, &ONE);
        assert_eq!(stopped(&allocation, now + Duration::from_millis(900)), [1, 2]);
        assert_eq!(stopped(&allocation, now + Duration::from_millis(1_000)), []);
    }

    #[test]
    fn without_simulcast_nothing_stops() {
        let now = onecast_udp::clock::now();
        let mut allocation = Allocation::new(None);
        allocation.note(now, &[0]);
        assert_eq!(stopped(&allocation, now), []);
    }
}

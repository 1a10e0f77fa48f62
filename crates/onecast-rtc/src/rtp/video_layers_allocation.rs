//! Video layers allocation: a header extension in which a sender lists the layers that it sends at the moment, with their target bitrates
//! and sizes.
//!
//! ```text
//!  |RID| NS| sl_bm |   this stream, the highest that is sent, spatial layers (one bit each) if all streams up to that have the same
//!  |sl0_bm |sl1_bm |   otherwise, with sl_bm 0: those of each stream, two streams a byte
//!  |tl |tl |tl |tl |   temporal layers less one of each spatial layer, padded to a byte
//!  |  kbit/s  ...  |   LEB128, one for each temporal layer, which includes those below it
//!  | width-1 (16) | height-1 (16) | frames/s (8) |   of each spatial layer; may be left out
//! ```
//!
//! A single byte 0 means that nothing is sent. The format is that of
//! `http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00`. Streams are counted in the order of the rids of the offer. A
//! layer that the sender stops is missing from the next allocation, which is the earliest sign of it.

/// Why bytes are not an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// Shorter than its fields.
    #[error("truncated video layers allocation")]
    Truncated,
    /// More bytes than its fields have, and not as many as sizes would take.
    #[error("video layers allocation with {0} bytes behind the last bitrate")]
    Remainder(usize),
    /// The packet's stream is above the highest stream that is sent.
    #[error("video layers allocation of stream {stream}, above the highest stream that is sent ({highest})")]
    UnknownStream {
        /// Index of the packet's stream.
        stream: u8,
        /// Index of the highest stream that is sent.
        highest: u8,
    },
    /// None of the streams has a layer.
    #[error("video layers allocation without any layer")]
    NoLayers,
    /// Layers of streams or bits of layers that do not exist.
    #[error("video layers allocation with padding that is not zero")]
    Padding,
    /// A bitrate of more than 32 bits.
    #[error("video layers allocation with a bitrate of more than 32 bits")]
    Bitrate,
    /// A temporal layer needs less than one below it, which it includes.
    #[error("video layers allocation with a temporal layer of less bitrate than the one below it")]
    FallingBitrate,
    /// 65,536 pixels wide or high.
    #[error("video layers allocation with a picture of more than 65,535 pixels in width or height")]
    PictureTooLarge,
}

/// The layers that a sender sends on one line.
///
/// It holds from its packet on until that of the next one. A late packet reads like any other: the caller knows the order of the packets
/// and keeps the allocation of the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayersAllocation {
    stream: u8,
    streams: u8,
    has_sizes: bool,
    layers: [[AllocatedLayer; LayersAllocation::SPATIAL_LAYERS_MAX]; LayersAllocation::STREAMS_MAX],
}

/// A spatial layer of one stream, with its temporal layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AllocatedLayer {
    kbps: [u32; LayersAllocation::TEMPORAL_LAYERS_MAX],
    /// 0 for a layer that is not sent.
    temporal_layers: u8,
    /// Highest frame rate.
    frame_rate: u8,
    width: u16,
    height: u16,
}

impl LayersAllocation {
    /// The most streams of a line.
    pub const STREAMS_MAX: usize = 4;
    /// The most spatial layers of a stream.
    pub const SPATIAL_LAYERS_MAX: usize = 4;
    /// The most temporal layers of a spatial layer.
    pub const TEMPORAL_LAYERS_MAX: usize = 4;

    /// Reads the value of the header extension.
    ///
    /// # Errors
    /// The value is truncated, contradicts itself, or says what cannot be.
    pub fn read(value: &[u8]) -> Result<LayersAllocation, AllocationError> {
        if value == [0] {
            return Ok(LayersAllocation::default());
        }
        let mut bytes = Bytes(value);
        let head = bytes.byte()?;
        let mut allocation = LayersAllocation {
            stream: head >> 6,
            streams: (head >> 4 & 3) + 1,
            ..LayersAllocation::default()
        };
        allocation.read_layers(head & 0x0f, &mut bytes)?;
        for layer in allocation.sent_mut() {
            layer.read_bitrates(&mut bytes)?;
        }
        let sizes = SIZE_LEN * allocation.layers().count();
        if !bytes.0.is_empty() && bytes.0.len() != sizes {
            return Err(AllocationError::Remainder(bytes.0.len()));
        }
        if !bytes.0.is_empty() {
            allocation.has_sizes = true;
            for layer in allocation.sent_mut() {
                layer.read_size(&mut bytes)?;
            }
        }
        Ok(allocation)
    }

    /// Index of the stream on which the packet came, in the order of the rids of the offer.
    pub fn stream(&self) -> usize {
        self.stream.into()
    }

    /// One more than the index of the highest stream that is sent; 0 where nothing is sent. The line may have more streams.
    pub fn streams(&self) -> usize {
        self.streams.into()
    }

    /// A spatial layer of a stream, if it is sent.
    pub fn layer(&self, stream: usize, spatial: usize) -> Option<&AllocatedLayer> {
        let layer = self.layers.get(stream)?.get(spatial)?;
        (layer.temporal_layers > 0).then_some(layer)
    }

    /// All layers that are sent, each with the index of its stream and its spatial layer, in that order.
    pub fn layers(&self) -> impl Iterator<Item = (usize, usize, &AllocatedLayer)> {
        let all = self.layers.iter().enumerate();
        let all = all.flat_map(|(stream, layers)| {
            let layers = layers.iter().enumerate();
            layers.map(move |(spatial, layer)| (stream, spatial, layer))
        });
        all.filter(|(_, _, layer)| layer.temporal_layers > 0)
    }

    /// Whether the layers have sizes and frame rates. libwebrtc sends them when they change, and with keyframes.
    pub fn has_sizes(&self) -> bool {
        self.has_sizes
    }

    fn sent_mut(&mut self) -> impl Iterator<Item = &mut AllocatedLayer> {
        let all = self.layers.iter_mut().flatten();
        all.filter(|layer| layer.temporal_layers > 0)
    }

    /// The layers that are sent, and how many temporal layers each has. `shared` are the spatial layers of all streams, or 0.
    fn read_layers(&mut self, shared: u8, bytes: &mut Bytes<'_>) -> Result<(), AllocationError> {
        if self.stream >= self.streams {
            return Err(AllocationError::UnknownStream {
                stream: self.stream,
                highest: self.streams - 1,
            });
        }
        let streams = self.streams();
        let mut masks = [shared; LayersAllocation::STREAMS_MAX];
        masks[streams..].fill(0);
        if shared == 0 {
            for pair in masks.chunks_exact_mut(2).take(streams.div_ceil(2)) {
                let byte = bytes.byte()?;
                pair.copy_from_slice(&[byte >> 4, byte & 0x0f]);
            }
        }
        if masks[streams..].iter().any(|mask| *mask != 0) {
            return Err(AllocationError::Padding);
        }
        if masks == [0; LayersAllocation::STREAMS_MAX] {
            return Err(AllocationError::NoLayers);
        }
        let mut places = Places::default();
        for (layers, mask) in self.layers.iter_mut().zip(masks) {
            for (spatial, layer) in layers.iter_mut().enumerate() {
                if mask >> spatial & 1 == 1 {
                    layer.temporal_layers = places.next(bytes)? + 1;
                }
            }
        }
        places.finish()
    }
}

impl AllocatedLayer {
    /// Target bitrate of each temporal layer with those below it, kbit/s; at least one. In spatial SVC it includes the spatial layers
    /// that the layer needs.
    pub fn kbps(&self) -> &[u32] {
        &self.kbps[..usize::from(self.temporal_layers)]
    }

    /// Width and height in pixels, if the allocation has sizes.
    pub fn size(&self) -> Option<(u16, u16)> {
        (self.width > 0).then_some((self.width, self.height))
    }

    /// The most frames a second, if the allocation has sizes.
    pub fn frame_rate(&self) -> Option<u8> {
        (self.width > 0).then_some(self.frame_rate)
    }

    fn read_bitrates(&mut self, bytes: &mut Bytes<'_>) -> Result<(), AllocationError> {
        let mut below = 0;
        for kbps in &mut self.kbps[..usize::from(self.temporal_layers)] {
            *kbps = bytes.leb128()?;
            if *kbps < below {
                return Err(AllocationError::FallingBitrate);
            }
            below = *kbps;
        }
        Ok(())
    }

    fn read_size(&mut self, bytes: &mut Bytes<'_>) -> Result<(), AllocationError> {
        self.width = bytes.side()?;
        self.height = bytes.side()?;
        self.frame_rate = bytes.byte()?;
        Ok(())
    }
}

/// The two-bit numbers of temporal layers, four in a byte.
#[derive(Debug, Default)]
struct Places {
    byte: u8,
    left: u8,
}

impl Places {
    fn next(&mut self, bytes: &mut Bytes<'_>) -> Result<u8, AllocationError> {
        if self.left == 0 {
            (self.byte, self.left) = (bytes.byte()?, 4);
        }
        self.left -= 1;
        Ok(self.byte >> (2 * self.left) & 3)
    }

    fn finish(self) -> Result<(), AllocationError> {
        let padding = (1_u16 << (2 * self.left)) - 1;
        match u16::from(self.byte) & padding {
            0 => Ok(()),
            _ => Err(AllocationError::Padding),
        }
    }
}

/// What is left of the value.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Result<u8, AllocationError> {
        let (byte, rest) = self.0.split_first().ok_or(AllocationError::Truncated)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// A width or a height, coded as one less.
    fn side(&mut self) -> Result<u16, AllocationError> {
        let less_one = u16::from_be_bytes([self.byte()?, self.byte()?]);
        less_one.checked_add(1).ok_or(AllocationError::PictureTooLarge)
    }

    /// AV1 specification section 4.10.5, up to 32 bits.
    fn leb128(&mut self) -> Result<u32, AllocationError> {
        let mut value = 0_u64;
        for place in 0..LEB128_LEN_MAX {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| AllocationError::Bitrate);
            }
        }
        Err(AllocationError::Bitrate)
    }
}

/// Width, height and frame rate.
const SIZE_LEN: usize = 5;
/// Bytes that 32 bits take, seven in each.
const LEB128_LEN_MAX: usize = 5;

#[cfg(test)]
mod tests;

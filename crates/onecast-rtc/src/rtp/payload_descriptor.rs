//! What the payload itself shows of a frame's place among the layers, by codec: the descriptors of VP8 and VP9, the NAL units of H264 and
//! H265. No bytes make this panic.
//!
//! Chromium and Firefox leave everything out of the VP8 descriptor where they send a dependency descriptor, and Chromium tells the
//! temporal layers of H264 only there. AV1 has layers in OBU headers, which not every packet has: only the dependency descriptor tells.

mod nal;
mod vp8;
mod vp9;

pub use vp8::Vp8Descriptor;
pub use vp9::{Vp9Descriptor, Vp9Layers, Vp9Structure};

use super::Codec;
use super::layer_id::LayerId;

/// Picture id of a VP8 or VP9 payload descriptor. All packets of a picture have the same one, the next picture has the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    /// 7 or 15 bits, after which it wraps.
    pub value: u16,
    /// It has 15 bits.
    pub is_long: bool,
}

/// A frame's layers, as far as one packet's payload shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadLayer {
    /// The frame's own layers.
    pub layer: LayerId,
    /// The first packet of the frame, which is one spatial layer of a picture.
    pub starts_frame: bool,
    /// The last packet of the frame; only VP9 shows it. The marker bit ends the picture with every codec.
    pub ends_frame: bool,
    /// Whether a receiver may take more temporal layers.
    pub switch_point: SwitchPoint,
}

/// Where a receiver may take more temporal layers, as a frame shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchPoint {
    /// The frame shows no such place.
    None,
    /// The frame's own layer from this frame on (VP8 and H265).
    Here,
    /// The layers above the frame's own from the next picture on (VP9).
    Next,
}

impl PictureId {
    /// The id of the next picture.
    #[must_use]
    pub const fn next(self) -> PictureId {
        let mask = if self.is_long { 0x7fff } else { 0x7f };
        PictureId {
            value: (self.value + 1) & mask,
            is_long: self.is_long,
        }
    }

    /// At the start of `bytes`; RFC 7741 section 4.2 and RFC 9628 section 4.2 have the same form.
    fn read(bytes: &[u8]) -> Option<PictureId> {
        let first = *bytes.first()?;
        let is_long = first & 0x80 != 0;
        let value = match is_long {
            true => u16::from_be_bytes([first & 0x7f, *bytes.get(1)?]),
            false => first.into(),
        };
        Some(PictureId { value, is_long })
    }

    /// Bytes that it takes.
    const fn len(self) -> usize {
        if self.is_long { 2 } else { 1 }
    }
}

impl SwitchPoint {
    const fn here(is_here: bool) -> SwitchPoint {
        if is_here { SwitchPoint::Here } else { SwitchPoint::None }
    }
}

/// The layers of the packet's frame; `None` where the payload does not show them.
pub fn payload_layer(codec: Codec, payload: &[u8]) -> Option<PayloadLayer> {
    match codec {
        Codec::Vp8 => {
            let descriptor = Vp8Descriptor::read(payload)?;
            Some(PayloadLayer {
                layer: LayerId::new(0, descriptor.temporal?),
                starts_frame: descriptor.starts_frame(),
                ends_frame: false,
                switch_point: SwitchPoint::here(descriptor.layer_sync),
            })
        }
        Codec::Vp9 => {
            let descriptor = Vp9Descriptor::read(payload)?;
            let layers = descriptor.layers?;
            Some(PayloadLayer {
                layer: layers.id,
                starts_frame: descriptor.starts_frame,
                ends_frame: descriptor.ends_frame,
                switch_point: if layers.switches_up {
                    SwitchPoint::Next
                } else {
                    SwitchPoint::None
                },
            })
        }
        Codec::H264 => nal::h264_layer(payload),
        Codec::H265 => nal::h265_layer(payload),
        Codec::Opus | Codec::Av1 => None,
    }
}

#[cfg(test)]
mod tests;

//! The VP9 payload descriptor (RFC 9628 section 4.2).

use super::PictureId;
use crate::rtp::layer_id::LayerId;

/// The descriptor in front of the VP9 frame data of a packet.
///
/// ```text
///      |I|P|L|F|B|E|V|Z|
/// I:   |M|  picture id |
/// M:   | 8 more bits   |
/// L:   | TID |U| SID |D|
///      |   TL0PICIDX   |   only without F
/// P,F: |   P_DIFF    |N|   up to three times
/// V:   | N_S |Y|G| ... |   scalability structure
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp9Descriptor {
    /// Bytes of the descriptor: where the frame data begins.
    pub len: usize,
    /// I.
    pub picture_id: Option<PictureId>,
    /// P: the frame refers to frames of earlier pictures.
    pub is_predicted: bool,
    /// L: the frame's layers.
    pub layers: Option<Vp9Layers>,
    /// F: the descriptor lists the references.
    pub is_flexible: bool,
    /// B: the first packet of the frame, which is one spatial layer of a picture.
    pub starts_frame: bool,
    /// E: the last packet of the frame.
    pub ends_frame: bool,
    /// Z: no frame of a higher spatial layer depends on this one, in this picture and in the following ones.
    pub is_not_reference_for_upper: bool,
    /// TL0PICIDX: counts the pictures of the lowest temporal layer, and wraps at 8 bits.
    pub tl0_picture_index: Option<u8>,
    /// P_DIFF: how many picture ids back each reference lies; 0 where there is none. Only in the flexible mode.
    pub references: [u8; 3],
    /// V: sizes of the spatial layers. Chromium sends it with the first frame of a keyframe's picture.
    pub structure: Option<Vp9Structure>,
}

/// The layer indices of a VP9 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp9Layers {
    /// TID and SID.
    pub id: LayerId,
    /// U: later pictures of higher temporal layers refer to nothing before this picture that is above its own temporal layer, so a
    /// receiver may take them from the next picture on.
    pub switches_up: bool,
    /// D: the frame refers to the one of the spatial layer below.
    pub is_inter_layer_predicted: bool,
}

/// The scalability structure (RFC 9628 section 4.2.1), without its picture group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp9Structure {
    /// 1..=8.
    spatial_layers: u8,
    sizes: Option<[(u16, u16); LayerId::SPATIAL_LAYERS_MAX]>,
}

impl Vp9Descriptor {
    /// The descriptor of a payload; `None` when it is truncated, or nothing follows its fixed part.
    pub fn read(payload: &[u8]) -> Option<Vp9Descriptor> {
        let first = *payload.first()?;
        let mut descriptor = Vp9Descriptor {
            len: 1,
            picture_id: None,
            is_predicted: first & 0x40 != 0,
            layers: None,
            is_flexible: first & 0x10 != 0,
            starts_frame: first & 0x08 != 0,
            ends_frame: first & 0x04 != 0,
            is_not_reference_for_upper: first & 0x01 != 0,
            tl0_picture_index: None,
            references: [0; 3],
            structure: None,
        };
        if first & 0x80 != 0 {
            let picture_id = PictureId::read(&payload[1..])?;
            descriptor.len += picture_id.len();
            descriptor.picture_id = Some(picture_id);
        }
        if first & 0x20 != 0 {
            descriptor.read_layers(payload)?;
        }
        if descriptor.is_flexible && descriptor.is_predicted {
            descriptor.read_references(payload)?;
        }
        let rest = payload.get(descriptor.len..).filter(|rest| !rest.is_empty())?;
        if first & 0x02 != 0 {
            let (structure, len) = Vp9Structure::read(rest)?;
            descriptor.structure = Some(structure);
            descriptor.len += len;
        }
        (descriptor.len <= payload.len()).then_some(descriptor)
    }

    fn read_layers(&mut self, payload: &[u8]) -> Option<()> {
        let byte = *payload.get(self.len)?;
        self.len += 1;
        self.layers = Some(Vp9Layers {
            id: LayerId::new(byte >> 1 & 0x07, byte >> 5),
            switches_up: byte & 0x10 != 0,
            is_inter_layer_predicted: byte & 0x01 != 0,
        });
        if !self.is_flexible {
            // Nothing needs the index, so a packet that ends here is only refused because no frame data follows.
            self.tl0_picture_index = payload.get(self.len).copied();
            self.len += 1;
        }
        Some(())
    }

    fn read_references(&mut self, payload: &[u8]) -> Option<()> {
        for reference in &mut self.references {
            let byte = *payload.get(self.len)?;
            self.len += 1;
            *reference = byte >> 1;
            if byte & 1 == 0 {
                break;
            }
        }
        Some(())
    }
}

impl Vp9Structure {
    /// N_S: spatial layers, 1..=8.
    pub fn spatial_layers(&self) -> u8 {
        self.spatial_layers
    }

    /// Width and height of a spatial layer, if the structure names them.
    pub fn size(&self, spatial: u8) -> Option<(u16, u16)> {
        let sizes = self.sizes?;
        (spatial < self.spatial_layers).then(|| sizes[usize::from(spatial)])
    }

    /// Width and height of the highest spatial layer, if the structure names them.
    pub fn largest(&self) -> Option<(u16, u16)> {
        self.size(self.spatial_layers - 1)
    }

    /// The structure at the start of `bytes`, and how many it takes: sizes of its layers, and a picture group with its references.
    fn read(bytes: &[u8]) -> Option<(Vp9Structure, usize)> {
        let head = *bytes.first()?;
        let mut structure = Vp9Structure {
            spatial_layers: (head >> 5) + 1,
            sizes: None,
        };
        let mut at = 1;
        if head & 0x10 != 0 {
            let mut sizes = [(0, 0); LayerId::SPATIAL_LAYERS_MAX];
            for size in &mut sizes[..usize::from(structure.spatial_layers)] {
                let [w0, w1, h0, h1] = *bytes.get(at..)?.first_chunk::<4>()?;
                *size = (u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1]));
                at += 4;
            }
            structure.sizes = Some(sizes);
        }
        if head & 0x08 != 0 {
            let pictures = *bytes.get(at)?;
            at += 1;
            for _ in 0..pictures {
                at += 1 + usize::from(bytes.get(at)? >> 2 & 0x03);
            }
        }
        Some((structure, at))
    }
}

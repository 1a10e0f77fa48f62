//! The VP8 payload descriptor (RFC 7741 section 4.2).

use super::PictureId;

/// The descriptor in front of the VP8 frame data of a packet.
///
/// ```text
///     |X|R|N|S|R| PID |
/// X:  |I|L|T|K|  RSV  |
/// I:  |M|  picture id |
/// M:  | 8 more bits   |
/// L:  |   TL0PICIDX   |
/// T/K:|TID|Y| KEYIDX  |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// Bytes of the descriptor: where the frame data begins.
    pub len: usize,
    /// N: no other frame refers to this one.
    pub is_discardable: bool,
    /// S: a partition of the frame begins with the frame data.
    pub starts_partition: bool,
    /// PID: the partition that the frame data begins in.
    pub partition: u8,
    /// I.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX: counts the frames of the lowest temporal layer, and wraps at 8 bits.
    pub tl0_picture_index: Option<u8>,
    /// TID: the temporal layer.
    pub temporal: Option<u8>,
    /// Y: the frame refers to frames of the lowest temporal layer only, so a receiver may take its layer from here on. Only with `temporal`.
    pub layer_sync: bool,
    /// KEYIDX: counts keyframes, and wraps at 5 bits.
    pub key_index: Option<u8>,
}

impl Vp8Descriptor {
    /// The descriptor of a payload; `None` when it is truncated, or no frame data follows.
    pub fn read(payload: &[u8]) -> Option<Vp8Descriptor> {
        let first = *payload.first()?;
        let mut descriptor = Vp8Descriptor {
            len: 1,
            is_discardable: first & 0x20 != 0,
            starts_partition: first & 0x10 != 0,
            partition: first & 0x07,
            picture_id: None,
            tl0_picture_index: None,
            temporal: None,
            layer_sync: false,
            key_index: None,
        };
        if first & 0x80 != 0 {
            descriptor.read_extension(payload)?;
        }
        (descriptor.len < payload.len()).then_some(descriptor)
    }

    /// The first packet of a frame: the first partition begins.
    pub const fn starts_frame(&self) -> bool {
        self.starts_partition && self.partition == 0
    }

    fn read_extension(&mut self, payload: &[u8]) -> Option<()> {
        let extension = *payload.get(1)?;
        let mut at = 2;
        if extension & 0x80 != 0 {
            let picture_id = PictureId::read(payload.get(at..)?)?;
            at += picture_id.len();
            self.picture_id = Some(picture_id);
        }
        if extension & 0x40 != 0 {
            self.tl0_picture_index = Some(*payload.get(at)?);
            at += 1;
        }
        if extension & 0x30 != 0 {
            let byte = *payload.get(at)?;
            at += 1;
            if extension & 0x20 != 0 {
                self.temporal = Some(byte >> 6);
                self.layer_sync = byte & 0x20 != 0;
            }
            self.key_index = (extension & 0x10 != 0).then_some(byte & 0x1f);
        }
        self.len = at;
        Some(())
    }
}

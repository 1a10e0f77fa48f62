//! What a publisher's video looks like: the packets of a frame, by codec and shape.

use std::time::Instant;

use onecast_rtc::rtp::{Codec, Kind};

use super::{Ledger, Publisher};
use crate::client::Clear;

impl Publisher {
    pub(super) fn send_frame(&mut self, now: Instant, timestamp: u32, ledger: &mut Ledger, out: &mut Vec<Clear>) {
        let due = self.keyframe_wanted || self.keyframe_at <= now || self.shape.keyframes_only;
        let keyframe = due && !self.shape.keyless;
        if keyframe {
            self.keyframe_wanted = false;
            self.keyframe_at = now + self.shape.keyframes;
        }
        if self.shape.spatial > 0 {
            return self.send_spatial_layers(keyframe, timestamp, ledger, out);
        }
        let recovers = self.shape.recovery > 0 && self.frames.is_multiple_of(self.shape.recovery);
        let mut packets = 3 + self.random.below(6) as usize;
        if keyframe && self.shape.keyframe_packets > 0 {
            packets = self.shape.keyframe_packets;
        }
        let shorter = self.random.below(packets as u64) as usize;
        let len = match self.shape.payload {
            0 if self.random.below(3) == 0 => 300,
            0 => 1_024,
            payload => payload,
        };
        for number in 0..packets {
            let (first, last) = (number == 0, number + 1 == packets);
            let head = match (self.codec, first) {
                (Codec::Vp8, true) => self.vp8_head(keyframe),
                (Codec::Vp8, false) => vec![0x00, 0x01],
                (Codec::H264, true) => self.h264_head(keyframe, recovers, len + usize::from(number >= shorter)),
                (Codec::H264, false) => vec![0x7c, if keyframe { 0x05 } else { 0x01 }],
                // VP9: P says inter-predicted, B and E begin and end the frame, whose header says keyframe or not.
                (_, first) => {
                    vec![
                        (u8::from(!keyframe) << 6) | (u8::from(first) << 3) | (u8::from(last) << 2),
                        if keyframe { 0x82 } else { 0x86 },
                    ]
                }
            };
            let payload = self.fill(head, len + usize::from(number >= shorter));
            self.send_packet(
                Kind::Video,
                payload,
                last && !self.shape.unmarked,
                (keyframe || recovers) && first,
                timestamp,
                ledger,
                out,
            );
        }
    }

    /// A picture in several sizes, each with twice as many packets as the one before, which it refers to. In between keyframes they do not
    /// need each other, as in the modes that browsers call `_KEY`.
    fn send_spatial_layers(&mut self, keyframe: bool, timestamp: u32, ledger: &mut Ledger, out: &mut Vec<Clear>) {
        let layers = self.shape.spatial;
        // Encoders leave out the highest layer of some pictures, when the packets of the others have no marker already.
        let sent = layers - u8::from(!keyframe && self.frames.is_multiple_of(7));
        for spatial in 0..sent {
            let packets = 1u8 << spatial;
            for number in 0..packets {
                let (first, last) = (number == 0, number + 1 == packets);
                let begins = keyframe && first && spatial == 0;
                let mut head = vec![
                    0x20 | u8::from(!keyframe) << 6
                        | u8::from(first) << 3
                        | u8::from(last) << 2
                        | u8::from(begins) << 1,
                    spatial << 1 | u8::from(spatial > 0 && keyframe),
                    0,
                ];
                if begins {
                    head.push((layers - 1) << 5 | 0x10);
                    for size in 0..layers {
                        head.extend((160u16 << size).to_be_bytes());
                        head.extend((90u16 << size).to_be_bytes());
                    }
                }
                head.push(if keyframe { 0x82 } else { 0x86 });
                let payload = self.fill(head, self.shape.payload);
                let marker = last && spatial + 1 == layers;
                self.send_packet(Kind::Video, payload, marker, begins, timestamp, ledger, out);
            }
        }
    }

    fn vp8_head(&self, keyframe: bool) -> Vec<u8> {
        let mut head = vec![0x10, u8::from(!keyframe)];
        if let (Some(layer), true) = (self.layer, keyframe) {
            head.extend([0, 0, 0x9d, 0x01, 0x2a]);
            head.extend(layer.size.0.to_le_bytes());
            head.extend(layer.size.1.to_le_bytes());
        }
        head
    }

    /// The first packet of a frame, up to its first slice: an aggregate, but for the payload of `len` bytes in all.
    fn h264_head(&self, keyframe: bool, recovers: bool, len: usize) -> Vec<u8> {
        let mut head = vec![0x78];
        if (keyframe || recovers) && !self.shape.bare {
            head = parameter_sets(self.ledger);
        }
        if recovers && !keyframe {
            head.extend([0, RECOVERY.len() as u8]);
            head.extend(RECOVERY);
        }
        let slice = (len - head.len() - 2) as u16;
        head.extend(slice.to_be_bytes());
        head.extend(if keyframe { [0x65, 0x88] } else { [0x41, 0x9a] });
        head
    }
}

/// 640 x 480.
const SPS: [u8; 9] = [0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xf6, 0x80];
/// recovery_frame_cnt is 10.
const RECOVERY: [u8; 5] = [6, 6, 1, 0x16, 0x80];

/// Parameter sets of a publisher: each has its own.
pub(crate) fn parameter_sets(publisher: usize) -> Vec<u8> {
    let mut sets = vec![0x78, 0, 9];
    sets.extend(SPS);
    sets.extend([0, 4, 0x68, 0xce, 0x3c, publisher as u8 + 1]);
    sets
}

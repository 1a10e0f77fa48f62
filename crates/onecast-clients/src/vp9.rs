//! RTP payloads of VP9 in flexible mode, with the bit that distinguishes predicted frames from keyframes. Receivers depend on it, but the
//! library's packetizer omits it.

use bytes::{Bytes, BytesMut};
use rtc::rtp::packetizer::Payloader;
use rtc::shared::error::Result;

use onecast_rtc::rtp::keyframe;

/// Splits frames into payloads (RFC 9628 section 4.2).
#[derive(Debug, Clone, Default)]
pub(super) struct Vp9Payloader {
    picture_id: u16,
}

impl Payloader for Vp9Payloader {
    fn payload(&mut self, mtu: usize, frame: &Bytes) -> Result<Vec<Bytes>> {
        let predicted = !keyframe::vp9_frame_is_keyframe(frame);
        let head_len = if predicted { 4 } else { 3 };
        let Some(room) = mtu.checked_sub(head_len).filter(|&room| room > 0) else {
            return Ok(Vec::new());
        };
        let id = self.picture_id | PICTURE_ID_IS_LONG;
        self.picture_id = (self.picture_id + 1) & !PICTURE_ID_IS_LONG;
        let count = frame.len().div_ceil(room);
        let payload = |(number, part): (usize, &[u8])| {
            let mut head = PICTURE_ID | FLEXIBLE;
            for (bit, set) in [
                (PREDICTED, predicted),
                (BEGINS, number == 0),
                (ENDS, number + 1 == count),
            ] {
                head |= if set { bit } else { 0 };
            }
            let mut payload = BytesMut::with_capacity(head_len + part.len());
            payload.extend_from_slice(&[head, (id >> 8) as u8, id as u8]);
            if predicted {
                payload.extend_from_slice(&[PREVIOUS_PICTURE]);
            }
            payload.extend_from_slice(part);
            payload.freeze()
        };
        Ok(frame.chunks(room).enumerate().map(payload).collect())
    }

    fn clone_to(&self) -> Box<dyn Payloader> {
        Box::new(self.clone())
    }
}

const PICTURE_ID: u8 = 0x80;
const PREDICTED: u8 = 0x40;
const FLEXIBLE: u8 = 0x10;
const BEGINS: u8 = 0x08;
const ENDS: u8 = 0x04;
const PICTURE_ID_IS_LONG: u16 = 0x8000;
/// P_DIFF of 1, and no more after it.
const PREVIOUS_PICTURE: u8 = 1 << 1;

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::rtp::Codec;

    #[test]
    fn frames_are_split_and_predicted_ones_are_marked() {
        let mut payloader = Vp9Payloader::default();
        let keyframe = Bytes::from([&[0x82][..], &[7; 2_000]].concat());
        let payloads = payloader.payload(1_000, &keyframe).unwrap();
        assert_eq!(payloads.iter().map(Bytes::len).collect::<Vec<_>>(), [1_000, 1_000, 10]);
        assert_eq!(payloads.iter().map(|p| p[0]).collect::<Vec<_>>(), [0x98, 0x90, 0x94]);
        assert!(keyframe::starts_keyframe(Codec::Vp9, &payloads[0]));
        let predicted = payloader.payload(1_000, &Bytes::from_static(&[0x86, 1, 2])).unwrap();
        assert_eq!(&predicted[0][..], [0xdc, 0x80, 0x01, 0x02, 0x86, 1, 2]);
        assert!(!keyframe::starts_keyframe(Codec::Vp9, &predicted[0]));
    }

    #[test]
    fn an_empty_frame_or_no_room_gives_no_payload() {
        let mut payloader = Vp9Payloader::default();
        assert!(payloader.payload(1_000, &Bytes::new()).unwrap().is_empty());
        assert!(payloader.payload(3, &Bytes::from_static(&[0x86])).unwrap().is_empty());
    }
}

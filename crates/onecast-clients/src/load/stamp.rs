//! The stamp in each packet of a load, from which viewers know the frame's number and how long it took.
//!
//! ```text
//!  payload:  VP8 descriptor and picture header, 16 bytes | mark 8 | frame u64 | sent u64, ns since 1970 | filler
//! ```

use std::time::Duration;

/// Frame number and time of sending of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the frame, from 0.
    pub frame: u64,
    /// When the packet was sent, since 1970.
    pub sent: Duration,
}

impl Stamp {
    /// Writes the stamp into a payload. A payload that is too short is left unchanged.
    pub fn write(&self, payload: &mut [u8]) {
        let words = payload.get_mut(AT..).map(|rest| &mut rest.as_chunks_mut::<8>().0[..]);
        if let Some([mark, frame, sent, ..]) = words {
            *mark = *MARK;
            *frame = self.frame.to_be_bytes();
            *sent = (self.sent.as_nanos() as u64).to_be_bytes();
        }
    }

    /// Reads the stamp; `None` for packets of other publishers.
    pub fn read(payload: &[u8]) -> Option<Stamp> {
        match payload.get(AT..)?.as_chunks::<8>().0 {
            [mark, frame, sent, ..] if mark == MARK => Some(Stamp {
                frame: u64::from_be_bytes(*frame),
                sent: Duration::from_nanos(u64::from_be_bytes(*sent)),
            }),
            _ => None,
        }
    }
}

/// After the bytes that servers parse for keyframes and picture sizes.
const AT: usize = 16;
const MARK: &[u8; 8] = b"onecast!";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_and_other_payloads_have_none() {
        let stamp = Stamp {
            frame: 7,
            sent: Duration::new(1_700_000_000, 123_456_789),
        };
        let mut payload = [0x55; 60];
        assert_eq!(Stamp::read(&payload), None);
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..39]), None);
        stamp.write(&mut [0; 20]);
    }
}

//! The publisher of workload W1: 30 frames a second of 6 packets, a keyframe of 40 packets every 2 s, 1,000 bytes a datagram.

use std::io;
use std::time::{Duration, Instant};

use super::session::Session;
use crate::peer::srtp::Sealer;
use crate::rtp::header::HeaderOut;

/// A connected publisher of video that looks like VP8.
pub struct Publisher {
    session: Session,
    sealer: Sealer,
    frames: u64,
    packets: u64,
}

impl Publisher {
    /// Time between frames.
    pub const FRAME_INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);
    /// Frames from one keyframe to the next.
    pub const KEYFRAME_INTERVAL: u64 = 60;
    /// Packets of a frame.
    pub const FRAME_PACKETS: u64 = 6;
    /// Packets of a keyframe.
    pub const KEYFRAME_PACKETS: u64 = 40;
    /// Bytes of each datagram, RTP header and authentication tag among them.
    pub const DATAGRAM_BYTES: usize = 1_000;

    /// A publisher that has sent nothing yet.
    pub fn new(session: Session) -> Publisher {
        Publisher {
            sealer: Sealer::new(&session.keys),
            session,
            frames: 0,
            packets: 0,
        }
    }

    /// Sends the next frame.
    ///
    /// # Errors
    /// Those of the system.
    pub fn send_frame(&mut self) -> io::Result<()> {
        let keyframe = self.frames.is_multiple_of(Publisher::KEYFRAME_INTERVAL);
        let packets = if keyframe {
            Publisher::KEYFRAME_PACKETS
        } else {
            Publisher::FRAME_PACKETS
        };
        for position in 0..packets {
            self.send_packet(keyframe, position == 0, position + 1 == packets)?;
        }
        self.frames += 1;
        Ok(())
    }

    /// Packets sent so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Keeps the session; what the server asks for is not answered.
    ///
    /// # Errors
    /// When the server ended it.
    pub fn turn(&mut self, now: Instant) -> io::Result<()> {
        self.session.turn(now, &mut |_| {})
    }

    fn send_packet(&mut self, keyframe: bool, first: bool, last: bool) -> io::Result<()> {
        let mut buffer = [0x55; Publisher::DATAGRAM_BYTES];
        let header = HeaderOut {
            marker: last,
            padding: false,
            payload_type: VP8,
            sequence: self.packets as u16,
            timestamp: (self.frames * TICKS_PER_FRAME) as u32,
            ssrc: SSRC,
        };
        let header_len = header.write(&mut buffer, &[]);
        // RFC 7741 section 4.2: the S bit on the first packet of a frame. RFC 6386 section 9.1: bit 0 is clear in keyframes.
        buffer[header_len] = if first { 0x10 } else { 0 };
        buffer[header_len + 1] = u8::from(!keyframe);
        let clear = buffer.len() - self.sealer.overhead();
        let len = self.sealer.seal_rtp(&mut buffer, header_len, clear, self.packets);
        self.packets += 1;
        self.session.socket.send(&buffer[..len])?;
        Ok(())
    }
}

/// Payload type of VP8 in our offers.
const VP8: u8 = 96;
/// The RTP clock of video is 90 kHz.
const TICKS_PER_FRAME: u64 = 3_000;
const SSRC: u32 = 0x0c0f_fee1;

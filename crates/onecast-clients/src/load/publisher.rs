//! A publisher of video that looks like VP8: of workload W1 unless told otherwise, 1,000 bytes a datagram.

use std::io;
use std::time::{Duration, Instant};

use super::session::{Protected, Session};
use super::stamp::Stamp;
use super::workload::Video;
use onecast_rtc::rtp::header::HeaderOut;
use onecast_rtc::rtp::rtcp::{self, Report};
use onecast_rtc::srtp::{Opener, Sealer};
use onecast_udp::clock;

/// A connected publisher of video that looks like VP8.
pub struct Publisher {
    session: Session,
    sealer: Sealer,
    opener: Opener,
    video: Video,
    frames: u64,
    packets: u64,
    keyframe_requests: u64,
    slowest_send: Duration,
}

impl Publisher {
    /// Time between frames.
    pub const FRAME_INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);
    /// Frames from one keyframe to the next, unless told otherwise.
    pub const KEYFRAME_INTERVAL: u64 = 60;
    /// 30 frames a second of 6 packets, a keyframe of 40 packets every 2 s.
    pub const W1: Video = Video {
        rate: 30,
        frame_packets: 6,
        keyframe_packets: 40,
        keyframe_interval: Publisher::KEYFRAME_INTERVAL,
    };
    /// Bytes of each datagram, RTP header and authentication tag among them.
    pub const DATAGRAM_BYTES: usize = 1_000;

    /// A publisher that has sent nothing yet.
    pub fn new(session: Session) -> Publisher {
        Publisher {
            sealer: Sealer::new(&session.keys),
            opener: Opener::new(&session.keys),
            session,
            video: Publisher::W1,
            frames: 0,
            packets: 0,
            keyframe_requests: 0,
            slowest_send: Duration::ZERO,
        }
    }

    /// With so many frames, at least 1, from one keyframe to the next.
    #[must_use]
    pub fn with_keyframe_interval(self, frames: u64) -> Publisher {
        let video = Video {
            keyframe_interval: frames.max(1),
            ..self.video
        };
        Publisher { video, ..self }
    }

    /// With frames of another workload.
    #[must_use]
    pub fn with_video(self, video: Video) -> Publisher {
        Publisher { video, ..self }
    }

    /// Sends the next frame.
    ///
    /// # Errors
    /// Those of the system.
    pub fn send_frame(&mut self) -> io::Result<()> {
        let keyframe = self.frames.is_multiple_of(self.video.keyframe_interval);
        let packets = if keyframe {
            self.video.keyframe_packets
        } else {
            self.video.frame_packets
        };
        for position in 0..packets {
            self.send_packet(keyframe, position == 0, position + 1 == packets)?;
        }
        self.frames += 1;
        Ok(())
    }

    /// Frames sent so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Packets sent so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Keyframe requests, PLI and FIR, that the server sent so far. Nobody follows them.
    pub fn keyframe_requests(&self) -> u64 {
        self.keyframe_requests
    }

    /// The longest that a packet took from its stamp until the kernel had it, since the last call: so much of a delay may be the
    /// load's own.
    pub fn take_slowest_send(&mut self) -> Duration {
        std::mem::take(&mut self.slowest_send)
    }

    /// Keeps the session and reads what the server asks for, which is counted and not answered.
    ///
    /// # Errors
    /// When the server ended it.
    pub fn turn(&mut self, now: Instant) -> io::Result<()> {
        let Publisher {
            session,
            opener,
            keyframe_requests,
            ..
        } = self;
        session.turn(now, &mut |incoming| {
            if incoming.kind == Protected::Control
                && let Ok(len) = opener.open_rtcp(incoming.datagram)
            {
                // What was read before a broken packet counts.
                let _ = rtcp::parse(&incoming.datagram[..len], |report| {
                    let asks = matches!(report, Report::Pli { .. } | Report::Fir { .. });
                    *keyframe_requests += u64::from(asks);
                });
            }
        })
    }

    fn send_packet(&mut self, keyframe: bool, first: bool, last: bool) -> io::Result<()> {
        let mut buffer = [0x55; Publisher::DATAGRAM_BYTES];
        let header = HeaderOut {
            marker: last,
            padding: false,
            payload_type: VP8,
            sequence: self.packets as u16,
            timestamp: (self.frames * u64::from(CLOCK_RATE / self.video.rate)) as u32,
            ssrc: SSRC,
        };
        let header_len = header.write(&mut buffer, &[]);
        let payload = &mut buffer[header_len..];
        // RFC 7741 section 4.2: the S bit on the first packet of a frame. RFC 6386 section 9.1: bit 0 is clear in keyframes, which
        // also tell their size.
        payload[0] = if first { 0x10 } else { 0 };
        payload[1] = u8::from(!keyframe);
        if first && keyframe {
            payload[4..11].copy_from_slice(&PICTURE_HEADER);
        }
        let stamp = Stamp {
            frame: self.frames,
            sent: clock::unix_time(),
        };
        stamp.write(payload);
        let clear = buffer.len() - self.sealer.overhead();
        let len = self.sealer.seal_rtp(&mut buffer, header_len, clear, self.packets);
        self.packets += 1;
        self.session.socket.send(&buffer[..len])?;
        self.slowest_send = self.slowest_send.max(clock::unix_time().saturating_sub(stamp.sent));
        Ok(())
    }
}

/// Payload type of VP8 in our offers.
pub(super) const VP8: u8 = 96;
/// The RTP clock of video, in Hz.
const CLOCK_RATE: u32 = 90_000;
const SSRC: u32 = 0x0c0f_fee1;
/// Start code, 640, 360.
const PICTURE_HEADER: [u8; 7] = [0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];

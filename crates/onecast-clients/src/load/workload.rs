//! Workloads: packet sizes and rates of what a load publishes.

use std::time::Duration;

/// A workload by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// 30 frames a second of 6 packets, a keyframe of 40 every 2 s.
    W1,
    /// W1 and Opus.
    W1a,
    /// 60 frames a second of 12 packets, a keyframe of 80 every 4 s.
    W2,
    /// Opus only.
    Audio,
}

/// Sizes and rates of video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Video {
    /// Frames per second.
    pub rate: u32,
    /// Packets per frame.
    pub frame_packets: u32,
    /// Packets per keyframe.
    pub keyframe_packets: u32,
    /// Frames from one keyframe to the next.
    pub keyframe_interval: u64,
}

/// How a frame is cut into datagrams of equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameCut {
    /// Datagrams.
    pub packets: u32,
    /// Bytes of each, including RTP header and authentication tag.
    pub bytes: usize,
}

impl FrameCut {
    /// The same frame with `share` times the bytes, in datagrams of at most [`VIDEO_BYTES`].
    #[must_use]
    pub fn scaled(self, share: f64) -> FrameCut {
        let total = (f64::from(self.packets) * self.bytes as f64 * share).round();
        let packets = (total / VIDEO_BYTES as f64).ceil().max(1.0);
        FrameCut {
            packets: packets as u32,
            bytes: ((total / packets).ceil() as usize).clamp(VIDEO_BYTES_MIN, VIDEO_BYTES),
        }
    }
}

impl Video {
    /// The video of workload W1.
    pub const W1: Video = Video {
        rate: 30,
        frame_packets: 6,
        keyframe_packets: 40,
        keyframe_interval: 60,
    };
    /// The video of workload W2.
    pub const W2: Video = Video {
        rate: 60,
        frame_packets: 12,
        keyframe_packets: 80,
        keyframe_interval: 240,
    };

    /// Time between frames.
    pub fn frame_interval(self) -> Duration {
        Duration::from_secs(1) / self.rate
    }

    /// The datagrams of a frame.
    pub fn frame(self, is_keyframe: bool) -> FrameCut {
        FrameCut {
            packets: if is_keyframe {
                self.keyframe_packets
            } else {
                self.frame_packets
            },
            bytes: VIDEO_BYTES,
        }
    }

    /// Bits per second, including keyframes and RTP headers.
    pub fn bit_rate(self) -> f64 {
        self.packet_rate() * VIDEO_BYTES as f64 * 8.0
    }

    /// Packets per second, including keyframes.
    pub fn packet_rate(self) -> f64 {
        let more = f64::from(self.keyframe_packets - self.frame_packets) / self.keyframe_interval as f64;
        f64::from(self.rate) * (f64::from(self.frame_packets) + more)
    }
}

impl Workload {
    /// Its video, if any.
    pub fn video(self) -> Option<Video> {
        match self {
            Workload::W1 | Workload::W1a => Some(Video::W1),
            Workload::W2 => Some(Video::W2),
            Workload::Audio => None,
        }
    }

    /// It has audio: [`AUDIO_RATE`] packets per second of [`AUDIO_BYTES`].
    pub fn has_audio(self) -> bool {
        matches!(self, Workload::W1a | Workload::Audio)
    }

    /// Time between frames; audio packets count as frames when there is no video.
    pub fn frame_interval(self) -> Duration {
        let audio = Duration::from_secs(1) / AUDIO_RATE;
        self.video().map_or(audio, Video::frame_interval)
    }

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Workload::W1 => "w1",
            Workload::W1a => "w1a",
            Workload::W2 => "w2",
            Workload::Audio => "audio",
        }
    }
}

/// Makes a payload look like VP8 of 640 x 360 pixels.
pub fn write_vp8(is_keyframe: bool, is_first: bool, payload: &mut [u8]) {
    write_vp8_sized(is_keyframe, is_first, (640, 360), payload);
}

/// Makes a payload look like VP8. RFC 7741 section 4.2: the S bit marks the first packet of a frame. RFC 6386 section 9.1: bit 0 of the
/// frame tag is clear in keyframes, bit 4 says that the frame is shown; keyframes also carry their width and height.
pub fn write_vp8_sized(is_keyframe: bool, is_first: bool, (width, height): (u16, u16), payload: &mut [u8]) {
    payload[0] = if is_first { 0x10 } else { 0 };
    if is_first {
        payload[1] = 0x10 | u8::from(!is_keyframe);
        if is_keyframe {
            payload[4..7].copy_from_slice(&START_CODE);
            payload[7..9].copy_from_slice(&width.to_le_bytes());
            payload[9..11].copy_from_slice(&height.to_le_bytes());
        }
    }
}

const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];
/// The smallest datagram with an RTP header, names of a layer, a picture header, a stamp and an authentication tag.
const VIDEO_BYTES_MIN: usize = 120;
/// Bytes of a video datagram, including RTP header and authentication tag.
pub const VIDEO_BYTES: usize = 1_000;
/// Bytes of an audio datagram, likewise.
pub const AUDIO_BYTES: usize = 100;
/// Audio packets per second: 20 ms each.
pub const AUDIO_RATE: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::rtp::Codec;
    use onecast_rtc::rtp::keyframe::{picture_size, starts_frame, starts_keyframe};

    #[test]
    fn frames_and_keyframes_are_recognized_where_they_start() {
        for (is_keyframe, is_first) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut payload = [0x55; 100];
            write_vp8(is_keyframe, is_first, &mut payload);
            assert_eq!(starts_keyframe(Codec::Vp8, &payload), is_keyframe && is_first);
            assert_eq!(starts_frame(Codec::Vp8, &payload), is_first);
        }
    }

    #[test]
    fn keyframes_have_their_size() {
        let mut payload = [0x55; 100];
        write_vp8_sized(true, true, (1280, 720), &mut payload);
        assert_eq!(picture_size(Codec::Vp8, &payload), Some((1280, 720)));
        write_vp8(true, true, &mut payload);
        assert_eq!(picture_size(Codec::Vp8, &payload), Some((640, 360)));
    }

    #[test]
    fn scaled_frames_have_their_share_of_the_bytes() {
        let frame = Video::W1.frame(true);
        let scaled = |share| {
            let FrameCut { packets, bytes } = frame.scaled(share);
            (packets, bytes)
        };
        assert_eq!(frame.scaled(1.0), frame);
        assert_eq!(
            (scaled(0.075), scaled(0.25), scaled(2.0)),
            ((3, 1_000), (10, 1_000), (80, 1_000))
        );
        assert_eq!(Video::W1.frame(false).scaled(0.25).bytes, 750);
        assert_eq!(scaled(0.0001), (1, VIDEO_BYTES_MIN));
    }
}

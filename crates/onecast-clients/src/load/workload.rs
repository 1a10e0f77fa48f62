//! What is published: sizes and rhythm.

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

/// Rhythm of a video line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Video {
    /// Frames a second.
    pub rate: u32,
    /// Packets of a frame.
    pub frame_packets: u32,
    /// Packets of a keyframe.
    pub keyframe_packets: u32,
    /// Frames from one keyframe to the next.
    pub keyframe_interval: u64,
}

impl Video {
    /// Packets a second, keyframes among them.
    pub fn packet_rate(self) -> f64 {
        let more = f64::from(self.keyframe_packets - self.frame_packets) / self.keyframe_interval as f64;
        f64::from(self.rate) * (f64::from(self.frame_packets) + more)
    }
}

impl Workload {
    /// Its video line.
    pub fn video(self) -> Option<Video> {
        let video = |rate, frame_packets, keyframe_packets, keyframe_interval| Video {
            rate,
            frame_packets,
            keyframe_packets,
            keyframe_interval,
        };
        match self {
            Workload::W1 | Workload::W1a => Some(video(30, 6, 40, 60)),
            Workload::W2 => Some(video(60, 12, 80, 240)),
            Workload::Audio => None,
        }
    }

    /// It has an audio line: [`AUDIO_RATE`] packets a second of [`AUDIO_BYTES`].
    pub fn has_audio(self) -> bool {
        matches!(self, Workload::W1a | Workload::Audio)
    }

    /// Time between frames, of audio when there is no video.
    pub fn frame_interval(self) -> Duration {
        Duration::from_secs(1) / self.video().map_or(AUDIO_RATE, |video| video.rate)
    }

    /// As the option says it.
    pub fn name(self) -> &'static str {
        match self {
            Workload::W1 => "w1",
            Workload::W1a => "w1a",
            Workload::W2 => "w2",
            Workload::Audio => "audio",
        }
    }
}

/// Bytes of a video datagram, RTP header and authentication tag among them.
pub const VIDEO_BYTES: usize = 1_000;
/// Bytes of an audio datagram, likewise.
pub const AUDIO_BYTES: usize = 100;
/// Audio packets a second: 20 ms each.
pub const AUDIO_RATE: u32 = 50;

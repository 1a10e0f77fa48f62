//! Streams as the operator sees them.

use std::time::{Duration, Instant};

use onecast_engine::media::keyframes::KeyframeReading;
use onecast_rtc::rtp::{Codec, Kind};

use super::bounds::{LargePackets, large_packets};
use super::layers::watched_layers;
use super::liveness::{Liveness, liveness};
use super::sessions::Sessions;
use super::streams::StreamEntry;
use crate::StreamName;
use crate::layers::WatchedLayer;

/// What the registry knows of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamState {
    /// Its name.
    pub(crate) name: StreamName,
    /// Since when a publisher is connected or a member of the room is on air, as time since 1970; `None` when neither is.
    pub(crate) since: Option<Duration>,
    /// Whether its media arrives.
    pub(crate) liveness: Liveness,
    /// Connected viewers.
    pub(crate) viewers: usize,
    /// What the audio is sent in.
    pub(crate) audio: Option<Codec>,
    /// What the video is sent in.
    pub(crate) video: Option<Codec>,
    /// What is known of its keyframes.
    pub(crate) keyframes: KeyframeReading,
    /// Packets of its publisher that no Ethernet path carries whole.
    pub(crate) large: LargePackets,
    /// The layers of its video.
    pub(crate) layers: Vec<WatchedLayer>,
}

impl StreamState {
    pub(super) fn of(now: Instant, name: &StreamName, stream: &StreamEntry, sessions: &Sessions) -> StreamState {
        StreamState {
            name: name.clone(),
            since: stream.since,
            liveness: liveness(sessions, stream, now),
            viewers: stream.watching,
            audio: stream.codecs[Kind::Audio as usize],
            video: stream.codecs[Kind::Video as usize],
            keyframes: stream.tracks.video.keyframes().read(),
            large: large_packets(sessions, stream),
            layers: watched_layers(now, sessions, stream),
        }
    }
}

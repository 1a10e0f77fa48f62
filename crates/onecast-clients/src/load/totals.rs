//! What a run has counted over all viewers.

use std::time::Duration;

use super::histogram::Histogram;
use super::playback::Score;
use super::viewer::JoinTimes;

/// Sums and distributions.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Of every viewer that finished its handshake and has left.
    pub joins: Vec<JoinTimes>,
    /// Viewers that had an answer but no handshake.
    pub failed: u64,
    /// Viewers that the server refused.
    pub refused: u64,
    /// Times that the server asked a viewer to retry later.
    pub retried: u64,
    /// Viewers that left because of churn.
    pub left: u64,
    /// Viewers whose session the server ended, or that it no longer answers.
    pub ended: u64,
    /// DELETE requests that the server did not accept.
    pub goodbyes_failed: u64,
    /// Media packets of viewers that have left.
    pub delivered: u64,
    /// Packets that those viewers never received.
    pub lost: u64,
    /// Viewers whose losses are not known.
    pub unknown: u64,
    /// Packets that arrived, but that this process was too slow to read.
    pub own_drops: u64,
    /// Packets that verified viewers discarded on purpose.
    pub dropped_on_purpose: u64,
    /// Packets that could not be decrypted.
    pub unopened: u64,
    /// From the first request to the repair.
    pub repaired: Histogram,
    /// Frames received completely.
    pub whole_frames: u64,
    /// Times that the picture froze.
    pub freezes: u64,
    /// Total time that it was frozen.
    pub frozen: Duration,
    /// The longest freeze.
    pub freeze_longest: Duration,
    /// From the publisher to the viewer's socket, for each frame's last packet.
    pub delays: Histogram,
    /// Difference between the delays of consecutive frames.
    pub jitter: Histogram,
    /// Of the viewers that have left, by the class of their path.
    pub paths: Vec<PathTotals>,
}

/// What viewers behind paths of one class have counted.
#[derive(Debug, Clone, Default)]
pub struct PathTotals {
    /// Viewers.
    pub viewers: u64,
    /// What they saw.
    pub score: Score,
    /// From the POST to the first picture, of those that had one.
    pub pictures: Vec<Duration>,
    /// Datagrams that found the queue full.
    pub dropped: u64,
    /// Packets that they requested again, each as often as they did.
    pub requested: u64,
}

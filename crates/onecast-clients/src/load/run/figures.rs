//! What a run has counted so far, over all viewers.

use std::time::Duration;

use super::histogram::Histogram;
use crate::load::joiner::JoinTimes;

/// Sums and spreads.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Of every viewer that got its keys.
    pub(super) joins: Vec<JoinTimes>,
    /// Viewers that never got them although they had an answer.
    pub(super) failed: u64,
    /// Viewers that the server would not have.
    pub(super) refused: u64,
    /// Times that a viewer was told to come back later.
    pub(super) retried: u64,
    /// Viewers that left because of churn.
    pub(super) left: u64,
    /// Viewers whose session the server ended, or that it answers no more.
    pub(super) ended: u64,
    /// Goodbyes that the server did not take.
    pub(super) goodbyes_failed: u64,
    /// Media packets of viewers that are gone.
    pub(super) delivered: u64,
    /// Packets that those never got.
    pub(super) lost: u64,
    /// Viewers of which nobody knows what they lost.
    pub(super) unknown: u64,
    /// Packets that came and that this process was too slow to read.
    pub(super) own_drops: u64,
    /// Of verified viewers: packets thrown away on purpose.
    pub(super) dropped_on_purpose: u64,
    /// From the first request to the repair.
    pub(super) repaired: Histogram,
    /// Frames of which every packet came.
    pub(super) whole_frames: u64,
    /// Pictures that stood.
    pub(super) freezes: u64,
    /// All the time that they stood.
    pub(super) frozen: Duration,
    /// The longest time.
    pub(super) freeze_longest: Duration,
    /// From the publisher to the viewer's socket, of each frame's last packet.
    pub(super) delays: Histogram,
    /// Between the delays of two frames in a row.
    pub(super) jitter: Histogram,
}

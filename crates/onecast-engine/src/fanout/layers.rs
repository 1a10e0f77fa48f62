//! Which layer of a stream each viewer is sent, and how much of it. Pure.
//!
//! A [`LayerControl`] is the state of one viewer that has a choice. It learns from the viewer's reception reports how long the oldest
//! unacknowledged packet has been under way and what was lost, and decides:
//!
//! ```text
//!  reports ──> Signal ── queue, loss ──> LayerControl ──> sending()   at once: whole, base temporal layer, keyframes, audio only
//!                                             │    └────> wanted()    switch to it at its next keyframe
//!                                             └─ ProbePlan ──> ProbeBudget (of the shard) ──> padding, probe_started, probe_ended
//! ```
//!
//! **Down** is fast and needs no test: the viewer is sent less within the frame, and the best layer that fits what its path delivers at
//! that layer's next keyframe. **Up** needs proof: the shard pads what the viewer is sent to more than the rate of the next layer, and
//! only if the path takes that without a queue or a loss the viewer gets the layer. Failures make the next attempt wait longer.
//!
//! Streams of one layer have a ladder of one [`LadderStep`]: below it there are only the temporal base layer, keyframes and audio.

mod control;
mod ladder;
mod probe;
mod signal;

pub use control::{LayerControl, Reason, Sending, StepLimit};
pub use ladder::{LadderStep, Millis};
pub use probe::{ProbeBudget, ProbePlan};
pub use signal::ReportNote;

/// Bits per second that may be spent on retransmissions to a viewer that is sent a layer of `rate` bits per second.
///
/// A fifth of the layer repairs 10 % loss twice. More would keep a path congested that is already too narrow: measured, pictures stayed
/// frozen for 18 s *after* a switch to a layer that fitted.
pub fn repair_rate(rate: u32) -> u32 {
    (rate / REPAIR_SHARE).clamp(REPAIR_RATE_MIN, REPAIR_RATE_MAX)
}

/// One bit in five.
const REPAIR_SHARE: u32 = 5;
/// Three packets a second, however low the layer.
const REPAIR_RATE_MIN: u32 = 32_000;
/// What a viewer is sent again at most, however high the layer.
const REPAIR_RATE_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests;

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

#[cfg(test)]
mod tests;

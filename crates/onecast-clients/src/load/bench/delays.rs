//! How long frames take from the publisher to viewers.

use std::time::Duration;

use crate::load::spread::Spread;
use crate::load::viewers::{FrameDelay, Viewers};

/// Times from the last packet's way out of the publisher to its arrival at the verified viewers, by the kernel's clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Delays {
    /// Of frames that are no keyframes.
    pub(super) frames: Spread,
    /// How far those are from the median of the same viewer.
    pub(super) jitter: Spread,
    /// Of keyframes.
    pub(super) keyframes: Spread,
}

impl Delays {
    pub(super) fn of(viewers: &Viewers, keyframe_interval: u64) -> Delays {
        let (mut frames, mut jitter, mut keyframes) = (Vec::new(), Vec::new(), Vec::new());
        for viewer in viewers.delays() {
            let (keys, others): (Vec<&FrameDelay>, Vec<&FrameDelay>) = viewer
                .iter()
                .partition(|frame| frame.frame.is_multiple_of(keyframe_interval));
            let of_viewer: Spread = others.iter().map(|frame| frame.delay).collect();
            let usual = of_viewer.percentile(50.0);
            jitter.extend(others.iter().map(|frame| frame.delay.abs_diff(usual)));
            frames.extend(others.iter().map(|frame| frame.delay));
            keyframes.extend(keys.iter().map(|frame| frame.delay));
        }
        let spread = |times: Vec<Duration>| times.into_iter().collect();
        Delays {
            frames: spread(frames),
            jitter: spread(jitter),
            keyframes: spread(keyframes),
        }
    }
}

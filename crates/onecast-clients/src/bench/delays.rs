//! Delays of frames from the publisher to the viewers.

use std::time::Duration;

use crate::load::receiver::FrameDelay;
use crate::load::spread::Spread;
use crate::load::viewer::LoadViewer;

/// Times from sending a frame's last packet to its arrival at the verified viewers, by the kernel's clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Delays {
    /// Of frames other than keyframes.
    pub(super) frames: Spread,
    /// Deviation of those from the median of the same viewer.
    pub(super) jitter: Spread,
    /// Of keyframes.
    pub(super) keyframes: Spread,
}

impl Delays {
    /// Delays of the frames that were sent from `start` on.
    pub(super) fn of<'a>(
        viewers: impl Iterator<Item = &'a LoadViewer>,
        start: Duration,
        keyframe_interval: u64,
    ) -> Delays {
        let (mut frames, mut jitter, mut keyframes) = (Vec::new(), Vec::new(), Vec::new());
        for viewer in viewers.filter(|viewer| viewer.is_verified()) {
            let measured = viewer.delays().iter().filter(|frame| frame.sent >= start);
            let (keys, others): (Vec<&FrameDelay>, Vec<&FrameDelay>) =
                measured.partition(|frame| frame.frame.is_multiple_of(keyframe_interval));
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

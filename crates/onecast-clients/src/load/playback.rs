//! What a viewer behind a modelled path sees: sizes, switches between layers, freezes. Without clock; times are since 1970.

use std::collections::BTreeMap;
use std::time::Duration;

/// Width and height in pixels, ordered by area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct PictureSize {
    area: u32,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

/// What one viewer has seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Playback {
    first: Option<Duration>,
    last: Option<Duration>,
    /// Of the picture that is shown.
    size: Option<PictureSize>,
    recent: RecentGaps,
    score: Score,
}

/// Sums over one viewer or several.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    /// Frames shown.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Changes of the picture's size, each of which is another layer.
    pub switches: u64,
    /// Pauses longer than three times the mean time between frames, and than that mean and 150 ms: what browsers call a freeze.
    pub freezes: u64,
    /// Their total time.
    pub frozen: Duration,
    /// The longest time between two frames.
    pub longest_gap: Duration,
    /// Time that each size was shown.
    pub shown: BTreeMap<PictureSize, Duration>,
}

/// The last times between frames, whose mean decides what a freeze is.
#[derive(Debug, Clone)]
struct RecentGaps {
    gaps: [Duration; RECENT],
    count: usize,
    sum: Duration,
}

impl PictureSize {
    /// A size.
    pub fn new(width: u16, height: u16) -> PictureSize {
        PictureSize {
            area: u32::from(width) * u32::from(height),
            width,
            height,
        }
    }
}

impl Playback {
    /// A frame was shown at `at`. `keyframe` is the size, if it is a keyframe whose size is known.
    pub(super) fn handle_frame(&mut self, at: Duration, keyframe: Option<PictureSize>) {
        self.first.get_or_insert(at);
        self.settle(at);
        if let Some(last) = self.last.replace(at) {
            self.recent.add(at.saturating_sub(last));
        }
        self.score.frames += 1;
        if let Some(size) = keyframe {
            self.score.keyframes += 1;
            let before = self.size.replace(size);
            self.score.switches += u64::from(before.is_some_and(|before| before != size));
        }
    }

    /// What was seen until `now`, when nothing more comes. `is_live`: a frame was due, so a long pause at the end is a freeze.
    pub(super) fn finish(mut self, now: Duration, is_live: bool) -> Score {
        if is_live {
            self.settle(now);
        }
        self.score
    }

    /// Counts the time since the last frame.
    fn settle(&mut self, now: Duration) {
        let Some(last) = self.last else { return };
        let gap = now.saturating_sub(last);
        self.score.longest_gap = self.score.longest_gap.max(gap);
        if self.recent.is_freeze(gap) {
            self.score.freezes += 1;
            self.score.frozen += gap;
        }
        if let Some(size) = self.size {
            *self.score.shown.entry(size).or_default() += gap;
        }
    }
}

impl Score {
    /// Adds what another viewer saw.
    pub(super) fn merge(&mut self, other: &Score) {
        self.frames += other.frames;
        self.keyframes += other.keyframes;
        self.switches += other.switches;
        self.freezes += other.freezes;
        self.frozen += other.frozen;
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        for (&size, &time) in &other.shown {
            *self.shown.entry(size).or_default() += time;
        }
    }

    /// Time that pictures were shown.
    pub fn watched(&self) -> Duration {
        self.shown.values().sum()
    }
}

impl RecentGaps {
    fn add(&mut self, gap: Duration) {
        let place = &mut self.gaps[self.count % RECENT];
        self.sum = self.sum + gap - std::mem::replace(place, gap);
        self.count += 1;
    }

    /// W3C webrtc-stats, `freezeCount`.
    fn is_freeze(&self, gap: Duration) -> bool {
        let count = self.count.min(RECENT) as u32;
        if count == 0 {
            return false;
        }
        let mean = self.sum / count;
        gap > (mean * 3).max(mean + FREEZE)
    }
}

impl Default for RecentGaps {
    fn default() -> RecentGaps {
        RecentGaps {
            gaps: [Duration::ZERO; RECENT],
            count: 0,
            sum: Duration::ZERO,
        }
    }
}

/// Frames whose mean distance counts.
const RECENT: usize = 30;
const FREEZE: Duration = Duration::from_millis(150);

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: PictureSize = size(320, 180);
    const HIGH: PictureSize = size(1_280, 720);

    const fn size(width: u16, height: u16) -> PictureSize {
        PictureSize {
            area: width as u32 * height as u32,
            width,
            height,
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn pauses_are_freezes_when_they_are_far_longer_than_usual() {
        let mut playback = Playback::default();
        playback.handle_frame(ms(1_000), Some(LOW));
        for number in 1..=10 {
            playback.handle_frame(ms(1_000 + 40 * number), None);
        }
        // At a mean of 40 ms, 190 ms are none and 191 ms are one.
        playback.handle_frame(ms(1_590), None);
        assert_eq!(playback.score.freezes, 0);
        for number in 1..=30 {
            playback.handle_frame(ms(1_590 + 40 * number), None);
        }
        playback.handle_frame(ms(2_790 + 191), None);
        let score = playback.finish(ms(2_990), true);
        assert_eq!((score.freezes, score.frozen), (1, ms(191)));
        assert_eq!((score.longest_gap, score.frames, score.keyframes), (ms(191), 43, 1));
    }

    #[test]
    fn sizes_of_keyframes_tell_the_layer_and_how_long_it_is_shown() {
        let mut playback = Playback::default();
        for (at, keyframe) in [
            (0, Some(LOW)),
            (100, None),
            (200, Some(HIGH)),
            (300, Some(HIGH)),
            (400, Some(LOW)),
        ] {
            playback.handle_frame(ms(at), keyframe);
        }
        let score = playback.finish(ms(450), true);
        assert_eq!(score.switches, 2);
        assert_eq!(score.shown, BTreeMap::from([(LOW, ms(250)), (HIGH, ms(200))]));
        assert_eq!(score.watched(), ms(450));
    }

    #[test]
    fn a_pause_at_the_end_counts_while_the_publisher_sends() {
        let mut playback = Playback::default();
        for at in [0, 40, 80] {
            playback.handle_frame(ms(at), Some(LOW));
        }
        assert_eq!(playback.clone().finish(ms(1_080), true).freezes, 1);
        assert_eq!(playback.finish(ms(1_080), false).freezes, 0);
    }

    #[test]
    fn scores_of_several_viewers_add_up() {
        let mut one = Score {
            frames: 10,
            longest_gap: ms(40),
            shown: BTreeMap::from([(LOW, ms(5))]),
            ..Score::default()
        };
        let other = Score {
            frames: 5,
            switches: 1,
            longest_gap: ms(90),
            shown: BTreeMap::from([(LOW, ms(5)), (HIGH, ms(1))]),
            ..Score::default()
        };
        one.merge(&other);
        assert_eq!(
            (one.frames, one.switches, one.longest_gap, one.watched()),
            (15, 1, ms(90), ms(11))
        );
    }

    #[test]
    fn sizes_are_ordered_by_area() {
        assert!(PictureSize::new(320, 180) < PictureSize::new(180, 640));
        assert_eq!(PictureSize::new(1_280, 720), HIGH);
    }
}

//! What viewers saw, by the class of their path.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Percentiles;
use crate::load::path::{PathClass, PathClasses};
use crate::load::playback::PictureSize;
use crate::load::publisher::LayerCounts;
use crate::load::spread::Spread;
use crate::load::totals::PathTotals;

/// What the viewers of one class of paths saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PathReport {
    /// Rate of the bottleneck, Mbit/s.
    pub mbit: f64,
    /// Time from the server to the viewer without a queue, ms.
    pub delay_ms: f64,
    /// Viewers.
    pub viewers: u64,
    /// Number of the layer that was shown, 1 for the smallest, averaged over time; `None` when no size was known.
    pub mean_layer: Option<f64>,
    /// The share of the time that each size was shown, the smallest first. Sizes that only viewers of other classes saw are among them.
    pub layers: Vec<ShownSize>,
    /// Changes of the layer, per minute and viewer.
    pub switches_per_minute: f64,
    /// Pauses that browsers count as freezes, of all viewers.
    pub freezes: u64,
    /// Share of the time that the picture was frozen, 0 to 1.
    pub frozen_share: f64,
    /// The longest time between two frames.
    pub longest_gap_ms: f64,
    /// Keyframes among the frames, 0 to 1.
    pub keyframe_share: f64,
    /// From the POST to the first picture.
    pub first_picture_ms: Percentiles,
    /// Datagrams that found the queue of the bottleneck full.
    pub dropped: u64,
    /// Packets that the viewers requested again, each as often as they did.
    pub requested: u64,
}

/// A size of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ShownSize {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Share of the time that it was shown, 0 to 1.
    pub share: f64,
}

/// A report for each class. The layers are those that were published, and all that were seen.
pub(super) fn reports(classes: &PathClasses, totals: &[PathTotals], published: &[LayerCounts]) -> Vec<PathReport> {
    let seen = totals.iter().flat_map(|totals| totals.score.shown.keys().copied());
    let sent = published.iter().filter(|layer| layer.is_sent);
    let sizes: BTreeSet<PictureSize> = sent
        .map(|layer| PictureSize::new(layer.width, layer.height))
        .chain(seen)
        .collect();
    let classes = classes.as_slice().iter().zip(totals);
    classes
        .map(|(class, totals)| PathReport::of(class, totals, &sizes))
        .collect()
}

impl PathReport {
    fn of(class: &PathClass, totals: &PathTotals, sizes: &BTreeSet<PictureSize>) -> PathReport {
        let score = &totals.score;
        let watched = score.watched().as_secs_f64();
        let share = |time: Duration| {
            if watched > 0.0 {
                time.as_secs_f64() / watched
            } else {
                0.0
            }
        };
        let shown = |size| score.shown.get(size).copied().unwrap_or_default();
        let numbered = (1_u32..)
            .zip(sizes)
            .map(|(number, size)| f64::from(number) * share(shown(size)));
        let pictures: Spread = totals.pictures.iter().copied().collect();
        PathReport {
            mbit: class.rate / 1e6,
            delay_ms: ms(class.delay),
            viewers: totals.viewers,
            mean_layer: (watched > 0.0).then(|| numbered.sum()),
            layers: sizes
                .iter()
                .map(|size| ShownSize {
                    width: size.width,
                    height: size.height,
                    share: share(shown(size)),
                })
                .collect(),
            switches_per_minute: if watched > 0.0 {
                score.switches as f64 * 60.0 / watched
            } else {
                0.0
            },
            freezes: score.freezes,
            frozen_share: share(score.frozen),
            longest_gap_ms: ms(score.longest_gap),
            keyframe_share: score.keyframes as f64 / score.frames.max(1) as f64,
            first_picture_ms: Percentiles::from(&pictures),
            dropped: totals.dropped,
            requested: totals.requested,
        }
    }
}

impl fmt::Display for PathReport {
    /// Two lines, without the end of the second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PathReport {
            mbit,
            delay_ms,
            viewers,
            ..
        } = self;
        write!(f, "\npath        {mbit} Mbit/s, {delay_ms:.0} ms: {viewers} viewers")?;
        if let Some(mean) = self.mean_layer {
            write!(f, ", mean layer {mean:.2} of {} (", self.layers.len())?;
            for (index, layer) in self.layers.iter().enumerate() {
                let before = if index == 0 { "" } else { ", " };
                write!(
                    f,
                    "{before}{}x{} {:.0} %",
                    layer.width,
                    layer.height,
                    layer.share * 100.0
                )?;
            }
            write!(f, "), {:.1} switches a minute", self.switches_per_minute)?;
        }
        write!(
            f,
            "\n            {} freezes, {:.1} % of the time, longest gap {:.0} ms, {:.1} % keyframes, ",
            self.freezes,
            self.frozen_share * 100.0,
            self.longest_gap_ms,
            self.keyframe_share * 100.0,
        )?;
        let Percentiles { p50, p99, count, .. } = self.first_picture_ms;
        match count {
            0 => write!(f, "no picture, ")?,
            _ => write!(f, "first picture {p50:.0} ms (p99 {p99:.0} ms) of {count} viewers, ")?,
        }
        write!(
            f,
            "{} datagrams dropped, {} packets requested",
            self.dropped, self.requested
        )
    }
}

fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::playback::Score;
    use std::collections::BTreeMap;

    fn totals(shown: &[(u16, u64)]) -> PathTotals {
        let size = |height: u16| PictureSize::new(height / 9 * 16, height);
        let shown = shown
            .iter()
            .map(|&(height, seconds)| (size(height), Duration::from_secs(seconds)));
        PathTotals {
            viewers: 2,
            score: Score {
                frames: 100,
                keyframes: 4,
                switches: 3,
                freezes: 1,
                frozen: Duration::from_secs(1),
                longest_gap: Duration::from_millis(1_000),
                shown: BTreeMap::from_iter(shown),
            },
            pictures: vec![Duration::from_millis(40), Duration::from_millis(60)],
            dropped: 5,
            requested: 6,
        }
    }

    #[test]
    fn the_mean_layer_is_weighted_by_time() {
        let classes: PathClasses = "5:50%,1:50%".parse().unwrap();
        let all = [totals(&[(180, 5), (360, 5), (720, 30)]), totals(&[(180, 15), (360, 5)])];
        let reports = reports(&classes, &all, &[]);
        let means: Vec<Option<f64>> = reports.iter().map(|report| report.mean_layer).collect();
        assert_eq!(means, [Some(2.625), Some(1.25)]);
        let shares: Vec<f64> = reports[1].layers.iter().map(|layer| layer.share).collect();
        assert_eq!(shares, [0.75, 0.25, 0.0]);
        assert_eq!((reports[1].switches_per_minute, reports[1].frozen_share), (9.0, 0.05));
        assert_eq!(
            (reports[1].keyframe_share, reports[1].first_picture_ms.max),
            (0.04, 60.0)
        );
    }

    #[test]
    fn a_path_without_pictures_has_no_mean_layer() {
        let classes: PathClasses = "5:100%".parse().unwrap();
        let reports = reports(&classes, &[PathTotals::default()], &[]);
        assert_eq!((reports[0].mean_layer, reports[0].switches_per_minute), (None, 0.0));
        assert!(reports[0].to_string().contains("no picture"));
    }

    #[test]
    fn the_table_has_two_lines_for_each_class() {
        let classes: PathClasses = "1:100%:60ms".parse().unwrap();
        let text = reports(&classes, &[totals(&[(180, 15), (360, 5)])], &[])[0].to_string();
        assert_eq!(
            text,
            "\npath        1 Mbit/s, 60 ms: 2 viewers, mean layer 1.25 of 2 (320x180 75 %, 640x360 25 %), 9.0 switches a minute\
             \n            1 freezes, 5.0 % of the time, longest gap 1000 ms, 4.0 % keyframes, first picture 40 ms (p99 60 ms) of 2 viewers, \
             5 datagrams dropped, 6 packets requested"
        );
    }
}

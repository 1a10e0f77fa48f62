//! Results of many joins as one table row.

use super::join::Join;

pub(crate) const HEAD: &str = "codec | size | variant | joins | click to first frame p50, p95, max | POST p50 | in step after p50, p95 | \
     lag at 5 s, 8 s (worst) | freezes, longest sum | frames dropped | jitter buffer joiner, reference | \
     sound late by: joiner, reference | estimated: joiner, reference | unreadable | keyframe requests";

/// The cells after codec, size and variant.
pub(crate) fn row(joins: &[Join], keyframe_requests: u64) -> String {
    let first = Sorted::of(joins.iter().map(|join| join.first_ms));
    let post = Sorted::of(joins.iter().map(|join| Some(join.post_ms)));
    let step = Sorted::of(joins.iter().map(Join::in_step_ms));
    let frozen = joins.iter().map(|join| join.frozen_ms).fold(0.0, f64::max);
    let sum = |count: fn(&Join) -> u32| joins.iter().map(count).sum::<u32>();
    let pair = |of: fn(&Join) -> (Option<f64>, Option<f64>)| {
        let joiner = Sorted::of(joins.iter().map(|join| of(join).0).filter(Option::is_some));
        let reference = Sorted::of(joins.iter().map(|join| of(join).1).filter(Option::is_some));
        format!("{}, {} ms", joiner.at(50), reference.at(50))
    };
    let lips = |of: fn(&Join) -> &Vec<f64>| Sorted::of(joins.iter().flat_map(of).map(|lip| Some(*lip)));
    format!(
        "{} | {}, {}, {} ms | {} ms | {}, {} ms | {}, {} ms | {}, {frozen:.0} ms | {} | {} | {}, {} ms | {} | {} | {keyframe_requests}",
        joins.len(),
        first.at(50),
        first.at(95),
        first.at(100),
        post.at(50),
        step.at(50),
        step.at(95),
        worst_lag(joins, 5_000.0),
        worst_lag(joins, Join::WATCHED_MS - 300.0),
        sum(|join| join.freezes),
        sum(|join| join.dropped),
        pair(|join| join.buffer_ms),
        lips(|join| &join.lips_ms.0).at(50),
        lips(|join| &join.lips_ms.1).at(50),
        pair(|join| join.playout_ms),
        sum(|join| join.unreadable),
    )
}

/// One join, to trace where a figure comes from.
pub(crate) fn line(join: &Join) -> String {
    let ms = |value: Option<f64>| value.map_or("none".to_owned(), |value| format!("{value:.0}"));
    let seconds = join.phase as f64 / super::picture::Picture::FRAME_RATE as f64;
    format!(
        "joined {seconds:4.1} s after the keyframe: POST {:.0}, first frame {}, in step {}, lag at 2 s {}, 5 s {}, 8 s {} ms, \
         sound late by {:.0?}, reference {:.0?} ms",
        join.post_ms,
        ms(join.first_ms),
        ms(join.in_step_ms()),
        ms(join.lag_ms(2_000.0)),
        ms(join.lag_ms(5_000.0)),
        ms(join.lag_ms(Join::WATCHED_MS - 300.0)),
        join.lips_ms.0,
        join.lips_ms.1,
    )
}

fn worst_lag(joins: &[Join], at: f64) -> String {
    let lags = joins.iter().map(|join| join.lag_ms(at));
    // Without a picture, the lag is the maximum.
    let worst = lags.max_by(|a, b| size(*a).total_cmp(&size(*b))).flatten();
    worst.map_or("none".to_owned(), |lag| format!("{lag:.0}"))
}

fn size(lag: Option<f64>) -> f64 {
    lag.map_or(f64::INFINITY, f64::abs)
}

/// Sorted values; missing ones are last.
struct Sorted(Vec<f64>);

impl Sorted {
    fn of(values: impl Iterator<Item = Option<f64>>) -> Sorted {
        let mut values: Vec<f64> = values.map(|value| value.unwrap_or(f64::INFINITY)).collect();
        values.sort_by(f64::total_cmp);
        Sorted(values)
    }

    /// Nearest-rank percentile.
    fn at(&self, percent: usize) -> String {
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        match self.0.get(rank) {
            None => "-".to_owned(),
            Some(value) if value.is_infinite() => "never".to_owned(),
            Some(value) => format!("{value:.0}"),
        }
    }
}

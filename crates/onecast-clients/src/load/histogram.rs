//! Percentiles of many durations in little memory.

use std::time::Duration;

use serde::Serialize;

use super::spread::Spread;

/// Counts durations in buckets of 1 %: memory does not grow with the run.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Histogram {
    /// Adds a duration.
    pub fn add(&mut self, time: Duration) {
        let bucket = ((time.as_nanos().max(1) as f64).ln() / STEP.ln()) as usize;
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(time);
    }

    /// Nearest-rank percentile, at most 1 % too long; zero when empty.
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = ((percent / 100.0 * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        let upper = |bucket: usize| Duration::from_nanos(STEP.powi(bucket as i32 + 1) as u64);
        bucket.map_or(Duration::ZERO, upper).min(self.max)
    }
}

/// Percentiles of durations, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Percentiles {
    /// Number of durations.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Maximum.
    pub max: f64,
}

impl Percentiles {
    fn of(count: u64, percentile: impl Fn(f64) -> Duration) -> Percentiles {
        // More than microseconds would be noise.
        let ms = |percent| percentile(percent).as_micros() as f64 / 1e3;
        Percentiles {
            count,
            p50: ms(50.0),
            p95: ms(95.0),
            p99: ms(99.0),
            max: ms(100.0),
        }
    }
}

impl From<&Histogram> for Percentiles {
    fn from(histogram: &Histogram) -> Percentiles {
        Percentiles::of(histogram.count, |percent| histogram.percentile(percent))
    }
}

impl From<&Spread> for Percentiles {
    fn from(spread: &Spread) -> Percentiles {
        Percentiles::of(spread.len() as u64, |percent| spread.percentile(percent))
    }
}

/// Ratio between consecutive buckets.
const STEP: f64 = 1.01;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_accurate_to_one_percent_and_the_maximum_is_exact() {
        let mut histogram = Histogram::default();
        for ms in (1..=1_000).rev() {
            histogram.add(Duration::from_millis(ms));
        }
        for (percent, ms) in [(50.0, 500.0), (95.0, 950.0), (99.0, 990.0)] {
            let got = histogram.percentile(percent).as_secs_f64() * 1e3;
            assert!((ms..=ms * 1.0101).contains(&got), "{percent}: {got}");
        }
        assert_eq!(histogram.percentile(100.0), Duration::from_secs(1));
        let all = Percentiles::from(&histogram);
        assert_eq!((all.count, all.max), (1_000, 1_000.0));
    }

    #[test]
    fn an_empty_histogram_and_a_zero_duration_give_zero() {
        let mut histogram = Histogram::default();
        assert_eq!(Percentiles::from(&histogram), Percentiles::default());
        histogram.add(Duration::ZERO);
        assert_eq!(histogram.percentile(50.0), Duration::ZERO);
    }
}

//! Distribution of measured durations.

use std::fmt;
use std::time::Duration;

/// Sorted durations.
#[derive(Debug, Clone, Default)]
pub struct Spread(Vec<Duration>);

impl Spread {
    /// Nearest-rank percentile; zero when empty.
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0
            .get(rank.clamp(1, self.0.len().max(1)) - 1)
            .copied()
            .unwrap_or_default()
    }

    /// Number of durations.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// It has no durations.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Duration> for Spread {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Spread {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Spread(times)
    }
}

impl fmt::Display for Spread {
    /// p50, p95, p99 and the maximum in milliseconds, in columns of nine.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for percent in [50.0, 95.0, 99.0, 100.0] {
            write!(f, "{:>9.2}", self.percentile(percent).as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(ms: impl IntoIterator<Item = u64>) -> Spread {
        ms.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_use_the_nearest_rank() {
        let hundred = spread((1..=100).rev());
        let ms = |percent| hundred.percentile(percent).as_millis();
        assert_eq!((ms(50.0), ms(95.0), ms(99.0), ms(100.0), ms(0.0)), (50, 95, 99, 100, 1));
        assert_eq!(spread([7]).percentile(50.0), Duration::from_millis(7));
        assert_eq!(spread([7, 9]).percentile(99.0), Duration::from_millis(9));
        assert_eq!(spread([]).percentile(50.0), Duration::ZERO);
    }

    #[test]
    fn a_line_has_four_columns() {
        assert_eq!(spread([1, 2]).to_string(), "     1.00     2.00     2.00     2.00");
    }
}

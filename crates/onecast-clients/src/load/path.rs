//! Network paths that are modelled inside the receiving client: a bottleneck with a queue, and a delay. They need no sockets or threads, so
//! that thousands stay cheap.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A kind of path, and the share of the viewers behind such paths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathClass {
    /// Rate of the bottleneck, bits per second.
    pub rate: f64,
    /// Share of the viewers, 0 to 1.
    pub share: f64,
    /// Time from the server to the viewer without a queue.
    pub delay: Duration,
}

/// All kinds of paths of a load. Their shares add up to 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PathClasses(Vec<PathClass>);

/// The path of one viewer, in the direction to it. Times are since 1970, like arrival times.
#[derive(Debug)]
pub(super) struct ModelledPath {
    class: PathClass,
    /// When the bottleneck has sent what it has accepted.
    free_at: Duration,
    /// Datagrams on the way, by time of delivery.
    held: VecDeque<(Duration, Vec<u8>)>,
    /// Datagrams that found the queue full.
    pub(super) dropped: u64,
}

/// Why an option is not a list of paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathsError {
    /// A field has another form.
    #[error("expected Mbit/s:share[:delay], separated by commas, such as 5:80%,1:20%:60ms")]
    Form,
    /// Some viewers have no path, or several.
    #[error("the shares add up to {0} %, not 100 %")]
    Shares(String),
}

impl PathClasses {
    /// The classes, in the order of the option.
    pub fn as_slice(&self) -> &[PathClass] {
        &self.0
    }

    /// The class of the next viewer, so that the classes have their shares at any time. `taken` counts the viewers of each class.
    pub(super) fn next(&self, taken: &[u32]) -> Option<usize> {
        let total = 1 + taken.iter().sum::<u32>();
        let deficit = |index: &usize| self.0[*index].share * f64::from(total) - f64::from(taken[*index]);
        (0..self.0.len()).max_by(|a, b| deficit(a).total_cmp(&deficit(b)))
    }
}

impl FromStr for PathClasses {
    type Err = PathsError;

    fn from_str(text: &str) -> Result<PathClasses, PathsError> {
        let classes: Option<Vec<PathClass>> = text.split(',').map(path_class).collect();
        let classes = classes.ok_or(PathsError::Form)?;
        let sum: f64 = classes.iter().map(|class| class.share).sum();
        if (sum - 1.0).abs() > SHARES_INACCURACY {
            return Err(PathsError::Shares(format!("{:.1}", sum * 100.0)));
        }
        Ok(PathClasses(classes))
    }
}

impl fmt::Display for PathClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Mbit/s, {} ms", self.rate / 1e6, self.delay.as_millis())
    }
}

/// `5:80%` or `5:80%:60ms`
fn path_class(text: &str) -> Option<PathClass> {
    let mut fields = text.trim().split(':');
    let rate: f64 = fields.next()?.trim().parse().ok()?;
    let percent: f64 = fields.next()?.trim().strip_suffix('%')?.trim_end().parse().ok()?;
    let delay = match fields.next() {
        Some(delay) => crate::values::duration(delay.trim()).ok()?,
        None => DELAY,
    };
    let is_possible = (0.01..=10_000.0).contains(&rate) && (0.0..=100.0).contains(&percent) && delay <= DELAY_MAX;
    (is_possible && fields.next().is_none()).then_some(PathClass {
        rate: rate * 1e6,
        share: percent / 100.0,
        delay,
    })
}

impl ModelledPath {
    /// A path without traffic.
    pub(super) fn new(class: PathClass) -> ModelledPath {
        ModelledPath {
            class,
            free_at: Duration::ZERO,
            held: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Accepts a datagram that the server sent at `now`, or drops it because the queue is full.
    pub(super) fn push(&mut self, now: Duration, datagram: &[u8]) {
        // Arrival times of the kernel may be out of order by microseconds.
        let start = self.free_at.max(now);
        if start - now > QUEUE {
            self.dropped += 1;
            return;
        }
        let bits = (datagram.len() + UDP_IP_BYTES) as f64 * 8.0;
        self.free_at = start + Duration::from_secs_f64(bits / self.class.rate);
        self.held
            .push_back((self.free_at + self.class.delay, datagram.to_vec()));
    }

    /// When the next datagram is delivered.
    pub(super) fn next_delivery(&self) -> Option<Duration> {
        self.held.front().map(|(due, _)| *due)
    }

    /// The next datagram that is delivered by `now`, with its time of delivery.
    pub(super) fn pop(&mut self, now: Duration) -> Option<(Duration, Vec<u8>)> {
        self.next_delivery().filter(|due| *due <= now)?;
        self.held.pop_front()
    }
}

/// Without another one in the option.
const DELAY: Duration = Duration::from_millis(20);
/// Longer than around the world by satellite.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// The longest time that a datagram waits for the bottleneck.
const QUEUE: Duration = Duration::from_millis(300);
/// Headers of UDP and IPv4, which the bottleneck carries, too.
const UDP_IP_BYTES: usize = 28;
/// Shares such as 33.3 % are not exact.
const SHARES_INACCURACY: f64 = 0.005;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn classes(text: &str) -> Result<PathClasses, PathsError> {
        text.parse()
    }

    #[test]
    fn paths_have_a_rate_a_share_and_perhaps_a_delay() {
        let classes = classes("5:80%, 1:20%:60ms").unwrap();
        let facts = classes
            .as_slice()
            .iter()
            .map(|class| (class.rate, class.share, class.delay));
        assert_eq!(facts.collect::<Vec<_>>(), [(5e6, 0.8, ms(20)), (1e6, 0.2, ms(60))]);
        assert_eq!(classes.as_slice()[1].to_string(), "1 Mbit/s, 60 ms");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "5",
            "5:80",
            "5:100%:60ms:1",
            "0:100%",
            "x:100%",
            "5:100%:1h",
            "5:100%,",
            "-5:100%",
            "NaN:100%",
        ] {
            assert_eq!(classes(text), Err(PathsError::Form), "{text}");
        }
        assert_eq!(classes("5:80%,1:10%"), Err(PathsError::Shares("90.0".to_owned())));
        assert!(classes("5:33.3%,2:33.3%,1:33.3%").is_ok());
    }

    #[test]
    fn viewers_are_spread_over_the_classes_by_their_shares() {
        let classes = classes("5:80%,1:20%").unwrap();
        let mut taken = [0, 0];
        for count in 1..=100 {
            taken[classes.next(&taken).unwrap()] += 1;
            assert!((f64::from(taken[1]) - f64::from(count) * 0.2).abs() <= 1.0, "{taken:?}");
        }
        assert_eq!(taken, [80, 20]);
        assert_eq!(PathClasses::default().next(&[]), None);
    }

    fn path(rate: f64) -> ModelledPath {
        ModelledPath::new(PathClass {
            rate,
            share: 1.0,
            delay: ms(20),
        })
    }

    #[test]
    fn datagrams_leave_at_the_rate_of_the_bottleneck_and_arrive_after_the_delay() {
        let mut path = path(1e6);
        path.push(ms(1_000), &[0; 1_222]);
        path.push(ms(1_000), &[1; 1_222]);
        assert_eq!(path.next_delivery(), Some(ms(1_030)));
        assert_eq!(path.pop(ms(1_029)), None);
        assert_eq!(
            path.pop(ms(1_040)).map(|(due, datagram)| (due, datagram[0])),
            Some((ms(1_030), 0))
        );
        assert_eq!(
            path.pop(ms(1_040)).map(|(due, datagram)| (due, datagram[0])),
            Some((ms(1_040), 1))
        );
        assert_eq!((path.pop(ms(9_999)), path.next_delivery()), (None, None));
        path.push(ms(2_000), &[2; 1_222]);
        assert_eq!(path.next_delivery(), Some(ms(2_030)));
    }

    #[test]
    fn a_full_queue_drops_and_drains() {
        let mut path = path(1e6);
        // 10 ms each: those behind 300 ms of others are dropped.
        for _ in 0..50 {
            path.push(ms(1_000), &[0; 1_222]);
        }
        assert_eq!((path.held.len(), path.dropped), (31, 19));
        path.push(ms(1_010), &[0; 1_222]);
        assert_eq!((path.held.len(), path.dropped), (32, 19));
    }
}

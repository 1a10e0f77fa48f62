//! Whether the media threads still turn: each counts its turns, and a count that stands still for too long is a thread that is stuck.

use std::time::{Duration, Instant};

/// What was last seen of each thread.
#[derive(Debug)]
pub struct Watchdog {
    threads: Vec<(u64, Instant)>,
}

impl Watchdog {
    /// A thread without work turns twice a second; one that has not for this long does nothing for its peers either.
    pub const STUCK_TIMEOUT: Duration = Duration::from_secs(5);

    /// So many threads, seen alive at `now`.
    pub fn new(threads: usize, now: Instant) -> Watchdog {
        Watchdog {
            threads: vec![(0, now); threads],
        }
    }

    /// The threads have turned so often by now. Called about once a second.
    pub fn handle_turns(&mut self, now: Instant, turns: impl Iterator<Item = u64>) {
        for ((known, at), turns) in self.threads.iter_mut().zip(turns) {
            if *known != turns {
                (*known, *at) = (turns, now);
            }
        }
    }

    /// Threads whose count has not changed for too long. Without calls of [`handle_turns`](Self::handle_turns) these are all threads: none is known to turn.
    pub fn stuck(&self, now: Instant) -> Vec<usize> {
        let stands = |at: Instant| now.saturating_duration_since(at) > Watchdog::STUCK_TIMEOUT;
        let threads = self.threads.iter().enumerate();
        threads
            .filter(|(_, (_, at))| stands(*at))
            .map(|(thread, _)| thread)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stands_still_is_stuck_until_it_turns_again() {
        let start = onecast_udp::clock::now();
        let at = |second| start + Duration::from_secs(second);
        let mut watchdog = Watchdog::new(2, start);
        for second in 1..=20 {
            watchdog.handle_turns(at(second), [second * 2, second.min(3)].into_iter());
            let stuck = watchdog.stuck(at(second));
            assert_eq!(stuck, if second > 8 { vec![1] } else { vec![] }, "{second}");
        }
        watchdog.handle_turns(at(21), [42, 4].into_iter());
        assert!(watchdog.stuck(at(21)).is_empty());
    }

    #[test]
    fn without_readings_every_thread_is_stuck() {
        let start = onecast_udp::clock::now();
        let watchdog = Watchdog::new(1, start);
        assert!(watchdog.stuck(start + Watchdog::STUCK_TIMEOUT).is_empty());
        assert_eq!(
            watchdog.stuck(start + Watchdog::STUCK_TIMEOUT + Duration::from_millis(1)),
            [0]
        );
    }
}

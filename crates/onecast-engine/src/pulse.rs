//! Whether the media threads still turn: each counts its turns, and a count that stands still for too long is a thread that is stuck.

use std::time::{Duration, Instant};

/// What was last seen of each thread.
#[derive(Debug)]
pub struct Pulse {
    threads: Vec<(u64, Instant)>,
}

impl Pulse {
    /// A thread without work turns twice a second; one that has not for this long does nothing for its peers either.
    pub const PATIENCE: Duration = Duration::from_secs(5);

    /// So many threads, seen alive at `now`.
    pub fn new(threads: usize, now: Instant) -> Pulse {
        Pulse {
            threads: vec![(0, now); threads],
        }
    }

    /// The threads have turned so often by now. Called about once a second.
    pub fn feel(&mut self, now: Instant, turns: impl Iterator<Item = u64>) {
        for ((known, at), turns) in self.threads.iter_mut().zip(turns) {
            if *known != turns {
                (*known, *at) = (turns, now);
            }
        }
    }

    /// Threads whose count has not changed for too long. Without calls of [`feel`](Self::feel) these are all threads: none is known to turn.
    pub fn stuck(&self, now: Instant) -> Vec<usize> {
        let stands = |at: Instant| now.saturating_duration_since(at) > Pulse::PATIENCE;
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
        let mut pulse = Pulse::new(2, start);
        for second in 1..=20 {
            pulse.feel(at(second), [second * 2, second.min(3)].into_iter());
            let stuck = pulse.stuck(at(second));
            assert_eq!(stuck, if second > 8 { vec![1] } else { vec![] }, "{second}");
        }
        pulse.feel(at(21), [42, 4].into_iter());
        assert!(pulse.stuck(at(21)).is_empty());
    }

    #[test]
    fn without_readings_every_thread_is_stuck() {
        let start = onecast_udp::clock::now();
        let pulse = Pulse::new(1, start);
        assert!(pulse.stuck(start + Pulse::PATIENCE).is_empty());
        assert_eq!(pulse.stuck(start + Pulse::PATIENCE + Duration::from_millis(1)), [0]);
    }
}

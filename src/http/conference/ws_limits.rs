//! How much of what is wrong, and how many frames, a WebSocket's client may send.

use std::time::{Duration, Instant};

/// What a client has left. Pure: the time is an argument.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Frames that may come at once.
    left: u32,
    /// When that was counted.
    since: Instant,
    errors_in_a_row: u32,
}

/// What is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMuch {
    #[error("more than {PER_SECOND} frames a second")]
    Frames,
    #[error("{ERRORS_MAX} frames in a row that could not be done")]
    Errors,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Pace {
        Pace {
            left: BURST,
            since: now,
            errors_in_a_row: 0,
        }
    }

    /// A frame came.
    pub(crate) fn handle_frame(&mut self, now: Instant) -> Result<(), TooMuch> {
        let passed = now.saturating_duration_since(self.since);
        let earned = u32::try_from(passed.as_millis() / EACH.as_millis()).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(BURST);
        self.since = match earned {
            0..BURST => self.since + EACH * earned,
            _ => now,
        };
        self.left = self.left.checked_sub(1).ok_or(TooMuch::Frames)?;
        Ok(())
    }

    /// What the frame asked for was done.
    pub(crate) fn handle_success(&mut self) {
        self.errors_in_a_row = 0;
    }

    /// It could not be done.
    pub(crate) fn handle_error(&mut self) -> Result<(), TooMuch> {
        self.errors_in_a_row += 1;
        if self.errors_in_a_row >= ERRORS_MAX {
            return Err(TooMuch::Errors);
        }
        Ok(())
    }
}

/// Answers, offers and changes of somebody who clicks are a few in a second; a page that comes back sends all it has at once.
const BURST: u32 = 60;
const PER_SECOND: u32 = 20;
const EACH: Duration = Duration::from_millis(1_000 / PER_SECOND as u64);
/// Who is wrong so often does not read what is answered.
pub(crate) const ERRORS_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_udp::clock;

    #[test]
    fn a_burst_is_taken_and_then_as_many_as_time_has_passed_for() {
        let mut now = clock::now();
        let mut pace = Pace::new(now);
        for _ in 0..BURST {
            assert_eq!(pace.handle_frame(now), Ok(()));
        }
        assert_eq!(pace.handle_frame(now), Err(TooMuch::Frames));
        now += EACH * 3;
        let taken = (0..10).filter(|_| pace.handle_frame(now).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn a_long_pause_earns_no_more_than_a_burst() {
        let mut now = clock::now();
        let mut pace = Pace::new(now);
        now += Duration::from_secs(1_000_000_000);
        let taken = (0..1_000).filter(|_| pace.handle_frame(now).is_ok()).count();
        assert_eq!(taken, BURST as usize);
    }

    #[test]
    fn a_steady_pace_is_never_too_much() {
        let mut now = clock::now();
        let mut pace = Pace::new(now);
        for _ in 0..10_000 {
            assert_eq!(pace.handle_frame(now), Ok(()));
            now += EACH;
        }
    }

    #[test]
    fn errors_count_only_in_a_row() {
        let mut pace = Pace::new(clock::now());
        for _ in 0..3 {
            for _ in 1..ERRORS_MAX {
                assert_eq!(pace.handle_error(), Ok(()));
            }
            pace.handle_success();
        }
        for _ in 1..ERRORS_MAX {
            assert_eq!(pace.handle_error(), Ok(()));
        }
        assert_eq!(pace.handle_error(), Err(TooMuch::Errors));
    }
}

//! Limits on the frames and on the errors of a WebSocket client.

use std::time::{Duration, Instant};

/// The remaining budget of a client.
#[derive(Debug)]
pub(crate) struct WsLimits {
    /// Frames that the client may send at once.
    left: u32,
    /// When `left` was last updated.
    since: Instant,
    errors_in_a_row: u32,
}

/// The limit that a client has exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WsLimitExceeded {
    #[error("more than {PER_SECOND} frames a second")]
    Frames,
    #[error("{ERRORS_MAX} failed frames in a row")]
    Errors,
}

impl WsLimits {
    pub(crate) fn new(now: Instant) -> WsLimits {
        WsLimits {
            left: BURST,
            since: now,
            errors_in_a_row: 0,
        }
    }

    pub(crate) fn handle_frame(&mut self, now: Instant) -> Result<(), WsLimitExceeded> {
        let passed = now.saturating_duration_since(self.since);
        let earned = u32::try_from(passed.as_millis() / EACH.as_millis()).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(BURST);
        self.since = match earned {
            0..BURST => self.since + EACH * earned,
            _ => now,
        };
        self.left = self.left.checked_sub(1).ok_or(WsLimitExceeded::Frames)?;
        Ok(())
    }

    pub(crate) fn handle_success(&mut self) {
        self.errors_in_a_row = 0;
    }

    pub(crate) fn handle_error(&mut self) -> Result<(), WsLimitExceeded> {
        self.errors_in_a_row += 1;
        if self.errors_in_a_row >= ERRORS_MAX {
            return Err(WsLimitExceeded::Errors);
        }
        Ok(())
    }
}

/// A person who clicks causes a few frames a second; a page that reconnects sends all of its state at once.
const BURST: u32 = 60;
const PER_SECOND: u32 = 20;
const EACH: Duration = Duration::from_millis(1_000 / PER_SECOND as u64);
/// A client that fails this often ignores the responses.
pub(crate) const ERRORS_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_udp::clock;

    #[test]
    fn after_a_burst_frames_are_accepted_at_the_rate() {
        let mut now = clock::now();
        let mut limits = WsLimits::new(now);
        for _ in 0..BURST {
            assert_eq!(limits.handle_frame(now), Ok(()));
        }
        assert_eq!(limits.handle_frame(now), Err(WsLimitExceeded::Frames));
        now += EACH * 3;
        let taken = (0..10).filter(|_| limits.handle_frame(now).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn a_long_pause_allows_no_more_than_a_burst() {
        let mut now = clock::now();
        let mut limits = WsLimits::new(now);
        now += Duration::from_secs(1_000_000_000);
        let taken = (0..1_000).filter(|_| limits.handle_frame(now).is_ok()).count();
        assert_eq!(taken, BURST as usize);
    }

    #[test]
    fn a_steady_rate_is_always_accepted() {
        let mut now = clock::now();
        let mut limits = WsLimits::new(now);
        for _ in 0..10_000 {
            assert_eq!(limits.handle_frame(now), Ok(()));
            now += EACH;
        }
    }

    #[test]
    fn only_consecutive_errors_count() {
        let mut limits = WsLimits::new(clock::now());
        for _ in 0..3 {
            for _ in 1..ERRORS_MAX {
                assert_eq!(limits.handle_error(), Ok(()));
            }
            limits.handle_success();
        }
        for _ in 1..ERRORS_MAX {
            assert_eq!(limits.handle_error(), Ok(()));
        }
        assert_eq!(limits.handle_error(), Err(WsLimitExceeded::Errors));
    }
}

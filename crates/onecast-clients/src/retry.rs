//! Retries of a client after Retry-After of a busy server.

use std::time::Duration;

use super::signal::SignalError;

/// Counts the refusals of one joining client.
#[derive(Debug, Default)]
pub struct RetryPolicy {
    refusals: u32,
}

impl RetryPolicy {
    /// Refusals after which the client gives up: some minutes at the longest waits.
    pub const REFUSALS_MAX: u32 = 10;
    /// The longest single wait.
    pub const WAIT_MAX: Duration = Duration::from_secs(60);

    /// Time to wait before a retry; `None` when a retry would not help, or after too many refusals.
    ///
    /// `jitter`, from 0 to 1, spreads clients that were refused in the same second.
    pub fn after(&mut self, error: &SignalError, jitter: f64) -> Option<Duration> {
        let requested = error.retry_after()?;
        self.refusals += 1;
        let wait = requested.min(RetryPolicy::WAIT_MAX) + Duration::from_secs_f64(jitter.clamp(0.0, 1.0));
        (self.refusals <= RetryPolicy::REFUSALS_MAX).then_some(wait)
    }
}

/// Prints each wait, as text or as a JSON line.
pub(super) fn busy_reporter(json: bool) -> fn(&SignalError, Duration) {
    if json {
        |error, wait| {
            let wait_ms = wait.as_millis() as u64;
            println!(
                "{}",
                serde_json::json!({"event": "busy", "why": error.to_string(), "wait_ms": wait_ms})
            );
        }
    } else {
        |error, wait| eprintln!("{error}\ntrying again in {:.0} s", wait.as_secs_f64().ceil())
    }
}

/// A random number from 0 to 1 for [`RetryPolicy::after`].
pub(super) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness, clients only retry at the same moment.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn refused(status: u16, retry_after_s: Option<u64>) -> SignalError {
        SignalError::Refused {
            url: "http://h/whep/live".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            why: "The server is busy".to_owned(),
            retry_after: retry_after_s.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_busy_server_is_retried_after_the_given_time_and_jitter() {
        for status in [503, 429] {
            let wait = |chance| RetryPolicy::default().after(&refused(status, Some(3)), chance);
            assert_eq!(wait(0.0), Some(Duration::from_secs(3)));
            assert_eq!(wait(0.5), Some(Duration::from_millis(3_500)));
        }
        let chances: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
        assert!(chances.iter().any(|chance| chance != &chances[0]));
    }

    #[test]
    fn other_refusals_and_those_without_a_time_are_final() {
        for error in [
            refused(409, Some(3)),
            refused(404, None),
            refused(503, None),
            refused(422, Some(1)),
        ] {
            assert_eq!(RetryPolicy::default().after(&error, 0.0), None, "{error}");
        }
    }

    #[test]
    fn retries_are_limited_in_number_and_time() {
        let mut retries = RetryPolicy::default();
        let waits: Vec<_> = (0..20)
            .map_while(|_| retries.after(&refused(503, Some(86_400)), 0.0))
            .collect();
        assert_eq!(waits, [RetryPolicy::WAIT_MAX; RetryPolicy::REFUSALS_MAX as usize]);
    }
}

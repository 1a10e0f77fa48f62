//! How a client takes a busy server's word for when to come back.

use std::time::Duration;

use super::signal::SignalError;

/// Counts the refusals of one client that wants to join. Pure.
#[derive(Debug, Default)]
pub struct Patience {
    refusals: u32,
}

impl Patience {
    /// Refusals after which the client gives up: some minutes at the server's longest times.
    pub const REFUSALS_MAX: u32 = 10;
    /// No server is obeyed for longer than this at once.
    pub const WAIT_MAX: Duration = Duration::from_secs(60);

    /// How long to wait before asking again; `None` when the error is not of the kind that passes, or has come too often.
    ///
    /// `chance` from 0 to 1 spreads those who were told the same second over the next one.
    pub fn after(&mut self, error: &SignalError, chance: f64) -> Option<Duration> {
        let told = error.retry_after()?;
        self.refusals += 1;
        let wait = told.min(Patience::WAIT_MAX) + Duration::from_secs_f64(chance.clamp(0.0, 1.0));
        (self.refusals <= Patience::REFUSALS_MAX).then_some(wait)
    }
}

/// What a person, or a program that reads JSON lines, is told before each wait.
pub(super) fn teller(json: bool) -> fn(&SignalError, Duration) {
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

/// A number from 0 to 1 for [`Patience::after`].
pub(super) fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without chance many come in one beat, which is only a pity.
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
    fn a_busy_server_is_asked_again_when_it_said_and_a_little_later() {
        for status in [503, 429] {
            let wait = |chance| Patience::default().after(&refused(status, Some(3)), chance);
            assert_eq!(wait(0.0), Some(Duration::from_secs(3)));
            assert_eq!(wait(0.5), Some(Duration::from_millis(3_500)));
        }
        let chances: Vec<f64> = (0..100).map(|_| chance()).collect();
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
            assert_eq!(Patience::default().after(&error, 0.0), None, "{error}");
        }
    }

    #[test]
    fn patience_ends_and_no_server_is_obeyed_for_hours() {
        let mut patience = Patience::default();
        let waits: Vec<_> = (0..20)
            .map_while(|_| patience.after(&refused(503, Some(86_400)), 0.0))
            .collect();
        assert_eq!(waits, [Patience::WAIT_MAX; Patience::REFUSALS_MAX as usize]);
    }
}

//! The drain of a server before it stops: it accepts no new clients, and leaves with the last one, or when its time is over.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::control::Now;
use crate::port::DrainState;
use crate::refusal::Refusal;

/// What is wished of a drain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DrainOrder {
    /// Where new WHIP and WHEP clients are sent; `None` for nowhere: they are asked to come later.
    pub to: Option<Destination>,
    /// The server leaves after this time even if clients remain; `None` to wait until it is empty.
    pub timeout: Option<Duration>,
}

/// Where another server is: an `http` or `https` URL without query and fragment, to which the path of a stream is appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination(Box<str>);

/// The text is no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the URL of another server without a query, such as https://b.example.org")]
pub struct DestinationError;

/// A drain that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    order: DrainOrder,
    since: Instant,
    deadline: Option<Instant>,
}

impl Drain {
    /// Begins at `now`.
    pub fn new(order: DrainOrder, now: Instant) -> Drain {
        Drain {
            deadline: deadline(&order, now),
            order,
            since: now,
        }
    }

    /// Another order while it goes on: what it does not say stays, and the earlier time to leave counts.
    pub fn reorder(&mut self, order: DrainOrder, now: Instant) {
        self.deadline = [self.deadline, deadline(&order, now)].into_iter().flatten().min();
        self.order.to = order.to.or(self.order.to.take());
    }

    /// Where new clients are sent.
    pub fn to(&self) -> Option<&Destination> {
        self.order.to.as_ref()
    }

    /// How long it goes on.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// When the server leaves at the latest; zero when that is now.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.deadline.map(|at| at.saturating_duration_since(now))
    }
}

fn deadline(order: &DrainOrder, now: Instant) -> Option<Instant> {
    order.timeout.and_then(|timeout| now.checked_add(timeout))
}

/// Whether the server accepts clients.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    /// How it drains unless an order says otherwise.
    configured: DrainOrder,
    drain: Option<Drain>,
    /// When the log last said how far that is.
    reported: Option<Instant>,
    stopping: bool,
}

impl Lifecycle {
    /// How often the log says how far a drain is.
    const REPORT_INTERVAL: Duration = Duration::from_secs(10);

    pub(crate) fn new(configured: DrainOrder) -> Lifecycle {
        Lifecycle {
            configured,
            drain: None,
            reported: None,
            stopping: false,
        }
    }

    /// # Errors
    /// When the server accepts no new clients.
    pub(crate) fn check_open(&self) -> Result<(), Refusal> {
        match (self.stopping, &self.drain) {
            (true, _) => Err(Refusal::ShuttingDown),
            (false, Some(_)) => Err(Refusal::Draining),
            (false, None) => Ok(()),
        }
    }

    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Drains from now on, or changes a drain that goes on. True if event streams have to announce it.
    pub(crate) fn drain(&mut self, now: Instant, order: DrainOrder) -> bool {
        let Some(drain) = &mut self.drain else {
            let order = DrainOrder {
                to: order.to.or_else(|| self.configured.to.clone()),
                timeout: order.timeout.or(self.configured.timeout),
            };
            self.drain = Some(Drain::new(order, now));
            return true;
        };
        let before = drain.to().cloned();
        drain.reorder(order, now);
        drain.to() != before.as_ref()
    }

    /// How far the drain is; `None` without one.
    pub(crate) fn drain_state(&self, now: Now, sessions: usize) -> Option<DrainState> {
        let drain = self.drain.as_ref()?;
        Some(DrainState {
            since_unix: now.unix.saturating_sub(drain.age(now.instant)),
            to: drain.to().cloned(),
            left: drain.left(now.instant),
            sessions,
        })
    }

    /// The same when it is time that the log says it again.
    pub(crate) fn due_report(&mut self, now: Now, sessions: usize) -> Option<DrainState> {
        let age = self.drain.as_ref()?.age(now.instant);
        let since = self.reported.map(|at| now.instant.saturating_duration_since(at));
        if since.unwrap_or(age) < Lifecycle::REPORT_INTERVAL {
            return None;
        }
        self.reported = Some(now.instant);
        self.drain_state(now, sessions)
    }
}

impl Destination {
    /// Longest URL: it stands in a header.
    pub const BYTES_MAX: usize = 500;

    /// The URL there of what has this path, and query, here.
    pub fn of(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.0)
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Destination, DestinationError> {
        let text = text.trim().trim_end_matches('/');
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
        // What RFC 3986 lets a URL consist of, without what would begin a query, a fragment or user information.
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]/".contains(&byte);
        if host.is_empty() || host.starts_with(':') || text.len() > Destination::BYTES_MAX || !text.bytes().all(is_fine)
        {
            return Err(DestinationError);
        }
        Ok(Destination(text.into()))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_s_path_follows_the_destination() {
        for text in [
            "https://b.example.org",
            "https://b.example.org/",
            " https://b.example.org// ",
        ] {
            let to: Destination = text.parse().unwrap();
            assert_eq!(to.of("/whep/live?a=b"), "https://b.example.org/whep/live?a=b");
        }
        let to: Destination = "http://[2001:db8::1]:8080/onecast".parse().unwrap();
        assert_eq!(to.of("/whip/live"), "http://[2001:db8::1]:8080/onecast/whip/live");
    }

    #[test]
    fn invalid_server_urls_are_refused() {
        for text in [
            "",
            "b.example.org",
            "ftp://b.example.org",
            "https://",
            "https:///x",
            "http://:80",
            "https://b/?x",
            "https://b/#x",
            "https://u@b/",
            "https://b/\r\nX: y",
            "https://b/\u{e9}",
            &format!("https://{}", "b".repeat(500)),
        ] {
            assert_eq!(text.parse::<Destination>(), Err(DestinationError), "{text:?}");
        }
    }

    #[test]
    fn a_second_order_only_makes_it_sooner() {
        let now = onecast_udp::clock::now();
        let seconds = Duration::from_secs;
        let order = |to: Option<&str>, timeout| DrainOrder {
            to: to.map(|to| to.parse().unwrap()),
            timeout,
        };
        let mut drain = Drain::new(order(Some("http://a"), None), now);
        assert_eq!(drain.left(now), None);
        drain.reorder(order(None, Some(seconds(60))), now + seconds(10));
        assert_eq!(drain.left(now + seconds(10)), Some(seconds(60)));
        assert_eq!(drain.to().unwrap().to_string(), "http://a");
        drain.reorder(order(Some("http://b"), Some(seconds(600))), now + seconds(20));
        assert_eq!(drain.left(now + seconds(20)), Some(seconds(50)));
        assert_eq!(drain.to().unwrap().to_string(), "http://b");
        assert_eq!(drain.left(now + seconds(100)), Some(Duration::ZERO));
        assert_eq!(drain.age(now + seconds(100)), seconds(100));
    }
}

//! Times in JSON.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time since 1970 in UTC and whole seconds (RFC 3339), such as `2026-08-01T12:34:56Z`.
pub(crate) fn utc(since_1970: Duration) -> String {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    let time = OffsetDateTime::UNIX_EPOCH.saturating_add(time::Duration::seconds(seconds));
    time.format(&Rfc3339).expect("years up to 9999 have four digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_and_whole_seconds() {
        let utc = |since_1970| utc(Duration::from_millis(since_1970));
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(1_709_210_096_999), "2024-02-29T12:34:56Z");
    }
}

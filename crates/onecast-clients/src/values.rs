//! Value parsers of command-line options. Each error says what was expected.

use std::time::Duration;

/// Parses a duration: `500ms`, `3s`, `2m`, or a bare number of seconds; fractions are accepted.
///
/// # Errors
/// A sentence for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len()
        - text
            .trim_start_matches(|character: char| character.is_ascii_digit() || character == '.')
            .len();
    let (number, unit) = text.split_at(digits);
    let unit_seconds = match unit.trim() {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err("expected a time such as 500ms, 3s or 2m".to_owned()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a time such as 500ms, 3s or 2m".to_owned())?;
    Duration::try_from_secs_f64(number * unit_seconds).map_err(|_| "this time is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_bare_numbers_are_seconds() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("3s", 3_000),
            ("2m", 120_000),
            ("3", 3_000),
            ("1.5s", 1_500),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "3h",
            "-1",
            "1e3",
            "3 apples",
            "..s",
            "99999999999999999999999m",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

//! SDP as text: lines, and attributes in lines (RFC 8866 section 5). Linear, borrows everything.

use super::SdpError;

/// One `x=value` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    /// The letter before `=`.
    pub(super) letter: u8,
    /// All after `=`, without the line end. No control characters but tab.
    pub(super) value: &'a str,
}

/// The lines of a text; CRLF or LF, empty lines and indentation skipped. The first line that is not `x=value` is the last item, an error.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Result<Line<'_>, SdpError>> {
    text.split('\n').enumerate().filter_map(|(index, line)| {
        let line = line.trim_ascii();
        (!line.is_empty()).then(|| read_line(index + 1, line))
    })
}

/// Refuses texts that are longer than `limit` or empty before anything reads them.
pub(super) fn check_size(text: &str, limit: usize) -> Result<(), SdpError> {
    let len = text.len();
    if len > limit {
        return Err(SdpError::TooLong { len, limit });
    }
    if text.trim_ascii().is_empty() {
        return Err(SdpError::Empty);
    }
    Ok(())
}

/// Name and value of an `a=` line; the value is empty for a property attribute.
pub(super) fn attribute(value: &str) -> (&str, &str) {
    value.split_once(':').unwrap_or((value, ""))
}

/// A token of RFC 8866 section 9, at most `max` bytes: safe to repeat in an answer or an error message.
pub(super) fn is_token(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b))
}

fn read_line(number: usize, line: &str) -> Result<Line<'_>, SdpError> {
    match line.as_bytes() {
        [letter, b'=', ..] if letter.is_ascii_alphabetic() && !has_control_characters(line) => Ok(Line {
            number,
            letter: *letter,
            value: &line[2..],
        }),
        _ => Err(SdpError::BadLine { line: number }),
    }
}

/// Parts of lines are repeated in the answer, where a stray CR would begin a line of its own.
fn has_control_characters(line: &str) -> bool {
    line.bytes().any(|b| b.is_ascii_control() && b != b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crlf_lf_and_empty_lines_are_the_same() {
        let letters = |text: &str| {
            lines(text)
                .map(|l| l.map(|l| (l.letter, l.value.len())))
                .collect::<Vec<_>>()
        };
        assert_eq!(letters("v=0\r\n\r\ns=-\r\n"), [Ok((b'v', 1)), Ok((b's', 1))]);
        assert_eq!(letters("v=0\ns=-"), [Ok((b'v', 1)), Ok((b's', 1))]);
    }

    #[test]
    fn bad_lines_are_named_by_number() {
        let first_error = |text: &str| lines(text).find_map(Result::err);
        assert_eq!(first_error("v=0\r\nhello\r\n"), Some(SdpError::BadLine { line: 2 }));
        assert_eq!(first_error("v=0\n\n=x"), Some(SdpError::BadLine { line: 3 }));
        assert_eq!(first_error("a=x\ra=y\n"), Some(SdpError::BadLine { line: 1 }));
        assert_eq!(first_error("a=\0"), Some(SdpError::BadLine { line: 1 }));
        assert_eq!(first_error("é=1"), Some(SdpError::BadLine { line: 1 }));
    }

    #[test]
    fn attributes_are_split_at_the_first_colon() {
        assert_eq!(attribute("rtcp-mux"), ("rtcp-mux", ""));
        assert_eq!(attribute("fingerprint:sha-256 AA:BB"), ("fingerprint", "sha-256 AA:BB"));
    }
}

//! SDP as text: lines, and attributes in lines (RFC 8866 section 5). Linear, borrows everything.

use super::Fault;

/// One `x=value` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextLine<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    /// The letter before `=`.
    pub(super) letter: u8,
    /// All after `=`, without the line end. No control characters but tab.
    pub(super) value: &'a str,
}

/// The lines of a text, ended by CRLF or LF. Empty lines and indentation are skipped, and so are lines with control characters that
/// nothing depends on. The first line that is not `x=value` is an error, and the last item.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Result<TextLine<'_>, Fault>> {
    whole(text).split('\n').enumerate().filter_map(|(index, line)| {
        let line = line.trim_ascii();
        if line.is_empty() {
            return None;
        }
        read_line(index + 1, line).transpose()
    })
}

/// The text without what editors and programs add: a byte order mark, and the NUL that ends a string in C.
fn whole(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
        .trim_end_matches(|character: char| character == '\0' || character.is_ascii_whitespace())
}

/// Refuses texts that are longer than `limit` or empty before anything reads them.
pub(super) fn check_size(text: &str, limit: usize) -> Result<(), Fault> {
    let len = text.len();
    if len > limit {
        return Err(Fault::TooLong { len, limit });
    }
    if whole(text).trim_ascii().is_empty() {
        return Err(Fault::Empty);
    }
    Ok(())
}

/// Name and value of an `a=` line; the value is empty for a property attribute.
pub(super) fn attribute(value: &str) -> (&str, &str) {
    value.split_once(':').unwrap_or((value, ""))
}

/// The payload type that an attribute is about, and the rest of it; white space around the two does not matter.
pub(super) fn numbered(value: &str) -> Option<(&str, &str)> {
    let (number, rest) = value.trim_ascii().split_once([' ', '\t'])?;
    Some((number, rest.trim_ascii()))
}

/// A token of RFC 8866 section 9, at most `max` bytes: safe to repeat in an answer or an error message.
pub(super) fn is_token(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b))
}

/// `Ok(None)` for a line to skip.
fn read_line(number: usize, line: &str) -> Result<Option<TextLine<'_>>, Fault> {
    match line.as_bytes() {
        // Every m-line has to be answered. A first line with more in it than a version is a text without line ends.
        [b'm' | b'v', b'=', ..] if has_control_characters(line) => Err(Fault::BadLine { line: number }),
        [letter, b'=', ..] if letter.is_ascii_alphabetic() => {
            let line = TextLine {
                number,
                letter: *letter,
                value: &line[2..],
            };
            Ok(Some(line).filter(|line| !has_control_characters(line.value)))
        }
        _ => Err(Fault::BadLine { line: number }),
    }
}

/// The answer repeats parts of lines, and a stray CR would begin a line of its own there.
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
        assert_eq!(first_error("v=0\r\nhello\r\n"), Some(Fault::BadLine { line: 2 }));
        assert_eq!(first_error("v=0\n\n=x"), Some(Fault::BadLine { line: 3 }));
        assert_eq!(first_error("v=0\rs=-\ra=y\n"), Some(Fault::BadLine { line: 1 }));
        assert_eq!(first_error("m=audio 9\0"), None);
        assert_eq!(first_error("m=audio\0 9 x\n"), Some(Fault::BadLine { line: 1 }));
        assert_eq!(first_error("é=1"), Some(Fault::BadLine { line: 1 }));
    }

    #[test]
    fn byte_order_marks_nuls_and_odd_lines_are_skipped() {
        let values = |text: &'static str| lines(text).map(|line| line.unwrap().value).collect::<Vec<_>>();
        assert_eq!(values("\u{feff}v=0\r\ns=-\r\n\0"), ["0", "-"]);
        assert_eq!(values("v=0\r\na=x\0\0"), ["0", "x"]);
        assert_eq!(values("v=0\ns=a\u{7}b\na=x\ra=y\na=\tz\n"), ["0", "\tz"]);
        assert_eq!(check_size("\u{feff}\r\n\0", 9), Err(Fault::Empty));
    }

    #[test]
    fn attributes_are_split_at_the_first_colon() {
        assert_eq!(attribute("rtcp-mux"), ("rtcp-mux", ""));
        assert_eq!(attribute("fingerprint:sha-256 AA:BB"), ("fingerprint", "sha-256 AA:BB"));
    }
}

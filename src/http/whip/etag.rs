//! Entity tags: reading `If-Match` (RFC 9110 section 13.1.1) and writing `ETag` (section 8.8.3).

use axum::http::header::IF_MATCH;
use axum::http::{HeaderMap, HeaderValue};

use onecast_control::ice_session::Precondition;

/// `If-Match` is not valid by RFC 9110.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IfMatchError {
    /// Neither `*` nor a list of entity tags.
    #[error("If-Match is neither * nor a list of entity tags in double quotes")]
    Malformed,
    /// More than [`TAGS_MAX`].
    #[error("If-Match lists more than {TAGS_MAX} entity tags")]
    TooMany,
}

/// The value of `ETag` for a tag without quotes.
pub(crate) fn etag(tag: &str) -> HeaderValue {
    HeaderValue::try_from(format!("\"{tag}\"")).expect("tags of the server are hexadecimal digits")
}

/// The condition of the request. Several lines form one list. Weak tags are dropped, because `If-Match` compares strongly and they match
/// nothing.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Precondition, IfMatchError> {
    let lines: Vec<&[u8]> = headers.get_all(IF_MATCH).iter().map(HeaderValue::as_bytes).collect();
    match lines.as_slice() {
        [] => Ok(Precondition::Missing),
        [one] if one.trim_ascii() == b"*" => Ok(Precondition::Any),
        lines => read_list(&lines.join(&b',')),
    }
}

fn read_list(mut rest: &[u8]) -> Result<Precondition, IfMatchError> {
    let (mut tags, mut seen) = (Vec::new(), 0);
    loop {
        rest = rest.trim_ascii_start();
        // Empty elements are ignored (RFC 9110 section 5.6.1.2).
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            break;
        }
        let (strong, after) = read_tag(rest).ok_or(IfMatchError::Malformed)?;
        seen += 1;
        if seen > TAGS_MAX {
            return Err(IfMatchError::TooMany);
        }
        tags.extend(strong);
        rest = after.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return Err(IfMatchError::Malformed);
        }
    }
    if seen == 0 {
        return Err(IfMatchError::Malformed);
    }
    Ok(Precondition::Tags(tags))
}

/// The entity tag at the front, `None` in place of one that cannot match, and the rest.
fn read_tag(text: &[u8]) -> Option<(Option<Box<str>>, &[u8])> {
    let (is_weak, quoted) = match text.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let inner = quoted.strip_prefix(b"\"")?;
    let len = inner.iter().position(|&byte| byte == b'"')?;
    let (tag, after) = (&inner[..len], &inner[len + 1..]);
    if !tag.iter().all(|&byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)) {
        return None;
    }
    let tag = std::str::from_utf8(tag).ok().filter(|_| !is_weak);
    Some((tag.map(Box::from), after))
}

/// The body of the fuzz target.
#[doc(hidden)]
pub fn fuzz_if_match(data: &[u8]) {
    let lines = data
        .split(|&byte| byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers: HeaderMap = HeaderMap::new();
    let headers = lines.fold(headers, |mut headers, line| {
        headers.append(IF_MATCH, line);
        headers
    });
    if let Ok(Precondition::Tags(tags)) = if_match(&headers) {
        assert!(tags.len() <= TAGS_MAX);
        assert!(tags.iter().all(|tag| !tag.contains('"') && !tag.contains(' ')));
    }
}

/// Clients know one tag, or a few.
const TAGS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&'static str]) -> Result<Precondition, IfMatchError> {
        let lines = lines.iter().map(|line| (IF_MATCH, HeaderValue::from_static(line)));
        if_match(&lines.collect())
    }

    fn tags(tags: &[&str]) -> Result<Precondition, IfMatchError> {
        Ok(Precondition::Tags(tags.iter().map(|tag| Box::from(*tag)).collect()))
    }

    #[test]
    fn a_star_matches_any_and_a_missing_header_is_no_condition() {
        assert_eq!(read(&[]), Ok(Precondition::Missing));
        assert_eq!(read(&["*"]), Ok(Precondition::Any));
        assert_eq!(read(&["  * "]), Ok(Precondition::Any));
    }

    #[test]
    fn several_lines_are_one_list() {
        assert_eq!(read(&["\"a\""]), tags(&["a"]));
        assert_eq!(read(&["\"a\",\"b\" , \"\""]), tags(&["a", "b", ""]));
        assert_eq!(read(&[", ,\"a\",,"]), tags(&["a"]));
        assert_eq!(read(&["\"a\"", "\"b\""]), tags(&["a", "b"]));
        assert_eq!(read(&["\"a,b\""]), tags(&["a,b"]));
    }

    #[test]
    fn weak_tags_match_nothing() {
        assert_eq!(read(&["W/\"a\""]), tags(&[]));
        assert_eq!(read(&["W/\"a\", \"b\""]), tags(&["b"]));
    }

    #[test]
    fn malformed_lists_are_refused() {
        for line in [
            "",
            ",",
            "a",
            "\"a",
            "a\"",
            "\"a\" \"b\"",
            "\"a b\"",
            "w/\"a\"",
            "*, \"a\"",
            "\"a\", *",
            "W/",
            "\"a\"b",
        ] {
            assert_eq!(read(&[line]), Err(IfMatchError::Malformed), "{line}");
        }
        assert_eq!(read(&["*", "*"]), Err(IfMatchError::Malformed));
        let many: Vec<_> = std::iter::repeat_n("\"a\"", TAGS_MAX + 1).collect();
        assert_eq!(read(&many), Err(IfMatchError::TooMany));
    }
}

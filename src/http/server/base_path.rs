//! The path below which a proxy serves this server; every path that clients receive starts with it.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::HeaderName;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

/// A path such as `/rtc`, without a trailing slash; empty if the server is at the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BasePath(Arc<str>);

/// The text is not a base path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a path such as /rtc or /live/rtc, of letters, digits, dots, dashes, underscores and tildes")]
pub struct BasePathError;

impl BasePath {
    /// Longest path: it is part of every `Location` and `Link`.
    const BYTES_MAX: usize = 200;

    /// The path that proxies state in `X-Forwarded-Prefix`, the outermost proxy first; `None` if there is none or it is invalid.
    pub(crate) fn forwarded(headers: &HeaderMap) -> Option<BasePath> {
        let mut whole = String::new();
        for line in headers.get_all(X_FORWARDED_PREFIX) {
            for path in HeaderValue::to_str(line).ok()?.split(',') {
                whole += path.parse::<BasePath>().ok()?.as_str();
            }
        }
        (!whole.is_empty() && whole.len() <= BasePath::BYTES_MAX).then(|| BasePath(whole.into()))
    }

    /// The rest of a path below this one; `None` for other paths.
    pub(crate) fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let below = path.strip_prefix(&*self.0)?;
        (!self.0.is_empty() && (below.is_empty() || below.starts_with('/'))).then_some(below)
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BasePath {
    type Err = BasePathError;

    fn from_str(text: &str) -> Result<BasePath, BasePathError> {
        let text = text.trim().trim_end_matches('/');
        let is_segment = |segment: &str| {
            let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !matches!(segment, "" | "." | "..") && segment.bytes().all(is_unreserved)
        };
        let is_path = match text.strip_prefix('/') {
            Some(segments) => segments.split('/').all(is_segment),
            None => text.is_empty(),
        };
        (is_path && text.len() <= BasePath::BYTES_MAX)
            .then(|| BasePath(text.into()))
            .ok_or(BasePathError)
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The server adds the base path to every request.
impl<S: Sync> FromRequestParts<S> for BasePath {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<BasePath, Infallible> {
        Ok(parts.extensions.get::<BasePath>().cloned().unwrap_or_default())
    }
}

const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_are_accepted() {
        for (text, path) in [
            ("/rtc", "/rtc"),
            ("/rtc/", "/rtc"),
            ("/a/b-c.d_e~f", "/a/b-c.d_e~f"),
            ("/", ""),
            ("", ""),
        ] {
            assert_eq!(text.parse::<BasePath>().unwrap().as_str(), path, "{text}");
        }
        let long = format!("/{}", "x".repeat(BasePath::BYTES_MAX));
        for text in [
            "rtc",
            "//evil.example",
            "/a//b",
            "/../x",
            "/a b",
            "/a?b",
            "/a#b",
            "/a%2f",
            "/a\r\nb",
            "/\u{e9}",
            &long,
        ] {
            assert_eq!(text.parse::<BasePath>(), Err(BasePathError), "{text}");
        }
    }

    #[test]
    fn the_rest_of_a_path_begins_with_a_slash() {
        let base: BasePath = "/rtc".parse().unwrap();
        assert_eq!(base.below("/rtc/whip/live"), Some("/whip/live"));
        assert_eq!(base.below("/rtc"), Some(""));
        assert_eq!(base.below("/rtcx/whip/live"), None);
        assert_eq!(base.below("/whip/live"), None);
        assert_eq!(BasePath::default().below("/whip/live"), None);
    }

    #[test]
    fn prefixes_of_several_proxies_form_one_path() {
        let forwarded = |lines: &[&'static str]| {
            let lines = lines
                .iter()
                .map(|line| (X_FORWARDED_PREFIX, HeaderValue::from_static(line)));
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(name, value);
            }
            BasePath::forwarded(&headers).map(|path| path.to_string())
        };
        assert_eq!(forwarded(&["/rtc"]).as_deref(), Some("/rtc"));
        assert_eq!(forwarded(&["/a, /b/"]).as_deref(), Some("/a/b"));
        assert_eq!(forwarded(&["/a", "/b"]).as_deref(), Some("/a/b"));
        assert_eq!(forwarded(&["/"]), None);
        assert_eq!(forwarded(&[]), None);
        assert_eq!(forwarded(&["//evil.example"]), None);
        assert_eq!(forwarded(&["/a, javascript:x"]), None);
    }
}

//! The origin of the page that sent a request: from `Origin` (Fetch, section 3.1) and from the host name of the request.

use std::net::IpAddr;

use axum::http::header::{HOST, HeaderName, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, Version};

use crate::auth::PageOrigin;

/// The origin of the page that sent the request, if any.
pub(crate) fn of_request(parts: &Parts) -> PageOrigin {
    if is_nameless(parts) {
        // A program, because browsers send the host. It gets fewer permissions than a page of the server: a proxy may have dropped the
        // host.
        return PageOrigin::Local;
    }
    origin_of(&parts.uri, &parts.headers)
}

/// HTTP/1.0 of small programs: without `Host`, which only HTTP/1.1 requires.
pub(crate) fn is_nameless(parts: &Parts) -> bool {
    let has_no_host = !parts.headers.contains_key(HOST) && parts.uri.authority().is_none();
    parts.version == Version::HTTP_10 && has_no_host && !parts.headers.contains_key(ORIGIN)
}

/// A page that was loaded under a name of its own that now resolves to this server (DNS rebinding) is foreign, although the browser
/// considers it same-origin. So every request that addresses the server by a name is foreign.
fn origin_of(uri: &Uri, headers: &HeaderMap) -> PageOrigin {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let called = uri.authority().map(Authority::as_str).or(text(HOST));
    let Some(called) = called.and_then(|called| called.parse::<Authority>().ok()) else {
        return PageOrigin::Foreign;
    };
    if !is_localhost(name(&called)) && address(name(&called)).is_none() {
        return PageOrigin::Foreign;
    }
    if !headers.contains_key(ORIGIN) {
        return PageOrigin::SameOrigin;
    }
    let origin = text(ORIGIN).and_then(|origin| origin.split_once("://"));
    match origin.and_then(|(_, origin)| origin.parse::<Authority>().ok()) {
        Some(origin) if origin == called => PageOrigin::SameOrigin,
        Some(origin) if is_here(name(&origin)) => PageOrigin::Local,
        _ => PageOrigin::Foreign,
    }
}

fn name(authority: &Authority) -> &str {
    authority.host()
}

/// Names of the machine itself (RFC 6761 section 6.3).
fn is_localhost(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn is_here(name: &str) -> bool {
    is_localhost(name) || address(name).is_some_and(|address| address.to_canonical().is_loopback())
}

fn address(name: &str) -> Option<IpAddr> {
    name.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &str, origin: Option<&str>) -> PageOrigin {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        origin_of(&Uri::from_static("/whip/live"), &headers)
    }

    #[test]
    fn pages_of_other_origins_are_recognized() {
        for (host, origin, page) in [
            ("127.0.0.1:8080", None, PageOrigin::SameOrigin),
            ("LOCALHOST:8080", None, PageOrigin::SameOrigin),
            ("a.localhost", None, PageOrigin::SameOrigin),
            ("[::1]:8080", Some("http://[::1]:8080"), PageOrigin::SameOrigin),
            ("192.0.2.7", Some("https://192.0.2.7"), PageOrigin::SameOrigin),
            ("127.0.0.1:8080", Some("http://localhost:8080"), PageOrigin::Local),
            ("localhost:8080", Some("http://127.0.0.1:3000"), PageOrigin::Local),
            ("localhost:8080", Some("http://[::1]:3000"), PageOrigin::Local),
            ("127.0.0.1:8080", Some("https://evil.example"), PageOrigin::Foreign),
            (
                "127.0.0.1:8080",
                Some("http://127.0.0.1.evil.example"),
                PageOrigin::Foreign,
            ),
            ("127.0.0.1:8080", Some("http://192.0.2.7"), PageOrigin::Foreign),
            ("127.0.0.1:8080", Some("http://notlocalhost"), PageOrigin::Foreign),
            ("127.0.0.1:8080", Some("null"), PageOrigin::Foreign),
            ("127.0.0.1:8080", Some(""), PageOrigin::Foreign),
            (
                "evil.example:8080",
                Some("http://evil.example:8080"),
                PageOrigin::Foreign,
            ),
            ("evil.example:8080", None, PageOrigin::Foreign),
            ("localhost.evil.example", None, PageOrigin::Foreign),
            ("two words", None, PageOrigin::Foreign),
        ] {
            assert_eq!(of(host, origin), page, "{host} {origin:?}");
        }
        assert_eq!(
            origin_of(&Uri::from_static("/"), &HeaderMap::new()),
            PageOrigin::Foreign
        );
        let nameless = |version: Version, origin: Option<&str>| {
            let mut request = axum::http::Request::builder().version(version).uri("/whip/live");
            if let Some(origin) = origin {
                request = request.header(ORIGIN, origin);
            }
            of_request(&request.body(()).unwrap().into_parts().0)
        };
        assert_eq!(nameless(Version::HTTP_10, None), PageOrigin::Local);
        assert_eq!(
            nameless(Version::HTTP_10, Some("http://evil.example")),
            PageOrigin::Foreign
        );
        assert_eq!(nameless(Version::HTTP_2, None), PageOrigin::Foreign);
        // HTTP/2 has the name in the URI.
        assert_eq!(
            origin_of(&Uri::from_static("http://evil.example/"), &HeaderMap::new()),
            PageOrigin::Foreign
        );
    }
}

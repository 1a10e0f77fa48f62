//! Whose page sent a request: browsers tell by `Origin` (Fetch, section 3.1), and by the name under which they call the server.

use std::net::IpAddr;

use axum::http::header::{HOST, HeaderName, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, Version};

use crate::auth::Page;

/// Whose page has sent a request, if one has.
pub(crate) fn of_request(parts: &Parts) -> Page {
    if is_nameless(parts) {
        // A program, since browsers name whom they ask. It does not get the rights of a page of our own: whatever hands it on may have
        // dropped the name.
        return Page::Local;
    }
    whose(&parts.uri, &parts.headers)
}

/// HTTP/1.0 as small programs speak it: without `Host`, which only HTTP/1.1 demands.
pub(crate) fn is_nameless(parts: &Parts) -> bool {
    let names_nobody = !parts.headers.contains_key(HOST) && parts.uri.authority().is_none();
    parts.version == Version::HTTP_10 && names_nobody && !parts.headers.contains_key(ORIGIN)
}

/// Whose page has sent this, if one has. A page that was loaded under a name of its owner's which now leads here (DNS rebinding) is
/// foreign, although its browser takes it for one of ours: so is everybody who calls the server by a name.
fn whose(uri: &Uri, headers: &HeaderMap) -> Page {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let called = uri.authority().map(Authority::as_str).or(text(HOST));
    let Some(called) = called.and_then(|called| called.parse::<Authority>().ok()) else {
        return Page::Foreign;
    };
    if !is_localhost(name(&called)) && address(name(&called)).is_none() {
        return Page::Foreign;
    }
    if !headers.contains_key(ORIGIN) {
        return Page::Own;
    }
    let origin = text(ORIGIN).and_then(|origin| origin.split_once("://"));
    match origin.and_then(|(_, origin)| origin.parse::<Authority>().ok()) {
        Some(origin) if origin == called => Page::Own,
        Some(origin) if is_here(name(&origin)) => Page::Local,
        _ => Page::Foreign,
    }
}

fn name(authority: &Authority) -> &str {
    authority.host()
}

/// Names that lead to the machine itself (RFC 6761 section 6.3).
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

    fn of(host: &str, origin: Option<&str>) -> Page {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        whose(&Uri::from_static("/whip/live"), &headers)
    }

    #[test]
    fn programs_and_our_own_pages_are_told_from_those_of_others() {
        for (host, origin, page) in [
            ("127.0.0.1:8080", None, Page::Own),
            ("LOCALHOST:8080", None, Page::Own),
            ("a.localhost", None, Page::Own),
            ("[::1]:8080", Some("http://[::1]:8080"), Page::Own),
            ("192.0.2.7", Some("https://192.0.2.7"), Page::Own),
            ("127.0.0.1:8080", Some("http://localhost:8080"), Page::Local),
            ("localhost:8080", Some("http://127.0.0.1:3000"), Page::Local),
            ("localhost:8080", Some("http://[::1]:3000"), Page::Local),
            ("127.0.0.1:8080", Some("https://evil.example"), Page::Foreign),
            ("127.0.0.1:8080", Some("http://127.0.0.1.evil.example"), Page::Foreign),
            ("127.0.0.1:8080", Some("http://192.0.2.7"), Page::Foreign),
            ("127.0.0.1:8080", Some("http://notlocalhost"), Page::Foreign),
            ("127.0.0.1:8080", Some("null"), Page::Foreign),
            ("127.0.0.1:8080", Some(""), Page::Foreign),
            ("evil.example:8080", Some("http://evil.example:8080"), Page::Foreign),
            ("evil.example:8080", None, Page::Foreign),
            ("localhost.evil.example", None, Page::Foreign),
            ("two words", None, Page::Foreign),
        ] {
            assert_eq!(of(host, origin), page, "{host} {origin:?}");
        }
        assert_eq!(whose(&Uri::from_static("/"), &HeaderMap::new()), Page::Foreign);
        let nameless = |version: Version, origin: Option<&str>| {
            let mut request = axum::http::Request::builder().version(version).uri("/whip/live");
            if let Some(origin) = origin {
                request = request.header(ORIGIN, origin);
            }
            of_request(&request.body(()).unwrap().into_parts().0)
        };
        assert_eq!(nameless(Version::HTTP_10, None), Page::Local);
        assert_eq!(nameless(Version::HTTP_10, Some("http://evil.example")), Page::Foreign);
        assert_eq!(nameless(Version::HTTP_2, None), Page::Foreign);
        // HTTP/2 has the name in the URI.
        assert_eq!(
            whose(&Uri::from_static("http://evil.example/"), &HeaderMap::new()),
            Page::Foreign
        );
    }
}

//! Redirects from plain HTTP to HTTPS.

use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, HOST, LOCATION};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, middleware};

use reqwest::Url;

use crate::http::problem::{Problem, kinds};
use crate::http::router::finish;
use crate::http::server::base_path::BasePath;

/// A router that redirects every request to the same URL with https. `port` is the HTTPS port; `None` for the port of the request.
pub(crate) fn router(port: Option<u16>) -> Router {
    Router::new()
        .fallback(async move |request: Request| redirect(&request, port))
        .layer(middleware::from_fn(finish))
}

fn redirect(request: &Request, port: Option<u16>) -> Response {
    let uri = request.uri();
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = uri.authority().map(Authority::as_str).or(host);
    let base_path = request
        .extensions()
        .get::<BasePath>()
        .map(BasePath::as_str)
        .unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = format!("{base_path}{path}");
    let location = authority.and_then(|authority| secure(authority, &path, port));
    let Some((text, location)) = location.and_then(|text| Some((HeaderValue::try_from(&text).ok()?, text))) else {
        return Problem::new(
            kinds::HTTPS_ONLY,
            "the request came in plain HTTP, but this server speaks HTTPS",
        )
        .into_response();
    };
    // 308 keeps method and body, which WHIP needs. Browsers must not cache it: HTTPS may be turned off again.
    (
        StatusCode::PERMANENT_REDIRECT,
        [(LOCATION, text), (CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        format!("This server speaks HTTPS: {location}\n"),
    )
        .into_response()
}

/// The URL with https; `None` if the request does not lead to a valid one.
fn secure(authority: &str, path: &str, port: Option<u16>) -> Option<String> {
    let authority: Authority = authority.parse().ok()?;
    let host = authority.host();
    let named = authority.as_str().rsplit('@').next().unwrap_or_default();
    let port_follows = |rest: &str| match rest.strip_prefix(':') {
        Some(port) => port.is_empty() || port.parse::<u16>().is_ok(),
        None => rest.is_empty(),
    };
    if host.is_empty() || !path.starts_with('/') || !named.strip_prefix(host).is_some_and(port_follows) {
        return None;
    }
    let url = match port.or(authority.port_u16()).unwrap_or(HTTP_PORT) {
        HTTPS_PORT => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    };
    // The host of a well-formed authority may be invalid, such as `[]` or `a[::1]`, so parse the URL as a browser does.
    let read = Url::parse(&url).ok()?;
    (read.scheme() == "https" && read.has_host() && read.username().is_empty()).then_some(url)
}

/// Reads an authority, a line feed and a path, as in a request.
#[doc(hidden)]
pub fn fuzz_redirect(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (authority, path) = text.split_once('\n').unwrap_or((&text, "/"));
    let Ok(uri) = path.parse::<axum::http::Uri>() else {
        return;
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if let Some(url) = secure(authority, path, Some(8443)) {
        let target = Url::parse(&url).expect("a redirect leads to a URL");
        assert_eq!((target.scheme(), target.port()), ("https", Some(8443)), "{url}");
        assert!(
            target.has_host() && target.username().is_empty() && target.password().is_none(),
            "{url}"
        );
    }
}

/// Default ports of the two schemes (RFC 9110 section 4.2).
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_and_port_change() {
        for (authority, port, expected) in [
            ("live.test", Some(443), Some("https://live.test/x?y")),
            ("live.test:80", Some(443), Some("https://live.test/x?y")),
            ("live.test", Some(8443), Some("https://live.test:8443/x?y")),
            ("live.test:8080", None, Some("https://live.test:8080/x?y")),
            ("live.test", None, Some("https://live.test:80/x?y")),
            ("live.test:443", None, Some("https://live.test/x?y")),
            ("[2001:db8::1]:8080", None, Some("https://[2001:db8::1]:8080/x?y")),
            ("somebody@live.test", Some(443), Some("https://live.test/x?y")),
            ("", Some(443), None),
            (":80", Some(443), None),
            ("two words", Some(443), None),
            ("live.test/path", Some(443), None),
            ("Z[2001:db8::1]", Some(443), None),
            ("[2001:db8::1]x", Some(443), None),
            ("[]", Some(443), None),
            ("[]:80", None, None),
            ("[::1", Some(443), None),
            ("[2001:db8::g]", Some(443), None),
            ("live.test:", Some(443), Some("https://live.test/x?y")),
            ("live.test:65536", Some(443), None),
            ("256.0.0.1", Some(443), None),
            ("live%2ftest", Some(443), None),
        ] {
            assert_eq!(secure(authority, "/x?y", port).as_deref(), expected, "{authority}");
        }
        assert_eq!(secure("live.test", "*", None), None);
    }
}

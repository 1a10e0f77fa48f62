//! Pages of other origins may use the interfaces: what every response and a preflight say about it (Fetch, section 3.2).

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, HeaderName,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::IntoResponse;

/// What a resource takes, as in `Allow`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Methods(pub(super) &'static str);

/// Answers `OPTIONS`, preflight or not.
pub(super) async fn options(methods: Methods) -> impl IntoResponse {
    let headers = [
        (ALLOW, methods.0),
        (ACCESS_CONTROL_ALLOW_METHODS, methods.0),
        // By name: `*` does not cover Authorization.
        (ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// What every response says.
pub(super) fn allow_every_origin(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}

/// Announces what a resource takes by POST (the header of LDP, section 7.1, that RFC 9725 uses).
pub(super) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// Announces what a resource takes by PATCH (RFC 5789 section 3.1).
pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

const EXPOSED: &str = "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After";

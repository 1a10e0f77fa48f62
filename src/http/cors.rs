//! Cross-origin access (Fetch, section 3.2): pages of any origin may use the API, unless authorization depends on the origin.

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HeaderName, ORIGIN,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::auth::Action;
use crate::http::Shared;
use crate::http::auth::requester::Requester;

/// The methods of a resource, as in `Allow`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Methods(pub(crate) &'static str);

/// Answers `OPTIONS`, preflight or not.
pub(crate) async fn options(methods: Methods) -> impl IntoResponse {
    answered(methods, methods.0)
}

/// The same for a WHIP or WHEP endpoint. Some players send one preflight for all later requests, including those to the session.
pub(crate) async fn options_of_endpoint(methods: Methods) -> impl IntoResponse {
    answered(methods, "GET, HEAD, POST, PATCH, DELETE, OPTIONS")
}

fn answered(methods: Methods, for_pages: &'static str) -> impl IntoResponse {
    let headers = [
        (ALLOW, methods.0),
        (ACCESS_CONTROL_ALLOW_METHODS, for_pages),
        // Listed one by one, because `*` does not include Authorization.
        (ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// Fails the preflight (Fetch, section 4.8) of a request that would be refused for its origin.
pub(crate) async fn preflight(
    State(shared): State<Shared>,
    requester: Requester,
    request: Request,
    next: Next,
) -> Response {
    let is_origin_allowed = action_to_come(&request).is_none_or(|action| requester.is_origin_allowed(&shared, action));
    let mut response = next.run(request).await;
    if !is_origin_allowed {
        response.extensions_mut().insert(NoOrigin);
    }
    response
}

/// The action of the request that a preflight announces. `None` if the request is no preflight, or if its route ignores the origin. The
/// check of origins does not distinguish publishing from watching.
fn action_to_come(request: &Request) -> Option<Action> {
    let headers = request.headers();
    if request.method() != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    let method = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()?;
    let route = request.extensions().get::<MatchedPath>()?.as_str();
    match (method, route) {
        (_, "/api/sessions" | "/api/sessions/{handle}" | "/api/ended" | "/api/drain" | "/api/shards")
        | ("DELETE", "/api/streams/{stream}") => Some(Action::Administer),
        ("POST", "/" | "/sdp" | "/sdp/{stream}" | "/whip/{stream}" | "/whep/{stream}" | "/offer")
        | ("GET" | "HEAD", "/api/streams" | "/api/streams/{stream}" | "/api/rooms/{stream}") => Some(Action::Watch),
        _ => None,
    }
}

/// Marks a response that must not allow other origins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoOrigin;

pub(crate) fn allow_every_origin(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}

/// Lists the media types that a resource accepts by POST (defined in LDP, section 7.1; RFC 9725 uses it).
pub(crate) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// Lists the media types that a resource accepts by PATCH (RFC 5789 section 3.1).
pub(crate) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

const EXPOSED: &str = "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After";

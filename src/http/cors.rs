//! Pages of other origins may use the interfaces: what every response and a preflight say about it (Fetch, section 3.2).

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
use crate::http::auth::requester::Asker;

/// What a resource takes, as in `Allow`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Methods(pub(crate) &'static str);

/// Answers `OPTIONS`, preflight or not.
pub(crate) async fn options(methods: Methods) -> impl IntoResponse {
    answered(methods, methods.0)
}

/// The same for an endpoint of WHIP or WHEP: players ask it about all that they will send, to the session, too.
pub(crate) async fn options_of_endpoint(methods: Methods) -> impl IntoResponse {
    answered(methods, "GET, HEAD, POST, PATCH, DELETE, OPTIONS")
}

fn answered(methods: Methods, for_pages: &'static str) -> impl IntoResponse {
    let headers = [
        (ALLOW, methods.0),
        (ACCESS_CONTROL_ALLOW_METHODS, for_pages),
        // By name: `*` does not cover Authorization.
        (ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// Gives no leave to a page (Fetch, section 4.8) whose request would be refused for its origin.
pub(crate) async fn preflight(State(shared): State<Shared>, asker: Asker, request: Request, next: Next) -> Response {
    let is_welcome = action_to_come(&request).is_none_or(|action| asker.is_welcome(&shared, action));
    let mut response = next.run(request).await;
    if !is_welcome {
        response.extensions_mut().insert(NoOrigin);
    }
    response
}

/// What the request is for that a preflight announces; `None` where nobody looks at origins, and for what is no preflight. To origins,
/// publishing and watching are the same.
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

/// Put into a response that pages of other origins must not take for leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoOrigin;

/// What every other response says.
pub(crate) fn allow_every_origin(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}

/// Announces what a resource takes by POST (the header of LDP, section 7.1, that RFC 9725 uses).
pub(crate) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// Announces what a resource takes by PATCH (RFC 5789 section 3.1).
pub(crate) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

const EXPOSED: &str = "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After";

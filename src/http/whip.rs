//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): publish and watch with one POST. They differ in who sends.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use axum::{Extension, Router};

use super::connection::Connection;
use super::cors::{ACCEPT_PATCH, ACCEPT_POST, Methods, options};
use super::guard::Asker;
use super::problem::Problem;
use super::service::{Protocol, Refusal, Request};
use super::stream_path::{SessionPath, StreamPath};
use super::{Shared, body};
use crate::auth::Action;

/// The routes of one of the two.
pub(super) fn routes(protocol: Protocol) -> Router<Shared> {
    let endpoint = post(offer).get(describe_endpoint).options(endpoint_options);
    let session = delete(end)
        .patch(trickle)
        .get(describe_session)
        .options(session_options);
    let prefix = prefix(protocol);
    Router::new()
        .route(&format!("{prefix}/{{stream}}"), endpoint)
        .route(&format!("{prefix}/{{stream}}/{{session}}"), session)
        .layer(Extension(protocol))
}

async fn offer(
    State(shared): State<Shared>,
    Extension(protocol): Extension<Protocol>,
    StreamPath(stream): StreamPath,
    Connection { client, local }: Connection,
    asker: Asker,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let right = match asker.may(&shared, action(protocol), Some(&stream)).await {
        Ok(right) => right,
        Err(problem) => {
            body::pass_over(&headers, body).await;
            return Err(problem);
        }
    };
    let offer = body::text(&headers, body, shared.limits.body_timeout).await?;
    if !body::has_type(&headers, SDP) {
        return Err(wrong_type(&headers, SDP).header(ACCEPT_POST, HeaderValue::from_static(SDP)));
    }
    let request = Request {
        stream: &stream,
        offer: &offer,
        client,
        local,
        right: &right,
    };
    let accepted = match protocol {
        Protocol::Whip => shared.service.publish(request),
        Protocol::Whep => shared.service.watch(request),
    };
    let accepted = accepted.map_err(|refusal| Problem::of_offer(what(protocol), &stream, client, refusal))?;
    // A path without host and query: OBS loses the query of a relative URL, and only we may think that we know our host.
    let location = format!("{}/{stream}/{}", prefix(protocol), accepted.session);
    let headers = [(LOCATION, location.as_str()), (CONTENT_TYPE, SDP)];
    Ok((StatusCode::CREATED, headers, accepted.answer).into_response())
}

/// GET or HEAD of the endpoint: some players ask whether it is there. WHEP wants the media type told.
async fn describe_endpoint(Extension(protocol): Extension<Protocol>, _: StreamPath) -> Response {
    match protocol {
        Protocol::Whip => StatusCode::NO_CONTENT.into_response(),
        Protocol::Whep => [(CONTENT_TYPE, SDP)].into_response(),
    }
}

async fn endpoint_options() -> impl IntoResponse {
    ([(ACCEPT_POST, SDP)], options(Methods("GET, HEAD, POST, OPTIONS")).await)
}

async fn describe_session(
    State(shared): State<Shared>,
    Extension(protocol): Extension<Protocol>,
    SessionPath(session): SessionPath,
) -> Result<StatusCode, Problem> {
    if !shared.service.exists(session, protocol) {
        return Err(Refusal::UnknownSession.into());
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn trickle(
    State(shared): State<Shared>,
    Extension(protocol): Extension<Protocol>,
    SessionPath(session): SessionPath,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let fragment = body::text(&headers, body, shared.limits.body_timeout).await?;
    if !shared.service.exists(session, protocol) {
        return Err(Refusal::UnknownSession.into());
    }
    if !body::has_type(&headers, FRAGMENT) {
        return Err(wrong_type(&headers, FRAGMENT).header(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT)));
    }
    shared.service.trickle(session, protocol, &fragment)?;
    Ok(StatusCode::NO_CONTENT)
}

/// 200 and not 204: OBS takes nothing else for success.
async fn end(
    State(shared): State<Shared>,
    Extension(protocol): Extension<Protocol>,
    SessionPath(session): SessionPath,
) -> Result<StatusCode, Problem> {
    shared.service.close(session, protocol)?;
    Ok(StatusCode::OK)
}

async fn session_options() -> impl IntoResponse {
    (
        [(ACCEPT_PATCH, FRAGMENT)],
        options(Methods("GET, HEAD, PATCH, DELETE, OPTIONS")).await,
    )
}

fn wrong_type(headers: &HeaderMap, expected: &str) -> Problem {
    let detail = match headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
        Some(value) => format!("the Content-Type is {value:?}, not {expected}"),
        None => format!("there is no Content-Type; it must be {expected}"),
    };
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "wrong-type",
        "The content type is not supported",
        detail,
    )
    .hint(format!("Send the header Content-Type: {expected}"))
}

fn action(protocol: Protocol) -> Action {
    match protocol {
        Protocol::Whip => Action::Publish,
        Protocol::Whep => Action::Watch,
    }
}

fn prefix(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Whip => "/whip",
        Protocol::Whep => "/whep",
    }
}

fn what(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Whip => "WHIP offer",
        Protocol::Whep => "WHEP offer",
    }
}

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

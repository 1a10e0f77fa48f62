//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): publishing and watching with one POST. They differ in the direction of media.

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use axum::{Extension, Router};

use crate::auth::Action;
use crate::http::auth::requester::Requester;
use crate::http::cors::{ACCEPT_PATCH, ACCEPT_POST, Methods, options, options_of_endpoint};
use crate::http::path_params::{SessionPath, StreamPath};
use crate::http::problem::{Problem, kinds};
use crate::http::server::base_path::BasePath;
use crate::http::server::connection::Connection;
use crate::http::whip::etag::etag;
use crate::http::whip::{counter_offer, events, ice_servers, layers, links, patch};
use crate::http::{Shared, body};
use onecast_control::port::{Accepted, Protocol, Request};
use onecast_control::{Purpose, Refusal, StreamName};

/// The endpoint of an offer.
#[derive(Debug)]
pub(crate) struct Endpoint {
    protocol: Protocol,
    pub(crate) stream: StreamName,
    base_path: BasePath,
}

/// The routes of one protocol.
pub(crate) fn routes(protocol: Protocol) -> Router<Shared> {
    let endpoint = post(offer).get(describe_endpoint).options(endpoint_options);
    let session = delete(end)
        .patch(patch::patch)
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
    endpoint: Endpoint,
    Connection { client, local }: Connection,
    requester: Requester,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Endpoint { protocol, stream, .. } = &endpoint;
    let protocol = *protocol;
    let grant = match requester.authorize(&shared, action(protocol), Some(stream)).await {
        Ok(grant) => grant,
        Err(problem) => return Err(body::refuse(&headers, body, problem).await),
    };
    let may_be_empty = protocol == Protocol::Whep && counter_offer::may_be_asked_for(&headers, &body);
    if !body::has_type(&headers, SDP) && !may_be_empty {
        return Err(body::refuse(&headers, body, no_sdp(&headers)).await);
    }
    if body::expects_continue(&headers) {
        let admitted = shared.service.check_join(client, purpose(protocol));
        admitted.map_err(|refusal| Problem::of_offer(offer_name(protocol), stream, client, refusal))?;
    }
    let offer = body::text(&headers, body, shared.limits.body_timeout).await?;
    if protocol == Protocol::Whep && counter_offer::is_asked_for(&headers, &offer) {
        return counter_offer::offer(&shared, &endpoint, Connection { client, local }, &grant).await;
    }
    if !body::has_type(&headers, SDP) {
        return Err(no_sdp(&headers));
    }
    let request = Request {
        stream,
        offer: &offer,
        client,
        local,
        grant: &grant,
    };
    let accepted = match protocol {
        Protocol::Whip => shared.service.publish(request),
        Protocol::Whep => shared.service.watch(request),
    };
    let accepted = accepted.map_err(|refusal| Problem::of_offer(offer_name(protocol), stream, client, refusal))?;
    Ok(session_response(&shared, &endpoint, StatusCode::CREATED, accepted))
}

impl FromRequestParts<Shared> for Endpoint {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Endpoint, Problem> {
        let protocol = parts.extensions.get::<Protocol>().copied();
        let StreamPath(stream) = StreamPath::from_request_parts(parts, shared).await?;
        let Ok(base_path) = BasePath::from_request_parts(parts, shared).await;
        Ok(Endpoint {
            protocol: protocol.expect("these routes have the extension"),
            stream,
            base_path,
        })
    }
}

/// The response to an offer: the SDP of the server, and everything that the client may need later.
pub(crate) fn session_response(
    shared: &Shared,
    endpoint: &Endpoint,
    status: StatusCode,
    accepted: Accepted,
) -> Response {
    let Endpoint {
        protocol,
        stream,
        base_path,
    } = endpoint;
    let protocol = *protocol;
    // An absolute path without host and query: OBS replaces the whole path by anything that is not a URL and drops the query, older
    // GStreamer whipsinks do the same with a URL, and the server cannot know the host name that the client uses.
    let location = format!("{base_path}{}/{stream}/{}", prefix(protocol), accepted.session);
    let headers = [
        (LOCATION, location.as_str()),
        (CONTENT_TYPE, SDP),
        (ACCEPT_PATCH, patch_types(protocol)),
    ];
    let mut response = (status, headers, [(ETAG, etag(&accepted.tag))], accepted.answer).into_response();
    let headers = response.headers_mut();
    links::append(headers, shared.links.iter().cloned());
    links::append(headers, ice_servers::links(&shared.ice_servers));
    if protocol == Protocol::Whep {
        links::append(headers, [events::link(&location, accepted.may_choose_layers)]);
        links::append(headers, accepted.may_choose_layers.then(|| layers::link(&location)));
    }
    response
}

/// GET or HEAD of the endpoint: some players check that it exists. WHEP requires the media type in the response.
async fn describe_endpoint(Extension(protocol): Extension<Protocol>, _: StreamPath) -> Response {
    match protocol {
        Protocol::Whip => StatusCode::NO_CONTENT.into_response(),
        Protocol::Whep => [(CONTENT_TYPE, SDP)].into_response(),
    }
}

async fn endpoint_options(
    State(shared): State<Shared>,
    Extension(protocol): Extension<Protocol>,
    stream: Result<StreamPath, Problem>,
    requester: Requester,
    headers: HeaderMap,
) -> Response {
    let methods = options_of_endpoint(Methods("GET, HEAD, POST, OPTIONS")).await;
    let mut response = ([(ACCEPT_POST, SDP)], methods).into_response();
    links::append(response.headers_mut(), shared.links.iter().cloned());
    // A preflight for an invalid name has to pass, so that the page can read the error of its request.
    if let Ok(StreamPath(stream)) = stream {
        let ice_servers = ice_servers::links_for(&shared, &requester, &headers, protocol, &stream).await;
        links::append(response.headers_mut(), ice_servers);
    }
    response
}

async fn describe_session(
    State(shared): State<Shared>,
    Extension(protocol): Extension<Protocol>,
    SessionPath(session): SessionPath,
) -> Result<StatusCode, Problem> {
    if !shared.service.exists(session, protocol) {
        return Err(Refusal::gone(shared.service.operation().why_ended(session)).into());
    }
    Ok(StatusCode::NO_CONTENT)
}

/// 200 rather than 204, because OBS treats any other status as a failure.
async fn end(
    State(shared): State<Shared>,
    Extension(protocol): Extension<Protocol>,
    SessionPath(session): SessionPath,
) -> Result<StatusCode, Problem> {
    shared.service.close(session, protocol)?;
    Ok(StatusCode::OK)
}

async fn session_options(Extension(protocol): Extension<Protocol>) -> impl IntoResponse {
    (
        [(ACCEPT_PATCH, patch_types(protocol))],
        options(Methods("GET, HEAD, PATCH, DELETE, OPTIONS")).await,
    )
}

/// The media types that a session accepts by PATCH.
pub(crate) fn patch_types(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Whip => FRAGMENT,
        Protocol::Whep => "application/trickle-ice-sdpfrag, application/sdp",
    }
}

fn no_sdp(headers: &HeaderMap) -> Problem {
    wrong_type(headers, SDP).header(ACCEPT_POST, HeaderValue::from_static(SDP))
}

pub(crate) fn wrong_type(headers: &HeaderMap, expected: &str) -> Problem {
    let detail = match headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
        Some(value) => format!("the Content-Type is {value:?}, not {expected}"),
        None => format!("the Content-Type is missing; it must be {expected}"),
    };
    Problem::new(kinds::WRONG_TYPE, detail).with_hint(format!("Send the header Content-Type: {expected}"))
}

/// The permission that an endpoint requires.
pub(crate) fn action(protocol: Protocol) -> Action {
    match protocol {
        Protocol::Whip => Action::Publish,
        Protocol::Whep => Action::Watch,
    }
}

/// The purpose of a session that starts there.
fn purpose(protocol: Protocol) -> Purpose {
    match protocol {
        Protocol::Whip => Purpose::Publish,
        Protocol::Whep => Purpose::Watch,
    }
}

pub(crate) fn prefix(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Whip => "/whip",
        Protocol::Whep => "/whep",
    }
}

pub(crate) fn offer_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Whip => "WHIP offer",
        Protocol::Whep => "WHEP offer",
    }
}

pub(crate) const SDP: &str = "application/sdp";
pub(crate) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

//! The operator's API: sessions, ended sessions, ending streams, and draining. One layer authorizes all of it.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, MatchedPath, Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::info;

use crate::http::api::streams;
use crate::http::auth::requester::Requester;
use crate::http::cors::{Methods, options};
use crate::http::path_params::StreamPath;
use crate::http::problem::{Problem, kinds};
use crate::http::whip::layers;
use crate::http::{Shared, body, timestamp};
use onecast_control::drain::{Destination, DrainOrder};
use onecast_control::ended::{End, Note, NoteError, RecentlyEnded};
use onecast_control::port::DrainState;
use onecast_control::registry::{SessionFilter, SessionState, Via};
use onecast_control::stream_name::StreamNameError;
use onecast_control::{Purpose, Refusal, SessionNumber, StreamName};

/// The routes. `DELETE /api/streams/:stream` is added to a route of [`crate::http::api::streams`].
pub(crate) fn routes(shared: &Shared) -> Router<Shared> {
    let methods = |methods| move || options(Methods(methods));
    Router::new()
        .route("/api/sessions", get(sessions).options(methods("GET, HEAD, OPTIONS")))
        .route(
            "/api/sessions/{handle}",
            get(session).delete(kick).options(methods("GET, HEAD, DELETE, OPTIONS")),
        )
        .route("/api/ended", get(ended).options(methods("GET, HEAD, OPTIONS")))
        .route(
            "/api/drain",
            get(drain_state)
                .post(drain)
                .options(methods("GET, HEAD, POST, OPTIONS")),
        )
        .route("/api/streams/{stream}", delete(end_stream))
        .route(
            "/api/shards",
            get(streams::shards).options(methods("GET, HEAD, OPTIONS")),
        )
        .route_layer(middleware::from_fn_with_state(shared.clone(), administrators_only))
}

/// Requires permission to administer.
async fn administrators_only(
    State(shared): State<Shared>,
    requester: Requester,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    // A preflight carries no token.
    if request.method() != Method::OPTIONS {
        requester.authorize_admin(&shared).await?;
    }
    Ok(next.run(request).await)
}

/// Redirects WHIP and WHEP offers to another server while this one drains (RFC 9725 section 4.5: 307).
pub(crate) async fn redirect(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let is_offer = request.method() == Method::POST && matches!(path, Some("/whip/{stream}" | "/whep/{stream}"));
    let elsewhere = is_offer.then(|| elsewhere(&shared, request.uri())).flatten();
    let Some(elsewhere) = elsewhere else {
        return next.run(request).await;
    };
    let (parts, body) = request.into_parts();
    body::discard(&parts.headers, body).await;
    elsewhere
}

/// The redirect of a new client that requested `asked`; `None` unless the server is draining to another one.
pub(crate) fn elsewhere(shared: &Shared, asked: &Uri) -> Option<Response> {
    let to = shared.service.operation().drain_state()?.to?;
    let here = asked.path_and_query().map_or("", |path| path.as_str());
    let Ok(location) = HeaderValue::try_from(to.of(here)) else {
        return Some(Problem::from(Refusal::Draining).into_response());
    };
    let headers = [(LOCATION, location), (CACHE_CONTROL, NO_STORE)];
    Some((StatusCode::TEMPORARY_REDIRECT, headers).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionsQuery {
    stream: Option<String>,
    role: Option<Role>,
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Publisher,
    Viewer,
    Member,
}

async fn sessions(
    State(shared): State<Shared>,
    StrictQuery(query): StrictQuery<SessionsQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let stream = query.stream.map(|name| name.parse::<StreamName>()).transpose();
    let filter = SessionFilter {
        stream: stream.map_err(|error: StreamNameError| Problem::new(kinds::BAD_STREAM_NAME, error.to_string()))?,
        purpose: query.role.map(|role| match role {
            Role::Publisher => Purpose::Publish,
            Role::Viewer => Purpose::Watch,
            Role::Member => Purpose::Participate,
        }),
        after: SessionNumber(query.after),
        limit: limit + 1,
    };
    let mut sessions = shared.service.operation().sessions(&filter);
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let next = sessions.last().filter(|_| more).map(|last| last.session_number.0);
    let sessions: Vec<Value> = sessions.iter().map(describe).collect();
    Ok(fresh(json!({ "sessions": sessions, "next": next })))
}

async fn session(State(shared): State<Shared>, SessionHandle(handle): SessionHandle) -> Result<Response, Problem> {
    let session = shared
        .service
        .operation()
        .session(handle)
        .ok_or(Refusal::UnknownNumber)?;
    Ok(fresh(describe(&session)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndedQuery {
    limit: Option<usize>,
}

async fn ended(State(shared): State<Shared>, StrictQuery(query): StrictQuery<EndedQuery>) -> Response {
    let limit = query.limit.unwrap_or(RecentlyEnded::HISTORY_MAX);
    let ended: Vec<Value> = shared
        .service
        .operation()
        .ended(limit)
        .iter()
        .map(describe_end)
        .collect();
    fresh(json!({ "ended": ended }))
}

/// `?reason=` and `?viewers=`.
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct EndQuery {
    reason: Option<String>,
    viewers: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct EndBody {
    reason: Option<String>,
}

async fn kick(
    State(shared): State<Shared>,
    SessionHandle(handle): SessionHandle,
    StrictQuery(query): StrictQuery<EndQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let note = note(query.reason, json_of(&shared, &headers, body).await?)?;
    shared.service.operation().kick(handle, note)?;
    Ok(fresh(json!({ "ended": 1 })))
}

async fn end_stream(
    State(shared): State<Shared>,
    StreamPath(stream): StreamPath,
    StrictQuery(query): StrictQuery<EndQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let all = match query.viewers.as_deref() {
        None | Some("0" | "false") => false,
        Some("" | "1" | "true") => true,
        Some(_) => {
            return Err(Problem::new(
                kinds::BAD_QUERY,
                "viewers is 1 to end all viewers too, or 0",
            ));
        }
    };
    let note = note(query.reason, json_of(&shared, &headers, body).await?)?;
    let ended = shared.service.operation().end_stream(&stream, all, note)?;
    info!(%stream, "the operator ended {ended} sessions");
    Ok(fresh(json!({ "ended": ended })))
}

fn note(of_query: Option<String>, body: EndBody) -> Result<Option<Note>, NoteError> {
    of_query.or(body.reason).map(|text| text.parse()).transpose()
}

impl From<NoteError> for Problem {
    fn from(error: NoteError) -> Problem {
        Problem::new(kinds::BAD_REASON, error.to_string())
    }
}

/// Parameters of a drain, from the query or from JSON.
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct DrainParams {
    to: Option<String>,
    timeout_s: Option<u32>,
}

async fn drain_state(State(shared): State<Shared>) -> Response {
    fresh(describe_drain(shared.service.operation().drain_state().as_ref()))
}

async fn drain(
    State(shared): State<Shared>,
    StrictQuery(query): StrictQuery<DrainParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body: DrainParams = json_of(&shared, &headers, body).await?;
    let to = query.to.or(body.to).map(|to| to.parse::<Destination>()).transpose();
    let order = DrainOrder {
        to: to.map_err(|error| Problem::new(kinds::BAD_DESTINATION, error.to_string()))?,
        timeout: query
            .timeout_s
            .or(body.timeout_s)
            .map(|seconds| std::time::Duration::from_secs(seconds.into())),
    };
    let state = shared.service.operation().drain(order);
    let body = Json(describe_drain(Some(&state)));
    Ok((StatusCode::ACCEPTED, [(CACHE_CONTROL, NO_STORE)], body).into_response())
}

fn describe_drain(state: Option<&DrainState>) -> Value {
    json!({
        "draining": state.is_some(),
        "since": state.map(|state| timestamp::utc(state.since_unix)),
        "to": state.and_then(|state| state.to.as_ref()).map(Destination::to_string),
        "leaves_in_s": state.and_then(|state| state.left).map(|left| left.as_secs()),
        "sessions": state.map(|state| state.sessions),
    })
}

fn describe(session: &SessionState) -> Value {
    json!({
        "handle": session.session_number.0,
        "stream": session.stream.as_str(),
        "role": role(session.purpose),
        "protocol": session.via.map(|via| match via {
            Via::Whip => "whip",
            Via::Whep => "whep",
            Via::Paste => "paste",
            Via::Conference => "conference",
        }),
        "number": number(session.purpose, session.number),
        "state": if session.connected.is_some() { "connected" } else { "connecting" },
        "since": timestamp::utc(session.since_unix),
        "connected_s": session.connected.map(|time| time.as_secs()),
        "client": session.client.map(|client| client.to_string()),
        "media": session.media.map(|media| media.to_string()),
        "cipher": session.cipher.map(|cipher| cipher.to_string()),
        "received_bytes": (session.purpose != Purpose::Watch).then_some(session.received_bytes),
        "silent_s": session.silent.map(|silent| silent.as_secs()),
        "missing_codecs": session.missing.codecs().map(|codec| codec.to_string()).collect::<Vec<_>>(),
        "layer": session.layer.as_ref().map(layers::describe_viewer),
    })
}

fn describe_end(end: &End) -> Value {
    json!({
        "handle": end.session_number.0,
        "stream": end.stream.as_str(),
        "role": role(end.purpose),
        "number": number(end.purpose, end.number),
        "client": end.client.map(|client| client.to_string()),
        "at": timestamp::utc(end.at_unix),
        "connected_s": end.connected.map(|time| time.as_secs()),
        "received_bytes": (end.purpose != Purpose::Watch).then_some(end.received_bytes),
        "why": end.why.name(),
        "detail": end.why.to_string(),
    })
}

fn role(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Publish => "publisher",
        Purpose::Watch => "viewer",
        Purpose::Participate => "member",
    }
}

fn number(purpose: Purpose, number: u64) -> Option<u64> {
    (purpose != Purpose::Publish).then_some(number)
}

/// A query without unknown parameters.
#[derive(Debug)]
pub(crate) struct StrictQuery<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<StrictQuery<T>, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query
            .map(|Query(query)| StrictQuery(query))
            .map_err(|error: QueryRejection| Problem::new(kinds::BAD_QUERY, error.body_text()))
    }
}

/// The `{handle}` of a route.
#[derive(Debug)]
struct SessionHandle(SessionNumber);

impl<S: Send + Sync> FromRequestParts<S> for SessionHandle {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<SessionHandle, Problem> {
        let path = Path::<u64>::from_request_parts(parts, state).await;
        path.map(|Path(handle)| SessionHandle(SessionNumber(handle)))
            .map_err(|_| Refusal::UnknownNumber.into())
    }
}

/// A small JSON object; the default if the body is empty.
async fn json_of<T: DeserializeOwned + Default>(
    shared: &Shared,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    let text = body::text(headers, body, shared.limits.body_timeout).await?;
    if text.trim().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_str(&text).map_err(|error| Problem::new(kinds::BAD_JSON, error.to_string()))
}

fn fresh(value: Value) -> Response {
    ([(CACHE_CONTROL, NO_STORE)], Json(value)).into_response()
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Default number of sessions per response.
const PAGE: usize = 1_000;
/// Largest number of sessions per response: a few megabytes.
const PAGE_MAX: usize = 10_000;

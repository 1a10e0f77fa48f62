//! Extractors for the parameters of paths: names and ids, parsed and authorized before a handler runs.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use crate::http::Shared;
use crate::http::auth::requester::Requester;
use crate::http::problem::{Problem, kinds};
use onecast_control::stream_name::StreamNameError;
use onecast_control::whep_events::EventStreamId;
use onecast_control::{Refusal, SessionId, StreamName};

/// The `{stream}` of a route.
#[derive(Debug)]
pub(crate) struct StreamPath(pub(crate) StreamName);

/// The `{session}` of a route below its `{stream}`, for a client that may control it. If a token in a header opened the session, the
/// request needs the same token or another one for the stream.
#[derive(Debug)]
pub(crate) struct SessionPath(pub(crate) SessionId);

/// The `{events}` of a route.
#[derive(Debug)]
pub(crate) struct EventStreamPath(pub(crate) EventStreamId);

impl<S: Send + Sync> FromRequestParts<S> for StreamPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<StreamPath, Problem> {
        let name = parameter(parts, state, "stream").await?;
        name.parse()
            .map(StreamPath)
            .map_err(|error: StreamNameError| Problem::new(kinds::BAD_STREAM_NAME, error.to_string()))
    }
}

impl FromRequestParts<Shared> for SessionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<SessionPath, Problem> {
        let id = parameter(parts, shared, "session").await?;
        let session: SessionId = id.parse().map_err(|_| Problem::from(Refusal::UnknownSession))?;
        let Some(guard) = shared.service.guard(session)? else {
            return Err(Refusal::UnknownSession.into());
        };
        // A proxy may allow only the paths below one stream.
        if parameter(parts, shared, "stream").await? != guard.stream.as_str() {
            return Err(Refusal::UnknownSession.into());
        }
        let requester = Requester::from_request_parts(parts, shared).await?;
        requester.authorize_session(shared, &guard).await?;
        Ok(SessionPath(session))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for EventStreamPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<EventStreamPath, Problem> {
        let id = parameter(parts, state, "events").await?;
        id.parse()
            .map(EventStreamPath)
            .map_err(|_| Refusal::UnknownEventStream.into())
    }
}

async fn parameter<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<String, Problem> {
    let parameters = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| Problem::new(kinds::BAD_PATH, "the percent-decoded path is not UTF-8"))?;
    let value = parameters
        .iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned());
    Ok(value.expect("the routes that use this have the parameter"))
}

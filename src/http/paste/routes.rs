//! Routes for copy and paste: `POST /`, `/sdp` and `/sdp/:stream` take an offer and return its answer.

use std::io::{self, IsTerminal as _};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tracing::info;

use crate::auth::Action;
use crate::http::auth::requester::Requester;
use crate::http::cors::{Methods, options};
use crate::http::paste::pasted_sdp::{PastedSdpError, SdpEncoding};
use crate::http::path_params::StreamPath;
use crate::http::problem::{Problem, kinds};
use crate::http::server::connection::Connection;
use crate::http::{Shared, body, static_files};
use onecast_control::port::{PasteRights, PasteRole, Request};
use onecast_control::{Grant, Purpose, Refusal, StreamName};

/// The routes, and the front page, which shares one with them.
pub(crate) fn routes() -> Router<Shared> {
    let unnamed = || post(paste_unnamed).options(|| options(Methods("POST, OPTIONS")));
    let named = post(paste_named).options(|| options(Methods("POST, OPTIONS")));
    let front = post(paste_unnamed)
        .get(static_files::page)
        .options(|| options(Methods("GET, HEAD, POST, OPTIONS")));
    Router::new()
        .route("/", front)
        .route("/sdp", unnamed())
        .route("/sdp/{stream}", named)
}

async fn paste_unnamed(
    shared: State<Shared>,
    connection: Connection,
    requester: Requester,
    headers: HeaderMap,
    body: Body,
) -> Response {
    paste(&shared, StreamName::default(), connection, &requester, &headers, body)
        .await
        .unwrap_or_else(Problem::into_text)
}

async fn paste_named(
    shared: State<Shared>,
    stream: Result<StreamPath, Problem>,
    connection: Connection,
    requester: Requester,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match stream {
        Ok(StreamPath(stream)) => paste(&shared, stream, connection, &requester, &headers, body)
            .await
            .unwrap_or_else(Problem::into_text),
        Err(problem) => problem.into_text(),
    }
}

async fn paste(
    shared: &Shared,
    stream: StreamName,
    Connection { client, local }: Connection,
    requester: &Requester,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // Only the offer shows whether the client publishes or watches. If it may do neither, the body is not read.
    let (publish, watch) = tokio::join!(
        requester.authorize(shared, Action::Publish, Some(&stream)),
        requester.authorize(shared, Action::Watch, Some(&stream)),
    );
    if let (Err(problem), Err(_)) = (&publish, &watch) {
        return Err(body::refuse(headers, body, problem.clone()).await);
    }
    if body::expects_continue(headers) {
        let purpose = if publish.is_ok() {
            Purpose::Publish
        } else {
            Purpose::Watch
        };
        let admitted = shared.service.check_join(client, purpose);
        admitted.map_err(|refusal| Problem::of_offer("pasted offer", &stream, client, refusal))?;
    }
    let text = body::text(headers, body, shared.limits.body_timeout).await?;
    let (encoding, offer) = SdpEncoding::decode(&text)?;
    let request = Request {
        stream: &stream,
        offer: &offer,
        client,
        local,
        grant: &Grant::default(),
    };
    let rights = PasteRights {
        publish: publish.as_ref().ok(),
        watch: watch.as_ref().ok(),
    };
    let pasted = shared.service.paste(request, rights);
    let (accepted, role) = pasted.map_err(|refusal| match (&refusal, &publish, &watch) {
        (Refusal::NotAllowed(Purpose::Publish), Err(problem), _) => problem.clone(),
        (Refusal::NotAllowed(Purpose::Watch), _, Err(problem)) => problem.clone(),
        _ => Problem::of_offer("pasted offer", &stream, client, refusal),
    })?;
    let role = match role {
        PasteRole::Broadcaster => "broadcaster",
        PasteRole::Viewer => "viewer",
    };
    // A person can copy the answer from a terminal. It must not go to a journal, because it contains the ICE password.
    if io::stderr().is_terminal() {
        info!(%stream, "answer for a {role}: {}", SdpEncoding::BASE64_JSON.encode(&accepted.answer));
    } else {
        info!(%stream, "answer for a {role}");
    }
    let headers = [(CONTENT_TYPE, encoding.media_type())];
    Ok((headers, encoding.encode(&accepted.answer)).into_response())
}

impl From<PastedSdpError> for Problem {
    fn from(error: PastedSdpError) -> Problem {
        Problem::new(kinds::NO_OFFER, error.to_string()).with_hint(error.hint())
    }
}

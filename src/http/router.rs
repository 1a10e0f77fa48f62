//! All routes together, and what every response carries.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tracing::debug;

use crate::auth::Authority;
use crate::http::api::{health, openapi, sessions, streams};
use crate::http::conference::ws;
use crate::http::cors::NoOrigin;
use crate::http::server::front::Detour;
use crate::http::server::per_ip_limit::Crowding;
use crate::http::server::{HttpLimits, Serving, smuggling};
use crate::http::service::{Protocol, Service};
use crate::http::static_files::{self, Pages};
use crate::http::whip::events;
use crate::http::{conference, cors, paste, whip};
use crate::turn::IceServers;

/// What handlers need.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) pages: Pages,
    pub(crate) links: Arc<[HeaderValue]>,
    pub(crate) ice_servers: Arc<IceServers>,
    pub(crate) strict_etags: bool,
    pub(crate) limits: HttpLimits,
    /// Requests that follow an event stream at this moment, taken from what there may be.
    pub(crate) followers: Arc<Semaphore>,
    /// Which of them an address has: with HTTP/2 a few connections are enough for all.
    pub(crate) crowding: Arc<Crowding>,
}

/// The routes of the server.
pub(crate) fn router(serving: Serving, limits: HttpLimits) -> Router {
    let Serving {
        service,
        authority,
        pages,
        links,
        ice_servers,
        strict_etags,
        front: _,
    } = serving;
    let shared = Shared {
        service,
        authority,
        pages,
        links: links.into(),
        ice_servers,
        strict_etags,
        limits,
        followers: Arc::new(Semaphore::new(limits.followers())),
        crowding: Crowding::new(limits.connections_per_address),
    };
    Router::new()
        .merge(paste::routes::routes())
        .merge(whip::routes::routes(Protocol::Whip))
        .merge(whip::routes::routes(Protocol::Whep))
        .merge(events::routes())
        .merge(conference::routes::routes())
        .merge(ws::routes())
        .merge(streams::routes())
        .merge(sessions::routes(&shared))
        .merge(health::routes())
        .merge(openapi::routes())
        .method_not_allowed_fallback(async |uri: Uri| {
            static_files::not_allowed(uri.path()).into_response_at(uri.path())
        })
        .fallback(static_files::page)
        .layer(middleware::from_fn_with_state(shared.clone(), sessions::redirect))
        .layer(middleware::from_fn_with_state(shared.clone(), cors::preflight))
        .layer(middleware::from_fn(finish))
        .with_state(shared)
}

/// Adds what every response carries, and logs it.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    // The route rather than the path where there is one: the path of a session is the right to end it.
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let (method, route) = (
        request.method().clone(),
        route.unwrap_or(beginning(request.uri().path())).to_owned(),
    );
    let mut response = match (smuggling::fault(&request), request.extensions().get::<Detour>()) {
        (Some(problem), _) => problem.into_response(),
        (None, Some(detour)) => detour.clone().into_response(),
        (None, None) => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A page's address may hold a token (`?token=`), which is no business of where its links lead.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if response.extensions().get::<NoOrigin>().is_none() {
        cors::allow_every_origin(response.headers_mut());
    }
    debug!(%method, route, status = response.status().as_u16(), "request");
    response
}

/// What may be shown of a path that has no route: where it goes wrong behind its second part, that may still be a session's.
fn beginning(path: &str) -> &str {
    match path.match_indices('/').nth(2) {
        Some((at, _)) => &path[..at],
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_misspelled_is_not_shown() {
        assert_eq!(beginning("/whip/live/0123/x"), "/whip/live");
        assert_eq!(beginning("/whip/live"), "/whip/live");
        assert_eq!(beginning("/"), "/");
    }
}

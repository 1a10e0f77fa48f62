//! All routes, and the headers that every response carries.

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
use crate::http::feeds::Feeds;
use crate::http::server::per_ip_limit::PerIpLimit;
use crate::http::server::reverse_proxy::EarlyResponse;
use crate::http::server::{HttpLimits, Serving, smuggling};
use crate::http::static_files::{self, Pages};
use crate::http::whip::{events, layers};
use crate::http::{conference, cors, paste, whip};
use crate::turn::IceServers;
use onecast_control::port::Protocol;

/// State that the handlers share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) service: Arc<dyn Feeds>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) pages: Pages,
    pub(crate) links: Arc<[HeaderValue]>,
    pub(crate) ice_servers: Arc<IceServers>,
    pub(crate) strict_etags: bool,
    pub(crate) limits: HttpLimits,
    /// Permits for requests that last: event streams, long polls and WebSockets.
    pub(crate) long_requests: Arc<Semaphore>,
    /// Permits for the same per client address: with HTTP/2, a few connections could take all of them.
    pub(crate) per_ip: Arc<PerIpLimit>,
}

/// The router of the server.
pub(crate) fn router(serving: Serving, limits: HttpLimits) -> Router {
    let Serving {
        service,
        authority,
        pages,
        links,
        ice_servers,
        strict_etags,
        proxy: _,
    } = serving;
    let shared = Shared {
        service,
        authority,
        pages,
        links: links.into(),
        ice_servers,
        strict_etags,
        limits,
        long_requests: Arc::new(Semaphore::new(limits.long_requests())),
        per_ip: PerIpLimit::new(limits.connections_per_address),
    };
    Router::new()
        .merge(paste::routes::routes())
        .merge(whip::routes::routes(Protocol::Whip))
        .merge(whip::routes::routes(Protocol::Whep))
        .merge(events::routes())
        .merge(layers::routes())
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

/// Adds the headers that every response carries, and logs the request.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    // Log the route rather than the path if there is one: knowing a session's path is enough to end the session.
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let (method, route) = (
        request.method().clone(),
        route.unwrap_or(beginning(request.uri().path())).to_owned(),
    );
    let mut response = match (smuggling::check(&request), request.extensions().get::<EarlyResponse>()) {
        (Some(problem), _) => problem.into_response(),
        (None, Some(early)) => early.clone().into_response(),
        (None, None) => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A page's address may hold a token (`?token=`), which the targets of its links must not see.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if response.extensions().get::<NoOrigin>().is_none() {
        cors::allow_every_origin(response.headers_mut());
    }
    debug!(%method, route, status = response.status().as_u16(), "request");
    response
}

/// The part of a path without a route that may be logged: a misspelled session URL has the session's id after the second segment.
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
    fn the_id_in_a_misspelled_session_url_is_not_logged() {
        assert_eq!(beginning("/whip/live/0123/x"), "/whip/live");
        assert_eq!(beginning("/whip/live"), "/whip/live");
        assert_eq!(beginning("/"), "/");
    }
}

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

use super::cors::NoOrigin;
use super::crowding::Crowding;
use super::front::Detour;
use super::pages::{self, Pages};
use super::server::{HttpLimits, Serving};
use super::service::{Protocol, Service};
use super::{admin, api, cors, events, framing, health, openapi, paste, rooms, socket, whip};
use crate::auth::Authority;
use crate::turn::IceServers;

/// What handlers need.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) service: Arc<dyn Service>,
    pub(super) authority: Arc<Authority>,
    pub(super) pages: Pages,
    pub(super) links: Arc<[HeaderValue]>,
    pub(super) ice_servers: Arc<IceServers>,
    pub(super) strict_etags: bool,
    pub(super) limits: HttpLimits,
    /// Requests that follow an event stream at this moment, taken from what there may be.
    pub(super) followers: Arc<Semaphore>,
    /// Which of them an address has: with HTTP/2 a few connections are enough for all.
    pub(super) crowding: Arc<Crowding>,
}

/// The routes of the server.
pub(super) fn router(serving: Serving, limits: HttpLimits) -> Router {
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
        .merge(paste::routes())
        .merge(whip::routes(Protocol::Whip))
        .merge(whip::routes(Protocol::Whep))
        .merge(events::routes())
        .merge(rooms::routes())
        .merge(socket::routes())
        .merge(api::routes())
        .merge(admin::routes(&shared))
        .merge(health::routes())
        .merge(openapi::routes())
        .method_not_allowed_fallback(async |uri: Uri| pages::not_allowed(uri.path()).into_response_at(uri.path()))
        .fallback(pages::page)
        .layer(middleware::from_fn_with_state(shared.clone(), admin::redirect))
        .layer(middleware::from_fn_with_state(shared.clone(), cors::preflight))
        .layer(middleware::from_fn(finish))
        .with_state(shared)
}

/// Adds what every response carries, and logs it.
pub(super) async fn finish(request: Request, next: Next) -> Response {
    // The route rather than the path where there is one: the path of a session is the right to end it.
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let (method, route) = (
        request.method().clone(),
        route.unwrap_or(beginning(request.uri().path())).to_owned(),
    );
    let mut response = match (framing::fault(&request), request.extensions().get::<Detour>()) {
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

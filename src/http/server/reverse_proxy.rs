//! Reverse proxies in front of the server: the client that they forward a request for, and the path below which they serve the server.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tower::ServiceExt as _;

use crate::http::problem::{Problem, kinds};
use crate::http::server::base_path::BasePath;
use crate::http::server::connection::Connection;
use crate::http::server::forwarded::TrustedProxies;
use crate::http::server::per_ip_limit::{IpPermit, PerIpLimit};

/// The reverse proxies in front of the server.
#[derive(Debug, Clone, Default)]
pub struct ReverseProxy {
    /// Proxies that the server trusts about the client and the base path of a request.
    pub proxies: TrustedProxies,
    /// The base path, unless a proxy states it. Proxies may strip it or not.
    pub base_path: BasePath,
}

/// Passes requests to the router: resolves the client and the base path, and limits the requests of one client.
#[derive(Clone)]
pub(crate) struct RequestHandler {
    pub(crate) router: Router,
    pub(crate) proxy: Arc<ReverseProxy>,
    /// Connections per address, or requests per client that proxies forward.
    pub(crate) per_ip: Arc<PerIpLimit>,
}

/// The response to a request that goes to no handler; added to the request.
#[derive(Debug, Clone)]
pub(crate) enum EarlyResponse {
    /// A redirect to this location.
    Moved(HeaderValue),
    /// The client has reached its limit of concurrent requests.
    TooManyRequests,
}

impl RequestHandler {
    /// The same with another router.
    pub(crate) fn to(self, router: Router) -> RequestHandler {
        RequestHandler { router, ..self }
    }

    /// Takes a permit for a connection; `None` if the address has reached its limit.
    pub(crate) fn take_connection(&self, address: IpAddr) -> Option<Option<IpPermit>> {
        // A proxy's connections carry the requests of many clients, so the requests are counted instead.
        if self.proxy.proxies.has(address) {
            return Some(None);
        }
        self.per_ip.acquire(address).map(Some)
    }

    /// Answers a request on this connection.
    pub(crate) async fn answer(self, mut request: Request, ends: Connection) -> Response {
        let client = self.proxy.receive(&mut request, ends);
        let permit = if self.proxy.proxies.has(ends.client.ip()) {
            let permit = self.per_ip.acquire(client.client.ip());
            if permit.is_none() {
                request.extensions_mut().insert(EarlyResponse::TooManyRequests);
            }
            permit
        } else {
            None
        };
        let Ok::<Response, Infallible>(response) = self.router.oneshot(request).await;
        match permit {
            Some(permit) => response.map(|body| {
                Body::new(PermitBody {
                    body,
                    _ip_permit: permit,
                })
            }),
            None => response,
        }
    }
}

impl ReverseProxy {
    /// Rewrites the request as if the client had sent it directly, adds client and base path to it, and returns the client.
    fn receive(&self, request: &mut Request, ends: Connection) -> Connection {
        let is_proxy = self.proxies.has(ends.client.ip());
        let client = Connection::new(self.proxies.client(ends.client, request.headers()), ends.local);
        let forwarded = is_proxy.then(|| BasePath::forwarded(request.headers())).flatten();
        self.enter(request);
        let extensions = request.extensions_mut();
        extensions.insert(client);
        extensions.insert(forwarded.unwrap_or_else(|| self.base_path.clone()));
        client
    }

    /// Strips the base path, if the proxy has not, and trailing slashes of signalling URLs.
    fn enter(&self, request: &mut Request) {
        let path = request.uri().path();
        let below = self.base_path.below(path);
        if below == Some("") {
            let query = request
                .uri()
                .query()
                .map(|query| format!("?{query}"))
                .unwrap_or_default();
            if let Ok(moved) = HeaderValue::try_from(format!("{}/{query}", self.base_path)) {
                request.extensions_mut().insert(EarlyResponse::Moved(moved));
            }
            return;
        }
        let entered = without_slash(below.unwrap_or(path));
        if entered != path {
            let entered = with_path(request.uri(), entered);
            *request.uri_mut() = entered.unwrap_or_else(|| request.uri().clone());
        }
    }
}

/// Clients also write `/whip/live/`. Only signalling URLs are changed: elsewhere the rules of a proxy may distinguish the two.
fn without_slash(path: &str) -> &str {
    let is_signalling = SIGNALLING.iter().any(|prefix| path.starts_with(prefix));
    if is_signalling {
        path.trim_end_matches('/')
    } else {
        path
    }
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let path_and_query = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.ok()?);
    Uri::from_parts(parts).ok()
}

impl IntoResponse for EarlyResponse {
    fn into_response(self) -> Response {
        match self {
            // Not cached, because the operator may change the base path.
            EarlyResponse::Moved(to) => {
                let headers = [(LOCATION, to), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
                (StatusCode::PERMANENT_REDIRECT, headers).into_response()
            }
            EarlyResponse::TooManyRequests => Problem::new(
                kinds::TOO_MANY_REQUESTS_FROM_ADDRESS,
                "the limit of concurrent requests from this address is reached",
            )
            .into_response(),
        }
    }
}

/// A body that holds a permit until it is sent.
struct PermitBody {
    body: Body,
    _ip_permit: IpPermit,
}

impl HttpBody for PermitBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

const SIGNALLING: [&str; 3] = ["/whip/", "/whep/", "/sdp/"];

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::middleware;

    use super::*;
    use crate::http::router::finish;

    fn proxy(base_path: &str) -> ReverseProxy {
        ReverseProxy {
            proxies: TrustedProxies::loopback(),
            base_path: base_path.parse().unwrap(),
        }
    }

    fn ends(client: &str) -> Connection {
        Connection::new(
            SocketAddr::new(client.parse().unwrap(), 1),
            ([127, 0, 0, 1], 8_080).into(),
        )
    }

    fn received(proxy: &ReverseProxy, client: &str, uri: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        proxy.receive(&mut request, ends(client));
        request
    }

    fn base_path(request: &Request) -> &str {
        request.extensions().get::<BasePath>().unwrap().as_str()
    }

    #[test]
    fn the_base_path_is_removed_whether_the_proxy_strips_it_or_not() {
        for (uri, own) in [
            ("/rtc/whip/live", "/whip/live"),
            ("/rtc/whip/live?token=x", "/whip/live?token=x"),
            ("/rtc/", "/"),
            ("/whip/live", "/whip/live"),
            ("/rtcx", "/rtcx"),
            (
                "http://live.test/rtc/viewer.html?stream=a",
                "http://live.test/viewer.html?stream=a",
            ),
        ] {
            let request = received(&proxy("/rtc"), "192.0.2.1", uri, &[]);
            assert_eq!(request.uri(), own);
            assert_eq!(base_path(&request), "/rtc");
        }
        let bare = received(&proxy("/rtc"), "192.0.2.1", "/rtc?stream=a", &[]);
        let moved = bare
            .extensions()
            .get::<EarlyResponse>()
            .unwrap()
            .clone()
            .into_response();
        assert_eq!(
            (moved.status().as_u16(), &moved.headers()[LOCATION]),
            (308, &HeaderValue::from_static("/rtc/?stream=a"))
        );
    }

    #[test]
    fn trailing_slashes_of_signalling_urls_are_ignored() {
        for (uri, own) in [
            ("/whip/live/", "/whip/live"),
            ("/whep/live//?a=b", "/whep/live?a=b"),
            ("/sdp/", "/sdp"),
            ("/whip/live/0123/", "/whip/live/0123"),
            ("/api/sessions/", "/api/sessions/"),
            ("/js/", "/js/"),
            ("/", "/"),
        ] {
            assert_eq!(received(&proxy(""), "127.0.0.1", uri, &[]).uri(), own);
        }
    }

    #[test]
    fn only_trusted_proxies_set_client_and_base_path() {
        let headers = [("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Prefix", "/rtc")];
        let client = |request: &Request| request.extensions().get::<Connection>().unwrap().client.ip();
        let passed_on = received(&proxy("/other"), "127.0.0.1", "/", &headers);
        assert_eq!(
            (client(&passed_on).to_string(), base_path(&passed_on)),
            ("203.0.113.7".to_owned(), "/rtc")
        );
        let direct = received(&proxy("/other"), "192.0.2.1", "/", &headers);
        assert_eq!(
            (client(&direct).to_string(), base_path(&direct)),
            ("192.0.2.1".to_owned(), "/other")
        );
        let odd = received(
            &proxy("/other"),
            "127.0.0.1",
            "/",
            &[("X-Forwarded-Prefix", "//evil.example")],
        );
        assert_eq!(base_path(&odd), "/other");
    }

    #[tokio::test]
    async fn forwarded_requests_of_one_client_are_limited_like_its_connections() {
        let handler = RequestHandler {
            router: Router::new()
                .route("/", axum::routing::get(async || "here"))
                .layer(middleware::from_fn(finish)),
            proxy: Arc::new(proxy("")),
            per_ip: PerIpLimit::new(2),
        };
        let ask = async |client: &'static str| {
            let request = Request::builder()
                .uri("/")
                .header("Host", "a.test")
                .header("X-Forwarded-For", client);
            let request = request.body(Body::empty()).unwrap();
            handler.clone().answer(request, ends("127.0.0.1")).await
        };
        let (first, second) = (ask("203.0.113.7").await, ask("203.0.113.7").await);
        assert_eq!(first.body().size_hint().exact(), Some(4));
        assert_eq!(
            ask("198.51.100.1, 203.0.113.7").await.status(),
            StatusCode::TOO_MANY_REQUESTS
        );
        assert_eq!(ask("203.0.113.8").await.status(), StatusCode::OK);
        drop((first, second));
        assert_eq!(ask("203.0.113.7").await.status(), StatusCode::OK);
    }
}

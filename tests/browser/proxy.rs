//! A reverse proxy that serves the server below a path, like nginx with `location /rtc/ { proxy_pass http://server/; }`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{HeaderName, UPGRADE};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::server::Server;

/// Runs until it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    way: Arc<Way>,
    task: JoinHandle<()>,
}

struct Way {
    client: Client<HttpConnector, Body>,
    server: String,
    says_prefix: bool,
    outside: Mutex<Vec<String>>,
}

impl Proxy {
    /// The path that it strips.
    pub(crate) const PREFIX: &str = "/rtc";

    /// Starts on a free port. `says_prefix`: it forwards the path to the server (`X-Forwarded-Prefix`).
    pub(crate) async fn start(server: &Server, says_prefix: bool) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = Arc::new(Way {
            client: Client::builder(TokioExecutor::new()).build_http(),
            server: server.url(""),
            says_prefix,
            outside: Mutex::default(),
        });
        let router = Router::new().fallback(forward).with_state(way.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Proxy { address, way, task }
    }

    /// URL of a path on the server, as clients of the proxy see it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{}{path}", self.address, Proxy::PREFIX)
    }

    /// Requests outside of the path, where the proxy serves something else.
    pub(crate) fn outside(&self) -> Vec<String> {
        self.way.outside.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(State(way): State<Arc<Way>>, mut request: Request) -> Response {
    let asked = request.uri().to_string();
    let Some(path) = asked.strip_prefix(Proxy::PREFIX).filter(|below| below.starts_with('/')) else {
        way.outside
            .lock()
            .unwrap()
            .push(format!("{} {asked}", request.method()));
        return (StatusCode::NOT_FOUND, "the proxy has nothing here").into_response();
    };
    *request.uri_mut() = Uri::try_from(format!("{}{path}", way.server)).unwrap();
    if way.says_prefix {
        let name = HeaderName::from_static("x-forwarded-prefix");
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(Proxy::PREFIX));
    }
    let upgrades = request.headers().contains_key(UPGRADE);
    let ours = upgrades.then(|| hyper::upgrade::on(&mut request));
    let Ok(mut response) = way.client.request(request).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if let (Some(ours), StatusCode::SWITCHING_PROTOCOLS) = (ours, response.status()) {
        let theirs = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let Ok((ours, theirs)) = tokio::try_join!(ours, theirs) {
                let _ = copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
            }
        });
    }
    response.map(Body::new)
}

//! A server with the pages and scripted answers, to see how the pages handle each answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_http::services::ServeDir;

/// Serves `html/` as it is on disk.
pub(crate) struct Fake {
    address: SocketAddr,
    said: Arc<Mutex<Said>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Said {
    streams: Vec<Value>,
    offer: Option<Answer>,
    offers: usize,
}

#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
}

impl Fake {
    pub(crate) async fn start() -> Fake {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let said = Arc::new(Mutex::new(Said::default()));
        let router = Router::new()
            .route("/api/streams", get(streams))
            .route("/whip/{stream}", post(offer))
            .route("/whep/{stream}", post(offer))
            .fallback_service(ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/html")))
            .with_state(said.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Fake { address, said, task }
    }

    /// URL of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sets what `GET /api/streams` lists.
    pub(crate) fn list(&self, streams: Vec<Value>) {
        self.said.lock().unwrap().streams = streams;
    }

    /// Sets how offers are refused.
    pub(crate) fn refuse(&self, status: u16, headers: Vec<(&'static str, &'static str)>, problem: Value) {
        let body = problem.to_string();
        let answer = Answer { status, headers, body };
        self.said.lock().unwrap().offer = Some(answer);
    }

    /// Number of offers received.
    pub(crate) fn offers(&self) -> usize {
        self.said.lock().unwrap().offers
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn streams(State(said): State<Arc<Mutex<Said>>>) -> axum::Json<Value> {
    axum::Json(json!({ "streams": said.lock().unwrap().streams }))
}

async fn offer(State(said): State<Arc<Mutex<Said>>>) -> Response {
    let mut said = said.lock().unwrap();
    said.offers += 1;
    let answer = said.offer.clone().expect("the test said how offers are answered");
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap();
    let json = ("content-type", "application/problem+json");
    for (name, value) in answer.headers.into_iter().chain([json]) {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

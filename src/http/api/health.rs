//! Health checks: `GET /healthz` reports whether the server works, `GET /readyz` whether it accepts clients. They need no authorization,
//! because they reveal nothing else.

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::http::Shared;
use crate::http::cors::{Methods, options};
use crate::http::problem::{Problem, kinds};
use onecast_control::port::Condition;
use onecast_engine::watchdog::Watchdog;

pub(crate) fn routes() -> Router<Shared> {
    let methods = || options(Methods("GET, HEAD, OPTIONS"));
    Router::new()
        .route("/healthz", get(health).options(methods))
        .route("/readyz", get(readiness).options(methods))
}

async fn health(State(shared): State<Shared>) -> Response {
    match shared.service.operation().condition() {
        Condition::Stuck(threads) => uncached(stuck(&threads)),
        Condition::Ready | Condition::Draining | Condition::Stopping => uncached(Json(json!({ "status": "ok" }))),
    }
}

async fn readiness(State(shared): State<Shared>) -> Response {
    match shared.service.operation().condition() {
        Condition::Ready => uncached(Json(json!({ "status": "ready" }))),
        Condition::Draining => uncached(Problem::new(
            kinds::NOT_READY_DRAINING,
            "the server is draining: it stops when the last client has left",
        )),
        Condition::Stopping => uncached(Problem::new(kinds::NOT_READY_STOPPING, "the server is shutting down")),
        Condition::Stuck(threads) => uncached(stuck(&threads)),
    }
}

fn stuck(threads: &[usize]) -> Problem {
    let threads: Vec<String> = threads.iter().map(usize::to_string).collect();
    let detail = format!(
        "media threads that have made no progress for {} s: {}",
        Watchdog::STUCK_TIMEOUT.as_secs(),
        threads.join(", ")
    );
    Problem::new(kinds::STUCK, detail)
}

fn uncached(response: impl IntoResponse) -> Response {
    ([(CACHE_CONTROL, "no-store")], response).into_response()
}

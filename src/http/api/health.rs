//! For whatever watches the process: `GET /healthz`, does it work, and `GET /readyz`, does it take clients. Open to everybody: they tell
//! nothing else.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::http::Shared;
use crate::http::cors::{Methods, options};
use crate::http::operation::Condition;
use crate::http::problem::Problem;
use onecast_engine::pulse::Pulse;

/// The routes.
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
    let not_now = |kind, detail| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            kind,
            "The server takes no clients",
            detail,
        )
    };
    match shared.service.operation().condition() {
        Condition::Ready => uncached(Json(json!({ "status": "ready" }))),
        Condition::Draining => uncached(not_now("draining", "it leaves when those who are in have left")),
        Condition::Stopping => uncached(not_now("shutting-down", "it is about to stop")),
        Condition::Stuck(threads) => uncached(stuck(&threads)),
    }
}

fn stuck(threads: &[usize]) -> Problem {
    let threads: Vec<String> = threads.iter().map(usize::to_string).collect();
    let detail = format!(
        "media threads that have done nothing for {} s: {}",
        Pulse::PATIENCE.as_secs(),
        threads.join(", ")
    );
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "stuck",
        "The server does not work",
        detail,
    )
    .hint("Restart it; its log may say why.")
}

fn uncached(response: impl IntoResponse) -> Response {
    ([(CACHE_CONTROL, "no-store")], response).into_response()
}

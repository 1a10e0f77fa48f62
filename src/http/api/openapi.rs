//! The OpenAPI 3.1 description of all routes: `GET /api/openapi.json`. The document beside this file is written by hand;
//! `tests/signalling/openapi.rs` compares it with the server.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::http::Shared;
use crate::http::cors::{Methods, options};

pub(crate) fn routes() -> Router<Shared> {
    let methods = || options(Methods("GET, HEAD, OPTIONS"));
    Router::new().route("/api/openapi.json", get(document).options(methods))
}

async fn document() -> impl IntoResponse {
    // A newer server at the same address has another document.
    (
        [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")],
        DOCUMENT,
    )
}

const DOCUMENT: &str = include_str!("openapi.json");

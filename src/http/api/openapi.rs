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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use onecast_control::EndReason;
    use onecast_engine::fanout::CloseCause;
    use serde_json::Value;

    use super::*;

    /// Leads through all reasons in their order. A new one has no arm here, so the test does not compile without it.
    fn next(reason: Option<&EndReason>) -> Option<EndReason> {
        let time = Duration::ZERO;
        Some(match reason {
            None => EndReason::Goodbye,
            Some(EndReason::Goodbye) => EndReason::Peer(CloseCause::Full),
            Some(EndReason::Peer(_)) => EndReason::NeverCame,
            Some(EndReason::NeverCame) => EndReason::NoAnswer,
            Some(EndReason::NoAnswer) => EndReason::Unanswered,
            Some(EndReason::Unanswered) => EndReason::Unfollowed,
            Some(EndReason::Unfollowed) => EndReason::MadeRoom,
            Some(EndReason::MadeRoom) => EndReason::Operator(None),
            Some(EndReason::Operator(_)) => EndReason::TakenOver,
            Some(EndReason::TakenOver) => EndReason::Replaced { silent: time },
            Some(EndReason::Replaced { .. }) => EndReason::PlaceKept,
            Some(EndReason::PlaceKept) => EndReason::BitRate {
                measured_bps: 0,
                max_bps: 0,
            },
            Some(EndReason::BitRate { .. }) => EndReason::SessionTime { max: time },
            Some(EndReason::SessionTime { .. }) => EndReason::Idle { after: time },
            Some(EndReason::Idle { .. }) => return None,
        })
    }

    #[test]
    fn every_reason_of_an_end_is_in_the_document() {
        let reasons = std::iter::successors(next(None), |reason| next(Some(reason)));
        let names: Vec<&str> = reasons.map(|reason| reason.name()).collect();
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let documented = &document["components"]["schemas"]["End"]["properties"]["why"]["enum"];
        assert_eq!(*documented, serde_json::json!(names));
    }
}

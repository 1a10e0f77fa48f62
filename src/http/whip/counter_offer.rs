//! The counter-offer of WHEP: a player that POSTs an empty body receives an offer, and answers it with a PATCH of its session.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hyper::body::Body as _;

use crate::http::problem::Problem;
use crate::http::server::connection::Connection;
use crate::http::whip::routes::{Endpoint, SDP, offer_name, session_response};
use crate::http::{Shared, body};
use onecast_control::port::{Protocol, Request};
use onecast_control::{Grant, Refusal, SessionId};

/// Whether the headers allow an empty body: one without a content type may turn out to be empty if its length is unknown.
pub(crate) fn may_be_asked_for(headers: &HeaderMap, body: &Body) -> bool {
    !headers.contains_key(CONTENT_TYPE) && body.size_hint().lower() == 0
}

/// Whether the client requests a counter-offer: only an empty body does. Answering other offers with 406 would make some players drop
/// audio, and others send an empty POST only after a 400.
pub(crate) fn is_asked_for(headers: &HeaderMap, body: &str) -> bool {
    body.is_empty() && (!headers.contains_key(CONTENT_TYPE) || body::has_type(headers, SDP))
}

/// 406 with the offer of the server.
pub(crate) async fn offer(
    shared: &Shared,
    endpoint: &Endpoint,
    Connection { client, local }: Connection,
    grant: &Grant,
) -> Result<Response, Problem> {
    let stream = &endpoint.stream;
    let request = Request {
        stream,
        offer: "",
        client,
        local,
        grant,
    };
    let offered = shared.service.counter_offer(request);
    let offered = offered.map_err(|refusal| Problem::of_offer(offer_name(Protocol::Whep), stream, client, refusal))?;
    Ok(session_response(shared, endpoint, StatusCode::NOT_ACCEPTABLE, offered))
}

/// 204 for the answer to that offer.
pub(crate) async fn take_answer(shared: &Shared, session: SessionId, answer: &str) -> Result<StatusCode, Problem> {
    shared.service.take_answer(session, answer).map_err(|refusal| {
        let unusable = matches!(&refusal, Refusal::Sdp(refusal) if refusal.unusable);
        let problem = Problem::from(refusal);
        if unusable {
            problem.titled("The answer cannot be used")
        } else {
            problem
        }
    })?;
    Ok(StatusCode::NO_CONTENT)
}

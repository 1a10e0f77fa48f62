//! PATCH of a session: trickled candidates, ICE restarts (RFC 9725 section 4.3), and answers to counter-offers.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::http::cors::ACCEPT_PATCH;
use crate::http::path_params::SessionPath;
use crate::http::problem::{Problem, kinds};
use crate::http::server::connection::Connection;
use crate::http::whip::counter_offer;
use crate::http::whip::etag::{IfMatchError, etag, if_match};
use crate::http::whip::routes::{FRAGMENT, SDP, patch_types, wrong_type};
use crate::http::{Shared, body};
use onecast_control::ice_session::Precondition;
use onecast_control::port::{Patch, Patched, Protocol};
use onecast_control::{Refusal, SessionId};

/// Handles a PATCH. Strictly by RFC 9725, one without `If-Match` is refused. By default it is accepted if it names the current ICE
/// session or none at all, because many clients never store the tag.
pub(crate) async fn patch(
    State(shared): State<Shared>,
    Extension(protocol): Extension<Protocol>,
    SessionPath(session): SessionPath,
    Connection { client, local }: Connection,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let is_answer = protocol == Protocol::Whep && body::has_type(&headers, SDP);
    let condition = match check_head(&shared, protocol, session, &headers) {
        Ok(condition) => condition,
        Err(problem) => return Err(body::refuse(&headers, body, *problem).await),
    };
    let fragment = body::text(&headers, body, shared.limits.body_timeout).await?;
    if is_answer {
        return counter_offer::take_answer(&shared, session, &fragment)
            .await
            .map(IntoResponse::into_response);
    }
    let patch = Patch {
        session,
        protocol,
        condition: &condition,
        fragment: &fragment,
        client,
        local,
    };
    Ok(match shared.service.patch(patch)? {
        Patched::Trickled => StatusCode::NO_CONTENT.into_response(),
        Patched::Restarted { tag, fragment } => {
            let headers = [(ETAG, etag(&tag)), (CONTENT_TYPE, HeaderValue::from_static(FRAGMENT))];
            (headers, fragment).into_response()
        }
    })
}

/// Checks the headers: returns the condition of `If-Match`, or why the body need not be read.
fn check_head(
    shared: &Shared,
    protocol: Protocol,
    session: SessionId,
    headers: &HeaderMap,
) -> Result<Precondition, Box<Problem>> {
    let problem = |refusal: Refusal| Box::new(Problem::from(refusal));
    if !shared.service.exists(session, protocol) {
        return Err(problem(Refusal::gone(shared.service.operation().why_ended(session))));
    }
    if protocol == Protocol::Whep && body::has_type(headers, SDP) {
        return Ok(Precondition::Missing);
    }
    if !body::has_type(headers, FRAGMENT) {
        let accepted = HeaderValue::from_static(patch_types(protocol));
        return Err(Box::new(wrong_type(headers, FRAGMENT).header(ACCEPT_PATCH, accepted)));
    }
    let condition = if_match(headers).map_err(|error| Box::new(Problem::from(error)))?;
    if shared.strict_etags && condition == Precondition::Missing {
        return Err(problem(Refusal::Unconditional));
    }
    Ok(condition)
}

impl From<IfMatchError> for Problem {
    fn from(error: IfMatchError) -> Problem {
        Problem::new(kinds::BAD_IF_MATCH, error.to_string())
    }
}

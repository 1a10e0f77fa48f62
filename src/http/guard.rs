//! Asks the authority before a request is done: takes the token out of it, and makes a problem of a refusal.

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, FORWARDED, VIA, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};

use super::Shared;
use super::connection::Connection;
use super::problem::Problem;
use crate::auth::{Action, Asking, Denied, Grant};
use crate::room::StreamName;

/// Who asks: what of a request counts for that.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    token: Option<String>,
    connection: Connection,
    forwarded: bool,
}

impl Asker {
    /// The grant for `action`, or the problem to answer with.
    pub(super) async fn may(
        &self,
        shared: &Shared,
        action: Action,
        stream: Option<&StreamName>,
    ) -> Result<Grant, Problem> {
        let asking = Asking {
            action,
            stream,
            token: self.token.as_deref(),
            client: self.connection.client,
            forwarded: self.forwarded,
        };
        shared.authority.ask(asking).await.map_err(Problem::from)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asker, Problem> {
        let Ok(connection) = Connection::from_request_parts(parts, state).await;
        Ok(Asker {
            token: bearer(&parts.headers),
            connection,
            forwarded: is_forwarded(&parts.headers),
        })
    }
}

/// Somebody who may administer.
#[derive(Debug)]
pub(super) struct Administrator;

impl FromRequestParts<Shared> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Administrator, Problem> {
        let asker = Asker::from_request_parts(parts, shared).await?;
        asker.may(shared, Action::Administer, None).await?;
        Ok(Administrator)
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim().to_owned())
}

/// Whether a proxy says that it asks for somebody else.
fn is_forwarded(headers: &HeaderMap) -> bool {
    let known = [FORWARDED, VIA].iter().any(|name| headers.contains_key(name));
    known
        || headers
            .keys()
            .any(|name| name.as_str().starts_with("x-forwarded-") || name == "x-real-ip")
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Problem {
        let detail = denied.to_string();
        match denied {
            Denied::Missing | Denied::Wrong(_) => {
                Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is needed", detail)
                    .hint("Send the header Authorization: Bearer TOKEN.")
                    .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            Denied::Forbidden(_) => Problem::new(StatusCode::FORBIDDEN, "forbidden", "This is not allowed", detail),
            Denied::Unavailable(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "authority-unavailable",
                "It cannot be decided whether this is allowed",
                detail,
            )
            .retry_after(5),
        }
    }
}

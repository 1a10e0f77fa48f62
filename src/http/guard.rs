//! Asks the authority before a request is done: takes the token out of it, and makes a problem of a refusal.

use axum::extract::{FromRequestParts, Query};
use axum::http::header::{AUTHORIZATION, FORWARDED, VIA, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::Deserialize;

use super::Shared;
use super::connection::Connection;
use super::problem::Problem;
use super::service::SessionGuard;
use crate::auth::{Action, Asking, Denied, Right, Rooms, Secret};
use crate::room::{Purpose, StreamName};

/// Who asks: what of a request counts for that.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    token: Option<Token>,
    connection: Connection,
    forwarded: bool,
}

/// A token and how it came.
#[derive(Debug, Clone)]
enum Token {
    /// As it should.
    Header(Secret),
    /// As `?token=`, for players that cannot send headers.
    Query(Secret),
}

impl Asker {
    /// The right to `action`, or the problem to answer with.
    pub(super) async fn may(
        &self,
        shared: &Shared,
        action: Action,
        stream: Option<&StreamName>,
    ) -> Result<Right, Problem> {
        let right = shared.authority.ask(self.asking(action, stream)).await?;
        match self.token {
            // A player that cannot send a header now cannot send one later: the session's URL is its right.
            Some(Token::Query(_)) => Ok(Right { token: None, ..right }),
            _ => Ok(right),
        }
    }

    /// Whether who asks may do something with a session that is guarded so.
    pub(super) async fn may_return(&self, shared: &Shared, guard: &SessionGuard) -> Result<(), Problem> {
        let Some(digest) = guard.token else { return Ok(()) };
        if self
            .text()
            .is_some_and(|token| shared.authority.recognises(token, digest))
        {
            return Ok(());
        }
        if self.token.is_none() {
            return Err(Denied::Missing.into());
        }
        let action = match guard.purpose {
            Purpose::Publish => Action::Publish,
            Purpose::Watch => Action::Watch,
        };
        self.may(shared, action, Some(&guard.stream)).await.map(drop)
    }

    /// The streams that who asks may know of.
    pub(super) async fn visible(&self, shared: &Shared) -> Result<Rooms, Problem> {
        Ok(shared.authority.visible(self.asking(Action::Watch, None)).await?)
    }

    /// The same without a token that came in a link: one that is passed on or kept in a history shall not be enough to administer.
    pub(super) fn by_header(mut self) -> Asker {
        self.token = self.token.filter(|token| matches!(token, Token::Header(_)));
        self
    }

    fn asking<'a>(&'a self, action: Action, stream: Option<&'a StreamName>) -> Asking<'a> {
        Asking {
            action,
            stream,
            token: self.text(),
            client: self.connection.client,
            forwarded: self.forwarded,
        }
    }

    fn text(&self) -> Option<&str> {
        self.token
            .as_ref()
            .map(|(Token::Header(secret) | Token::Query(secret))| secret.tell())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asker, Problem> {
        let Ok(connection) = Connection::from_request_parts(parts, state).await;
        let in_header = bearer(&parts.headers).map(Token::Header);
        Ok(Asker {
            token: in_header.or_else(|| in_query(&parts.uri).map(Token::Query)),
            connection,
            forwarded: is_forwarded(&parts.headers),
        })
    }
}

/// Somebody who may administer. Their token comes in a header.
#[derive(Debug)]
pub(super) struct Administrator;

impl FromRequestParts<Shared> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Administrator, Problem> {
        let asker = Asker::from_request_parts(parts, shared).await?.by_header();
        asker.may(shared, Action::Administer, None).await?;
        Ok(Administrator)
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let is_bearer = scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty();
    is_bearer.then(|| Secret::new(token))
}

/// The token of `?token=`.
fn in_query(uri: &Uri) -> Option<Secret> {
    #[derive(Deserialize)]
    struct Parameters {
        token: String,
    }
    let Query(Parameters { token }) = Query::try_from_uri(uri).ok()?;
    (!token.is_empty()).then(|| Secret::new(token))
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
        // The challenge of RFC 6750 section 3.
        let challenged =
            |problem: Problem, challenge| problem.header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        let unauthorized = |title| Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", title, detail.clone());
        let forbidden = || {
            Problem::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "This is not allowed",
                detail.clone(),
            )
        };
        match denied {
            Denied::Missing => challenged(
                unauthorized("A token is needed").hint("Send the header Authorization: Bearer TOKEN, or ask whoever runs the server for a link."),
                "Bearer realm=\"onecast\"",
            ),
            Denied::Wrong(_) => challenged(
                unauthorized("This token is not good").hint("Check that it is complete, or ask whoever runs the server for another one."),
                "Bearer realm=\"onecast\", error=\"invalid_token\"",
            ),
            Denied::Forbidden(_) => challenged(forbidden(), "Bearer realm=\"onecast\", error=\"insufficient_scope\""),
            Denied::Proxied => Problem::new(StatusCode::FORBIDDEN, "proxied", "Publishing is not set up for others", detail).hint(
                "Start the server with --auth tokens, or with --auth off if everybody who reaches the proxy may publish.",
            ),
            Denied::TooMany { retry_after } => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-wrong-tokens",
                "Too many wrong tokens",
                detail,
            )
            .retry_after(retry_after.as_secs() as u16),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_from_either_place() {
        let header = |value: &'static str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            bearer(&headers).map(|secret| secret.tell().to_owned())
        };
        assert_eq!(header("Bearer a.b-c"), Some("a.b-c".to_owned()));
        assert_eq!(header("bearer   abc "), Some("abc".to_owned()));
        for value in ["Bearer", "Bearer ", "Basic YTpi", "abc"] {
            assert_eq!(header(value), None, "{value}");
        }
        let query = |uri: &'static str| in_query(&Uri::from_static(uri)).map(|secret| secret.tell().to_owned());
        assert_eq!(query("/whep/live?a=b&token=x%2By"), Some("x+y".to_owned()));
        for uri in [
            "/whep/live",
            "/whep/live?token=",
            "/whep/live?token",
            "/whep/live?token=a&token=b",
        ] {
            assert_eq!(query(uri), None, "{uri}");
        }
    }

    #[test]
    fn every_proxy_is_recognised() {
        let with = |name: &'static str| HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static("x"))]);
        for name in ["forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"] {
            let headers: HeaderMap = with(name);
            assert!(is_forwarded(&headers), "{name}");
        }
        assert!(!is_forwarded(&with("user-agent")));
    }
}

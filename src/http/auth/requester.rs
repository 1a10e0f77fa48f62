//! Asks the authority before a request is done: takes the token out of it, and makes a problem of a refusal.

use axum::extract::{FromRequestParts, Query};
use axum::http::header::{AUTHORIZATION, HeaderName, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, Version};
use serde::Deserialize;

use crate::auth::{Action, Asking, Denied, Page, Right, Rooms, Secret};
use crate::http::Shared;
use crate::http::auth::same_origin;
use crate::http::problem::Problem;
use crate::http::server::connection::Connection;
use crate::http::service::SessionGuard;
use onecast_control::{Purpose, StreamName};

/// Who asks: what of a request counts for that.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    token: Option<Token>,
    connection: Connection,
    forwarded: bool,
    page: Page,
}

/// A token and how it came.
#[derive(Debug, Clone)]
enum Token {
    /// As it should.
    Header(Secret),
    /// As `?token=`, for players that cannot send headers.
    Query(Secret),
    /// In the first frame of a WebSocket, for pages: they cannot send headers with it.
    Frame(Secret),
}

impl Asker {
    /// The same with the token of a first frame, if there is one there.
    pub(crate) fn with_token(self, token: Option<Secret>) -> Asker {
        let token = token.map(Token::Frame).or(self.token);
        Asker { token, ..self }
    }

    /// The right to `action`, or the problem to answer with.
    pub(crate) async fn may(
        &self,
        shared: &Shared,
        action: Action,
        stream: Option<&StreamName>,
    ) -> Result<Right, Problem> {
        let right = shared.authority.ask(self.asking(action, stream)).await?;
        match self.token {
            // A player that cannot send a header now cannot send one later: the session's URL is its right.
            Some(Token::Query(_) | Token::Frame(_)) => Ok(Right { token: None, ..right }),
            _ => Ok(right),
        }
    }

    /// Whether who asks may administer. The token comes in the header: a link shall not be enough.
    pub(crate) async fn may_administer(mut self, shared: &Shared) -> Result<(), Problem> {
        self.token = self.token.filter(|token| matches!(token, Token::Header(_)));
        self.may(shared, Action::Administer, None).await.map(drop)
    }

    /// Whether who asks may do something with a session that is guarded so.
    pub(crate) async fn may_return(&self, shared: &Shared, guard: &SessionGuard) -> Result<(), Problem> {
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
            Purpose::Watch | Purpose::Confer => Action::Watch,
        };
        self.may(shared, action, Some(&guard.stream)).await.map(drop)
    }

    /// Whether the page that asks may do this at all, whatever token it shows: what a preflight is about.
    pub(crate) fn is_welcome(&self, shared: &Shared, action: Action) -> bool {
        shared.authority.welcomes(&self.asking(action, None))
    }

    /// The streams that who asks may know of.
    pub(crate) async fn visible(&self, shared: &Shared) -> Result<Rooms, Problem> {
        Ok(shared.authority.visible(self.asking(Action::Watch, None)).await?)
    }

    fn asking<'a>(&'a self, action: Action, stream: Option<&'a StreamName>) -> Asking<'a> {
        Asking {
            action,
            stream,
            token: self.text(),
            client: self.connection.client,
            forwarded: self.forwarded,
            page: self.page,
        }
    }

    fn text(&self) -> Option<&str> {
        self.token
            .as_ref()
            .map(|(Token::Header(secret) | Token::Query(secret) | Token::Frame(secret))| secret.tell())
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
            forwarded: is_forwarded(parts),
            page: same_origin::of_request(parts),
        })
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1). Of two headers a proxy in front may have looked at the other one.
fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
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
fn is_forwarded(parts: &Parts) -> bool {
    // nginx speaks it unless told otherwise, and adds no header but Host then; no browser does.
    let is_old = parts.version == Version::HTTP_10 && !same_origin::is_nameless(parts);
    let says_so = |name: &HeaderName| name.as_str().starts_with("x-forwarded") || PROXIED.contains(&name.as_str());
    is_old || parts.headers.keys().any(says_so)
}

/// Headers of proxies and tunnels, beside `X-Forwarded-*`: RFC 7239, RFC 9110 section 7.6.3, RFC 8586, and what the larger ones add.
const PROXIED: [&str; 12] = [
    "forwarded",
    "via",
    "cdn-loop",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
];

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
            Denied::Foreign => Problem::new(StatusCode::FORBIDDEN, "foreign-page", "This is not allowed", detail).hint(
                "Without tokens, ask from this machine at 127.0.0.1 or localhost. For pages of others start the server with --auth tokens, or with --auth off if every page may publish and watch.",
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
        let mut twice = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer a"))]);
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert!(bearer(&twice).is_none());
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
        let with = |name: &str, version: Version| {
            let request = axum::http::Request::builder().version(version).header(name, "x");
            is_forwarded(&request.header("host", "127.0.0.1").body(()).unwrap().into_parts().0)
        };
        let nameless = |name: &str| {
            let request = axum::http::Request::builder()
                .version(Version::HTTP_10)
                .header(name, "x");
            is_forwarded(&request.body(()).unwrap().into_parts().0)
        };
        assert!(!nameless("user-agent") && nameless("via"));
        for name in ["x-forwarded-for", "X-Forwarded-Proto", "x-forwarded"]
            .into_iter()
            .chain(PROXIED)
        {
            assert!(with(name, Version::HTTP_11), "{name}");
        }
        assert!(!with("user-agent", Version::HTTP_11) && !with("user-agent", Version::HTTP_2));
        assert!(with("user-agent", Version::HTTP_10));
    }
}

//! Authorizes requests: extracts the token and the origin, asks the [`Authority`](crate::auth::Authority), and reports denials.

use axum::extract::{FromRequestParts, Query};
use axum::http::header::{AUTHORIZATION, HeaderName, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri, Version};
use serde::Deserialize;

use crate::auth::{AccessRequest, Action, Denied, Grant, PageOrigin, Secret, StreamPatterns};
use crate::http::Shared;
use crate::http::auth::same_origin;
use crate::http::problem::{Problem, kinds};
use crate::http::server::connection::Connection;
use onecast_control::port::SessionGuard;
use onecast_control::{Purpose, StreamName};

/// The client of a request, as far as authorization needs it.
#[derive(Debug, Clone)]
pub(crate) struct Requester {
    token: Option<Token>,
    connection: Connection,
    forwarded: bool,
    page: PageOrigin,
}

/// A token and how the client sent it.
#[derive(Debug, Clone)]
enum Token {
    /// In the `Authorization` header.
    Header(Secret),
    /// As `?token=`, for players that cannot set headers.
    Query(Secret),
    /// In the first frame of a WebSocket, because pages cannot set its headers.
    Frame(Secret),
}

impl Requester {
    /// The same with the token of a first frame, if it has one.
    pub(crate) fn with_token(self, token: Option<Secret>) -> Requester {
        let token = token.map(Token::Frame).or(self.token);
        Requester { token, ..self }
    }

    /// Authorizes `action`, or returns the problem to answer with.
    pub(crate) async fn authorize(
        &self,
        shared: &Shared,
        action: Action,
        stream: Option<&StreamName>,
    ) -> Result<Grant, Problem> {
        let grant = shared.authority.authorize(self.request(action, stream)).await?;
        match self.token {
            // A player that cannot set a header now cannot set one later, so knowing the session's URL has to be enough.
            Some(Token::Query(_) | Token::Frame(_)) => Ok(Grant { token: None, ..grant }),
            _ => Ok(grant),
        }
    }

    /// Authorizes administration. The token must be in the header, so that a link alone is not enough.
    pub(crate) async fn authorize_admin(mut self, shared: &Shared) -> Result<(), Problem> {
        self.token = self.token.filter(|token| matches!(token, Token::Header(_)));
        self.authorize(shared, Action::Administer, None).await.map(drop)
    }

    /// Authorizes a request to a session.
    pub(crate) async fn authorize_session(&self, shared: &Shared, guard: &SessionGuard) -> Result<(), Problem> {
        let Some(digest) = guard.token else { return Ok(()) };
        if self
            .text()
            .is_some_and(|token| shared.authority.matches_digest(token, digest))
        {
            return Ok(());
        }
        if self.token.is_none() {
            return Err(Denied::Missing.into());
        }
        let action = match guard.purpose {
            Purpose::Publish => Action::Publish,
            Purpose::Watch | Purpose::Participate => Action::Watch,
        };
        self.authorize(shared, action, Some(&guard.stream)).await.map(drop)
    }

    /// Whether the origin of the page is acceptable, whatever the token: the question of a preflight.
    pub(crate) fn is_origin_allowed(&self, shared: &Shared, action: Action) -> bool {
        shared.authority.allows_origin(&self.request(action, None))
    }

    /// The streams that the client may see.
    pub(crate) async fn visible_streams(&self, shared: &Shared) -> Result<StreamPatterns, Problem> {
        Ok(shared
            .authority
            .visible_streams(self.request(Action::Watch, None))
            .await?)
    }

    fn request<'a>(&'a self, action: Action, stream: Option<&'a StreamName>) -> AccessRequest<'a> {
        AccessRequest {
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
            .map(|(Token::Header(secret) | Token::Query(secret) | Token::Frame(secret))| secret.expose())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Requester {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Requester, Problem> {
        let Ok(connection) = Connection::from_request_parts(parts, state).await;
        let in_header = bearer(&parts.headers).map(Token::Header);
        Ok(Requester {
            token: in_header.or_else(|| in_query(&parts.uri).map(Token::Query)),
            connection,
            forwarded: is_forwarded(parts),
            page: same_origin::of_request(parts),
        })
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1). `None` if there are two headers: a proxy may have checked the other one.
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

/// Whether a proxy has forwarded the request.
fn is_forwarded(parts: &Parts) -> bool {
    // By default, nginx uses HTTP/1.0 and adds no header but Host; no browser does.
    let is_old = parts.version == Version::HTTP_10 && !same_origin::is_nameless(parts);
    let says_so = |name: &HeaderName| name.as_str().starts_with("x-forwarded") || PROXIED.contains(&name.as_str());
    is_old || parts.headers.keys().any(says_so)
}

/// Headers of proxies and tunnels besides `X-Forwarded-*`: RFC 7239, RFC 9110 section 7.6.3, RFC 8586, and those of large providers.
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
        let kind = match denied {
            Denied::Missing => kinds::NO_TOKEN,
            Denied::Wrong(_) => kinds::WRONG_TOKEN,
            Denied::TooMany { .. } => kinds::TOO_MANY_WRONG_TOKENS,
            Denied::Forbidden(_) => kinds::FORBIDDEN,
            Denied::Proxied => kinds::PROXIED,
            Denied::Foreign => kinds::FOREIGN_PAGE,
            Denied::Unavailable(_) => kinds::AUTHORITY_UNAVAILABLE,
        };
        let problem = Problem::new(kind, detail);
        // The challenge of RFC 6750 section 3.
        let challenge = match denied {
            Denied::Missing => "Bearer realm=\"onecast\"",
            Denied::Wrong(_) => "Bearer realm=\"onecast\", error=\"invalid_token\"",
            Denied::Forbidden(_) => "Bearer realm=\"onecast\", error=\"insufficient_scope\"",
            Denied::TooMany { retry_after } => return problem.retry_after(retry_after.as_secs() as u16),
            Denied::Proxied | Denied::Foreign | Denied::Unavailable(_) => return problem,
        };
        problem.header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_header_or_query() {
        let header = |value: &'static str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            bearer(&headers).map(|secret| secret.expose().to_owned())
        };
        assert_eq!(header("Bearer a.b-c"), Some("a.b-c".to_owned()));
        assert_eq!(header("bearer   abc "), Some("abc".to_owned()));
        for value in ["Bearer", "Bearer ", "Basic YTpi", "abc"] {
            assert_eq!(header(value), None, "{value}");
        }
        let mut twice = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer a"))]);
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert!(bearer(&twice).is_none());
        let query = |uri: &'static str| in_query(&Uri::from_static(uri)).map(|secret| secret.expose().to_owned());
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
    fn every_proxy_is_recognized() {
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

//! HTTP requests of a conference member. A peer id is a secret: requests contain it, errors do not.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde_json::Value;

use super::messages::{AnswerMessage, JoinAnswer, OfferMessage, Refusal, ServerOffer};
use crate::signal::{self, SignalError, innermost, reason};
use crate::trust::Trust;

/// HTTP client of a server with conference rooms.
#[derive(Debug, Clone)]
pub(super) struct HttpClient {
    client: Client,
    base: Url,
    token: Option<String>,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The server refused it.
    Refused(Box<Refusal>, SignalError),
    /// There was no answer.
    Unreachable(SignalError),
}

impl From<RequestError> for SignalError {
    fn from(error: RequestError) -> SignalError {
        match error {
            RequestError::Refused(_, error) | RequestError::Unreachable(error) => error,
        }
    }
}

impl HttpClient {
    /// A client of the server at `to`, such as `http://127.0.0.1:8080`.
    pub(super) fn new(to: &str, token: Option<&str>, trust: &Trust) -> Result<HttpClient, SignalError> {
        let base = signal::parse(to)?;
        let client = trust.apply(Client::builder().connect_timeout(TIMEOUT)).build();
        let client = client.map_err(|error| SignalError::Unreachable {
            url: to.to_owned(),
            why: innermost(&error),
        })?;
        Ok(HttpClient {
            client,
            base,
            token: token.map(str::to_owned),
        })
    }

    /// URL of the server, for messages to the user.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Bearer token of the requests.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Joins, or renegotiates.
    pub(super) async fn offer(&self, offer: &OfferMessage<'_>) -> Result<JoinAnswer, RequestError> {
        let response = self.send("offer", self.post("offer", offer)).await?;
        parse_answer("offer", self.url("offer"), response).await
    }

    /// The server's pending offer, or one that it makes within `wait`.
    pub(super) async fn next_offer(
        &self,
        peer_id: &str,
        wait: Option<Duration>,
    ) -> Result<Option<ServerOffer>, RequestError> {
        let mut url = self.url(&format!("renegotiate/{peer_id}"));
        if let Some(wait) = wait {
            url.query_pairs_mut().append_pair("wait", &wait.as_secs().to_string());
        }
        let request = self
            .request(Method::GET, url)
            .timeout(TIMEOUT + wait.unwrap_or_default());
        let response = self.send("renegotiate", request).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        parse_answer("renegotiate", self.url("renegotiate"), response)
            .await
            .map(Some)
    }

    /// Answers an offer of the server.
    pub(super) async fn answer(&self, answer: &AnswerMessage<'_>) -> Result<(), RequestError> {
        self.send("answer", self.post("answer", answer)).await.map(drop)
    }

    /// Leaves the room. Errors are ignored: a server that is gone needs no goodbye.
    pub(super) async fn leave(&self, peer_id: &str) {
        let url = self.url(&format!("peer/{peer_id}"));
        let _ = self
            .send("peer", self.request(Method::DELETE, url).timeout(TIMEOUT))
            .await;
    }

    /// Requests a WebSocket; returns the response.
    pub(super) async fn upgrade(&self, key: &str) -> Result<Response, RequestError> {
        let request = self.request(Method::GET, self.url("ws"));
        let request = request
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", key);
        let sent = tokio::time::timeout(TIMEOUT, self.send("ws", request));
        sent.await.unwrap_or_else(|_| {
            Err(RequestError::Unreachable(SignalError::Unreachable {
                url: self.url("ws").into(),
                why: format!("no answer within {} s", TIMEOUT.as_secs()),
            }))
        })
    }

    fn post(&self, path: &str, body: &impl Serialize) -> RequestBuilder {
        self.request(Method::POST, self.url(path)).timeout(TIMEOUT).json(body)
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// `path` below the server's own path.
    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        url
    }

    async fn send(&self, what: &str, request: RequestBuilder) -> Result<Response, RequestError> {
        let url = self.url(what);
        let response = request.send().await.map_err(|error| unreachable(&url, &error))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = response.text().await.map_err(|error| unreachable(&url, &error))?;
        Err(refused(what, url, status, retry_after, &body))
    }
}

fn unreachable(url: &Url, error: &reqwest::Error) -> RequestError {
    RequestError::Unreachable(SignalError::Unreachable {
        url: url.to_string(),
        why: innermost(error),
    })
}

fn refused(what: &str, url: Url, status: StatusCode, retry_after: Option<u64>, body: &str) -> RequestError {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let kind = problem["type"].as_str().unwrap_or_default();
    let hint = if status == StatusCode::UNAUTHORIZED {
        " Use --token."
    } else {
        ""
    };
    let refused = Refusal {
        request: what.to_owned(),
        status: status.as_u16(),
        problem: kind.rsplit(':').next().unwrap_or_default().to_owned(),
        retry_after,
        ..Refusal::default()
    };
    let error = SignalError::Refused {
        url: url.into(),
        status,
        why: reason(status, body) + hint,
        retry_after: retry_after.map(Duration::from_secs),
    };
    RequestError::Refused(Box::new(refused), error)
}

async fn parse_answer<T: serde::de::DeserializeOwned>(
    what: &str,
    url: Url,
    response: Response,
) -> Result<T, RequestError> {
    let status = response.status();
    let body = response.text().await.map_err(|error| unreachable(&url, &error))?;
    serde_json::from_str(&body)
        .map_err(|_| refused(what, url, status, None, "this is not a server with conference rooms"))
}

/// Longer than any server needs, shorter than a person waits.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

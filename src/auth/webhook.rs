//! Authorization by another server: one POST per request.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tracing::warn;

use super::jwks::bounded;
use super::{AccessRequest, Action, Credential, Denied, Secret};
use onecast_clients::signal::innermost;

/// The client of the other server.
///
/// It sends `{"action", "stream", "token", "client", "forwarded"}`. 2xx allows the request; the body may name the credential:
/// `{"credential": "..."}`. 401 and 403 deny it; the client receives the `detail` of the body. Any other status is a failure.
#[derive(Debug)]
pub(super) struct Webhook {
    url: Url,
    secret: Option<Secret>,
    fail_open: bool,
    client: Client,
    in_flight: Semaphore,
}

#[derive(Debug, Default, Deserialize)]
struct WebhookReply {
    credential: Option<String>,
    detail: Option<String>,
}

impl Webhook {
    /// Concurrent requests.
    const IN_FLIGHT_MAX: usize = 64;
    /// Longest time that a request waits for its turn.
    const WAIT_MAX: Duration = Duration::from_secs(1);
    /// Largest response, bytes.
    const ANSWER_MAX: usize = 16 * 1024;
    /// Longest `detail` that a client receives, characters.
    const DETAIL_MAX: usize = 200;

    pub(super) fn new(
        url: Url,
        secret: Option<Secret>,
        timeout: Duration,
        fail_open: bool,
    ) -> Result<Webhook, reqwest::Error> {
        let client = Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Webhook {
            url,
            secret,
            fail_open,
            client,
            in_flight: Semaphore::new(Webhook::IN_FLIGHT_MAX),
        })
    }

    /// Authorizes a request; returns the credential if the other server names one.
    pub(super) async fn ask(&self, request: &AccessRequest<'_>) -> Result<Option<Credential>, Denied> {
        let permit = tokio::time::timeout(Webhook::WAIT_MAX, self.in_flight.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return self.failed(request, "too many requests are waiting for it");
        };
        match self.answer(request).await {
            Ok((status, answer)) if status.is_success() => Ok(credential(answer)),
            Ok((StatusCode::UNAUTHORIZED, _)) if request.token.is_none() => Err(Denied::Missing),
            Ok((StatusCode::UNAUTHORIZED, answer)) => Err(Denied::Wrong(detail(answer, "the token is not valid"))),
            Ok((StatusCode::FORBIDDEN, answer)) => Err(Denied::Forbidden(detail(answer, "this is not allowed"))),
            Ok((status, _)) => self.failed(request, &format!("it answered {}", status.as_u16())),
            Err(why) => self.failed(request, &why),
        }
    }

    async fn answer(&self, request: &AccessRequest<'_>) -> Result<(StatusCode, WebhookReply), String> {
        let question = json!({
            "action": match request.action {
                Action::Publish => "publish",
                Action::Watch => "watch",
                Action::Administer => "administer",
            },
            "stream": request.stream.map(|stream| stream.as_str()),
            "token": request.token,
            "client": request.client.ip().to_string(),
            "forwarded": request.forwarded,
        });
        let request = self.client.post(self.url.clone()).json(&question);
        let request = match &self.secret {
            Some(secret) => request.bearer_auth(secret.expose()),
            None => request,
        };
        let response = request.send().await.map_err(|error| innermost(&error.without_url()))?;
        let status = response.status();
        let decisive = status.is_success() || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if !decisive {
            return Ok((status, WebhookReply::default()));
        }
        let body = bounded(response, Webhook::ANSWER_MAX).await?;
        // The status decides; a body is optional and may be anything.
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    fn failed(&self, request: &AccessRequest<'_>, why: &str) -> Result<Option<Credential>, Denied> {
        if self.fail_open && request.action != Action::Administer {
            warn!("the webhook failed (--auth-webhook): {why}; request allowed because of --auth-webhook-fail-open");
            return Ok(None);
        }
        warn!("the webhook failed (--auth-webhook): {why}");
        Err(Denied::Unavailable(
            "the authorization server does not answer".to_owned(),
        ))
    }
}

fn credential(answer: WebhookReply) -> Option<Credential> {
    let name = answer
        .credential
        .filter(|name| !name.is_empty() && name.len() <= CREDENTIAL_MAX);
    name.map(|name| Credential(format!("webhook:{name}").into()))
}

/// The other server's detail on one line, or a default.
fn detail(answer: WebhookReply, otherwise: &str) -> String {
    let detail = answer.detail.unwrap_or_default();
    let line: String = detail
        .chars()
        .filter(|character| !character.is_control())
        .take(Webhook::DETAIL_MAX)
        .collect();
    let line = line.trim().trim_end_matches('.');
    if line.is_empty() {
        otherwise.to_owned()
    } else {
        line.to_owned()
    }
}

/// Longest credential, bytes.
const CREDENTIAL_MAX: usize = 256;

//! Another server decides: it is asked with one POST for each question.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tracing::warn;

use super::jwks::bounded;
use super::{Action, Asking, Credential, Denied, Secret};
use onecast_clients::signal::innermost;

/// Asks another server.
///
/// It is sent `{"action", "stream", "token", "client", "forwarded"}`. 2xx allows; the body may name by whose right:
/// `{"credential": "..."}`. 401 and 403 refuse; the body's `detail` is passed on. Anything else is a failure.
#[derive(Debug)]
pub(super) struct Webhook {
    url: Url,
    secret: Option<Secret>,
    fail_open: bool,
    client: Client,
    places: Semaphore,
}

#[derive(Debug, Default, Deserialize)]
struct Answer {
    credential: Option<String>,
    detail: Option<String>,
}

impl Webhook {
    /// Questions at once.
    const IN_FLIGHT_MAX: usize = 64;
    /// How long a question may wait for its turn.
    const WAIT_MAX: Duration = Duration::from_secs(1);
    /// Largest answer, bytes.
    const ANSWER_MAX: usize = 16 * 1024;
    /// What of an answer's words is passed on, characters.
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
            places: Semaphore::new(Webhook::IN_FLIGHT_MAX),
        })
    }

    /// By whose right it may be done; `None` when the other server did not say.
    pub(super) async fn ask(&self, asking: &Asking<'_>) -> Result<Option<Credential>, Denied> {
        let place = tokio::time::timeout(Webhook::WAIT_MAX, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return self.failed(asking, "too many questions wait for their answer");
        };
        match self.answer(asking).await {
            Ok((status, answer)) if status.is_success() => Ok(credential(answer)),
            Ok((StatusCode::UNAUTHORIZED, _)) if asking.token.is_none() => Err(Denied::Missing),
            Ok((StatusCode::UNAUTHORIZED, answer)) => Err(Denied::Wrong(words(answer, "this token is not good"))),
            Ok((StatusCode::FORBIDDEN, answer)) => Err(Denied::Forbidden(words(answer, "this is not allowed"))),
            Ok((status, _)) => self.failed(asking, &format!("it answered {}", status.as_u16())),
            Err(why) => self.failed(asking, &why),
        }
    }

    async fn answer(&self, asking: &Asking<'_>) -> Result<(StatusCode, Answer), String> {
        let question = json!({
            "action": match asking.action {
                Action::Publish => "publish",
                Action::Watch => "watch",
                Action::Administer => "administer",
            },
            "stream": asking.stream.map(|stream| stream.as_str()),
            "token": asking.token,
            "client": asking.client.ip().to_string(),
            "forwarded": asking.forwarded,
        });
        let request = self.client.post(self.url.clone()).json(&question);
        let request = match &self.secret {
            Some(secret) => request.bearer_auth(secret.tell()),
            None => request,
        };
        let response = request.send().await.map_err(|error| innermost(&error.without_url()))?;
        let status = response.status();
        let decisive = status.is_success() || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if !decisive {
            return Ok((status, Answer::default()));
        }
        let body = bounded(response, Webhook::ANSWER_MAX).await?;
        // Its status is the answer; who says no more, says nothing that can be read.
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    fn failed(&self, asking: &Asking<'_>, why: &str) -> Result<Option<Credential>, Denied> {
        if self.fail_open && asking.action != Action::Administer {
            warn!("the webhook cannot be asked (--auth-webhook): {why}; allowed, as --auth-webhook-fail-open says");
            return Ok(None);
        }
        warn!("the webhook cannot be asked (--auth-webhook): {why}");
        Err(Denied::Unavailable(
            "the server that decides about this does not answer".to_owned(),
        ))
    }
}

fn credential(answer: Answer) -> Option<Credential> {
    let name = answer
        .credential
        .filter(|name| !name.is_empty() && name.len() <= CREDENTIAL_MAX);
    name.map(|name| Credential(format!("webhook:{name}").into()))
}

/// The other server's words on one line, or ours.
fn words(answer: Answer, otherwise: &str) -> String {
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

/// Longest name of a right, bytes.
const CREDENTIAL_MAX: usize = 256;

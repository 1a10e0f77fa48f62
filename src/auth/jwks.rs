//! Public keys for signed tokens: from the configuration, or published by the issuer (JWKS, RFC 7517) and asked for when needed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{Client, Url};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tracing::warn;

use super::Denied;
use super::jwt::{FixedKeys, VerifyingKey};
use onecast_udp::clock;

/// Where keys come from.
#[derive(Debug)]
pub(super) enum KeySource {
    /// The configuration.
    Fixed(FixedKeys),
    /// The issuer.
    Published(Published),
}

/// Keys that an issuer publishes. The old ones stay while it does not answer.
#[derive(Debug)]
pub(super) struct Published {
    issuer: Arc<Issuer>,
    /// Places for requests that wait for an answer of the issuer.
    places: Semaphore,
}

/// The issuer, and what it has published.
#[derive(Debug)]
struct Issuer {
    url: Url,
    client: Client,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Arc<Vec<(Option<String>, VerifyingKey)>>,
    /// When the keys came.
    fetched: Option<Instant>,
    /// When the issuer was last asked.
    asked: Option<Instant>,
    /// The question that is not answered yet: it ends when the other end is dropped.
    asking: Option<watch::Receiver<()>>,
}

/// A question to the issuer that has no answer yet.
#[derive(Debug)]
struct Question {
    answered: watch::Receiver<()>,
    /// Asked just now, for this very token.
    is_new: bool,
}

impl KeySource {
    /// Keys that a token may have been signed with; `kid` is what it says about that.
    pub(super) async fn for_token(&self, kid: Option<&str>, alg: Algorithm) -> Result<Arc<Vec<VerifyingKey>>, Denied> {
        match self {
            KeySource::Fixed(fixed) => Ok(fixed.all()),
            KeySource::Published(published) => published.for_token(kid, alg).await.map(Arc::new),
        }
    }
}

impl Published {
    /// How long keys are good without asking again.
    const FRESH_FOR: Duration = Duration::from_secs(600);
    /// How often the issuer is asked at most, whatever tokens say.
    const ASK_EVERY: Duration = Duration::from_secs(10);
    /// How long it may take to answer.
    const TIMEOUT: Duration = Duration::from_secs(5);
    /// How long a request waits for that: OBS gives up after 8 s. The question goes on, and its answer is for whoever comes later.
    const WAIT_MAX: Duration = Duration::from_secs(2);
    /// How many requests wait at once. More come only when somebody makes up names of keys, or right after the start.
    const WAITING_MAX: usize = 64;
    /// Largest answer, bytes.
    const ANSWER_MAX: usize = 256 * 1024;

    pub(super) fn new(url: Url) -> Result<Published, reqwest::Error> {
        let client = Client::builder()
            .timeout(Published::TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let issuer = Issuer {
            url,
            client,
            known: Mutex::default(),
        };
        Ok(Published {
            issuer: Arc::new(issuer),
            places: Semaphore::new(Published::WAITING_MAX),
        })
    }

    async fn for_token(&self, kid: Option<&str>, alg: Algorithm) -> Result<Vec<VerifyingKey>, Denied> {
        let found = self.issuer.find(kid, alg);
        let Some(question) = self.question(clock::now(), found.is_empty()) else {
            // For a while after an answer, a name that was not in it is wrong without another question.
            return self.issuer.unless_unknown(found);
        };
        // Keys that are there do while somebody else's question is answered, and while the issuer is slow.
        if !found.is_empty() && !question.is_new {
            return Ok(found);
        }
        let answered = self.wait(question).await;
        let found = self.issuer.find(kid, alg);
        if found.is_empty() && !answered {
            return Err(unavailable());
        }
        self.issuer.unless_unknown(found)
    }

    /// The question that is asked, or was asked just now because it had to be: the keys are old, or the one that is `wanted` is not among
    /// them.
    fn question(&self, now: Instant, wanted: bool) -> Option<Question> {
        let mut known = self.issuer.known();
        if !wanted && !known.is_stale(now) {
            return None;
        }
        let asking = known.asking.take().filter(|asking| asking.has_changed().is_ok());
        let is_new = asking.is_none();
        let answered = match asking {
            Some(asking) => asking,
            None if known.may_ask(now) => {
                known.asked = Some(now);
                self.ask()
            }
            None => return None,
        };
        known.asking = Some(answered.clone());
        Some(Question { answered, is_new })
    }

    /// Asks the issuer, whether anybody waits for it or not.
    fn ask(&self) -> watch::Receiver<()> {
        let (asking, answered) = watch::channel(());
        let issuer = self.issuer.clone();
        tokio::spawn(async move {
            issuer.refresh().await;
            drop(asking);
        });
        answered
    }

    /// Whether the question was answered in time.
    async fn wait(&self, mut question: Question) -> bool {
        let Ok(_place) = self.places.try_acquire() else {
            return false;
        };
        // Nothing is ever sent: it changes by ending.
        let answered = tokio::time::timeout(Published::WAIT_MAX, question.answered.changed());
        answered.await.is_ok()
    }
}

impl Known {
    fn is_stale(&self, now: Instant) -> bool {
        self.fetched
            .is_none_or(|at| now.saturating_duration_since(at) >= Published::FRESH_FOR)
    }

    fn may_ask(&self, now: Instant) -> bool {
        self.asked
            .is_none_or(|at| now.saturating_duration_since(at) >= Published::ASK_EVERY)
    }
}

fn unavailable() -> Denied {
    Denied::Unavailable("the keys for tokens cannot be fetched at this moment".to_owned())
}

impl Issuer {
    /// Those of the kind, by name if there is one.
    fn find(&self, kid: Option<&str>, alg: Algorithm) -> Vec<VerifyingKey> {
        let keys = self.known().keys.clone();
        let named = |known: &Option<String>| kid.is_none() || known.as_deref() == kid;
        let fitting = keys.iter().filter(|(name, key)| named(name) && key.algorithm == alg);
        fitting.map(|(_, key)| key.clone()).collect()
    }

    /// What was found; before the issuer has answered for the first time, nothing can be said of a token.
    fn unless_unknown(&self, found: Vec<VerifyingKey>) -> Result<Vec<VerifyingKey>, Denied> {
        if found.is_empty() && self.known().fetched.is_none() {
            return Err(unavailable());
        }
        Ok(found)
    }

    async fn refresh(&self) {
        match self.fetch().await {
            Ok(keys) => {
                let mut known = self.known();
                known.keys = Arc::new(keys);
                known.fetched = Some(clock::now());
            }
            Err(why) => warn!("the keys for tokens cannot be fetched (--jwks-url): {why}; the old ones stay"),
        }
    }

    async fn fetch(&self) -> Result<Vec<(Option<String>, VerifyingKey)>, String> {
        // The URL may carry a secret, so that errors are told without it.
        let told = |error: reqwest::Error| onecast_clients::signal::innermost(&error.without_url());
        let response = self.client.get(self.url.clone()).send().await.map_err(told)?;
        if !response.status().is_success() {
            return Err(format!("it answered {}", response.status().as_u16()));
        }
        let body = bounded(response, Published::ANSWER_MAX).await?;
        let keys = read(&String::from_utf8_lossy(&body));
        if keys.is_empty() {
            return Err("its answer has no key that can be used".to_owned());
        }
        Ok(keys)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a response, if it is not larger than `max`.
pub(super) async fn bounded(mut response: reqwest::Response, max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|error| onecast_clients::signal::innermost(&error.without_url()))?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > max {
            return Err(format!("its answer is larger than {} KiB", max / 1024));
        }
        body.extend_from_slice(&chunk);
    }
}

/// Public keys by name. What is no key for one of our algorithms is passed over, and so is everything beyond a bound.
pub(super) fn read(text: &str) -> Vec<(Option<String>, VerifyingKey)> {
    let Ok(Value::Object(mut set)) = serde_json::from_str(text) else {
        return Vec::new();
    };
    let Some(Value::Array(keys)) = set.remove("keys") else {
        return Vec::new();
    };
    let keys = keys
        .into_iter()
        .filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let usable = keys.filter_map(|jwk| Some((jwk.common.key_id.clone(), usable(&jwk)?)));
    usable.take(KEYS_MAX).collect()
}

/// Never a symmetric key: what is published is no secret.
fn usable(jwk: &Jwk) -> Option<VerifyingKey> {
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let other_use = |used: &PublicKeyUse| *used != PublicKeyUse::Signature;
    if jwk.common.public_key_use.as_ref().is_some_and(other_use) {
        return None;
    }
    if jwk.common.key_algorithm.is_some_and(|alg| alg != named) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(VerifyingKey { key, algorithm })
}

/// Keys of a set that are taken.
const KEYS_MAX: usize = 64;

#[cfg(test)]
mod tests;

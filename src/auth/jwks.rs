//! Public keys for signed tokens: from the configuration, or published by the issuer (JWKS, RFC 7517) and asked for when needed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{Client, Url};
use serde_json::Value;
use tracing::warn;

use super::Denied;
use super::jwt::{FixedKeys, VerifyingKey};
use crate::clock;

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
    url: Url,
    client: Client,
    known: Mutex<Known>,
    /// Held while the issuer is asked.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Arc<Vec<(Option<String>, VerifyingKey)>>,
    /// When the keys came.
    fetched: Option<Instant>,
    /// When the issuer was last asked.
    asked: Option<Instant>,
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
    /// Largest answer, bytes.
    const ANSWER_MAX: usize = 256 * 1024;

    pub(super) fn new(url: Url) -> Result<Published, reqwest::Error> {
        let client = Client::builder()
            .timeout(Published::TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Published {
            url,
            client,
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }

    async fn for_token(&self, kid: Option<&str>, alg: Algorithm) -> Result<Vec<VerifyingKey>, Denied> {
        let now = clock::now();
        let found = self.find(kid, alg);
        if !found.is_empty() && !self.is_stale(now) {
            return Ok(found);
        }
        if found.is_empty() {
            // Another one may be asking already, and its answer is ours.
            let _asking = self.asking.lock().await;
            if self.find(kid, alg).is_empty() && self.may_ask(clock::now()) {
                self.refresh().await;
            }
        } else if self.may_ask(now)
            && let Ok(_asking) = self.asking.try_lock()
        {
            self.refresh().await;
        }
        let found = self.find(kid, alg);
        if found.is_empty() && self.known().fetched.is_none() {
            return Err(Denied::Unavailable(
                "the keys for tokens cannot be fetched at this moment".to_owned(),
            ));
        }
        Ok(found)
    }

    /// Those of the kind, by name if there is one.
    fn find(&self, kid: Option<&str>, alg: Algorithm) -> Vec<VerifyingKey> {
        let keys = self.known().keys.clone();
        let named = |known: &Option<String>| kid.is_none() || known.as_deref() == kid;
        let fitting = keys.iter().filter(|(name, key)| named(name) && key.algorithm == alg);
        fitting.map(|(_, key)| key.clone()).collect()
    }

    fn is_stale(&self, now: Instant) -> bool {
        let fetched = self.known().fetched;
        fetched.is_none_or(|at| now.saturating_duration_since(at) >= Published::FRESH_FOR)
    }

    fn may_ask(&self, now: Instant) -> bool {
        let asked = self.known().asked;
        asked.is_none_or(|at| now.saturating_duration_since(at) >= Published::ASK_EVERY)
    }

    async fn refresh(&self) {
        self.known().asked = Some(clock::now());
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
        let told = |error: reqwest::Error| crate::client::signal::innermost(&error.without_url());
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
        let chunk = chunk.map_err(|error| crate::client::signal::innermost(&error.without_url()))?;
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

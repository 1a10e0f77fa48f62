//! Public keys for signed tokens: from the configuration, or published by the issuer (JWKS, RFC 7517) and fetched when needed.

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

/// The source of keys.
#[derive(Debug)]
pub(super) enum KeySource {
    /// The configuration.
    Fixed(FixedKeys),
    /// The issuer.
    Remote(RemoteKeys),
}

/// Keys that an issuer publishes. While it does not answer, the old ones stay valid.
#[derive(Debug)]
pub(super) struct RemoteKeys {
    issuer: Arc<Issuer>,
    /// Limits the requests that wait for the issuer.
    waiting: Semaphore,
}

/// The issuer and its keys.
#[derive(Debug)]
struct Issuer {
    url: Url,
    client: Client,
    cache: Mutex<KeyCache>,
}

#[derive(Debug, Default)]
struct KeyCache {
    keys: Arc<Vec<(Option<String>, VerifyingKey)>>,
    /// When the keys were fetched.
    fetched: Option<Instant>,
    /// When the last fetch started.
    fetch_started: Option<Instant>,
    /// The fetch in progress; it ends when the sender is dropped.
    fetching: Option<watch::Receiver<()>>,
}

/// A fetch in progress.
#[derive(Debug)]
struct PendingFetch {
    done: watch::Receiver<()>,
    /// Whether this token has triggered it.
    is_new: bool,
}

impl KeySource {
    /// The keys that may have signed a token; `kid` is the key id in the token.
    pub(super) async fn for_token(&self, kid: Option<&str>, alg: Algorithm) -> Result<Arc<Vec<VerifyingKey>>, Denied> {
        match self {
            KeySource::Fixed(fixed) => Ok(fixed.all()),
            KeySource::Remote(published) => published.for_token(kid, alg).await.map(Arc::new),
        }
    }
}

impl RemoteKeys {
    /// Age at which keys are fetched again.
    const FRESH_FOR: Duration = Duration::from_secs(600);
    /// Shortest interval between fetches, whatever tokens claim.
    const FETCH_EVERY: Duration = Duration::from_secs(10);
    /// Longest time for a fetch.
    const TIMEOUT: Duration = Duration::from_secs(5);
    /// Longest time that a request waits for a fetch: OBS gives up after 8 s. The fetch continues, for later requests.
    const WAIT_MAX: Duration = Duration::from_secs(2);
    /// Most requests that wait. There are more only if a client invents key ids, or right after the start.
    const WAITING_MAX: usize = 64;
    /// Largest response, bytes.
    const ANSWER_MAX: usize = 256 * 1024;

    pub(super) fn new(url: Url) -> Result<RemoteKeys, reqwest::Error> {
        let client = Client::builder()
            .timeout(RemoteKeys::TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let issuer = Issuer {
            url,
            client,
            cache: Mutex::default(),
        };
        Ok(RemoteKeys {
            issuer: Arc::new(issuer),
            waiting: Semaphore::new(RemoteKeys::WAITING_MAX),
        })
    }

    async fn for_token(&self, kid: Option<&str>, alg: Algorithm) -> Result<Vec<VerifyingKey>, Denied> {
        let found = self.issuer.find(kid, alg);
        let Some(fetch) = self.pending_fetch(clock::now(), found.is_empty()) else {
            // For a while after a fetch, a key id that it did not contain is wrong without another fetch.
            return self.issuer.unless_unknown(found);
        };
        // The known keys are good enough while another request waits for the fetch, or while the issuer is slow.
        if !found.is_empty() && !fetch.is_new {
            return Ok(found);
        }
        let answered = self.wait(fetch).await;
        let found = self.issuer.find(kid, alg);
        if found.is_empty() && !answered {
            return Err(unavailable());
        }
        self.issuer.unless_unknown(found)
    }

    /// The fetch in progress, or a new one, if the keys are stale or the `wanted` one is missing.
    fn pending_fetch(&self, now: Instant, wanted: bool) -> Option<PendingFetch> {
        let mut cache = self.issuer.cache();
        if !wanted && !cache.is_stale(now) {
            return None;
        }
        let fetching = cache.fetching.take().filter(|fetching| fetching.has_changed().is_ok());
        let is_new = fetching.is_none();
        let done = match fetching {
            Some(fetching) => fetching,
            None if cache.may_fetch(now) => {
                cache.fetch_started = Some(now);
                self.start_fetch()
            }
            None => return None,
        };
        cache.fetching = Some(done.clone());
        Some(PendingFetch { done, is_new })
    }

    /// Starts a fetch, which continues even if no request waits for it.
    fn start_fetch(&self) -> watch::Receiver<()> {
        let (fetching, done) = watch::channel(());
        let issuer = self.issuer.clone();
        tokio::spawn(async move {
            issuer.refresh().await;
            drop(fetching);
        });
        done
    }

    /// Whether the fetch completed in time.
    async fn wait(&self, mut fetch: PendingFetch) -> bool {
        let Ok(_permit) = self.waiting.try_acquire() else {
            return false;
        };
        // No value is ever sent: the sender signals the end by being dropped.
        let done = tokio::time::timeout(RemoteKeys::WAIT_MAX, fetch.done.changed());
        done.await.is_ok()
    }
}

impl KeyCache {
    fn is_stale(&self, now: Instant) -> bool {
        self.fetched
            .is_none_or(|at| now.saturating_duration_since(at) >= RemoteKeys::FRESH_FOR)
    }

    fn may_fetch(&self, now: Instant) -> bool {
        self.fetch_started
            .is_none_or(|at| now.saturating_duration_since(at) >= RemoteKeys::FETCH_EVERY)
    }
}

fn unavailable() -> Denied {
    Denied::Unavailable("the keys for tokens cannot be fetched at the moment".to_owned())
}

impl Issuer {
    /// The keys for an algorithm, with this id if there is one.
    fn find(&self, kid: Option<&str>, alg: Algorithm) -> Vec<VerifyingKey> {
        let keys = self.cache().keys.clone();
        let named = |known: &Option<String>| kid.is_none() || known.as_deref() == kid;
        let fitting = keys.iter().filter(|(name, key)| named(name) && key.algorithm == alg);
        fitting.map(|(_, key)| key.clone()).collect()
    }

    /// The keys; an error before the first fetch has succeeded, when no token can be judged.
    fn unless_unknown(&self, found: Vec<VerifyingKey>) -> Result<Vec<VerifyingKey>, Denied> {
        if found.is_empty() && self.cache().fetched.is_none() {
            return Err(unavailable());
        }
        Ok(found)
    }

    async fn refresh(&self) {
        match self.fetch().await {
            Ok(keys) => {
                let mut cache = self.cache();
                cache.keys = Arc::new(keys);
                cache.fetched = Some(clock::now());
            }
            Err(why) => warn!("cannot fetch the keys for tokens (--jwks-url): {why}; the old ones stay valid"),
        }
    }

    async fn fetch(&self) -> Result<Vec<(Option<String>, VerifyingKey)>, String> {
        // The URL may contain a secret, so errors do not include it.
        let text = |error: reqwest::Error| onecast_clients::signal::innermost(&error.without_url());
        let response = self.client.get(self.url.clone()).send().await.map_err(text)?;
        if !response.status().is_success() {
            return Err(format!("it answered {}", response.status().as_u16()));
        }
        let body = bounded(response, RemoteKeys::ANSWER_MAX).await?;
        let keys = read(&String::from_utf8_lossy(&body));
        if keys.is_empty() {
            return Err("its response contains no usable key".to_owned());
        }
        Ok(keys)
    }

    fn cache(&self) -> MutexGuard<'_, KeyCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a response of at most `max` bytes.
pub(super) async fn bounded(mut response: reqwest::Response, max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|error| onecast_clients::signal::innermost(&error.without_url()))?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > max {
            return Err(format!("its response is larger than {} KiB", max / 1024));
        }
        body.extend_from_slice(&chunk);
    }
}

/// Public keys with their ids. Keys for other algorithms are ignored, and so are those beyond [`KEYS_MAX`].
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

/// Never a symmetric key: a published key is not secret.
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

/// Most keys of a set that are used.
const KEYS_MAX: usize = 64;

#[cfg(test)]
mod tests;

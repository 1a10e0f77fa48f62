use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

/// What an issuer publishes: names of keys, or nothing while it is broken.
#[derive(Default)]
struct FakeIssuer {
    names: Mutex<Option<Vec<&'static str>>>,
    asked: AtomicUsize,
    /// Held by a test to block the answers of the issuer.
    slow: tokio::sync::Mutex<()>,
}

impl FakeIssuer {
    fn publishes(&self, names: &[&'static str]) {
        *self.names.lock().unwrap() = Some(names.to_vec());
    }

    fn breaks(&self) {
        *self.names.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn answer(State(issuer): State<Arc<FakeIssuer>>) -> Result<String, StatusCode> {
    issuer.asked.fetch_add(1, Ordering::Relaxed);
    drop(issuer.slow.lock().await);
    let names = issuer.names.lock().unwrap().clone();
    let names = names.ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    let x = BASE64_URL_SAFE_NO_PAD.encode([7; 32]);
    let key = |name| json!({ "kty": "OKP", "crv": "Ed25519", "kid": name, "x": x });
    Ok(json!({ "keys": names.into_iter().map(key).collect::<Vec<_>>() }).to_string())
}

async fn issuer() -> (Arc<FakeIssuer>, RemoteKeys) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let issuer = Arc::<FakeIssuer>::default();
    let router = Router::new().route("/", get(answer)).with_state(issuer.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (issuer, RemoteKeys::new(url).unwrap())
}

impl RemoteKeys {
    /// Moves everything so far into the past.
    fn age(&self, by: Duration) {
        let mut cache = self.issuer.cache();
        let cache = &mut *cache;
        for at in [&mut cache.fetched, &mut cache.fetch_started].into_iter().flatten() {
            *at = at.checked_sub(by).expect("the machine has run for longer");
        }
    }

    async fn knows(&self, name: &str) -> bool {
        let keys = self.for_token(Some(name), Algorithm::EdDSA).await;
        keys.is_ok_and(|keys| keys.len() == 1)
    }
}

#[tokio::test]
async fn a_new_key_is_found_with_the_next_fetch() {
    let (issuer, published) = issuer().await;
    issuer.publishes(&["old"]);
    assert!(published.knows("old").await);
    issuer.publishes(&["old", "new"]);
    assert!(!published.knows("new").await && issuer.asked() == 1);
    published.age(RemoteKeys::FETCH_EVERY);
    assert!(published.knows("new").await && published.knows("old").await);
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn a_withdrawn_key_is_valid_until_the_keys_are_stale() {
    let (issuer, published) = issuer().await;
    issuer.publishes(&["old"]);
    assert!(published.knows("old").await);
    issuer.publishes(&["new"]);
    published.age(RemoteKeys::FETCH_EVERY);
    assert!(published.knows("old").await && issuer.asked() == 1);
    published.age(RemoteKeys::FRESH_FOR);
    assert!(!published.knows("old").await && published.knows("new").await);
}

#[tokio::test]
async fn old_keys_stay_while_the_issuer_does_not_answer() {
    let (issuer, published) = issuer().await;
    issuer.publishes(&["old"]);
    assert!(published.knows("old").await);
    issuer.breaks();
    for tries in 2..5 {
        published.age(RemoteKeys::FRESH_FOR);
        assert!(published.knows("old").await);
        assert_eq!(issuer.asked(), tries);
    }
    // Not for each token that comes meanwhile.
    assert!(published.knows("old").await && issuer.asked() == 4);
}

#[tokio::test]
async fn many_requests_cause_one_fetch() {
    let (issuer, published) = issuer().await;
    issuer.publishes(&["a"]);
    let crowd = (0..50).map(|_| published.knows("a"));
    let known = futures(crowd).await;
    assert!(known.into_iter().all(|known| known));
    assert_eq!(issuer.asked(), 1);
}

/// How many of `count` requests with made-up names are refused before the issuer has answered, and the others.
fn refused_at_once(
    published: &Arc<RemoteKeys>,
    count: usize,
) -> (usize, Vec<tokio::task::JoinHandle<Result<usize, Denied>>>) {
    let mut refused = 0;
    let mut waiting = Vec::new();
    for number in 0..count {
        let published = published.clone();
        let mut asking = Box::pin(async move {
            let keys = published
                .for_token(Some(&format!("made-up-{number}")), Algorithm::EdDSA)
                .await;
            keys.map(|keys| keys.len())
        });
        match asking
            .as_mut()
            .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
        {
            std::task::Poll::Ready(answer) => {
                assert!(matches!(answer, Err(Denied::Unavailable(_))), "{answer:?}");
                refused += 1;
            }
            std::task::Poll::Pending => waiting.push(tokio::spawn(asking)),
        }
    }
    (refused, waiting)
}

#[tokio::test]
async fn requests_with_known_keys_do_not_wait_for_a_slow_issuer() {
    let (issuer, published) = issuer().await;
    let published = Arc::new(published);
    issuer.publishes(&["old"]);
    assert!(published.knows("old").await);
    published.age(RemoteKeys::FETCH_EVERY);
    let slow = issuer.slow.lock().await;
    let (refused, waiting) = refused_at_once(&published, RemoteKeys::WAITING_MAX + 30);
    assert_eq!((refused, waiting.len()), (30, RemoteKeys::WAITING_MAX));
    assert!(published.knows("old").await, "a key that is there needs no answer");
    drop(slow);
    for one in waiting {
        assert_eq!(
            one.await.unwrap(),
            Ok(0),
            "the answer has come, and there is no such key"
        );
    }
    assert_eq!(issuer.asked(), 2, "one question for all of them");
    // The answer is remembered: names that were not in it need no other.
    let slow = issuer.slow.lock().await;
    assert_eq!(
        published
            .for_token(Some("made-up"), Algorithm::EdDSA)
            .await
            .unwrap()
            .len(),
        0
    );
    drop(slow);
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn known_keys_are_used_during_a_fetch() {
    let (issuer, published) = issuer().await;
    issuer.publishes(&["old"]);
    assert!(published.knows("old").await);
    published.age(RemoteKeys::FRESH_FOR);
    let slow = issuer.slow.lock().await;
    let mut first = Box::pin(published.for_token(Some("old"), Algorithm::EdDSA));
    let waker = std::task::Waker::noop();
    assert!(
        first
            .as_mut()
            .poll(&mut std::task::Context::from_waker(waker))
            .is_pending()
    );
    assert!(published.knows("old").await);
    drop(slow);
    assert_eq!(first.await.unwrap().len(), 1);
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn the_result_of_a_fetch_without_waiting_requests_is_used() {
    let (issuer, published) = issuer().await;
    issuer.publishes(&["a"]);
    let slow = issuer.slow.lock().await;
    let mut first = Box::pin(published.for_token(Some("a"), Algorithm::EdDSA));
    let waker = std::task::Waker::noop();
    assert!(
        first
            .as_mut()
            .poll(&mut std::task::Context::from_waker(waker))
            .is_pending()
    );
    drop(first);
    drop(slow);
    assert!(published.knows("a").await);
    assert_eq!(issuer.asked(), 1);
}

/// Waits for all, which run at the same time.
async fn futures<F: Future<Output = bool>>(all: impl Iterator<Item = F>) -> Vec<bool> {
    let mut waiting: Vec<_> = all.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done
}

#[test]
fn keys_of_other_types_and_uses_are_ignored() {
    let x = BASE64_URL_SAFE_NO_PAD.encode([7; 32]);
    let key = |more: Value| {
        let mut key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x });
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        read(&json!({ "keys": [7, key] }).to_string()).len()
    };
    assert_eq!(key(json!({})), 1);
    assert_eq!(key(json!({ "use": "sig", "alg": "EdDSA" })), 1);
    assert_eq!(key(json!({ "use": "enc" })), 0);
    assert_eq!(key(json!({ "alg": "RS256" })), 0);
    assert_eq!(key(json!({ "kty": "EC", "crv": "P-384", "y": x })), 0);
    assert_eq!(key(json!({ "kty": "oct", "k": x })), 0);
    let many = vec![json!({ "kty": "OKP", "crv": "Ed25519", "x": x }); 1_000];
    assert_eq!(read(&json!({ "keys": many }).to_string()).len(), KEYS_MAX);
    for text in ["", "[]", "{}", r#"{"keys":7}"#] {
        assert!(read(text).is_empty());
    }
}

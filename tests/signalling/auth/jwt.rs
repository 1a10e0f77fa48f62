//! Signed tokens: from the configuration's key, and from keys that an issuer publishes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use onecast::auth::AuthMode;
use onecast_udp::clock;
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::rig::{OFFER, Rig, SDP};
use super::{authority, bearer, challenge};

const SECRET: &str = "a secret that both sides know well";

fn claims() -> Value {
    json!({ "room": ["live", "demo-*"], "publish": true, "exp": clock::unix_time().as_secs() + 60, "sub": "studio" })
}

fn signed(claims: &Value) -> String {
    encode(
        &Header::new(Algorithm::HS256),
        claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
    )
    .unwrap()
}

async fn with_secret() -> Rig {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SECRET).unwrap();
    let words = ["--jwt-secret-file", file.path().to_str().unwrap()];
    Rig::guarded(authority(&words, AuthMode::Jwt)).await
}

async fn offer(rig: &Rig, path: &str, token: &str) -> super::Reply {
    rig.request("POST", path, &[SDP, ("Authorization", &*bearer(token))], OFFER)
        .await
}

#[tokio::test]
async fn claims_give_access_to_their_rooms_only() {
    let rig = with_secret().await;
    let token = signed(&claims());
    assert_eq!(offer(&rig, "/whip/live", &token).await.status, 201);
    assert_eq!(offer(&rig, "/whip/demo-1", &token).await.status, 201);
    challenge(&offer(&rig, "/whip/other", &token).await, Some("insufficient_scope"));
    // The grants are separate.
    assert_eq!(offer(&rig, "/whep/live", &token).await.status, 403);
    challenge(&rig.request("POST", "/whep/live", &[SDP], OFFER).await, None);
    assert_eq!(&*rig.fake.last_right().credential.unwrap().0, "jwt:[\"studio\",null]");
}

#[tokio::test]
async fn forged_premature_and_expired_tokens_are_refused() {
    let rig = with_secret().await;
    let now = clock::unix_time().as_secs();
    let with = |claim: &str, value: u64| {
        let mut claims = claims();
        claims[claim] = value.into();
        claims
    };
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(json!({ "alg": "none" })), part(claims()));
    let key = EncodingKey::from_secret(b"a secret that only the forger knows");
    let forged = encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
    for (token, why) in [
        (signed(&with("exp", now - 60)), "expired"),
        (signed(&with("nbf", now + 60)), "not valid yet"),
        (unsigned, "not a JWT"),
        (forged, "signature"),
    ] {
        let reply = offer(&rig, "/whip/live", &token).await;
        assert!(reply.problem(401).contains(why), "{why}: {reply:?}");
        challenge(&reply, Some("invalid_token"));
    }
    assert_eq!(rig.fake.offers(), 0);
}

#[tokio::test]
async fn a_session_outlives_its_token_and_keeps_its_permissions() {
    let rig = with_secret().await;
    let mut short = claims();
    // Within the leeway by now, beyond it in a moment.
    short["exp"] = (clock::unix_time().as_secs() - 9).into();
    let token = signed(&short);
    let session = offer(&rig, "/whip/live", &token).await;
    let session = session.header("location").unwrap().to_owned();
    while offer(&rig, "/whip/live", &token).await.status != 401 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let headers = [("Authorization", &*bearer(&token))];
    assert_eq!(rig.request("DELETE", &session, &[], "").await.status, 401);
    assert_eq!(rig.request("DELETE", &session, &headers, "").await.status, 200);
}

/// Publishes keys.
struct Issuer {
    address: SocketAddr,
    published: Arc<Mutex<Published>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Published {
    keys: Vec<Value>,
    broken: bool,
    asked: usize,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Issuer {
    async fn start() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let published = Arc::<Mutex<Published>>::default();
        let answer = async |State(published): State<Arc<Mutex<Published>>>| {
            let mut published = published.lock().unwrap();
            published.asked += 1;
            if published.broken {
                return Err(StatusCode::INTERNAL_SERVER_ERROR);
            }
            Ok(json!({ "keys": published.keys }).to_string())
        };
        let router = Router::new().route("/jwks", get(answer)).with_state(published.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Issuer {
            address,
            published,
            task,
        }
    }

    async fn rig(&self) -> Rig {
        let url = format!("http://{}/jwks", self.address);
        Rig::guarded(authority(&["--jwks-url", &url], AuthMode::Jwt)).await
    }

    fn publish(&self, kid: &str, pair: &KeyPair) {
        let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": kid, "x": x });
        self.published.lock().unwrap().keys.push(key);
    }

    fn asked(&self) -> usize {
        self.published.lock().unwrap().asked
    }
}

fn of_issuer(kid: Option<&str>, pair: &KeyPair) -> String {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = kid.map(str::to_owned);
    let key = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
    encode(&header, &claims(), &key).unwrap()
}

#[tokio::test]
async fn published_keys_are_fetched_once_and_not_for_every_invented_key_id() {
    let issuer = Issuer::start().await;
    let [known, stranger] = std::array::from_fn(|_| KeyPair::generate_for(&PKCS_ED25519).unwrap());
    issuer.publish("1", &known);
    let rig = issuer.rig().await;
    assert_eq!(issuer.asked(), 0, "no client has connected yet");
    for kid in [Some("1"), None, Some("1")] {
        assert_eq!(offer(&rig, "/whip/live", &of_issuer(kid, &known)).await.status, 201);
    }
    assert_eq!(issuer.asked(), 1);
    for kid in ["2", "3", "4"] {
        offer(&rig, "/whip/live", &of_issuer(Some(kid), &known))
            .await
            .problem(401);
    }
    for kid in [Some("1"), None] {
        offer(&rig, "/whip/live", &of_issuer(kid, &stranger)).await.problem(401);
    }
    // What was just fetched is not fetched again.
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_published_symmetric_key_is_not_used() {
    let issuer = Issuer::start().await;
    let k = BASE64_URL_SAFE_NO_PAD.encode(SECRET);
    issuer
        .published
        .lock()
        .unwrap()
        .keys
        .push(json!({ "kty": "oct", "alg": "HS256", "kid": "1", "k": k }));
    let rig = issuer.rig().await;
    assert!([401, 503].contains(&offer(&rig, "/whip/live", &signed(&claims())).await.status));
    assert_eq!(rig.fake.offers(), 0);
}

#[tokio::test]
async fn tokens_are_refused_until_the_issuer_answers() {
    let issuer = Issuer::start().await;
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    issuer.published.lock().unwrap().broken = true;
    let rig = issuer.rig().await;
    let reply = offer(&rig, "/whip/live", &of_issuer(Some("1"), &pair)).await;
    reply.problem(503);
    assert!(reply.header("retry-after").is_some());
}

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{EncodingKey, encode};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm,
};
use serde_json::{Value, json};

use super::*;
use crate::auth::Action;
use onecast_control::StreamName;
use onecast_udp::clock;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn now() -> u64 {
    clock::unix_time().as_secs()
}

fn claims() -> Value {
    json!({ "room": "live", "publish": true, "exp": now() + 60, "sub": "studio" })
}

fn with(claim: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[claim] = value.into();
    claims
}

fn reader(key: Result<VerifyingKey, KeyError>) -> Jwt {
    Jwt::new(KeySource::Fixed(FixedKeys::new(vec![key.unwrap()])), None, None)
}

fn shared() -> Jwt {
    reader(VerifyingKey::shared(SECRET))
}

fn signed(claims: &Value) -> String {
    encode(
        &Header::new(Algorithm::HS256),
        claims,
        &EncodingKey::from_secret(SECRET),
    )
    .unwrap()
}

async fn refused(jwt: &Jwt, token: &str) -> String {
    match jwt.permissions(token).await {
        Err(Denied::Wrong(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn key_pair(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

fn signing(algorithm: Algorithm, pair: &KeyPair) -> EncodingKey {
    let pem = pair.serialize_pem();
    match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
        Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
        _ => EncodingKey::from_ed_pem(pem.as_bytes()),
    }
    .unwrap()
}

#[tokio::test]
async fn each_kind_of_key_verifies_its_own_tokens() {
    let live = StreamName::default();
    let kinds = [
        (Algorithm::RS256, key_pair(&PKCS_RSA_SHA256)),
        (Algorithm::ES256, key_pair(&PKCS_ECDSA_P256_SHA256)),
        (Algorithm::EdDSA, key_pair(&PKCS_ED25519)),
    ];
    for (algorithm, pair) in &kinds {
        let jwt = reader(VerifyingKey::public(pair.public_key_pem().as_bytes()));
        let token = encode(&Header::new(*algorithm), &claims(), &signing(*algorithm, pair)).unwrap();
        let permissions = jwt.permissions(&token).await.unwrap();
        assert_eq!(&*permissions.credential.0, "jwt:[\"studio\",null]");
        assert!(permissions.check(Action::Publish, Some(&live)).is_ok());
        assert!(permissions.check(Action::Watch, Some(&live)).is_err());
        for (other, stranger) in kinds.iter().filter(|(other, _)| other != algorithm) {
            let token = encode(&Header::new(*other), &claims(), &signing(*other, stranger)).unwrap();
            assert!(refused(&jwt, &token).await.starts_with("the server has no key for"));
        }
        refused(&jwt, &signed(&claims())).await;
    }
}

#[tokio::test]
async fn a_public_key_is_never_a_secret() {
    let pair = key_pair(&PKCS_ECDSA_P256_SHA256);
    let pem = pair.public_key_pem();
    let jwt = reader(VerifyingKey::public(pem.as_bytes()));
    let point = pair.public_key_raw();
    for secret in [pem.as_bytes(), pem.trim().as_bytes(), point] {
        let forged = encode(
            &Header::new(Algorithm::HS256),
            &claims(),
            &EncodingKey::from_secret(secret),
        )
        .unwrap();
        assert!(
            refused(&jwt, &forged)
                .await
                .starts_with("the server has no key for HS256")
        );
    }
    assert_eq!(VerifyingKey::shared(pem.as_bytes()).unwrap_err(), KeyError::Pem);
}

#[tokio::test]
async fn a_token_without_signature_is_refused() {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let head = part(json!({ "alg": alg, "typ": "JWT" }));
        for signature in ["", "AAAA"] {
            let token = format!("{head}.{}.{signature}", part(claims()));
            assert!(refused(&shared(), &token).await.starts_with("this is not a JWT"));
        }
    }
    let good = signed(&claims());
    let stripped = &good[..=good.rfind('.').unwrap()];
    assert_eq!(refused(&shared(), stripped).await, "the token's signature is wrong");
}

#[tokio::test]
async fn changed_tokens_and_those_of_other_keys_are_refused() {
    let good = signed(&claims());
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    parts[1] = BASE64_URL_SAFE_NO_PAD.encode(with("room", "*").to_string());
    assert_eq!(
        refused(&shared(), &parts.join(".")).await,
        "the token's signature is wrong"
    );
    let other = EncodingKey::from_secret(b"another secret of at least 32 bytes");
    let token = encode(&Header::new(Algorithm::HS256), &claims(), &other).unwrap();
    assert_eq!(refused(&shared(), &token).await, "the token's signature is wrong");
    for token in ["", "a", "a.b", "a.b.c", &"x".repeat(100_000)] {
        refused(&shared(), token).await;
    }
}

#[tokio::test]
async fn a_key_in_the_token_itself_is_never_used() {
    let other = EncodingKey::from_secret(b"another secret of at least 32 bytes");
    let led = Header {
        jku: Some("http://127.0.0.1:1/keys".to_owned()),
        x5u: Some("http://127.0.0.1:1/chain".to_owned()),
        kid: Some("../../dev/null".to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let token = encode(&led, &claims(), &other).unwrap();
    assert_eq!(refused(&shared(), &token).await, "the token's signature is wrong");
}

#[tokio::test]
async fn claims_of_other_types_grant_nothing() {
    for (claim, value) in [
        ("exp", json!(1e300)),
        ("exp", json!(-1.5)),
        ("exp", json!(u64::MAX.to_string())),
        ("exp", json!([now() + 60])),
        ("nbf", json!("2999")),
        ("publish", json!("true")),
        ("publish", json!(1)),
        ("admin", json!({ "admin": true })),
        ("room", json!({ "room": "live" })),
        ("room", json!([["live"]])),
        ("sub", json!(7)),
    ] {
        refused(&shared(), &signed(&with(claim, value))).await;
    }
    assert!(
        shared()
            .permissions(&signed(&with("exp", now() as f64 + 60.5)))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn subjects_cannot_impersonate_another_issuer() {
    let mut one = with("sub", "studio");
    one["iss"] = "corp".into();
    let other = with("sub", "studio@\"corp\"");
    let credential = async |claims: &Value| shared().permissions(&signed(claims)).await.unwrap().credential;
    assert_ne!(credential(&one).await, credential(&other).await);
}

#[tokio::test]
async fn a_token_is_valid_from_nbf_to_exp_and_exp_is_required() {
    let leeway = Jwt::LEEWAY_S;
    assert_eq!(
        refused(&shared(), &signed(&with("exp", now() - leeway - 5))).await,
        "the token has expired"
    );
    assert_eq!(
        refused(&shared(), &signed(&with("nbf", now() + leeway + 30))).await,
        "the token is not valid yet"
    );
    assert!(
        shared()
            .permissions(&signed(&with("exp", now() - leeway / 2)))
            .await
            .is_ok()
    );
    assert!(
        shared()
            .permissions(&signed(&with("nbf", now() + leeway / 2)))
            .await
            .is_ok()
    );
    assert!(
        refused(&shared(), &signed(&with("exp", Value::Null)))
            .await
            .contains("\"exp\"")
    );
    assert!(
        refused(&shared(), &signed(&with("exp", "tomorrow")))
            .await
            .contains("\"exp\"")
    );
    assert!(refused(&shared(), &signed(&with("exp", -1))).await.contains("exp"));
}

#[tokio::test]
async fn issuer_and_audience_must_match_the_configuration() {
    let keys = || KeySource::Fixed(FixedKeys::new(vec![VerifyingKey::shared(SECRET).unwrap()]));
    let jwt = Jwt::new(keys(), Some("https://issuer".to_owned()), Some("onecast".to_owned()));
    let both = |issuer: &str, audience: &str| {
        let mut claims = with("iss", issuer);
        claims["aud"] = audience.into();
        signed(&claims)
    };
    let permissions = jwt.permissions(&both("https://issuer", "onecast")).await.unwrap();
    assert_eq!(&*permissions.credential.0, "jwt:[\"studio\",\"https://issuer\"]");
    assert_eq!(
        refused(&jwt, &both("https://other", "onecast")).await,
        "the token is from another issuer"
    );
    assert_eq!(
        refused(&jwt, &both("https://issuer", "mail")).await,
        "the token is for another audience"
    );
    refused(&jwt, &signed(&claims())).await;
    // Issued for an audience, while the server has none configured.
    assert_eq!(
        refused(&shared(), &both("https://issuer", "onecast")).await,
        "the token is for another audience"
    );
}

#[tokio::test]
async fn claims_grant_permissions() {
    let may = async |claims: Value| {
        let permissions = shared().permissions(&signed(&claims)).await.unwrap();
        [Action::Publish, Action::Watch, Action::Administer]
            .map(|action| permissions.check(action, Some(&"cam-1".parse().unwrap())).is_ok())
    };
    let exp = now() + 60;
    assert_eq!(may(json!({ "exp": exp })).await, [false, false, false]);
    assert_eq!(may(json!({ "exp": exp, "publish": true })).await, [false, false, false]);
    assert_eq!(may(json!({ "exp": exp, "room": "cam-1" })).await, [false, false, false]);
    assert_eq!(
        may(json!({ "exp": exp, "room": ["live", "cam-*"], "watch": true })).await,
        [false, true, false]
    );
    assert_eq!(may(json!({ "exp": exp, "admin": true })).await, [false, false, true]);
    assert_eq!(
        refused(&shared(), &signed(&with("publish", "yes"))).await,
        "the token's claims are malformed"
    );
    assert_eq!(
        refused(&shared(), &signed(&with("room", "a b"))).await,
        "the token's claims are malformed"
    );
}

#[tokio::test]
async fn unsupported_critical_extensions_are_refused() {
    let mut head = Header::new(Algorithm::HS256);
    head.crit = Some(vec!["b64".to_owned()]);
    let token = encode(&head, &claims(), &EncodingKey::from_secret(SECRET)).unwrap();
    assert!(refused(&shared(), &token).await.contains("extensions"));
}

#[test]
fn unusable_keys_are_refused_with_the_reason() {
    let p384 = key_pair(&PKCS_ECDSA_P384_SHA384);
    let p256 = key_pair(&PKCS_ECDSA_P256_SHA256);
    let public = |pem: &str| VerifyingKey::public(pem.as_bytes()).unwrap_err();
    assert_eq!(public(&p384.public_key_pem()), KeyError::Curve);
    assert_eq!(public(&p256.serialize_pem()), KeyError::Private);
    assert_eq!(public("hush"), KeyError::NotPublic);
    assert_eq!(VerifyingKey::shared(b"hush\n").unwrap_err(), KeyError::Short);
    assert!(VerifyingKey::shared(&[SECRET, b"\r\n"].concat()).is_ok());
    assert_eq!(
        format!("{:?}", VerifyingKey::shared(SECRET).unwrap()),
        "VerifyingKey(HS256, ..)"
    );
}

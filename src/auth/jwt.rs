//! Signed tokens (JWT, RFC 7519): whoever has the key decides who may do what, and we only read it.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;

use super::jwks::KeySource;
use super::secret::sha256;
use super::{Credential, Denied, Powers, Rooms};

/// Reads signed tokens.
#[derive(Debug)]
pub(super) struct Jwt {
    keys: KeySource,
    issuer: Option<String>,
    audience: Option<String>,
}

/// A key, and the one algorithm that it is for: what a token says of its algorithm never chooses one.
#[derive(Clone)]
pub(super) struct VerifyingKey {
    pub(super) key: DecodingKey,
    pub(super) algorithm: Algorithm,
}

/// Keys of a configuration, which a reload may replace.
#[derive(Debug, Default)]
pub(super) struct FixedKeys(RwLock<Arc<Vec<VerifyingKey>>>);

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    /// No PEM of a kind that is known.
    #[error("expected a public key in PEM: RSA, P-256 or Ed25519")]
    NotPublic,
    /// Somebody's signing key.
    #[error("this is a private key; the server needs the public one only")]
    Private,
    /// A curve that none of the algorithms uses.
    #[error("the curve is not P-256, which ES256 needs")]
    Curve,
    /// RFC 7518 section 3.2.
    #[error("a secret for HS256 has at least 32 bytes")]
    Short,
    /// Public keys are known to everybody, and so would be the secret.
    #[error("this is a PEM file, which is no secret for HS256: give public keys with --jwt-key")]
    Pem,
}

/// What a token says. Others of its claims are checked on the way: `exp`, `nbf`, `iss`, `aud`.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    iss: Option<serde_json::Value>,
    #[serde(default)]
    room: Rooms,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    watch: bool,
    #[serde(default)]
    admin: bool,
}

impl Jwt {
    /// For how long clocks may disagree, seconds.
    pub(super) const LEEWAY_S: u64 = 10;
    /// Longest token that is looked at, bytes.
    const TOKEN_MAX: usize = 16 * 1024;

    pub(super) fn new(keys: KeySource, issuer: Option<String>, audience: Option<String>) -> Jwt {
        Jwt { keys, issuer, audience }
    }

    /// Takes other keys; false when they do not come from the configuration.
    pub(super) fn replace(&self, keys: Vec<VerifyingKey>) -> bool {
        let KeySource::Fixed(fixed) = &self.keys else {
            return false;
        };
        fixed.replace(keys);
        true
    }

    /// What a token is good for.
    pub(super) async fn powers(&self, token: &str) -> Result<Powers, Denied> {
        if token.len() > Jwt::TOKEN_MAX {
            return Err(Denied::Wrong("the token is too long".to_owned()));
        }
        let header = header(token)?;
        let keys = self.keys.for_token(header.kid.as_deref(), header.alg).await?;
        let mut refused = None;
        for key in keys.iter().filter(|key| key.algorithm == header.alg) {
            match decode::<Claims>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(data) => return Ok(powers(data.claims, token)),
                // With several keys, a signature that another key made says nothing.
                Err(error) if refused.is_none() || !is_about_signature(&error) => refused = Some(error),
                Err(_) => {}
            }
        }
        let why = refused.map_or_else(
            || format!("no key for {:?} is known here", header.alg),
            |error| told(&error),
        );
        Err(Denied::Wrong(why))
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = Jwt::LEEWAY_S;
        validation.validate_nbf = true;
        let mut required = HashSet::from(["exp".to_owned()]);
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.insert("iss".to_owned());
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.insert("aud".to_owned());
        }
        validation.required_spec_claims = required;
        validation
    }
}

impl VerifyingKey {
    /// A public key, PEM.
    pub(super) fn public(pem: &[u8]) -> Result<VerifyingKey, KeyError> {
        if String::from_utf8_lossy(pem).contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let of = |key: DecodingKey, algorithm| VerifyingKey { key, algorithm };
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            return Ok(of(key, Algorithm::RS256));
        }
        if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            let point = key.try_get_as_bytes().map_or(0, <[u8]>::len);
            return if point == P256_POINT_BYTES {
                Ok(of(key, Algorithm::ES256))
            } else {
                Err(KeyError::Curve)
            };
        }
        let key = DecodingKey::from_ed_pem(pem).map_err(|_| KeyError::NotPublic)?;
        Ok(of(key, Algorithm::EdDSA))
    }

    /// A secret that is shared with whoever signs. A line break at the end is the editor's, not the secret's.
    pub(super) fn shared(secret: &[u8]) -> Result<VerifyingKey, KeyError> {
        let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.starts_with(b"-----BEGIN") {
            return Err(KeyError::Pem);
        }
        if secret.len() < 32 {
            return Err(KeyError::Short);
        }
        Ok(VerifyingKey {
            key: DecodingKey::from_secret(secret),
            algorithm: Algorithm::HS256,
        })
    }
}

impl FixedKeys {
    pub(super) fn new(keys: Vec<VerifyingKey>) -> FixedKeys {
        FixedKeys(RwLock::new(Arc::new(keys)))
    }

    pub(super) fn all(&self) -> Arc<Vec<VerifyingKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, keys: Vec<VerifyingKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyingKey({:?}, ..)", self.algorithm)
    }
}

/// The part of a token that says which key it wants. Nothing of it is believed.
fn header(token: &str) -> Result<Header, Denied> {
    let header = decode_header(token)
        .map_err(|_| Denied::Wrong("this is no JWT that is signed with HS256, RS256, ES256 or EdDSA".to_owned()))?;
    if header.crit.is_some() {
        // RFC 7515 section 4.1.11: what must be understood and is not makes the token invalid.
        return Err(Denied::Wrong(
            "the token demands extensions that are not known here".to_owned(),
        ));
    }
    Ok(header)
}

fn powers(claims: Claims, token: &str) -> Powers {
    let subject = claims.sub.filter(|sub| !sub.is_empty() && sub.len() <= SUBJECT_MAX);
    let credential = match subject {
        // Two issuers may call different people the same; JSON, because a subject may hold any character.
        Some(sub) => format!("jwt:{}", serde_json::json!([sub, claims.iss])),
        None => {
            let hash = sha256(token);
            format!(
                "jwt:{}",
                hash[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
            )
        }
    };
    let rooms = |may: bool| if may { claims.room.clone() } else { Rooms::none() };
    Powers {
        credential: Credential(credential.into()),
        publish: rooms(claims.publish),
        watch: rooms(claims.watch),
        admin: claims.admin,
    }
}

fn is_about_signature(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidSignature)
}

/// What is wrong, without anything that the token says.
fn told(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ExpiredSignature => "the token has expired".to_owned(),
        ErrorKind::ImmatureSignature => "the token is not valid yet".to_owned(),
        ErrorKind::InvalidIssuer => "the token is of another issuer".to_owned(),
        ErrorKind::InvalidAudience => "the token is for another audience".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token has no claim {claim:?}, which is needed"),
        ErrorKind::InvalidClaimFormat(claim) => format!("the token's claim {claim:?} cannot be understood"),
        ErrorKind::InvalidSignature => "the token's signature is wrong".to_owned(),
        ErrorKind::Json(_) => "the token's claims cannot be understood".to_owned(),
        _ => "the token cannot be verified".to_owned(),
    }
}

/// Takes any bytes for a token: first for one that is signed, then for the claims of one that is signed well.
#[doc(hidden)]
pub fn fuzz_jwt(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(header) = header(text) {
        let key = DecodingKey::from_secret(&[7; 32]);
        let forged = decode::<Claims>(text, &key, &Validation::new(Algorithm::HS256));
        assert!(forged.is_err() || header.alg == Algorithm::HS256);
    }
    if let Ok(claims) = serde_json::from_str::<Claims>(text) {
        let powers = powers(claims, text);
        assert!(powers.credential.0.starts_with("jwt:"));
        let _ = powers.suffice(super::Action::Publish, Some(&onecast_control::StreamName::default()));
    }
    let _ = VerifyingKey::public(bytes);
    for key in super::jwks::read(text) {
        assert!(
            key.1.key.family() != AlgorithmFamily::Hmac,
            "a published key is no secret"
        );
    }
}

/// `04`, then both coordinates.
const P256_POINT_BYTES: usize = 65;
/// Longest subject that names a credential, bytes.
const SUBJECT_MAX: usize = 256;

#[cfg(test)]
mod tests;

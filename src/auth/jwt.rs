//! Signed tokens (JWT, RFC 7519): the issuer decides about permissions, and the server verifies its signature.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;

use super::jwks::KeySource;
use super::secret::sha256;
use super::{Credential, Denied, Permissions, StreamPatterns};

/// Verifies signed tokens.
#[derive(Debug)]
pub(super) struct Jwt {
    keys: KeySource,
    issuer: Option<String>,
    audience: Option<String>,
}

/// A key and its only algorithm: the header of a token never chooses the algorithm of a key.
#[derive(Clone)]
pub(super) struct VerifyingKey {
    pub(super) key: DecodingKey,
    pub(super) algorithm: Algorithm,
}

/// Keys of the configuration, which a reload may replace.
#[derive(Debug, Default)]
pub(super) struct FixedKeys(RwLock<Arc<Vec<VerifyingKey>>>);

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    /// Not PEM of a known kind.
    #[error("expected a public key in PEM: RSA, P-256 or Ed25519")]
    NotPublic,
    #[error("this is a private key; the server needs only the public one")]
    Private,
    /// A curve that no supported algorithm uses.
    #[error("the curve is not P-256, which ES256 needs")]
    Curve,
    /// RFC 7518 section 3.2.
    #[error("a secret for HS256 needs at least 32 bytes")]
    Short,
    /// A public key used as a secret would be known to everyone.
    #[error("this is a PEM file, not a secret for HS256: specify public keys with --jwt-key")]
    Pem,
}

/// The claims that grant permissions. The library checks `exp`, `nbf`, `iss` and `aud`.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    iss: Option<serde_json::Value>,
    #[serde(default)]
    room: StreamPatterns,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    watch: bool,
    #[serde(default)]
    admin: bool,
}

impl Jwt {
    /// Tolerated difference between clocks, seconds.
    pub(super) const LEEWAY_S: u64 = 10;
    /// Longest token, bytes.
    const TOKEN_MAX: usize = 16 * 1024;

    pub(super) fn new(keys: KeySource, issuer: Option<String>, audience: Option<String>) -> Jwt {
        Jwt { keys, issuer, audience }
    }

    /// Replaces the keys; false if they do not come from the configuration.
    pub(super) fn replace(&self, keys: Vec<VerifyingKey>) -> bool {
        let KeySource::Fixed(fixed) = &self.keys else {
            return false;
        };
        fixed.replace(keys);
        true
    }

    /// The permissions of a token.
    pub(super) async fn permissions(&self, token: &str) -> Result<Permissions, Denied> {
        if token.len() > Jwt::TOKEN_MAX {
            return Err(Denied::Wrong("the token is too long".to_owned()));
        }
        let header = header(token)?;
        let keys = self.keys.for_token(header.kid.as_deref(), header.alg).await?;
        let mut refused = None;
        for key in keys.iter().filter(|key| key.algorithm == header.alg) {
            match decode::<Claims>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(data) => return Ok(permissions(data.claims, token)),
                // With several keys, a wrong signature may only mean that another key made it, so keep the more specific error.
                Err(error) if refused.is_none() || !is_about_signature(&error) => refused = Some(error),
                Err(_) => {}
            }
        }
        let why = refused.map_or_else(
            || format!("the server has no key for {:?}", header.alg),
            |error| describe(&error),
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

    /// A secret that is shared with the issuer. A final line break comes from an editor and is not part of the secret.
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

/// The header of a token, which selects candidate keys. It is not trusted.
fn header(token: &str) -> Result<Header, Denied> {
    let header = decode_header(token)
        .map_err(|_| Denied::Wrong("this is not a JWT signed with HS256, RS256, ES256 or EdDSA".to_owned()))?;
    if header.crit.is_some() {
        // RFC 7515 section 4.1.11: a critical extension that is not supported makes the token invalid.
        return Err(Denied::Wrong("the token requires unsupported extensions".to_owned()));
    }
    Ok(header)
}

fn permissions(claims: Claims, token: &str) -> Permissions {
    let subject = claims.sub.filter(|sub| !sub.is_empty() && sub.len() <= SUBJECT_MAX);
    let credential = match subject {
        // With the issuer, because subjects are unique per issuer only; as JSON, because a subject may contain any character.
        Some(sub) => format!("jwt:{}", serde_json::json!([sub, claims.iss])),
        None => {
            let hash = sha256(token);
            format!(
                "jwt:{}",
                hash[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
            )
        }
    };
    let rooms = |may: bool| {
        if may {
            claims.room.clone()
        } else {
            StreamPatterns::none()
        }
    };
    Permissions {
        credential: Credential(credential.into()),
        publish: rooms(claims.publish),
        watch: rooms(claims.watch),
        admin: claims.admin,
    }
}

fn is_about_signature(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidSignature)
}

/// What is wrong, without the contents of the token.
fn describe(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ExpiredSignature => "the token has expired".to_owned(),
        ErrorKind::ImmatureSignature => "the token is not valid yet".to_owned(),
        ErrorKind::InvalidIssuer => "the token is from another issuer".to_owned(),
        ErrorKind::InvalidAudience => "the token is for another audience".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token lacks the required claim {claim:?}"),
        ErrorKind::InvalidClaimFormat(claim) => format!("the token's claim {claim:?} is malformed"),
        ErrorKind::InvalidSignature => "the token's signature is wrong".to_owned(),
        ErrorKind::Json(_) => "the token's claims are malformed".to_owned(),
        _ => "the token cannot be verified".to_owned(),
    }
}

/// Reads any bytes as a signed token, and as the claims of a valid one.
#[doc(hidden)]
pub fn fuzz_jwt(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(header) = header(text) {
        let key = DecodingKey::from_secret(&[7; 32]);
        let forged = decode::<Claims>(text, &key, &Validation::new(Algorithm::HS256));
        assert!(forged.is_err() || header.alg == Algorithm::HS256);
    }
    if let Ok(claims) = serde_json::from_str::<Claims>(text) {
        let permissions = permissions(claims, text);
        assert!(permissions.credential.0.starts_with("jwt:"));
        let _ = permissions.check(super::Action::Publish, Some(&onecast_control::StreamName::default()));
    }
    let _ = VerifyingKey::public(bytes);
    for key in super::jwks::read(text) {
        assert!(
            key.1.key.family() != AlgorithmFamily::Hmac,
            "a published key is not secret"
        );
    }
}

/// The byte 04 and both coordinates.
const P256_POINT_BYTES: usize = 65;
/// Longest subject that names a credential, bytes.
const SUBJECT_MAX: usize = 256;

#[cfg(test)]
mod tests;

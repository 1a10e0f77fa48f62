//! Tokens as secrets: generating, hashing and comparing them without exposing them.

use std::fmt;
use std::str::FromStr;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use aws_lc_rs::{constant_time, digest, rand};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::de::{Deserialize, Deserializer, Error as _};

/// A token in the clear. Only [`Secret::expose`] shows it, `Debug` does not. Comparison takes constant time.
#[derive(Clone, Eq)]
pub struct Secret(Box<str>);

/// The hash of a token: it recognizes the token without revealing it.
#[derive(Clone, Eq)]
pub enum TokenHash {
    /// SHA-256, for random tokens. Text form: `sha256:` and 64 hexadecimal digits.
    Sha256([u8; 32]),
    /// Argon2id, for passwords that people choose. Text form: the PHC string.
    Argon2(Box<str>),
}

/// Why a text is not a hash. The text may be the token itself, so errors do not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenHashError {
    /// Neither form.
    #[error("a hash is sha256:HEX or $argon2id$...; `onecast token new` and `onecast token hash` make them")]
    Form,
    /// Verifying a token would take too much memory or time.
    #[error("this argon2 hash requires more than {} MiB or {} passes", TokenHash::MEMORY_MAX_KIB / 1024, TokenHash::PASSES_MAX)]
    Costly,
}

impl Secret {
    /// Generates a token of 192 random bits: 32 URL-safe characters.
    pub fn generate() -> Secret {
        let mut bytes = [0; 24];
        rand::fill(&mut bytes).expect("the system's random source works");
        Secret(BASE64_URL_SAFE_NO_PAD.encode(bytes).into())
    }

    /// A token from its text.
    pub fn new(text: impl Into<Box<str>>) -> Secret {
        Secret(text.into())
    }

    /// The text. The caller is responsible for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The hash of a random token.
    pub fn hash(&self) -> TokenHash {
        TokenHash::Sha256(sha256(&self.0))
    }

    /// The hash of a password. Takes about 20 ms and 19 MiB.
    pub fn hash_slowly(&self) -> TokenHash {
        let hash = Argon2::default().hash_password(self.0.as_bytes());
        let hash: PasswordHash = hash.expect("the default parameters and a random salt are in their ranges");
        TokenHash::Argon2(hash.to_string().into())
    }
}

impl TokenHash {
    /// Most memory for verifying a token, KiB.
    const MEMORY_MAX_KIB: u32 = 128 * 1024;
    /// Most passes over it.
    const PASSES_MAX: u32 = 16;

    /// Whether this is the hash of `token`. With argon2 this takes tens of milliseconds and megabytes.
    pub fn matches(&self, token: &str) -> bool {
        match self {
            TokenHash::Sha256(_) => self.is_digest(&sha256(token)),
            TokenHash::Argon2(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(token.as_bytes(), &hash).is_ok()),
        }
    }

    /// Whether this is the SHA-256 `digest`, in constant time. Never for argon2.
    pub(super) fn is_digest(&self, digest: &[u8; 32]) -> bool {
        matches!(self, TokenHash::Sha256(hash) if constant_time::verify_slices_are_equal(hash, digest).is_ok())
    }

    /// Whether [`TokenHash::matches`] is slow.
    pub fn is_slow(&self) -> bool {
        matches!(self, TokenHash::Argon2(_))
    }
}

impl FromStr for TokenHash {
    type Err = TokenHashError;

    fn from_str(text: &str) -> Result<TokenHash, TokenHashError> {
        if let Some(digits) = text.strip_prefix("sha256:") {
            return from_hex(digits).map(TokenHash::Sha256).ok_or(TokenHashError::Form);
        }
        if !text.starts_with("$argon2id$") {
            return Err(TokenHashError::Form);
        }
        let hash = PasswordHash::new(text).map_err(|_| TokenHashError::Form)?;
        let params = argon2::Params::try_from(&hash).map_err(|_| TokenHashError::Form)?;
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(TokenHashError::Form);
        }
        if params.m_cost() > TokenHash::MEMORY_MAX_KIB || params.t_cost() > TokenHash::PASSES_MAX {
            return Err(TokenHashError::Costly);
        }
        Ok(TokenHash::Argon2(text.into()))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenHash::Sha256(hash) => {
                f.write_str("sha256:")?;
                hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            TokenHash::Argon2(hash) => f.write_str(hash),
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &TokenHash) -> bool {
        match (self, other) {
            (TokenHash::Sha256(_), TokenHash::Sha256(digest)) => self.is_digest(digest),
            (TokenHash::Argon2(one), TokenHash::Argon2(other)) => {
                constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
            }
            _ => false,
        }
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TokenHash, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

pub(super) fn sha256(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    hash
}

fn from_hex(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_matches_its_token_only() {
        let token = Secret::generate();
        for hash in [token.hash(), token.hash_slowly()] {
            assert!(hash.matches(token.expose()));
            assert!(!hash.matches("") && !hash.matches(&format!("{}x", token.expose())));
            let again: TokenHash = hash.to_string().parse().unwrap();
            assert!(again == hash && again.matches(token.expose()));
            assert!(!hash.to_string().contains(token.expose()));
        }
    }

    #[test]
    fn generated_tokens_are_unique_and_url_safe() {
        let tokens = [Secret::generate(), Secret::generate()];
        assert_ne!(tokens[0], tokens[1]);
        for token in &tokens {
            // 6 bits a character: 192 bits.
            assert_eq!(token.expose().len(), 32);
            let url_safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            assert!(token.expose().bytes().all(url_safe));
        }
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let token = Secret::new("hush");
        let shown = format!("{token:?} {:?} {:?}", token.hash(), token.hash_slowly());
        assert_eq!(shown, "Secret(..) TokenHash(..) TokenHash(..)");
    }

    #[test]
    fn invalid_hashes_are_refused_without_repeating_them() {
        for text in [
            "",
            "hush",
            "sha256:",
            "sha256:hush",
            "$argon2id$",
            "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA",
        ] {
            let error = text.parse::<TokenHash>().unwrap_err();
            assert_eq!(error, TokenHashError::Form, "{text}");
            assert!(!error.to_string().contains("hush"));
        }
        let salt_and_hash = "c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObG";
        let parse = |params: &str| format!("$argon2id$v=19${params}${salt_and_hash}").parse::<TokenHash>();
        assert!(parse("m=19456,t=2,p=1").is_ok());
        assert_eq!(parse("m=1048576,t=2,p=1"), Err(TokenHashError::Costly));
        assert_eq!(parse("m=19456,t=99,p=1"), Err(TokenHashError::Costly));
    }
}

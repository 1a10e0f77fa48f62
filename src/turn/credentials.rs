//! Credentials for TURN servers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::Login;

/// The source of logins.
#[derive(Debug, Clone)]
pub enum TurnCredentials {
    /// The same for every client.
    Fixed {
        /// The user name.
        username: CredentialText,
        /// The password.
        password: CredentialText,
    },
    /// Generated per client from a secret shared with the TURN server (draft-uberti-behave-turn-rest-00), valid for a limited time.
    TimeLimited {
        /// coturn's `static-auth-secret`.
        secret: SharedSecret,
        /// Lifetime of each login.
        ttl: Duration,
    },
}

impl TurnCredentials {
    /// A login for one client at `now`, as time since 1970.
    pub(super) fn login(&self, now: Duration) -> Login {
        match self {
            TurnCredentials::Fixed { username, password } => Login {
                username: username.0.to_string(),
                credential: password.0.to_string(),
            },
            TurnCredentials::TimeLimited { secret, ttl } => time_limited(secret, now + *ttl, random_id()),
        }
    }
}

/// A secret shared with the TURN server. `Debug` does not show it.
#[derive(Clone)]
pub struct SharedSecret(Box<hmac::Key>);

impl SharedSecret {
    /// `None` for the empty text.
    pub fn new(text: &str) -> Option<SharedSecret> {
        let key = || hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        (!text.is_empty()).then(|| SharedSecret(Box::new(key())))
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

/// A user name or a password that is safe in a `Link` header. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialText(Box<str>);

/// Why a text is not a [`CredentialText`]. The error does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected 1 to {CREDENTIAL_TEXT_MAX} visible ASCII characters without spaces, quotes, backslashes, commas and semicolons"
)]
pub struct CredentialTextError;

impl FromStr for CredentialText {
    type Err = CredentialTextError;

    fn from_str(text: &str) -> Result<CredentialText, CredentialTextError> {
        // Some clients split Link headers at commas and semicolons even within quotes.
        let is_safe = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',' | b';');
        if (1..=CREDENTIAL_TEXT_MAX).contains(&text.len()) && text.bytes().all(is_safe) {
            Ok(CredentialText(text.into()))
        } else {
            Err(CredentialTextError)
        }
    }
}

impl fmt::Debug for CredentialText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialText(..)")
    }
}

/// Username `expiry:id`, credential base64(HMAC-SHA1(secret, username)).
fn time_limited(secret: &SharedSecret, expiry: Duration, id: u64) -> Login {
    let username = format!("{}:{id:016x}", expiry.as_secs());
    let credential = BASE64_STANDARD.encode(hmac::sign(&secret.0, username.as_bytes()));
    Login { username, credential }
}

/// Distinguishes clients, so that per-user limits of a TURN server (coturn's `user-quota`) apply to each client.
fn random_id() -> u64 {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).expect("the system has randomness");
    u64::from_be_bytes(bytes)
}

/// STUN allows 508 bytes (RFC 8489 section 14.3), far more than usual.
const CREDENTIAL_TEXT_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_match_other_implementations() {
        // printf %s 1700000600:00000000000000ff | openssl dgst -sha1 -hmac north -binary | base64
        let login = time_limited(
            &SharedSecret::new("north").unwrap(),
            Duration::from_secs(1_700_000_600),
            255,
        );
        assert_eq!(login.username, "1700000600:00000000000000ff");
        assert_eq!(login.credential, "omFwSd0fkd/eoQgc62Hwoze9IEM=");
    }

    #[test]
    fn credentials_are_safe_in_a_header() {
        for word in ["user", "a:b@c.example", "p#$%&'()*+-./<=>?[]^_`{|}~"] {
            assert!(word.parse::<CredentialText>().is_ok(), "{word}");
        }
        for word in [
            "",
            "a b",
            "a,b",
            "a;b",
            "a\"b",
            "a\\b",
            "ä",
            "a\nb",
            "a\r",
            &"a".repeat(256),
        ] {
            assert_eq!(
                word.parse::<CredentialText>().unwrap_err(),
                CredentialTextError,
                "{word:?}"
            );
        }
    }

    #[test]
    fn an_empty_secret_is_none() {
        assert!(SharedSecret::new("").is_none());
    }
}

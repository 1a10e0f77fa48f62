//! How a client proves to a TURN server that we sent it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::Login;

/// Where logins come from.
#[derive(Debug, Clone)]
pub enum TurnCredentials {
    /// The same for every client.
    Fixed {
        /// The name.
        username: Word,
        /// The password.
        password: Word,
    },
    /// Made for each client from a secret that the TURN server knows too (draft-uberti-behave-turn-rest-00), good for a while.
    TimeLimited {
        /// coturn's `static-auth-secret`.
        secret: Secret,
        /// How long each login is good.
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

/// What TURN and our server know, and nobody else. `Debug` does not tell it.
#[derive(Clone)]
pub struct Secret(Box<hmac::Key>);

impl Secret {
    /// `None` for the empty text.
    pub fn new(text: &str) -> Option<Secret> {
        let key = || hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        (!text.is_empty()).then(|| Secret(Box::new(key())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A name or a password that every reader of a `Link` line can take. `Debug` does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct Word(Box<str>);

/// Why a text is no [`Word`]; it is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it must have 1 to {WORD_MAX} visible ASCII characters without spaces, quotes, backslashes, commas and semicolons"
)]
pub struct WordError;

impl FromStr for Word {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Word, WordError> {
        // Clients split Link lines at commas and semicolons, quoted or not.
        let is_safe = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',' | b';');
        if (1..=WORD_MAX).contains(&text.len()) && text.bytes().all(is_safe) {
            Ok(Word(text.into()))
        } else {
            Err(WordError)
        }
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Word(..)")
    }
}

/// Username `expiry:id`, credential base64(HMAC-SHA1(secret, username)).
fn time_limited(secret: &Secret, expiry: Duration, id: u64) -> Login {
    let username = format!("{}:{id:016x}", expiry.as_secs());
    let credential = BASE64_STANDARD.encode(hmac::sign(&secret.0, username.as_bytes()));
    Login { username, credential }
}

/// Tells clients apart, so that a TURN server's bounds for each user (coturn's `user-quota`) are for each client.
fn random_id() -> u64 {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).expect("the system has randomness");
    u64::from_be_bytes(bytes)
}

/// TURN's own bound of a username is 508 bytes (RFC 8489 section 14.3); nobody's is near it.
const WORD_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_what_other_implementations_compute() {
        // printf %s 1700000600:00000000000000ff | openssl dgst -sha1 -hmac north -binary | base64
        let login = time_limited(&Secret::new("north").unwrap(), Duration::from_secs(1_700_000_600), 255);
        assert_eq!(login.username, "1700000600:00000000000000ff");
        assert_eq!(login.credential, "omFwSd0fkd/eoQgc62Hwoze9IEM=");
    }

    #[test]
    fn words_are_safe_in_a_header_line() {
        for word in ["user", "a:b@c.example", "p#$%&'()*+-./<=>?[]^_`{|}~"] {
            assert!(word.parse::<Word>().is_ok(), "{word}");
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
            assert_eq!(word.parse::<Word>().unwrap_err(), WordError, "{word:?}");
        }
    }

    #[test]
    fn an_empty_secret_is_none() {
        assert!(Secret::new("").is_none());
    }
}

//! What permits a client to be here.

use std::fmt;

use aws_lc_rs::constant_time;

/// Identifies a secret without revealing it: the name of a token, or the subject of a JWT.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Credential(pub Box<str>);

/// Recognises a token without revealing it: its HMAC-SHA-256 under a key that only this process has.
#[derive(Clone, Copy, Eq)]
pub struct TokenDigest(pub [u8; 32]);

/// What permits a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// A publisher with the same credential takes over its own stream. `None` when no token was required.
    pub credential: Option<Credential>,
    /// The token that every later request about the session must present. `None` when its URL alone is enough.
    pub token: Option<TokenDigest>,
}

impl PartialEq for TokenDigest {
    /// In constant time: there is no other way to compare two.
    fn eq(&self, other: &TokenDigest) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

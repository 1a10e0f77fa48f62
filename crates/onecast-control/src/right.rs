//! By whose right a client is here.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::constant_time;

/// Stands for a secret without telling it: the name of a token, or the subject of a JWT.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Credential(pub Box<str>);

/// Recognises a token without telling it: its HMAC-SHA-256 under a key that only this process has.
#[derive(Clone, Copy, Eq)]
pub struct TokenDigest(pub [u8; 32]);

/// By whose right a session was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Right {
    /// Who comes with the same takes over their own stream. `None` when nobody was asked for one.
    pub credential: Option<Credential>,
    /// The token that is wanted again for everything that is done with the session. `None` when its URL is the right.
    pub token: Option<TokenDigest>,
}

/// On what terms a client is given a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How long its handshake may take.
    pub patience: Duration,
    /// By whose right it comes.
    pub right: Right,
}

impl From<Duration> for Terms {
    /// Nobody was asked by what right.
    fn from(patience: Duration) -> Terms {
        let right = Right::default();
        Terms { patience, right }
    }
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

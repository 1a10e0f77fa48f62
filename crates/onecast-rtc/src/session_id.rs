//! The id of a session, which is also the capability to end it.

use std::fmt;
use std::str::FromStr;

/// Names a session: 128 random bits, so that its URL cannot be guessed (RFC 9725 section 4.1). Text form: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u128);

/// The text is not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session id is 32 hexadecimal digits")]
pub struct SessionIdError;

impl SessionId {
    const DIGITS: usize = 32;

    /// A session id from 16 bytes of a cryptographic random source.
    pub fn from_random(bytes: [u8; 16]) -> SessionId {
        SessionId(u128::from_be_bytes(bytes))
    }
}

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<SessionId, SessionIdError> {
        let well_formed = text.len() == SessionId::DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !well_formed {
            return Err(SessionIdError);
        }
        u128::from_str_radix(text, 16)
            .map(SessionId)
            .map_err(|_| SessionIdError)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_parses_back_to_the_id() {
        let mut small = [0; 16];
        small[15] = 7;
        for bytes in [[0; 16], [0xff; 16], small] {
            let id = SessionId::from_random(bytes);
            let text = id.to_string();
            assert_eq!(text.len(), 32);
            assert_eq!(text.parse(), Ok(id));
        }
    }

    #[test]
    fn other_texts_than_32_hexadecimal_digits_are_refused() {
        let bad = [
            "",
            "7",
            "+0000000000000000000000000000007",
            "0000000000000000000000000000000g",
            &"0".repeat(33),
        ];
        for text in bad {
            assert_eq!(text.parse::<SessionId>(), Err(SessionIdError), "{text}");
        }
        assert!("é".repeat(16).parse::<SessionId>().is_err());
    }
}

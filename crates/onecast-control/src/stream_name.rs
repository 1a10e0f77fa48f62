//! The name of a stream, as it stands in URLs.

use std::fmt;
use std::str::FromStr;

/// A stream's name: 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot.
///
/// So it is the same in a URL path, in SDP, in a log line and as a file name, without any escaping.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Box<str>);

/// Why a text is no stream name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamNameError {
    /// No character at all.
    #[error("the stream's name is empty")]
    Empty,
    /// Longer than [`StreamName::MAX_LEN`].
    #[error("the stream's name is {len} bytes long, the limit is {limit}", limit = StreamName::MAX_LEN)]
    TooLong {
        /// Length of the text, bytes.
        len: usize,
    },
    /// Hidden files and path tricks begin so.
    #[error("the stream's name begins with a dot")]
    LeadingDot,
    /// A character that would need escaping somewhere.
    #[error("the stream's name contains {character:?}")]
    BadCharacter {
        /// The first of them.
        character: char,
    },
}

impl StreamName {
    /// Longest name, bytes: it still fits on one line of a terminal with a URL around it.
    pub const MAX_LEN: usize = 64;

    /// Of the built-in test card.
    pub fn demo() -> StreamName {
        StreamName("demo".into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for StreamName {
    /// `live`: the stream for users who do not care about names.
    fn default() -> StreamName {
        StreamName("live".into())
    }
}

impl FromStr for StreamName {
    type Err = StreamNameError;

    fn from_str(text: &str) -> Result<StreamName, StreamNameError> {
        let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
        if text.is_empty() {
            return Err(StreamNameError::Empty);
        }
        if text.len() > StreamName::MAX_LEN {
            return Err(StreamNameError::TooLong { len: text.len() });
        }
        if let Some(character) = text.chars().find(|&character| !allowed(character)) {
            return Err(StreamNameError::BadCharacter { character });
        }
        if text.starts_with('.') {
            return Err(StreamNameError::LeadingDot);
        }
        Ok(StreamName(text.into()))
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_taken_as_they_are() {
        for name in ["live", "a", "Camera_2", "talk-2026.08", "-", "_", &"x".repeat(64)] {
            assert_eq!(name.parse::<StreamName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_would_need_escaping_are_refused() {
        let error = |text: &str| text.parse::<StreamName>().unwrap_err();
        assert_eq!(error(""), StreamNameError::Empty);
        assert_eq!(error(&"x".repeat(65)), StreamNameError::TooLong { len: 65 });
        for dotted in [".", "..", ".git"] {
            assert_eq!(error(dotted), StreamNameError::LeadingDot);
        }
        for (text, character) in [
            ("a/b", '/'),
            ("../etc", '/'),
            ("a\0", '\0'),
            ("a b", ' '),
            ("é", 'é'),
            ("a%", '%'),
        ] {
            assert_eq!(error(text), StreamNameError::BadCharacter { character });
        }
    }

    #[test]
    fn the_default_name_is_a_valid_one() {
        assert_eq!("live".parse(), Ok(StreamName::default()));
    }
}

//! The streams that a token covers, as patterns of names.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};

use onecast_control::StreamName;

/// A set of streams, as a list of patterns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamPatterns(Vec<Pattern>);

/// A stream name in which `*` stands for any number of any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

/// Why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Empty, or longer than a name may be.
    #[error("a pattern has 1 to {} characters", StreamName::MAX_LEN)]
    Length,
    /// A character that names do not contain.
    #[error("a pattern cannot contain {0:?}: it is the name of a stream, in which * stands for any characters")]
    Character(char),
}

/// Too many patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {} patterns of stream names are allowed", StreamPatterns::PATTERNS_MAX)]
pub struct TooManyPatterns;

impl StreamPatterns {
    /// Most patterns in a list: each request tries all of them.
    pub const PATTERNS_MAX: usize = 64;

    /// No stream.
    pub fn none() -> StreamPatterns {
        StreamPatterns::default()
    }

    /// Every stream.
    pub fn all() -> StreamPatterns {
        StreamPatterns(vec![Pattern("*".into())])
    }

    /// The streams that match any of these patterns.
    ///
    /// # Errors
    /// When there are too many.
    pub fn of(patterns: Vec<Pattern>) -> Result<StreamPatterns, TooManyPatterns> {
        if patterns.len() > StreamPatterns::PATTERNS_MAX {
            return Err(TooManyPatterns);
        }
        Ok(StreamPatterns(patterns))
    }

    /// Whether the stream is in the set.
    pub fn has(&self, stream: &StreamName) -> bool {
        self.0.iter().any(|pattern| pattern.matches(stream.as_str()))
    }

    /// Whether the set is empty.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The union of both.
    pub(super) fn and(&self, others: &StreamPatterns) -> StreamPatterns {
        StreamPatterns(self.0.iter().chain(&others.0).cloned().collect())
    }

    /// The patterns, to be written into a file.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| &*pattern.0)
    }
}

impl Pattern {
    /// Whether the whole name matches. Linear in name and pattern for one `*`, their product at worst.
    fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut seen) = (0, 0);
        // The position of the last star, and how much of the name it has consumed.
        let mut star: Option<(usize, usize)> = None;
        while seen < name.len() {
            if pattern.get(at) == Some(&b'*') {
                star = Some((at, seen));
                at += 1;
            } else if pattern.get(at) == Some(&name[seen]) {
                at += 1;
                seen += 1;
            } else if let Some((place, taken)) = star {
                star = Some((place, taken + 1));
                (at, seen) = (place + 1, taken + 1);
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|&byte| byte == b'*')
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        if text.is_empty() || text.len() > StreamName::MAX_LEN {
            return Err(PatternError::Length);
        }
        let known = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | '*');
        match text.chars().find(|&character| !known(character)) {
            Some(character) => Err(PatternError::Character(character)),
            None => Ok(Pattern(text.into())),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StreamPatterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StreamPatterns, D::Error> {
        let patterns = match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        };
        if patterns.len() > StreamPatterns::PATTERNS_MAX {
            return Err(D::Error::custom(TooManyPatterns));
        }
        let patterns: Result<Vec<Pattern>, PatternError> = patterns.iter().map(|text| text.parse()).collect();
        patterns.map(StreamPatterns).map_err(D::Error::custom)
    }
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(name)
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name) in [
            ("live", "live"),
            ("*", "live"),
            ("demo-*", "demo-"),
            ("demo-*", "demo-1"),
            ("*-cam", "a-b-cam"),
            ("a*b*c", "a1b2b3c"),
            ("a**", "a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("live", "live2"),
            ("live", "liv"),
            ("live", "LIVE"),
            ("demo-*", "demo"),
            ("*-cam", "a-camera"),
            ("a*b*c", "acb"),
            ("a.c", "abc"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn matching_is_fast_for_the_worst_patterns() {
        let pattern = "a*".repeat(31) + "b";
        assert!(!matches(&pattern, &"a".repeat(64)));
    }

    #[test]
    fn patterns_allow_only_characters_of_names() {
        assert_eq!("".parse::<Pattern>(), Err(PatternError::Length));
        assert_eq!("a".repeat(65).parse::<Pattern>(), Err(PatternError::Length));
        assert_eq!("a/b".parse::<Pattern>(), Err(PatternError::Character('/')));
        assert_eq!("li?e".parse::<Pattern>(), Err(PatternError::Character('?')));
    }

    #[test]
    fn a_string_or_a_list_is_accepted() {
        let live: StreamName = "live".parse().unwrap();
        for json in [r#""live""#, r#"["other","li*"]"#] {
            assert!(
                serde_json::from_str::<StreamPatterns>(json).unwrap().has(&live),
                "{json}"
            );
        }
        for json in ["[]", r#"["other"]"#] {
            assert!(
                !serde_json::from_str::<StreamPatterns>(json).unwrap().has(&live),
                "{json}"
            );
        }
        for json in [r#"[""]"#, "7", r#"["a b"]"#, &format!("[{}\"a\"]", "\"a\",".repeat(64))] {
            assert!(serde_json::from_str::<StreamPatterns>(json).is_err(), "{json}");
        }
    }
}

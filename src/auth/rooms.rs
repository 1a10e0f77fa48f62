//! Which streams a token is good for.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};

use onecast_control::StreamName;

/// Streams by name. In text form a list of patterns: `*` in one stands for any characters, also for none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rooms(Vec<Pattern>);

/// Names of streams: a name, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No character at all, or more than a name may have.
    #[error("a pattern has 1 to {} characters", StreamName::MAX_LEN)]
    Length,
    /// A character that no name has.
    #[error("a pattern cannot contain {0:?}: it is a stream's name, in which * stands for any characters")]
    Character(char),
}

/// Too many patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {} patterns of stream names are taken", Rooms::PATTERNS_MAX)]
pub struct TooMany;

impl Rooms {
    /// Most patterns in a list: each is tried for each question.
    pub const PATTERNS_MAX: usize = 64;

    /// No stream at all.
    pub fn none() -> Rooms {
        Rooms::default()
    }

    /// Every stream.
    pub fn all() -> Rooms {
        Rooms(vec![Pattern("*".into())])
    }

    /// Those that any of these patterns fits.
    ///
    /// # Errors
    /// When there are too many.
    pub fn of(patterns: Vec<Pattern>) -> Result<Rooms, TooMany> {
        if patterns.len() > Rooms::PATTERNS_MAX {
            return Err(TooMany);
        }
        Ok(Rooms(patterns))
    }

    /// Whether the stream is among them.
    pub fn has(&self, stream: &StreamName) -> bool {
        self.0.iter().any(|pattern| pattern.fits(stream.as_str()))
    }

    /// Whether no stream is.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// These and the others.
    pub(super) fn and(&self, others: &Rooms) -> Rooms {
        Rooms(self.0.iter().chain(&others.0).cloned().collect())
    }

    /// The patterns, to be written into a file.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| &*pattern.0)
    }
}

impl Pattern {
    /// Whether the whole name fits. Linear in name and pattern for one `*`, their product at worst.
    fn fits(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut seen) = (0, 0);
        // Where the last star stands, and how much of the name it has taken.
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

impl<'de> Deserialize<'de> for Rooms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rooms, D::Error> {
        let patterns = match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        };
        if patterns.len() > Rooms::PATTERNS_MAX {
            return Err(D::Error::custom(TooMany));
        }
        let patterns: Result<Vec<Pattern>, PatternError> = patterns.iter().map(|text| text.parse()).collect();
        patterns.map(Rooms).map_err(D::Error::custom)
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

    fn fits(pattern: &str, name: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().fits(name)
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
            assert!(fits(pattern, name), "{pattern} {name}");
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
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_that_try_everything_end() {
        let pattern = "a*".repeat(31) + "b";
        assert!(!fits(&pattern, &"a".repeat(64)));
    }

    #[test]
    fn what_no_name_has_no_pattern_has() {
        assert_eq!("".parse::<Pattern>(), Err(PatternError::Length));
        assert_eq!("a".repeat(65).parse::<Pattern>(), Err(PatternError::Length));
        assert_eq!("a/b".parse::<Pattern>(), Err(PatternError::Character('/')));
        assert_eq!("li?e".parse::<Pattern>(), Err(PatternError::Character('?')));
    }

    #[test]
    fn one_text_and_a_list_are_both_read() {
        let live: StreamName = "live".parse().unwrap();
        for json in [r#""live""#, r#"["other","li*"]"#] {
            assert!(serde_json::from_str::<Rooms>(json).unwrap().has(&live), "{json}");
        }
        for json in ["[]", r#"["other"]"#] {
            assert!(!serde_json::from_str::<Rooms>(json).unwrap().has(&live), "{json}");
        }
        for json in [r#"[""]"#, "7", r#"["a b"]"#, &format!("[{}\"a\"]", "\"a\",".repeat(64))] {
            assert!(serde_json::from_str::<Rooms>(json).is_err(), "{json}");
        }
    }
}

//! The text that people copy and paste: an SDP, mostly as base64 of `{"type":"offer","sdp":".."}`.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// How an offer was wrapped, and so how its answer will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Envelope {
    base64: bool,
    json: bool,
}

/// Why a pasted text holds no offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvelopeError {
    #[error("the body is empty")]
    Empty,
    #[error("character {position} of the body, {character:?}, does not belong into base64")]
    NotBase64 { character: char, position: usize },
    #[error("the base64 text is incomplete: something is missing at its end")]
    Incomplete,
    #[error("the base64 text holds neither JSON nor SDP")]
    NotText,
    #[error("the JSON cannot be read: {0}")]
    NotJson(String),
    #[error("the JSON has no text named sdp")]
    NoSdp,
    #[error("this looks like an answer; the server wants the offer")]
    IsAnswer,
    #[error("the JSON has the type {0:?}, not \"offer\"")]
    NotOffer(String),
}

impl Envelope {
    /// Takes the offer's SDP out of a pasted text. White space and line breaks may be anywhere in base64.
    pub(crate) fn open(text: &str) -> Result<(Envelope, String), EnvelopeError> {
        let text = trim(text);
        if text.is_empty() {
            return Err(EnvelopeError::Empty);
        }
        if looks_open(text) {
            return unwrap(text, false);
        }
        let decoded = String::from_utf8(decode(text)?).map_err(|_| EnvelopeError::NotText)?;
        match trim(&decoded) {
            inner if looks_open(inner) => unwrap(inner, true),
            _ => Err(EnvelopeError::NotText),
        }
    }

    /// Wraps an answer as its offer was.
    pub(crate) fn seal(self, sdp: &str) -> String {
        let inner = if self.json {
            json!({"type": "answer", "sdp": sdp}).to_string()
        } else {
            sdp.to_owned()
        };
        if self.base64 {
            BASE64_STANDARD.encode(inner)
        } else {
            inner
        }
    }

    /// Media type of what [`Envelope::seal`] makes.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Envelope { base64: true, .. } => "text/plain; charset=utf-8",
            Envelope { json: true, .. } => "application/json",
            Envelope { json: false, .. } => "application/sdp",
        }
    }

    /// The usual one, which is a single line.
    pub(crate) const BASE64_JSON: Envelope = Envelope {
        base64: true,
        json: true,
    };
}

impl EnvelopeError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            EnvelopeError::Empty => {
                "Send the offer that the page shows: curl --data-binary @offer.txt http://HOST:PORT/sdp"
            }
            EnvelopeError::NotBase64 { .. } | EnvelopeError::Incomplete | EnvelopeError::NotText => {
                "Copy the whole text that the page shows, from its first to its last character."
            }
            EnvelopeError::NotJson(_) | EnvelopeError::NoSdp | EnvelopeError::NotOffer(_) => {
                "Send what JSON.stringify(pc.localDescription) gives: {\"type\":\"offer\",\"sdp\":\"v=0...\"}"
            }
            EnvelopeError::IsAnswer => "Send the text that the page made, not the one that the server replied with.",
        }
    }
}

/// Opens any bytes and panics if a promise is broken: what can be opened is sealed in kind, what cannot is told in one line.
#[doc(hidden)]
pub fn fuzz_envelope(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Envelope::open(text) {
        Ok((envelope, sdp)) => {
            let sealed = envelope.seal(&sdp);
            let reopened = Envelope::open(&sealed);
            match envelope.json {
                true => assert_eq!(reopened, Err(EnvelopeError::IsAnswer)),
                false => assert_eq!(reopened, Ok((envelope, sdp))),
            }
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
}

/// Without surrounding white space, byte order mark and the quotation marks that consoles put around a text.
fn trim(text: &str) -> &str {
    let text = trim_space(text);
    let unquoted = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    unquoted('"').or_else(|| unquoted('\'')).map_or(text, trim_space)
}

fn trim_space(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}')
}

/// SDP or JSON as it is.
fn looks_open(text: &str) -> bool {
    text.starts_with('{') || text.starts_with("v=")
}

fn unwrap(text: &str, base64: bool) -> Result<(Envelope, String), EnvelopeError> {
    if !text.starts_with('{') {
        // RFC 8866 section 5 wants a line end after every line, and trimming has taken the last one.
        return Ok((Envelope { base64, json: false }, format!("{text}\r\n")));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| EnvelopeError::NotJson(error.to_string()))?;
    match value.get("type").and_then(Value::as_str) {
        None | Some("offer") => {}
        Some("answer" | "pranswer") => return Err(EnvelopeError::IsAnswer),
        Some(other) => return Err(EnvelopeError::NotOffer(other.chars().take(20).collect())),
    }
    let sdp = value.get("sdp").and_then(Value::as_str).ok_or(EnvelopeError::NoSdp)?;
    Ok((Envelope { base64, json: true }, sdp.to_owned()))
}

fn decode(text: &str) -> Result<Vec<u8>, EnvelopeError> {
    let mut plain = String::with_capacity(text.len());
    for (index, character) in text.chars().enumerate() {
        match character {
            // The alphabet for URLs (RFC 4648 section 5).
            '-' => plain.push('+'),
            '_' => plain.push('/'),
            '+' | '/' | '=' => plain.push(character),
            _ if character.is_ascii_alphanumeric() => plain.push(character),
            _ if character.is_whitespace() => {}
            _ => {
                return Err(EnvelopeError::NotBase64 {
                    character,
                    position: index + 1,
                });
            }
        }
    }
    LENIENT.decode(plain).map_err(|_| EnvelopeError::Incomplete)
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    const SDP: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=x:???>>>~~~\r\n";

    fn offer() -> String {
        json!({"type": "offer", "sdp": SDP}).to_string()
    }

    fn error(text: &str) -> EnvelopeError {
        Envelope::open(text).unwrap_err()
    }

    #[test]
    fn base64_of_any_dialect_is_taken() {
        for text in [
            BASE64_STANDARD.encode(offer()),
            BASE64_STANDARD_NO_PAD.encode(offer()),
            BASE64_URL_SAFE.encode(offer()),
            BASE64_URL_SAFE_NO_PAD.encode(offer()),
        ] {
            assert_eq!(
                Envelope::open(&text),
                Ok((Envelope::BASE64_JSON, SDP.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn white_space_may_be_anywhere() {
        let text = BASE64_STANDARD.encode(offer());
        let mut broken = "\u{feff}\r\n ".to_owned();
        for (index, character) in text.chars().enumerate() {
            let _ = write!(
                broken,
                "{character}{}",
                ["", "\n", " ", "\r\n", "\t", "\u{a0}"][index % 6]
            );
        }
        assert_eq!(Envelope::open(&broken).unwrap().1, SDP);
    }

    #[test]
    fn quotation_marks_of_a_console_are_dropped() {
        let text = BASE64_STANDARD.encode(offer());
        assert_eq!(Envelope::open(&format!("'{text}'\n")).unwrap().1, SDP);
        assert_eq!(Envelope::open(&format!("\"{text}\"")).unwrap().1, SDP);
    }

    #[test]
    fn an_answer_comes_in_the_envelope_of_its_offer() {
        let json = json!({"type": "answer", "sdp": "v=0\r\n"}).to_string();
        for (text, sealed, media_type) in [
            (
                BASE64_STANDARD.encode(offer()),
                BASE64_STANDARD.encode(&json),
                "text/plain; charset=utf-8",
            ),
            (offer(), json.clone(), "application/json"),
            (SDP.to_owned(), "v=0\r\n".to_owned(), "application/sdp"),
            (
                BASE64_STANDARD.encode(SDP),
                BASE64_STANDARD.encode("v=0\r\n"),
                "text/plain; charset=utf-8",
            ),
        ] {
            let (envelope, sdp) = Envelope::open(&text).unwrap();
            assert_eq!(sdp, SDP);
            assert_eq!(envelope.seal("v=0\r\n"), sealed);
            assert_eq!(envelope.media_type(), media_type);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(error(" \r\n"), EnvelopeError::Empty);
        assert_eq!(
            error("eyJ0%3D"),
            EnvelopeError::NotBase64 {
                character: '%',
                position: 5
            }
        );
        assert_eq!(
            error("<html>"),
            EnvelopeError::NotBase64 {
                character: '<',
                position: 1
            }
        );
        assert_eq!(error("QUJDR"), EnvelopeError::Incomplete);
        assert_eq!(error("QQ==QQ"), EnvelopeError::Incomplete);
        assert_eq!(error("hello"), EnvelopeError::Incomplete);
        assert_eq!(error(&BASE64_STANDARD.encode("hello")), EnvelopeError::NotText);
        assert_eq!(error(&BASE64_STANDARD.encode([0xff; 12])), EnvelopeError::NotText);
        assert!(matches!(error("{\"type\":"), EnvelopeError::NotJson(_)));
        assert_eq!(error("{\"type\":\"offer\"}"), EnvelopeError::NoSdp);
        assert_eq!(error("{\"type\":\"offer\",\"sdp\":7}"), EnvelopeError::NoSdp);
        assert_eq!(error("{\"type\":\"answer\",\"sdp\":\"v=0\"}"), EnvelopeError::IsAnswer);
        assert_eq!(
            error("{\"type\":\"rollback\"}"),
            EnvelopeError::NotOffer("rollback".into())
        );
    }

    #[test]
    fn a_text_cut_at_its_end_is_an_error_not_a_panic() {
        let text = BASE64_STANDARD.encode(offer());
        for end in 0..text.len() - 4 {
            assert!(Envelope::open(&text[..end]).is_err());
        }
    }

    #[test]
    fn damaged_texts_break_no_promise() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let whole = [
            BASE64_STANDARD.encode(offer()),
            offer(),
            SDP.to_owned(),
            BASE64_STANDARD.encode(SDP),
        ];
        for round in 0..4_000 {
            let mut bytes = whole[round % whole.len()].clone().into_bytes();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = b"\"'\\{}=\r\n\0 -_v:,\x7f"[random(16)],
                    1 => drop(bytes.drain(at..bytes.len().min(at + 1 + random(9)))),
                    _ => bytes.truncate(at + 1),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            fuzz_envelope(&bytes);
        }
    }

    #[test]
    fn json_without_a_type_is_an_offer() {
        assert_eq!(Envelope::open("{\"sdp\":\"v=0\\r\\n\"}").unwrap().1, "v=0\r\n");
    }
}

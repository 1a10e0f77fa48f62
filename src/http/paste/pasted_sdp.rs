//! The text that people copy and paste: SDP, usually as base64 of `{"type":"offer","sdp":".."}`.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// The encoding of an offer, which its answer uses too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SdpEncoding {
    base64: bool,
    json: bool,
}

/// Why a pasted text is not an offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PastedSdpError {
    #[error("the body is empty")]
    Empty,
    #[error("character {position} of the body, {character:?}, is not valid base64")]
    NotBase64 { character: char, position: usize },
    #[error("the base64 text is incomplete: its end is missing")]
    Incomplete,
    #[error("the base64 text contains neither JSON nor SDP")]
    NotText,
    #[error("the JSON is invalid: {0}")]
    NotJson(String),
    #[error("the JSON has no string named sdp")]
    NoSdp,
    #[error("this is an answer, but the server expects the offer")]
    IsAnswer,
    #[error("the JSON has the type {0:?}, not \"offer\"")]
    NotOffer(String),
}

impl SdpEncoding {
    /// Extracts the offer's SDP from a pasted text. Base64 may contain white space and line breaks anywhere.
    pub(crate) fn decode(text: &str) -> Result<(SdpEncoding, String), PastedSdpError> {
        let text = trim(text);
        if text.is_empty() {
            return Err(PastedSdpError::Empty);
        }
        if looks_plain(text) {
            return unwrap(text, false);
        }
        let decoded = String::from_utf8(decode_base64(text)?).map_err(|_| PastedSdpError::NotText)?;
        match trim(&decoded) {
            inner if looks_plain(inner) => unwrap(inner, true),
            _ => Err(PastedSdpError::NotText),
        }
    }

    /// Encodes an answer in the same way.
    pub(crate) fn encode(self, sdp: &str) -> String {
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

    /// Media type of the encoded answer.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            SdpEncoding { base64: true, .. } => "text/plain; charset=utf-8",
            SdpEncoding { json: true, .. } => "application/json",
            SdpEncoding { json: false, .. } => "application/sdp",
        }
    }

    /// The usual encoding, a single line.
    pub(crate) const BASE64_JSON: SdpEncoding = SdpEncoding {
        base64: true,
        json: true,
    };
}

impl PastedSdpError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            PastedSdpError::Empty => {
                "Send the offer that the page shows: curl --data-binary @offer.txt http://HOST:PORT/sdp"
            }
            PastedSdpError::NotBase64 { .. } | PastedSdpError::Incomplete | PastedSdpError::NotText => {
                "Copy the whole text that the page shows, from the first to the last character."
            }
            PastedSdpError::NotJson(_) | PastedSdpError::NoSdp | PastedSdpError::NotOffer(_) => {
                "Send the output of JSON.stringify(pc.localDescription): {\"type\":\"offer\",\"sdp\":\"v=0...\"}"
            }
            PastedSdpError::IsAnswer => "Send the text from the page, not the reply of the server.",
        }
    }
}

/// Decodes any bytes: an offer encodes back in the same way, and an error is one line.
#[doc(hidden)]
pub fn fuzz_pasted_sdp(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match SdpEncoding::decode(text) {
        Ok((encoding, sdp)) => {
            let sealed = encoding.encode(&sdp);
            let reopened = SdpEncoding::decode(&sealed);
            match encoding.json {
                true => assert_eq!(reopened, Err(PastedSdpError::IsAnswer)),
                false => assert_eq!(reopened, Ok((encoding, sdp))),
            }
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
}

/// Removes surrounding white space, the byte order mark, and the quotation marks that consoles add.
fn trim(text: &str) -> &str {
    let text = trim_space(text);
    let unquoted = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    unquoted('"').or_else(|| unquoted('\'')).map_or(text, trim_space)
}

fn trim_space(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}')
}

/// Whether the text is SDP or JSON without base64.
fn looks_plain(text: &str) -> bool {
    text.starts_with('{') || text.starts_with("v=")
}

fn unwrap(text: &str, base64: bool) -> Result<(SdpEncoding, String), PastedSdpError> {
    if !text.starts_with('{') {
        // RFC 8866 section 5 requires a line end after every line, and trimming has removed the last one.
        return Ok((SdpEncoding { base64, json: false }, format!("{text}\r\n")));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| PastedSdpError::NotJson(error.to_string()))?;
    match value.get("type").and_then(Value::as_str) {
        None | Some("offer") => {}
        Some("answer" | "pranswer") => return Err(PastedSdpError::IsAnswer),
        Some(other) => return Err(PastedSdpError::NotOffer(other.chars().take(20).collect())),
    }
    let sdp = value.get("sdp").and_then(Value::as_str).ok_or(PastedSdpError::NoSdp)?;
    Ok((SdpEncoding { base64, json: true }, sdp.to_owned()))
}

fn decode_base64(text: &str) -> Result<Vec<u8>, PastedSdpError> {
    let mut plain = String::with_capacity(text.len());
    for (index, character) in text.chars().enumerate() {
        match character {
            // The URL-safe alphabet (RFC 4648 section 5).
            '-' => plain.push('+'),
            '_' => plain.push('/'),
            '+' | '/' | '=' => plain.push(character),
            _ if character.is_ascii_alphanumeric() => plain.push(character),
            _ if character.is_whitespace() => {}
            _ => {
                return Err(PastedSdpError::NotBase64 {
                    character,
                    position: index + 1,
                });
            }
        }
    }
    LENIENT.decode(plain).map_err(|_| PastedSdpError::Incomplete)
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

    fn error(text: &str) -> PastedSdpError {
        SdpEncoding::decode(text).unwrap_err()
    }

    #[test]
    fn base64_in_any_variant_is_accepted() {
        for text in [
            BASE64_STANDARD.encode(offer()),
            BASE64_STANDARD_NO_PAD.encode(offer()),
            BASE64_URL_SAFE.encode(offer()),
            BASE64_URL_SAFE_NO_PAD.encode(offer()),
        ] {
            assert_eq!(
                SdpEncoding::decode(&text),
                Ok((SdpEncoding::BASE64_JSON, SDP.to_owned())),
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
        assert_eq!(SdpEncoding::decode(&broken).unwrap().1, SDP);
    }

    #[test]
    fn quotation_marks_of_a_console_are_dropped() {
        let text = BASE64_STANDARD.encode(offer());
        assert_eq!(SdpEncoding::decode(&format!("'{text}'\n")).unwrap().1, SDP);
        assert_eq!(SdpEncoding::decode(&format!("\"{text}\"")).unwrap().1, SDP);
    }

    #[test]
    fn an_answer_has_the_encoding_of_its_offer() {
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
            let (encoding, sdp) = SdpEncoding::decode(&text).unwrap();
            assert_eq!(sdp, SDP);
            assert_eq!(encoding.encode("v=0\r\n"), sealed);
            assert_eq!(encoding.media_type(), media_type);
        }
    }

    #[test]
    fn errors_name_the_cause() {
        assert_eq!(error(" \r\n"), PastedSdpError::Empty);
        assert_eq!(
            error("eyJ0%3D"),
            PastedSdpError::NotBase64 {
                character: '%',
                position: 5
            }
        );
        assert_eq!(
            error("<html>"),
            PastedSdpError::NotBase64 {
                character: '<',
                position: 1
            }
        );
        assert_eq!(error("QUJDR"), PastedSdpError::Incomplete);
        assert_eq!(error("QQ==QQ"), PastedSdpError::Incomplete);
        assert_eq!(error("hello"), PastedSdpError::Incomplete);
        assert_eq!(error(&BASE64_STANDARD.encode("hello")), PastedSdpError::NotText);
        assert_eq!(error(&BASE64_STANDARD.encode([0xff; 12])), PastedSdpError::NotText);
        assert!(matches!(error("{\"type\":"), PastedSdpError::NotJson(_)));
        assert_eq!(error("{\"type\":\"offer\"}"), PastedSdpError::NoSdp);
        assert_eq!(error("{\"type\":\"offer\",\"sdp\":7}"), PastedSdpError::NoSdp);
        assert_eq!(error("{\"type\":\"answer\",\"sdp\":\"v=0\"}"), PastedSdpError::IsAnswer);
        assert_eq!(
            error("{\"type\":\"rollback\"}"),
            PastedSdpError::NotOffer("rollback".into())
        );
    }

    #[test]
    fn a_text_cut_at_its_end_is_an_error_not_a_panic() {
        let text = BASE64_STANDARD.encode(offer());
        for end in 0..text.len() - 4 {
            assert!(SdpEncoding::decode(&text[..end]).is_err());
        }
    }

    #[test]
    fn damaged_texts_are_errors_or_offers() {
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
            fuzz_pasted_sdp(&bytes);
        }
    }

    #[test]
    fn json_without_a_type_is_an_offer() {
        assert_eq!(SdpEncoding::decode("{\"sdp\":\"v=0\\r\\n\"}").unwrap().1, "v=0\r\n");
    }
}

//! What clients of conference rooms send, as JSON. Known fields are parsed strictly. Unknown fields are ignored, so that newer clients may
//! send more, and `null` counts as absent.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::auth::Secret;
use crate::http::problem::{Problem, kinds};
use onecast_control::conference::{Change, MemberInfo};
use onecast_control::{SessionId, StreamName};

/// `POST /offer`, and the first `offer` of a WebSocket.
#[derive(Debug)]
pub(crate) struct OfferMessage {
    pub(crate) sdp: String,
    pub(crate) room: StreamName,
    /// The member that renegotiates; `None` to join.
    pub(crate) peer: Option<SessionId>,
    pub(crate) words: MemberInfo,
}

/// `POST /answer`, and `answer`.
#[derive(Debug)]
pub(crate) struct AnswerMessage {
    pub(crate) sdp: String,
    pub(crate) offer: Option<u64>,
}

/// The first frame of a WebSocket.
#[derive(Debug)]
pub(crate) struct FirstFrame {
    pub(crate) request: FirstRequest,
    pub(crate) token: Option<Secret>,
}

/// The request in a first frame.
#[derive(Debug)]
pub(crate) enum FirstRequest {
    Join(OfferMessage),
    Resume(SessionId),
}

/// A later frame.
#[derive(Debug)]
pub(crate) enum Frame {
    Offer { sdp: String, words: MemberInfo },
    Answer(AnswerMessage),
    Change(Change),
    Leave,
}

/// Why a message is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("the message is not JSON: {0}")]
    NotJson(String),
    #[error("the message is JSON, but not an object")]
    NotAnObject,
    #[error("{field} is missing: expected {wanted}")]
    Missing { field: &'static str, wanted: String },
    #[error("{field} is not {wanted}")]
    Wrong { field: &'static str, wanted: String },
}

/// Reads `POST /offer`.
pub(crate) fn offer(text: &str) -> Result<OfferMessage, MessageError> {
    Fields::of(text)?.offer()
}

/// Reads `POST /answer`: the member and its answer.
pub(crate) fn answer(text: &str) -> Result<(SessionId, AnswerMessage), MessageError> {
    let fields = Fields::of(text)?;
    Ok((fields.needed("peer_id", PEER, peer)?, fields.answer()?))
}

/// Reads `PATCH /peer/{peer}`.
pub(crate) fn change(text: &str) -> Result<Change, MessageError> {
    Fields::of(text)?.change()
}

/// Reads the first frame of a WebSocket.
pub(crate) fn first_frame(text: &str) -> Result<FirstFrame, MessageError> {
    let fields = Fields::of(text)?;
    let request = match fields.kind(FIRST)? {
        "offer" if fields.value("peer_id").is_some() => {
            return Err(wrong("peer_id", "in a first offer: send resume with it instead"));
        }
        "offer" => FirstRequest::Join(fields.offer()?),
        "resume" => FirstRequest::Resume(fields.needed("peer_id", PEER, peer)?),
        _ => return Err(wrong("type", FIRST)),
    };
    let token = fields.optional("token", "a token as text", secret)?;
    Ok(FirstFrame { request, token })
}

pub(crate) fn frame(text: &str) -> Result<Frame, MessageError> {
    let fields = Fields::of(text)?;
    Ok(match fields.kind(LATER)? {
        "offer" => Frame::Offer {
            sdp: fields.sdp()?,
            words: fields.words()?,
        },
        "answer" => Frame::Answer(fields.answer()?),
        "change" => Frame::Change(fields.change()?),
        "leave" => Frame::Leave,
        _ => return Err(wrong("type", LATER)),
    })
}

/// The type of a request, which its `error` frame repeats: one of the known types, never arbitrary text of the client.
pub(crate) fn request_of(text: &str) -> Option<&'static str> {
    let fields = Fields::of(text).ok()?;
    let kind = fields.value("type")?.as_str()?;
    REQUESTS.into_iter().find(|known| *known == kind)
}

/// Reads the secret id of a member, as in paths and in JSON.
pub(crate) fn peer_id(text: &str) -> Option<SessionId> {
    text.strip_prefix("peer-")?.parse().ok()
}

impl From<MessageError> for Problem {
    fn from(error: MessageError) -> Problem {
        let kind = match error {
            MessageError::NotJson(_) | MessageError::NotAnObject => kinds::BAD_JSON,
            MessageError::Missing { .. } | MessageError::Wrong { .. } => kinds::BAD_FIELD,
        };
        Problem::new(kind, error.to_string())
    }
}

/// The fields of a JSON object.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(text: &str) -> Result<Fields, MessageError> {
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err(MessageError::NotAnObject),
            Err(error) => Err(MessageError::NotJson(error.to_string())),
        }
    }

    fn value(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn optional<'a, T>(
        &'a self,
        field: &'static str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, MessageError> {
        let value = self.value(field);
        value
            .map(|value| read(value).ok_or_else(|| wrong(field, wanted)))
            .transpose()
    }

    fn needed<'a, T>(
        &'a self,
        field: &'static str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, MessageError> {
        self.optional(field, wanted, read)?
            .ok_or_else(|| MessageError::Missing {
                field,
                wanted: wanted.to_owned(),
            })
    }

    fn kind(&self, wanted: &str) -> Result<&str, MessageError> {
        self.needed("type", wanted, Value::as_str)
    }

    fn sdp(&self) -> Result<String, MessageError> {
        let sdp = self.needed("sdp", "the text of RTCSessionDescription.sdp", Value::as_str)?;
        Ok(sdp.to_owned())
    }

    fn offer(&self) -> Result<OfferMessage, MessageError> {
        let room = |value: &Value| value.as_str()?.parse().ok();
        Ok(OfferMessage {
            sdp: self.sdp()?,
            room: self.optional("room", ROOM, room)?.unwrap_or_else(main_room),
            peer: self.optional("peer_id", PEER, peer)?,
            words: self.words()?,
        })
    }

    fn answer(&self) -> Result<AnswerMessage, MessageError> {
        Ok(AnswerMessage {
            sdp: self.sdp()?,
            offer: self.optional("offer", "the number of the offer that this answers", Value::as_u64)?,
        })
    }

    fn words(&self) -> Result<MemberInfo, MessageError> {
        let labelled =
            format!("an object with at most {LABELS_MAX} labels by mid, each of at most {LABEL_CHARS_MAX} characters");
        Ok(MemberInfo {
            name: self.name()?.filter(|name| !name.is_empty()),
            labels: self.optional("labels", &labelled, labels)?.unwrap_or_default(),
            last_n: self.last_n()?,
        })
    }

    fn change(&self) -> Result<Change, MessageError> {
        Ok(Change {
            name: self.name()?,
            audio_muted: self.optional("audio_muted", "true or false", Value::as_bool)?,
            video_muted: self.optional("video_muted", "true or false", Value::as_bool)?,
            last_n: self.last_n()?,
        })
    }

    fn name(&self) -> Result<Option<Box<str>>, MessageError> {
        let wanted = format!("text of at most {NAME_CHARS_MAX} characters without control characters");
        self.optional("name", &wanted, |value| words(value, NAME_CHARS_MAX))
    }

    fn last_n(&self) -> Result<Option<usize>, MessageError> {
        let read = |value: &Value| usize::try_from(value.as_u64()?).ok().filter(|n| *n <= LAST_N_MAX);
        self.optional("last_n", &format!("a whole number from 0 to {LAST_N_MAX}"), read)
    }
}

/// The room of clients that name none.
fn main_room() -> StreamName {
    "main".parse().expect("a valid name")
}

fn peer(value: &Value) -> Option<SessionId> {
    peer_id(value.as_str()?)
}

fn secret(value: &Value) -> Option<Secret> {
    value.as_str().filter(|text| !text.is_empty()).map(Secret::new)
}

/// Text for people, without surrounding white space.
fn words(value: &Value, chars_max: usize) -> Option<Box<str>> {
    let text = value.as_str()?.trim();
    let fits = text.chars().count() <= chars_max && !text.contains(char::is_control);
    fits.then(|| text.into())
}

fn labels(value: &Value) -> Option<BTreeMap<Box<str>, Box<str>>> {
    let labels = value.as_object().filter(|labels| labels.len() <= LABELS_MAX)?;
    let label = |(mid, text): (&String, &Value)| {
        let mid = Some(mid.as_str()).filter(|mid| mid.len() <= MID_BYTES_MAX)?;
        Some((mid.into(), words(text, LABEL_CHARS_MAX)?))
    };
    labels.iter().map(label).collect()
}

fn wrong(field: &'static str, wanted: impl Into<String>) -> MessageError {
    let wanted = wanted.into();
    MessageError::Wrong { field, wanted }
}

/// Reads any bytes as each of the messages.
#[doc(hidden)]
pub fn fuzz_messages(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let errors = [
        offer(text).map(|offer| fuzz_words(&offer.words)).err(),
        answer(text).err(),
        change(text).map(|change| fuzz_name(change.name.as_deref())).err(),
        frame(text).err(),
        first_frame(text).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
    let _ = request_of(text);
}

fn fuzz_words(words: &MemberInfo) {
    fuzz_name(words.name.as_deref());
    assert!(words.labels.len() <= LABELS_MAX);
    let fits = |label: &str| label.chars().count() <= LABEL_CHARS_MAX;
    assert!(words.labels.values().all(|label| fits(label)));
}

fn fuzz_name(name: Option<&str>) {
    let name = name.unwrap_or_default();
    assert!(name.chars().count() <= NAME_CHARS_MAX && !name.contains(char::is_control));
}

/// A tile on the page shows about this many.
const NAME_CHARS_MAX: usize = 64;
/// A word or two, such as `screen`.
const LABEL_CHARS_MAX: usize = 32;
/// More media sections than any client sends on.
const LABELS_MAX: usize = 64;
/// Browsers use small numbers; the header extension allows 255 bytes, which no client needs.
const MID_BYTES_MAX: usize = 32;
/// More than a room can have.
const LAST_N_MAX: usize = 10_000;
const PEER: &str = "peer- and 32 hexadecimal digits, as in the answer to the first offer";
const ROOM: &str = "a name of 1 to 64 letters, digits, dots, dashes and underscores that does not begin with a dot";
const FIRST: &str = "\"offer\" or \"resume\" in a first frame";
const LATER: &str = "\"offer\", \"answer\", \"change\" or \"leave\"";
const REQUESTS: [&str; 5] = ["offer", "resume", "answer", "change", "leave"];

#[cfg(test)]
mod tests {
    use super::*;

    const PEER_ID: &str = "peer-0123456789abcdef0123456789abcdef";

    #[test]
    fn an_offer_needs_only_its_sdp() {
        let bare = offer(r#"{"sdp":"v=0"}"#).unwrap();
        assert_eq!(
            (bare.sdp.as_str(), bare.room.as_str(), bare.peer),
            ("v=0", "main", None)
        );
        assert_eq!(bare.words, MemberInfo::default());
        let text = format!(
            r#"{{"sdp":"v=0","room":"den","peer_id":"{PEER_ID}","name":" Ada ","labels":{{"1":"screen"}},"last_n":4,"new":[]}}"#
        );
        let full = offer(&text).unwrap();
        assert_eq!((full.room.as_str(), full.peer), ("den", peer_id(PEER_ID)));
        assert_eq!(full.words.name.as_deref(), Some("Ada"));
        assert_eq!(full.words.labels["1"].as_ref(), "screen");
        assert_eq!(full.words.last_n, Some(4));
        let nulls =
            offer(r#"{"sdp":"v=0","room":null,"name":null,"labels":null,"last_n":null,"peer_id":null}"#).unwrap();
        assert_eq!((nulls.room.as_str(), nulls.words), ("main", MemberInfo::default()));
    }

    #[test]
    fn an_error_names_the_invalid_field() {
        let long = |chars: usize| "x".repeat(chars);
        let many: String = (0..=LABELS_MAX).map(|mid| format!("\"{mid}\":\"x\",")).collect();
        for (text, said) in [
            (r#"{}"#.to_owned(), "sdp is missing"),
            (r#"{"sdp":7}"#.to_owned(), "sdp is not"),
            (r#"{"sdp":null}"#.to_owned(), "sdp is missing"),
            (r#"{"sdp":"v","room":".x"}"#.to_owned(), "room is not"),
            (r#"{"sdp":"v","room":1}"#.to_owned(), "room is not"),
            (r#"{"sdp":"v","peer_id":"peer-12"}"#.to_owned(), "peer_id is not"),
            (r#"{"sdp":"v","name":"a\u0000b"}"#.to_owned(), "name is not"),
            (format!(r#"{{"sdp":"v","name":"{}"}}"#, long(65)), "name is not"),
            (r#"{"sdp":"v","labels":["x"]}"#.to_owned(), "labels is not"),
            (r#"{"sdp":"v","labels":{"0":1}}"#.to_owned(), "labels is not"),
            (
                format!(r#"{{"sdp":"v","labels":{{"0":"{}"}}}}"#, long(33)),
                "labels is not",
            ),
            (
                format!(r#"{{"sdp":"v","labels":{{"{}":"x"}}}}"#, long(33)),
                "labels is not",
            ),
            (
                format!(r#"{{"sdp":"v","labels":{{{}"x":"x"}}}}"#, many),
                "labels is not",
            ),
            (r#"{"sdp":"v","last_n":-1}"#.to_owned(), "last_n is not"),
            (r#"{"sdp":"v","last_n":1.5}"#.to_owned(), "last_n is not"),
            (r#"{"sdp":"v","last_n":99999999999}"#.to_owned(), "last_n is not"),
        ] {
            let error = offer(&text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{text}: {error}");
        }
        assert_eq!(offer("[]").unwrap_err(), MessageError::NotAnObject);
        assert!(matches!(offer("v=0").unwrap_err(), MessageError::NotJson(_)));
        assert!(matches!(
            offer(&"[".repeat(10_000)).unwrap_err(),
            MessageError::NotJson(_)
        ));
    }

    #[test]
    fn an_answer_names_its_member_and_optionally_the_offer() {
        let (peer, bare) = answer(&format!(r#"{{"peer_id":"{PEER_ID}","sdp":"v"}}"#)).unwrap();
        assert_eq!((Some(peer), bare.offer), (peer_id(PEER_ID), None));
        let (_, numbered) = answer(&format!(r#"{{"peer_id":"{PEER_ID}","sdp":"v","offer":3}}"#)).unwrap();
        assert_eq!(numbered.offer, Some(3));
        let error = answer(r#"{"sdp":"v"}"#).unwrap_err().to_string();
        assert!(error.starts_with("peer_id is missing"), "{error}");
        assert!(answer(&format!(r#"{{"peer_id":"{PEER_ID}","sdp":"v","offer":"3"}}"#)).is_err());
    }

    #[test]
    fn a_change_distinguishes_cleared_from_absent_fields() {
        assert_eq!(change("{}").unwrap(), Change::default());
        let text = r#"{"name":"","audio_muted":false,"video_muted":true,"last_n":0}"#;
        let changed = change(text).unwrap();
        assert_eq!(changed.name.as_deref(), Some(""));
        assert_eq!(
            (changed.audio_muted, changed.video_muted, changed.last_n),
            (Some(false), Some(true), Some(0))
        );
        assert!(change(r#"{"audio_muted":"yes"}"#).is_err());
    }

    #[test]
    fn frames_are_distinguished_by_their_type() {
        let joined = first_frame(r#"{"type":"offer","sdp":"v","token":"t"}"#).unwrap();
        assert!(matches!(joined.request, FirstRequest::Join(_)) && joined.token.is_some());
        let resumed = first_frame(&format!(r#"{{"type":"resume","peer_id":"{PEER_ID}"}}"#)).unwrap();
        assert!(matches!(resumed.request, FirstRequest::Resume(_)) && resumed.token.is_none());
        for text in [
            r#"{"type":"answer","sdp":"v"}"#.to_owned(),
            r#"{"sdp":"v"}"#.to_owned(),
            r#"{"type":1,"sdp":"v"}"#.to_owned(),
            r#"{"type":"offer","sdp":"v","token":1}"#.to_owned(),
            format!(r#"{{"type":"offer","sdp":"v","peer_id":"{PEER_ID}"}}"#),
        ] {
            assert!(first_frame(&text).is_err(), "{text}");
        }
        assert!(matches!(
            frame(r#"{"type":"offer","sdp":"v"}"#),
            Ok(Frame::Offer { .. })
        ));
        assert!(matches!(frame(r#"{"type":"answer","sdp":"v"}"#), Ok(Frame::Answer(_))));
        assert!(matches!(frame(r#"{"type":"change"}"#), Ok(Frame::Change(_))));
        assert!(matches!(frame(r#"{"type":"leave"}"#), Ok(Frame::Leave)));
        assert!(frame(r#"{"type":"resume"}"#).is_err());
        assert_eq!(request_of(r#"{"type":"answer"}"#), Some("answer"));
        assert_eq!(request_of(r#"{"type":"password"}"#), None);
    }

    #[test]
    fn debug_output_does_not_contain_the_token() {
        let joined = first_frame(r#"{"type":"offer","sdp":"v","token":"hunter2"}"#).unwrap();
        assert!(!format!("{joined:?}").contains("hunter2"));
    }
}

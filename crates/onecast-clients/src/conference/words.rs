//! The messages of a conference, as its protocol has them. Fields that are not known are passed over.

use serde::{Deserialize, Serialize};

/// What a client says over a WebSocket, or by `POST /offer` and `POST /answer` without the `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Said<'a> {
    Offer(OfferSaid<'a>),
    Resume { peer_id: &'a str },
    Answer(AnswerSaid<'a>),
}

/// An offer of ours: the first one joins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct OfferSaid<'a> {
    pub(super) sdp: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_n: Option<u32>,
    /// In the first frame of a WebSocket only; over HTTP it stands in a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<&'a str>,
}

/// An answer of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct AnswerSaid<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer_id: Option<&'a str>,
    pub(super) sdp: &'a str,
    pub(super) offer: u64,
}

/// What a server says over a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Heard {
    Answer(Joined),
    Resumed {},
    Offer(Offer),
    Joined {
        member: Somebody,
    },
    Left {
        id: u64,
    },
    Error(Refused),
    Closed {
        problem: String,
        #[serde(default)]
        detail: String,
    },
    /// Roster, who speaks, and what later servers may say.
    #[serde(other)]
    Other,
}

/// The answer to an offer of ours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Joined {
    pub(super) sdp: String,
    #[serde(default)]
    pub(super) peer_id: String,
    #[serde(default)]
    pub(super) id: u64,
}

/// An offer of the server's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Offer {
    pub(super) sdp: String,
    #[serde(rename = "offer")]
    pub(super) number: u64,
    #[serde(default)]
    pub(super) tracks: Vec<OfferedTrack>,
}

/// A track in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct OfferedTrack {
    pub(super) mid: String,
    pub(super) id: u64,
    pub(super) stream: String,
    pub(super) kind: String,
}

/// Somebody in the room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Somebody {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) name: Option<String>,
}

/// Why something was not done: an `error` frame, or what is left of problem+json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Refused {
    /// What was asked for: `offer`, `answer`, ..
    pub(super) request: String,
    pub(super) status: u16,
    /// The last part of the problem's type.
    pub(super) problem: String,
    pub(super) title: String,
    pub(super) detail: String,
    pub(super) hint: String,
    /// Seconds until the server wants to be asked again.
    pub(super) retry_after: Option<u64>,
}

/// How much of a peer id may be seen: it is its member's key.
pub(super) fn shown(peer_id: &str) -> String {
    let head: String = peer_id.chars().take(SHOWN).collect();
    format!("{head}..")
}

/// `peer-` and four digits.
const SHOWN: usize = 9;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_have_their_type_and_nothing_that_was_not_said() {
        let offer = OfferSaid {
            sdp: "v=0",
            room: Some("main"),
            ..OfferSaid::default()
        };
        assert_eq!(
            serde_json::to_value(Said::Offer(offer.clone())).unwrap(),
            json!({"type": "offer", "sdp": "v=0", "room": "main"})
        );
        assert_eq!(
            serde_json::to_value(offer).unwrap(),
            json!({"sdp": "v=0", "room": "main"})
        );
        let resume = Said::Resume { peer_id: "peer-1" };
        assert_eq!(
            serde_json::to_value(resume).unwrap(),
            json!({"type": "resume", "peer_id": "peer-1"})
        );
    }

    #[test]
    fn what_a_server_says_is_understood_with_more_fields_and_fewer() {
        let heard = |value: serde_json::Value| serde_json::from_value::<Heard>(value).unwrap();
        let answer =
            json!({"type": "answer", "sdp": "v=0", "peer_id": "peer-1", "id": 12, "room": "main", "ice_servers": []});
        assert!(matches!(heard(answer), Heard::Answer(Joined { id: 12, .. })));
        let offer = json!({"type": "offer", "sdp": "v=0", "offer": 3,
            "tracks": [{"mid": "s0", "id": 12, "stream": "m12.0", "kind": "video", "label": "screen"}]});
        assert!(matches!(heard(offer), Heard::Offer(Offer { number: 3, tracks, .. }) if tracks[0].mid == "s0"));
        let joined = json!({"type": "joined", "member": {"id": 13, "tracks": [], "speaking": false}});
        assert!(matches!(
            heard(joined),
            Heard::Joined {
                member: Somebody { id: 13, name: None }
            }
        ));
        let error =
            json!({"type": "error", "request": "offer", "status": 409, "problem": "offer-pending", "title": "t"});
        assert!(matches!(heard(error), Heard::Error(Refused { status: 409, .. })));
        assert_eq!(heard(json!({"type": "roster", "room": "main"})), Heard::Other);
        assert_eq!(
            heard(json!({"type": "resumed", "id": 1, "room": "main"})),
            Heard::Resumed {}
        );
    }

    #[test]
    fn a_peer_id_is_never_shown_whole() {
        assert_eq!(shown("peer-1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d"), "peer-1a2b..");
        assert_eq!(shown("x"), "x..");
    }
}

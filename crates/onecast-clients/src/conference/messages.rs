//! Messages of the conference protocol. Unknown fields are ignored.

use serde::{Deserialize, Serialize};

/// A message of a client over a WebSocket; `POST /offer` and `POST /answer` take the same without the `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum ClientMessage<'a> {
    Offer(OfferMessage<'a>),
    Resume { peer_id: &'a str },
    Answer(AnswerMessage<'a>),
}

/// An offer of the client. The first one joins the room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct OfferMessage<'a> {
    pub(super) sdp: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_n: Option<u32>,
    /// Only in the first message of a WebSocket; HTTP requests carry it in a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<&'a str>,
}

/// An answer of the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct AnswerMessage<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer_id: Option<&'a str>,
    pub(super) sdp: &'a str,
    pub(super) offer: u64,
}

/// A message of the server over a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum ServerMessage {
    Answer(JoinAnswer),
    Resumed {},
    Offer(ServerOffer),
    Joined {
        member: MemberInfo,
    },
    Left {
        id: u64,
    },
    Error(Refusal),
    Closed {
        problem: String,
        #[serde(default)]
        detail: String,
    },
    /// The roster, active speakers, and messages of later versions.
    #[serde(other)]
    Other,
}

/// The answer to an offer of the client.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct JoinAnswer {
    pub(super) sdp: String,
    #[serde(default)]
    pub(super) peer_id: String,
    #[serde(default)]
    pub(super) id: u64,
}

/// An offer of the server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ServerOffer {
    pub(super) sdp: String,
    #[serde(rename = "offer")]
    pub(super) number: u64,
    #[serde(default)]
    pub(super) tracks: Vec<OfferedTrack>,
}

/// A track of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct OfferedTrack {
    pub(super) mid: String,
    pub(super) id: u64,
    pub(super) stream: String,
    pub(super) kind: String,
}

/// Another member of the room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct MemberInfo {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) name: Option<String>,
}

/// A refusal: an `error` message, or the relevant fields of problem+json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    /// The refused request: `offer`, `answer`, ..
    pub(super) request: String,
    pub(super) status: u16,
    /// The last part of the problem type.
    pub(super) problem: String,
    pub(super) title: String,
    pub(super) detail: String,
    pub(super) hint: String,
    /// Seconds to wait before a retry.
    pub(super) retry_after: Option<u64>,
}

/// The part of a peer id that may be shown. The id is the member's secret.
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
    fn messages_have_a_type_and_no_empty_fields() {
        let offer = OfferMessage {
            sdp: "v=0",
            room: Some("main"),
            ..OfferMessage::default()
        };
        assert_eq!(
            serde_json::to_value(ClientMessage::Offer(offer.clone())).unwrap(),
            json!({"type": "offer", "sdp": "v=0", "room": "main"})
        );
        assert_eq!(
            serde_json::to_value(offer).unwrap(),
            json!({"sdp": "v=0", "room": "main"})
        );
        let resume = ClientMessage::Resume { peer_id: "peer-1" };
        assert_eq!(
            serde_json::to_value(resume).unwrap(),
            json!({"type": "resume", "peer_id": "peer-1"})
        );
    }

    #[test]
    fn server_messages_may_have_more_or_fewer_fields() {
        let heard = |value: serde_json::Value| serde_json::from_value::<ServerMessage>(value).unwrap();
        let answer =
            json!({"type": "answer", "sdp": "v=0", "peer_id": "peer-1", "id": 12, "room": "main", "ice_servers": []});
        assert!(matches!(
            heard(answer),
            ServerMessage::Answer(JoinAnswer { id: 12, .. })
        ));
        let offer = json!({"type": "offer", "sdp": "v=0", "offer": 3,
            "tracks": [{"mid": "s0", "id": 12, "stream": "m12.0", "kind": "video", "label": "screen"}]});
        assert!(
            matches!(heard(offer), ServerMessage::Offer(ServerOffer { number: 3, tracks, .. }) if tracks[0].mid == "s0")
        );
        let joined = json!({"type": "joined", "member": {"id": 13, "tracks": [], "speaking": false}});
        assert!(matches!(
            heard(joined),
            ServerMessage::Joined {
                member: MemberInfo { id: 13, name: None }
            }
        ));
        let error =
            json!({"type": "error", "request": "offer", "status": 409, "problem": "offer-pending", "title": "t"});
        assert!(matches!(
            heard(error),
            ServerMessage::Error(Refusal { status: 409, .. })
        ));
        assert_eq!(heard(json!({"type": "roster", "room": "main"})), ServerMessage::Other);
        assert_eq!(
            heard(json!({"type": "resumed", "id": 1, "room": "main"})),
            ServerMessage::Resumed {}
        );
    }

    #[test]
    fn a_peer_id_is_never_shown_in_full() {
        assert_eq!(shown("peer-1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d"), "peer-1a2b..");
        assert_eq!(shown("x"), "x..");
    }
}

//! What the server sends about rooms, as JSON.

use serde_json::{Map, Value, json};

use crate::http::conference::roster_diff::RosterChange;
use crate::http::problem::Problem;
use crate::http::timestamp;
use crate::turn::{IceServer, IceServers, IceUrl};
use onecast_control::conference::{MemberState, OfferedTrack, Roster, ServerOffer, TrackState};
use onecast_control::{SessionId, SessionNumber, StreamName};
use onecast_rtc::rtp::Kind;
use onecast_udp::clock;

/// The server's answer to a member's offer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerReply<'a> {
    pub(crate) sdp: &'a str,
    pub(crate) peer: SessionId,
    /// The public number of the peer, if known.
    pub(crate) id: Option<SessionNumber>,
    pub(crate) room: &'a StreamName,
}

/// An answer, with STUN and TURN servers for the client.
pub(crate) fn answer(answer: AnswerReply<'_>, servers: &IceServers) -> Value {
    let servers: Vec<Value> = servers.for_client(clock::unix_time()).iter().map(ice_server).collect();
    let mut value = json!({
        "type": "answer",
        "sdp": answer.sdp,
        "peer_id": format!("peer-{}", answer.peer),
        "room": answer.room.as_str(),
        "ice_servers": servers,
    });
    if let Some(id) = answer.id {
        value["id"] = id.0.into();
    }
    value
}

/// An offer of the server.
pub(crate) fn offer(offer: &ServerOffer) -> Value {
    let tracks: Vec<Value> = offer.tracks.iter().map(offered).collect();
    json!({ "type": "offer", "sdp": &*offer.sdp, "offer": offer.number, "tracks": tracks })
}

/// The members of a room and its speaker.
pub(crate) fn roster(roster: &Roster) -> Map<String, Value> {
    let members: Vec<Value> = roster.members.iter().map(member).collect();
    Map::from_iter([
        ("room".to_owned(), roster.room.as_str().into()),
        ("speaker".to_owned(), roster.speaker.map(|speaker| speaker.0).into()),
        ("members".to_owned(), members.into()),
    ])
}

/// The frame with the whole roster.
pub(crate) fn roster_frame(of: &Roster) -> Value {
    let mut value = roster(of);
    value.insert("type".to_owned(), "roster".into());
    Value::Object(value)
}

/// The first frame to a member that has resumed.
pub(crate) fn resumed(id: SessionNumber, room: &StreamName) -> Value {
    json!({ "type": "resumed", "id": id.0, "room": room.as_str() })
}

/// The frame of a change.
pub(crate) fn change(change: RosterChange<'_>) -> Value {
    match change {
        RosterChange::Left(id) => json!({ "type": "left", "id": id.0 }),
        RosterChange::Joined(joined) => json!({ "type": "joined", "member": member(joined) }),
        RosterChange::Changed(changed) => json!({ "type": "changed", "member": member(changed) }),
        RosterChange::Speaking { id, speaking } => json!({ "type": "speaking", "id": id.0, "speaking": speaking }),
        RosterChange::Speaker(id) => json!({ "type": "speaker", "id": id.map(|id| id.0) }),
    }
}

/// The frame of a failed request.
pub(crate) fn error(request: Option<&str>, problem: &Problem) -> Value {
    let mut value = json!({
        "type": "error",
        "request": request,
        "status": problem.status().as_u16(),
        "problem": problem.name(),
        "title": problem.title(),
        "detail": problem.detail(),
    });
    if let Some(hint) = problem.hint() {
        value["hint"] = hint.into();
    }
    value
}

/// The last frame on a socket.
pub(crate) fn closed(problem: &Problem) -> Value {
    json!({ "type": "closed", "problem": problem.name(), "detail": problem.detail() })
}

fn member(member: &MemberState) -> Value {
    let tracks: Vec<Value> = member.tracks.iter().map(track).collect();
    let mut value = json!({
        "id": member.id.0,
        "broadcast": member.broadcast,
        "since": timestamp::utc(member.since_unix),
        "speaking": member.speaking,
        "tracks": tracks,
    });
    if let Some(name) = member.name.as_deref().filter(|name| !name.is_empty()) {
        value["name"] = name.into();
    }
    value
}

fn track(track: &TrackState) -> Value {
    let mut value = json!({
        "stream": &*track.stream,
        "kind": kind(track.kind),
        "muted": track.muted,
    });
    label(&mut value, track.label.as_deref());
    if let Some(codec) = track.codec {
        value["codec"] = codec.to_string().into();
    }
    value
}

fn offered(track: &OfferedTrack) -> Value {
    let mut value = json!({
        "mid": &*track.mid,
        "id": track.member.0,
        "stream": &*track.stream,
        "kind": kind(track.kind),
    });
    label(&mut value, track.label.as_deref());
    value
}

fn label(value: &mut Value, label: Option<&str>) {
    if let Some(label) = label {
        value["label"] = label.into();
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    }
}

fn ice_server(server: &IceServer) -> Value {
    let urls: Vec<String> = server.urls.iter().map(IceUrl::to_string).collect();
    let mut value = json!({ "urls": urls });
    if let Some(login) = &server.login {
        value["username"] = login.username.as_str().into();
        value["credential"] = login.credential.as_str().into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::TurnCredentials;

    #[test]
    fn ice_servers_have_the_form_of_the_webrtc_api() {
        let credentials = TurnCredentials::Fixed {
            username: "user".parse().unwrap(),
            password: "myPassword".parse().unwrap(),
        };
        let urls = ["turn:turn.example.net", "stun:stun.example.net"].map(|url| url.parse().unwrap());
        let servers = IceServers::new(urls.to_vec(), Some(credentials)).unwrap();
        let reply = answer(
            AnswerReply {
                sdp: "v=0",
                peer: SessionId::from_random([1; 16]),
                id: Some(SessionNumber(7)),
                room: &StreamName::default(),
            },
            &servers,
        );
        let stun = json!({ "urls": ["stun:stun.example.net"] });
        let turn = json!({ "urls": ["turn:turn.example.net"], "username": "user", "credential": "myPassword" });
        assert_eq!(reply["ice_servers"], json!([stun, turn]));
        assert_eq!((&reply["id"], &reply["type"]), (&json!(7), &json!("answer")));
        assert_eq!(reply["peer_id"], format!("peer-{}", "01".repeat(16)));
    }
}

//! Who may join a conference room, send there, and come back.

use serde_json::{Value, json};

use super::super::fake::answer;
use super::super::rooms::{JSON, kind};
use super::super::ws::Ws;
use super::*;

fn sending() -> String {
    format!("{OFFER}a=sendonly\r\n")
}

impl Guarded {
    async fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> Reply {
        let authorization = token.map(bearer);
        let mut headers = vec![JSON];
        headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
        self.rig.request(method, path, &headers, &body.to_string()).await
    }

    async fn join(&self, token: Option<&str>, sdp: &str) -> Reply {
        self.ask("POST", "/offer", token, &json!({ "sdp": sdp, "room": "live" }))
            .await
    }
}

#[tokio::test]
async fn joining_requires_the_right_to_watch_and_sending_the_right_to_publish() {
    let guarded = Guarded::start(false).await;
    let refused = guarded.join(None, OFFER).await;
    kind(&refused, 401, "unauthorized");
    challenge(&refused, None);
    let wrong = guarded.join(Some("wrong"), OFFER).await;
    kind(&wrong, 401, "unauthorized");
    challenge(&wrong, Some("invalid_token"));
    kind(&guarded.join(Some(&guarded.other), OFFER).await, 403, "forbidden");
    kind(&guarded.join(Some(&guarded.viewer), &sending()).await, 403, "forbidden");
    assert_eq!(guarded.rig.fake.hall.members(), 0);
    assert_eq!(guarded.join(Some(&guarded.viewer), OFFER).await.status, 200);
    assert_eq!(guarded.join(Some(&guarded.studio), &sending()).await.status, 200);
    let path = format!("/offer?token={}", guarded.studio);
    let body = json!({ "sdp": sending(), "room": "live" });
    assert_eq!(guarded.ask("POST", &path, None, &body).await.status, 200);
}

#[tokio::test]
async fn a_peer_that_joined_with_a_token_requires_it_afterwards() {
    let guarded = Guarded::start(false).await;
    let joined = guarded.join(Some(&guarded.studio), OFFER).await.json();
    let peer = joined["peer_id"].as_str().unwrap();
    let (poll, own) = (format!("/renegotiate/{peer}"), format!("/peer/{peer}"));
    let offer = json!({ "peer_id": peer, "sdp": OFFER });
    for (method, path, body) in [
        ("GET", &*poll, &json!({})),
        ("POST", "/offer", &offer),
        ("POST", "/answer", &offer),
        ("PATCH", &own, &json!({})),
        ("DELETE", &own, &json!({})),
    ] {
        for (token, status) in [(None, 401), (Some("wrong"), 401), (Some(&*guarded.other), 403)] {
            assert_eq!(
                guarded.ask(method, path, token, body).await.status,
                status,
                "{method} {path}"
            );
        }
    }
    let with = async |method: &str, path: &str, body: &Value| {
        guarded.ask(method, path, Some(&guarded.studio), body).await.status
    };
    assert_eq!(with("GET", &poll, &json!({})).await, 204);
    assert_eq!(with("POST", "/answer", &offer).await, 409);
    assert_eq!(with("PATCH", &own, &json!({})).await, 204);
    assert_eq!(with("DELETE", &own, &json!({})).await, 200);
}

#[tokio::test]
async fn a_watch_only_member_cannot_start_sending_later() {
    let guarded = Guarded::start(false).await;
    // With the token in the query the peer's id is enough to come back, but it is no right to send.
    let path = format!("/offer?token={}", guarded.viewer);
    let body = json!({ "sdp": OFFER, "room": "live" });
    let joined = guarded.ask("POST", &path, None, &body).await.json();
    let offer = json!({ "peer_id": joined["peer_id"], "sdp": sending() });
    for token in [None, Some(&*guarded.viewer)] {
        kind(&guarded.ask("POST", "/offer", token, &offer).await, 403, "forbidden");
        assert!(!guarded.rig.fake.hall.last_may_send());
    }
    assert_eq!(
        guarded
            .ask("POST", "/offer", Some(&guarded.studio), &offer)
            .await
            .status,
        200
    );
    assert!(guarded.rig.fake.hall.last_may_send());
}

#[tokio::test]
async fn a_socket_accepts_its_token_in_three_places() {
    let guarded = Guarded::start(false).await;
    let rig = &guarded.rig;
    let offer = |token: Option<&str>, sdp: &str| json!({ "type": "offer", "sdp": sdp, "room": "live", "token": token });
    let mut socket = Ws::open(rig).await;
    for (token, status, problem) in [
        (None, 401, "unauthorized"),
        (Some("wrong"), 401, "unauthorized"),
        (Some(&*guarded.other), 403, "forbidden"),
    ] {
        socket.send(offer(token, OFFER)).await;
        let error = socket.expect_error(status, problem).await;
        assert_eq!(error["request"], "offer");
    }
    socket.send(offer(Some(&guarded.viewer), &sending())).await;
    socket.expect_error(403, "forbidden").await;
    socket.send(offer(Some(&guarded.viewer), OFFER)).await;
    let peer = socket.expect("answer").await["peer_id"].clone();
    socket.expect("roster").await;
    socket.send(json!({ "type": "offer", "sdp": sending() })).await;
    socket.expect_error(403, "forbidden").await;
    // Who came with the token in a frame comes back with the id alone.
    let mut again = Ws::open(rig).await;
    again.send(json!({ "type": "resume", "peer_id": peer })).await;
    again.expect("resumed").await;

    let query = format!("/ws?token={}", guarded.studio);
    let header = bearer(&guarded.studio);
    let header = [("Authorization", &*header)];
    for (path, headers) in [(&*query, &[][..]), ("/ws", &header)] {
        let mut socket = Ws::open_with(rig, path, headers)
            .await
            .unwrap_or_else(|reply| panic!("{reply:?}"));
        socket.send(offer(None, &sending())).await;
        assert_eq!(socket.expect("answer").await["sdp"], answer("live"));
        socket.expect("roster").await;
        socket.send(json!({ "type": "offer", "sdp": sending() })).await;
        socket.expect("answer").await;
    }
}

#[tokio::test]
async fn a_peer_with_a_token_from_a_header_resumes_only_with_that_token() {
    let guarded = Guarded::start(false).await;
    let joined = guarded.join(Some(&guarded.studio), OFFER).await.json();
    let resume = |token: Option<&str>| json!({ "type": "resume", "peer_id": joined["peer_id"], "token": token });
    let mut socket = Ws::open(&guarded.rig).await;
    socket.send(resume(None)).await;
    socket.expect_error(401, "unauthorized").await;
    socket.send(resume(Some(&guarded.other))).await;
    socket.expect_error(403, "forbidden").await;
    socket.send(resume(Some(&guarded.studio))).await;
    socket.expect("resumed").await;
}

#[tokio::test]
async fn a_room_is_visible_only_to_clients_that_may_watch_it() {
    let guarded = Guarded::start(false).await;
    guarded.join(Some(&guarded.studio), OFFER).await;
    let look = async |token: Option<&str>| guarded.ask("GET", "/api/rooms/live", token, &json!({})).await.status;
    assert_eq!(look(None).await, 401);
    assert_eq!(look(Some(&guarded.other)).await, 403);
    assert_eq!(look(Some(&guarded.viewer)).await, 200);
}

#[tokio::test]
async fn without_tokens_a_page_of_another_origin_cannot_join_a_room() {
    let rig = Rig::guarded(Authority::unconfigured()).await;
    let body = json!({ "sdp": OFFER }).to_string();
    let page = ("Origin", "https://evil.example");
    kind(
        &rig.request("POST", "/offer", &[JSON, page], &body).await,
        403,
        "foreign-page",
    );
    let mut socket = Ws::open_with(&rig, "/ws", &[page])
        .await
        .unwrap_or_else(|reply| panic!("{reply:?}"));
    socket.send(json!({ "type": "offer", "sdp": OFFER })).await;
    socket.expect_error(403, "foreign-page").await;
    assert_eq!(rig.fake.hall.members(), 0);
    let own = ("Origin", "http://127.0.0.1");
    let mut socket = Ws::open_with(&rig, "/ws", &[own])
        .await
        .unwrap_or_else(|reply| panic!("{reply:?}"));
    socket.join("den").await;
}

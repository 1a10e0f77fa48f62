//! Conference rooms over HTTP: every status of the protocol, and what is no message.

use std::time::Duration;

use onecast::http::{HttpLimits, Pages};
use serde_json::{Value, json};

use super::rig::{OFFER, Rig, SDP};
use super::wire::{Reply, request};

pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

pub(crate) async fn post(rig: &Rig, path: &str, body: Value) -> Reply {
    rig.request("POST", path, &[JSON], &body.to_string()).await
}

/// Joins a room and gives the peer's id.
pub(crate) async fn joined(rig: &Rig, room: &str) -> String {
    let reply = post(rig, "/offer", json!({ "sdp": OFFER, "room": room })).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["peer_id"].as_str().unwrap().to_owned()
}

#[track_caller]
pub(crate) fn kind(reply: &Reply, status: u16, kind: &str) {
    reply.problem(status);
    assert_eq!(reply.json()["type"], format!("urn:onecast:problem:{kind}"), "{reply:?}");
}

#[tokio::test]
async fn an_offer_joins_a_room_and_the_roster_shows_every_member() {
    let rig = Rig::start().await;
    let sdp = format!("{OFFER}a=sendonly\r\n");
    let offer = json!({ "sdp": sdp, "name": " Ada ", "labels": { "0": "screen" }, "last_n": 4, "future": [1] });
    let reply = post(&rig, "/offer", offer).await;
    let answer = reply.json();
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")));
    assert_eq!(
        (&answer["type"], &answer["room"], &answer["id"]),
        (&json!("answer"), &json!("main"), &json!(1))
    );
    assert_eq!(
        (&answer["sdp"], &answer["ice_servers"]),
        (&json!(super::fake::answer("main")), &json!([]))
    );
    assert_eq!(answer["peer_id"], format!("peer-{}", "01".repeat(16)));
    assert_eq!(rig.fake.hall.last_words().last_n, Some(4));

    let room = rig.get("/api/rooms/main").await;
    assert_eq!(room.header("cache-control"), Some("no-store"));
    let track = json!({ "stream": "m1.0", "kind": "video", "label": "screen", "muted": false });
    let member = json!({
        "id": 1, "name": "Ada", "broadcast": false, "since": "2024-02-29T12:34:56Z", "speaking": false, "tracks": [track],
    });
    assert_eq!(
        room.json(),
        json!({ "room": "main", "speaker": null, "members": [member] })
    );
    assert!(!room.text().contains("0101"), "a peer's id is a right");
    kind(&rig.get("/api/rooms/absent").await, 404, "unknown-room");
    kind(&rig.get("/api/rooms/.x").await, 400, "bad-stream-name");
}

#[tokio::test]
async fn an_offer_of_the_server_is_fetched_and_answered_once() {
    let rig = Rig::start().await;
    let peer = joined(&rig, "den").await;
    let poll = format!("/renegotiate/{peer}");
    assert_eq!(rig.get(&poll).await.status, 204);
    kind(
        &post(&rig, "/answer", json!({ "peer_id": peer, "sdp": OFFER })).await,
        409,
        "no-offer-pending",
    );

    rig.fake.hall.offer_to(&peer);
    // An offer that was not fetched blocks nothing.
    assert_eq!(
        post(&rig, "/offer", json!({ "sdp": OFFER, "peer_id": peer }))
            .await
            .status,
        200
    );
    let offer = rig.get(&poll).await;
    let track = json!({ "mid": "s0", "id": 12, "stream": "m12.0", "kind": "video", "label": "screen" });
    let expected = json!({ "type": "offer", "sdp": super::fake::answer("offer"), "offer": 1, "tracks": [track] });
    assert_eq!((offer.status, offer.json()), (200, expected));
    assert_eq!(rig.get(&poll).await.status, 204);

    let glare = post(&rig, "/offer", json!({ "sdp": OFFER, "peer_id": peer })).await;
    kind(&glare, 409, "offer-pending");
    assert!(glare.problem(409).contains("Roll back"));
    let answer = |number: u64, sdp: &str| json!({ "peer_id": peer, "sdp": sdp, "offer": number });
    kind(&post(&rig, "/answer", answer(7, OFFER)).await, 409, "stale-answer");
    kind(
        &post(&rig, "/answer", answer(1, "v=0\r\na=unusable\r\n")).await,
        422,
        "sdp-unusable",
    );
    kind(&post(&rig, "/answer", answer(1, "hello")).await, 400, "sdp-invalid");
    let taken = post(&rig, "/answer", answer(1, OFFER)).await;
    assert_eq!((taken.status, taken.text()), (204, ""));
    kind(&post(&rig, "/answer", answer(1, OFFER)).await, 409, "no-offer-pending");
    let again = post(
        &rig,
        "/offer",
        json!({ "sdp": OFFER, "peer_id": peer, "labels": { "1": "door" } }),
    )
    .await;
    let again = again.json();
    assert_eq!((&again["peer_id"], &again["room"]), (&json!(peer), &json!("den")));
    assert_eq!(&*rig.fake.hall.last_words().labels["1"], "door");
    assert_eq!(rig.fake.hall.answers(), 1);
}

#[tokio::test]
async fn a_long_poll_returns_with_an_offer_or_at_its_timeout() {
    let rig = Rig::start().await;
    let peer = joined(&rig, "den").await;
    let began = onecast_udp::clock::now();
    assert_eq!(rig.get(&format!("/renegotiate/{peer}?wait=1")).await.status, 204);
    assert!(began.elapsed() >= Duration::from_millis(950));

    let mut wire = rig.connect().await;
    wire.send(request("GET", &format!("/renegotiate/{peer}?wait=1000000"), &[], ""))
        .await;
    until(|| rig.fake.hall.waiting(&peer) == 1).await;
    rig.fake.hall.offer_to(&peer);
    let offer = wire.reply().await.unwrap();
    assert_eq!((offer.status, &offer.json()["offer"]), (200, &json!(1)));
    for wait in ["-1", "x", "1.5"] {
        kind(
            &rig.get(&format!("/renegotiate/{peer}?wait={wait}")).await,
            400,
            "bad-query",
        );
    }
}

#[tokio::test]
async fn a_poll_ends_with_its_client_its_peer_and_the_server() {
    let mut rig = Rig::start().await;
    let peer = joined(&rig, "den").await;
    let path = format!("/renegotiate/{peer}?wait=30");
    let waiting = async || {
        let mut wire = rig.connect().await;
        wire.send(request("GET", &path, &[], "")).await;
        until(|| rig.fake.hall.waiting(&peer) == 1).await;
        wire
    };
    drop(waiting().await);
    until(|| rig.fake.hall.waiting(&peer) == 0).await;
    let mut stopped = waiting().await;
    rig.stop.cancel();
    assert_eq!(stopped.reply().await.unwrap().status, 204);
    let ended = tokio::time::timeout(Duration::from_secs(5), &mut rig.running).await;
    assert!(ended.is_ok(), "the server waits for polls");

    let rig = Rig::start().await;
    let peer = joined(&rig, "den").await;
    let mut wire = rig.connect().await;
    wire.send(request("GET", &format!("/renegotiate/{peer}?wait=30"), &[], ""))
        .await;
    until(|| rig.fake.hall.waiting(&peer) == 1).await;
    assert_eq!(
        rig.request("DELETE", &format!("/peer/{peer}"), &[], "").await.status,
        200
    );
    kind(&wire.reply().await.unwrap(), 404, "unknown-peer");
}

#[tokio::test]
async fn long_polls_leave_half_of_the_connections_to_new_clients() {
    let limits = HttpLimits {
        connections: 4,
        ..HttpLimits::default()
    };
    let rig = Rig::with(Pages::built_in(), limits, "127.0.0.1:0").await;
    let peer = joined(&rig, "den").await;
    let path = format!("/renegotiate/{peer}?wait=30");
    let mut wires = Vec::new();
    for waiting in 1..=2 {
        let mut wire = rig.connect().await;
        wire.send(request("GET", &path, &[], "")).await;
        until(|| rig.fake.hall.waiting(&peer) == waiting).await;
        wires.push(wire);
    }
    let refused = rig.get(&path).await;
    kind(&refused, 503, "too-many-followers");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(
        rig.get(&format!("/renegotiate/{peer}")).await.status,
        204,
        "a poll that does not wait takes no slot"
    );
}

/// Waits for something that happens elsewhere.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    waited.expect("it happens");
}

#[tokio::test]
async fn a_peer_updates_its_information_and_leaves() {
    let rig = Rig::start().await;
    let reply = post(&rig, "/offer", json!({ "sdp": format!("{OFFER}a=sendonly\r\n") })).await;
    let peer = format!("/peer/{}", reply.json()["peer_id"].as_str().unwrap());
    let patch = async |body: &str| rig.request("PATCH", &peer, &[JSON], body).await;
    let changed = patch(r#"{"name":"Eve","video_muted":true}"#).await;
    assert_eq!((changed.status, changed.text()), (204, ""));
    let member = rig.get("/api/rooms/main").await.json()["members"][0].clone();
    assert_eq!(
        (&member["name"], &member["tracks"][0]["muted"]),
        (&json!("Eve"), &json!(true))
    );
    assert_eq!(patch(r#"{"name":""}"#).await.status, 204);
    let member = rig.get("/api/rooms/main").await.json()["members"][0].clone();
    assert_eq!(member.get("name"), None);
    kind(&patch(r#"{"video_muted":"yes"}"#).await, 422, "bad-field");
    let untyped = rig.request("PATCH", &peer, &[], "{}").await;
    kind(&untyped, 415, "wrong-type");
    assert_eq!(untyped.header("accept-patch"), Some("application/json"));

    let left = rig.request("DELETE", &peer, &[], "").await;
    assert_eq!((left.status, left.text()), (200, ""));
    kind(&rig.request("DELETE", &peer, &[], "").await, 404, "unknown-peer");
    kind(&patch("{}").await, 404, "unknown-peer");
}

#[tokio::test]
async fn every_request_of_an_unknown_peer_is_404() {
    let rig = Rig::start().await;
    let session = rig.session("/whep/live").await;
    let watcher = format!("peer-{}", session.rsplit('/').next().unwrap());
    let unknown = format!("peer-{}", "f".repeat(32));
    for peer in [&*watcher, &unknown] {
        for body in [
            json!({ "peer_id": peer, "sdp": OFFER, "offer": 1 }),
            json!({ "peer_id": peer, "sdp": OFFER }),
        ] {
            kind(&post(&rig, "/answer", body.clone()).await, 404, "unknown-peer");
            kind(&post(&rig, "/offer", body).await, 404, "unknown-peer");
        }
    }
    for peer in [
        &*watcher,
        &unknown,
        "peer-1",
        "1",
        &session,
        "peer-%00",
        &"f".repeat(32),
    ] {
        let peer = peer.trim_start_matches('/').replace('/', "%2f");
        kind(
            &rig.get(&format!("/renegotiate/{peer}?wait=5")).await,
            404,
            "unknown-peer",
        );
        let path = format!("/peer/{peer}");
        kind(&rig.request("DELETE", &path, &[], "").await, 404, "unknown-peer");
        kind(&rig.request("PATCH", &path, &[JSON], "{}").await, 404, "unknown-peer");
    }
    assert_eq!(rig.get(&session).await.status, 204);
}

#[tokio::test]
async fn malformed_json_is_refused_with_the_field() {
    let rig = Rig::start().await;
    for (path, body, status, said) in [
        ("/offer", "v=0".to_owned(), 400, "not JSON"),
        ("/offer", String::new(), 400, "not JSON"),
        ("/offer", "[]".to_owned(), 400, "not an object"),
        ("/offer", "[".repeat(50_000), 400, "not JSON"),
        ("/offer", "{}".to_owned(), 422, "sdp is missing"),
        ("/offer", r#"{"sdp":1}"#.to_owned(), 422, "sdp is not"),
        ("/offer", r#"{"sdp":"v","room":"a b"}"#.to_owned(), 422, "room is not"),
        (
            "/offer",
            r#"{"sdp":"v","peer_id":"me"}"#.to_owned(),
            422,
            "peer_id is not peer-",
        ),
        (
            "/offer",
            format!(r#"{{"sdp":"v","name":"{}"}}"#, "x".repeat(65)),
            422,
            "at most 64",
        ),
        (
            "/offer",
            r#"{"sdp":"v","labels":{"0":{}}}"#.to_owned(),
            422,
            "labels is not",
        ),
        (
            "/offer",
            r#"{"sdp":"v","last_n":"many"}"#.to_owned(),
            422,
            "last_n is not",
        ),
        ("/answer", r#"{"sdp":"v"}"#.to_owned(), 422, "peer_id is missing"),
        (
            "/answer",
            r#"{"peer_id":7,"sdp":"v"}"#.to_owned(),
            422,
            "peer_id is not",
        ),
    ] {
        let reply = rig.request("POST", path, &[JSON], &body).await;
        let text = reply.problem(status);
        assert!(text.contains(said), "{path} {text}");
    }
    for path in ["/offer", "/answer"] {
        for headers in [&[][..], &[SDP], &[("Content-Type", "text/plain")]] {
            let reply = rig.request("POST", path, headers, r#"{"sdp":"v=0"}"#).await;
            kind(&reply, 415, "wrong-type");
            assert_eq!(reply.header("accept-post"), Some("application/json"));
        }
        rig.request("POST", path, &[JSON], &"x".repeat(256 * 1024 + 1))
            .await
            .problem(413);
        rig.get(path).await.problem(405);
    }
    assert_eq!(rig.fake.hall.members(), 0);
}

#[tokio::test]
async fn every_refusal_of_a_room_has_its_status() {
    let rig = Rig::start().await;
    for (room, status, again) in [
        ("room-full", 503, true),
        ("too-many-offers", 429, true),
        ("other-certificate", 422, false),
        ("join-anew", 422, false),
    ] {
        let refused = post(&rig, "/offer", json!({ "sdp": OFFER, "room": room })).await;
        kind(&refused, status, room);
        assert!(refused.json()["hint"].is_string(), "{refused:?}");
        assert_eq!(refused.header("retry-after").is_some(), again, "{room}");
    }
    kind(
        &post(&rig, "/offer", json!({ "sdp": "hello" })).await,
        400,
        "sdp-invalid",
    );
    let unusable = format!("{OFFER}a=unusable\r\n");
    kind(
        &post(&rig, "/offer", json!({ "sdp": unusable })).await,
        422,
        "sdp-unusable",
    );
    assert_eq!(rig.fake.hall.members(), 0);
}

#[tokio::test]
async fn a_draining_server_redirects_new_clients_and_serves_present_ones() {
    let rig = Rig::start().await;
    let peer = joined(&rig, "den").await;
    assert_eq!(
        rig.request("POST", "/api/drain?to=https://b.example", &[], "")
            .await
            .status,
        202
    );
    let sent_on = post(&rig, "/offer", json!({ "sdp": OFFER })).await;
    assert_eq!(
        (sent_on.status, sent_on.header("location")),
        (307, Some("https://b.example/offer"))
    );
    assert_eq!(
        post(&rig, "/offer", json!({ "sdp": OFFER, "peer_id": peer }))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn preflights_list_the_methods_of_a_path() {
    let rig = Rig::start().await;
    let peer = joined(&rig, "den").await;
    for (path, methods) in [
        ("/offer", "POST, OPTIONS"),
        ("/answer", "POST, OPTIONS"),
        (&*format!("/renegotiate/{peer}"), "GET, HEAD, OPTIONS"),
        (&format!("/peer/{peer}"), "PATCH, DELETE, OPTIONS"),
        ("/api/rooms/den", "GET, HEAD, OPTIONS"),
        ("/ws", "GET, HEAD, OPTIONS"),
    ] {
        let reply = rig
            .request("OPTIONS", path, &[("Origin", "https://elsewhere.example")], "")
            .await;
        assert_eq!((reply.status, reply.header("allow")), (204, Some(methods)), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert_eq!(reply.header("access-control-allow-methods"), Some(methods));
        rig.request("PUT", path, &[], "").await.problem(405);
    }
}

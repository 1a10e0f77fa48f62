//! Conference rooms over WebSockets: messages, their effects, and clients that send anything else.

use std::sync::Arc;
use std::time::Duration;

use onecast::http::{HttpLimits, Pages};
use onecast_control::conference::Roster;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;

use super::rig::{OFFER, Rig, SHORT};
use super::rooms::{kind, until};
use super::ws::{UPGRADE, Ws, upgrade};

#[tokio::test]
async fn a_socket_joins_and_receives_the_roster_and_its_changes() {
    let rig = Rig::start().await;
    let mut ada = Ws::open(&rig).await;
    ada.send(json!({ "type": "offer", "sdp": OFFER, "room": "den", "name": "Ada" }))
        .await;
    let answer = ada.expect("answer").await;
    assert_eq!(
        (&answer["id"], &answer["room"], &answer["ice_servers"]),
        (&json!(1), &json!("den"), &json!([]))
    );
    assert!(answer["peer_id"].as_str().unwrap().starts_with("peer-"));
    let roster = ada.expect("roster").await;
    assert_eq!(
        (&roster["room"], &roster["members"][0]["name"]),
        (&json!("den"), &json!("Ada"))
    );
    assert_eq!(roster["speaker"], json!(null));

    let mut eve = Ws::open(&rig).await;
    eve.join("den").await;
    assert_eq!(ada.expect("joined").await["member"]["id"], 2);
    eve.send(json!({ "type": "change", "name": "Eve" })).await;
    assert_eq!(ada.expect("changed").await["member"]["name"], "Eve");
    rig.fake.hall.change_room("den", |roster| {
        roster.members[1].speaking = true;
        roster.speaker = Some(onecast_control::SessionNumber(2));
    });
    let speaking = ada.expect("speaking").await;
    assert_eq!((&speaking["id"], &speaking["speaking"]), (&json!(2), &json!(true)));
    assert_eq!(ada.expect("speaker").await["id"], 2);
    eve.send(json!({ "type": "leave" })).await;
    assert_eq!(eve.closed().await, Some(1000));
    assert_eq!(ada.expect("left").await["id"], 2);
    until(|| rig.fake.hall.present() == 1).await;
}

#[tokio::test]
async fn offers_are_pushed_and_answered_and_glare_is_a_recoverable_error() {
    let rig = Rig::start().await;
    let mut socket = Ws::open(&rig).await;
    let peer = socket.join("den").await["peer_id"].as_str().unwrap().to_owned();
    rig.fake.hall.offer_to(&peer);
    let offer = socket.expect("offer").await;
    assert_eq!((&offer["offer"], &offer["tracks"][0]["mid"]), (&json!(1), &json!("s0")));
    // It is pushed again when it is time.
    rig.fake.hall.offer_to(&peer);
    assert_eq!(socket.expect("offer").await, offer);

    socket.send(json!({ "type": "offer", "sdp": OFFER })).await;
    let glare = socket.expect_error(409, "offer-pending").await;
    assert_eq!(glare["request"], "offer");
    assert!(glare["title"].is_string() && glare["detail"].is_string() && glare["hint"].is_string());
    socket.send(json!({ "type": "answer", "sdp": OFFER, "offer": 7 })).await;
    assert_eq!(socket.expect_error(409, "stale-answer").await["request"], "answer");
    socket.send(json!({ "type": "answer", "sdp": OFFER, "offer": 1 })).await;
    socket.send(json!({ "type": "answer", "sdp": OFFER })).await;
    socket.expect_error(409, "no-offer-pending").await;
    assert_eq!(rig.fake.hall.answers(), 1);
    socket
        .send(json!({ "type": "offer", "sdp": OFFER, "labels": { "2": "screen" } }))
        .await;
    let answer = socket.expect("answer").await;
    assert_eq!((&answer["peer_id"], &answer["id"]), (&json!(peer), &json!(1)));
    assert_eq!(&*rig.fake.hall.last_words().labels["2"], "screen");
}

#[tokio::test]
async fn a_member_resumes_on_another_socket_which_replaces_the_first() {
    let rig = Rig::start().await;
    let mut first = Ws::open(&rig).await;
    let peer = first.join("den").await["peer_id"].clone();
    let resume = json!({ "type": "resume", "peer_id": peer });
    let mut second = Ws::open(&rig).await;
    second.send(resume.clone()).await;
    let resumed = second.expect("resumed").await;
    assert_eq!((&resumed["id"], &resumed["room"]), (&json!(1), &json!("den")));
    second.expect("roster").await;
    assert_eq!(first.expect("closed").await["problem"], "resumed-elsewhere");
    assert_eq!(first.closed().await, Some(1000));
    until(|| rig.fake.hall.present() == 1).await;
    second.cut();
    until(|| rig.fake.hall.present() == 0).await;
    let mut third = Ws::open(&rig).await;
    third.send(resume).await;
    third.expect("resumed").await;
}

#[tokio::test]
async fn a_member_that_joined_by_post_continues_over_a_socket() {
    let rig = Rig::start().await;
    let peer = super::rooms::joined(&rig, "den").await;
    let mut socket = Ws::open(&rig).await;
    socket.send(json!({ "type": "resume", "peer_id": peer })).await;
    socket.expect("resumed").await;
    socket.expect("roster").await;
    rig.fake.hall.offer_to(&peer);
    socket.expect("offer").await;
}

#[tokio::test]
async fn a_member_that_has_ended_gets_the_reason_before_its_socket_closes() {
    let rig = Rig::start().await;
    let mut socket = Ws::open(&rig).await;
    let peer = socket.join("den").await["peer_id"].as_str().unwrap().to_owned();
    assert_eq!(
        rig.request("DELETE", &format!("/peer/{peer}"), &[], "").await.status,
        200
    );
    // That its own member has left may be told first.
    let mut last = serde_json::Value::Null;
    while let Some(Message::Text(text)) = socket.next().await {
        last = serde_json::from_str(&text).unwrap();
    }
    assert_eq!(
        (&last["type"], &last["problem"]),
        (&json!("closed"), &json!("unknown-peer"))
    );
    let mut late = Ws::open(&rig).await;
    late.send(json!({ "type": "resume", "peer_id": peer })).await;
    assert_eq!(late.expect_error(404, "unknown-peer").await["request"], "resume");
}

#[tokio::test]
async fn a_stopping_server_notifies_sockets_and_does_not_wait_for_them() {
    let mut rig = Rig::start().await;
    let (mut waiting, mut member) = (Ws::open(&rig).await, Ws::open(&rig).await);
    member.join("den").await;
    rig.stop.cancel();
    for socket in [&mut waiting, &mut member] {
        assert_eq!(socket.expect("closed").await["problem"], "shutting-down");
        assert_eq!(socket.closed().await, Some(1001));
    }
    drop((waiting, member));
    let stopped = tokio::time::timeout(Duration::from_secs(5), &mut rig.running).await;
    assert!(stopped.is_ok(), "the server waits for sockets");
}

#[tokio::test]
async fn a_draining_server_refuses_new_members_and_present_ones_resume() {
    let rig = Rig::start().await;
    let peer = super::rooms::joined(&rig, "den").await;
    rig.request("POST", "/api/drain", &[], "").await;
    let mut socket = Ws::open(&rig).await;
    socket.send(json!({ "type": "offer", "sdp": OFFER })).await;
    socket.expect_error(503, "draining").await;
    socket.send(json!({ "type": "resume", "peer_id": peer })).await;
    socket.expect("resumed").await;
}

#[tokio::test]
async fn garbage_is_an_error_and_the_room_continues() {
    let rig = Rig::start().await;
    let mut socket = Ws::open(&rig).await;
    for (text, status, problem) in [
        ("garbage", 400, "bad-json"),
        ("[]", 400, "bad-json"),
        (r#"{"type":"answer","sdp":"v=0"}"#, 422, "bad-field"),
        (r#"{"type":"offer"}"#, 422, "bad-field"),
        (r#"{"type":"resume","peer_id":"peer-1"}"#, 422, "bad-field"),
        (r#"{"type":"offer","sdp":"hello"}"#, 400, "sdp-invalid"),
    ] {
        socket.raw(Message::text(text)).await;
        socket.expect_error(status, problem).await;
    }
    let peer = socket.join("den").await["peer_id"].as_str().unwrap().to_owned();
    for text in [
        "garbage",
        r#"{"type":"dance"}"#,
        r#"{"type":"resume","peer_id":"x"}"#,
        r#"{"type":"change","name":7}"#,
    ] {
        socket.raw(Message::text(text)).await;
        assert_eq!(
            socket.expect("error").await["status"].as_u64().unwrap() / 100,
            4,
            "{text}"
        );
    }
    rig.fake.hall.offer_to(&peer);
    socket.expect("offer").await;
}

#[tokio::test]
async fn sockets_with_too_many_errors_or_messages_are_closed() {
    let rig = Rig::start().await;
    let mut neighbour = Ws::open(&rig).await;
    let peer = neighbour.join("den").await["peer_id"].as_str().unwrap().to_owned();
    let mut wrong = Ws::open(&rig).await;
    for _ in 0..10 {
        wrong.raw(Message::text("garbage")).await;
    }
    assert_eq!(wrong.closed().await, Some(1008));
    for frame in [Message::text(r#"{"type":"change"}"#), Message::Ping(vec![1].into())] {
        let mut flood = Ws::open(&rig).await;
        flood.join("other").await;
        for _ in 0..500 {
            flood.raw(frame.clone()).await;
        }
        assert_eq!(flood.closed().await, Some(1008));
    }
    until(|| rig.fake.hall.present() == 1).await;
    rig.fake.hall.offer_to(&peer);
    neighbour.expect("offer").await;
}

#[tokio::test]
async fn binary_frames_and_large_ones_are_closed_with_their_reason() {
    let rig = Rig::start().await;
    let mut binary = Ws::open(&rig).await;
    binary.join("den").await;
    binary.raw(Message::binary(vec![0; 100])).await;
    binary.expect_error(415, "wrong-type").await;
    assert_eq!(binary.closed().await, Some(1003));
    for (bytes, code) in [(256 * 1024 + 1, Some(1009)), (8 * 1024 * 1024, None)] {
        let mut large = Ws::open(&rig).await;
        large.raw(Message::text("x".repeat(bytes))).await;
        let closed = large.closed().await;
        assert!(closed == code || code.is_none(), "{closed:?}");
    }
    until(|| rig.fake.hall.present() == 0).await;
}

#[tokio::test]
async fn an_invalid_websocket_frame_ends_only_its_own_connection() {
    let rig = Rig::start().await;
    let mut neighbour = Ws::open(&rig).await;
    let peer = neighbour.join("den").await["peer_id"].as_str().unwrap().to_owned();
    // Reserved bits and opcodes, an unmasked frame, text that is not UTF-8, a fragment that continues nothing.
    for bytes in [
        &[0xFF; 64][..],
        b"\x81\x02hi",
        b"\x81\x82\0\0\0\0\xC3\x28",
        b"\x80\x80\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut socket = Ws::open(&rig).await;
        let _ = socket.stream().write_all(bytes).await;
        socket.closed().await;
    }
    rig.fake.hall.offer_to(&peer);
    neighbour.expect("offer").await;
}

#[tokio::test]
async fn a_silent_socket_is_closed() {
    let rig = Rig::impatient().await;
    let mut silent = Ws::open(&rig).await;
    assert_eq!(silent.closed().await, Some(1008));
    let mut half = Ws::open(&rig).await;
    // The head of a text frame of 100 bytes, and nothing of it.
    let _ = half.stream().write_all(b"\x81\xE4\0\0\0\0").await;
    assert_eq!(half.closed().await, Some(1008));
    // Half an upgrade is half a request.
    let mut wire = rig.connect().await;
    let head = upgrade("/ws", &[]);
    wire.send(&head[..head.len() - 2]).await;
    if let Some(reply) = wire.reply().await {
        assert!(matches!(reply.status, 400 | 408), "{reply:?}");
    }
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_members_socket_outlives_the_timeouts_of_http() {
    let rig = Rig::impatient().await;
    let mut socket = Ws::open(&rig).await;
    let peer = socket.join("den").await["peer_id"].as_str().unwrap().to_owned();
    tokio::time::sleep(SHORT * 3).await;
    rig.fake.hall.offer_to(&peer);
    socket.expect("offer").await;
}

#[tokio::test]
async fn a_socket_that_answers_pings_stays_open_and_one_that_does_not_is_closed() {
    let limits = HttpLimits {
        socket_ping: Duration::from_millis(200),
        ..HttpLimits::default()
    };
    let rig = Rig::with(Pages::built_in(), limits, "127.0.0.1:0").await;
    let (mut alive, mut dead) = (Ws::open(&rig).await, Ws::open(&rig).await);
    let peer = alive.join("den").await["peer_id"].as_str().unwrap().to_owned();
    dead.join("other").await;
    let reading = tokio::spawn(async move {
        alive.expect("offer").await;
        alive
    });
    // Pongs are written while reading. Were those of the living one late, it would be closed first, for it came first.
    until(|| rig.fake.hall.present() == 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.fake.hall.present(), 1);
    rig.fake.hall.offer_to(&peer);
    reading.await.unwrap();
    drop(dead);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_the_room_continues() {
    let rig = Rig::impatient().await;
    let (mut neighbour, mut slow) = (Ws::open(&rig).await, Ws::open(&rig).await);
    neighbour.join("den").await;
    slow.join("den").await;
    neighbour.expect("joined").await;
    let mut turn = 0;
    while rig.fake.hall.present() == 2 {
        turn += 1;
        assert!(turn < 100_000, "it is never dropped");
        let name: Arc<str> = format!("{turn} {}", "x".repeat(200_000)).into();
        rig.fake.hall.change_room("den", |roster: &mut Roster| {
            roster.members[1].name = Some((&*name).into())
        });
        neighbour.expect("changed").await;
    }
    assert_eq!(rig.fake.hall.present(), 1);
}

#[tokio::test]
async fn sockets_count_as_connections_and_leave_half_of_them_to_others() {
    let limits = HttpLimits {
        connections: 4,
        ..HttpLimits::default()
    };
    let rig = Rig::with(Pages::built_in(), limits, "127.0.0.1:0").await;
    let (first, _second) = (Ws::open(&rig).await, Ws::open(&rig).await);
    let refused = rig.raw(upgrade("/ws", &[])).await;
    kind(&refused, 503, "too-many-followers");
    // Two sockets and two requests are four connections; a fifth waits until one of them ends.
    let (_third, _fourth) = (rig.connect().await, rig.connect().await);
    let mut fifth = rig.connect().await;
    fifth.send("GET /api/streams HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let early = tokio::time::timeout(SHORT / 4, fifth.reply()).await;
    assert!(early.is_err(), "sockets have no place");
    first.cut();
    assert_eq!(fifth.reply().await.unwrap().status, 200);
}

#[tokio::test]
async fn requests_without_a_valid_upgrade_are_426() {
    let rig = Rig::start().await;
    let plain = rig.get("/ws").await;
    kind(&plain, 426, "no-websocket");
    assert_eq!(plain.header("upgrade"), Some("websocket"));
    let old = [UPGRADE[0], UPGRADE[1], ("Sec-WebSocket-Version", "8"), UPGRADE[3]];
    kind(&rig.request("GET", "/ws", &old, "").await, 426, "no-websocket");
    kind(&rig.request("GET", "/ws", &UPGRADE[..3], "").await, 426, "no-websocket");
}

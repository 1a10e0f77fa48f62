//! Garbage and attacks next to two members of a room, whose media must not be affected.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use onecast_clients::conference::{Member, Signalling};
use onecast_rtc::client_peer::{Answered, ClientEvent, ClientPeer};
use onecast_testing::{Tests, tests};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::conference::{all_flow, config, join_all, leave_all, nothing_was_missed};
use crate::rig::{Detours, Rig};
use crate::stranger::{Stranger, Ws, ask, credentials, offer, post, sections};
use crate::until;

pub(crate) fn tests() -> Tests {
    tests![
        wrong_answers_are_refused_and_the_right_one_is_accepted,
        wrong_member_offers_change_nothing,
        unknown_peers_and_malformed_json_are_refused,
        floods_of_offers_and_joins_are_refused,
        full_room_refuses_joins,
        sockets_that_send_garbage_or_nothing_are_closed_with_a_reason,
        broken_socket_may_resume_for_ten_seconds,
        vanished_member_is_removed_for_the_others,
    ]
}

/// Two members who see and hear each other.
struct Room {
    rig: Rig,
    members: Vec<Member>,
}

impl Room {
    async fn start(detours: Detours) -> Room {
        let rig = Rig::start(detours).await;
        let members = join_all(&rig, 2, |number| match number {
            0 => Signalling::Socket,
            _ => Signalling::LongPoll,
        })
        .await;
        all_flow(&members).await;
        Room { rig, members }
    }

    /// Packets that each member has received of the other.
    fn counts(&self) -> BTreeMap<(u64, u64, String), u64> {
        let reports = self.members.iter().map(Member::report);
        let tracks = reports.flat_map(|report| {
            let there = report.tracks.into_iter().filter(|track| !track.gone);
            there.map(move |track| ((report.id, track.member, track.kind), track.report.packets))
        });
        let ids: Vec<u64> = self.members.iter().map(Member::id).collect();
        tracks.filter(|((_, of, _), _)| ids.contains(of)).collect()
    }

    /// Checks that media between the two continues, without loss and without keyframe requests.
    async fn stays_undisturbed(self) {
        let before = self.counts();
        assert_eq!(before.len(), 4, "a picture and a sound each: {before:?}");
        until("media goes on", || {
            let now = self.counts();
            now.len() == 4 && now.iter().all(|(track, count)| *count >= before[track] + 20)
        })
        .await;
        assert_eq!(self.rig.counter("keyframe_requests_sent"), 0);
        let (ids, mut reports) = (
            self.members.iter().map(Member::id).collect::<Vec<_>>(),
            leave_all(self.members).await,
        );
        for report in &mut reports {
            report.tracks.retain(|track| ids.contains(&track.member));
            let lost: u64 = report.tracks.iter().map(|track| track.report.lost).sum();
            assert_eq!((lost, report.tracks.len()), (0, 2), "{report:?}");
        }
        nothing_was_missed(&reports);
        self.rig.stop().await;
    }

    /// Public numbers of the members on the roster.
    async fn roster(&self) -> Vec<u64> {
        let room = ask(&self.rig, Method::GET, "api/rooms/main", None).await.done(200);
        let members = room["members"].as_array().unwrap().iter();
        members.map(|member| member["id"].as_u64().unwrap()).collect()
    }
}

async fn wrong_answers_are_refused_and_the_right_one_is_accepted() {
    let room = Room::start(Detours::default()).await;
    let rig = &room.rig;
    let one = Stranger::join(rig, "one", false).await;
    let other = Stranger::join(rig, "other", false).await;
    one.answers(rig, "v=0\r\n").await.refused(409, "no-offer-pending");
    let offered = one.fetch(rig).await;
    let right = one.answer(&offered);
    // A member has only its own identity.
    other.answers(rig, &right).await.refused(409, "no-offer-pending");
    other.fetch(rig).await;
    other.answers(rig, &right).await.refused(422, "other-certificate");
    other
        .answers(rig, &right.replace(&*one.ice.ufrag, "strangerthird"))
        .await
        .refused(422, "other-certificate");

    let [session, audio, video, rest @ ..] = &sections(&right)[..] else {
        panic!("{right}")
    };
    assert!(!rest.is_empty(), "nothing is offered: {right}");
    let rest = rest.concat();
    for wrong in [
        session.clone(),
        format!("{session}{audio}"),
        format!("{session}{video}{audio}{rest}"),
        format!("{session}{audio}{video}{rest}{video}"),
        right.replace("a=mid:s0", "a=mid:s7"),
        right.replace("a=mid:s0\r\n", ""),
        right.replace("m=audio", "m=video"),
    ] {
        let told = one.answers(rig, &wrong).await;
        assert!(matches!(told.status, 400 | 422), "{told:?} to {wrong}");
        assert!(
            told.body["detail"].is_string() && told.body["type"].is_string(),
            "{told:?}"
        );
    }
    let numbered = |number: u64| json!({ "peer_id": one.peer_id, "sdp": right, "offer": number });
    post(rig, "answer", &numbered(7)).await.refused(409, "stale-answer");
    post(rig, "answer", &numbered(1)).await.done(204);
    post(rig, "answer", &numbered(1)).await.refused(409, "no-offer-pending");
    room.stays_undisturbed().await;
}

async fn wrong_member_offers_change_nothing() {
    let room = Room::start(Detours::default()).await;
    let rig = &room.rig;
    let one = Stranger::join(rig, "one", true).await;
    let good = one.sdp(true);
    let [session, audio, video] = &sections(&good)[..] else {
        panic!("{good}")
    };
    for (wrong, problem) in [
        (
            good.replace("rtpmap:96 VP8", "rtpmap:96 H264")
                .replace("rtpmap:102 H264", "rtpmap:102 VP8"),
            "sdp-unusable",
        ),
        (format!("{session}{audio}"), "sdp-unusable"),
        (format!("{session}{video}{audio}"), "sdp-unusable"),
        (
            good.replace("a=mid:1", "a=mid:2").replace("BUNDLE 0 1", "BUNDLE 0 2"),
            "sdp-unusable",
        ),
        (
            good.replace(&one.certificate.fingerprint().to_string(), &["AB"; 32].join(":")),
            "other-certificate",
        ),
        (
            good.replace(&*one.ice.pwd, "anotherPasswordOfTheStranger"),
            "half-restart",
        ),
    ] {
        one.offers(rig, &wrong).await.refused(422, problem);
    }
    one.offers(rig, "v=0\r\nhello").await.refused(400, "sdp-invalid");
    let again = one.offers(rig, &good).await.done(200);
    assert!(again["sdp"].as_str().unwrap().contains("a=recvonly"), "{again}");
    one.fetch(rig).await;
    one.offers(rig, &good).await.refused(409, "offer-pending");
    room.stays_undisturbed().await;
}

async fn unknown_peers_and_malformed_json_are_refused() {
    let room = Room::start(Detours::default()).await;
    let rig = &room.rig;
    let unknown = format!("peer-{}", "0".repeat(32));
    for (method, path, body) in [
        (
            Method::POST,
            "offer".to_owned(),
            Some(json!({ "peer_id": unknown, "sdp": "v=0\r\n" })),
        ),
        (
            Method::POST,
            "answer".to_owned(),
            Some(json!({ "peer_id": unknown, "sdp": "v=0\r\n" })),
        ),
        (Method::GET, format!("renegotiate/{unknown}"), None),
        (Method::GET, "renegotiate/peer-7".to_owned(), None),
        (Method::PATCH, format!("peer/{unknown}"), Some(json!({ "name": "x" }))),
        (Method::DELETE, format!("peer/{unknown}"), None),
    ] {
        let body = body.map(|body| body.to_string());
        ask(rig, method, &path, body.as_deref())
            .await
            .refused(404, "unknown-peer");
    }
    let mut socket = Ws::open(rig).await;
    socket.say(&json!({ "type": "resume", "peer_id": unknown })).await;
    socket.refused(404, "unknown-peer").await;

    let one = Stranger::join(rig, "one", false).await;
    let peer = format!("peer/{}", one.peer_id);
    for (method, path, body, status, problem) in [
        (Method::POST, "offer", "", 400, "bad-json"),
        (Method::POST, "offer", "[]", 400, "bad-json"),
        (Method::POST, "offer", "{\"sdp\":", 400, "bad-json"),
        (Method::POST, "offer", "{}", 422, "bad-field"),
        (Method::POST, "offer", "{\"sdp\": 7}", 422, "bad-field"),
        (
            Method::POST,
            "offer",
            "{\"sdp\": \"\", \"room\": \"../main\"}",
            422,
            "bad-field",
        ),
        (
            Method::POST,
            "offer",
            "{\"sdp\": \"\", \"peer_id\": 7}",
            422,
            "bad-field",
        ),
        (
            Method::POST,
            "offer",
            "{\"sdp\": \"\", \"labels\": [\"cam\"]}",
            422,
            "bad-field",
        ),
        (Method::POST, "answer", "{\"sdp\": \"v=0\"}", 422, "bad-field"),
        (Method::PATCH, &peer, "{\"last_n\": -1}", 422, "bad-field"),
        (Method::PATCH, &peer, "{\"audio_muted\": \"yes\"}", 422, "bad-field"),
    ] {
        ask(rig, method, path, Some(body)).await.refused(status, problem);
    }
    room.stays_undisturbed().await;
}

async fn floods_of_offers_and_joins_are_refused() {
    let detours = Detours {
        joins_per_second: 20,
        ..Detours::default()
    };
    let room = Room::start(detours).await;
    let rig = &room.rig;
    let one = Stranger::join(rig, "one", true).await;
    let sdp = one.sdp(true);
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(one.offers(rig, &sdp).await.status);
    }
    assert!(
        statuses.contains(&200) && statuses.iter().filter(|status| **status == 429).count() >= 15,
        "{statuses:?}"
    );
    one.offers(rig, &sdp).await.refused(429, "too-many-offers");

    let certificate = onecast_rtc::Certificate::generate().unwrap();
    let join = async |number: u32| {
        let sdp = offer(&credentials(&format!("flood{number}")), &certificate, true);
        post(rig, "offer", &json!({ "sdp": sdp })).await.status
    };
    let mut statuses = Vec::new();
    for number in 0..200 {
        statuses.push(join(number).await);
    }
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(refused > 20, "{statuses:?}");
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 503)),
        "{statuses:?}"
    );
    assert_eq!(
        room.roster().await.len(),
        2,
        "the roster omits members that have not connected"
    );
    room.stays_undisturbed().await;
}

async fn full_room_refuses_joins() {
    let detours = Detours {
        room_members: 3,
        ..Detours::default()
    };
    let room = Room::start(detours).await;
    let rig = &room.rig;
    let third = Stranger::join(rig, "third", true).await;
    let sdp = third.sdp(true);
    post(rig, "offer", &json!({ "sdp": sdp }))
        .await
        .refused(503, "room-full");
    let mut socket = Ws::open(rig).await;
    socket.say(&json!({ "type": "offer", "sdp": sdp })).await;
    socket.refused(503, "room-full").await;
    // Another room has space, and so does this one after a member leaves.
    post(rig, "offer", &json!({ "sdp": sdp, "room": "other" }))
        .await
        .done(200);
    third.leave(rig).await;
    socket.say(&json!({ "type": "offer", "sdp": sdp })).await;
    socket.expect("answer").await;
    room.stays_undisturbed().await;
}

async fn sockets_that_send_garbage_or_nothing_are_closed_with_a_reason() {
    let detours = Detours {
        header_timeout: Some(Duration::from_millis(1_500)),
        ..Detours::default()
    };
    let room = Room::start(detours).await;
    let rig = &room.rig;
    let mut silent = Ws::open(rig).await;
    let mut binary = Ws::open(rig).await;
    binary.raw(Message::binary(vec![0, 1, 2])).await;
    binary.refused(415, "wrong-type").await;
    assert_eq!(binary.closed().await, "frames must be text");
    let mut garbage = Ws::open(rig).await;
    garbage.raw(Message::text("hello")).await;
    garbage.refused(400, "bad-json").await;
    for said in [
        json!({}),
        json!({ "type": "answer", "sdp": "v=0" }),
        json!({ "type": 7 }),
    ] {
        garbage.say(&said).await;
        garbage.refused(422, "bad-field").await;
    }
    // A joined socket may send some nonsense, but not too much.
    let (ice, certificate) = (credentials("in"), onecast_rtc::Certificate::generate().unwrap());
    let joining = json!({ "type": "offer", "sdp": offer(&ice, &certificate, true) });
    garbage.say(&joining).await;
    garbage.expect("roster").await;
    garbage
        .say(&json!({ "type": "answer", "sdp": "v=0\r\n", "offer": 99 }))
        .await;
    garbage.expect("error").await;
    for _ in 0..100 {
        garbage.raw(Message::text("{")).await;
    }
    assert!(garbage.closed().await.contains("frames"), "it gets the reason");
    assert!(silent.closed().await.contains("no first frame"), "it gets the reason");
    room.stays_undisturbed().await;
}

async fn broken_socket_may_resume_for_ten_seconds() {
    let room = Room::start(Detours::default()).await;
    let rig = &room.rig;
    let mut sockets = Vec::new();
    for name in ["comes", "away"] {
        let member = Stranger::join(rig, name, false).await;
        tokio::task::block_in_place(|| Connection::of(&member).keep(Duration::from_millis(50)));
        let mut socket = Ws::open(rig).await;
        socket
            .say(&json!({ "type": "resume", "peer_id": member.peer_id }))
            .await;
        assert_eq!(socket.expect("resumed").await["id"], member.id);
        sockets.push((member, socket));
    }
    let ids: Vec<u64> = sockets.iter().map(|(member, _)| member.id).collect();
    let [(comes, first), (away, broken)] = <[_; 2]>::try_from(sockets).ok().unwrap();
    drop((first, broken));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut second = Ws::open(rig).await;
    second.say(&json!({ "type": "resume", "peer_id": comes.peer_id })).await;
    second.expect("resumed").await;
    second.expect("offer").await;
    let there = room.roster().await;
    assert!(
        ids.iter().all(|id| there.contains(id)),
        "both are there until the time is over: {there:?}"
    );
    let left = second.expect("left").await;
    assert_eq!(left["id"], away.id);
    let path = format!("renegotiate/{}", away.peer_id);
    let told = ask(rig, Method::GET, &path, None).await;
    assert_eq!(
        (told.status, why(&told.body).contains("did not come back")),
        (404, true),
        "{told:?}"
    );
    room.stays_undisturbed().await;
}

async fn vanished_member_is_removed_for_the_others() {
    let mut room = Room::start(Detours::default()).await;
    let third = Member::join(config(&room.rig, Signalling::LongPoll).0).await.unwrap();
    let id = third.id();
    room.members.push(third);
    all_flow(&room.members).await;
    room.members.pop().unwrap().vanish().await;
    until("the others hear of it", || {
        let mut tracks = room.members.iter().flat_map(|member| member.report().tracks);
        tracks.all(|track| track.gone == (track.member == id))
    })
    .await;
    assert_eq!(room.roster().await.len(), 2);
    room.stays_undisturbed().await;
}

/// The reason in a body.
fn why(body: &Value) -> &str {
    body["detail"].as_str().unwrap_or_default()
}

/// A stranger's connection on a raw socket.
struct Connection {
    socket: std::net::UdpSocket,
    server: std::net::SocketAddr,
    peer: ClientPeer,
}

impl Connection {
    /// Connects.
    fn of(member: &Stranger) -> Connection {
        let answered = Answered::parse(&member.answer).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let now = onecast_udp::clock::now();
        let certificate = member.certificate.clone();
        let mut connection = Connection {
            socket,
            server: answered.candidates[0],
            peer: ClientPeer::new(&member.ice, &answered, true, certificate, now),
        };
        let connected = |event: &ClientEvent| matches!(event, ClientEvent::Connected(_));
        assert!(connection.run(Duration::from_secs(10), connected), "it connects");
        connection
    }

    /// Keeps the connection alive for a while.
    fn keep(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    /// Runs until an event. False if it did not happen in time.
    fn run(&mut self, time: Duration, ends: impl Fn(&ClientEvent) -> bool) -> bool {
        let begun: Instant = onecast_udp::clock::now();
        let mut buffer = [0; 2_048];
        loop {
            let now = onecast_udp::clock::now();
            if now - begun >= time {
                return false;
            }
            if self.peer.poll_timeout() <= now {
                self.peer.handle_timeout(now);
            }
            let received = self.socket.recv(&mut buffer).ok();
            let event = received.and_then(|len| self.peer.handle_datagram(now, &buffer[..len]));
            while let Some(datagram) = self.peer.poll_transmit() {
                self.socket.send_to(&datagram, self.server).unwrap();
            }
            if event.as_ref().is_some_and(&ends) {
                return true;
            }
        }
    }
}

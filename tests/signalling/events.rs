//! Event streams, byte by byte.

use std::time::Duration;

use onecast::http::{HttpLimits, Pages};
use onecast_control::layers::StreamLayers;
use onecast_control::whep_events::{Audience, Reconnect};
use onecast_rtc::rtp::Codec;

use super::rig::{OFFER, Rig, SDP, SHORT};
use super::wire::{Wire, request};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const ALL: &str = r#"["active", "inactive", "codec-missing", "viewercount", "reconnect", "captions"]"#;

/// Where event streams of a new viewer's session are opened, and the session.
async fn viewer(rig: &Rig) -> (String, String) {
    let reply = rig.request("POST", "/whep/live", &[SDP], OFFER).await;
    let session = reply.header("location").unwrap().to_owned();
    let link = reply.header("link").unwrap();
    let (url, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
    assert_eq!(url, format!("{session}/events"));
    assert_eq!(
        rest,
        "; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; events=\"active,inactive,codec-missing,viewercount,layers,reconnect\""
    );
    (url.to_owned(), session)
}

async fn opened(rig: &Rig, names: &str) -> (String, String) {
    let (url, session) = viewer(rig).await;
    let reply = rig.request("POST", &url, &[JSON], names).await;
    assert_eq!((reply.status, reply.text()), (201, ""), "{reply:?}");
    (reply.header("location").unwrap().to_owned(), session)
}

pub(super) async fn followed(rig: &Rig, events: &str) -> Wire {
    let mut wire = rig.connect().await;
    let headers = [("Accept", "text/event-stream"), ("Connection", "close")];
    wire.send(request("GET", events, &headers, "")).await;
    let head = wire.head().await.unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(head.header("access-control-allow-origin"), Some("*"));
    wire
}

/// The next message's name and data.
pub(super) async fn message(wire: &mut Wire) -> Option<(String, String)> {
    wire.through("event: ").await?;
    let name = wire.through("\n").await?.trim().to_owned();
    wire.through("data: ").await?;
    let data = wire.through("\n\n").await?.trim().to_owned();
    Some((name, data))
}

pub(super) async fn expect(wire: &mut Wire, name: &str, data: &str) {
    assert_eq!(message(wire).await, Some((name.to_owned(), data.to_owned())));
}

pub(super) const LIVE: Audience = Audience {
    live: true,
    silent: false,
    viewers: 2,
    codecs: [None; 2],
    layers: StreamLayers::NONE,
};

#[tokio::test]
async fn a_follower_receives_the_present_state_and_changes() {
    let rig = Rig::start().await;
    let (events, session) = opened(&rig, ALL).await;
    let mut wire = followed(&rig, &events).await;
    expect(&mut wire, "inactive", "{}").await;
    expect(&mut wire, "viewercount", r#"{"viewercount":0}"#).await;
    rig.fake.with_feed(|feed| feed.audience.send_replace(LIVE));
    expect(&mut wire, "active", "{}").await;
    expect(&mut wire, "viewercount", r#"{"viewercount":2}"#).await;
    let reconnect = Reconnect {
        url: Some("https://other.example/whep/live".into()),
        after: Some(Duration::from_secs(2)),
    };
    rig.fake.with_feed(|feed| feed.reconnect.send_replace(Some(reconnect)));
    expect(
        &mut wire,
        "reconnect",
        r#"{"retry":2000,"url":"https://other.example/whep/live"}"#,
    )
    .await;
    assert_eq!(rig.request("DELETE", &session, &[], "").await.status, 200);
    assert_eq!(message(&mut wire).await, None, "it ends with the session");
    rig.get(&events).await.problem(404);
}

#[tokio::test]
async fn a_follower_learns_that_the_broadcaster_is_connected_and_silent() {
    let rig = Rig::start().await;
    let (events, _) = opened(&rig, r#"["active", "inactive"]"#).await;
    let mut wire = followed(&rig, &events).await;
    expect(&mut wire, "inactive", "{}").await;
    let silent = Audience {
        live: false,
        silent: true,
        ..LIVE
    };
    for (audience, name, data) in [
        (LIVE, "active", "{}"),
        (silent, "inactive", r#"{"silent":true}"#),
        (LIVE, "active", "{}"),
        (Audience { live: false, ..LIVE }, "inactive", "{}"),
    ] {
        rig.fake.with_feed(|feed| feed.audience.send_replace(audience));
        expect(&mut wire, name, data).await;
    }
}

#[tokio::test]
async fn a_follower_learns_which_codec_it_lacks_and_when_that_ends() {
    let rig = Rig::start().await;
    let (events, _) = opened(&rig, r#"["codec-missing"]"#).await;
    let mut wire = followed(&rig, &events).await;
    let sent_in = |video| Audience {
        codecs: [None, video],
        ..LIVE
    };
    for (video, data) in [
        (
            Codec::H264,
            r#"{"missing":[{"codec":"H264","kind":"video","offered":["VP8"]}]}"#,
        ),
        (Codec::Vp8, r#"{"missing":[]}"#),
        (
            Codec::Av1,
            r#"{"missing":[{"codec":"AV1","kind":"video","offered":["VP8"]}]}"#,
        ),
    ] {
        rig.fake
            .with_feed(|feed| feed.audience.send_replace(sent_in(Some(video))));
        expect(&mut wire, "codec-missing", data).await;
    }
}

#[tokio::test]
async fn only_subscribed_events_are_sent() {
    let rig = Rig::start().await;
    let (events, _) = opened(&rig, r#"["captions", "active"]"#).await;
    let mut wire = followed(&rig, &events).await;
    rig.fake.with_feed(|feed| feed.audience.send_replace(LIVE));
    expect(&mut wire, "active", "{}").await;
    assert_eq!(rig.request("DELETE", &events, &[], "").await.status, 200);
    assert_eq!(message(&mut wire).await, None);
    rig.request("DELETE", &events, &[], "").await.problem(404);
}

#[tokio::test]
async fn invalid_subscriptions_are_refused_with_the_reason() {
    let rig = Rig::start().await;
    let (url, session) = viewer(&rig).await;
    let refused = async |headers: &[(&str, &str)], body: &str, status: u16| {
        let reply = rig.request("POST", &url, headers, body).await;
        (reply.problem(status), reply)
    };
    for body in ["", "active", "{}", "[1]", "[\"active\"", "\"active\"", "null"] {
        let (said, _) = refused(&[JSON], body, 400).await;
        assert!(
            said.contains(r#"["active", "inactive", "codec-missing", "viewercount", "layers", "reconnect"]"#),
            "{said}"
        );
    }
    for body in ["[]", "[\"captions\"]", "[\"Active\"]"] {
        refused(&[JSON], body, 422).await;
    }
    for headers in [&[][..], &[SDP]] {
        let (_, reply) = refused(headers, ALL, 415).await;
        assert_eq!(reply.header("accept-post"), Some("application/json"));
    }
    for _ in 0..2 {
        assert_eq!(rig.request("POST", &url, &[JSON], ALL).await.status, 201);
    }
    refused(&[JSON], ALL, 409).await;
    rig.request("DELETE", &session, &[], "").await;
    refused(&[JSON], ALL, 404).await;
    let publisher = rig.session("/whip/live").await.replace("whip", "whep");
    rig.request("POST", &format!("{publisher}/events"), &[JSON], ALL)
        .await
        .problem(404);
}

#[tokio::test]
async fn the_url_of_an_event_stream_does_not_reveal_the_session() {
    let rig = Rig::start().await;
    let (events, session) = opened(&rig, ALL).await;
    let id = session.rsplit('/').next().unwrap();
    assert!(events.starts_with("/whep/live/events/") && !events.contains(id));
    for guess in ["/whep/live/events/1", "/whep/live/events/..", "/whep/live/events/%00"] {
        rig.get(guess).await.problem(404);
    }
    rig.get(&format!("/whep/live/events/{}", "0".repeat(32)))
        .await
        .problem(404);
    rig.get("/whep/live/events").await.problem(404);
    let options = rig.request("OPTIONS", &events, &[], "").await;
    assert_eq!(options.status, 204);
    assert!(
        options
            .header("access-control-allow-methods")
            .unwrap()
            .contains("DELETE")
    );
    let options = rig.request("OPTIONS", &format!("{session}/events"), &[], "").await;
    assert_eq!(options.header("accept-post"), Some("application/json"));
    rig.request("PUT", &events, &[], "").await.problem(405);
    rig.request("DELETE", &format!("{session}/events"), &[], "")
        .await
        .problem(405);
}

#[tokio::test]
async fn a_new_connection_replaces_the_old_one() {
    let rig = Rig::start().await;
    let (events, _) = opened(&rig, ALL).await;
    let mut first = followed(&rig, &events).await;
    expect(&mut first, "inactive", "{}").await;
    let mut second = followed(&rig, &events).await;
    expect(&mut second, "inactive", "{}").await;
    expect(&mut first, "viewercount", r#"{"viewercount":0}"#).await;
    assert_eq!(message(&mut first).await, None);
    rig.fake.with_feed(|feed| feed.audience.send_replace(LIVE));
    expect(&mut second, "viewercount", r#"{"viewercount":0}"#).await;
    expect(&mut second, "active", "{}").await;
}

#[tokio::test]
async fn an_event_stream_is_not_closed_as_idle() {
    let rig = Rig::impatient().await;
    let (events, _) = opened(&rig, ALL).await;
    let mut wire = followed(&rig, &events).await;
    expect(&mut wire, "inactive", "{}").await;
    expect(&mut wire, "viewercount", r#"{"viewercount":0}"#).await;
    tokio::time::sleep(3 * SHORT).await;
    rig.fake.with_feed(|feed| feed.audience.send_replace(LIVE));
    expect(&mut wire, "active", "{}").await;
    assert_eq!(rig.fake.followers(), 1);
    drop(wire);
    let deadline = onecast_udp::clock::now() + Duration::from_secs(10);
    while rig.fake.followers() > 0 {
        assert!(
            onecast_udp::clock::now() < deadline,
            "followers that left still receive events"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn stopping_the_server_ends_event_streams_at_once() {
    let mut rig = Rig::start().await;
    let (events, _) = opened(&rig, ALL).await;
    let mut wire = followed(&rig, &events).await;
    expect(&mut wire, "inactive", "{}").await;
    rig.stop.cancel();
    let stopped = tokio::time::timeout(Duration::from_secs(2), &mut rig.running).await;
    assert!(stopped.is_ok(), "the server waits for followers");
    while message(&mut wire).await.is_some() {}
}

#[tokio::test]
async fn followers_leave_half_of_the_connections_to_new_clients() {
    let limits = HttpLimits {
        connections: 4,
        ..HttpLimits::default()
    };
    let rig = Rig::with(Pages::built_in(), limits, "127.0.0.1:0").await;
    let mut wires = Vec::new();
    let (url, _) = viewer(&rig).await;
    for _ in 0..2 {
        let reply = rig.request("POST", &url, &[JSON], ALL).await;
        let events = reply.header("location").unwrap().to_owned();
        wires.push((followed(&rig, &events).await, events));
    }
    let refused = rig.get(&wires[0].1).await;
    refused.problem(503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(rig.request("POST", "/whep/live", &[SDP], OFFER).await.status, 201);
}

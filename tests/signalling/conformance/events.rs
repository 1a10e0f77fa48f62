//! Event streams of a viewer's session.

use super::ground::Ground;
use crate::rig::SDP;
use crate::wire::{Reply, Wire, request};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const NAMES: &str = r#"["active", "inactive", "layers"]"#;

/// Where the answer says that event streams are opened, and the names that it tells.
fn told(created: &Reply) -> (String, String) {
    let relation = "rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"";
    let links = created.headers.iter().filter(|(name, _)| name == "link");
    let lines: Vec<&String> = links
        .map(|(_, link)| link)
        .filter(|link| link.contains(relation))
        .collect();
    assert_eq!(lines.len(), 1, "{created:?}");
    let url = lines[0].split(['<', '>']).nth(1).unwrap();
    let names = lines[0].split("events=\"").nth(1).unwrap().split('"').next().unwrap();
    (url.to_owned(), names.to_owned())
}

async fn opened(ground: &Ground) -> (String, String) {
    let viewer = ground.post("/whep/live").await;
    let session = viewer.header("location").unwrap().to_owned();
    let (url, _) = told(&viewer);
    let reply = ground.request("POST", &url, &[JSON], NAMES).await;
    assert_eq!((reply.status, reply.text()), (201, ""), "{reply:?}");
    (reply.header("location").unwrap().to_owned(), session)
}

async fn followed(ground: &Ground, events: &str) -> Wire {
    let mut wire = ground.connect().await;
    wire.send(request("GET", events, &[("Connection", "close")], "")).await;
    let head = wire.head().await.unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    wire
}

pub(super) async fn the_answer_links_to_the_event_streams_and_lists_their_events(ground: &Ground) {
    let counter_offer = ground.request("POST", "/whep/live", &[], "").await;
    for reply in [ground.post("/whep/live").await, counter_offer] {
        let (url, names) = told(&reply);
        assert_eq!(url, format!("{}/events", reply.header("location").unwrap()));
        assert_eq!(names, "active,inactive,codec-missing,viewercount,layers,reconnect");
    }
    let publisher = ground.post("/whip/live").await;
    assert_eq!((publisher.status, publisher.header("link")), (201, None));
}

pub(super) async fn an_event_stream_is_201_with_its_location(ground: &Ground) {
    let (events, session) = opened(ground).await;
    assert!(
        events.starts_with("/whep/live/events/") && !events.contains('?'),
        "{events}"
    );
    let secret = session.rsplit('/').next().unwrap();
    assert!(
        !events.contains(secret),
        "the URL of events does not grant the session: {events}"
    );
    let options = ground.request("OPTIONS", &format!("{session}/events"), &[], "").await;
    assert_eq!(options.header("accept-post"), Some("application/json"));
}

pub(super) async fn an_event_stream_begins_with_the_present_state_and_ends_with_the_session(ground: &Ground) {
    let (events, session) = opened(ground).await;
    let mut wire = followed(ground, &events).await;
    let first = wire.through("\n\n").await.unwrap();
    assert!(first.ends_with("event: inactive\ndata: {}\n\n"), "{first}");
    assert_eq!(ground.request("DELETE", &session, &[], "").await.status, 200);
    assert_eq!(wire.through("event:").await, None, "it ends");
    ground.request("GET", &events, &[], "").await.problem(404);
}

pub(super) async fn invalid_subscriptions_are_refused(ground: &Ground) {
    let session = ground.session("/whep/live").await;
    let url = format!("{}/events", session.path);
    for (names, status) in [
        ("", 400),
        ("active", 400),
        ("{}", 400),
        ("[]", 422),
        ("[\"captions\"]", 422),
    ] {
        ground.request("POST", &url, &[JSON], names).await.problem(status);
    }
    let wrong = ground.request("POST", &url, &[SDP], NAMES).await;
    wrong.problem(415);
    assert_eq!(wrong.header("accept-post"), Some("application/json"));
    // Two are taken, a name that is not known beside others is passed over, and the third is one too many.
    for status in [201, 201, 409] {
        assert_eq!(ground.request("POST", &url, &[JSON], NAMES).await.status, status);
    }
    let publisher = ground.session("/whip/live").await.path.replace("whip", "whep");
    let of_publisher = format!("{publisher}/events");
    ground.request("POST", &of_publisher, &[JSON], NAMES).await.problem(404);
}

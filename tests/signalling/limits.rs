//! Bounds of sessions, in the program itself with offers of real browsers.

use std::time::Duration;

use serde_json::Value;

use super::process::Running;
use super::rig::SDP;
use super::wire::{Reply, Wire, request};

/// Sends requests to a running program.
pub(super) struct Client<'a>(pub(super) &'a Running);

impl Client<'_> {
    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut wire = Wire::connect(self.0.http).await;
        wire.send(request(method, path, headers, body)).await;
        wire.reply().await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], "").await
    }

    /// The offer of a viewer that never connects.
    pub(super) async fn watch(&self, stream: &str) -> Reply {
        let offer = include_str!("../data/offers/chromium156-watch.sdp");
        self.ask("POST", &format!("/whep/{stream}"), &[SDP], offer).await
    }

    pub(super) async fn publish(&self, stream: &str) -> Reply {
        let offer = include_str!("../data/offers/chromium156-publish.sdp");
        self.ask("POST", &format!("/whip/{stream}"), &[SDP], offer).await
    }

    pub(super) async fn sessions(&self) -> Vec<Value> {
        self.get("/api/sessions").await.json()["sessions"]
            .as_array()
            .unwrap()
            .clone()
    }
}

#[tokio::test]
async fn each_stream_has_its_own_viewer_limit() {
    let server = Running::start(&["--max-viewers-per-stream", "2"]);
    let client = Client(&server);
    for _ in 0..2 {
        assert_eq!(client.watch("live").await.status, 201);
    }
    let refused = client.watch("live").await;
    assert!(
        refused.problem(503).contains("the stream's limit of 2 viewers"),
        "{refused:?}"
    );
    assert_eq!(refused.json()["type"], "urn:onecast:problem:stream-full");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(client.watch("other").await.status, 201);
    assert_eq!(client.publish("live").await.status, 201);
}

#[tokio::test]
async fn a_kicked_session_is_gone_and_its_client_gets_the_reason() {
    let server = Running::start(&[]);
    let client = Client(&server);
    let location = client.watch("live").await.header("location").unwrap().to_owned();
    assert_eq!(client.publish("live").await.status, 201);
    let sessions = client.sessions().await;
    let facts = |session: &Value| {
        let text = |name: &str| session[name].as_str().unwrap().to_owned();
        (text("stream"), text("role"), text("protocol"), text("state"))
    };
    let expected = |role: &str, protocol: &str| {
        (
            "live".to_owned(),
            role.to_owned(),
            protocol.to_owned(),
            "connecting".to_owned(),
        )
    };
    assert_eq!(
        sessions.iter().map(facts).collect::<Vec<_>>(),
        [expected("viewer", "whep"), expected("publisher", "whip")]
    );
    assert!(sessions[0]["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    let secret = location.rsplit('/').next().unwrap();
    assert!(
        !client.get("/api/sessions").await.text().contains(secret),
        "a session's URL is the right to end it"
    );

    let path = format!("/api/sessions/{}?reason=off%20topic", sessions[0]["handle"]);
    assert_eq!(client.ask("DELETE", &path, &[], "").await.status, 200);
    for method in ["GET", "DELETE"] {
        let gone = client.ask(method, &location, &[], "").await;
        assert!(
            gone.problem(404)
                .contains("the operator of the server ended it: off topic"),
            "{gone:?}"
        );
        assert_eq!(gone.json()["type"], "urn:onecast:problem:ended-by-operator");
    }
    client.ask("DELETE", &path, &[], "").await.problem(404);
    let ended = client.get("/api/ended").await.json();
    assert_eq!(
        (&ended["ended"][0]["why"], &ended["ended"][0]["role"]),
        (&"operator".into(), &"viewer".into())
    );

    let reply = client.ask("DELETE", "/api/streams/live?viewers=1", &[], "").await;
    assert_eq!(reply.json()["ended"], 1);
    assert!(client.sessions().await.is_empty());
    client.ask("DELETE", "/api/streams/live", &[], "").await.problem(404);
}

#[tokio::test]
async fn a_session_that_its_client_ends_is_in_the_history_and_unknown_afterwards() {
    let server = Running::start(&[]);
    let client = Client(&server);
    let location = client.watch("live").await.header("location").unwrap().to_owned();
    assert_eq!(client.ask("DELETE", &location, &[], "").await.status, 200);
    let gone = client.get(&location).await;
    gone.problem(404);
    assert_eq!(gone.json()["type"], "urn:onecast:problem:unknown-session");
    let ended = client.get("/api/ended").await.json();
    assert_eq!(ended["ended"][0]["why"], "goodbye");
}

#[tokio::test]
async fn program_is_healthy_and_ready_while_its_media_threads_run() {
    let server = Running::start(&["--shards", "2"]);
    let client = Client(&server);
    // Longer than an idle media thread may seem to hang.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(client.get("/healthz").await.status, 200);
    assert_eq!(client.get("/readyz").await.status, 200);
}

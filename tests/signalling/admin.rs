//! What the operator sees and does over HTTP, and that other clients cannot.

use std::time::Duration;

use onecast_control::port::Condition;
use serde_json::json;

use super::rig::{OFFER, Rig, SDP};

#[tokio::test]
async fn session_numbers_in_lists_grant_no_access() {
    let rig = Rig::start().await;
    let publisher = json!({
        "handle": 1, "stream": "live", "role": "publisher", "protocol": "whip", "number": null, "state": "connected",
        "since": "2024-02-29T12:34:56Z", "connected_s": 2, "client": "192.0.2.1:5000", "media": "192.0.2.1:6000",
        "cipher": null, "received_bytes": 1_234, "silent_s": null, "missing_codecs": [],
        "layer": null,
    });
    let all = rig.get("/api/sessions").await;
    assert_eq!(all.header("cache-control"), Some("no-store"));
    let all = all.json();
    assert_eq!(all["sessions"][0], publisher);
    let viewer = &all["sessions"][1];
    assert_eq!(
        [&viewer["role"], &viewer["protocol"], &viewer["state"]],
        ["viewer", "paste", "connecting"]
    );
    assert_eq!(
        (&viewer["number"], &viewer["received_bytes"]),
        (&json!(17), &json!(null))
    );
    let layer = json!({
        "rid": "h", "width": 640, "height": 360, "reason": "path", "switches": 3,
        "limit": { "rid": null, "max_width": null, "max_height": 720 },
    });
    assert_eq!(viewer["layer"], layer);
    assert_eq!(all["next"], json!(null));
    assert_eq!(rig.get("/api/sessions/1").await.json(), publisher);
    for path in [
        "/api/sessions/3",
        "/api/sessions/0",
        "/api/sessions/x",
        "/api/sessions/-1",
    ] {
        assert!(
            rig.get(path).await.problem(404).contains("no session with this number"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_list_of_sessions_has_pages_and_filters() {
    let rig = Rig::start().await;
    let handles = async |query: &str| {
        let list = rig.get(&format!("/api/sessions{query}")).await.json();
        let sessions = list["sessions"].as_array().unwrap();
        let handles: Vec<u64> = sessions
            .iter()
            .map(|session| session["handle"].as_u64().unwrap())
            .collect();
        (handles, list["next"].as_u64())
    };
    assert_eq!(handles("?limit=1").await, (vec![1], Some(1)));
    assert_eq!(handles("?limit=1&after=1").await, (vec![2], None));
    assert_eq!(handles("?role=viewer").await, (vec![2], None));
    assert_eq!(handles("?stream=other").await, (vec![], None));
    assert_eq!(handles("?limit=0").await, (vec![1], Some(1)));
    for query in [
        "?role=king",
        "?limit=many",
        "?after=-1",
        "?streem=live",
        "?stream=..%2f",
    ] {
        rig.get(&format!("/api/sessions{query}")).await.problem(400);
    }
}

#[tokio::test]
async fn sessions_that_ended_are_shown_with_their_reasons() {
    let rig = Rig::start().await;
    let end = json!({
        "handle": 9, "stream": "live", "role": "viewer", "number": 3, "client": "[2001:db8::1]:5000",
        "at": "2024-02-29T12:34:56Z", "connected_s": 61, "received_bytes": null,
        "why": "operator", "detail": "the operator of the server ended it: off topic",
    });
    assert_eq!(rig.get("/api/ended").await.json(), json!({ "ended": [end] }));
    assert_eq!(rig.get("/api/ended?limit=0").await.json(), json!({ "ended": [] }));
}

#[tokio::test]
async fn a_session_is_ended_with_or_without_a_reason() {
    let rig = Rig::start().await;
    let delete = async |path: &str, body: &str| rig.request("DELETE", path, &[], body).await;
    for (path, body) in [
        ("/api/sessions/1", ""),
        ("/api/sessions/1?reason=off%20topic", ""),
        ("/api/sessions/2", r#"{"reason":" so ist es übel "}"#),
    ] {
        assert_eq!(delete(path, body).await.json(), json!({ "ended": 1 }), "{path}");
    }
    let kicked = rig.fake.desk.kicked.lock().unwrap().clone();
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(kicked, [(1, None), (1, said("off topic")), (2, said("so ist es übel"))]);

    delete("/api/sessions/7", "").await.problem(404);
    for (path, body) in [
        ("/api/sessions/1?reason=", ""),
        ("/api/sessions/1?reason=a%0Ab", ""),
        ("/api/sessions/1", "off topic"),
        ("/api/sessions/1", r#"{"why":"x"}"#),
        ("/api/sessions/1?resaon=x", ""),
        (&format!("/api/sessions/1?reason={}", "x".repeat(201)), ""),
    ] {
        delete(path, body).await.problem(400);
    }
    assert_eq!(
        rig.fake.desk.kicked.lock().unwrap().len(),
        3,
        "an invalid request ends no session"
    );
}

#[tokio::test]
async fn a_stream_is_ended_with_or_without_its_viewers() {
    let rig = Rig::start().await;
    let delete = async |path: &str| rig.request("DELETE", path, &[], "").await;
    assert_eq!(delete("/api/streams/live").await.json(), json!({ "ended": 1 }));
    assert_eq!(
        delete("/api/streams/live?viewers=1&reason=over").await.json(),
        json!({ "ended": 18 })
    );
    let ended = rig.fake.desk.ended.lock().unwrap().clone();
    let expected = [
        ("live".to_owned(), false, None),
        ("live".to_owned(), true, Some("over".to_owned())),
    ];
    assert_eq!(ended, expected);
    delete("/api/streams/absent").await.problem(404);
    delete("/api/streams/..%2f").await.problem(400);
    delete("/api/streams/live?viewers=some").await.problem(400);
}

#[tokio::test]
async fn requests_to_a_session_that_the_server_ended_get_the_reason() {
    let rig = Rig::start().await;
    for (byte, kind, said) in [
        (
            "a0",
            "ended-by-operator",
            "the operator of the server ended it: off topic",
        ),
        ("a1", "ended-by-takeover", "publishes the stream from somewhere else"),
        ("a2", "ended-by-limit", "there was no media for 60 s"),
    ] {
        let path = format!("/whep/live/{}", byte.repeat(16));
        for (method, headers) in [("GET", vec![]), ("PATCH", vec![super::rig::FRAGMENT])] {
            let reply = rig.request(method, &path, &headers, "").await;
            assert!(reply.problem(404).contains(said), "{reply:?}");
            assert_eq!(reply.json()["type"], format!("urn:onecast:problem:{kind}"));
        }
    }
    let unknown = rig.get(&format!("/whep/live/{}", "a9".repeat(16))).await;
    assert_eq!(unknown.json()["type"], "urn:onecast:problem:unknown-session");
}

/// Every route of administration: method and path.
pub(crate) const ROUTES: [(&str, &str); 8] = [
    ("GET", "/api/sessions"),
    ("GET", "/api/sessions/1"),
    ("DELETE", "/api/sessions/1"),
    ("DELETE", "/api/streams/live"),
    ("GET", "/api/ended"),
    ("GET", "/api/drain"),
    ("POST", "/api/drain"),
    ("GET", "/api/shards"),
];

#[tokio::test]
async fn without_tokens_only_this_machine_itself_administers() {
    let rig = Rig::start().await;
    for (method, path) in ROUTES {
        for header in [("X-Forwarded-For", "203.0.113.7"), ("Forwarded", "for=203.0.113.7")] {
            rig.request(method, path, &[header], "").await.problem(403);
        }
    }
    assert!(rig.fake.desk.kicked.lock().unwrap().is_empty() && rig.fake.desk.orders.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_page_of_another_origin_in_the_operators_browser_cannot_administer() {
    let rig = Rig::start().await;
    for (method, path) in ROUTES {
        for origin in [
            "https://evil.example",
            "null",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.1:81",
        ] {
            let reply = rig.request(method, path, &[("Origin", origin)], "").await;
            assert!(
                reply.problem(403).contains("another origin"),
                "{method} {path} {origin}"
            );
        }
    }
    assert!(rig.fake.desk.kicked.lock().unwrap().is_empty() && rig.fake.desk.orders.lock().unwrap().is_empty());
    // Neither a needless token helps such a page, nor a host name of its own that resolves to this machine.
    let token = [("Origin", "https://evil.example"), ("Authorization", "Bearer x")];
    rig.request("DELETE", "/api/sessions/1", &token, "").await.problem(403);
    let named = "DELETE /api/sessions/1 HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n";
    rig.raw(named).await.problem(403);
    assert!(rig.fake.desk.kicked.lock().unwrap().is_empty());
    for host in ["localhost:8080", "[::1]:8080", "127.0.0.1"] {
        let own = format!("GET /api/sessions HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n\r\n");
        assert_eq!(rig.raw(own).await.status, 200, "{host}");
    }
    assert_eq!(
        rig.request("GET", "/api/sessions", &[("Origin", "http://127.0.0.1")], "")
            .await
            .status,
        200
    );
    // What everybody may see, every page may.
    let origin = ("Origin", "https://evil.example");
    assert_eq!(rig.request("GET", "/api/streams/live", &[origin], "").await.status, 200);
}

#[tokio::test]
async fn a_drain_is_started_by_query_or_json_and_its_state_is_shown() {
    let rig = Rig::start().await;
    let idle = json!({ "draining": false, "since": null, "to": null, "leaves_in_s": null, "sessions": null });
    assert_eq!(rig.get("/api/drain").await.json(), idle);
    let ordered = rig.request("POST", "/api/drain", &[], "").await;
    assert_eq!(ordered.status, 202);
    let state = |to: Option<&str>, leaves_in_s: Option<u64>| json!({ "draining": true, "since": "2024-02-29T12:34:56Z", "to": to, "leaves_in_s": leaves_in_s, "sessions": 2 });
    assert_eq!(ordered.json(), state(None, None));
    let by_query = rig
        .request("POST", "/api/drain?to=https://b.example/&timeout_s=60", &[], "")
        .await;
    assert_eq!(by_query.json(), state(Some("https://b.example"), Some(60)));
    let by_json = rig
        .request("POST", "/api/drain", &[], r#"{"to":"http://c","timeout_s":0}"#)
        .await;
    assert_eq!(by_json.json(), state(Some("http://c"), Some(0)));
    assert_eq!(rig.get("/api/drain").await.json(), state(Some("http://c"), Some(0)));
    for (path, body) in [
        ("/api/drain?to=b.example", ""),
        ("/api/drain?timeout_s=soon", ""),
        ("/api/drain", "{"),
        ("/api/drain", r#"{"to":"javascript:x"}"#),
    ] {
        rig.request("POST", path, &[], body).await.problem(400);
    }
    assert_eq!(rig.fake.desk.orders.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_draining_server_redirects_whip_and_whep_offers() {
    let rig = Rig::start().await;
    let session = rig.session("/whep/live").await;
    rig.request("POST", "/api/drain?to=https://b.example/cast", &[], "")
        .await;
    let offers = rig.fake.offers();
    for endpoint in ["/whip/live", "/whep/live", "/whep/live?token=t"] {
        let reply = rig.request("POST", endpoint, &[SDP], OFFER).await;
        assert_eq!(reply.status, 307);
        assert_eq!(
            reply.header("location"),
            Some(&*format!("https://b.example/cast{endpoint}"))
        );
    }
    let large = OFFER.to_owned() + &"a=x\r\n".repeat(20_000);
    assert_eq!(rig.request("POST", "/whep/live", &[SDP], &large).await.status, 307);
    assert_eq!(rig.fake.offers(), offers);
    // Those who are in are served as before, and so is everything else.
    assert_eq!(rig.get(&session).await.status, 204);
    assert_eq!(rig.request("DELETE", &session, &[], "").await.status, 200);
    assert_eq!(rig.get("/whep/live").await.status, 200);
    assert_eq!(rig.request("POST", "/sdp/live", &[], OFFER).await.status, 200);
}

#[tokio::test]
async fn health_and_readiness_report_different_conditions() {
    let rig = Rig::start().await;
    let with = async |condition: Condition| {
        *rig.fake.desk.condition.lock().unwrap() = Some(condition);
        (rig.get("/healthz").await, rig.get("/readyz").await)
    };
    let (health, ready) = with(Condition::Ready).await;
    assert_eq!(
        (health.json(), ready.json()),
        (json!({ "status": "ok" }), json!({ "status": "ready" }))
    );
    assert_eq!(health.header("cache-control"), Some("no-store"));
    for (condition, kind) in [
        (Condition::Draining, "draining"),
        (Condition::Stopping, "shutting-down"),
    ] {
        let (health, ready) = with(condition).await;
        assert_eq!(health.status, 200);
        ready.problem(503);
        assert_eq!(ready.json()["type"], format!("urn:onecast:problem:{kind}"));
        assert_eq!(ready.header("cache-control"), Some("no-store"));
    }
    let (health, ready) = with(Condition::Stuck(vec![1, 3])).await;
    assert!(health.problem(503).contains("5 s: 1, 3"));
    ready.problem(503);
    // Open to everybody: a load balancer in front has no token.
    *rig.fake.desk.condition.lock().unwrap() = None;
    let forwarded = ("X-Forwarded-For", "203.0.113.7");
    assert_eq!(rig.request("GET", "/readyz", &[forwarded], "").await.status, 200);
}

#[tokio::test]
async fn a_body_that_never_arrives_ends_no_session() {
    let rig = Rig::impatient().await;
    let mut wire = rig.connect().await;
    wire.send("DELETE /api/sessions/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        .await;
    let reply = tokio::time::timeout(Duration::from_secs(10), wire.reply())
        .await
        .unwrap()
        .unwrap();
    reply.problem(408);
    assert!(rig.fake.desk.kicked.lock().unwrap().is_empty());
}

//! Conference rooms: what succeeds there, and what is refused without a token having to do with it.

use onecast::http::{HttpLimits, Pages};
use serde_json::{Value, json};

use super::super::rig::{OFFER, Rig};
use super::super::rooms::{joined, post};
use super::super::wire::Reply;
use super::super::ws::{UPGRADE, upgrade};
use super::{Document, JSON};

/// The answer to what succeeds at the paths of rooms; `None` for other paths. `path` is as it is written, `asked` with values in it.
pub(super) async fn success(rig: &Rig, method: &str, path: &str, asked: &str) -> Option<Reply> {
    Some(match (method, path) {
        ("POST", "/offer") => post(rig, path, json!({ "sdp": OFFER })).await,
        ("POST", "/answer") => {
            let peer = offered(rig).await;
            post(rig, path, json!({ "sdp": OFFER, "peer_id": peer, "offer": 1 })).await
        }
        ("GET", "/renegotiate/{peer}") => {
            rig.fake.hall.offer_to(asked.rsplit('/').next().unwrap());
            rig.get(asked).await
        }
        ("PATCH", "/peer/{peer}") => rig.request(method, asked, &[JSON], r#"{"name":"Ada"}"#).await,
        ("GET", "/api/rooms/{stream}") => {
            let sdp = format!("{OFFER}a=sendonly\r\n");
            let labels = json!({ "0": "screen" });
            post(
                rig,
                "/offer",
                json!({ "sdp": sdp, "room": "live", "name": "Ada", "labels": labels }),
            )
            .await;
            rig.get(asked).await
        }
        ("GET", "/ws") => {
            let mut wire = rig.connect().await;
            wire.send(upgrade(path, &[])).await;
            wire.head().await.expect("a response")
        }
        _ => return None,
    })
}

/// A peer that has an offer of the server's to answer.
async fn offered(rig: &Rig) -> String {
    let peer = joined(rig, "live").await;
    rig.fake.hall.offer_to(&peer);
    assert_eq!(rig.get(&format!("/renegotiate/{peer}")).await.status, 200);
    peer
}

pub(super) async fn refusals_happen(document: &Document) {
    let rig = Rig::start().await;
    let (peer, silent) = (offered(&rig).await, joined(&rig, "live").await);
    let unknown = format!("peer-{}", "f".repeat(32));
    let large = Value::String("x".repeat(256 * 1024));
    for (path, status, body) in [
        ("/offer", 400, json!([])),
        ("/offer", 404, json!({ "sdp": OFFER, "peer_id": unknown })),
        ("/offer", 409, json!({ "sdp": OFFER, "peer_id": peer })),
        ("/offer", 413, large.clone()),
        ("/offer", 422, json!({})),
        ("/offer", 422, json!({ "sdp": format!("{OFFER}a=unusable\r\n") })),
        ("/offer", 429, json!({ "sdp": OFFER, "room": "too-many-offers" })),
        ("/offer", 503, json!({ "sdp": OFFER, "room": "room-full" })),
        ("/answer", 400, json!([])),
        ("/answer", 404, json!({ "sdp": OFFER, "peer_id": unknown })),
        ("/answer", 409, json!({ "sdp": OFFER, "peer_id": silent })),
        ("/answer", 413, large.clone()),
        ("/answer", 422, json!({ "sdp": OFFER })),
    ] {
        let reply = post(&rig, path, body).await;
        assert_eq!(reply.status, status, "{path} {reply:?}");
        document.check("POST", path, &reply);
    }
    untyped(document, &rig, &silent).await;
    of_a_peer(document, &rig, &silent, &unknown, &large).await;
    elsewhere(document).await;
}

async fn untyped(document: &Document, rig: &Rig, peer: &str) {
    for (method, path, asked) in [
        ("POST", "/offer", "/offer".to_owned()),
        ("POST", "/answer", "/answer".to_owned()),
        ("PATCH", "/peer/{peer}", format!("/peer/{peer}")),
    ] {
        let reply = rig.request(method, &asked, &[], "{}").await;
        assert_eq!(reply.status, 415);
        document.check(method, path, &reply);
    }
}

async fn of_a_peer(document: &Document, rig: &Rig, peer: &str, unknown: &str, large: &Value) {
    let (poll, own) = ("/renegotiate/{peer}", "/peer/{peer}");
    for (method, path, of, rest, body, status) in [
        ("GET", poll, peer, "", "", 204),
        ("GET", poll, peer, "?wait=x", "", 400),
        ("GET", poll, unknown, "", "", 404),
        ("PATCH", own, peer, "", "[]", 400),
        ("PATCH", own, unknown, "", "{}", 404),
        ("PATCH", own, peer, "", &large.to_string(), 413),
        ("PATCH", own, peer, "", r#"{"name":7}"#, 422),
        ("DELETE", own, unknown, "", "", 404),
    ] {
        let asked = path.replace("{peer}", of) + rest;
        let reply = rig.request(method, &asked, &[JSON], body).await;
        assert_eq!(reply.status, status, "{method} {path} {reply:?}");
        document.check(method, path, &reply);
    }
    let rooms = "/api/rooms/{stream}";
    for (name, status) in [("absent", 404), (".x", 400)] {
        let reply = rig.get(&rooms.replace("{stream}", name)).await;
        assert_eq!(reply.status, status);
        document.check("GET", rooms, &reply);
    }
}

/// What only another server answers so.
async fn elsewhere(document: &Document) {
    let rig = Rig::start().await;
    rig.request("POST", "/api/drain?to=https://b.example", &[], "").await;
    let reply = post(&rig, "/offer", json!({ "sdp": OFFER })).await;
    assert_eq!(reply.status, 307);
    document.check("POST", "/offer", &reply);
    document.check("GET", "/ws", &rig.get("/ws").await);
    let limits = HttpLimits {
        connections: 1,
        ..HttpLimits::default()
    };
    let rig = Rig::with(Pages::built_in(), limits, "127.0.0.1:0").await;
    let reply = rig.request("GET", "/ws", &UPGRADE, "").await;
    assert_eq!(reply.status, 503);
    document.check("GET", "/ws", &reply);
}

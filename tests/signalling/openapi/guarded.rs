//! What is answered to those whose token is missing, wrong, for something else, or cannot be judged: for every operation that says that
//! it asks for one, and for no other.

use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use onecast::auth::AuthMode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::super::auth::{authority, bearer};
use super::super::rig::{OFFER, Rig, SDP};
use super::super::wire::Reply;
use super::{Document, JSON};

/// More wrong tokens than an address may try at once.
const TRIES: usize = 20;

/// A webhook that judges by the token's name.
async fn judge() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", post(judgement));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn judgement(question: String) -> StatusCode {
    let question: Value = serde_json::from_str(&question).unwrap();
    match question["token"].as_str() {
        Some("good") => StatusCode::NO_CONTENT,
        Some("foreign") => StatusCode::FORBIDDEN,
        Some("unjudged") => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::UNAUTHORIZED,
    }
}

struct Guarded {
    rig: Rig,
    method: String,
    asked: String,
    /// In rooms it is the body that says what is asked for.
    body: String,
}

impl Guarded {
    /// A server without failed logins, and the request to it.
    async fn start(judge: SocketAddr, method: String, path: &str) -> Guarded {
        let words = ["--auth-webhook", &format!("http://{judge}/")];
        let rig = Rig::guarded(authority(&words, AuthMode::Webhook)).await;
        let asked = path.replace("{stream}", "live").replace("{handle}", "1");
        let asked = match asked.split_once("/{session}") {
            Some((endpoint, rest)) => {
                let headers = [SDP, ("Authorization", &*bearer("good"))];
                let opened = rig.request("POST", endpoint, &headers, OFFER).await;
                opened.header("location").expect("a session").to_owned() + rest
            }
            None => asked,
        };
        let mut guarded = Guarded {
            rig,
            method,
            asked,
            body: String::new(),
        };
        if path == "/offer" {
            guarded.body = json!({ "sdp": OFFER, "room": "live" }).to_string();
        }
        if path == "/answer" || path.contains("{peer}") {
            guarded.join().await;
        }
        guarded
    }

    /// Joins a room, and asks as its peer from then on.
    async fn join(&mut self) {
        let headers = [JSON, ("Authorization", &*bearer("good"))];
        let offer = json!({ "sdp": OFFER, "room": "live" }).to_string();
        let answer = self.rig.request("POST", "/offer", &headers, &offer).await.json();
        self.asked = self
            .asked
            .replace("{peer}", answer["peer_id"].as_str().expect("a peer"));
        self.body = json!({ "sdp": OFFER, "peer_id": answer["peer_id"] }).to_string();
    }

    async fn with(&self, token: Option<&str>) -> Reply {
        let authorization = token.map(bearer);
        let header = authorization.as_deref().map(|value| ("Authorization", value));
        let typed = (!self.body.is_empty()).then_some(JSON);
        let headers: Vec<_> = header.into_iter().chain(typed).collect();
        self.rig.request(&self.method, &self.asked, &headers, &self.body).await
    }

    async fn with_query(&self, token: &str) -> Reply {
        let asked = format!("{}?token={token}", self.asked);
        let typed = (!self.body.is_empty()).then_some(JSON);
        let headers: Vec<_> = typed.into_iter().collect();
        self.rig.request(&self.method, &asked, &headers, &self.body).await
    }
}

pub(super) async fn refusals_happen(document: &Document) {
    let judge = judge().await;
    for (method, path, operation) in document.operations() {
        let responses = operation["responses"].as_object().unwrap();
        let Some(security) = operation["security"].as_array() else {
            assert!(
                !responses.contains_key("401"),
                "{method} {path}: how a token is sent is not written"
            );
            continue;
        };
        let about = format!("{method} {path}");
        let guarded = Guarded::start(judge, method.clone(), &path).await;
        let expect = |reply: Reply, status| {
            assert_eq!(reply.status, status, "{about}: {reply:?}");
            document.check(&method, &path, &reply);
        };
        expect(guarded.with(None).await, 401);
        expect(guarded.with(Some("wrong")).await, 401);
        expect(guarded.with(Some("foreign")).await, 403);
        expect(guarded.with(Some("unjudged")).await, 503);
        let by_query = security.iter().any(|one| one["tokenInQuery"].is_array());
        let expected = if by_query { 403 } else { 401 };
        expect(guarded.with_query("foreign").await, expected);
        let mut tries = 0;
        let spent = loop {
            let reply = guarded.with(Some("wrong")).await;
            if reply.status != 401 || tries == TRIES {
                break reply;
            }
            tries += 1;
        };
        expect(spent, 429);
    }
}

#[tokio::test]
async fn operations_without_security_need_no_token() {
    let judge = judge().await;
    let document = Document::of(&Rig::start().await).await;
    let mut open = 0;
    for (method, path, operation) in document.operations() {
        if operation["security"].is_array() {
            continue;
        }
        let guarded = Guarded::start(judge, method.clone(), &path.replace("{events}", "unknown")).await;
        let status = guarded.with(None).await.status;
        assert!(!matches!(status, 401 | 403), "{method} {path}: {status}");
        open += 1;
    }
    assert!(open > 5);
}

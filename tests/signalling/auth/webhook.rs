//! Another server decides, or fails to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use onecast::auth::{AccessRequest, Action, AuthMode, PageOrigin};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::rig::{OFFER, Rig, SDP};
use super::{authority, bearer};

/// A webhook whose decisions the test sets.
struct Judge {
    address: SocketAddr,
    said: Arc<Mutex<Said>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Said {
    status: u16,
    body: String,
    delay: Duration,
    /// Asked and not answered at this moment, and at most so far.
    open: usize,
    open_most: usize,
    questions: Vec<Value>,
    authorizations: Vec<Option<String>>,
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Judge {
    async fn start() -> Judge {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let said = Arc::<Mutex<Said>>::default();
        let router = Router::new().route("/may", post(answer)).with_state(said.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Judge { address, said, task }
    }

    fn url(&self) -> String {
        format!("http://{}/may", self.address)
    }

    fn says(&self, status: u16, body: impl ToString) {
        let mut said = self.said.lock().unwrap();
        (said.status, said.body) = (status, body.to_string());
    }

    fn last_question(&self) -> Value {
        self.said.lock().unwrap().questions.last().cloned().unwrap()
    }
}

async fn answer(State(said): State<Arc<Mutex<Said>>>, headers: HeaderMap, body: String) -> Response {
    let (delay, status, text) = {
        let mut said = said.lock().unwrap();
        said.questions.push(serde_json::from_str(&body).unwrap());
        let shown = headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        said.authorizations.push(shown);
        said.open += 1;
        said.open_most = said.open_most.max(said.open);
        (said.delay, said.status, said.body.clone())
    };
    tokio::time::sleep(delay).await;
    said.lock().unwrap().open -= 1;
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

async fn rig(words: &[&str]) -> Rig {
    Rig::guarded(authority(words, AuthMode::Webhook)).await
}

async fn offer(rig: &Rig, path: &str) -> super::Reply {
    rig.request("POST", path, &[SDP, ("Authorization", &*bearer("a-token"))], OFFER)
        .await
}

#[tokio::test]
async fn the_webhook_receives_the_relevant_facts_and_decides() {
    let judge = Judge::start().await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "shown-secret\n").unwrap();
    let file = secret.path().to_str().unwrap().to_owned();
    let rig = rig(&["--auth-webhook", &judge.url(), "--auth-webhook-secret-file", &file]).await;

    judge.says(200, json!({ "credential": "user-7" }));
    assert_eq!(offer(&rig, "/whip/live").await.status, 201);
    let expected = json!({
        "action": "publish", "stream": "live", "token": "a-token", "client": "127.0.0.1", "forwarded": false,
    });
    assert_eq!(judge.last_question(), expected);
    assert_eq!(
        judge.said.lock().unwrap().authorizations,
        [Some("Bearer shown-secret".to_owned())]
    );
    assert_eq!(&*rig.fake.last_right().credential.unwrap().0, "webhook:user-7");

    judge.says(204, "");
    assert_eq!(offer(&rig, "/whep/talk").await.status, 201);
    let question = judge.last_question();
    assert_eq!(
        (&question["action"], &question["stream"]),
        (&json!("watch"), &json!("talk"))
    );
    // Without a name of the webhook the token stands for itself, without being told.
    assert!(!rig.fake.last_right().credential.unwrap().0.contains("a-token"));

    judge.says(403, json!({ "detail": "your plan has ended\u{7}." }));
    assert!(
        offer(&rig, "/whip/live")
            .await
            .problem(403)
            .starts_with("your plan has ended ")
    );
    judge.says(401, "no JSON at all");
    assert!(
        offer(&rig, "/whip/live")
            .await
            .problem(401)
            .contains("the token is not valid")
    );
    judge.says(403, json!({ "detail": "x".repeat(10_000) }));
    assert!(offer(&rig, "/whip/live").await.problem(403).len() < 400);
}

#[tokio::test]
async fn an_unreachable_webhook_refuses_every_client() {
    let judge = Judge::start().await;
    let url = judge.url();
    let closed = rig(&["--auth-webhook", &url, "--auth-webhook-timeout", "300ms"]).await;
    let open = rig(&[
        "--auth-webhook",
        &url,
        "--auth-webhook-timeout",
        "300ms",
        "--auth-webhook-fail-open",
    ])
    .await;
    let both = async |why: &str| {
        let reply = offer(&closed, "/whip/live").await;
        assert_eq!(reply.status, 503, "{why}");
        assert!(reply.header("retry-after").is_some(), "{why}");
        reply.problem(503);
        assert_eq!(offer(&open, "/whip/live").await.status, 201, "{why}");
        // What decides over others' sessions never fails open.
        assert_eq!(
            open.request("GET", "/api/shards", &[("Authorization", "Bearer x")], "")
                .await
                .status,
            503,
            "{why}"
        );
    };
    for status in [500, 302, 404, 418] {
        judge.says(status, "");
        both(&format!("answers {status}")).await;
    }
    judge.says(200, "x".repeat(100_000));
    both("answers too much").await;
    judge.says(200, "");
    judge.said.lock().unwrap().delay = Duration::from_secs(5);
    both("is slow").await;
    drop(judge);
    both("is down").await;
}

#[tokio::test]
async fn a_webhook_that_does_not_speak_http_refuses_every_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"\0\xff220 hello, this is mail\r\n").await;
        }
    });
    let rig = rig(&["--auth-webhook", &url]).await;
    offer(&rig, "/whip/live").await.problem(503);
    assert_eq!(rig.fake.offers(), 0);
}

#[tokio::test]
async fn a_slow_webhook_does_not_delay_requests_that_do_not_need_it() {
    let judge = Judge::start().await;
    judge.said.lock().unwrap().delay = Duration::from_secs(2);
    judge.says(200, "");
    let rig = Arc::new(rig(&["--auth-webhook", &judge.url(), "--auth-webhook-timeout", "3s"]).await);
    let crowd: Vec<_> = (0..80)
        .map(|_| {
            let rig = rig.clone();
            tokio::spawn(async move { offer(&rig, "/whep/live").await.status })
        })
        .collect();
    let page = tokio::time::timeout(Duration::from_secs(1), rig.get("/viewer.html"))
        .await
        .unwrap();
    assert_eq!(page.status, 200);
    let mut statuses = Vec::new();
    for one in crowd {
        statuses.push(one.await.unwrap());
    }
    // Requests that wait longer than a second for a slot are refused with a retry time.
    let count = |wanted: u16| statuses.iter().filter(|&&status| status == wanted).count();
    assert!(count(201) >= 64 && count(201) + count(503) == 80, "{statuses:?}");
    assert_eq!(judge.said.lock().unwrap().open_most, 64);
}

#[tokio::test]
async fn guesses_through_a_local_proxy_do_not_lock_out_other_clients() {
    let judge = Judge::start().await;
    let words = ["--auth-webhook", &judge.url()];
    let rig = rig(&words).await;
    judge.says(401, "");
    for _ in 0..30 {
        assert!(matches!(offer(&rig, "/whip/live").await.status, 401 | 429));
    }
    judge.says(200, "");
    assert_eq!(offer(&rig, "/whip/live").await.status, 201);

    // The webhook is not asked about a locked address until the lock ends.
    let authority = authority(&words, AuthMode::Webhook);
    let ask = async |client: &str| {
        let request = AccessRequest {
            action: Action::Publish,
            stream: None,
            token: Some("guess"),
            client: client.parse().unwrap(),
            forwarded: false,
            page: PageOrigin::SameOrigin,
        };
        authority.authorize(request).await
    };
    judge.says(401, "");
    for _ in 0..30 {
        assert!(ask("192.0.2.1:9").await.is_err());
    }
    assert!(judge.said.lock().unwrap().questions.len() < 30 + 1 + 15);
    judge.says(200, "");
    assert!(ask("192.0.2.1:9").await.is_err() && ask("192.0.2.2:9").await.is_ok());
}

#[tokio::test]
async fn a_page_without_a_token_cannot_administer_even_if_the_webhook_agrees() {
    let judge = Judge::start().await;
    judge.says(200, "");
    let rig = rig(&["--auth-webhook", &judge.url()]).await;
    let origin = ("Origin", "https://evil.example");
    rig.request("POST", "/api/drain", &[origin], "").await.problem(403);
    assert!(rig.fake.desk.orders.lock().unwrap().is_empty());
    let token = ("Authorization", "Bearer x");
    assert_eq!(rig.request("GET", "/api/drain", &[origin, token], "").await.status, 200);
}

//! Every refusal that does not depend on tokens, and what else an operation answers beside its first success.

use onecast::http::{HttpLimits, Pages};
use onecast_control::port::Condition;

use super::super::rig::{FRAGMENT, OFFER, Rig, SDP};
use super::super::wire::request;
use super::{Document, JSON, NAMES, concrete};

/// A request: where it is written of, what is asked, and the status. `{session}` and `{events}` in `asked` are opened for it.
struct Case {
    method: &'static str,
    path: &'static str,
    asked: String,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    status: u16,
}

impl Case {
    fn new(method: &'static str, path: &'static str, status: u16) -> Case {
        Case {
            method,
            path,
            asked: path.to_owned(),
            headers: vec![],
            body: String::new(),
            status,
        }
    }

    fn at(self, asked: impl Into<String>) -> Case {
        let asked = asked.into();
        Case { asked, ..self }
    }

    fn with(mut self, header: (&'static str, &'static str)) -> Case {
        self.headers.push(header);
        self
    }

    fn body(self, body: impl Into<String>) -> Case {
        let body = body.into();
        Case { body, ..self }
    }
}

/// Asks for all of them and checks the replies.
pub(super) async fn happen(document: &Document) {
    let cases = [endpoints(), sessions(), events(), layers(), paste(), administration()];
    for case in cases.into_iter().flatten() {
        let rig = Rig::start().await;
        prepare(&rig, case.status, case.path).await;
        let asked = concrete(&rig, &case.asked).await;
        let reply = rig.request(case.method, &asked, &case.headers, &case.body).await;
        assert_eq!(reply.status, case.status, "{} {}: {reply:?}", case.method, case.path);
        document.check(case.method, case.path, &reply);
    }
    bodies_that_never_come(document).await;
    too_many_followers(document).await;
}

/// Brings the server into the state in which it refuses so.
async fn prepare(rig: &Rig, status: u16, path: &str) {
    match (status, path) {
        (307, _) => {
            rig.request("POST", "/api/drain?to=https://b.example", &[], "").await;
        }
        (409, "/whep/{stream}/{session}/events") => {
            for _ in 0..2 {
                concrete(rig, FOLLOWED).await;
            }
        }
        (_, "/healthz" | "/readyz") => {
            *rig.fake.desk.condition.lock().unwrap() = Some(Condition::Stuck(vec![0]));
        }
        _ => {}
    }
}

async fn bodies_that_never_come(document: &Document) {
    let rig = Rig::impatient().await;
    let operations = document.operations();
    let awaited = operations
        .iter()
        .filter(|(.., operation)| operation["requestBody"].is_object());
    // All at once, because each takes its time.
    let mut waiting = Vec::new();
    for (method, path, operation) in awaited {
        let asked = concrete(&rig, path).await;
        let mut wire = rig.connect().await;
        let content = operation["requestBody"]["content"].as_object().unwrap();
        let media = content.keys().next().unwrap();
        let head = format!(
            "{method} {asked} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media}\r\nContent-Length: 9\r\n\r\n"
        );
        wire.send(head).await;
        waiting.push((method, path, wire));
    }
    for (method, path, mut wire) in waiting {
        let reply = wire.reply().await.unwrap();
        assert_eq!(reply.status, 408, "{method} {path}");
        document.check(method, path, &reply);
    }
}

async fn too_many_followers(document: &Document) {
    // Half of the connections are for followers.
    let limits = HttpLimits {
        connections: 3,
        ..HttpLimits::default()
    };
    let rig = Rig::with(Pages::built_in(), limits, "127.0.0.1:0").await;
    let events = concrete(&rig, FOLLOWED).await;
    let mut follower = rig.connect().await;
    follower.send(request("GET", &events, &[], "")).await;
    assert_eq!(follower.head().await.unwrap().status, 200);
    let reply = rig.get(&events).await;
    assert_eq!(reply.status, 503);
    document.check("GET", FOLLOWED, &reply);
}

fn endpoints() -> Vec<Case> {
    let mut cases = Vec::new();
    for (path, foreign) in [("/whip/{stream}", "/whip/.x"), ("/whep/{stream}", "/whep/.x")] {
        let post = |status, body: &str| Case::new("POST", path, status).with(SDP).body(body);
        cases.extend([
            post(307, OFFER),
            post(400, "no offer"),
            post(409, &refused_as("taken")),
            post(409, &refused_as("silent")),
            post(413, &too_large()),
            Case::new("POST", path, 415).body(OFFER),
            post(422, &format!("{OFFER}a=unusable\r\n")),
            post(422, &refused_as("h264")),
            post(429, &refused_as("busy")),
            post(503, &refused_as("full")),
            Case::new("GET", path, 400).at(foreign),
        ]);
    }
    cases.push(Case::new("POST", "/whep/{stream}", 406));
    cases
}

fn sessions() -> Vec<Case> {
    let mut cases = Vec::new();
    for (path, unknown) in [
        ("/whip/{stream}/{session}", format!("/whip/live/{UNKNOWN}")),
        ("/whep/{stream}/{session}", format!("/whep/live/{UNKNOWN}")),
    ] {
        let patch = |status, body: &str| Case::new("PATCH", path, status).with(FRAGMENT).body(body);
        cases.extend([
            Case::new("GET", path, 404).at(&*unknown),
            Case::new("DELETE", path, 404).at(&*unknown),
            patch(404, "a=x\r\n").at(&*unknown),
            patch(200, "a=x-restart\r\n"),
            patch(400, "unreadable"),
            patch(412, "a=x-refuse:stale\r\n"),
            patch(413, &too_large()),
            Case::new("PATCH", path, 415).body(OFFER),
            patch(422, "a=x-refuse:half-restart\r\n"),
            patch(428, "a=x-refuse:no-tag\r\n"),
            patch(429, "a=x-refuse:restart-too-soon\r\n"),
            patch(503, "a=x-refuse:overloaded\r\n"),
        ]);
    }
    let late = Case::new("PATCH", "/whep/{stream}/{session}", 409);
    cases.push(late.with(SDP).body(OFFER));
    cases
}

fn events() -> Vec<Case> {
    let opening = "/whep/{stream}/{session}/events";
    let post = |status, body: &str| Case::new("POST", opening, status).with(JSON).body(body);
    let unknown = format!("/whep/live/events/{UNKNOWN}");
    vec![
        post(400, "active"),
        post(404, NAMES).at(format!("/whep/live/{UNKNOWN}/events")),
        post(409, NAMES),
        post(413, &too_large()),
        Case::new("POST", opening, 415).body(NAMES),
        post(422, "[]"),
        Case::new("GET", opening, 404).at(format!("/whep/live/{UNKNOWN}/events")),
        Case::new("GET", opening, 409),
        Case::new("GET", FOLLOWED, 404).at(&*unknown),
        Case::new("DELETE", FOLLOWED, 404).at(&*unknown),
    ]
}

fn layers() -> Vec<Case> {
    let path = "/whep/{stream}/{session}/layer";
    let post = |status, body: &str| Case::new("POST", path, status).with(JSON).body(body);
    vec![
        post(400, "f"),
        post(404, "{}").at(format!("/whep/live/{UNKNOWN}/layer")),
        Case::new("GET", path, 404).at(format!("/whep/live/{UNKNOWN}/layer")),
        post(409, r#"{"rid":"x"}"#),
        post(413, &too_large()),
        Case::new("POST", path, 415).body("{}"),
        post(429, r#"{"rid":"too-many-choices"}"#),
        post(503, r#"{"rid":"overloaded"}"#),
    ]
}

fn paste() -> Vec<Case> {
    let mut cases = vec![Case::new("GET", "/", 304).with(("If-None-Match", "*"))];
    for path in ["/", "/sdp", "/sdp/{stream}"] {
        for (status, body) in [
            (400, "no offer".to_owned()),
            (409, refused_as("taken")),
            (413, too_large()),
            (422, format!("{OFFER}a=unusable\r\n")),
            (429, refused_as("busy")),
            (503, refused_as("full")),
        ] {
            cases.push(Case::new("POST", path, status).body(body));
        }
    }
    cases
}

fn administration() -> Vec<Case> {
    let mut cases = Vec::new();
    for (method, path, takes_query) in [
        ("DELETE", "/api/streams/{stream}", true),
        ("GET", "/api/sessions", true),
        ("GET", "/api/sessions/{handle}", false),
        ("DELETE", "/api/sessions/{handle}", true),
        ("GET", "/api/ended", true),
        ("GET", "/api/drain", false),
        ("POST", "/api/drain", true),
        ("GET", "/api/shards", false),
    ] {
        cases.push(Case::new(method, path, 403).with(("X-Forwarded-For", "203.0.113.7")));
        if takes_query {
            cases.push(Case::new(method, path, 400).at(format!("{path}?unknown=1")));
        }
        if method != "GET" {
            cases.push(Case::new(method, path, 413).body(too_large()));
        }
    }
    for method in ["GET", "DELETE"] {
        cases.push(Case::new(method, "/api/streams/{stream}", 404).at("/api/streams/absent"));
        cases.push(Case::new(method, "/api/sessions/{handle}", 404).at("/api/sessions/9"));
    }
    cases.push(Case::new("GET", "/api/streams/{stream}", 400).at("/api/streams/.x"));
    cases.push(Case::new("GET", "/healthz", 503));
    cases.push(Case::new("GET", "/readyz", 503));
    cases
}

fn refused_as(name: &str) -> String {
    format!("{OFFER}a=x-refuse:{name}\r\n")
}

fn too_large() -> String {
    "x".repeat(256 * 1024 + 1)
}

const FOLLOWED: &str = "/whep/{stream}/events/{events}";
/// A session and an event stream that are not there.
const UNKNOWN: &str = "ffffffffffffffffffffffffffffffff";

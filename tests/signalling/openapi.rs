//! The description for programs, held against what the server does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use onecast::http::operation::Condition;
use serde_json::Value;

use super::rig::{FRAGMENT, OFFER, Rig, SDP};
use super::wire::Reply;

/// What is written of an operation but cannot happen here, and why.
const ELSEWHERE: [(&str, &str); 11] = [
    ("401", "nobody is asked for a token in these tests"),
    ("403 /whip", "the same"),
    ("403 /whep", "the same"),
    ("403 /sdp", "the same"),
    ("403 / ", "the same"),
    (
        "409 / ",
        "the fake service refuses by the stream's name, and this is always `live`",
    ),
    ("429 / ", "the same"),
    ("503 / ", "the same"),
    ("409 /sdp ", "the same"),
    ("429 /sdp ", "the same"),
    ("503 /sdp ", "the same"),
];

struct Document(Value);

impl Document {
    async fn of(rig: &Rig) -> Document {
        let reply = rig.get("/api/openapi.json").await;
        assert_eq!(reply.header("content-type"), Some("application/json"));
        Document(reply.json())
    }

    /// Every operation: method in capitals, path and description.
    fn operations(&self) -> Vec<(String, String, &Value)> {
        let paths = self.0["paths"].as_object().unwrap();
        paths
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters");
                methods.map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
            })
            .collect()
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(path) => self
                .0
                .pointer(path.trim_start_matches('#'))
                .unwrap_or_else(|| panic!("{path} leads nowhere")),
            None => value,
        }
    }

    /// Checks a reply against what is written of this operation.
    fn check(&self, method: &str, path: &str, reply: &Reply) {
        let operation = &self.0["paths"][path][method.to_lowercase()];
        let about = format!("{method} {path} -> {}", reply.status);
        let response = self.resolve(&operation["responses"][reply.status.to_string()]);
        assert!(response.is_object(), "{about} is not written of");
        for name in response["headers"]
            .as_object()
            .into_iter()
            .flat_map(|headers| headers.keys())
        {
            assert!(reply.header(&name.to_lowercase()).is_some(), "{about}: no {name}");
        }
        let Some(content) = response["content"].as_object() else {
            assert!(reply.body.is_empty(), "{about}: a body that is not written of");
            return;
        };
        let media = reply.header("content-type").unwrap_or_default();
        let essence = media.split(';').next().unwrap();
        let described = content.get(essence).unwrap_or_else(|| panic!("{about}: {essence}"));
        if essence.ends_with("json") {
            self.check_value(&described["schema"], &reply.json(), &about);
        }
    }

    /// What the schemas of the document use of JSON Schema.
    fn check_value(&self, schema: &Value, value: &Value, about: &str) {
        let schema = self.resolve(schema);
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        let is = |kind: &str| match kind {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("the test knows no {other}"),
        };
        assert!(types.iter().any(|kind| is(kind)), "{about}: {value} is no {types:?}");
        if let Some(allowed) = schema["enum"].as_array() {
            assert!(allowed.contains(value), "{about}: {value} is none of {allowed:?}");
        }
        if let (Some(minimum), Some(number)) = (schema["minimum"].as_i64(), value.as_i64()) {
            assert!(number >= minimum, "{about}: {number}");
        }
        for item in value.as_array().into_iter().flatten() {
            self.check_value(&schema["items"], item, about);
        }
        if let Some(object) = value.as_object() {
            self.check_object(schema, object, about);
        }
    }

    fn check_object(&self, schema: &Value, object: &serde_json::Map<String, Value>, about: &str) {
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(object.contains_key(name.as_str().unwrap()), "{about}: no {name}");
        }
        for (name, value) in object {
            match (&schema["properties"][name], &schema["additionalProperties"]) {
                (Value::Null, Value::Null) => {}
                (Value::Null, rest) => {
                    assert!(rest.is_object(), "{about}: {name} is not written of");
                    self.check_value(rest, value, about);
                }
                (property, _) => self.check_value(property, value, &format!("{about} {name}")),
            }
        }
    }
}

/// A path of the document with values in it.
async fn concrete(rig: &Rig, path: &str) -> String {
    let endpoint = path.replace("/{session}", "").replace("{stream}", "live");
    match path.contains("{session}") {
        true => rig.session(&endpoint).await,
        false => endpoint.replace("{handle}", "1"),
    }
}

#[tokio::test]
async fn every_operation_succeeds_as_it_is_written() {
    let rig = Rig::start().await;
    let document = Document::of(&rig).await;
    assert!(document.0["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document.0["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut ids = BTreeSet::new();
    for (method, path, operation) in document.operations() {
        // A server of its own: some operations end what others need.
        let rig = Rig::start().await;
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{operation}");
        let (headers, body) = match path.rsplit('/').next().unwrap() {
            "{session}" if method == "PATCH" => (vec![FRAGMENT], "a=ice-ufrag:x\r\n"),
            _ if method == "POST" && path.starts_with("/wh") => (vec![SDP], OFFER),
            _ if method == "POST" && !path.starts_with("/api") => (vec![], OFFER),
            _ => (vec![], ""),
        };
        let reply = rig.request(&method, &concrete(&rig, &path).await, &headers, body).await;
        assert!((200..300).contains(&reply.status), "{method} {path}: {reply:?}");
        document.check(&method, &path, &reply);
    }
}

#[tokio::test]
async fn what_a_path_takes_is_what_is_written() {
    let rig = Rig::start().await;
    let document = Document::of(&rig).await;
    for path in document.0["paths"].as_object().unwrap().keys() {
        let reply = rig.request("OPTIONS", &concrete(&rig, path).await, &[], "").await;
        assert_eq!(reply.status, 204, "{path}");
        let allowed: BTreeSet<String> = reply.header("allow").unwrap().split(", ").map(str::to_owned).collect();
        let mut written: BTreeSet<String> = document
            .operations()
            .into_iter()
            .filter(|(_, of, _)| of == path)
            .map(|(method, ..)| method)
            .collect();
        written.insert("OPTIONS".to_owned());
        if written.contains("GET") {
            written.insert("HEAD".to_owned());
        }
        assert_eq!(allowed, written, "{path}");
    }
}

#[tokio::test]
async fn every_route_of_the_code_is_written_of_and_no_other() {
    let rig = Rig::start().await;
    let document = Document::of(&rig).await;
    let written: BTreeSet<String> = document.0["paths"].as_object().unwrap().keys().cloned().collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut routes = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            routes.extend(routes_in(&fs::read_to_string(path).unwrap()));
        }
    }
    assert_eq!(routes, written);
}

/// The paths that `.route(` is called with: literals, or a format with a prefix that is both protocols'.
fn routes_in(code: &str) -> Vec<String> {
    let calls = code.split(".route(").skip(1);
    calls
        .flat_map(|call| {
            let literal = call.split('"').nth(1).unwrap();
            match literal.strip_prefix("{prefix}") {
                Some(rest) => {
                    let rest = rest.replace("{{", "{").replace("}}", "}");
                    vec![format!("/whip{rest}"), format!("/whep{rest}")]
                }
                None => vec![literal.to_owned()],
            }
        })
        .collect()
}

/// A request that is refused: method, path of the document, what is asked, and the status.
type Case<'a> = (&'a str, &'a str, String, Vec<(&'a str, &'a str)>, String, u16);

#[tokio::test]
async fn every_refusal_that_is_written_happens_as_it_is_written() {
    let patient = Rig::start().await;
    let document = Document::of(&patient).await;
    let mut seen = BTreeSet::new();
    for (method, path, asked, headers, body, status) in cases() {
        let rig = Rig::start().await;
        prepare(&rig, status, path).await;
        let reply = rig.request(method, &asked, &headers, &body).await;
        assert_eq!(reply.status, status, "{method} {asked}: {reply:?}");
        document.check(method, path, &reply);
        seen.insert(format!("{status} {path} {method}"));
    }
    let rig = Rig::impatient().await;
    for (method, path) in [
        ("POST", "/"),
        ("POST", "/sdp"),
        ("POST", "/sdp/{stream}"),
        ("POST", "/whip/{stream}"),
        ("POST", "/whep/{stream}"),
        ("PATCH", "/whip/{stream}/{session}"),
        ("PATCH", "/whep/{stream}/{session}"),
    ] {
        let mut wire = rig.connect().await;
        let asked = concrete(&rig, path).await;
        let head = format!(
            "{method} {asked} HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\nContent-Length: 9\r\n\r\n"
        );
        wire.send(head).await;
        let reply = wire.reply().await.unwrap();
        document.check(method, path, &reply);
        seen.insert(format!("{} {path} {method}", reply.status));
    }
    for (method, path, operation) in document.operations() {
        for status in operation["responses"].as_object().unwrap().keys() {
            let case = format!("{status} {path} {method}");
            let elsewhere = ELSEWHERE.iter().any(|(start, _)| case.starts_with(start));
            assert!(
                status.starts_with('2') || elsewhere || seen.contains(&case),
                "never seen: {case}"
            );
        }
    }
}

/// Brings the server into the state in which it refuses so.
async fn prepare(rig: &Rig, status: u16, path: &str) {
    if status == 307 {
        rig.request("POST", "/api/drain?to=https://b.example", &[], "").await;
    }
    if path.ends_with("/{session}") {
        // The first session of the fake service is always the same.
        assert!(concrete(rig, path).await.ends_with(&FIRST_SESSION.repeat(16)));
    }
    if path == "/healthz" || path == "/readyz" {
        *rig.fake.desk.condition.lock().unwrap() = Some(Condition::Stuck(vec![0]));
    }
}

fn cases() -> Vec<Case<'static>> {
    let mut cases: Vec<Case<'static>> = Vec::new();
    let too_large = "x".repeat(256 * 1024 + 1);
    let unusable = format!("{OFFER}a=unusable\r\n");
    for (endpoint, stream, session) in [
        ("/whip", "/whip/{stream}", "/whip/{stream}/{session}"),
        ("/whep", "/whep/{stream}", "/whep/{stream}/{session}"),
    ] {
        let post = |name: &str, body: &str, status| {
            (
                "POST",
                stream,
                format!("{endpoint}/{name}"),
                vec![SDP],
                body.to_owned(),
                status,
            )
        };
        cases.extend([
            post("live", OFFER, 307),
            post("live", "no offer", 400),
            post("taken", OFFER, 409),
            post("live", &too_large, 413),
            post("live", &unusable, 422),
            post("busy", OFFER, 429),
            post("full", OFFER, 503),
            (
                "POST",
                stream,
                format!("{endpoint}/live"),
                vec![],
                OFFER.to_owned(),
                415,
            ),
            ("GET", stream, format!("{endpoint}/.x"), vec![], String::new(), 400),
        ]);
        let unknown = format!("{endpoint}/live/{}", "f".repeat(32));
        let own = format!("{endpoint}/live/{}", FIRST_SESSION.repeat(16));
        cases.extend([
            ("GET", session, unknown.clone(), vec![], String::new(), 404),
            ("DELETE", session, unknown.clone(), vec![], String::new(), 404),
            ("PATCH", session, unknown, vec![FRAGMENT], "a=x\r\n".to_owned(), 404),
            (
                "PATCH",
                session,
                own.clone(),
                vec![FRAGMENT],
                "unreadable".to_owned(),
                400,
            ),
            ("PATCH", session, own.clone(), vec![SDP], OFFER.to_owned(), 415),
            ("PATCH", session, own, vec![FRAGMENT], too_large.clone(), 413),
        ]);
    }
    for (path, asked) in [("/", "/"), ("/sdp", "/sdp"), ("/sdp/{stream}", "/sdp/live")] {
        for (body, status) in [("no offer", 400), (&too_large, 413), (&unusable, 422)] {
            cases.push(("POST", path, asked.to_owned(), vec![], body.to_owned(), status));
        }
    }
    for (name, status) in [("taken", 409), ("busy", 429), ("full", 503)] {
        cases.push((
            "POST",
            "/sdp/{stream}",
            format!("/sdp/{name}"),
            vec![],
            OFFER.to_owned(),
            status,
        ));
    }
    let proxied = vec![("X-Forwarded-For", "203.0.113.7")];
    let mut of_api = |method, path: &'static str, asked: &str, status| {
        let headers = if status == 403 { proxied.clone() } else { vec![] };
        cases.push((method, path, asked.to_owned(), headers, String::new(), status));
    };
    for (method, path, asked) in [
        ("DELETE", "/api/streams/{stream}", "/api/streams/live"),
        ("GET", "/api/sessions", "/api/sessions"),
        ("DELETE", "/api/sessions/{handle}", "/api/sessions/1"),
        ("GET", "/api/ended", "/api/ended"),
        ("POST", "/api/drain", "/api/drain"),
    ] {
        of_api(method, path, asked, 403);
        of_api(method, path, &format!("{asked}?unknown=1"), 400);
    }
    of_api("GET", "/api/sessions/{handle}", "/api/sessions/1", 403);
    of_api("GET", "/api/drain", "/api/drain", 403);
    of_api("GET", "/api/shards", "/api/shards", 403);
    of_api("GET", "/api/streams/{stream}", "/api/streams/.x", 400);
    for method in ["GET", "DELETE"] {
        of_api(method, "/api/streams/{stream}", "/api/streams/nobody", 404);
        of_api(method, "/api/sessions/{handle}", "/api/sessions/9", 404);
    }
    of_api("GET", "/healthz", "/healthz", 503);
    of_api("GET", "/readyz", "/readyz", 503);
    cases
}

const FIRST_SESSION: &str = "01";

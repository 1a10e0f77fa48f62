//! The description for programs, held against what the server does.

mod guarded;
mod refusals;
mod rooms;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::rig::{FRAGMENT, OFFER, Rig, SDP};
use super::rooms::joined;
use super::wire::{Reply, request};

/// Headers that a client acts upon: none comes that is not written of.
const TOLD: [&str; 7] = [
    "location",
    "etag",
    "link",
    "accept-post",
    "accept-patch",
    "retry-after",
    "www-authenticate",
];
const JSON: (&str, &str) = ("Content-Type", "application/json");

struct Document {
    text: Value,
    /// What has happened as it is written: status, path and method.
    seen: RefCell<BTreeSet<String>>,
}

impl Document {
    async fn of(rig: &Rig) -> Document {
        let reply = rig.get("/api/openapi.json").await;
        assert_eq!(reply.header("content-type"), Some("application/json"));
        Document {
            text: reply.json(),
            seen: RefCell::default(),
        }
    }

    /// Every operation: method in capitals, path and description.
    fn operations(&self) -> Vec<(String, String, &Value)> {
        let paths = self.text["paths"].as_object().unwrap();
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
                .text
                .pointer(path.trim_start_matches('#'))
                .unwrap_or_else(|| panic!("{path} leads nowhere")),
            None => value,
        }
    }

    /// Checks a reply against what is written of this operation.
    fn check(&self, method: &str, path: &str, reply: &Reply) {
        let operation = &self.text["paths"][path][method.to_lowercase()];
        let about = format!("{method} {path} -> {}", reply.status);
        let response = self.resolve(&operation["responses"][reply.status.to_string()]);
        assert!(response.is_object(), "{about} is not written of");
        self.check_headers(response, reply, &about);
        self.seen.borrow_mut().insert(case(reply.status, path, method));
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

    fn check_headers(&self, response: &Value, reply: &Reply, about: &str) {
        let none = serde_json::Map::new();
        let headers = response["headers"].as_object().unwrap_or(&none);
        for (name, header) in headers {
            let came = reply.header(&name.to_lowercase()).is_some();
            assert!(came || header["required"] != true, "{about}: no {name}");
        }
        for name in TOLD {
            let is_written = headers.keys().any(|written| written.eq_ignore_ascii_case(name));
            assert!(
                is_written || reply.header(name).is_none(),
                "{about}: {name} is not written of"
            );
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

fn case(status: impl std::fmt::Display, path: &str, method: &str) -> String {
    format!("{status} {path} {method}")
}

/// A path of the document with values in it: those of a session or an event stream that is opened for it.
async fn concrete(rig: &Rig, path: &str) -> String {
    let path = path.replace("{stream}", "live").replace("{handle}", "1");
    if path.contains("{peer}") {
        return path.replace("{peer}", &joined(rig, "live").await);
    }
    if let Some((endpoint, rest)) = path.split_once("/{session}") {
        return rig.session(endpoint).await + rest;
    }
    if !path.contains("{events}") {
        return path;
    }
    let opening = rig.session("/whep/live").await + "/events";
    let opened = rig.request("POST", &opening, &[JSON], NAMES).await;
    opened.header("location").expect("an event stream").to_owned()
}

/// Asks for what succeeds.
async fn success(rig: &Rig, method: &str, path: &str) -> Reply {
    let asked = concrete(rig, path).await;
    if matches!(
        (method, path),
        (
            "GET",
            "/whep/{stream}/events/{events}" | "/whep/{stream}/{session}/events"
        )
    ) {
        let mut wire = rig.connect().await;
        wire.send(request(method, &asked, &[], "")).await;
        return wire.head().await.expect("the head of an endless response");
    }
    if let Some(reply) = rooms::success(rig, method, path, &asked).await {
        return reply;
    }
    let (headers, body) = match (method, path.rsplit('/').next().unwrap()) {
        ("PATCH", _) => (vec![FRAGMENT], "a=ice-ufrag:x\r\n"),
        ("POST", "events") => (vec![JSON], NAMES),
        ("POST", "layer") => (vec![JSON], "{}"),
        ("POST", _) if path.starts_with("/wh") => (vec![SDP], OFFER),
        ("POST", _) if !path.starts_with("/api") => (vec![], OFFER),
        _ => (vec![], ""),
    };
    rig.request(method, &asked, &headers, body).await
}

#[tokio::test]
async fn every_documented_response_occurs_as_documented() {
    let document = Document::of(&Rig::start().await).await;
    assert!(document.text["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document.text["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut ids = BTreeSet::new();
    for (method, path, operation) in document.operations() {
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{operation}");
        // A server of its own: some operations end what others need.
        let reply = success(&Rig::start().await, &method, &path).await;
        assert!(matches!(reply.status, 101 | 200..300), "{method} {path}: {reply:?}");
        document.check(&method, &path, &reply);
    }
    refusals::happen(&document).await;
    rooms::refusals_happen(&document).await;
    guarded::refusals_happen(&document).await;
    let seen = document.seen.borrow();
    for (method, path, operation) in document.operations() {
        for status in operation["responses"].as_object().unwrap().keys() {
            let case = case(status, &path, &method);
            assert!(seen.contains(&case), "never seen: {case}");
        }
    }
}

#[tokio::test]
async fn allowed_methods_are_the_documented_ones() {
    let rig = Rig::start().await;
    let document = Document::of(&rig).await;
    for path in document.text["paths"].as_object().unwrap().keys() {
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
async fn every_route_is_documented_and_no_other() {
    let rig = Rig::start().await;
    let document = Document::of(&rig).await;
    let written: BTreeSet<String> = document.text["paths"].as_object().unwrap().keys().cloned().collect();
    let routes = routes_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http"));
    assert_eq!(routes, written);
}

/// The routes in all source files below a folder.
fn routes_below(folder: &Path) -> BTreeSet<String> {
    let mut routes = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            routes.extend(routes_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            routes.extend(routes_in(&fs::read_to_string(path).unwrap()));
        }
    }
    routes
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

/// Names of events that the server knows.
const NAMES: &str = r#"["active", "viewercount"]"#;

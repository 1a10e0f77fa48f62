//! Copy and paste.

use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Value, json};

use super::fake::answer;
use super::rig::{OFFER, Rig};
use super::wire::Reply;

fn offer() -> String {
    json!({"type": "offer", "sdp": OFFER}).to_string()
}

/// What curl sends for `--data-binary @file`.
const CURL: [(&str, &str); 3] = [
    ("User-Agent", "curl/8.14.1"),
    ("Accept", "*/*"),
    ("Content-Type", "application/x-www-form-urlencoded"),
];

#[track_caller]
fn unwrapped(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    serde_json::from_slice(&BASE64_STANDARD.decode(&reply.body).unwrap()).unwrap()
}

#[tokio::test]
async fn a_base64_offer_gets_a_base64_answer() {
    let rig = Rig::start().await;
    for (path, stream) in [("/", "live"), ("/sdp", "live"), ("/sdp/talk", "talk")] {
        let reply = rig.request("POST", path, &CURL, &BASE64_STANDARD.encode(offer())).await;
        assert_eq!(unwrapped(&reply), json!({"type": "answer", "sdp": answer(stream)}));
        let arrived = rig.fake.last_offer();
        assert_eq!((&*arrived.stream, &*arrived.text), (stream, OFFER));
    }
}

#[tokio::test]
async fn dialects_of_base64_and_white_space_are_tolerated() {
    let rig = Rig::start().await;
    let text = BASE64_STANDARD.encode(offer());
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(10)
        .map(|part| std::str::from_utf8(part).unwrap())
        .collect();
    for body in [
        format!("\r\n  {text} \n\n"),
        lines.join("\n"),
        lines.join("\r\n\t "),
        BASE64_STANDARD_NO_PAD.encode(offer()),
        BASE64_URL_SAFE_NO_PAD.encode(offer()),
        format!("'{text}'"),
    ] {
        unwrapped(&rig.request("POST", "/sdp", &[], &body).await);
        assert_eq!(rig.fake.last_offer().text, OFFER);
    }
}

#[tokio::test]
async fn bare_json_and_bare_sdp_get_answers_of_the_same_form() {
    let rig = Rig::start().await;
    let reply = rig.request("POST", "/sdp/a", &[], &offer()).await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("application/json"))
    );
    assert_eq!(reply.json(), json!({"type": "answer", "sdp": answer("a")}));

    let reply = rig.request("POST", "/sdp/a", &[], OFFER).await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("application/sdp"))
    );
    assert_eq!(reply.text(), answer("a"));
}

#[tokio::test]
async fn an_invalid_offer_is_refused_with_an_explanation() {
    let rig = Rig::start().await;
    let not_text = BASE64_STANDARD.encode([0xff; 30]);
    let cases = [
        ("", "the body is empty", "curl --data-binary @offer.txt"),
        ("hello there!", "is not valid base64", "Copy the whole text"),
        ("%PDF-1.7", "'%'", "Copy the whole text"),
        ("eyJ0e", "incomplete", "Copy the whole text"),
        (&not_text, "neither JSON nor SDP", "Copy the whole text"),
        (
            "{\"type\":\"offer\"",
            "JSON is invalid",
            "JSON.stringify(pc.localDescription)",
        ),
        (
            "{\"type\":\"offer\"}",
            "no string named sdp",
            "JSON.stringify(pc.localDescription)",
        ),
        (
            "{\"type\":\"answer\",\"sdp\":\"v=0\"}",
            "is an answer, but the server expects the offer",
            "not the reply",
        ),
        (
            "{\"type\":\"offer\",\"sdp\":\"hello\"}",
            "this is not SDP",
            "RTCSessionDescription.sdp",
        ),
    ];
    for (body, detail, hint) in cases {
        for body in [
            body.to_owned(),
            if body.starts_with('{') {
                BASE64_STANDARD.encode(body)
            } else {
                body.to_owned()
            },
        ] {
            let reply = rig.request("POST", "/sdp", &[], &body).await;
            assert_eq!(reply.status, 400, "{body}");
            assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
            let text = reply.text();
            assert!(
                text.contains(detail) && text.contains(hint) && text.ends_with('\n'),
                "{body}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn refusals_are_plain_text_with_their_status() {
    let rig = Rig::start().await;
    for (stream, status) in [
        ("taken", 409),
        ("full", 503),
        ("unknown", 404),
        (".hidden", 400),
        ("a%2fb", 400),
    ] {
        let reply = rig.request("POST", &format!("/sdp/{stream}"), &[], OFFER).await;
        assert_eq!(reply.status, status);
        assert!(
            reply.header("content-type").unwrap().starts_with("text/plain"),
            "{reply:?}"
        );
        assert!(reply.text().contains(&format!("({status})")));
        assert_eq!(reply.header("retry-after").is_some(), matches!(status, 409 | 503));
    }
    let reply = rig.request("POST", "/sdp", &[], "v=0\r\na=unusable\r\n").await;
    assert_eq!(reply.status, 422);
}

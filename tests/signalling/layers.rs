//! Layers: what publishers are answered, what viewers learn, and how they choose.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use onecast::app::{App, AppConfig};
use onecast::http::{HttpLimits, Pages, Server, Serving};
use onecast_control::Limits;
use onecast_control::layers::{LayerChoice, StreamLayers};
use onecast_control::whep_events::Audience;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::events::{LIVE, expect, followed, message};
use super::fake::LAYERS;
use super::rig::{OFFER, Rig, SDP};
use super::wire::{Reply, Wire, request};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const LAYER_RELATION: &str = "urn:ietf:params:whep:ext:core:layer";

/// The whole server, with layers or without.
struct Whole {
    app: App,
    address: SocketAddr,
    _stop_at_the_end: DropGuard,
}

impl Whole {
    async fn start(layers: bool) -> Whole {
        let config = AppConfig::on_loopback(1);
        let limits = Limits {
            streams: 100,
            ..config.limits
        };
        let app = App::start(AppConfig {
            layers,
            limits,
            ..config
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = Serving::open(Arc::new(app.clone()), Pages::built_in());
        tokio::spawn(Server::new(serving, HttpLimits::default()).run(listener, stop.clone()));
        Whole {
            app,
            address,
            _stop_at_the_end: stop.drop_guard(),
        }
    }

    async fn offer(&self, endpoint: &str, offer: &str) -> Reply {
        let mut wire = Wire::connect(self.address).await;
        wire.send(request("POST", endpoint, &[SDP], offer)).await;
        wire.reply().await.unwrap()
    }

    async fn stop(self) {
        assert!(self.app.shutdown(Duration::from_secs(5)).await);
    }
}

fn file(name: &str) -> String {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines of an answer that decide about layers, without the directions of header extensions.
fn layer_lines(sdp: &str) -> Vec<String> {
    let is_of_layers = |line: &&str| {
        let is_extension = line.ends_with("rtp-stream-id") || line.ends_with("video-layers-allocation00");
        line.starts_with("a=rid:") || line.starts_with("a=simulcast:") || is_extension
    };
    let lines = sdp.lines().filter(is_of_layers);
    let mut lines: Vec<String> = lines.map(|line| line.replace("/recvonly", "")).collect();
    lines.sort();
    lines
}

const PUBLISHERS: [&str; 7] = [
    "chromium156-vp8-simulcast",
    "chromium156-h264-simulcast",
    "chromium156-av1-simulcast",
    "firefox153-vp8-simulcast",
    "chromium156-vp9-svc",
    "chromium156-av1-svc",
    "chromium156-h264-l1t3",
];

#[tokio::test(flavor = "multi_thread")]
async fn browsers_get_the_answer_after_which_they_send_every_layer() {
    let whole = Whole::start(true).await;
    for name in PUBLISHERS {
        let offer = file(&format!("layers/{name}.offer.sdp"));
        let mut expected = layer_lines(&file(&format!("layers/{name}.answer.sdp")));
        if !offer.contains("a=simulcast") {
            // Packets of one encoding need no rid.
            expected.retain(|line| !line.ends_with("rtp-stream-id"));
        }
        for endpoint in [format!("/whip/{name}"), format!("/sdp/pasted-{name}")] {
            let reply = whole.offer(&endpoint, &offer).await;
            assert!(matches!(reply.status, 200 | 201), "{endpoint}: {reply:?}");
            assert_eq!(layer_lines(reply.text()), expected, "{endpoint}");
        }
    }
    whole.stop().await;
}

/// Counts as OBS does: the semicolons of the first `a=simulcast` line, up to its CRLF.
fn layers_that_obs_counts(answer: &str) -> usize {
    let (_, line) = answer.split_once("a=simulcast").expect("a=simulcast");
    let (line, _) = line.split_once("\r\n").expect("CRLF");
    line.matches(';').count() + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn obs_with_four_layers_counts_four_in_the_answer() {
    let whole = Whole::start(true).await;
    let offer = file("offers/obs32-publish-simulcast.sdp")
        .replace("a=rid:2 send", "a=rid:2 send\r\na=rid:3 send")
        .replace("send 0;1;2", "send 0;1;2;3");
    // It announces the first SSRC of the video only.
    let announced = |line: &&str| !line.starts_with("a=ssrc:2718281830") && !line.starts_with("a=ssrc:2718281831");
    let offer: Vec<&str> = offer.lines().filter(announced).collect();
    let reply = whole.offer("/whip/obs", &(offer.join("\r\n") + "\r\n")).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let answer = reply.text();
    assert_eq!(layers_that_obs_counts(answer), 4, "{answer}");
    assert_eq!(answer.matches("a=simulcast:recv 0;1;2;3\r\n").count(), 1, "{answer}");
    assert_eq!(answer.matches("a=rid:").count(), 4, "{answer}");
    assert!(answer.contains("a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"));
    whole.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_layers_publishers_are_answered_one_encoding_and_viewers_have_no_choice() {
    let viewer = file("layers/chromium156-watch.offer.sdp");
    for layers in [true, false] {
        let whole = Whole::start(layers).await;
        for name in PUBLISHERS {
            let reply = whole
                .offer(&format!("/whip/{name}"), &file(&format!("layers/{name}.offer.sdp")))
                .await;
            assert_eq!(reply.status, 201, "{reply:?}");
            assert!(
                layers || layer_lines(reply.text()).is_empty(),
                "{name}: {}",
                reply.text()
            );
            let has_link = links(&reply).any(|link| link.contains(LAYER_RELATION));
            assert!(!has_link, "publishers choose nothing");
        }
        let reply = whole.offer("/whep/live", &viewer).await;
        let has = |text: &str| links(&reply).any(|link| link.contains(text));
        assert_eq!((has(LAYER_RELATION), has("viewercount,layers")), (layers, layers));
        whole.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_listed_under_the_index_of_the_viewers_video_line() {
    let whole = Whole::start(true).await;
    let offer = file("layers/chromium156-vp8-simulcast.offer.sdp");
    assert_eq!(whole.offer("/whip/live", &offer).await.status, 201);
    for (viewer, line) in [
        ("layers/chromium156-watch.offer.sdp", 0),
        ("offers/chromium156-watch.sdp", 1),
    ] {
        let session = whole.offer("/whep/live", &file(viewer)).await;
        let opening = format!("{}/events", session.header("location").unwrap());
        let mut wire = Wire::connect(whole.address).await;
        wire.send(request("POST", &opening, &[JSON], r#"["layers"]"#)).await;
        let opened = wire.reply().await.unwrap();
        let mut wire = Wire::connect(whole.address).await;
        wire.send(request("GET", opened.header("location").unwrap(), &[], ""))
            .await;
        // The publisher has named its layers, and sends none yet.
        let layer = |rid: &str| serde_json::json!({ "rid": rid, "bitrate": 0 });
        let list = ["q", "h", "f"].map(layer);
        let layers = serde_json::json!({ line.to_string(): list });
        expect(&mut wire, "layers", &layers.to_string()).await;
    }
    whole.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_of_the_whole_server_chooses_among_the_layers_of_its_publisher() {
    let whole = Whole::start(true).await;
    let offer = file("layers/chromium156-vp8-simulcast.offer.sdp");
    assert_eq!(whole.offer("/whip/live", &offer).await.status, 201);
    let viewer = file("layers/chromium156-watch.offer.sdp");
    let session = whole
        .offer("/whep/live", &viewer)
        .await
        .header("location")
        .unwrap()
        .to_owned();
    let choose = async |body: &str| {
        let mut wire = Wire::connect(whole.address).await;
        wire.send(request("POST", &format!("{session}/layer"), &[JSON], body))
            .await;
        wire.reply().await.unwrap()
    };
    assert_eq!(choose(r#"{"mediaId":"0","rid":"f"}"#).await.status, 200);
    let refused = choose(r#"{"encodingId":"x"}"#).await;
    assert_eq!(
        (refused.status, &refused.json()["rids"]),
        (409, &serde_json::json!(["q", "h", "f"]))
    );
    let mut wire = Wire::connect(whole.address).await;
    wire.send(request("GET", "/api/sessions?role=viewer", &[], "")).await;
    let listed = wire.reply().await.unwrap().json();
    let layer = serde_json::json!({
        "rid": null, "width": null, "height": null, "reason": null, "switches": 0,
        "limit": { "rid": "f", "max_width": null, "max_height": null },
    });
    assert_eq!(listed["sessions"][0]["layer"], layer);
    whole.stop().await;
}

/// An offer of Chromium whose encodings are replaced by these.
fn with_encodings(name: &str, declared: &[String], simulcast: &str) -> String {
    let offer = file(&format!("layers/{name}.offer.sdp"));
    let others = offer
        .lines()
        .filter(|line| !line.starts_with("a=rid:") && !line.starts_with("a=simulcast:"));
    let mut lines: Vec<String> = Vec::new();
    let mut is_video = false;
    for line in others {
        is_video = if line.starts_with("m=") {
            line.starts_with("m=video")
        } else {
            is_video
        };
        lines.push(line.to_owned());
        if is_video && line.starts_with("a=rtcp-mux") {
            lines.extend(declared.iter().map(|rid| format!("a=rid:{rid} send")));
            lines.push(format!("a=simulcast:send {simulcast}"));
        }
    }
    lines.join("\r\n") + "\r\n"
}

/// Publishers send the encodings that an answer lists, so it never lists one twice, or one that the server would drop.
#[tokio::test(flavor = "multi_thread")]
async fn offers_of_strange_encodings_are_answered_with_those_that_can_be_used() {
    let whole = Whole::start(true).await;
    let simulcast = "chromium156-vp8-simulcast";
    let names = |count: usize| (0..count).map(|index| format!("r{index}")).collect::<Vec<_>>();
    let three: Vec<String> = ["q", "h", "f"].map(String::from).into();
    for (what, offer, expected) in [
        (
            "64 encodings",
            with_encodings(simulcast, &names(64), &names(64).join(";")),
            "r0;r1;r2;r3",
        ),
        (
            "one too many",
            with_encodings(simulcast, &names(5), &names(5).join(";")),
            "r0;r1;r2;r3",
        ),
        ("a rid listed twice", with_encodings(simulcast, &three, "q;q;f"), "q;f"),
        (
            "a rid declared twice",
            with_encodings(simulcast, &[&three[..], &three[..1]].concat(), "q;h;f"),
            "q;h;f",
        ),
        (
            "a rid that is not declared",
            with_encodings(simulcast, &three, "q;x;f"),
            "q;f",
        ),
    ] {
        let reply = whole.offer("/whip/strange", &offer).await;
        assert_eq!(reply.status, 201, "{what}: {reply:?}");
        let answer = reply.text();
        let lines: Vec<&str> = answer.lines().filter(|line| line.starts_with("a=simulcast:")).collect();
        assert_eq!(lines, [format!("a=simulcast:recv {expected}")], "{what}");
        let declared = answer
            .lines()
            .filter_map(|line| line.strip_prefix("a=rid:")?.strip_suffix(" recv"));
        assert_eq!(declared.collect::<Vec<_>>().join(";"), expected, "{what}");
        assert!(
            answer.contains("urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
            "{what}"
        );
        let session = reply.header("location").unwrap();
        let mut wire = Wire::connect(whole.address).await;
        wire.send(request("DELETE", session, &[], "")).await;
        assert_eq!(wire.reply().await.unwrap().status, 200, "{what}");
    }
    whole.stop().await;
}

/// A line of one SSRC with layers inside it, which says that it has rids as well. Without the header extension of the rid nothing tells
/// their packets apart, so it stays one encoding.
#[tokio::test(flavor = "multi_thread")]
async fn simulcast_on_a_line_with_layers_inside_its_encoding_is_answered_as_its_extensions_allow() {
    let whole = Whole::start(true).await;
    let three: Vec<String> = ["q", "h", "f"].map(String::from).into();
    let without = with_encodings("chromium156-vp9-svc", &three, "q;h;f");
    let without: String = without
        .lines()
        .filter(|line| !line.ends_with("rtp-stream-id"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let with = with_encodings("chromium156-vp9-svc", &three, "q;h;f");
    assert!(
        with.contains("a=ssrc-group:FID") && with.contains("rtp-stream-id"),
        "{with}"
    );
    for (stream, offer, expected) in [
        ("without", without, None),
        ("with", with, Some("a=simulcast:recv q;h;f")),
    ] {
        let reply = whole.offer(&format!("/whip/{stream}"), &offer).await;
        assert_eq!(reply.status, 201, "{stream}: {reply:?}");
        let listed = reply.text().lines().find(|line| line.starts_with("a=simulcast"));
        assert_eq!(listed, expected, "{stream}");
        assert_eq!(
            reply.text().matches("a=rid:").count(),
            if expected.is_some() { 3 } else { 0 },
            "{stream}"
        );
    }
    whole.stop().await;
}

fn links(reply: &Reply) -> impl Iterator<Item = &str> {
    let links = reply.headers.iter().filter(|(name, _)| name == "link");
    links.map(|(_, value)| value.as_str())
}

/// A viewer's session.
async fn viewer(rig: &Rig) -> String {
    let reply = rig.request("POST", "/whep/live", &[SDP], OFFER).await;
    let session = reply.header("location").unwrap().to_owned();
    let expected = format!("<{session}/layer>; rel=\"{LAYER_RELATION}\"");
    assert!(links(&reply).any(|link| link == expected), "{reply:?}");
    session
}

#[tokio::test]
async fn a_choice_reaches_the_service_in_either_wording() {
    let rig = Rig::start().await;
    let layer = viewer(&rig).await + "/layer";
    for body in [
        r#"{"mediaId":"1","rid":"h"}"#,
        r#"{"mediaId":"1","encodingId":"h"}"#,
        r#"{"maxWidth":640,"maxHeight":360}"#,
        "{}",
        r#"{"mediaId":"0"}"#,
    ] {
        let reply = rig.request("POST", &layer, &[JSON], body).await;
        assert_eq!((reply.status, reply.text()), (200, ""), "{body}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    }
    let h = LayerChoice {
        rid: Some("h".into()),
        ..LayerChoice::default()
    };
    let small = LayerChoice {
        rid: None,
        max_width: Some(640),
        max_height: Some(360),
    };
    let automatic = LayerChoice::default();
    assert_eq!(rig.fake.choices(), [h.clone(), h, small, automatic.clone(), automatic]);
    // The largest is silent, which is no reason to refuse it.
    assert_eq!(rig.request("POST", &layer, &[JSON], r#"{"rid":"f"}"#).await.status, 200);
    let preflight = rig.request("OPTIONS", &layer, &[], "").await;
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        Some("GET, HEAD, POST, OPTIONS")
    );
    assert_eq!(preflight.header("accept-post"), Some("application/json"));
}

#[tokio::test]
async fn a_viewer_may_ask_which_layer_it_is_sent_and_why() {
    let rig = Rig::start().await;
    let session = viewer(&rig).await;
    let sent = rig.get(&format!("{session}/layer")).await;
    assert_eq!((sent.status, sent.header("cache-control")), (200, Some("no-store")));
    let expected = serde_json::json!({
        "rid": "h",
        "width": 640,
        "height": 360,
        "reason": "path",
        "switches": 2,
        "limit": { "rid": null, "max_width": null, "max_height": null },
    });
    assert_eq!(sent.json(), expected);
    assert_eq!(rig.request("DELETE", &session, &[], "").await.status, 200);
    rig.get(&format!("{session}/layer")).await.problem(404);
}

#[tokio::test]
async fn a_choice_that_cannot_be_made_is_refused_with_the_layers_that_exist() {
    let rig = Rig::start().await;
    let session = viewer(&rig).await;
    let layer = format!("{session}/layer");
    let refused = rig.request("POST", &layer, &[JSON], r#"{"rid":"x"}"#).await;
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let problem = refused.json();
    assert_eq!(problem["type"], "urn:onecast:problem:unknown-layer");
    assert_eq!(
        (refused.status, &problem["rids"]),
        (409, &serde_json::json!(["f", "h", "q"]))
    );
    for body in ["", "f", "[]", r#"{"rid":1}"#, r#"{"maxHeight":0}"#] {
        rig.request("POST", &layer, &[JSON], body).await.problem(400);
    }
    rig.request("POST", &layer, &[], "{}").await.problem(415);
    let elsewhere = layer.replace("/live/", "/other/");
    rig.request("POST", &elsewhere, &[JSON], "{}").await.problem(404);
    assert_eq!(rig.request("DELETE", &session, &[], "").await.status, 200);
    rig.request("POST", &layer, &[JSON], "{}").await.problem(404);
    assert!(rig.fake.choices().is_empty());
}

fn with_layers() -> Audience {
    Audience {
        layers: StreamLayers::ranked(LAYERS.iter().map(|layer| layer.state())),
        ..LIVE
    }
}

#[tokio::test]
async fn a_follower_learns_of_the_layers_in_the_form_of_the_draft() {
    let rig = Rig::start().await;
    let opening = viewer(&rig).await + "/events";
    let opened = rig.request("POST", &opening, &[JSON], r#"["layers"]"#).await;
    let mut wire = followed(&rig, opened.header("location").unwrap()).await;
    rig.fake.with_feed(|feed| feed.audience.send_replace(with_layers()));
    // The fake viewer receives video on its second m-line.
    let layers = concat!(
        r#"{"1":[{"bitrate":0,"height":720,"rid":"f","width":1280},"#,
        r#"{"bitrate":512000,"frameRate":30,"height":360,"rid":"h","width":640},"#,
        r#"{"bitrate":131000,"frameRate":30,"height":180,"rid":"q","width":320}]}"#
    );
    expect(&mut wire, "layers", layers).await;
    rig.fake.with_feed(|feed| feed.audience.send_replace(LIVE));
    expect(&mut wire, "layers", r#"{"1":[]}"#).await;
}

#[tokio::test]
async fn a_get_of_the_opening_url_follows_all_events_in_the_older_form() {
    let rig = Rig::start().await;
    let session = viewer(&rig).await;
    let opening = format!("{session}/events");
    let mut wire = followed(&rig, &opening).await;
    expect(&mut wire, "inactive", "{}").await;
    expect(&mut wire, "viewercount", r#"{"viewercount":0}"#).await;
    let audience = Audience {
        live: false,
        viewers: 0,
        ..with_layers()
    };
    rig.fake.with_feed(|feed| feed.audience.send_replace(audience));
    let (name, data) = message(&mut wire).await.unwrap();
    let layer = |name: &str, rid: &str, bitrate: u32, width: u32| {
        let mut layer = serde_json::json!({ name: rid, "bitrate": bitrate, "width": width, "height": width * 9 / 16 });
        if bitrate > 0 {
            layer["frameRate"] = 30.into();
        }
        layer
    };
    let expected = serde_json::json!({
        "1": {
            "active": [layer("id", "h", 512_000, 640), layer("id", "q", 131_000, 320)],
            "inactive": [layer("id", "f", 0, 1280)],
            "layers": [
                layer("encodingId", "f", 0, 1280),
                layer("encodingId", "h", 512_000, 640),
                layer("encodingId", "q", 131_000, 320),
            ],
        },
        "2": { "layers": [] },
    });
    assert_eq!(name, "layers");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&data).unwrap(), expected);
    // It is one of the session's event streams, and ends with its request.
    let (second, third) = (followed(&rig, &opening).await, rig.get(&opening).await);
    third.problem(409);
    drop((wire, second));
    let deadline = onecast_udp::clock::now() + Duration::from_secs(10);
    while rig.fake.feeds() > 0 {
        assert!(
            onecast_udp::clock::now() < deadline,
            "event streams outlive their requests"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(rig.request("DELETE", &session, &[], "").await.status, 200);
    rig.get(&opening).await.problem(404);
}

//! Publishers with layers over real sockets: what the server finds of their layers, and what viewers that choose one receive.

use std::sync::atomic::Ordering;
use std::time::Duration;

use onecast_clients::load::layers::{LayerSet, SenderKind};
use onecast_clients::load::workload::Video;
use onecast_clients::publish::Publisher;
use onecast_testing::{Tests, tests};
use serde_json::{Value, json};

use crate::layer_clients::{H264Layer, LayerViewer, LayeredPublisher, h264_source};
use crate::rig::{Detours, Rig};
use crate::until;

pub(crate) fn tests() -> Tests {
    let shared = tests![
        a_viewer_changes_between_layers_of_h264,
        viewers_have_a_picture_while_an_announced_layer_is_never_sent,
        viewers_of_a_layer_that_stops_fall_to_the_best_of_the_others_and_come_back,
    ];
    // Their keyframes come every 2 s, and the server asks for one after 2.2 s: a publisher that gets no CPU in between would be asked.
    let alone = tests![
        a_viewer_changes_between_layers_of_a_browser,
        a_viewer_changes_between_layers_of_obs,
    ];
    shared.and(alone.alone())
}

/// A layer as the API lists it.
struct Listed {
    rid: &'static str,
    size: (u16, u16),
    /// Bits per second.
    rate: f64,
}

impl Listed {
    /// The layers of a load, the largest first.
    fn all_of(layers: LayerSet) -> Vec<Listed> {
        let mut specs = layers.specs();
        specs.sort_by_key(|spec| std::cmp::Reverse(spec.height));
        let listed = specs.iter().map(|spec| Listed {
            rid: spec.rid.unwrap(),
            size: (spec.width, spec.height),
            rate: Video::W1.bit_rate() * spec.share,
        });
        listed.collect()
    }

    fn is(&self, layer: &Value) -> bool {
        let expected = (self.rid.into(), self.size.0.into(), self.size.1.into());
        let found: (Value, Value, Value) = (layer["rid"].clone(), layer["width"].clone(), layer["height"].clone());
        let rate = layer["bitrate"].as_f64().unwrap_or_default() / self.rate;
        // Frames, and their headers and tags, are not spread evenly over the time that is measured.
        found == expected && layer["live"] == true && (0.7..1.3).contains(&rate)
    }
}

/// The layers of the stream `live`, as `GET /api/streams` lists them.
async fn listed(rig: &Rig) -> Vec<Value> {
    let response = reqwest::get(rig.url("api/streams")).await.unwrap();
    let streams: Value = response.json().await.unwrap();
    // Before the publisher is there, it has none.
    let layers = streams.pointer("/streams/0/layers").and_then(Value::as_array);
    layers.cloned().unwrap_or_default()
}

/// Waits until the API lists exactly these layers in this order.
async fn are_listed(rig: &Rig, expected: &[Listed]) {
    let mut layers = Vec::new();
    for _ in 0..200 {
        layers = listed(rig).await;
        if layers.len() == expected.len() && expected.iter().zip(&layers).all(|(one, layer)| one.is(layer)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{layers:?}");
}

async fn sees(viewer: &LayerViewer, height: u16) {
    until(&format!("a picture of {height} lines"), || {
        viewer.height() == Some(height)
    })
    .await;
}

/// Waits for another second of video.
async fn goes_on(viewer: &LayerViewer) {
    let before = viewer.frames();
    until("30 more frames", || viewer.frames() >= before + 30).await;
}

/// A viewer chooses layer after layer. `layers` are those of the stream, the largest first; `asked` counts keyframe requests that have
/// reached the publisher.
async fn change_between_all(rig: &Rig, layers: &[Listed], asked: impl Fn() -> u64) {
    are_listed(rig, layers).await;
    let viewer = LayerViewer::join(rig).await;
    // Nothing is known of its path: it begins with the middle layer, and stays there.
    let middle = layers[layers.len() / 2].size.1;
    sees(&viewer, middle).await;
    goes_on(&viewer).await;
    let before = (rig.counter("keyframe_requests_sent"), asked());
    let mut expected = vec![middle];
    let highest = layers.len() - 1;
    // From the largest to the smallest, and back step by step.
    for place in [0, highest].into_iter().chain((0..highest).rev()) {
        let layer = &layers[place];
        viewer.pin(layer.rid).await;
        sees(&viewer, layer.size.1).await;
        goes_on(&viewer).await;
        expected.push(layer.size.1);
        let told = viewer.layer().await;
        assert_eq!(
            (&told["rid"], &told["height"], &told["reason"]),
            (&layer.rid.into(), &layer.size.1.into(), &"limit".into())
        );
    }
    assert_eq!(
        viewer.heights(),
        expected,
        "it sees what it has chosen, and nothing else"
    );
    viewer.check();
    let after = (rig.counter("keyframe_requests_sent"), asked());
    assert_eq!(before, after, "a change costs no keyframe request");
    assert_eq!(rig.counter("runs_failed"), 0);
}

async fn a_viewer_changes_between_layers_of_a_browser() {
    let rig = Rig::start(Detours::default()).await;
    let layers = LayerSet::new(SenderKind::Browser, 3);
    let publisher = LayeredPublisher::start(&rig, layers, &[]);
    let asked = || publisher.keyframe_requests();
    change_between_all(&rig, &Listed::all_of(layers), asked).await;
    publisher.leave().await;
    rig.stop().await;
}

/// It lists the largest first, ignores keyframe requests, and refuses an answer that does not have all of its layers.
async fn a_viewer_changes_between_layers_of_obs() {
    let rig = Rig::start(Detours::default()).await;
    let layers = LayerSet::new(SenderKind::Obs, 4);
    let publisher = LayeredPublisher::start(&rig, layers, &[]);
    let asked = || publisher.keyframe_requests();
    change_between_all(&rig, &Listed::all_of(layers), asked).await;
    publisher.leave().await;
    rig.stop().await;
}

async fn a_viewer_changes_between_layers_of_h264() {
    let rig = Rig::start(Detours::default()).await;
    let layer = |rid, size, bytes| H264Layer { rid, size, bytes };
    let layers = [
        layer("q", (320, 192), 250),
        layer("h", (640, 384), 900),
        layer("f", (1_280, 768), 3_000),
    ];
    let folder = tempfile::tempdir().unwrap();
    let source = h264_source(folder.path(), &layers);
    let publisher = Publisher::connect_layered(&rig.whip("live"), vec![source], None)
        .await
        .unwrap();
    assert_eq!(publisher.accepted_layers(), ["q", "h", "f"]);
    let expected = layers.iter().rev().map(|layer| Listed {
        rid: layer.rid,
        size: layer.size,
        // 29 frames a second, and a keyframe of four times their size.
        rate: layer.bytes as f64 * 8.0 * 33.0,
    });
    let expected: Vec<Listed> = expected.collect();
    let asked = || publisher.counts().keyframe_requests.load(Ordering::Relaxed);
    change_between_all(&rig, &expected, asked).await;
    publisher.close().await;
    rig.stop().await;
}

/// Whether a layer is sent, and its viewers.
async fn state_of(rig: &Rig, rid: &str) -> (bool, u64) {
    let layers = listed(rig).await;
    let layer = layers.into_iter().find(|layer| layer["rid"] == rid).unwrap_or_default();
    (layer["live"] == true, layer["viewers"].as_u64().unwrap_or_default())
}

/// Waits until a layer is sent or not, and has so many viewers.
async fn becomes(rig: &Rig, rid: &str, expected: (bool, u64)) {
    for _ in 0..200 {
        if state_of(rig, rid).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{rid}: {expected:?} is not {:?}", state_of(rig, rid).await);
}

async fn viewers_have_a_picture_while_an_announced_layer_is_never_sent() {
    let rig = Rig::start(Detours::default()).await;
    let publisher = LayeredPublisher::start(&rig, LayerSet::new(SenderKind::Browser, 3), &["f"]);
    for (rid, expected) in [("q", (true, 0)), ("h", (true, 0)), ("f", (false, 0))] {
        becomes(&rig, rid, expected).await;
    }
    let [pinned, limited, automatic] = [
        LayerViewer::join(&rig).await,
        LayerViewer::join(&rig).await,
        LayerViewer::join(&rig).await,
    ];
    // A layer that is silent now is no reason to refuse it.
    pinned.pin("f").await;
    assert_eq!(limited.choose(&json!({ "maxHeight": 720 })).await, 200);
    let viewers = [&pinned, &limited, &automatic];
    for viewer in viewers {
        until("video", || viewer.frames() >= 60).await;
        assert!(viewer.height().is_some_and(|height| height <= 360));
    }
    // It comes after all, and only the viewer that chose it changes.
    publisher.set_active("f", true);
    sees(&pinned, 720).await;
    goes_on(&pinned).await;
    becomes(&rig, "f", (true, 1)).await;
    for viewer in viewers {
        viewer.check();
        let gap = viewer.longest_gap();
        assert!(gap < GAP_MAX, "{gap:?}");
    }
    publisher.leave().await;
    rig.stop().await;
}

async fn viewers_of_a_layer_that_stops_fall_to_the_best_of_the_others_and_come_back() {
    let rig = Rig::start(Detours {
        shards: 2,
        ..Detours::default()
    })
    .await;
    let layers = LayerSet::new(SenderKind::Browser, 3);
    let publisher = LayeredPublisher::start(&rig, layers, &[]);
    are_listed(&rig, &Listed::all_of(layers)).await;
    let mut viewers = Vec::new();
    for rid in ["q", "h", "f", "f"] {
        let viewer = LayerViewer::join(&rig).await;
        sees(&viewer, 360).await;
        viewer.pin(rid).await;
        viewers.push(viewer);
    }
    let all_see = async |heights: [u16; 4]| {
        for (viewer, height) in viewers.iter().zip(heights) {
            sees(viewer, height).await;
        }
        for viewer in &viewers {
            goes_on(viewer).await;
        }
        let seen: Vec<_> = viewers.iter().map(LayerViewer::height).collect();
        assert_eq!(seen, heights.map(Some));
    };
    all_see([180, 360, 720, 720]).await;
    // The top stops, then the one below as well; then both come back, and at last the lowest stops and comes back. The second viewer began
    // with what it chose.
    for (changes, heights, why) in [
        (&[("f", false)][..], [180, 360, 360, 360], ["limit", "start", "gone"]),
        (&[("h", false)], [180, 180, 180, 180], ["limit", "gone", "gone"]),
        (&[("h", true), ("f", true)], [180, 360, 720, 720], ["limit"; 3]),
        (&[("q", false)], [360, 360, 720, 720], ["gone", "limit", "limit"]),
        (&[("q", true)], [180, 360, 720, 720], ["limit"; 3]),
    ] {
        for (rid, is_active) in changes {
            publisher.set_active(rid, *is_active);
        }
        all_see(heights).await;
        for (viewer, why) in viewers.iter().zip(why) {
            assert_eq!(viewer.layer().await["reason"], why, "{changes:?}");
        }
    }
    for viewer in &viewers {
        viewer.check();
        let gap = viewer.longest_gap();
        assert!(gap < GAP_MAX, "{gap:?}");
    }
    publisher.leave().await;
    rig.stop().await;
}

/// The longest time between two packets when a layer stops, which is noticed after 400 ms; keyframes come every 2 s.
const GAP_MAX: Duration = Duration::from_millis(1_500);

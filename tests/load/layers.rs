//! Loads with layers: publishers as browsers and OBS are, and viewers behind different paths.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onecast_clients::load::layers::{LayerSet, SenderKind};
use onecast_clients::load::solo::{SoloConfig, SoloPublisher};
use onecast_control::port::{Service as _, StreamStatus};
use onecast_testing::{Tests, tests};

use super::servers::Own;
use super::{loaded, number};

pub(crate) fn tests() -> Tests {
    tests![
        the_layers_of_a_browser_are_found_and_ranked,
        the_four_layers_of_obs_are_found_and_ranked,
        viewers_are_sent_the_layers_that_their_paths_carry,
    ]
}

async fn the_layers_of_a_browser_are_found_and_ranked() {
    let layers = LayerSet::new(SenderKind::Browser, 3);
    found_and_ranked(layers, &[("f", 720), ("h", 360), ("q", 180)]).await;
}

/// It numbers its layers from the largest down, and their rates fall evenly.
async fn the_four_layers_of_obs_are_found_and_ranked() {
    let layers = LayerSet::new(SenderKind::Obs, 4);
    found_and_ranked(layers, &[("0", 1_080), ("1", 810), ("2", 540), ("3", 270)]).await;
}

async fn found_and_ranked(layers: LayerSet, expected: &[(&str, u16)]) {
    let server = Own::start().await;
    let mut config = SoloConfig::new(&server.url("whip"));
    // The server measures them all the same.
    config.layers = layers.scaled(0.3);
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = is_over.clone();
    let publisher = tokio::task::spawn_blocking(move || {
        let mut publisher = SoloPublisher::connect(&config).unwrap();
        let is_over = |_: &_| ends.load(Ordering::Relaxed);
        publisher.send_until(Duration::from_secs(30), is_over).unwrap();
        publisher.close();
    });
    let is_expected = |stream: &StreamStatus| {
        let known = stream.layers.iter().map(|watched| {
            let layer = watched.layer;
            (
                layer.rid,
                layer.facts.size.map(|(_, height)| height),
                layer.facts.is_live,
            )
        });
        let rates = stream.layers.iter().map(|watched| watched.layer.facts.rate);
        let all = expected.iter().map(|(rid, height)| (*rid, Some(*height), true));
        rates.is_sorted_by(|one, other| one > other)
            && known.clone().count() == expected.len()
            && known
                .zip(all)
                .all(|((rid, height, live), expected)| (rid.as_deref().unwrap_or_default(), height, live) == expected)
    };
    let mut seen = Vec::new();
    for _ in 0..200 {
        seen = server.app().streams();
        if seen.first().is_some_and(is_expected) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(seen.first().is_some_and(is_expected), "{seen:?}");
    is_over.store(true, Ordering::Relaxed);
    publisher.await.unwrap();
    server.stop().await;
}

async fn viewers_are_sent_the_layers_that_their_paths_carry() {
    let server = Own::start().await;
    let arguments = [
        "--viewers",
        "6",
        "--layers",
        "3",
        "--for",
        "12s",
        "--paths",
        "20:50%,0.7:50%",
    ];
    let (code, report, words) = loaded(&server, &arguments).await;
    assert_eq!(code, Some(0), "{words} {report}");
    assert!(number(&report, "/paths/0/layers/2/share") > 0.3, "{report}");
    // 2.5 Mbit/s do not fit.
    assert!(number(&report, "/paths/1/layers/2/share") < 0.1, "{report}");
    assert!(number(&report, "/paths/1/mean_layer") >= 1.0, "{report}");
    assert!(number(&report, "/paths/1/frozen_share") < 0.6, "{report}");
    server.stop().await;
}

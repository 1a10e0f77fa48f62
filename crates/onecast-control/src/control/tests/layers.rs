//! Viewers choose among the layers of their stream.

use std::time::Duration;

use onecast_engine::fanout::{Command, Event};
use onecast_engine::media::{LayerFacts, LayerIndex, LayerReason};
use onecast_rtc::rtp::Codec;

use super::Bench;
use super::bench::{LIMITS, as_publisher, as_viewer, id};
use crate::effect::Effect;
use crate::layers::{LayerChoice, ViewerLayer};
use crate::refusal::{Refusal, RefusalKind};
use crate::registry::{Limits, SessionLimits};
use crate::whep_events::{EventSet, EventStreamId, NewEvents};

/// Three layers: q, h and f.
const SIMULCAST: &str = include_str!("../../../../../tests/data/layers/chromium156-vp8-simulcast.offer.sdp");
const WATCH: &str = include_str!("../../../../../tests/data/layers/chromium156-watch.offer.sdp");

/// A publisher of these layers, with its sizes known.
fn go_live(bench: &mut Bench, number: u128, order: &str) {
    let offer = SIMULCAST.replace("send q;h;f", &format!("send {order}"));
    bench
        .join(number, "live", Some("studio"), |control, now, join| {
            control.handle_publish(now, join, as_publisher(&offer))
        })
        .unwrap();
    bench.connect(number);
    bench.send(number, Codec::Vp8);
    for (rid, place) in order.split(';').zip(0..) {
        write(bench, number, place, size(rid), 1_000_000);
    }
    bench.log();
}

fn size(rid: &str) -> (u16, u16) {
    match rid {
        "q" => (320, 180),
        "h" => (640, 360),
        _ => (1280, 720),
    }
}

/// A layer is sent at this rate, bits per second, or not any more.
fn write(bench: &Bench, publisher: u128, place: u8, size: (u16, u16), rate: u32) {
    let facts = LayerFacts {
        size: Some(size),
        rate,
        frame_rate: 30,
        is_live: rate > 0,
        ..LayerFacts::default()
    };
    let tracks = &bench.at_shards[&id(publisher)].plan.sources[0].tracks;
    tracks.video.layers().write(LayerIndex::new(place), &facts);
}

fn watch(bench: &mut Bench, number: u128) {
    bench
        .join(number, "live", None, |control, now, join| {
            control.handle_watch(now, join, as_viewer(WATCH))
        })
        .unwrap();
    bench.connect(number);
    bench.log();
}

fn rid(rid: &str) -> LayerChoice {
    LayerChoice {
        rid: Some(rid.into()),
        ..LayerChoice::default()
    }
}

fn at_most(height: u16) -> LayerChoice {
    LayerChoice {
        max_height: Some(height),
        ..LayerChoice::default()
    }
}

fn choose(bench: &mut Bench, viewer: u128, choice: &LayerChoice) -> Result<(), Refusal> {
    bench.call(|control, now| control.handle_choose_layer(now, id(viewer), choice))
}

fn viewer_layer(bench: &Bench, viewer: u128) -> Option<ViewerLayer> {
    let number = bench.control.registry.number(id(viewer)).unwrap();
    bench.control.session(bench.now, number).unwrap().layer
}

#[test]
fn a_choice_reaches_the_shards_as_a_newer_plan() {
    let mut bench = Bench::new();
    go_live(&mut bench, 1, "q;h;f");
    watch(&mut bench, 2);
    choose(&mut bench, 2, &rid("f")).unwrap();
    assert_eq!(bench.log(), ["plan 1 of 2: Some(2) None"]);
    choose(&mut bench, 2, &rid("f")).unwrap();
    bench.assert_quiet();
    choose(&mut bench, 2, &at_most(360)).unwrap();
    assert_eq!(bench.log(), ["plan 2 of 2: None Some(360)"]);
    choose(&mut bench, 2, &LayerChoice::default()).unwrap();
    assert_eq!(bench.log(), ["plan 3 of 2: None None"]);
}

#[test]
fn a_layer_that_does_not_exist_is_refused_with_those_that_do() {
    let mut bench = Bench::new();
    go_live(&mut bench, 1, "q;h;f");
    watch(&mut bench, 2);
    // A known layer may be silent.
    write(&bench, 1, 2, size("f"), 0);
    choose(&mut bench, 2, &rid("f")).unwrap();
    bench.log();
    let refused = choose(&mut bench, 2, &rid("x")).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::Conflict);
    // As they are listed everywhere, the largest first.
    let known = ["f", "h", "q"].map(str::to_owned).into();
    assert_eq!(refused, Refusal::UnknownLayer { known });
    assert_eq!(choose(&mut bench, 1, &rid("f")), Err(Refusal::UnknownSession));
    assert_eq!(choose(&mut bench, 3, &rid("f")), Err(Refusal::UnknownSession));
    bench.control.set_shards_busy(true);
    assert_eq!(choose(&mut bench, 2, &rid("q")), Err(Refusal::Overloaded));
    bench.assert_quiet();
    assert_eq!(
        viewer_layer(&bench, 2).unwrap().rid.as_deref(),
        Some("f"),
        "the choice before still counts"
    );
}

#[test]
fn a_viewer_may_not_keep_the_shards_busy_with_choices() {
    let mut bench = Bench::new();
    go_live(&mut bench, 1, "q;h;f");
    watch(&mut bench, 2);
    let mut heights = 1..;
    let mut taken = |bench: &mut Bench| {
        let chosen = heights.by_ref().map(|height| choose(bench, 2, &at_most(height)));
        chosen.take_while(Result::is_ok).count()
    };
    assert_eq!(taken(&mut bench), 10);
    bench.pass(Duration::from_millis(999));
    assert_eq!(taken(&mut bench), 1);
    bench.pass(Duration::from_millis(1));
    assert_eq!(taken(&mut bench), 1);
    bench.pass(Duration::from_secs(60));
    assert_eq!(taken(&mut bench), 10);
    assert_eq!(choose(&mut bench, 2, &rid("f")), Err(Refusal::TooManyChoices));
}

#[test]
fn a_choice_by_name_outlives_the_publisher() {
    let mut bench = Bench::new();
    go_live(&mut bench, 1, "q;h;f");
    watch(&mut bench, 2);
    choose(&mut bench, 2, &rid("f")).unwrap();
    bench.log();
    // The same names in another order.
    go_live(&mut bench, 3, "f;h;q");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.log(), ["plan 2 of 2: Some(0) None"]);
    bench.pass(Duration::from_secs(5));
    bench.assert_quiet();
    // A publisher without names, and one with them again.
    bench.publish(4, "live", Some("studio")).unwrap();
    bench.connect(4);
    bench.log();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.log(), ["plan 3 of 2: None None"]);
    assert_eq!(
        choose(&mut bench, 2, &rid("q")),
        Err(Refusal::UnknownLayer { known: vec![] })
    );
    go_live(&mut bench, 5, "q;h;f");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.log(), ["plan 4 of 2: Some(2) None"]);
}

#[test]
fn viewers_without_a_choice_are_subject_to_the_servers_limit() {
    let mut bench = Bench::with(Limits {
        sessions: SessionLimits {
            layers_max_height: Some(360),
            ..LIMITS.sessions
        },
        ..LIMITS
    });
    go_live(&mut bench, 1, "q;h;f");
    watch(&mut bench, 2);
    let first = &bench.at_shards[&id(2)].plan;
    assert_eq!((first.number, first.subscriptions[0].limit.max_height), (0, Some(360)));
    choose(&mut bench, 2, &rid("f")).unwrap();
    choose(&mut bench, 2, &LayerChoice::default()).unwrap();
    assert_eq!(
        bench.log(),
        ["plan 1 of 2: Some(2) None", "plan 2 of 2: None Some(360)"]
    );
}

#[test]
fn a_choice_before_the_answer_counts_in_the_first_plan() {
    let mut bench = Bench::new();
    go_live(&mut bench, 1, "q;h;f");
    bench
        .join(2, "live", None, |control, now, join| {
            control.handle_counter_offer(now, join).map(drop)
        })
        .unwrap();
    choose(&mut bench, 2, &rid("h")).unwrap();
    bench.pass(Duration::from_secs(2));
    bench.assert_quiet();
    let limit = bench.call(|control, _| control.registry.layer_limit(id(2)));
    assert_eq!(limit.pin, Some(LayerIndex::new(1)));
}

#[test]
fn spatial_layers_of_one_encoding_are_chosen_by_their_names() {
    let mut bench = Bench::new();
    let is_plain = |line: &&str| !line.starts_with("a=rid:") && !line.starts_with("a=simulcast:");
    let offer: String = SIMULCAST.split_inclusive('\n').filter(is_plain).collect();
    bench
        .join(1, "live", Some("studio"), |control, now, join| {
            control.handle_publish(now, join, as_publisher(&offer))
        })
        .unwrap();
    bench.connect(1);
    bench.send(1, Codec::Vp9);
    write(&bench, 1, 0, size("f"), 1_000_000);
    watch(&mut bench, 2);
    let unknown = Refusal::UnknownLayer { known: Vec::new() };
    assert_eq!(choose(&mut bench, 2, &rid("S0")), Err(unknown));
    for (place, spatial) in [(1, 0), (2, 1)] {
        let facts = LayerFacts {
            is_live: true,
            part: Some(spatial),
            ..LayerFacts::default()
        };
        let tracks = &bench.at_shards[&id(1)].plan.sources[0].tracks;
        tracks.video.layers().write(LayerIndex::new(place), &facts);
    }
    for (name, place) in [("S0", 1), ("S1", 2), ("S2", 0)] {
        choose(&mut bench, 2, &rid(name)).unwrap();
        assert_eq!(viewer_layer(&bench, 2).unwrap().limit.pin, Some(LayerIndex::new(place)));
    }
}

#[test]
fn the_operator_sees_which_layer_a_viewer_is_sent_and_why() {
    let mut bench = Bench::new();
    go_live(&mut bench, 1, "q;h;f");
    watch(&mut bench, 2);
    assert_eq!(viewer_layer(&bench, 1), None);
    assert_eq!(viewer_layer(&bench, 2), Some(ViewerLayer::default()));
    let stream = bench.at_shards[&id(1)].plan.sources[0].tracks.key;
    for (place, reason) in [
        (1, LayerReason::Start),
        (0, LayerReason::Path),
        (2, LayerReason::Recovered),
    ] {
        for session in [1, 2, 9].map(id) {
            let layer = LayerIndex::new(place);
            bench.event(Event::Layer {
                session,
                stream,
                layer,
                reason,
            });
        }
    }
    let layer = viewer_layer(&bench, 2).unwrap();
    let (sent, reason) = layer.sent.unwrap();
    assert_eq!((sent.rid.as_deref(), sent.facts.size), (Some("f"), Some((1280, 720))));
    assert_eq!((reason, layer.switches), (LayerReason::Recovered, 2));
    assert_eq!(viewer_layer(&bench, 1), None);
}

#[test]
fn streams_list_their_layers_with_and_without_simulcast() {
    let mut bench = Bench::new();
    go_live(&mut bench, 1, "q;h;f");
    bench.publish(2, "plain", None).unwrap();
    bench.connect(2);
    let listed = |bench: &Bench| {
        let streams = bench.control.streams(bench.now).into_iter();
        let layers = streams.map(|stream| {
            let layers = stream.layers.into_iter().map(|watched| watched.layer);
            layers.map(|layer| layer.rid.map(|rid| rid.to_string())).collect()
        });
        layers.collect::<Vec<Vec<Option<String>>>>()
    };
    let named = ["f", "h", "q"].map(|rid| Some(rid.to_owned())).to_vec();
    assert_eq!(listed(&bench), [named.clone(), vec![]]);
    write(&bench, 2, 0, (1280, 720), 1_000_000);
    assert_eq!(listed(&bench), [named, vec![None]]);
}

/// The layers in the changes that followers learn of: rid, rate, and whether it is live.
fn announced(bench: &mut Bench, time: Duration) -> Vec<String> {
    let mut announced = Vec::new();
    bench.now.instant += time;
    bench.control.handle_timeout(bench.now);
    while let Some(effect) = bench.control.poll_effect() {
        if let Effect::Audience(_, audience) = effect {
            let layers = audience.layers.iter();
            let layers = layers.map(|layer| format!("{} {}", &*layer.rid.unwrap(), layer.facts.rate / 1_000));
            announced.push(layers.collect::<Vec<_>>().join(", "));
        }
    }
    announced
}

#[test]
fn followers_learn_of_layers_within_a_second() {
    let second = Duration::from_secs(1);
    let mut bench = Bench::new();
    go_live(&mut bench, 1, "q;h;f");
    watch(&mut bench, 2);
    let new = NewEvents {
        id: EventStreamId::from_random([1; 16]),
        jitter: 0,
    };
    bench
        .call(|control, now| control.handle_open_events(now, id(2), EventSet::all(), new))
        .unwrap();
    let (_, _, video_line) = bench.call(|control, _| control.events_of(new.id)).unwrap();
    assert!(video_line.is_some());
    bench.log();
    assert_eq!(announced(&mut bench, second), [""; 0]);
    write(&bench, 1, 2, size("f"), 1_100_000);
    assert_eq!(announced(&mut bench, second), [""; 0]);
    write(&bench, 1, 2, size("f"), 1_300_000);
    assert_eq!(announced(&mut bench, second), ["f 1300, h 1000, q 1000"]);
    write(&bench, 1, 2, size("f"), 0);
    assert_eq!(announced(&mut bench, second), ["f 0, h 1000, q 1000"]);
    assert_eq!(announced(&mut bench, second), [""; 0]);
}

#[test]
fn plans_of_viewers_go_to_every_shard_by_the_same_command_as_those_of_members() {
    let mut bench = Bench::new();
    go_live(&mut bench, 1, "q;h;f");
    watch(&mut bench, 2);
    bench.control.handle_choose_layer(bench.now, id(2), &rid("h")).unwrap();
    let Some(Effect::Command(Command::Plan(session, plan))) = bench.control.poll_effect() else {
        panic!("a plan");
    };
    assert_eq!((session.id, plan.number, plan.subscriptions.len()), (id(2), 1, 1));
    let [before, after] = [&session.plan, &*plan].map(|plan| &plan.subscriptions[0]);
    assert_eq!(before.tracks.key, after.tracks.key);
    assert_eq!((&before.audio, &before.video), (&after.audio, &after.video));
}

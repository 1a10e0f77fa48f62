//! A server that is about to stop.

use std::time::Duration;

use onecast_rtc::rtp::Codec;

use super::Bench;
use super::bench::id;
use crate::drain::DrainOrder;
use crate::port::{Condition, Protocol};
use crate::refusal::Refusal;
use crate::whep_events::{EventSet, EventStreamId, NewEvents};

#[test]
fn a_drain_keeps_its_clients_and_accepts_no_new_ones() {
    let mut bench = Bench::new();
    bench.go_live(1, "live", None);
    bench.watch(2, "live").unwrap();
    let wanted = EventSet::of_names(["reconnect"]).unwrap();
    let new = NewEvents {
        id: EventStreamId::from_random([7; 16]),
        jitter: 7,
    };
    bench
        .call(|control, now| control.handle_open_events(now, id(2), wanted, new))
        .unwrap();
    bench.log();
    let order = DrainOrder {
        to: Some("https://b.example.org".parse().unwrap()),
        timeout: Some(Duration::from_secs(60)),
    };
    bench.call(|control, now| control.handle_drain(now, order));
    assert_eq!(
        bench.log(),
        ["draining 2", "reconnect to https://b.example.org/whep/live"]
    );
    assert_eq!(bench.publish(3, "other", None), Err(Refusal::Draining));
    assert_eq!(bench.watch(3, "live"), Err(Refusal::Draining));
    assert_eq!(bench.participate(3, "room", true), Err(Refusal::Draining));
    bench.assert_quiet();
    // A client in the middle of its handshake may finish it.
    bench.connect(2);
    bench.send(1, Codec::Vp8);
    let now = bench.now;
    assert_eq!(bench.control.condition(now), Condition::Draining);
    assert_eq!(bench.control.streams(now)[0].viewers, 1);
    bench.pass(Duration::from_secs(10));
    assert!(bench.log().contains(&"draining 2".to_owned()));
    for (number, protocol) in [(1, Protocol::Whip), (2, Protocol::Whep)] {
        bench
            .call(|control, now| control.handle_close(now, id(number), protocol))
            .unwrap();
    }
    let state = bench.control.drain_state(bench.now).unwrap();
    assert_eq!((state.sessions, state.left), (0, Some(Duration::from_secs(50))));
}

#[test]
fn a_drain_order_without_news_tells_clients_nothing() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.call(|control, now| control.handle_drain(now, DrainOrder::default()));
        assert_eq!(bench.log(), ["draining 0"]);
    }
}

#[test]
fn a_server_that_stops_refuses_all_clients() {
    let mut bench = Bench::new();
    bench.call(|control, _| control.handle_shutdown());
    assert_eq!(bench.log(), ["shutdown"]);
    assert_eq!(bench.watch(1, "live"), Err(Refusal::ShuttingDown));
    let now = bench.now;
    assert_eq!(bench.control.condition(now), Condition::Stopping);
}

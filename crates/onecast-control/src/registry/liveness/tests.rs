use super::super::testing::{Bench, NO_CREDENTIAL, id, ms, name};
use super::*;
use crate::conference::Program;
use crate::{SessionLimits, SessionNumber};
use onecast_rtc::rtp::Codec;

const VP8: Codec = Codec::Vp8;

#[test]
fn a_publisher_that_is_connected_is_not_live_before_its_media_comes() {
    let mut bench = Bench::new();
    bench.publish(1, NO_CREDENTIAL);
    assert_eq!(bench.liveness(), Liveness::Connected { silent: ms(0) });
    assert_eq!(bench.told(), (false, false), "it is about to send");
    bench.pass(ms(400));
    bench.send(1, VP8);
    assert_eq!((bench.liveness(), bench.told()), (Liveness::Live, (true, false)));
    assert_eq!(bench.silences, []);
}

#[test]
fn a_publisher_that_never_sends_is_silent_from_its_connection_on() {
    let mut bench = Bench::new();
    bench.publish(1, Some("studio"));
    bench.pass(ms(4_999));
    assert_eq!((bench.told(), bench.silences.len()), ((false, false), 0));
    bench.pass(ms(1));
    assert_eq!(bench.told(), (false, true));
    let change = SilenceChange {
        stream: name(),
        silent: ms(5_000),
        is_over: false,
    };
    assert_eq!(bench.silences, [change], "reported once");
    bench.pass(ms(60_000));
    assert_eq!(bench.silences.len(), 1);
    let state = bench.registry.streams(bench.now).remove(0);
    assert_eq!(state.liveness, Liveness::Connected { silent: ms(65_000) });
    assert!(state.since.is_some(), "it is connected all the same");
    let sessions = bench
        .registry
        .session(bench.now, Duration::from_secs(99), SessionNumber(1));
    assert_eq!(sessions.unwrap().silent, Some(ms(65_000)));
}

#[test]
fn a_publisher_that_stops_is_silent_after_five_seconds_and_live_with_its_next_packet() {
    // Whatever the moment between two readings at which it stops.
    for phase in [0, 1, 300, 500, 999] {
        let mut bench = Bench::new();
        bench.publish(1, NO_CREDENTIAL);
        bench.pass(ms(phase));
        for _ in 0..100 {
            bench.send(1, VP8);
            bench.pass(ms(33));
        }
        assert_eq!(bench.silences, []);
        bench.pass(ms(4_900));
        assert_eq!(bench.liveness(), Liveness::Live, "{phase}");
        bench.pass(ms(2_100));
        assert_eq!((bench.liveness().is_live(), bench.told()), (false, (false, true)));
        assert_eq!(bench.silences.len(), 1);
        // Readers see it at once, followers with the next check.
        bench.send(1, VP8);
        assert_eq!(bench.told(), (true, false));
        bench.pass(ms(1_000));
        let over = bench.silences.pop().unwrap();
        assert!(
            over.is_over && (ms(6_000)..ms(9_000)).contains(&over.silent),
            "{over:?}"
        );
        assert_eq!(bench.silences.len(), 1);
    }
}

#[test]
fn what_is_sent_rarely_is_live() {
    // Opus with DTX, a static screen, a time lapse.
    for every in [400, 1_000, 3_900] {
        let mut bench = Bench::new();
        bench.publish(1, NO_CREDENTIAL);
        for _ in 0..50 {
            bench.send(1, VP8);
            bench.pass(ms(every));
            assert_eq!(bench.liveness(), Liveness::Live, "each {every} ms");
        }
        assert_eq!(bench.silences, []);
    }
}

#[test]
fn a_silent_publisher_that_leaves_is_not_silent_any_more_and_the_next_has_a_silence_of_its_own() {
    let mut bench = Bench::new();
    bench.publish(1, NO_CREDENTIAL);
    bench.watch(9, &[], &[VP8]);
    bench.pass(ms(6_000));
    assert_eq!(bench.told(), (false, true));
    bench.registry.remove(bench.now, id(1));
    assert_eq!((bench.liveness(), bench.told()), (Liveness::Waiting, (false, false)));
    bench.publish(2, NO_CREDENTIAL);
    bench.send(2, VP8);
    bench.pass(ms(1_000));
    assert_eq!(bench.silences.len(), 1, "the first was never heard again");
    bench.pass(ms(7_000));
    assert_eq!(bench.silences.len(), 2);
}

#[test]
fn media_that_reaches_no_track_makes_no_stream_live() {
    let mut bench = Bench::new();
    bench.publish(1, NO_CREDENTIAL);
    let session = bench.registry.sessions.by_id[&id(1)].session.clone().unwrap();
    for _ in 0..10 {
        session.counters.rtp_bytes.add(1_000);
        bench.pass(ms(1_000));
        assert!(!bench.liveness().is_live());
    }
}

#[test]
fn a_stream_is_live_while_a_member_of_its_room_is_on_air_whatever_its_publisher_does() {
    let mut bench = Bench::new();
    bench.publish(1, NO_CREDENTIAL);
    bench.send(1, VP8);
    let program = |is_broadcast| Program {
        codecs: [None, Some(VP8)],
        is_broadcast,
    };
    let air = |bench: &mut Bench, program| bench.registry.set_program(bench.now, Duration::ZERO, &name(), program);
    air(&mut bench, Some(program(false)));
    bench.pass(ms(20_000));
    assert_eq!((bench.liveness(), bench.silences.len()), (Liveness::Live, 0));
    air(&mut bench, Some(program(true)));
    assert_eq!(
        bench.told(),
        (false, true),
        "what is on air is the silent publisher itself"
    );
    bench.pass(ms(1_000));
    assert_eq!(bench.silences.len(), 1);
    air(&mut bench, Some(program(false)));
    bench.pass(ms(2_000));
    assert_eq!((bench.told(), bench.silences.len()), ((true, false), 1));
    air(&mut bench, None);
    assert_eq!(bench.told(), (false, true));
}

#[test]
fn a_silent_publisher_is_idle_when_its_time_is_over_as_before() {
    let mut bench = Bench::with(SessionLimits {
        publisher_idle: Some(Duration::from_secs(60)),
        ..SessionLimits::default()
    });
    bench.publish(1, NO_CREDENTIAL);
    bench.pass(ms(59_000));
    assert_eq!(bench.registry.verdicts(bench.now + ms(1_000)).len(), 1);
}

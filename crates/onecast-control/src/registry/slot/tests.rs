use super::super::Purpose;
use super::super::testing::{Bench, NO_CREDENTIAL, Succeeded, id, ms};
use super::*;
use onecast_rtc::rtp::Codec;

/// A publisher that sent for a while, until now.
fn stopped(credential: Option<&str>) -> Bench {
    let mut bench = Bench::new();
    bench.publish(1, credential);
    for _ in 0..100 {
        bench.send(1, Codec::Vp8);
        bench.pass(ms(33));
    }
    bench
}

fn retry_after(refused: Refusal) -> Duration {
    match refused {
        Refusal::Taken { retry_after, .. } => retry_after,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_encoder_that_crashed_is_accepted_after_its_retry_time() {
    for phase in [0, 1, 250, 700, 999] {
        let mut bench = stopped(NO_CREDENTIAL);
        bench.pass(ms(phase));
        let wait = retry_after(bench.offer(2, NO_CREDENTIAL).unwrap_err());
        assert!(wait <= ms(3_000), "{wait:?}");
        bench.pass(wait);
        let admitted = bench.offer(2, NO_CREDENTIAL).unwrap();
        assert!(admitted.displaced.is_none() && !admitted.takes_over);
        bench.pass(ms(200));
        let Succeeded::Replaces { ended, silent } = bench.registry.succeed(bench.now, id(2)) else {
            panic!("it does not replace the dead one");
        };
        assert_eq!((ended.id, ended.purpose), (id(1), Purpose::Publish));
        assert!((ms(2_000)..ms(4_500)).contains(&silent), "{silent:?}");
        bench.connect(2);
        bench.send(2, Codec::Vp8);
        assert_eq!((bench.publisher(), bench.told()), (Some(id(2)), (true, false)));
        assert!(bench.registry.purpose(id(1)).is_none());
    }
}

#[test]
fn a_publisher_that_sends_is_never_replaced_however_rarely() {
    for every in [33, 400, 1_000, 1_900] {
        let mut bench = Bench::new();
        bench.publish(1, NO_CREDENTIAL);
        for _ in 0..40 {
            bench.send(1, Codec::Opus);
            for _ in 0..every / 100 {
                bench.pass(ms(100));
                assert!(bench.offer(2, NO_CREDENTIAL).is_err(), "each {every} ms");
            }
            bench.pass(ms(every % 100));
        }
    }
}

#[test]
fn an_offer_alone_ends_no_session() {
    let mut bench = stopped(NO_CREDENTIAL);
    bench.watch(9, &[], &[Codec::Vp8]);
    bench.pass(ms(10_000));
    bench.offer(2, NO_CREDENTIAL).unwrap();
    assert_eq!(bench.publisher(), Some(id(1)));
    // It never connects, or its answer cannot be made; the silent one goes on.
    bench.registry.remove(bench.now, id(2)).unwrap();
    bench.send(1, Codec::Vp8);
    assert_eq!((bench.publisher(), bench.told()), (Some(id(1)), (true, false)));
    assert_eq!(bench.registry.codecs(&"live".parse().unwrap())[1], Some(Codec::Vp8));
}

#[test]
fn a_publisher_that_sends_again_in_time_keeps_its_place() {
    let mut bench = stopped(NO_CREDENTIAL);
    bench.pass(ms(10_000));
    bench.offer(2, NO_CREDENTIAL).unwrap();
    bench.pass(ms(500));
    bench.send(1, Codec::Vp8);
    bench.pass(ms(500));
    assert!(matches!(bench.registry.succeed(bench.now, id(2)), Succeeded::Refused));
    assert_eq!(bench.publisher(), Some(id(1)));
    assert!(bench.registry.remove(bench.now, id(2)).is_some());
    assert_eq!(bench.told(), (true, false));
}

#[test]
fn a_successor_gets_the_place_of_one_that_leaves_meanwhile() {
    let mut bench = stopped(NO_CREDENTIAL);
    bench.pass(ms(10_000));
    bench.offer(2, NO_CREDENTIAL).unwrap();
    bench.registry.remove(bench.now, id(1)).unwrap();
    assert_eq!(bench.publisher(), Some(id(2)));
    assert!(matches!(bench.registry.succeed(bench.now, id(2)), Succeeded::Free));
    bench.connect(2);
    bench.send(2, Codec::Vp8);
    assert_eq!(bench.told(), (true, false));
}

#[test]
fn of_two_successors_the_first_has_five_seconds_to_connect() {
    let mut bench = stopped(NO_CREDENTIAL);
    bench.pass(ms(10_000));
    bench.offer(2, NO_CREDENTIAL).unwrap();
    bench.pass(ms(1_500));
    let wait = retry_after(bench.offer(3, NO_CREDENTIAL).unwrap_err());
    assert_eq!(wait, PUBLISHER_TIMEOUT - ms(1_500));
    bench.pass(wait);
    let displaced = bench.offer(3, NO_CREDENTIAL).unwrap().displaced;
    assert_eq!(displaced.map(|ended| (ended.id, ended.connected)), Some((id(2), None)));
    assert_eq!(bench.publisher(), Some(id(1)));
    assert!(matches!(
        bench.registry.succeed(bench.now, id(3)),
        Succeeded::Replaces { .. }
    ));
    assert_eq!(bench.publisher(), Some(id(3)));
}

#[test]
fn a_publisher_with_a_credential_keeps_its_place_from_all_others_however_silent() {
    let mut bench = stopped(Some("studio"));
    bench.pass(ms(50_000));
    for other in [NO_CREDENTIAL, Some("phone")] {
        let refused = bench.offer(2, other).unwrap_err();
        let Refusal::Taken { silent, since_unix, .. } = refused else {
            panic!("{refused:?}");
        };
        assert!(
            silent > Some(ms(49_000)) && since_unix.is_some(),
            "it is said why it is not live"
        );
    }
    let admitted = bench.offer(2, Some("studio")).unwrap();
    assert!(admitted.takes_over && admitted.displaced.is_some(), "at once");
}

#[test]
fn a_publisher_has_until_its_announced_timeout_to_connect() {
    let mut bench = Bench::new();
    bench.offer(1, NO_CREDENTIAL).unwrap();
    bench.pass(ms(1_200));
    let wait = retry_after(bench.offer(2, NO_CREDENTIAL).unwrap_err());
    assert_eq!(wait, PUBLISHER_TIMEOUT - ms(1_200));
    bench.pass(wait);
    assert!(bench.offer(2, NO_CREDENTIAL).unwrap().displaced.is_some());
}

#[test]
fn the_end_of_a_stream_is_the_end_of_a_successor_too() {
    let mut bench = stopped(NO_CREDENTIAL);
    bench.pass(ms(10_000));
    bench.offer(2, NO_CREDENTIAL).unwrap();
    let ends = bench.registry.of_stream(&"live".parse().unwrap(), false);
    assert_eq!(ends, [id(2), id(1)]);
    for id in ends {
        bench.registry.remove(bench.now, id).unwrap();
    }
    assert!(bench.registry.len() == 0);
}

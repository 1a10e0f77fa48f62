use super::super::testing::{Bench, NO_CREDENTIAL, id, ms, name};
use super::*;

const OPUS: [Codec; 1] = [Codec::Opus];

fn missing_of(bench: &Bench, number: u64) -> Vec<Codec> {
    let unix = std::time::Duration::from_secs(99);
    let state = bench
        .registry
        .session(bench.now, unix, crate::SessionNumber(number))
        .unwrap();
    state.missing.codecs().collect()
}

#[test]
fn an_early_viewer_without_the_codec_is_reported_once() {
    let mut bench = Bench::new();
    let connected = bench.watch(1, &OPUS, &[Codec::Vp8, Codec::Vp9]);
    assert!(connected.missing.is_empty());
    bench.watch(2, &OPUS, &[Codec::H264]);
    bench.publish(3, NO_CREDENTIAL);
    bench.send(3, Codec::Opus);
    bench.send(3, Codec::H264);
    assert_eq!(missing_of(&bench, 1), [Codec::H264]);
    assert_eq!((missing_of(&bench, 2), missing_of(&bench, 3)), (vec![], vec![]));
    let audience = bench.registry.audience(bench.now, &name());
    let of = |number| bench.registry.playable(id(number)).missing(audience.codecs);
    assert_eq!((of(1).is_empty(), of(2).is_empty()), (false, true));
    bench.pass(ms(10_000));
    let told = CodecMissing {
        stream: name(),
        codec: Codec::H264,
        viewers: 1,
        first: vec![1],
        offered: vec![Codec::Vp8, Codec::Vp9],
    };
    assert_eq!(bench.missing, [told]);
}

#[test]
fn a_change_of_codec_is_looked_at_again_in_both_directions() {
    let mut bench = Bench::new();
    bench.watch(1, &OPUS, &[Codec::Vp8]);
    bench.publish(2, NO_CREDENTIAL);
    for (codec, missing, told) in [
        (Codec::Vp8, vec![], 0),
        (Codec::H264, vec![Codec::H264], 1),
        (Codec::Vp8, vec![], 1),
        (Codec::Av1, vec![Codec::Av1], 2),
    ] {
        bench.send(2, codec);
        assert_eq!(missing_of(&bench, 1), missing);
        bench.pass(ms(1_000));
        assert_eq!(bench.missing.len(), told, "{codec}");
    }
    bench.registry.remove(bench.now, id(2));
    assert_eq!(missing_of(&bench, 1), [], "nothing is sent");
}

#[test]
fn codec_changes_are_reported_at_most_once_a_second() {
    let mut bench = Bench::new();
    bench.watch(1, &OPUS, &[Codec::Vp8]);
    bench.publish(2, NO_CREDENTIAL);
    for number in 0..1_000 {
        bench.send(2, [Codec::H264, Codec::Av1, Codec::Vp9][number % 3]);
        bench.pass(ms(10));
    }
    assert!(bench.missing.len() <= 10, "{}", bench.missing.len());
}

#[test]
fn of_a_crowd_the_first_are_named_and_the_others_counted() {
    let mut bench = Bench::new();
    for number in 1..=20 {
        bench.watch(number, &OPUS, &[Codec::Vp8]);
    }
    bench.publish(99, NO_CREDENTIAL);
    bench.send(99, Codec::H264);
    bench.pass(ms(1_000));
    let missing = bench.missing.remove(0);
    assert_eq!((missing.viewers, missing.first), (20, vec![1, 2, 3, 4, 5]));
    assert!(bench.missing.is_empty());
}

#[test]
fn a_late_viewer_without_the_codec_is_reported_as_it_connects() {
    let mut bench = Bench::new();
    bench.publish(1, NO_CREDENTIAL);
    bench.send(1, Codec::H264);
    bench.pass(ms(1_000));
    let connected = bench.watch(2, &OPUS, &[Codec::Vp8]);
    assert_eq!(connected.missing.codecs().collect::<Vec<_>>(), [Codec::H264]);
    bench.send(1, Codec::Opus);
    bench.pass(ms(2_000));
    assert_eq!(bench.missing, [], "and not again");
}

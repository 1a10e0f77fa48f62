//! Our offers, their answers, and offers of clients that cross them.

use super::*;

#[test]
fn the_others_do_not_see_a_member_before_it_has_connected() {
    let mut bench = Bench::with(1..=1);
    bench.join(2, person(), &MemberInfo::default(), true).unwrap();
    assert_eq!(bench.log, ["wake 2"]);
    assert_eq!(bench.next_offer(1), None);
    assert_eq!(bench.sends(2), ["m2.0 av"], "its own shard knows what it sends");
    let tracks = bench.next_offer(2).unwrap().tracks;
    assert_eq!(tracks.iter().map(|track| track.member.0).collect::<Vec<_>>(), [1, 1]);
    bench.connect(2);
    assert_eq!(bench.log, ["wake 2", "wake 1", "roster"]);
    let tracks = bench.next_offer(1).unwrap().tracks;
    let tracks: Vec<_> = tracks
        .iter()
        .map(|track| (&*track.mid, track.member.0, &*track.stream, track.kind))
        .collect();
    assert_eq!(tracks, [("s0", 2, "m2.0", Kind::Audio), ("s1", 2, "m2.0", Kind::Video)]);
}

#[test]
fn a_track_is_sent_once_its_offer_is_answered_and_not_before() {
    let mut bench = Bench::new();
    bench.come(1);
    bench.come(2);
    let offer = bench.next_offer(1).unwrap();
    assert_eq!(bench.sees(1), [""; 0]);
    bench.answer(1, &offer).unwrap();
    assert_eq!((bench.sees(1), bench.sees(2)), (vec!["m2.0 av".to_owned()], vec![]));
    assert_eq!(bench.next_offer(1), None);
}

#[test]
fn what_changes_while_an_offer_waits_is_gathered_into_the_next() {
    let mut bench = Bench::with(1..=2);
    bench.come(3);
    let first = bench.next_offer(1).unwrap();
    bench.log.clear();
    bench.come(4);
    bench.come(5);
    bench.leave(3);
    assert!(
        !bench.log.contains(&"wake 1".to_owned()),
        "it answers first: {:?}",
        bench.log
    );
    assert_eq!(bench.next_offer(1), None, "it was sent a moment ago");
    bench.answer(1, &first).unwrap();
    assert!(bench.log.contains(&"wake 1".to_owned()), "{:?}", bench.log);
    let next = bench.next_offer(1).unwrap();
    assert_eq!(next.number, first.number + 1);
    let members: Vec<u64> = next.tracks.iter().map(|track| track.member.0).collect();
    assert_eq!(members, [2, 2, 4, 4, 5, 5]);
    bench.answer(1, &next).unwrap();
    assert_eq!(
        (bench.next_offer(1), bench.sees(1)),
        (None, vec!["m2.0 av".into(), "m4.0 av".into(), "m5.0 av".into()])
    );
}

#[test]
fn an_offer_is_repeated_as_it_was_and_a_member_that_never_answers_is_ended() {
    let mut bench = Bench::with(1..=1);
    bench.come(2);
    let offer = bench.next_offer(1).unwrap();
    assert_eq!(bench.rooms.poll_timeout(), Some(bench.now + ms(30_000)));
    bench.wait(ms(1_999));
    assert_eq!(bench.next_offer(1), None);
    bench.wait(ms(1));
    bench.come(3);
    assert_eq!(bench.next_offer(1).unwrap(), offer, "the same, whatever has changed");
    bench.rooms.follow(bench.now, id(1)).unwrap();
    assert_eq!(bench.next_offer(1).unwrap(), offer, "on another way at once");
    bench.wait(ms(4_999));
    assert_eq!(bench.next_offer(1), None, "a socket loses nothing");
    bench.wait(ms(1));
    assert_eq!(bench.next_offer(1).unwrap(), offer);
    bench.wait(ms(22_999));
    assert_eq!(bench.ends, []);
    bench.wait(ms(1));
    assert_eq!(bench.ends, [(1, EndReason::Unanswered)]);
}

#[test]
fn an_offer_that_was_never_fetched_has_no_deadline() {
    let mut bench = Bench::with(1..=1);
    bench.come(2);
    assert_eq!(bench.rooms.poll_timeout(), None);
    bench.offer(1, &MemberInfo::default()).unwrap();
    bench.wait(ms(600_000));
    assert_eq!(bench.ends, []);
    assert!(bench.next_offer(1).is_some());
}

#[test]
fn answers_to_nothing_or_to_another_offer_are_refused_and_change_nothing() {
    let mut bench = Bench::with(1..=1);
    let answer = bench.clients[&1].offer();
    assert_eq!(bench.answer_with(1, Some(1), &answer), Err(Refusal::NothingToAnswer));
    assert_eq!(bench.answer_with(9, Some(1), &answer), Err(Refusal::UnknownSession));
    bench.come(2);
    let offer = bench.next_offer(1).unwrap();
    let number = offer.number;
    for other in [number - 1, number + 1] {
        let refused = bench.answer_with(1, Some(other), &answer);
        assert_eq!(refused, Err(Refusal::StaleAnswer { number }));
    }
    let short = bench.answer_with(1, Some(number), &answer);
    assert!(
        matches!(short, Err(Refusal::Sdp(SdpRefusal { unusable: true, .. }))),
        "{short:?}"
    );
    assert_eq!(bench.sees(1), [""; 0]);
    let good = bench.clients.get_mut(&1).unwrap().answer(&offer.sdp);
    bench.answer_with(1, None, &good).unwrap();
    assert_eq!(bench.sees(1), ["m2.0 av"], "an answer without a number is accepted");
    assert_eq!(bench.answer_with(1, Some(number), &good), Err(Refusal::NothingToAnswer));
}

#[test]
fn an_offer_that_crosses_ours_is_refused_until_ours_is_answered() {
    let mut bench = Bench::with(1..=1);
    bench.come(2);
    let offer = bench.next_offer(1).unwrap();
    let before = bench.clients[&1].clone();
    bench.clients.get_mut(&1).unwrap().add(Kind::Video, "screen");
    let refused = bench.offer(1, &MemberInfo::default());
    assert_eq!(refused, Err(Refusal::OfferPending { number: offer.number }));
    bench.clients.insert(1, before);
    bench.answer(1, &offer).unwrap();
    let client = bench.clients.get_mut(&1).unwrap();
    client.add(Kind::Video, "screen");
    bench.offer(1, &MemberInfo::default()).unwrap();
    assert_eq!(bench.sends(1), ["m1.0 av", "m1.1 v"]);
    assert_eq!(bench.sees(1), ["m2.0 av"]);
}

#[test]
fn a_flood_of_offers_is_refused_and_the_room_undisturbed() {
    let mut bench = Bench::with(1..=2);
    let answers: Vec<_> = (0..15).map(|_| bench.offer(1, &MemberInfo::default())).collect();
    assert!(answers[..10].iter().all(Result::is_ok));
    assert!(
        answers[10..]
            .iter()
            .all(|answer| *answer == Err(Refusal::TooManyOffers))
    );
    assert_eq!(bench.log, [""; 0], "nothing has changed");
    bench.offer(2, &MemberInfo::default()).unwrap();
    bench.wait(ms(500));
    bench.offer(1, &MemberInfo::default()).unwrap();
}

#[test]
fn another_certificate_is_refused_and_another_ice_session_is_for_a_restart() {
    let mut bench = Bench::with(1..=2);
    let offer = bench.clients[&1].offer();
    let mut offer = |from: &str, to: &str| {
        let other = offer.replacen(from, to, 100);
        let mut open = |_: &str| panic!("no new stream");
        let words = MemberInfo::default();
        let restart = IceRestart {
            ice: params().ice,
            start: &mut |theirs, _| {
                assert!(theirs.ufrag.starts_with("other"));
                Err(Refusal::RestartTooSoon)
            },
        };
        let said = (MemberDescription::read(&other), &words);
        bench.rooms.offer(bench.now, id(1), said, true, &mut open, restart)
    };
    assert_eq!(offer("BB:BB", "CC:BB"), Err(Refusal::OtherCertificate));
    let restarted = offer("a=ice-ufrag:them", "a=ice-ufrag:other");
    assert_eq!(restarted, Err(Refusal::RestartTooSoon));
    bench.offer(1, &MemberInfo::default()).unwrap();
    assert_eq!((bench.log.len(), bench.settle()), (0, 0));
}

#[test]
fn lines_whose_track_is_gone_are_used_again_with_their_mids() {
    let mut bench = Bench::with(1..=4);
    for newcomer in 5..25 {
        bench.leave(newcomer - 1);
        bench.come(newcomer);
        bench.settle();
        let lines = &bench.clients[&1].lines;
        assert!(lines.len() <= 2 + 2 * 6, "{} lines", lines.len());
        let served = lines.iter().filter(|line| line.mid.starts_with('s'));
        assert!(served.enumerate().all(|(place, line)| line.mid == format!("s{place}")));
    }
    assert_eq!(bench.sees(1), ["m2.0 av", "m3.0 av", "m24.0 av"]);
}

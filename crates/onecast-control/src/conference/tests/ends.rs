//! Members that leave.

use super::*;

#[test]
fn tracks_are_free_only_after_the_commands_that_end_them() {
    let mut bench = Bench::with(1..=3);
    bench.leave(1);
    let close = bench.log.iter().position(|line| line == "close m1.0").unwrap();
    let told = bench.log.iter().rposition(|line| line.starts_with("told")).unwrap();
    assert!(told < close, "{:?}", bench.log);
    assert_eq!(
        (bench.sees(2), bench.sees(3)),
        (vec!["m3.0 av".to_owned()], vec!["m2.0 av".to_owned()])
    );
    assert_eq!(bench.log.iter().filter(|line| line.starts_with("wake")).count(), 2);
}

#[test]
fn a_stream_that_ends_as_a_whole_comes_back_as_another() {
    let mut bench = Bench::with(1..=2);
    let switch = |bench: &mut Bench, on: bool| {
        let client = bench.clients.get_mut(&1).unwrap();
        let own = client.lines.iter_mut().filter(|line| !line.mid.starts_with('s'));
        own.for_each(|line| line.sends = on);
        bench.offer(1, &MemberInfo::default()).unwrap();
        bench.settle();
    };
    let lines = bench.clients[&2].lines.len();
    for time in 1..5 {
        switch(&mut bench, false);
        assert_eq!((bench.sends(1), bench.sees(2)), (vec![], vec![]));
        let closed = format!("close m1.{}", time - 1);
        assert!(bench.log.contains(&closed), "{:?}", bench.log);
        switch(&mut bench, true);
        assert_eq!(bench.sees(2), [format!("m1.{time} av")]);
        bench.wait(ms(2_000));
    }
    assert_eq!(bench.clients[&2].lines.len(), lines, "on the lines of the one before");
}

#[test]
fn nothing_is_left_when_all_have_left() {
    let mut bench = Bench::with(1..=4);
    (1..=4).for_each(|member| bench.leave(member));
    assert!(bench.rooms.roster(&Bench::name()).is_none());
    assert_eq!(
        (bench.rooms.poll_timeout(), bench.rooms.whereabouts(id(1))),
        (None, None)
    );
    assert_eq!(bench.maker.free_slots().count(), 4);
    assert_eq!(bench.rooms.next_offer(bench.now, id(1)), Err(Refusal::UnknownSession));
    bench.leave(1);
}

#[test]
fn a_member_that_leaves_before_the_shards_know_it_leaves_nothing() {
    let mut bench = Bench::with(1..=1);
    bench.join(2, person(), &MemberInfo::default(), true).unwrap();
    bench.leave(2);
    assert_eq!(bench.log, ["wake 2", "close m2.0"], "no other member knew it");
}

#[test]
fn a_member_whose_socket_breaks_has_ten_seconds_to_come_back() {
    let mut bench = Bench::with(1..=2);
    let first = bench.rooms.follow(bench.now, id(1)).unwrap();
    bench.rooms.unfollow(bench.now, id(1), first);
    bench.wait(ms(9_999));
    assert_eq!(bench.ends, []);
    let second = bench.rooms.follow(bench.now, id(1)).unwrap();
    assert_eq!(bench.rooms.poll_timeout(), None);
    bench.rooms.unfollow(bench.now, id(1), first);
    bench.wait(ms(60_000));
    assert_eq!(bench.ends, [], "another one follows in its place");
    bench.rooms.unfollow(bench.now, id(1), second);
    assert_eq!(bench.rooms.poll_timeout(), Some(bench.now + RESUME_TIMEOUT));
    bench.wait(RESUME_TIMEOUT);
    assert_eq!(bench.ends, [(1, EndReason::Unfollowed)]);
}

#[test]
fn calls_of_an_unknown_member_change_nothing() {
    let mut bench = Bench::with(1..=2);
    let key = bench.source(1, 0);
    let strange = StreamKey { serial: 999, ..key };
    bench.rooms.connected(bench.now, id(7));
    bench.rooms.speaking(bench.now, id(7), key, true);
    bench.rooms.speaking(bench.now, id(1), strange, true);
    bench.rooms.media(bench.now, id(1), strange, (Kind::Video, Codec::H264));
    bench.rooms.unfollow(bench.now, id(7), 1);
    let change = bench.rooms.change(bench.now, id(7), &Change::default());
    assert_eq!(change, Err(Refusal::UnknownSession));
    bench.wait(ms(100));
    assert_eq!(bench.log, [""; 0]);
}

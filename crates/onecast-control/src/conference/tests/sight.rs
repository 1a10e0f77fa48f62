//! Which members are seen and heard when not all can be, and what viewers of the room see.

use super::*;
use crate::conference::Broadcast;

#[test]
fn the_last_speaker_is_seen_and_all_are_heard() {
    let mut bench = Bench::with(1..=4);
    bench.change(
        1,
        Change {
            last_n: Some(2),
            ..Change::default()
        },
    );
    assert_eq!(bench.sees(1), ["m2.0 av", "m3.0 av", "m4.0 a"]);
    bench.log.clear();
    bench.speaks(4, true);
    assert_eq!(bench.sees(1), ["m2.0 av", "m3.0 a", "m4.0 av"]);
    assert!(
        !bench.log.iter().any(|line| line.starts_with("wake")),
        "no offer for it: {:?}",
        bench.log
    );
    bench.speaks(1, true);
    assert_eq!(
        bench.sees(1),
        ["m2.0 av", "m3.0 a", "m4.0 av"],
        "it does not see itself"
    );
    bench.speaks(3, true);
    assert_eq!(bench.sees(1), ["m2.0 a", "m3.0 av", "m4.0 av"]);
    assert_eq!(
        bench.sees(2),
        ["m1.0 av", "m3.0 av", "m4.0 av"],
        "its own wish, not that of the others"
    );
    bench.change(
        1,
        Change {
            last_n: Some(0),
            ..Change::default()
        },
    );
    assert_eq!(bench.sees(1), ["m2.0 a", "m3.0 a", "m4.0 a"]);
    assert_eq!(bench.settle(), 0);
}

#[test]
fn nine_are_seen_and_25_heard_by_default() {
    let bench = Bench::with(1..=28);
    let sees = bench.sees(1);
    let count = |text: &str| sees.iter().filter(|one| one.ends_with(text)).count();
    assert_eq!((sees.len(), count(" av"), count(" a")), (27, 9, 16));
    assert_eq!((&*sees[25], &*sees[26]), ("m27.0", "m28.0"));
}

#[test]
fn a_change_reaches_only_the_members_that_it_concerns() {
    let mut bench = Bench::with(1..=60);
    bench.speaks(1, true);
    bench.speaks(1, false);
    bench.log.clear();
    bench.speaks(1, true);
    bench.speaks(1, true);
    assert_eq!(bench.log, ["roster"], "it was first before");
}

#[test]
fn all_members_see_a_screen_regardless_of_the_speaker() {
    let mut bench = Bench::with(1..=3);
    let mut client = person();
    client.add(Kind::Video, "display");
    bench.join(4, client, &labels(&[("2", "screen")]), true).unwrap();
    bench.connect(4);
    bench.settle();
    bench.change(
        1,
        Change {
            last_n: Some(0),
            ..Change::default()
        },
    );
    assert_eq!(bench.sees(1), ["m2.0 a", "m3.0 a", "m4.0 a", "m4.1 v"]);
}

#[test]
fn viewers_see_the_active_speaker_which_stays_for_two_seconds() {
    let mut bench = Bench::new();
    bench.come(1);
    bench.come(2);
    assert_eq!(bench.on_air(), [1]);
    bench.speaks(2, true);
    assert_eq!(bench.on_air(), [1]);
    let due = bench.rooms.poll_timeout();
    assert_eq!(due, Some(bench.now + ms(2_000)));
    bench.wait(ms(1_999));
    assert_eq!(bench.on_air(), [1]);
    bench.wait(ms(1));
    assert_eq!(bench.on_air(), [2]);
    assert_eq!(bench.roster.as_ref().unwrap().speaker, Some(SessionNumber(2)));
    bench.wait(ms(1_000));
    bench.speaks(1, true);
    bench.speaks(2, true);
    bench.wait(ms(5_000));
    assert_eq!(bench.on_air(), [2], "it spoke last");
    assert_eq!(bench.rooms.poll_timeout(), None);
    bench.leave(2);
    assert_eq!(
        bench.on_air().first(),
        Some(&1),
        "a floor without a holder is given at once"
    );
    let codecs = bench.rooms.program(&Bench::name()).map(|program| program.codecs);
    assert_eq!(codecs, Some([Some(Codec::Opus), Some(Codec::Vp8)]));
}

#[test]
fn a_codec_that_turns_out_to_be_another_is_offered() {
    let mut bench = Bench::with(1..=2);
    let key = bench.source(1, 0);
    bench.rooms.media(bench.now, id(1), key, (Kind::Video, Codec::H264));
    bench.absorb();
    assert_eq!(bench.log[..1], ["wake 2"]);
    assert!(bench.next_offer(2).unwrap().sdp.contains("H264/90000"));
}

#[test]
fn the_active_speaker_takes_the_stream_back_from_a_broadcast_that_had_it_for_a_moment() {
    let mut bench = Bench::new();
    bench.come(1);
    let before = bench.told[&1].number;
    let publisher = broadcast(&bench, 9);
    let (now, maker) = (bench.now, &mut bench.maker);
    let mut open = |name: &str| maker.open(now, name);
    bench.rooms.broadcast(now, &Bench::name(), publisher, &mut open);
    bench.absorb();
    assert!(bench.told[&1].number > before, "though it is the same");
    let again = bench.told[&1].number;
    bench.speaks(1, true);
    assert_eq!(bench.told[&1].number, again);
    bench.leave(9);
    assert!(bench.told[&1].number > again);
}

#[test]
fn viewers_learn_what_changes_about_the_active_speaker() {
    let mut bench = Bench::with(1..=2);
    let key = bench.source(1, 0);
    bench.rooms.media(bench.now, id(1), key, (Kind::Video, Codec::H264));
    bench.absorb();
    assert!(bench.log.iter().any(|line| line.starts_with("air")), "{:?}", bench.log);
    let codecs = bench.rooms.program(&Bench::name()).map(|program| program.codecs);
    assert_eq!(codecs, Some([Some(Codec::Opus), Some(Codec::H264)]));
}

fn broadcast(bench: &Bench, number: u64) -> Broadcast {
    let client = person();
    let offer = client.offer();
    let offer = Offer::parse(&offer).unwrap();
    let ours = params();
    let params = AnswerParams {
        ice: &ours.ice,
        fingerprint: ours.fingerprint,
        candidates: &ours.candidates,
        session_id: 7,
        stream: "main",
    };
    let negotiated = offer.answer(Role::Publisher, &params).unwrap().negotiated;
    let plan = Plan::publish(bench.program.clone(), negotiated);
    let session = Session::new(
        id(number),
        ours.ice.clone(),
        offer.remote().clone(),
        Direction::SendOnly,
        plan,
        bench.now,
    );
    Broadcast {
        session: Arc::new(session),
        number: SessionNumber(number),
        since_unix: Duration::from_secs(number),
        codecs: [None, Some(Codec::Vp8)],
    }
}

#[test]
fn a_broadcast_is_in_the_room_of_its_name_and_out_of_it_again() {
    let mut bench = Bench::new();
    let publisher = broadcast(&bench, 9);
    let name = Bench::name();
    bench
        .rooms
        .broadcast(bench.now, &name, publisher.clone(), &mut |_| panic!("there is no room"));
    bench.come(1);
    let (now, maker) = (bench.now, &mut bench.maker);
    bench
        .rooms
        .broadcast(now, &name, publisher.clone(), &mut |name| maker.open(now, name));
    bench
        .rooms
        .broadcast(now, &name, publisher, &mut |_| panic!("it is there already"));
    bench.absorb();
    bench.settle();
    assert_eq!(bench.sees(1), ["m9.0 av"]);
    let lift = bench.lifts.last().unwrap();
    assert_eq!(
        (
            bench.lifts.len(),
            lift.number,
            &*lift.sources[0].tracks.name,
            lift.sources[0].program.is_some()
        ),
        (1, 1, "m9.0", false)
    );
    assert!(bench.roster.as_ref().unwrap().members[1].broadcast);
    assert_eq!(bench.rooms.participants(&name), 1, "a broadcast is no participant");
    assert_eq!(bench.on_air(), [1], "the active speaker is to take it back");
    bench.speaks_as(9, true);
    bench.wait(ms(2_000));
    let lift = bench.lifts.last().unwrap().clone();
    assert_eq!(
        (lift.number, lift.sources[0].program.is_some(), bench.on_air()),
        (2, true, vec![])
    );
    bench.leave(9);
    assert_eq!((bench.on_air(), bench.settle()), (vec![1], 1));
    assert_eq!(bench.sees(1), [""; 0]);
}

#[test]
fn the_active_speaker_takes_the_stream_back_from_a_publisher_that_was_refused() {
    let mut bench = Bench::new();
    bench.come(1);
    let (now, name) = (bench.now, Bench::name());
    let before = bench.told[&1].number;
    bench.rooms.renew_program(now, &name);
    bench.absorb();
    assert!(bench.told[&1].number > before, "a member");
    let publisher = broadcast(&bench, 9);
    let maker = &mut bench.maker;
    let mut open = |name: &str| maker.open(now, name);
    bench.rooms.broadcast(now, &name, publisher, &mut open);
    bench.absorb();
    bench.settle();
    bench.speaks_as(9, true);
    bench.wait(ms(2_000));
    let lifts = bench.lifts.len();
    bench.rooms.renew_program(bench.now, &name);
    bench.absorb();
    assert_eq!(bench.lifts.len(), lifts + 1);
    let [.., before, again] = &bench.lifts[..] else {
        panic!()
    };
    assert!(
        again.number > before.number && again.sources[0].program.is_some(),
        "the broadcast of that name"
    );
}

impl Bench {
    /// A broadcast's publisher speaks.
    fn speaks_as(&mut self, member: u64, speaks: bool) {
        let key = self.lifts.last().unwrap().sources[0].tracks.key;
        self.rooms.speaking(self.now, id(member), key, speaks);
        self.absorb();
    }
}

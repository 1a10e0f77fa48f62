//! What members send: streams by their names, switched off and on, added, and refused.

use super::*;

fn line<'a>(bench: &'a mut Bench, member: u64, mid: &str) -> &'a mut onecast_rtc::sdp::negotiation::testing::Line {
    let client = bench.clients.get_mut(&member).unwrap();
    client.lines.iter_mut().find(|line| line.mid == mid).unwrap()
}

#[test]
fn lines_of_one_name_are_one_stream_and_others_are_others() {
    let mut bench = Bench::with(2..=2);
    let mut client = person();
    client.add(Kind::Video, "screen");
    client.add(Kind::Audio, "screen");
    client.add(Kind::Video, "cam");
    bench.join(1, client, &MemberInfo::default(), true).unwrap();
    bench.connect(1);
    bench.settle();
    assert_eq!(
        bench.sends(1),
        ["m1.0 av", "m1.1 av", "m1.2 v"],
        "a stream has one video"
    );
    assert_eq!(bench.sees(2), ["m1.0 av", "m1.1 av", "m1.2 v"]);
    let streams = &bench.told[&1].sources;
    let ssrcs: std::collections::BTreeSet<_> = streams
        .iter()
        .flat_map(|source| [&source.tracks.video, &source.tracks.audio])
        .map(|track| track.ssrc())
        .collect();
    assert_eq!(ssrcs.len(), 6);
}

#[test]
fn a_camera_that_is_switched_off_and_on_keeps_its_tracks_and_its_line() {
    let mut bench = Bench::with(1..=2);
    let tracks = bench.source(1, 0);
    for _ in 0..3 {
        line(&mut bench, 1, "1").sends = false;
        bench.offer(1, &MemberInfo::default()).unwrap();
        assert_eq!(bench.sends(1), ["m1.0 a"]);
        let shown = &bench.rooms.roster(&Bench::name()).unwrap().members[0].tracks;
        assert_eq!(shown.iter().map(|track| track.kind).collect::<Vec<_>>(), [Kind::Audio]);
        line(&mut bench, 1, "1").sends = true;
        bench.offer(1, &MemberInfo::default()).unwrap();
        assert_eq!(bench.settle(), 0, "no member needs an offer");
        assert_eq!(
            (bench.sees(2), bench.source(1, 0)),
            (vec!["m1.0 av".to_owned()], tracks)
        );
        bench.wait(ms(2_000));
    }
    assert_eq!(bench.clients[&2].lines.len(), 4, "the same line each time");
}

#[test]
fn a_line_that_gets_another_name_stays_the_stream_that_it_was() {
    let mut bench = Bench::with(1..=2);
    let tracks = bench.source(1, 0);
    line(&mut bench, 1, "0").stream = "other".into();
    line(&mut bench, 1, "1").stream = "other".into();
    bench.offer(1, &MemberInfo::default()).unwrap();
    assert_eq!(
        (bench.sends(1), bench.source(1, 0)),
        (vec!["m1.0 av".to_owned()], tracks)
    );
    assert_eq!(bench.log, [""; 0]);
}

#[test]
fn lines_are_switched_by_answers_too() {
    let mut bench = Bench::with(1..=2);
    line(&mut bench, 1, "1").sends = false;
    bench.come(3);
    bench.settle();
    assert_eq!(
        (bench.sends(1), bench.sees(2)),
        (vec!["m1.0 a".to_owned()], vec!["m1.0 av".into(), "m3.0 av".into()])
    );
}

#[test]
fn a_member_that_sends_too_many_streams_is_refused_and_keeps_what_it_had() {
    let mut bench = Bench::with(1..=2);
    for screen in 1..7 {
        let client = bench.clients.get_mut(&1).unwrap();
        client.add(Kind::Video, &format!("screen{screen}"));
        bench.offer(1, &MemberInfo::default()).unwrap();
        bench.settle();
    }
    let (sent, before) = (bench.sends(1), bench.clients[&1].clone());
    assert_eq!(sent.len(), 7, "eight lines");
    bench.log.clear();
    bench.clients.get_mut(&1).unwrap().add(Kind::Video, "one more");
    let refused = bench.offer(1, &MemberInfo::default());
    assert!(
        matches!(&refused, Err(Refusal::Sdp(SdpRefusal { unusable: true, .. }))),
        "{refused:?}"
    );
    assert_eq!((bench.sends(1), &bench.log[..]), (sent, &[][..]));
    bench.clients.insert(1, before);
    bench.offer(1, &MemberInfo::default()).unwrap();
    // As many others in their place, in one offer.
    let client = bench.clients.get_mut(&1).unwrap();
    let screens = client.lines.iter_mut().filter(|line| line.stream.starts_with("screen"));
    screens.for_each(|line| line.sends = false);
    (1..7).for_each(|other| client.add(Kind::Video, &format!("other{other}")));
    bench.wait(ms(5_000));
    bench.offer(1, &MemberInfo::default()).unwrap();
    assert_eq!(bench.sends(1).len(), 7);
    bench.settle();
    assert_eq!(bench.sees(2), bench.sends(1));
}

#[test]
fn a_member_without_the_right_to_send_may_watch_and_is_refused_when_it_sends() {
    let mut bench = Bench::with(2..=2);
    let refused = bench.join(1, person(), &MemberInfo::default(), false);
    assert_eq!(refused, Err(Refusal::NotAllowed(Purpose::Publish)));
    assert_eq!(bench.rooms.participants(&Bench::name()), 1);
    let mut client = Client::default();
    client.add_place(Kind::Audio);
    client.add_place(Kind::Video);
    bench.join(1, client, &MemberInfo::default(), false).unwrap();
    bench.connect(1);
    bench.settle();
    assert_eq!((bench.sends(1), bench.sees(1)), (vec![], vec!["m2.0 av".to_owned()]));
    assert_eq!(bench.clients[&1].lines.len(), 2, "on the client's own places");
    let before = bench.clients[&1].clone();
    bench.clients.get_mut(&1).unwrap().add(Kind::Video, "cam");
    assert_eq!(
        bench.offer_with(1, &MemberInfo::default(), false),
        Err(Refusal::NotAllowed(Purpose::Publish))
    );
    bench.clients.insert(1, before);
    bench.offer_with(1, &MemberInfo::default(), false).unwrap();
    assert_eq!(bench.sees(1), ["m2.0 av"]);
}

#[test]
fn an_offer_that_is_refused_takes_no_place_of_a_stream() {
    let mut bench = Bench::with(1..=2);
    let slots = bench.maker.free_slots().count();
    bench.clients.get_mut(&1).unwrap().add(Kind::Video, "screen");
    assert_eq!(
        bench.offer_with(1, &MemberInfo::default(), false),
        Err(Refusal::NotAllowed(Purpose::Publish))
    );
    bench.leave(1);
    bench.leave(2);
    assert_eq!(bench.maker.free_slots().count(), slots + 2, "as many as were opened");
}

#[test]
fn labels_and_names_reach_the_others() {
    let mut bench = Bench::with(2..=2);
    bench
        .join(1, person(), &labels(&[("0", "mic"), ("1", "front")]), true)
        .unwrap();
    bench.connect(1);
    let tracks = bench.next_offer(2).unwrap().tracks;
    let told: Vec<_> = tracks.iter().map(|track| track.label.as_deref()).collect();
    assert_eq!(told, [Some("mic"), Some("front")]);
    bench.offer(1, &labels(&[("1", "back")])).unwrap();
    bench.change(
        1,
        Change {
            name: Some("Ada".into()),
            video_muted: Some(true),
            ..Change::default()
        },
    );
    let roster = bench.roster.clone().unwrap();
    let ada = roster
        .members
        .iter()
        .find(|member| member.id == SessionNumber(1))
        .unwrap();
    assert_eq!(
        (ada.name.as_deref(), ada.broadcast, ada.since_unix),
        (Some("Ada"), false, Duration::from_secs(1))
    );
    let tracks: Vec<_> = ada
        .tracks
        .iter()
        .map(|track| (track.kind, track.label.as_deref(), track.muted))
        .collect();
    assert_eq!(
        tracks,
        [(Kind::Audio, Some("mic"), false), (Kind::Video, Some("back"), true)]
    );
}

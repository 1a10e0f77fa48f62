//! Members as their server sees them: every word is said by the test, and the time is its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::StreamName;
use crate::conference::signalling::OwnOffers;
use crate::conference::{IceRestart, InitialOffer, Joining, MemberInfo, RoomEffect, Rooms, ServerOffer};
use crate::ended::EndReason;
use crate::{Refusal, SessionNumber};
use onecast_engine::fanout::{Direction, Plan, Session};
use onecast_engine::media::StreamTracks;
use onecast_engine::media::lane::{StreamKey, StreamSlot};
use onecast_rtc::rtp::Ssrc;
use onecast_rtc::sdp::{MemberDescription, NegotiationParams};
use onecast_rtc::{Fingerprint, IceCredentials, SessionId};

/// A room, and the ICE restarts that the shards know.
struct Scene {
    rooms: Rooms,
    now: Instant,
    serial: u32,
    told: Vec<[IceCredentials; 2]>,
}

fn id(number: u8) -> SessionId {
    SessionId::from_random([number; 16])
}

fn room() -> StreamName {
    "main".parse().unwrap()
}

fn ice(name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: name.into(),
        pwd: format!("theLongPasswordOf{name}AsItIs").into(),
    }
}

fn tracks(serial: u32, now: Instant) -> Arc<StreamTracks> {
    let key = StreamKey {
        slot: StreamSlot(serial),
        serial,
    };
    let ssrcs = [serial * 10 + 1, serial * 10 + 2, serial * 10 + 3];
    let name = format!("m{serial}.0");
    Arc::new(StreamTracks::new(
        key,
        &name,
        ssrcs.map(Ssrc),
        Arc::from(Vec::new()),
        now,
    ))
}

/// Microphone and camera.
fn offer(ice: &IceCredentials) -> String {
    let fingerprint = ["AB"; 32].join(":");
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=rtcp-mux\r\n",
        ice.ufrag, ice.pwd
    );
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=sendonly\r\na=msid:cam a\r\n{transport}a=rtpmap:111 opus/48000/2\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=sendonly\r\na=msid:cam v\r\n{transport}a=rtpmap:96 VP8/90000\r\n"
    )
}

/// The answer of a client that accepts everything: the offer with its own credentials.
fn answer(offer: &str, ice: &IceCredentials) -> String {
    let fingerprint = ["AB"; 32].join(":");
    let line = |line: &str| match line.split_once(':').map_or(line, |(name, _)| name) {
        "a=ice-lite" | "a=candidate" | "a=end-of-candidates" | "a=ssrc" | "a=ssrc-group" | "a=msid" => String::new(),
        "a=ice-ufrag" => format!("a=ice-ufrag:{}\r\n", ice.ufrag),
        "a=ice-pwd" => format!("a=ice-pwd:{}\r\n", ice.pwd),
        "a=fingerprint" => format!("a=fingerprint:sha-256 {fingerprint}\r\n"),
        "a=setup" => "a=setup:active\r\n".to_owned(),
        "a=sendonly" => "a=recvonly\r\n".to_owned(),
        "a=recvonly" => "a=sendonly\r\n".to_owned(),
        _ => format!("{line}\r\n"),
    };
    offer.lines().map(line).collect()
}

fn ufrag(sdp: &str) -> &str {
    let mut lines = sdp.lines();
    lines.find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap()
}

impl Scene {
    /// Members 1 and 2, who have connected.
    fn of_two() -> Scene {
        let mut scene = Scene {
            rooms: Rooms::default(),
            now: onecast_udp::clock::now(),
            serial: 1,
            told: Vec::new(),
        };
        for number in [1, 2] {
            scene.join(number);
            scene.rooms.connected(scene.now, id(number));
        }
        scene.effects();
        scene
    }

    fn join(&mut self, number: u8) {
        let (now, serial) = (self.now, &mut self.serial);
        let mut open = |_: &str| {
            *serial += 1;
            tracks(*serial, now)
        };
        let program = tracks(1, now);
        let local = ice(&format!("ours{number}"));
        let params = NegotiationParams {
            ice: local.clone(),
            fingerprint: Fingerprint([1; 32]),
            candidates: vec!["127.0.0.1:8080".parse().unwrap()],
            session_id: 42,
        };
        let (first, _) = InitialOffer::answer(&offer(&ice(&format!("theirs{number}"))), params).unwrap();
        let joining = Joining {
            id: id(number),
            number: SessionNumber(number.into()),
            room: &room(),
            program: &program,
            offer: first,
            words: &MemberInfo::default(),
            unix: Duration::ZERO,
        };
        let joined = self.rooms.join(now, joining, &mut open);
        let plan = Plan::clone(&joined.membership);
        let session = Session::new(id(number), local, joined.remote, Direction::SendReceive, plan, now);
        self.rooms.answered(id(number), Arc::new(session));
    }

    /// A member offers with these credentials, and is let restart ICE unless the shards refuse.
    fn offers(&mut self, number: u8, theirs: &IceCredentials, shards_take_it: bool) -> Result<String, Refusal> {
        let (now, words) = (self.now, MemberInfo::default());
        let (rooms, told) = (&mut self.rooms, &mut self.told);
        let sdp = offer(theirs);
        let mut open = |_: &str| panic!("it sends what it sent");
        let mut start = |theirs: &IceCredentials, ours: &IceCredentials| match shards_take_it {
            true => {
                told.push([theirs.clone(), ours.clone()]);
                Ok(())
            }
            false => Err(Refusal::RestartTooSoon),
        };
        let restart = IceRestart {
            ice: ice("fresh"),
            start: &mut start,
        };
        let said = (MemberDescription::read(&sdp), &words);
        rooms.offer(now, id(number), said, true, &mut open, restart)
    }

    fn answers(&mut self, number: u8, said: Option<u64>, sdp: &str) -> Result<(), Refusal> {
        let mut open = |_: &str| panic!("an answer brings no stream");
        let answer = MemberDescription::read(sdp);
        self.rooms.answer(self.now, id(number), said, answer, &mut open)
    }

    fn next_offer(&mut self, number: u8) -> Option<ServerOffer> {
        self.rooms.next_offer(self.now, id(number)).unwrap()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.rooms.handle_timeout(self.now);
    }

    fn effects(&mut self) -> Vec<RoomEffect> {
        std::iter::from_fn(|| self.rooms.poll_effect()).collect()
    }

    /// The members that have to be ended, and why.
    fn ends(&mut self) -> Vec<(SessionId, EndReason)> {
        let ends = self.effects().into_iter().filter_map(|effect| match effect {
            RoomEffect::End(id, why) => Some((id, why)),
            _ => None,
        });
        ends.collect()
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_offer_without_an_answer_is_repeated_and_then_ends_the_member_with_the_reason() {
    let mut scene = Scene::of_two();
    let first = scene.next_offer(1).unwrap();
    let until = scene.now + OwnOffers::ANSWER_TIMEOUT;
    for _ in 0..14 {
        scene.pass(secs(2));
        assert_eq!(scene.next_offer(1), Some(first.clone()), "the same text and number");
        assert_eq!(scene.ends(), []);
    }
    assert_eq!(scene.rooms.poll_timeout(), Some(until));
    scene.pass(secs(2));
    assert_eq!(scene.ends(), [(id(1), EndReason::Unanswered)]);
    scene.rooms.leave(scene.now, id(1));
    assert_eq!(scene.rooms.poll_timeout(), None, "no other member has a deadline");
    assert_eq!(scene.rooms.participants(&room()), 1);
}

#[test]
fn an_offer_that_was_not_fetched_ends_no_member() {
    let mut scene = Scene::of_two();
    scene.pass(secs(3_600));
    assert_eq!(scene.ends(), []);
    assert_eq!(scene.next_offer(1).unwrap().number, 1);
}

#[test]
fn a_bad_answer_gives_no_more_time_and_a_good_one_ends_the_wait() {
    let mut scene = Scene::of_two();
    let [bad, good] = [1, 2].map(|number| scene.next_offer(number).unwrap());
    scene.pass(secs(29));
    scene.answers(1, None, "v=0\r\n").unwrap_err();
    scene
        .answers(2, Some(good.number), &answer(&good.sdp, &ice("theirs2")))
        .unwrap();
    assert!(bad.number == good.number && bad.sdp != good.sdp, "each has its own");
    scene.pass(secs(1));
    assert_eq!(scene.ends(), [(id(1), EndReason::Unanswered)]);
}

#[test]
fn a_socket_that_does_not_come_back_is_the_end_and_one_that_does_is_none() {
    let mut scene = Scene::of_two();
    let first = scene.rooms.follow(scene.now, id(1)).unwrap();
    let of_other = scene.rooms.follow(scene.now, id(2)).unwrap();
    scene.rooms.unfollow(scene.now, id(1), first);
    scene.rooms.unfollow(scene.now, id(2), of_other);
    scene.pass(secs(9));
    let second = scene.rooms.follow(scene.now, id(1)).unwrap();
    // The end of the first socket is heard of late.
    scene.rooms.unfollow(scene.now, id(1), first);
    assert_eq!(scene.ends(), []);
    scene.pass(secs(1));
    assert_eq!(scene.ends(), [(id(2), EndReason::Unfollowed)]);
    scene.rooms.leave(scene.now, id(2));
    scene.pass(secs(60));
    assert_eq!(scene.ends(), []);
    scene.rooms.unfollow(scene.now, id(1), second);
    scene.pass(secs(10));
    assert_eq!(scene.ends(), [(id(1), EndReason::Unfollowed)]);
}

#[test]
fn an_offer_is_repeated_at_once_to_a_member_that_returns() {
    let mut scene = Scene::of_two();
    let follower = scene.rooms.follow(scene.now, id(1)).unwrap();
    let first = scene.next_offer(1);
    assert!(first.is_some());
    scene.rooms.unfollow(scene.now, id(1), follower);
    scene.pass(secs(1));
    assert_eq!(scene.next_offer(1), None);
    scene.rooms.follow(scene.now, id(1)).unwrap();
    assert_eq!(scene.next_offer(1), first);
}

#[test]
fn an_offer_restarts_ice_and_all_that_we_say_later_has_the_new_credentials() {
    let mut scene = Scene::of_two();
    let (theirs, fresh) = (ice("changed"), ice("fresh"));
    let answered = scene.offers(1, &theirs, true).unwrap();
    assert_eq!(scene.told, [[theirs.clone(), fresh]]);
    assert!(answered.contains("a=ice-ufrag:fresh\r\na=ice-pwd:theLongPasswordOffreshAsItIs\r\n"));
    assert!(!answered.contains("ours1") && answered.contains("a=recvonly"));
    let again = scene.offers(1, &theirs, false).unwrap();
    assert_eq!(ufrag(&again), "fresh", "the same credentials are no restart");
    let offered = scene.next_offer(1).unwrap();
    assert_eq!(ufrag(&offered.sdp), "fresh");
    scene.answers(1, None, &answer(&offered.sdp, &theirs)).unwrap();
    assert_eq!(
        ufrag(&scene.next_offer(2).unwrap().sdp),
        "ours2",
        "others are as they were"
    );
}

#[test]
fn a_restart_that_is_refused_has_changed_nothing() {
    let mut scene = Scene::of_two();
    let refused = scene.offers(1, &ice("changed"), false);
    assert_eq!(refused, Err(Refusal::RestartTooSoon));
    let answered = scene.offers(1, &ice("theirs1"), false).unwrap();
    assert_eq!(ufrag(&answered), "ours1");
    let offered = scene.next_offer(1).unwrap();
    assert_eq!(ufrag(&offered.sdp), "ours1");
    assert_eq!(
        scene.offers(1, &ice("changed"), true),
        Err(Refusal::OfferPending { number: offered.number })
    );
    assert!(scene.told.is_empty());
}

#[test]
fn an_answer_is_of_the_connection_that_there_is() {
    let mut scene = Scene::of_two();
    let offered = scene.next_offer(1).unwrap();
    let of_another = answer(&offered.sdp, &ice("theirs2"));
    assert_eq!(
        scene.answers(1, Some(offered.number), &of_another),
        Err(Refusal::JoinAnew)
    );
    let stolen = answer(&offered.sdp, &ice("theirs1")).replace("sha-256 AB:", "sha-256 CD:");
    assert_eq!(
        scene.answers(1, Some(offered.number), &stolen),
        Err(Refusal::OtherCertificate)
    );
    let good = answer(&offered.sdp, &ice("theirs1"));
    scene.answers(1, Some(offered.number), &good).unwrap();
}

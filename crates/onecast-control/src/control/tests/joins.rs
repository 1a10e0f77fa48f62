//! A join happens as a whole or not at all.

use std::time::Duration;

use onecast_engine::fanout::CloseCause;
use onecast_rtc::rtp::Codec;
use onecast_rtc::sdp::CounterAnswer;

use super::Bench;
use super::bench::{LIMITS, PUBLISH, WATCH, as_publisher, as_viewer, id};
use crate::Grant;
use crate::admission::AdmissionLimits;
use crate::control::{Control, PastedOffer};
use crate::ended::EndReason;
use crate::port::{PasteRights, PasteRole};
use crate::refusal::{CodecsOf, Refusal, RefusalKind};
use crate::registry::{Limits, Purpose};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn of_two_publishers_for_one_name_the_first_is_accepted() {
    let mut bench = Bench::new();
    bench.publish(1, "live", None).unwrap();
    assert_eq!(bench.log(), ["expect 1"]);
    let refused = bench.publish(2, "live", None).unwrap_err();
    assert!(matches!(refused, Refusal::Taken { since_unix: None, .. }));
    assert_eq!(refused.kind(), RefusalKind::Conflict);
    bench.assert_quiet();
    bench.connect(1);
    bench.send(1, Codec::Vp8);
    let refused = bench.publish(2, "live", None).unwrap_err();
    assert!(matches!(
        refused,
        Refusal::Taken {
            since_unix: Some(_),
            ..
        }
    ));
    assert_eq!((bench.present(), bench.half_open()), (vec![1], 0));
    // Another name is free.
    bench.publish(2, "other", None).unwrap();
    assert_eq!(bench.present(), [1, 2]);
}

#[test]
fn a_publisher_that_does_not_connect_makes_room_after_five_seconds() {
    let mut bench = Bench::new();
    bench.publish(1, "live", None).unwrap();
    bench.pass(secs(5));
    bench.log();
    bench.publish(2, "live", None).unwrap();
    assert_eq!(bench.log(), ["close 1", "broadcaster ended: made-room", "expect 2"]);
    assert_eq!((bench.present(), bench.half_open()), (vec![2], 1));
}

#[test]
fn every_limit_refuses_without_a_trace() {
    let mut bench = Bench::new();
    for (number, stream) in [(1, "a"), (2, "a"), (3, "a"), (4, "b")] {
        bench.watch(number, stream).unwrap();
    }
    bench.publish(5, "c", None).unwrap();
    bench.log();
    let half_open = bench.half_open();
    assert_eq!(bench.watch(6, "a"), Err(Refusal::StreamFull { max: 3 }));
    assert_eq!(bench.publish(6, "d", None), Err(Refusal::TooManyStreams { max: 3 }));
    assert_eq!(bench.watch(6, "d"), Err(Refusal::TooManyStreams { max: 3 }));
    bench.watch(6, "b").unwrap();
    assert_eq!(bench.watch(7, "b"), Err(Refusal::Full { max: 5 }));
    assert_eq!(bench.log(), ["expect 6"]);
    assert_eq!(bench.half_open(), half_open + 1);
    // A place that becomes free is taken by the next.
    bench.closed(1, CloseCause::Commanded);
    bench.watch(7, "b").unwrap();
    assert_eq!(bench.present(), [2, 3, 4, 5, 6, 7]);
}

#[test]
fn the_owner_of_a_stream_takes_it_over_in_one_step() {
    let mut bench = Bench::new();
    bench.go_live(1, "live", Some("studio"));
    bench.watch(2, "live").unwrap();
    bench.connect(2);
    bench.log();
    assert!(matches!(
        bench.publish(3, "live", Some("phone")),
        Err(Refusal::Taken { .. })
    ));
    bench.publish(3, "live", Some("studio")).unwrap();
    assert_eq!(bench.log(), ["close 1", "broadcaster ended: taken-over", "expect 3"]);
    assert_eq!(bench.present(), [2, 3]);
    let asked = bench.call(|control, _| control.guard(id(1)));
    assert_eq!(asked, Err(Refusal::Ended(EndReason::TakenOver)));
}

#[test]
fn a_takeover_that_fails_leaves_the_stream_as_it_was() {
    let mut bench = Bench::new();
    bench.go_live(1, "live", Some("studio"));
    // An offer that cannot send.
    let refused = bench.join(2, "live", Some("studio"), |control, now, join| {
        control.handle_publish(now, join, as_publisher(WATCH))
    });
    assert!(matches!(refused, Err(Refusal::Sdp(_))));
    // No media thread has room for the new session.
    bench.control.set_shards_busy(true);
    assert_eq!(bench.publish(2, "live", Some("studio")), Err(Refusal::Overloaded));
    bench.assert_quiet();
    assert_eq!(bench.present(), [1]);
    bench.control.set_shards_busy(false);
    bench.publish(2, "live", Some("studio")).unwrap();
    assert_eq!(bench.present(), [2]);
}

#[test]
fn a_session_that_no_shard_can_take_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.control.set_shards_busy(true);
    assert_eq!(bench.publish(1, "a", None), Err(Refusal::Overloaded));
    assert_eq!(bench.watch(2, "a"), Err(Refusal::Overloaded));
    assert_eq!(bench.participate(3, "a", true), Err(Refusal::Overloaded));
    let asked = bench.join(4, "a", None, Control::handle_counter_offer);
    assert_eq!(asked.map(drop), Err(Refusal::Overloaded));
    bench.assert_quiet();
    assert_eq!((bench.present(), bench.half_open()), (vec![], 0));
    let now = bench.now;
    assert!(bench.control.streams(now).is_empty() && bench.control.roster(&"a".parse().unwrap()).is_none());
}

#[test]
fn a_silent_publisher_is_replaced_when_the_next_one_connects() {
    let mut bench = Bench::new();
    bench.go_live(1, "live", None);
    bench.pass(secs(4));
    bench.publish(2, "live", None).unwrap();
    assert_eq!(bench.present(), [1, 2]);
    bench.log();
    bench.connect(2);
    assert_eq!(bench.log(), ["close 1", "broadcaster ended: replaced"]);
    assert_eq!(bench.present(), [2]);
    bench.send(2, Codec::Vp8);
    let now = bench.now;
    assert!(bench.control.streams(now)[0].live);
}

#[test]
fn a_publisher_that_sends_again_keeps_its_place() {
    let mut bench = Bench::new();
    bench.go_live(1, "live", None);
    bench.pass(secs(4));
    bench.publish(2, "live", None).unwrap();
    bench.send(1, Codec::Vp8);
    bench.log();
    bench.connect(2);
    assert_eq!(bench.log(), ["close 2", "broadcaster ended: place-kept"]);
    assert_eq!(bench.present(), [1]);
}

#[test]
fn a_client_that_leaves_between_answer_and_handshake_is_forgotten_at_once() {
    let mut bench = Bench::new();
    bench.publish(1, "live", None).unwrap();
    bench.watch(2, "live").unwrap();
    assert_eq!(bench.half_open(), 2);
    let gone = bench.call(|control, now| control.handle_close(now, id(2), crate::port::Protocol::Whep));
    assert_eq!(gone, Ok(()));
    assert_eq!((bench.present(), bench.half_open()), (vec![1], 1));
    bench.log();
    // What a shard says of it afterwards changes nothing.
    bench.connect(2);
    bench.assert_quiet();
    bench.closed(2, CloseCause::Full);
    assert_eq!(bench.log(), ["late end of 2"]);
    assert_eq!((bench.present(), bench.half_open()), (vec![1], 1));
}

#[test]
fn a_client_that_never_connects_is_ended_after_its_time() {
    let mut bench = Bench::new();
    bench.watch(1, "live").unwrap();
    bench.join(2, "live", None, Control::handle_counter_offer).unwrap();
    bench.pass(secs(29));
    assert_eq!(bench.present(), [1, 2]);
    bench.log();
    bench.pass(secs(2));
    assert_eq!(
        bench.log(),
        [
            "close 1",
            "viewer 1 ended: never-connected",
            "viewer 2 ended: no-answer"
        ]
    );
    assert_eq!((bench.present(), bench.half_open()), (vec![], 0));
}

#[test]
fn a_bad_offer_costs_a_token_like_a_good_one() {
    let admission = AdmissionLimits {
        joins_per_address: 2,
        ..LIMITS.admission
    };
    let mut bench = Bench::with(Limits { admission, ..LIMITS });
    for _ in 0..2 {
        let refused = bench.join(1, "live", None, |control, now, join| {
            control.handle_watch(now, join, as_viewer("v=1"))
        });
        assert_eq!(refused.map(drop).unwrap_err().kind(), RefusalKind::Malformed);
    }
    assert!(matches!(bench.watch(1, "live"), Err(Refusal::Busy(_))));
    bench.pass(secs(1));
    bench.log();
    bench.watch(1, "live").unwrap();
    assert_eq!(bench.log(), ["expect 1"]);
}

#[test]
fn a_viewer_without_the_streams_codec_is_refused_while_it_is_sent() {
    let mut bench = Bench::new();
    bench.watch(1, "live").unwrap();
    bench.go_live(2, "live", None);
    bench.send(2, Codec::H265);
    bench.log();
    let refused = bench.join(3, "live", None, |control, now, join| {
        let mut offer = as_viewer(WATCH).unwrap();
        let video = offer.negotiated.as_mut().unwrap().video.as_mut().unwrap();
        video.formats.retain(|format| format.codec == Codec::Vp8);
        control.handle_watch(now, join, Ok(offer))
    });
    let Err(Refusal::Sdp(refused)) = refused else {
        panic!("not refused");
    };
    assert_eq!(refused.codecs.unwrap().needed, ["H265"]);
    bench.assert_quiet();
    assert_eq!(bench.present(), [1, 2]);
}

fn pasted(offer: &str) -> PastedOffer {
    let parsed = onecast_rtc::sdp::Offer::parse(offer).unwrap();
    PastedOffer {
        can_send: parsed.can_send(),
        can_receive: parsed.can_receive(),
        as_publisher: as_publisher(offer).unwrap().negotiated,
        as_viewer: as_viewer(offer).unwrap().negotiated,
        remote: parsed.remote().clone(),
    }
}

#[test]
fn a_pasted_offer_publishes_if_it_can_and_the_stream_is_free() {
    let mut bench = Bench::new();
    let anybody = Grant::default();
    let rights = PasteRights {
        publish: Some(&anybody),
        watch: Some(&anybody),
    };
    let both = PUBLISH.replace("a=sendonly", "a=sendrecv");
    let mut paste = |number, offer: &str, rights| {
        let done = bench.join(number, "live", None, |control, now, join| {
            control.handle_paste(now, join, Ok(pasted(offer)), rights)
        });
        done.map(|(_, role)| role)
    };
    assert_eq!(paste(1, &both, rights), Ok(PasteRole::Broadcaster));
    assert_eq!(paste(2, &both, rights), Ok(PasteRole::Viewer));
    assert_eq!(paste(3, WATCH, rights), Ok(PasteRole::Viewer));
    let only_watch = PasteRights {
        publish: None,
        ..rights
    };
    let refused = paste(4, PUBLISH, only_watch).unwrap_err();
    assert_eq!(refused, Refusal::NotAllowed(Purpose::Publish));
    assert_eq!(bench.present(), [1, 2, 3]);
}

#[test]
fn an_answer_to_the_servers_offer_is_taken_once() {
    let mut bench = Bench::new();
    bench.join(1, "live", None, Control::handle_counter_offer).unwrap();
    bench.assert_quiet();
    let answer = |bench: &mut Bench| {
        let parsed = as_viewer(WATCH).unwrap();
        let answer = CounterAnswer {
            remote: parsed.remote,
            negotiated: parsed.negotiated.unwrap(),
        };
        bench.call(|control, now| control.handle_viewer_answer(now, id(1), Ok(answer)))
    };
    bench.control.set_shards_busy(true);
    assert_eq!(answer(&mut bench), Err(Refusal::Overloaded));
    bench.control.set_shards_busy(false);
    assert_eq!(answer(&mut bench), Ok(()));
    assert_eq!(bench.log(), ["expect 1"]);
    assert_eq!(answer(&mut bench), Err(Refusal::NoAnswerAwaited));
    bench.assert_quiet();
}

/// A client that publishes, watches, or pastes an offer without a codec that the server carries.
type Attempt = fn(&mut Bench, u128, &str) -> Result<(), Refusal>;

const ATTEMPTS_WITHOUT_CODEC: [Attempt; 3] = [
    |bench, number, stream| {
        bench.join(number, stream, None, |control, now, join| {
            let offer = as_publisher(&without_codec(PUBLISH));
            control.handle_publish(now, join, offer).map(drop)
        })
    },
    |bench, number, stream| {
        bench.join(number, stream, None, |control, now, join| {
            let offer = as_viewer(&without_codec(WATCH));
            control.handle_watch(now, join, offer).map(drop)
        })
    },
    |bench, number, stream| paste(bench, number, stream, &without_codec(PUBLISH)),
];

/// A client that may do everything pastes an offer.
fn paste(bench: &mut Bench, number: u128, stream: &str, offer: &str) -> Result<(), Refusal> {
    let anybody = Grant::default();
    let rights = PasteRights {
        publish: Some(&anybody),
        watch: Some(&anybody),
    };
    bench.join(number, stream, None, |control, now, join| {
        control.handle_paste(now, join, Ok(pasted(offer)), rights).map(drop)
    })
}

fn without_codec(offer: &str) -> String {
    let rare = ["VP8", "VP9", "H264", "H265", "AV1", "opus"];
    rare.into_iter().fold(offer.to_owned(), |offer, codec| {
        offer.replace(&format!(" {codec}/"), " X-RARE/")
    })
}

#[test]
fn a_client_without_a_place_is_refused_for_that_before_its_codecs_matter() {
    for (attempt, refused) in ATTEMPTS_WITHOUT_CODEC
        .into_iter()
        .zip(["Taken", "StreamFull { max: 3 }", "Taken"])
    {
        let mut bench = Bench::new();
        bench.go_live(1, "live", None);
        (2..=4).for_each(|number| bench.watch(number, "live").unwrap());
        let refusal = attempt(&mut bench, 5, "live").unwrap_err();
        assert!(format!("{refusal:?}").starts_with(refused), "{refusal:?}");
    }
}

#[test]
fn a_pasted_offer_of_one_viewer_too_many_counts_as_half_open_whatever_it_offers() {
    let admission = AdmissionLimits {
        half_open: 1,
        ..LIMITS.admission
    };
    let mut bench = Bench::with(Limits { admission, ..LIMITS });
    bench.watch(1, "live").unwrap();
    let refused = paste(&mut bench, 2, "live", &without_codec(WATCH)).unwrap_err();
    assert!(matches!(refused, Refusal::Busy(_)), "{refused:?}");
    assert_eq!(bench.control.admission().refused_half_open, 1);
}

#[test]
fn codecs_of_both_sides_are_named_where_a_client_offers_once() {
    let codecs = |refusal: Refusal| match refusal {
        Refusal::Sdp(refusal) => {
            assert!(refusal.unusable, "{refusal:?}");
            refusal.codecs
        }
        other => panic!("{other:?}"),
    };
    let mut bench = Bench::new();
    for attempt in ATTEMPTS_WITHOUT_CODEC {
        let lists = codecs(attempt(&mut bench, 1, "live").unwrap_err()).unwrap();
        assert_eq!((lists.of, &*lists.offer[0]), (CodecsOf::Server, "X-RARE"));
        assert_eq!(lists.needed, ["Opus"]);
    }
    assert_eq!(bench.present(), Vec::<u128>::new());
    // A member of a room, and a viewer that answers the server's offer.
    let refused = bench.participate_with(1, "room", &without_codec(PUBLISH), true);
    assert_eq!(codecs(refused.unwrap_err()), None);
    bench.join(2, "live", None, Control::handle_counter_offer).unwrap();
    let answer = CounterAnswer::parse(&without_codec(WATCH));
    let refused = bench.call(|control, now| control.handle_viewer_answer(now, id(2), answer));
    assert_eq!(codecs(refused.unwrap_err()), None);
}

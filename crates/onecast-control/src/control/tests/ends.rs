//! Many sessions end at once: the shards get no more commands at a time than their queues hold.

use std::collections::BTreeMap;
use std::time::Duration;

use onecast_engine::fanout::CloseCause;
use onecast_rtc::rtp::Kind;
use onecast_rtc::sdp::MemberDescription;
use onecast_rtc::sdp::negotiation::testing::{Client, params};

use super::Bench;
use super::bench::{LIMITS, id};
use crate::Grant;
use crate::admission::AdmissionLimits;
use crate::conference::{InitialOffer, MemberInfo, RESUME_TIMEOUT, RoomLimits};
use crate::control::end::EndQueue;
use crate::ended::EndReason;
use crate::port::PasteRights;
use crate::registry::{Limits, SessionLimits};

const LIMITS_OF_A_CROWD: Limits = Limits {
    viewers: 3_000,
    sessions: SessionLimits {
        viewers_per_stream: None,
        ..LIMITS.sessions
    },
    admission: AdmissionLimits {
        joins_per_second: 10_000,
        half_open: 10_000,
        half_open_per_address: 10_000,
        joins_per_address: 10_000,
    },
    rooms: RoomLimits { members: 300 },
    ..LIMITS
};

/// The operator ends a stream with its viewers. Gives how many sessions that are.
fn end_stream(bench: &mut Bench, stream: &str) -> usize {
    let stream = stream.parse().unwrap();
    bench
        .call(|control, now| control.handle_end_stream(now, &stream, true, None))
        .unwrap()
}

/// More viewers of a stream than end at once, none of which has connected.
fn crowd(stream: &str) -> Bench {
    let mut bench = Bench::with(LIMITS_OF_A_CROWD);
    for number in 0..2_500 {
        bench.watch(number, stream).unwrap();
    }
    bench
}

/// A crowd whose time to connect is over: the first batch has ended. Gives one whose end waits.
fn crowd_that_never_came() -> (Bench, u128) {
    let mut bench = crowd("live");
    while bench.control.ends.len() == 0 {
        bench.pass(Duration::from_millis(10));
    }
    let late = bench.present().into_iter().max().unwrap();
    (bench, late)
}

fn closed(bench: &mut Bench) -> usize {
    bench.log().iter().filter(|line| line.starts_with("close")).count()
}

/// A room of members that send audio to each other: each that leaves changes what the others are sent.
fn room_of(members: u128, limits: Limits) -> Bench {
    let mut bench = Bench::with(limits);
    let mut clients = BTreeMap::new();
    for number in 1..=members {
        clients.insert(number, join(&mut bench, number));
        bench.connect(number);
    }
    for (number, client) in &mut clients {
        answer_offers(&mut bench, *number, client);
    }
    bench.log();
    bench.most_commands = 0;
    bench
}

fn join(bench: &mut Bench, number: u128) -> Client {
    let mut client = Client::default();
    client.add(Kind::Audio, "cam");
    let (offer, answer) = InitialOffer::answer(&client.offer(), params()).unwrap();
    let anybody = Grant::default();
    let rights = PasteRights {
        publish: Some(&anybody),
        watch: Some(&anybody),
    };
    let joined = bench.join(number, "room", None, |control, now, join| {
        control.handle_room_join(now, join, rights, Ok(offer), &MemberInfo::default())
    });
    joined.unwrap();
    client.take_answer(&answer);
    client
}

fn answer_offers(bench: &mut Bench, number: u128, client: &mut Client) {
    while let Some(offer) = bench.call(|control, now| control.next_offer(now, id(number))).unwrap() {
        let answer = client.answer(&offer.sdp);
        let answer = MemberDescription::read(&answer);
        let taken = bench.call(|control, now| control.handle_room_answer(now, id(number), Some(offer.number), answer));
        taken.unwrap();
    }
}

/// Lets time pass until all members have ended, with no more commands at once than the bound.
#[track_caller]
fn assert_ends_in_batches(bench: &mut Bench, members: usize) {
    let bound = EndQueue::COMMANDS_MAX as usize + members;
    bench.pass(Duration::from_secs(5));
    assert!(bench.most_commands <= bound, "{} commands at once", bench.most_commands);
    let log = bench.log();
    let count = |what: &str| log.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!(count("close"), members);
    assert!(
        count("close") + count("membership") > bound,
        "the room fits into one batch"
    );
    assert_eq!((bench.present(), bench.half_open()), (vec![], 0));
    assert!(bench.control.roster(&"room".parse().unwrap()).is_none());
}

#[test]
fn a_crowd_is_ended_in_batches() {
    let mut bench = crowd("live");
    bench.log();
    assert_eq!(end_stream(&mut bench, "live"), 2_500);
    assert_eq!(closed(&mut bench), 1_024);
    bench.pass(Duration::from_millis(49));
    assert_eq!(closed(&mut bench), 0);
    bench.pass(Duration::from_millis(1));
    assert_eq!(closed(&mut bench), 1_024);
    bench.pass(Duration::from_millis(50));
    assert_eq!((closed(&mut bench), bench.present().len()), (452, 0));
    assert!(bench.control.poll_timeout() > bench.now.instant + Duration::from_millis(500));
}

#[test]
fn a_large_room_is_ended_by_its_operator_in_batches_of_commands() {
    let mut bench = room_of(300, LIMITS_OF_A_CROWD);
    assert_eq!(end_stream(&mut bench, "room"), 300);
    assert_ends_in_batches(&mut bench, 300);
}

#[test]
fn a_large_room_whose_session_time_is_over_ends_in_batches_of_commands() {
    let mut bench = room_of(
        60,
        Limits {
            sessions: SessionLimits {
                session_time: Some(Duration::from_secs(3_600)),
                ..LIMITS_OF_A_CROWD.sessions
            },
            ..LIMITS_OF_A_CROWD
        },
    );
    bench.pass(Duration::from_secs(3_599));
    assert_eq!(bench.present().len(), 60);
    assert_ends_in_batches(&mut bench, 60);
}

#[test]
fn a_large_room_whose_sockets_break_ends_in_batches_of_commands() {
    let mut bench = room_of(60, LIMITS_OF_A_CROWD);
    for number in 1..=60 {
        bench.call(|control, now| {
            let follower = control.handle_follow(now, id(number)).unwrap();
            control.handle_unfollow(now, id(number), follower);
        });
    }
    bench.pass(RESUME_TIMEOUT - Duration::from_secs(1));
    assert_eq!(bench.present().len(), 60);
    assert_ends_in_batches(&mut bench, 60);
}

#[test]
fn a_member_that_comes_back_while_its_end_waits_stays() {
    let mut bench = room_of(60, LIMITS_OF_A_CROWD);
    for number in 1..=60 {
        bench.call(|control, now| {
            let follower = control.handle_follow(now, id(number)).unwrap();
            control.handle_unfollow(now, id(number), follower);
        });
    }
    while bench.control.ends.len() == 0 {
        bench.pass(Duration::from_millis(10));
    }
    let waiting = bench.control.ends.len();
    let returned = bench.present().into_iter().max().unwrap();
    bench.call(|control, now| control.handle_follow(now, id(returned)).unwrap());
    assert!(waiting > 1 && bench.present().len() == waiting, "{waiting} wait");
    bench.pass(Duration::from_secs(5));
    assert_eq!((bench.present(), bench.control.ends.len()), (vec![returned], 0));
}

#[test]
fn a_client_that_connects_while_its_end_waits_stays() {
    let (mut bench, late) = crowd_that_never_came();
    bench.connect(late);
    bench.pass(Duration::from_secs(5));
    assert_eq!((bench.present(), bench.control.ends.len()), (vec![late], 0));
}

#[test]
fn the_operator_s_reason_replaces_that_of_a_session_that_waits() {
    let (mut bench, late) = crowd_that_never_came();
    end_stream(&mut bench, "live");
    bench.connect(late);
    bench.log();
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.present(), Vec::<u128>::new());
    let why = bench.control.why_ended(id(late));
    assert_eq!(why, Some(EndReason::Operator(None)));
}

#[test]
fn ends_wait_while_the_queues_to_the_shards_are_nearly_full() {
    let mut bench = crowd("live");
    end_stream(&mut bench, "live");
    bench.control.set_shards_busy(true);
    bench.log();
    bench.pass(Duration::from_secs(1));
    assert_eq!((closed(&mut bench), bench.control.ends.len()), (0, 2_500 - 1_024));
    bench.control.set_shards_busy(false);
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.present(), Vec::<u128>::new());
}

#[test]
fn sessions_that_wait_to_be_ended_wait_once() {
    let mut bench = crowd("live");
    assert_eq!(end_stream(&mut bench, "live"), 2_500);
    for _ in 0..100 {
        assert_eq!(end_stream(&mut bench, "live"), 2_500 - 1_024);
    }
    assert_eq!(bench.control.ends.len(), 2_500 - 1_024);
    // One ends by itself meanwhile.
    bench.closed(2_400, CloseCause::Commanded);
    bench.pass(Duration::from_millis(100));
    assert_eq!((bench.present().len(), bench.control.ends.len()), (0, 0));
    assert_eq!(closed(&mut bench), 2_500);
}

#[test]
fn a_small_stream_does_not_wait_behind_a_crowd() {
    let mut bench = crowd("crowd");
    for number in 2_500..2_600 {
        bench.watch(number, "small").unwrap();
    }
    end_stream(&mut bench, "crowd");
    bench.log();
    assert_eq!(end_stream(&mut bench, "small"), 100);
    assert_eq!(closed(&mut bench), 64);
    // What does not fit waits its turn, and others have a share of their own.
    bench.watch(2_600, "other").unwrap();
    bench.log();
    end_stream(&mut bench, "other");
    assert_eq!(closed(&mut bench), 1);
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.present(), Vec::<u128>::new());
}

#[test]
fn a_call_that_comes_before_a_late_timer_does_not_postpone_those_that_wait() {
    let mut bench = crowd("crowd");
    bench.watch(2_500, "small").unwrap();
    end_stream(&mut bench, "crowd");
    let due = bench.control.poll_timeout();
    bench.now.instant = due + Duration::from_millis(1);
    end_stream(&mut bench, "small");
    assert_eq!(bench.control.poll_timeout(), due);
    bench.log();
    bench.call(|control, now| control.handle_timeout(now));
    assert_eq!(closed(&mut bench), 1_024);
}

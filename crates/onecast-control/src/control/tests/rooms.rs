//! Conference rooms, whose members are sessions of the registry.

use onecast_engine::fanout::CloseCause;

use super::Bench;
use super::bench::id;
use crate::refusal::Refusal;
use crate::registry::{Purpose, SessionNumber};

#[test]
fn a_member_joins_in_one_step_and_is_seen_when_it_has_connected() {
    let mut bench = Bench::new();
    assert_eq!(bench.participate(1, "room", true), Ok(SessionNumber(1)));
    assert_eq!(bench.log(), ["joined 1", "expect 1"]);
    bench.connect(1);
    assert!(bench.log().contains(&"roster of 1".to_owned()));
    bench.participate(2, "room", true).unwrap();
    bench.connect(2);
    let log = bench.log();
    assert_eq!(log[..2], ["joined 2", "expect 2"]);
    assert!(log.contains(&"wake 1".to_owned()) && log.contains(&"roster of 2".to_owned()));
}

#[test]
fn a_join_that_is_refused_leaves_no_room_behind() {
    let mut bench = Bench::new();
    let refused = bench.participate(1, "room", false);
    assert_eq!(refused, Err(Refusal::NotAllowed(Purpose::Publish)));
    bench.assert_quiet();
    assert_eq!((bench.present(), bench.half_open()), (vec![], 0));
    assert!(bench.control.roster(&"room".parse().unwrap()).is_none());
    for number in 1..=2 {
        bench.participate(number, "room", true).unwrap();
    }
    bench.log();
    assert_eq!(bench.participate(3, "room", true), Err(Refusal::RoomFull { max: 2 }));
    bench.assert_quiet();
    assert_eq!(bench.present(), [1, 2]);
}

#[test]
fn a_member_that_leaves_before_it_connects_takes_an_empty_room_along() {
    let mut bench = Bench::new();
    bench.participate(1, "room", true).unwrap();
    bench.log();
    bench.call(|control, now| control.handle_leave(now, id(1))).unwrap();
    assert_eq!(
        bench.log(),
        ["left 1", "room closed", "close 1", "member 1 ended: goodbye"]
    );
    assert_eq!((bench.present(), bench.half_open()), (vec![], 0));
    let again = bench.call(|control, now| control.handle_leave(now, id(1)));
    assert_eq!(again, Err(Refusal::UnknownSession));
}

#[test]
fn the_publisher_of_the_rooms_name_takes_part_in_the_room() {
    let mut bench = Bench::new();
    bench.participate(1, "room", true).unwrap();
    bench.connect(1);
    bench.publish(2, "room", None).unwrap();
    bench.log();
    bench.connect(2);
    assert!(bench.log().iter().any(|line| line == "lift"));
    let roster = bench.control.roster(&"room".parse().unwrap()).unwrap();
    let broadcasts: Vec<bool> = roster.members.iter().map(|member| member.broadcast).collect();
    assert_eq!(broadcasts, [false, true]);
    bench.closed(2, CloseCause::Commanded);
    let roster = bench.control.roster(&"room".parse().unwrap()).unwrap();
    assert_eq!(roster.members.len(), 1);
}

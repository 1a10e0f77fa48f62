//! Present sessions: what their followers see, and how they end.

use onecast_engine::fanout::CloseCause;
use onecast_rtc::rtp::Codec;
use onecast_rtc::sdp::Fragment;

use super::Bench;
use super::bench::{credentials, id};
use crate::ended::EndReason;
use crate::ice_session::Precondition;
use crate::port::Protocol;
use crate::refusal::Refusal;
use crate::registry::SessionNumber;
use crate::whep_events::{EventSet, EventStreamId, NewEvents};

fn open_events(bench: &mut Bench, number: u128) -> Result<(), Refusal> {
    let wanted = EventSet::of_names(["active", "viewercount"]).unwrap();
    let new = NewEvents {
        id: EventStreamId::from_random(number.to_be_bytes()),
        jitter: 7,
    };
    bench.call(|control, now| control.handle_open_events(now, id(number), wanted, new))
}

#[test]
fn followers_see_the_stream_go_live_and_its_viewers_come_and_leave() {
    let mut bench = Bench::new();
    bench.watch(1, "live").unwrap();
    bench.connect(1);
    bench.log();
    open_events(&mut bench, 1).unwrap();
    bench.publish(2, "live", None).unwrap();
    bench.connect(2);
    bench.send(2, Codec::Vp8);
    bench.watch(3, "live").unwrap();
    bench.connect(3);
    bench.closed(3, CloseCause::Commanded);
    bench.closed(2, CloseCause::Commanded);
    let seen = [
        "events of 1 viewers",
        "expect 2",
        "live live 1",
        "expect 3",
        "live live 2",
        "live live 1",
        "close 3",
        "viewer 2 ended: connection",
        "live off 1",
        "close 2",
        "broadcaster ended: connection",
    ];
    assert_eq!(bench.log(), seen);
}

#[test]
fn event_streams_end_with_their_session() {
    let mut bench = Bench::new();
    bench.watch(1, "live").unwrap();
    bench.publish(2, "live", None).unwrap();
    assert_eq!(open_events(&mut bench, 2), Err(Refusal::UnknownSession));
    open_events(&mut bench, 1).unwrap();
    bench.log();
    bench
        .call(|control, now| control.handle_close(now, id(1), Protocol::Whep))
        .unwrap();
    assert_eq!(
        bench.log(),
        ["events closed", "live unfollowed", "close 1", "viewer 1 ended: goodbye"]
    );
    assert_eq!(open_events(&mut bench, 1), Err(Refusal::UnknownSession));
}

#[test]
fn an_ice_restart_that_the_shards_cannot_take_leaves_the_old_session() {
    let mut bench = Bench::new();
    bench.watch(1, "live").unwrap();
    bench.connect(1);
    bench.log();
    let fragment = Fragment::parse("a=ice-ufrag:theirs2\r\na=ice-pwd:0123456789012345678901\r\n").unwrap();
    let patch = |bench: &mut Bench| {
        let session = (id(1), Protocol::Whep);
        let fresh = credentials(100);
        let done =
            bench.call(|control, now| control.handle_patch(now, session, &Precondition::Any, Ok(&fragment), &fresh));
        done.map(|restart| restart.is_some())
    };
    bench.control.set_shards_busy(true);
    assert_eq!(patch(&mut bench), Err(Refusal::Overloaded));
    bench.assert_quiet();
    bench.control.set_shards_busy(false);
    assert_eq!(patch(&mut bench), Ok(true));
    assert_eq!(bench.log(), ["restart 1"]);
    // The same again is a retransmission, not another restart.
    assert_eq!(patch(&mut bench), Ok(false));
    bench.assert_quiet();
}

#[test]
fn a_kicked_client_learns_why_and_its_number_is_not_used_again() {
    let mut bench = Bench::new();
    bench.watch(1, "live").unwrap();
    let kick = |bench: &mut Bench| bench.call(|control, now| control.handle_kick(now, SessionNumber(1), None));
    assert_eq!(kick(&mut bench), Ok(()));
    assert_eq!(kick(&mut bench), Err(Refusal::UnknownNumber));
    let close = bench.call(|control, now| control.handle_close(now, id(1), Protocol::Whep));
    assert_eq!(close, Err(Refusal::Ended(EndReason::Operator(None))));
    bench.watch(2, "live").unwrap();
    let now = bench.now;
    assert!(bench.control.session(now, SessionNumber(1)).is_none());
    assert!(bench.control.session(now, SessionNumber(2)).is_some());
}

use std::sync::Arc;

use super::*;
use crate::Caller;
use crate::Refusal;
use crate::registry::{Limits, Registry};
use onecast_engine::fanout::{Direction, Plan, Session};
use onecast_rtc::{DtlsRole, IceCredentials, RemoteTransport};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

fn registry(sessions: SessionLimits) -> Registry {
    let limits = Limits {
        streams: 10,
        viewers: 100,
        admission: crate::AdmissionLimits::default(),
        sessions,
        rooms: crate::conference::RoomLimits::DEFAULT,
    };
    Registry::new(limits, Vec::new().into(), 7)
}

fn id(number: u128) -> SessionId {
    SessionId::from_random(number.to_be_bytes())
}

fn admit(registry: &mut Registry, now: Instant, purpose: Purpose, stream: &str, number: u128) -> Result<(), Refusal> {
    let address = [192, 0, 2, 1].into();
    let caller = Caller { purpose, address };
    let stream = stream.parse().unwrap();
    let admitted = registry.join(now, &stream, caller, id(number), CONNECT_TIMEOUT);
    admitted.map(drop)
}

fn connect(registry: &mut Registry, now: Instant, purpose: Purpose, stream: &str, number: u128) {
    admit(registry, now, purpose, stream, number).unwrap();
    registry.connected(now, Duration::ZERO, id(number)).unwrap();
}

/// Reads a meter once a second for `seconds` while `bps` are sent, and gives what it told.
fn drive(meter: &mut Meter, start: Instant, sent: &mut u64, from: u64, seconds: u64, bps: u64, max: u64) -> Vec<Rate> {
    let read = |second| {
        *sent += bps / 8;
        meter.read(start + Duration::from_secs(second), *sent, Some(max))
    };
    (from + 1..=from + seconds).map(read).collect()
}

#[test]
fn a_publisher_above_its_bound_is_warned_of_once_and_is_beyond_it_after_five_seconds() {
    let start = onecast_udp::clock::now();
    let (mut meter, mut sent) = (Meter::new(start), 0);
    let told = drive(&mut meter, start, &mut sent, 0, 7, 3_000_000, 2_000_000);
    // The first second is no window yet; the rate is known to be above at two seconds, and five later it is enough.
    let still = [Rate::StillAbove; 4];
    assert_eq!(told[..2], [Rate::Within, Rate::Above(3_000_000)]);
    assert_eq!(told[2..6], still);
    assert_eq!(told[6], Rate::Beyond(3_000_000));
}

#[test]
fn a_burst_and_a_rate_at_the_bound_are_within_it() {
    let start = onecast_udp::clock::now();
    let (mut meter, mut sent) = (Meter::new(start), 0);
    let told = drive(&mut meter, start, &mut sent, 0, 60, 2_000_000, 2_000_000);
    assert!(told.iter().all(|rate| *rate == Rate::Within), "{told:?}");
    // One second of twice as much, between seconds of half of it, is what a keyframe does.
    drive(&mut meter, start, &mut sent, 60, 2, 1_000_000, 2_000_000);
    for round in 0..20 {
        let at = 62 + round * 3;
        assert_eq!(
            drive(&mut meter, start, &mut sent, at, 1, 2_900_000, 2_000_000),
            [Rate::Within]
        );
        let quiet = drive(&mut meter, start, &mut sent, at + 1, 2, 1_000_000, 2_000_000);
        assert_eq!(quiet, [Rate::Within; 2]);
    }
}

#[test]
fn a_publisher_that_falls_below_the_bound_in_time_starts_over() {
    let start = onecast_udp::clock::now();
    let (mut meter, mut sent) = (Meter::new(start), 0);
    for round in 0..10 {
        let above = drive(&mut meter, start, &mut sent, round * 8, 5, 3_000_000, 2_000_000);
        assert!(!above.iter().any(|rate| matches!(rate, Rate::Beyond(_))), "{above:?}");
        assert_eq!(above.iter().filter(|rate| matches!(rate, Rate::Above(_))).count(), 1);
        drive(&mut meter, start, &mut sent, round * 8 + 5, 3, 100_000, 2_000_000);
    }
}

#[test]
fn readings_are_bounded_however_often_they_are_taken() {
    let start = onecast_udp::clock::now();
    let mut meter = Meter::new(start);
    for step in 0..100_000 {
        meter.read(start + Duration::from_millis(step), step * 1_000, Some(1_000_000));
        assert!(meter.readings.len() <= Meter::READINGS_MAX);
    }
    // 8 Mbit/s: the sum over the window is grant although only some of the readings were kept.
    let rate = meter.read(start + Duration::from_millis(100_300), 100_300_000, Some(1_000_000));
    assert!(matches!(rate, Rate::Beyond(7_990_000..=8_010_000)), "{rate:?}");
}

#[test]
fn a_publisher_that_sends_nothing_is_idle_and_one_that_connects_is_not() {
    let start = onecast_udp::clock::now();
    let after = Duration::from_secs(60);
    let mut registry = registry(SessionLimits {
        publisher_idle: Some(after),
        ..SessionLimits::default()
    });
    admit(&mut registry, start, Purpose::Publish, "connecting", 1).unwrap();
    connect(&mut registry, start, Purpose::Publish, "silent", 2);
    connect(&mut registry, start, Purpose::Watch, "silent", 3);
    for second in 1..60 {
        assert_eq!(registry.verdicts(start + Duration::from_secs(second)), []);
    }
    let idle = Verdict::End(id(2), EndReason::Idle { after });
    assert_eq!(registry.verdicts(start + after), [idle]);
}

#[test]
fn a_viewer_is_idle_without_a_publisher_and_not_before_its_own_time() {
    let start = onecast_udp::clock::now();
    let at = |second| start + Duration::from_secs(second);
    let after = Duration::from_secs(10);
    let mut registry = registry(SessionLimits {
        viewer_idle: Some(after),
        ..SessionLimits::default()
    });
    connect(&mut registry, at(0), Purpose::Watch, "empty", 1);
    connect(&mut registry, at(8), Purpose::Watch, "empty", 2);
    connect(&mut registry, at(0), Purpose::Publish, "live", 3);
    connect(&mut registry, at(0), Purpose::Watch, "live", 4);
    let idle = |number| Verdict::End(id(number), EndReason::Idle { after });
    assert_eq!(registry.verdicts(at(9)), []);
    assert_eq!(registry.verdicts(at(10)), [idle(1)]);
    registry.remove(at(10), id(1));
    assert_eq!(registry.verdicts(at(18)), [idle(2)]);
    registry.remove(at(18), id(2));
    // The publisher's going starts the time of those who watch it; its return ends it.
    registry.remove(at(20), id(3));
    assert_eq!(registry.verdicts(at(29)), []);
    connect(&mut registry, at(29), Purpose::Publish, "live", 5);
    assert_eq!(registry.verdicts(at(100)), []);
    registry.remove(at(100), id(5));
    assert_eq!(registry.verdicts(at(110)), [idle(4)]);
}

#[test]
fn the_longest_time_is_of_publishers_and_viewers_from_their_connection_on() {
    let start = onecast_udp::clock::now();
    let at = |second| start + Duration::from_secs(second);
    let max = Duration::from_secs(100);
    let mut registry = registry(SessionLimits {
        session_time: Some(max),
        ..SessionLimits::default()
    });
    admit(&mut registry, at(0), Purpose::Watch, "a", 1).unwrap();
    connect(&mut registry, at(0), Purpose::Publish, "a", 2);
    connect(&mut registry, at(50), Purpose::Watch, "a", 3);
    registry.connected(at(20), Duration::ZERO, id(1)).unwrap();
    let over = |number| Verdict::End(id(number), EndReason::SessionTime { max });
    assert_eq!(registry.verdicts(at(99)), []);
    assert_eq!(registry.verdicts(at(100)), [over(2)]);
    registry.remove(at(100), id(2));
    assert_eq!(registry.verdicts(at(120)), [over(1)]);
    assert_eq!(registry.verdicts(at(150)), [over(1), over(3)]);
}

#[test]
fn a_stream_has_its_own_bound_of_viewers() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(SessionLimits {
        viewers_per_stream: Some(2),
        ..SessionLimits::default()
    });
    for number in 1..=2 {
        admit(&mut registry, now, Purpose::Watch, "a", number).unwrap();
    }
    let refused = admit(&mut registry, now, Purpose::Watch, "a", 3);
    assert_eq!(refused, Err(Refusal::StreamFull { max: 2 }));
    admit(&mut registry, now, Purpose::Watch, "b", 4).unwrap();
    admit(&mut registry, now, Purpose::Publish, "a", 5).unwrap();
    registry.remove(now, id(1));
    admit(&mut registry, now, Purpose::Watch, "a", 6).unwrap();
    assert!(admit(&mut registry, now, Purpose::Watch, "a", 7).is_err());
}

#[test]
fn a_member_of_a_room_is_bounded_in_time_and_may_be_silent() {
    let limits = SessionLimits {
        session_time: Some(Duration::from_secs(100)),
        publisher_idle: Some(Duration::from_secs(10)),
        ..SessionLimits::default()
    };
    let mut registry = registry(limits);
    let start = onecast_udp::clock::now();
    connect(&mut registry, start, Purpose::Participate, "room", 1);
    assert_eq!(registry.verdicts(start + Duration::from_secs(99)), []);
    let why = EndReason::SessionTime {
        max: Duration::from_secs(100),
    };
    assert_eq!(
        registry.verdicts(start + Duration::from_secs(101)),
        [Verdict::End(id(1), why)]
    );
}

#[test]
fn large_packets_of_a_publisher_are_reported_once_and_shown() {
    let start = onecast_udp::clock::now();
    let mut registry = registry(SessionLimits::default());
    admit(&mut registry, start, Purpose::Publish, "s", 1).unwrap();
    let session = Arc::new(session(&registry, "s", 1, start));
    registry.set_session(session.clone());
    registry.connected(start, Duration::ZERO, id(1)).unwrap();
    let at = |second| start + Duration::from_secs(second);
    assert_eq!(registry.verdicts(at(1)), []);
    session.counters.large_packets.set_total(2);
    session.counters.longest_datagram.raise(1_516);
    let large = Verdict::Large {
        stream: "s".parse().unwrap(),
        longest: 1_516,
    };
    assert_eq!(registry.verdicts(at(2)), [large]);
    session.counters.large_packets.set_total(9);
    let shown = LargePackets {
        count: 9,
        longest: 1_516,
    };
    for second in 3..100 {
        assert_eq!(registry.verdicts(at(second)), []);
        assert_eq!(registry.streams(at(second))[0].large, shown);
    }
    registry.remove(at(100), id(1)).unwrap();
    assert!(
        registry
            .streams(at(100))
            .iter()
            .all(|stream| stream.large == LargePackets::default())
    );
}

fn session(registry: &Registry, stream: &str, number: u128, now: Instant) -> Session {
    let tracks = registry.streams.by_name[&stream.parse().unwrap()].tracks.clone();
    let ice = || IceCredentials {
        ufrag: "ufrag".into(),
        pwd: "a-password-of-22-chars".into(),
    };
    let remote = RemoteTransport {
        ice: ice(),
        fingerprints: vec![],
        role: DtlsRole::Server,
    };
    let plan = Plan::watch(tracks, None, None);
    Session::new(id(number), ice(), remote, Direction::ReceiveOnly, plan, now)
}

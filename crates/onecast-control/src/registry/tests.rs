use std::net::{IpAddr, Ipv4Addr};

use super::testing::Terms;
use super::*;
use crate::Credential;
use crate::admission::BusyCause;

fn registry(limits: Limits) -> Registry {
    Registry::new(limits, Vec::new().into(), 7)
}

const fn caller(purpose: Purpose) -> Caller {
    Caller {
        purpose,
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    }
}

fn name(text: &str) -> StreamName {
    text.parse().unwrap()
}

fn id(number: u128) -> SessionId {
    SessionId::from_random(number.to_be_bytes())
}

pub(super) const UNBOUNDED: SessionLimits = SessionLimits {
    viewers_per_stream: None,
    publish_bps: None,
    session_time: None,
    publisher_idle: None,
    viewer_idle: None,
    layers_max_height: None,
};
const LIMITS: Limits = Limits {
    streams: 2,
    viewers: 2,
    admission: AdmissionLimits {
        joins_per_second: 1_000,
        half_open: 100,
        half_open_per_address: 100,
        joins_per_address: 1_000,
    },
    sessions: UNBOUNDED,
    rooms: crate::conference::RoomLimits::DEFAULT,
};
/// With strict limits of admission.
const NARROW: Limits = Limits {
    streams: 4,
    viewers: 100,
    admission: AdmissionLimits {
        joins_per_second: 1_000,
        half_open: 4,
        half_open_per_address: 2,
        joins_per_address: 1_000,
    },
    sessions: UNBOUNDED,
    rooms: crate::conference::RoomLimits::DEFAULT,
};
const VIEWER: Caller = caller(Purpose::Watch);
const PUBLISHER: Caller = caller(Purpose::Publish);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn the_first_publisher_holds_the_stream_until_it_leaves() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(LIMITS);
    registry
        .join(now, &name("a"), PUBLISHER, id(1), terms(Some("studio")))
        .unwrap();
    let taken = registry
        .join(now, &name("a"), PUBLISHER, id(2), CONNECT_TIMEOUT)
        .unwrap_err();
    assert!(matches!(taken, Refusal::Taken { since_unix: None, .. }));

    registry.connected(now, Duration::from_secs(9), id(1)).unwrap();
    let later = now + Duration::from_secs(100);
    let taken = registry
        .join(later, &name("a"), PUBLISHER, id(2), CONNECT_TIMEOUT)
        .unwrap_err();
    assert!(matches!(taken, Refusal::Taken { since_unix: Some(since), .. } if since == Duration::from_secs(9)));

    registry.remove(later, id(1)).unwrap();
    assert!(
        registry
            .join(later, &name("a"), PUBLISHER, id(2), CONNECT_TIMEOUT)
            .is_ok()
    );
}

#[test]
fn a_publisher_that_never_connects_makes_room() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(LIMITS);
    registry
        .join(now, &name("a"), PUBLISHER, id(1), CONNECT_TIMEOUT)
        .unwrap();
    let later = now + slot::PUBLISHER_TIMEOUT;
    let admitted = registry
        .join(later, &name("a"), PUBLISHER, id(2), CONNECT_TIMEOUT)
        .unwrap();
    assert!(admitted.displaced.is_some());
    assert_eq!(registry.purpose(id(1)), None);
}

fn terms(credential: Option<&str>) -> Terms {
    let credential = credential.map(|name| Credential(name.into()));
    let grant = Grant {
        credential,
        token: None,
    };
    let timeout = CONNECT_TIMEOUT;
    Terms { timeout, grant }
}

#[test]
fn only_the_same_right_takes_a_live_stream_over() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(LIMITS);
    let studio = || terms(Some("studio"));
    registry.join(now, &name("a"), PUBLISHER, id(1), studio()).unwrap();
    registry.connected(now, Duration::from_secs(9), id(1)).unwrap();
    let viewer = registry.join(now, &name("a"), VIEWER, id(2), CONNECT_TIMEOUT).unwrap();
    for other in [terms(None), terms(Some("other"))] {
        let refused = registry.join(now, &name("a"), PUBLISHER, id(3), other).unwrap_err();
        assert!(matches!(
            refused,
            Refusal::Taken {
                since_unix: Some(_),
                ..
            }
        ));
    }
    let admitted = registry.join(now, &name("a"), PUBLISHER, id(3), studio()).unwrap();
    assert_eq!(
        admitted.displaced.map(|ended| (ended.id, ended.viewers)),
        Some((id(1), 0))
    );
    assert!(admitted.takes_over && Arc::ptr_eq(&viewer.tracks, &admitted.tracks));
    assert_eq!(
        (registry.purpose(id(1)), registry.purpose(id(2))),
        (None, Some(Purpose::Watch))
    );
    // The one that has not connected yet is taken over as well.
    let again = registry.join(now, &name("a"), PUBLISHER, id(4), studio()).unwrap();
    assert!(again.takes_over && registry.purpose(id(3)).is_none());
}

#[test]
fn a_publisher_without_a_credential_does_not_take_over() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(LIMITS);
    registry.join(now, &name("a"), PUBLISHER, id(1), terms(None)).unwrap();
    registry.connected(now, Duration::from_secs(9), id(1)).unwrap();
    for grant in [terms(None), terms(Some("studio"))] {
        assert!(registry.join(now, &name("a"), PUBLISHER, id(2), grant).is_err());
    }
}

#[test]
fn a_publisher_that_was_taken_over_can_learn_why() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(LIMITS);
    let studio = || terms(Some("studio"));
    registry.join(now, &name("a"), PUBLISHER, id(1), studio()).unwrap();
    let admitted = registry.join(now, &name("a"), PUBLISHER, id(2), studio()).unwrap();
    registry.remember(
        Duration::from_secs(9),
        &admitted.displaced.unwrap(),
        EndReason::TakenOver,
    );
    assert_eq!(registry.why_ended(id(1)), Some(EndReason::TakenOver));
    assert_eq!(registry.why_ended(id(2)), None);
}

#[test]
fn the_tracks_outlive_the_publisher_and_end_with_the_last_viewer() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(LIMITS);
    let first = registry
        .join(now, &name("a"), PUBLISHER, id(1), CONNECT_TIMEOUT)
        .unwrap();
    let viewer = registry.join(now, &name("a"), VIEWER, id(2), CONNECT_TIMEOUT).unwrap();
    assert_eq!(viewer.number, 1);
    registry.remove(now, id(1));
    let second = registry
        .join(now, &name("a"), PUBLISHER, id(3), CONNECT_TIMEOUT)
        .unwrap();
    assert!(Arc::ptr_eq(&first.tracks, &second.tracks));
    registry.remove(now, id(2));
    registry.remove(now, id(3));
    assert_eq!(registry.streams(now), []);
    let third = registry
        .join(now, &name("b"), PUBLISHER, id(4), CONNECT_TIMEOUT)
        .unwrap();
    assert_eq!(third.tracks.key.slot, first.tracks.key.slot);
    assert_ne!(third.tracks.key, first.tracks.key);
}

#[test]
fn streams_and_viewers_are_bounded() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(LIMITS);
    for number in 0..2 {
        let name = name(&format!("s{number}"));
        registry.join(now, &name, VIEWER, id(number), CONNECT_TIMEOUT).unwrap();
    }
    let refused = registry
        .join(now, &name("s0"), VIEWER, id(9), CONNECT_TIMEOUT)
        .unwrap_err();
    assert_eq!(refused, Refusal::Full { max: 2 });
    let refused = registry
        .join(now, &name("s2"), PUBLISHER, id(9), CONNECT_TIMEOUT)
        .unwrap_err();
    assert_eq!(refused, Refusal::TooManyStreams { max: 2 });
}

#[test]
fn clients_that_do_not_connect_are_overdue() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(LIMITS);
    registry.join(now, &name("a"), VIEWER, id(1), CONNECT_TIMEOUT).unwrap();
    registry.join(now, &name("a"), VIEWER, id(2), CONNECT_TIMEOUT).unwrap();
    registry.connected(now, Duration::ZERO, id(2));
    assert_eq!(registry.overdue(now + CONNECT_TIMEOUT), [id(1)]);
}

#[test]
fn half_open_sessions_are_counted_until_they_connect_or_end_in_whatever_way() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(NARROW);
    let half_open = |registry: &Registry| registry.admission().half_open;
    let admit = |registry: &mut Registry, now, caller, number| {
        registry.admit(now, caller)?;
        registry.join(now, &name("a"), caller, id(number), CONNECT_TIMEOUT)
    };

    for number in 1..=2 {
        admit(&mut registry, now, VIEWER, number).unwrap();
    }
    let refused = admit(&mut registry, now, VIEWER, 3).unwrap_err();
    assert!(matches!(refused, Refusal::Busy(busy) if busy.cause == BusyCause::Address));
    assert_eq!(registry.streams(now).len(), 1, "a refused client leaves nothing behind");

    // One finishes its handshake, which is reported twice, and leaves; the client of the other never comes.
    registry.connected(now, Duration::ZERO, id(1)).unwrap();
    assert_eq!(half_open(&registry), 1);
    registry.connected(now, Duration::ZERO, id(1)).unwrap();
    assert_eq!(half_open(&registry), 1);
    registry.remove(now, id(1)).unwrap();
    assert_eq!(half_open(&registry), 1);
    for overdue in registry.overdue(now + CONNECT_TIMEOUT) {
        registry.remove(now, overdue).unwrap();
    }
    assert_eq!(half_open(&registry), 0);

    // A publisher makes room for another, whose answer cannot be made.
    admit(&mut registry, now, PUBLISHER, 4).unwrap();
    let later = now + slot::PUBLISHER_TIMEOUT;
    admit(&mut registry, later, PUBLISHER, 5).unwrap();
    assert_eq!(half_open(&registry), 1);
    registry.remove(later, id(5)).unwrap();
    assert!(registry.remove(later, id(5)).is_none() && registry.remove(later, id(4)).is_none());
    assert_eq!(half_open(&registry), 0);

    // Clients that the registry refuses for its own reasons were never half-open.
    admit(&mut registry, later, PUBLISHER, 6).unwrap();
    assert!(matches!(
        admit(&mut registry, later, PUBLISHER, 7),
        Err(Refusal::Taken { .. })
    ));
    assert_eq!(half_open(&registry), 1);
}

#[test]
fn sessions_leave_nothing_in_admission_in_any_order_of_events() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(NARROW);
    let mut seed = 42u64;
    let mut chance = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for step in 0..20_000u64 {
        let now = now + Duration::from_millis(step);
        let session = id(chance(12).into());
        match chance(4) {
            0 if registry.purpose(session).is_none() => {
                let purpose = if chance(3) == 0 {
                    Purpose::Publish
                } else {
                    Purpose::Watch
                };
                let caller = Caller {
                    purpose,
                    address: [10, 0, 0, chance(3) as u8].into(),
                };
                let stream = name(&format!("s{}", chance(5)));
                let _ = registry.join(now, &stream, caller, session, CONNECT_TIMEOUT);
            }
            1 => drop(registry.connected(now, Duration::ZERO, session)),
            2 => drop(registry.remove(now, session)),
            _ => {}
        }
        let half_open = registry
            .sessions
            .by_id
            .values()
            .filter(|entry| entry.connected.is_none());
        assert_eq!(registry.admission().half_open, half_open.count() as u64, "step {step}");
    }
    for number in 0..12 {
        registry.remove(now, id(number));
    }
    assert_eq!(registry.admission().half_open, 0);
    // Every place of every address is free again.
    for number in 0..2 {
        registry
            .join(now, &name("a"), VIEWER, id(number), CONNECT_TIMEOUT)
            .unwrap();
    }
}

#[test]
fn a_server_offer_takes_one_answer_and_times_out_like_other_sessions() {
    let start = onecast_udp::clock::now();
    let mut registry = registry(LIMITS);
    let local = || IceCredentials {
        ufrag: "ours".into(),
        pwd: "0123456789012345678901".into(),
    };
    for number in [1, 2] {
        registry
            .join(start, &name("a"), VIEWER, id(number), CONNECT_TIMEOUT)
            .unwrap();
        assert!(!registry.awaits_answer(id(number)));
        registry.set_offered(id(number), local());
    }
    assert_eq!(registry.admission().half_open, 2);

    let answered = start + Duration::from_secs(20);
    assert!(registry.awaits_answer(id(1)));
    assert_eq!(
        registry.take_offered(answered, id(1), CONNECT_TIMEOUT).unwrap().local,
        local()
    );
    assert!(!registry.awaits_answer(id(1)));
    assert!(
        registry.take_offered(answered, id(1), CONNECT_TIMEOUT).is_none(),
        "a second answer"
    );

    // The one that never answers goes first.
    assert_eq!(registry.overdue(start + CONNECT_TIMEOUT), [id(2)]);
    let ended = registry.remove(start + CONNECT_TIMEOUT, id(2)).unwrap();
    assert!(ended.session.is_none() && ended.id == id(2));
    assert_eq!(registry.overdue(answered + CONNECT_TIMEOUT), [id(1)]);
    assert_eq!(registry.admission().half_open, 1);
}

#[test]
fn followers_see_whether_media_arrives_and_how_many_watch() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(LIMITS);
    let told = |registry: &Registry| {
        let audience = registry.audience(now, &name("a"));
        (audience.live, audience.viewers)
    };
    assert_eq!(told(&registry), (false, 0));
    for (number, caller) in [(1, PUBLISHER), (2, VIEWER)] {
        registry
            .join(now, &name("a"), caller, id(number), CONNECT_TIMEOUT)
            .unwrap();
        assert_eq!(told(&registry), (number == 2, 0));
        registry.connected(now, Duration::ZERO, id(number)).unwrap();
        assert_eq!(told(&registry).0, number == 2, "a connection alone is not live");
        registry.media(id(number), Kind::Video, Codec::Vp8);
    }
    assert_eq!(told(&registry), (true, 1));
    registry.remove(now, id(1)).unwrap();
    assert_eq!(told(&registry), (false, 1));
}

#[test]
fn a_publisher_that_never_connects_does_not_take_a_room_off_air() {
    let now = onecast_udp::clock::now();
    let mut registry = registry(LIMITS);
    let member = caller(Purpose::Participate);
    registry.join(now, &name("a"), member, id(1), CONNECT_TIMEOUT).unwrap();
    registry.connected(now, Duration::ZERO, id(1));
    let codecs = [Some(Codec::Opus), Some(Codec::Vp8)];
    let program = crate::conference::Program {
        codecs,
        is_broadcast: false,
    };
    registry.set_program(now, Duration::from_secs(9), &name("a"), Some(program));
    assert!(registry.audience(now, &name("a")).live);
    registry
        .join(now, &name("a"), PUBLISHER, id(2), CONNECT_TIMEOUT)
        .unwrap();
    registry.remove(now, id(2)).unwrap();
    assert!(registry.audience(now, &name("a")).live);
    assert_eq!(registry.codecs(&name("a")), codecs);
    registry.set_program(now, Duration::from_secs(10), &name("a"), None);
    assert!(!registry.audience(now, &name("a")).live);
}

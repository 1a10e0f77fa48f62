use super::*;

const LIMITS: AdmissionLimits = AdmissionLimits {
    joins_per_second: 10,
    half_open: 6,
    half_open_per_address: 4,
    joins_per_address: 100,
};

fn viewer(address: &str) -> Caller {
    Caller {
        purpose: Purpose::Watch,
        address: address.parse().unwrap(),
    }
}

fn publisher(address: &str) -> Caller {
    Caller {
        purpose: Purpose::Publish,
        ..viewer(address)
    }
}

/// Viewers of different addresses.
fn crowd() -> impl Iterator<Item = Caller> {
    (0..).map(|number: u32| Caller {
        purpose: Purpose::Watch,
        address: IpAddr::V4((0x0a00_0000 + number).into()),
    })
}

/// How many of `count` that come at once are taken.
fn taken(admission: &mut Admission, now: Instant, count: usize) -> usize {
    crowd()
        .take(count)
        .filter(|&caller| admission.admit(now, caller).is_ok())
        .count()
}

#[test]
fn a_second_s_worth_may_come_at_once_and_then_as_many_as_the_rate() {
    let now = onecast_udp::clock::now();
    for rate in [1, 3, 10, 1_000, 1_000_000] {
        let mut admission = Admission::new(AdmissionLimits {
            joins_per_second: rate,
            ..LIMITS
        });
        let burst = taken(&mut admission, now, 2_000);
        assert_eq!(burst, 2_000.min(rate as usize), "{rate}");
    }
    let mut admission = Admission::new(LIMITS);
    assert_eq!(taken(&mut admission, now, 100), 10);
    assert_eq!(taken(&mut admission, now + Duration::from_millis(99), 100), 0);
    assert_eq!(taken(&mut admission, now + Duration::from_millis(100), 100), 1);
    assert_eq!(taken(&mut admission, now + Duration::from_millis(600), 100), 5);
    assert_eq!(taken(&mut admission, now + Duration::from_secs(60), 100), 10);
}

#[test]
fn asking_whether_there_is_room_takes_no_turn() {
    let now = onecast_udp::clock::now();
    let mut admission = Admission::new(LIMITS);
    let caller = viewer("192.0.2.1");
    for _ in 0..1_000 {
        assert_eq!(admission.check(now, caller), Ok(()));
    }
    assert_eq!(taken(&mut admission, now, 100), 10);
    assert_eq!(admission.check(now, caller).unwrap_err().cause, BusyCause::Rate);
    assert_eq!(admission.check(now, publisher("192.0.2.1")), Ok(()));
}

#[test]
fn a_refused_client_that_returns_on_time_gets_in() {
    let mut now = onecast_udp::clock::now();
    let mut admission = Admission::new(LIMITS);
    let mut waiting: Vec<(Instant, Caller)> = crowd().take(60).map(|caller| (now, caller)).collect();
    let mut tries = 0;
    while !waiting.is_empty() {
        tries += waiting.len();
        waiting.sort_by_key(|&(at, _)| at);
        waiting = std::mem::take(&mut waiting)
            .into_iter()
            .filter_map(|(at, caller)| {
                now = now.max(at);
                let busy = admission.admit(now, caller).err()?;
                let spread = u64::from(busy.latest_s - busy.earliest_s) * 1_000 + 1;
                let wait = u64::from(busy.earliest_s) * 1_000
                    + u64::from(caller.address.to_string().len() as u16 * 97) % spread;
                Some((now + Duration::from_millis(wait), caller))
            })
            .collect();
        assert!(tries < 300, "clients that wait are admitted");
    }
}

#[test]
fn the_longer_the_queue_the_later_and_wider_is_the_time_to_come_back_and_never_absurd() {
    let now = onecast_udp::clock::now();
    let mut admission = Admission::new(LIMITS);
    assert_eq!(taken(&mut admission, now, 10), 10);
    let mut refused = |now| admission.admit(now, viewer("192.0.2.1")).unwrap_err();
    let first = refused(now);
    assert_eq!((first.cause, first.max), (BusyCause::Rate, 10));
    assert_eq!((first.earliest_s, first.latest_s), (1, 5));
    let later = (0..99).map(|_| refused(now)).last().unwrap();
    assert_eq!((later.earliest_s, later.latest_s), (11, 20));
    let last = (0..10_000).map(|_| refused(now)).last().unwrap();
    assert_eq!((last.earliest_s, last.latest_s), (21, 35));
    // The queue passes, and then the first refused client may return soon again.
    let now = now + Duration::from_secs(30);
    assert_eq!(taken(&mut admission, now, 10), 10);
    let busy = admission.admit(now, viewer("192.0.2.1")).unwrap_err();
    assert_eq!((busy.earliest_s, busy.latest_s), (1, 5));
}

#[test]
fn half_open_sessions_are_bounded_until_they_settle() {
    let now = onecast_udp::clock::now();
    let mut admission = Admission::new(LIMITS);
    for caller in crowd().take(6) {
        admission.admit(now, caller).unwrap();
        admission.opened(caller);
    }
    let late = viewer("192.0.2.1");
    let busy = admission.admit(now, late).unwrap_err();
    assert_eq!((busy.cause, busy.max), (BusyCause::HalfOpen, 6));
    assert!(busy.earliest_s >= 1);
    admission.settled(crowd().next().unwrap());
    admission.admit(now, late).unwrap();
    let reading = admission.read();
    assert_eq!((reading.half_open, reading.refused_half_open), (5, 1));
}

#[test]
fn one_address_cannot_take_all_places_nor_the_tokens_of_others() {
    let now = onecast_udp::clock::now();
    let mut admission = Admission::new(LIMITS);
    let greedy = viewer("192.0.2.1");
    for _ in 0..4 {
        admission.admit(now, greedy).unwrap();
        admission.opened(greedy);
    }
    for _ in 0..1_000 {
        let busy = admission.admit(now, greedy).unwrap_err();
        assert_eq!((busy.cause, busy.max), (BusyCause::Address, 4));
        assert_eq!((busy.earliest_s, busy.latest_s), (1, 5));
    }
    assert_eq!(taken(&mut admission, now, 100), 6);
    assert_eq!(admission.read().refused_address, 1_000);
}

#[test]
fn an_address_that_comes_too_often_is_refused_alone_and_takes_no_token_of_others() {
    let now = onecast_udp::clock::now();
    let mut admission = Admission::new(AdmissionLimits {
        joins_per_address: 3,
        ..LIMITS
    });
    let greedy = viewer("192.0.2.1");
    let taken_at = |admission: &mut Admission, now| (0..50).filter(|_| admission.admit(now, greedy).is_ok()).count();
    assert_eq!(taken_at(&mut admission, now), 3);
    let busy = admission.admit(now, greedy).unwrap_err();
    assert_eq!((busy.cause, busy.max), (BusyCause::AddressRate, 3));
    assert_eq!((busy.earliest_s, busy.latest_s), (1, 5));
    assert_eq!(taken(&mut admission, now, 100), 7);
    assert_eq!(taken_at(&mut admission, now + Duration::from_secs(1)), 3);
    // Nor has this machine itself such a bound, nor a publisher behind the same address.
    let now = now + Duration::from_secs(10);
    assert_eq!(
        (0..10).filter(|_| admission.admit(now, viewer("::1")).is_ok()).count(),
        10
    );
    assert_eq!(taken_at(&mut admission, now), 0, "the others have taken all");
    assert!(admission.admit(now, publisher("192.0.2.1")).is_ok());
}

#[test]
fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_ipv4() {
    let now = onecast_udp::clock::now();
    let mut admission = Admission::new(LIMITS);
    for host in [
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8::ffff:0:0:1",
        "2001:db8::a:b:c:d",
    ] {
        admission.opened(viewer(host));
    }
    assert!(admission.room(now, viewer("2001:db8::99")).is_err());
    assert!(admission.room(now, viewer("2001:db8:0:1::99")).is_ok());
    let mut admission = Admission::new(LIMITS);
    for host in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"] {
        admission.opened(viewer(host));
    }
    assert!(admission.room(now, viewer("::ffff:192.0.2.1")).is_err());
    assert!(admission.room(now, viewer("192.0.2.2")).is_ok());
}

#[test]
fn this_machine_s_own_addresses_are_not_counted_but_the_sum_is() {
    let now = onecast_udp::clock::now();
    let mut admission = Admission::new(LIMITS);
    for host in [
        "127.0.0.1",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "127.0.0.1",
        "127.0.0.1",
    ] {
        admission.admit(now, viewer(host)).unwrap();
        admission.opened(viewer(host));
    }
    assert!(admission.addresses.is_empty());
    let busy = admission.admit(now, viewer("127.0.0.1")).unwrap_err();
    assert_eq!(busy.cause, BusyCause::HalfOpen);
}

#[test]
fn a_crowd_of_viewers_does_not_keep_a_publisher_out() {
    let now = onecast_udp::clock::now();
    let mut admission = Admission::new(LIMITS);
    let mut spare = crowd();
    for caller in spare.by_ref().take(5) {
        admission.opened(caller);
    }
    assert_eq!(taken(&mut admission, now, 1_000), 10);
    admission.opened(viewer("10.0.0.0"));
    assert_eq!(
        admission.admit(now, viewer("10.0.9.9")).unwrap_err().cause,
        BusyCause::HalfOpen
    );
    // Not even one behind the same address.
    admission.admit(now, publisher("10.0.0.0")).unwrap();
    let taken = (0..100).filter(|_| admission.admit(now, publisher("10.0.9.9")).is_ok());
    assert_eq!(taken.count() as u32, Admission::PUBLISHERS_PER_SECOND - 1);
}

#[test]
fn the_table_of_addresses_holds_only_half_open_ones() {
    let now = onecast_udp::clock::now();
    let mut admission = Admission::new(LIMITS);
    for caller in crowd().take(10_000) {
        let _ = admission.admit(now, caller);
    }
    assert!(admission.addresses.is_empty());
    for caller in crowd().take(6) {
        admission.opened(caller);
        admission.opened(Caller {
            purpose: Purpose::Publish,
            ..caller
        });
    }
    assert_eq!(admission.addresses.len(), 6);
    for caller in crowd().take(6) {
        admission.settled(caller);
        assert!(admission.addresses.contains_key(&caller.address));
        admission.settled(Caller {
            purpose: Purpose::Publish,
            ..caller
        });
    }
    assert!(admission.addresses.is_empty());
    assert_eq!(admission.read().half_open, 0);
}

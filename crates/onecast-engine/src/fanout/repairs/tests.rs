use super::*;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const WAIT: Duration = ms(50);
fn repairs(now: Instant) -> Repairs {
    let mut repairs = Repairs::new(now);
    repairs.begin(now, 0);
    repairs
}

/// Asks, and answers when the packet may be sent. Returns whether it was.
fn ask(repairs: &mut Repairs, now: Instant, number: u64) -> bool {
    repairs.begin(now, 0);
    let may_be_sent = matches!(
        repairs.ask(now, number, WAIT),
        Request::First { .. } | Request::Again(_)
    );
    if may_be_sent {
        repairs.answered(now, number, true);
    }
    may_be_sent
}

#[test]
fn a_packet_is_sent_three_times_at_most_and_not_within_a_round_trip() {
    let start = onecast_udp::clock::now();
    let mut repairs = repairs(start);
    let sent: Vec<u64> = (0..1_000)
        .step_by(10)
        .filter(|&at| ask(&mut repairs, start + ms(at), 7))
        .collect();
    assert_eq!(sent, [0, 50, 100]);
    let again = start + ms(2_000);
    assert_eq!(repairs.ask(again, 7, WAIT), Request::Often { news: false });
    assert!(ask(&mut repairs, again, 8), "another one is another matter");
}

#[test]
fn what_went_to_the_address_before_is_sent_again() {
    let start = onecast_udp::clock::now();
    let mut repairs = repairs(start);
    for round in 0..3 {
        assert!(ask(&mut repairs, start + ms(100 * round), 7));
    }
    assert!(!ask(&mut repairs, start + ms(300), 7));
    repairs.moved(start + ms(301));
    assert!(ask(&mut repairs, start + ms(301), 7));
    let sent = (302..2_000).filter(|&at| ask(&mut repairs, start + ms(at), 7));
    assert_eq!(sent.count(), 2, "three times there, too");
    for at in (2_000..4_000).step_by(100) {
        repairs.moved(start + ms(at));
    }
    assert!(
        !ask(&mut repairs, start + ms(4_000), 7),
        "to and fro is no other network"
    );
}

#[test]
fn the_first_request_after_the_last_time_is_news() {
    let start = onecast_udp::clock::now();
    let mut repairs = repairs(start);
    for round in 0..3 {
        assert!(ask(&mut repairs, start + ms(100 * round), 7));
    }
    assert_eq!(repairs.ask(start + ms(240), 7, WAIT), Request::Soon(3));
    assert_eq!(repairs.ask(start + ms(300), 7, WAIT), Request::Often { news: true });
    assert_eq!(repairs.ask(start + ms(300), 7, WAIT), Request::Often { news: false });
}

#[test]
fn a_receiver_that_asks_for_what_it_was_sent_takes_no_notice() {
    let start = onecast_udp::clock::now();
    let mut repairs = repairs(start);
    for number in 0..10 {
        let at = start + ms(number * 300);
        for round in 0..5 {
            ask(&mut repairs, at + ms(round * 60), number);
        }
    }
    assert!(repairs.is_deaf_to_rtx() && !repairs.is_attentive());
    // It does when it is another receiver from some time on.
    for number in 100..200 {
        ask(&mut repairs, start + ms(number * 300), number);
    }
    assert!(!repairs.is_deaf_to_rtx() && repairs.is_attentive());
}

#[test]
fn one_that_loses_every_third_repetition_takes_notice() {
    let start = onecast_udp::clock::now();
    let mut repairs = repairs(start);
    for number in 0..300 {
        let at = start + ms(number * 200);
        ask(&mut repairs, at, number);
        if number % 3 == 0 {
            ask(&mut repairs, at + ms(100), number);
        }
        assert!(!repairs.is_deaf_to_rtx());
    }
    assert!(repairs.is_attentive());
}

#[test]
fn what_is_known_is_bounded_and_nothing_is_sent_more_often_for_that() {
    let start = onecast_udp::clock::now();
    let mut repairs = repairs(start);
    let mut sent = vec![0; 3_000];
    for round in 0..30u64 {
        for number in 0..3_000 {
            let at = start + ms(100 * round);
            sent[number as usize] += u32::from(ask(&mut repairs, at, number));
            assert!(repairs.asked.len() <= Repairs::ASKED_MAX && repairs.asked.capacity() <= Repairs::ASKED_MAX);
        }
    }
    assert!(sent.iter().all(|times| *times <= 3), "{:?}", sent.iter().max());
    assert!(sent[2_999] == 3);
}

#[test]
fn few_losses_take_little_memory_for_however_long() {
    let start = onecast_udp::clock::now();
    let mut repairs = repairs(start);
    for number in 0..10_000 {
        assert!(ask(&mut repairs, start + ms(500 * number), 50 * number));
    }
    assert!(repairs.asked.capacity() <= 16, "{}", repairs.asked.capacity());
}

#[test]
fn looking_is_bounded_as_well() {
    let start = onecast_udp::clock::now();
    let mut repairs = repairs(start);
    assert_eq!(repairs.begin(start, 0), Looks::MAX);
    repairs.looked(900);
    assert_eq!(repairs.begin(start + ms(10), 0), Looks::MAX - 900);
    repairs.looked(6_000);
    assert_eq!(repairs.begin(start + ms(19), 0), 0);
    assert_eq!(repairs.begin(start + ms(20), 0), Looks::MAX);
}

#[test]
fn many_losses_are_told_from_few() {
    let start = onecast_udp::clock::now();
    for (every, many) in [(10, true), (100, false)] {
        let mut repairs = repairs(start);
        for number in (0..2_000).step_by(every) {
            let packets = number as u32;
            repairs.begin(start + ms(number), packets);
            repairs.ask(start + ms(number), number, WAIT);
        }
        assert_eq!(repairs.is_lossy(), many, "one of {every}");
    }
}

#[test]
fn it_is_over_when_nothing_is_asked_for() {
    let start = onecast_udp::clock::now();
    let mut repairs = repairs(start);
    (0..15).for_each(|number| assert!(ask(&mut repairs, start, number)));
    assert!(!repairs.is_over(start + ms(4_900)));
    assert!(repairs.is_over(start + ms(5_000)));
}

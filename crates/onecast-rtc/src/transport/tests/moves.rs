//! Addresses: which are alive, which are proven, and where media goes.

use super::*;
use crate::LocalSocket;
use crate::ice::tests::controlling;
use crate::record::{CLIENT_HELLO, HANDSHAKE, records};

/// A check of the client, as bytes.
fn check_len() -> usize {
    request("ours:theirs", &credentials().pwd, vec![controlling()]).len()
}

fn settled(sends: Sends) -> Net {
    let mut net = Net::new(Client::new(vec![GCM], true));
    net.server = Transport::new(
        credentials(),
        net.client.remote_transport(),
        net::certificate(),
        (sends, 0),
        net.now,
    );
    net.connect().assert_connected(Profile::AeadAes128Gcm);
    net.server.handle_authenticated_media(net.now, path(1));
    net
}

#[test]
fn a_nomination_from_a_forged_address_moves_nothing_and_amplifies_at_most_threefold() {
    let mut net = settled(Sends::Media);
    let victim = path(66);
    net.check_from(victim, true).unwrap();
    for _ in 0..60 {
        net.advance(Duration::from_secs(1));
        net.check_from(path(1), false).unwrap();
        assert_eq!(net.server.path(), Some(path(1)));
    }
    let sent = net.bytes_to(victim);
    let received = check_len() + 4;
    assert!(sent > 0 && sent <= 3 * received, "{sent} bytes for {received}");
    assert!(!net.server.is_checked(victim), "its consent has ended");
    assert_eq!(net.server.poll_lost(), Some(victim));
}

#[test]
fn however_many_checks_are_forged_the_rate_is_bounded() {
    let mut net = settled(Sends::Media);
    let victim = path(66);
    for _ in 0..100 {
        net.check_from(victim, true).unwrap();
        net.advance(Duration::from_millis(300));
    }
    assert!(net.bytes_to(victim) <= 3 * 100 * (check_len() + 4));
    assert_eq!(net.server.path(), Some(path(1)));
}

#[test]
fn a_nomination_moves_media_as_soon_as_the_client_answers_there() {
    let mut net = settled(Sends::Media);
    for place in [path(2), path(1), path(3)] {
        net.client.path = place;
        net.check_from(place, true).unwrap();
        assert_eq!(net.server.path(), Some(place));
    }
}

#[test]
fn only_the_answer_to_the_request_from_where_it_went_proves_an_address() {
    let mut net = settled(Sends::Media);
    let datagram = request("ours:theirs", &credentials().pwd, vec![controlling(), use_candidate()]);
    let mut out = Vec::new();
    net.server.handle_stun(net.now, path(2), &datagram, &mut out).unwrap();
    let asked = out.pop().unwrap();
    assert_eq!((asked.to, &asked.bytes[..2]), (path(2), &[0, 1][..]));
    let client = net.client.remote_transport().ice;
    let answer = crate::ice::probe::answer_request(&asked.bytes, SERVER, &client, "ours").unwrap();
    let forged = request("ours:theirs", &client.pwd, vec![]);
    let mut other = answer.clone();
    other[15] ^= 1;
    for (from, answer) in [
        (path(1), &answer),
        (path(3), &answer),
        (path(2), &forged),
        (path(2), &other),
    ] {
        let refused = net.server.handle_answer(net.now, from, answer);
        assert_eq!(refused.unwrap_err(), StunDrop::Unasked);
        assert_eq!(net.server.path(), Some(path(1)));
    }
    assert!(net.server.handle_answer(net.now, path(2), &answer).unwrap().is_none());
    assert_eq!(net.server.path(), Some(path(2)));
    assert!(net.server.handle_answer(net.now, path(2), &answer).is_err(), "once");
}

#[test]
fn an_address_that_reaches_another_local_socket_is_another_path() {
    let mut net = settled(Sends::Media);
    let elsewhere = Path {
        local: LocalSocket(1),
        ..path(1)
    };
    assert!(net.server.is_proven(path(1)) && !net.server.is_checked(elsewhere));
    let check = request("ours:theirs", &credentials().pwd, vec![controlling(), use_candidate()]);
    let mut out = Vec::new();
    let passed = net.server.handle_stun(net.now, elsewhere, &check, &mut out);
    assert_eq!(passed, Ok(Check::New));
    assert!(
        out.iter().all(|transmit| transmit.to == elsewhere),
        "answers leave where the check came"
    );
    assert!(!net.server.is_proven(elsewhere));
    assert_eq!(net.server.path(), Some(path(1)));
}

#[test]
fn a_lost_request_is_sent_again() {
    let mut net = settled(Sends::Media);
    net.check_from(path(2), true).unwrap();
    assert_eq!(net.server.path(), Some(path(1)), "no request was answered");
    net.homes.push(path(2));
    let due = net.server.poll_timeout().unwrap();
    assert!(due <= net.now + Duration::from_millis(250));
    net.advance(due - net.now);
    assert_eq!(net.server.path(), Some(path(2)));
}

#[test]
fn lost_requests_are_repeated_when_reports_arrive() {
    let mut net = settled(Sends::Media);
    net.check_from(path(2), true).unwrap();
    // At first nothing answers, until the limit for the address is reached.
    net.advance(Duration::from_secs(3));
    net.homes.push(path(2));
    net.advance(Duration::from_secs(2));
    assert_eq!(net.server.path(), Some(path(1)), "one check allows so many requests");
    for _ in 0..4 {
        net.server.handle_authenticated_media(net.now, path(2));
        net.advance(Duration::from_secs(1));
    }
    assert_eq!(net.server.path(), Some(path(2)));
}

#[test]
fn media_follows_checks_from_another_port_when_the_old_one_is_silent() {
    let mut net = settled(Sends::Media);
    net.client.path = path(2);
    for _ in 0..3 {
        net.advance(Duration::from_secs(5));
        net.check_from(path(2), false).unwrap();
    }
    assert_eq!(net.server.path(), Some(path(2)));
    for _ in 0..20 {
        net.advance(Duration::from_secs(5));
        net.check_from(path(2), false).unwrap();
    }
    assert!(net.closed().is_none());
    assert!(!net.server.is_checked(path(1)), "its consent has ended");
}

#[test]
fn a_silent_address_is_left_within_seconds_of_its_last_sign_of_life() {
    let mut net = settled(Sends::Media);
    let last = net.now;
    net.client.path = path(2);
    net.advance(Duration::from_secs(5));
    net.check_from(path(2), false).unwrap();
    assert_eq!(net.server.path(), Some(path(1)), "a lost check is no silence");
    let due = net.server.poll_timeout().unwrap();
    assert_eq!(due, last + SILENT);
    net.advance(due - net.now);
    assert_eq!(net.server.path(), Some(path(2)));
    // Media does not return by itself.
    net.advance(Duration::from_secs(4));
    net.check_from(path(1), false).unwrap();
    net.check_from(path(2), false).unwrap();
    assert_eq!(net.server.path(), Some(path(2)));
}

#[test]
fn checks_from_an_unproven_address_do_not_renew_consent() {
    let mut net = settled(Sends::Media);
    for second in 0..30 {
        assert!(net.closed().is_none(), "after {second} s");
        net.check_from(path(66), true).unwrap();
        net.advance(Duration::from_secs(1));
    }
    assert_eq!(net.closed(), Some(CloseReason::ConsentExpired));
}

#[test]
fn authentic_media_keeps_a_client_that_never_checks_again() {
    for sends in [Sends::Media, Sends::Feedback] {
        let mut net = settled(sends);
        for _ in 0..60 {
            net.advance(Duration::from_secs(2));
            assert!(!net.server.handle_authenticated_media(net.now, path(1)));
        }
        assert!(net.closed().is_none());
        assert_eq!(net.server.poll_timeout(), Some(net.now + CONSENT_TIMEOUT));
        net.advance(CONSENT_TIMEOUT);
        assert_eq!(net.closed(), Some(CloseReason::ConsentExpired));
    }
}

#[test]
fn media_and_a_second_check_are_enough_for_feedback_but_not_for_media() {
    for (sends, follows) in [(Sends::Feedback, true), (Sends::Media, false)] {
        let mut net = settled(sends);
        net.check_from(path(2), true).unwrap();
        assert!(!net.server.handle_authenticated_media(net.now, path(2)), "one check");
        net.check_from(path(2), true).unwrap();
        net.server.handle_authenticated_media(net.now, path(2));
        assert_eq!(net.server.path() == Some(path(2)), follows);
    }
}

#[test]
fn an_address_with_a_single_check_gets_two_flights() {
    let mut net = Net::new(Client::new(vec![GCM], false));
    net.client.path = path(99);
    let victim = path(66);
    net.check_from(victim, true).unwrap();
    while let Some(due) = net.server.poll_timeout() {
        net.advance(due - net.now);
    }
    assert_eq!(net.closed(), Some(CloseReason::HandshakeTimeout));
    let hellos = net
        .sent
        .iter()
        .filter(|(to, len)| *to == victim && *len > check_len() + 50);
    let stun: usize = net.bytes_to(victim) - hellos.clone().map(|(_, len)| len).sum::<usize>();
    assert_eq!(hellos.count(), 2);
    assert!(stun <= 3 * (check_len() + 4), "{stun} bytes");
}

impl Net {
    /// A handshake whose last flight, and its nomination, come from where our flights never went.
    fn connect_from_two_addresses(&mut self) {
        self.client.start(self.now);
        for _ in 0..10 {
            self.pump_client();
            while let Some((_, bytes)) = self.to_server.pop_front() {
                let first = records(&bytes)
                    .next()
                    .filter(|record| record.epoch == 0 && record.kind == HANDSHAKE)
                    .map(|record| record.body[0]);
                let from = path(if first == Some(CLIENT_HELLO) { 1 } else { 66 });
                self.check_from(from, true).unwrap();
                let mut out = Vec::new();
                let event = self.server.handle_dtls(self.now, from, &bytes, &mut out);
                self.events.extend(event);
                self.send(out);
            }
            while let Some(bytes) = self.to_client.pop_front() {
                self.client.handle(self.now, &bytes);
            }
        }
    }
}

#[test]
fn a_viewer_that_moves_during_the_handshake_has_to_answer_a_request() {
    for is_there in [true, false] {
        let mut net = Net::new(Client::new(vec![GCM], true));
        net.homes.extend(is_there.then_some(path(66)));
        net.connect_from_two_addresses();
        assert_eq!(net.events.len(), usize::from(is_there));
        assert!(matches!(net.server.phase, Phase::Proving { .. }) != is_there);
        if !is_there {
            net.advance(HANDSHAKE_TIMEOUT);
            assert_eq!(net.closed(), Some(CloseReason::HandshakeTimeout));
            assert_eq!(net.events.len(), 1, "no keys came out");
        }
    }
}

/// A publisher is sent feedback only, so the end of the handshake proves as much as media.
#[test]
fn a_publisher_that_moves_during_the_handshake_needs_no_answer_to_a_request() {
    let mut net = Net::new(Client::new(vec![GCM], true));
    net.server = Transport::new(
        credentials(),
        net.client.remote_transport(),
        net::certificate(),
        (Sends::Feedback, 0),
        net.now,
    );
    net.connect_from_two_addresses();
    assert!(net.events.is_empty(), "one check may be forged");
    net.check_from(path(66), true).unwrap();
    net.advance(Duration::from_millis(10));
    assert!(
        matches!(net.events[..], [TransportEvent::Connected(_)]),
        "{:?}",
        net.events
    );
    assert_eq!(net.server.path(), Some(path(66)));
}

#[test]
fn an_address_is_small() {
    assert!(size_of::<paths::PathState>() <= 64);
    assert!(size_of::<Paths>() <= 64);
}

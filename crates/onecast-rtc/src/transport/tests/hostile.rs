//! DTLS from attackers that want to exhaust the server, or to keep a client from connecting.

#[path = "../../../../../tests/common/dtls_attack.rs"]
mod dtls_attack;

use self::dtls_attack::nested_fragments;
use super::net::certificate;
use super::*;
use crate::dtls::Association;
use crate::record::{CERTIFICATE, CHANGE_CIPHER_SPEC, HANDSHAKE, write_record};
use onecast_udp::thread_cpu_time;

/// A fragment header with any lengths.
fn header(kind: u8, len: u32, seq: u16, offset: u32, fragment: u32) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(&len.to_be_bytes()[1..]);
    bytes.extend(seq.to_be_bytes());
    bytes.extend(&offset.to_be_bytes()[1..]);
    bytes.extend(&fragment.to_be_bytes()[1..]);
    bytes
}

/// As many empty fragments as fit.
fn empty_fragments() -> Vec<Vec<u8>> {
    let datagram = |number: u16| {
        let body = header(CERTIFICATE, 4_000, 2, 32 * u32::from(number), 0).repeat(110);
        let mut datagram = Vec::new();
        write_record(&mut datagram, HANDSHAKE, number, &body);
        datagram
    };
    (0..50).map(datagram).collect()
}

/// Every message that a client could send, of any length, fragmented, too early and too late.
fn planted_messages() -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    for (kind, seq) in [
        (1, 0),
        (1, 1),
        (11, 2),
        (16, 3),
        (15, 4),
        (20, 5),
        (2, 1),
        (3, 0),
        (14, 4),
        (0, 0),
    ] {
        for (len, offset, fragment) in [(100, 0, 100), (300, 0, 150), (300, 200, 100), (16_384, 16_000, 384)] {
            let mut body = header(kind, len, seq, offset, fragment);
            body.resize(12 + fragment as usize, 7);
            let mut datagram = Vec::new();
            write_record(&mut datagram, HANDSHAKE, 200 + seq, &body);
            datagrams.push(datagram);
        }
    }
    datagrams
}

/// Records that look sealed, and others that are not handshake messages.
fn sealed_nonsense() -> Vec<Vec<u8>> {
    let sealed = |kind: u8, len: usize| {
        let mut datagram = Vec::new();
        write_record(&mut datagram, kind, 300 + len as u16, &vec![0x55; len]);
        datagram[4] = 1;
        datagram
    };
    let mut datagrams: Vec<_> = [24, 48, 49, 200, 1_400].map(|len| sealed(HANDSHAKE, len)).into();
    datagrams.extend([26, 27].map(|len| sealed(21, len)));
    datagrams.push(sealed(HANDSHAKE, 48).repeat(20));
    let mut change = Vec::new();
    write_record(&mut change, CHANGE_CIPHER_SPEC, 3, &[1]);
    datagrams.push(change);
    datagrams
}

fn association(net: &Net) -> &Association {
    match &net.server.phase {
        Phase::Handshaking { association, .. } | Phase::Lingering { association, .. } => association,
        _ => panic!("no association any more"),
    }
}

/// Delivers `datagrams` as if they came from the client.
fn attack(net: &mut Net, datagrams: &[Vec<u8>]) {
    for datagram in datagrams {
        let mut out = Vec::new();
        let event = net.server.handle_dtls(net.now, path(1), datagram, &mut out);
        assert!(event.is_none(), "{event:?}");
        let answer: usize = out.iter().map(|transmit| transmit.bytes.len()).sum();
        assert!(answer <= datagram.len(), "{answer} bytes for {}", datagram.len());
    }
}

#[test]
fn nested_and_empty_fragments_cost_no_more_than_reading_them() {
    for starts in [true, false] {
        let mut net = Net::new(Client::new(vec![GCM], starts));
        net.check_from(path(1), true).unwrap();
        for datagrams in [nested_fragments(), empty_fragments()] {
            let before = thread_cpu_time();
            attack(&mut net, &datagrams);
            let took = thread_cpu_time().zip(before).map(|(after, before)| after - before);
            println!(
                "starts {starts}, {} bytes: {took:?}",
                datagrams.iter().map(Vec::len).sum::<usize>()
            );
            // CPU time of this thread: seconds if the crate sees the datagrams, microseconds if it does not.
            assert!(took.is_none_or(|took| took < Duration::from_millis(50)), "{took:?}");
        }
        let association = association(&net);
        assert_eq!(association.fed(), 0);
        assert!(association.held() <= 24 * 1024, "{} bytes", association.held());
    }
}

/// The cost of the attack for the DTLS crate alone. To see it: `cargo test -p onecast-rtc --lib -- --ignored --nocapture bare_crate`.
#[test]
#[ignore = "takes seconds, and tests the DTLS crate only"]
fn nested_fragments_cost_the_bare_crate_seconds() {
    let config = certificate().server_gcm().clone();
    let transport = rtc_shared::TransportProtocol::UDP;
    let mut endpoint = rtc_dtls::endpoint::Endpoint::new(SERVER, transport, Some(config));
    let (now, before) = (onecast_udp::clock::now(), thread_cpu_time());
    for datagram in nested_fragments() {
        let _ = endpoint.read(now, path(1).remote, None, datagram.as_slice().into());
    }
    println!(
        "{:?}",
        thread_cpu_time().zip(before).map(|(after, before)| after - before)
    );
}

#[test]
fn junk_in_the_clients_name_does_not_keep_it_from_connecting() {
    let junk = [
        nested_fragments(),
        empty_fragments(),
        planted_messages(),
        sealed_nonsense(),
    ]
    .concat();
    for starts in [true, false] {
        let mut net = Net::new(Client::new(vec![GCM], starts));
        net.check_from(path(1), true).unwrap();
        net.client.start(net.now);
        let mut sent = 0;
        // A megabyte before anything of the client arrives: many times what its whole handshake takes.
        for _ in 0..8 {
            attack(&mut net, &junk);
            sent += junk.iter().map(Vec::len).sum::<usize>();
        }
        assert!(sent > 1_000_000 && association(&net).fed() == 0);
        net.run(Duration::from_secs(14));
        net.assert_connected(Profile::AeadAes128Gcm);
        let fed = association(&net).fed();
        // And as much while the client may still need our last flight.
        attack(&mut net, &junk);
        assert_eq!(association(&net).fed(), fed);
        assert!(fed < 4_000, "{fed} bytes");
    }
}

#[test]
fn a_forged_hello_does_not_replace_the_clients_own() {
    let mut net = Net::new(Client::new(vec![GCM], true));
    let mut other = Client::new(vec![GCM], true);
    net.check_from(path(1), true).unwrap();
    other.start(net.now);
    let forged = other.endpoint.poll_transmit().unwrap().message.to_vec();
    net.client.start(net.now);
    for _ in 0..3 {
        attack(&mut net, std::slice::from_ref(&forged));
        net.pump_client();
        let (from, bytes) = net.to_server.pop_front().unwrap();
        let mut out = Vec::new();
        assert!(net.server.handle_dtls(net.now, from, &bytes, &mut out).is_none());
        net.to_server.clear();
        attack(&mut net, std::slice::from_ref(&forged));
        assert_eq!(association(&net).fed(), 0, "no work before the cookie is back");
        net.now += Duration::from_millis(60);
        let _ = net.client.endpoint.handle_timeout(SERVER, net.now);
    }
    net.run(Duration::from_secs(14));
    net.assert_connected(Profile::AeadAes128Gcm);
}

#[test]
fn fragmented_messages_connect_and_the_crate_sees_whole_ones() {
    let mut net = Net::new(Client::with(true, |config| {
        config.with_srtp_protection_profiles(vec![GCM]).with_mtu(70)
    }));
    net.connect().assert_connected(Profile::AeadAes128Gcm);
    let pieces = association(&net).fed();
    let mut net = Net::new(Client::new(vec![GCM], true));
    net.connect().assert_connected(Profile::AeadAes128Gcm);
    assert!(
        association(&net).fed().abs_diff(pieces) < 16,
        "signatures differ in length"
    );
}

#[test]
fn a_repeated_last_flight_is_answered_a_few_times() {
    let mut net = Net::new(Client::new(vec![GCM], true));
    let mut last = None;
    net.fate = Box::new(|_, bytes| {
        if bytes[0] == CHANGE_CIPHER_SPEC {
            Fate::Lose
        } else {
            Fate::Deliver
        }
    });
    net.check_from(path(1), true).unwrap();
    net.client.start(net.now);
    for _ in 0..40 {
        net.pump_client();
        last = net.to_server.back().cloned().or(last);
        net.run(Duration::from_millis(60));
        net.now += Duration::from_millis(60);
        let _ = net.client.endpoint.handle_timeout(SERVER, net.now);
    }
    assert!(matches!(net.events[..], [TransportEvent::Connected(_)]));
    let fed = association(&net).fed();
    let (from, repeated) = last.unwrap();
    for _ in 0..1_000 {
        let mut out = Vec::new();
        assert!(net.server.handle_dtls(net.now, from, &repeated, &mut out).is_none());
    }
    assert!(
        association(&net).fed() - fed <= 8 * 61,
        "{}",
        association(&net).fed() - fed
    );
}

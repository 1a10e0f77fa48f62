//! Two of our own associations against each other, under losses and reordering that the bare library does not survive.

use std::collections::VecDeque;

use super::*;

struct Side {
    association: Association,
    is_connected: bool,
    inbox: VecDeque<Vec<u8>>,
}

impl Side {
    fn new(role: DtlsRole) -> Self {
        let certificate = certificate();
        let fingerprint = PeerFingerprint::Sha256(certificate.fingerprint());
        Self {
            association: Association::new(certificate, role, vec![fingerprint]),
            is_connected: false,
            inbox: VecDeque::new(),
        }
    }
}

fn certificate() -> Certificate {
    static CERTIFICATE: std::sync::OnceLock<Certificate> = std::sync::OnceLock::new();
    CERTIFICATE.get_or_init(|| Certificate::generate().unwrap()).clone()
}

/// Delivers `datagrams`; each may be lost, repeated, or come after the next one.
fn pass(datagrams: Vec<Vec<u8>>, inbox: &mut VecDeque<Vec<u8>>, next: &mut impl FnMut() -> u64, is_calm: bool) {
    for bytes in datagrams {
        match next() % 12 {
            _ if is_calm => inbox.push_back(bytes),
            0..=2 => {}
            3 => inbox.extend([bytes.clone(), bytes]),
            4 => inbox.push_front(bytes),
            _ => inbox.push_back(bytes),
        }
    }
}

/// Whether both sides have their keys within 15 s of a bad link.
fn connects(seed: u64) -> bool {
    let mut random = seed;
    let mut next = move || {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        random >> 40
    };
    let mut sides = [Side::new(DtlsRole::Client), Side::new(DtlsRole::Server)];
    let mut now = onecast_udp::clock::now();
    let deadline = now + Duration::from_secs(15);
    let mut sent = Vec::new();
    assert!(sides[0].association.start(now, &mut |bytes| sent.push(bytes)).is_none());
    pass(sent, &mut sides[1].inbox, &mut next, false);
    while now < deadline && !sides.iter().all(|side| side.is_connected) {
        let is_calm = now + Duration::from_secs(10) > deadline;
        for at in [0, 1] {
            let mut sent = Vec::new();
            let side = &mut sides[at];
            if let Some(bytes) = side.inbox.pop_front() {
                match side.association.handle(now, &bytes, &mut |bytes| sent.push(bytes)) {
                    Some(Step::Connected(_)) => side.is_connected = true,
                    Some(other) => panic!("seed {seed}: {other:?}"),
                    None => {}
                }
            }
            side.association.handle_timeout(now, &mut |bytes| sent.push(bytes));
            pass(sent, &mut sides[1 - at].inbox, &mut next, is_calm);
        }
        if sides.iter().all(|side| side.inbox.is_empty()) {
            now += Duration::from_millis(50);
        }
    }
    sides.iter().all(|side| side.is_connected)
}

#[test]
fn a_handshake_survives_random_trouble() {
    let failed: Vec<_> = (1..200).filter(|seed| !connects(*seed)).collect();
    assert!(failed.is_empty(), "seeds {failed:?}");
}

/// A server that has a client's messages up to its ChangeCipherSpec, and the record with the client's Finished.
fn server_before_finished(now: Instant) -> (Association, Vec<u8>) {
    let [mut client, mut server] = [DtlsRole::Client, DtlsRole::Server].map(|role| Side::new(role).association);
    let mut to_server = Vec::new();
    client.start(now, &mut |bytes| to_server.push(bytes));
    for _ in 0..4 {
        let mut to_client = Vec::new();
        for bytes in std::mem::take(&mut to_server) {
            for record in records(&bytes) {
                let bytes = [record.header, record.body].concat();
                if record.epoch == 1 {
                    return (server, bytes);
                }
                assert!(server.handle(now, &bytes, &mut |bytes| to_client.push(bytes)).is_none());
            }
        }
        for bytes in to_client {
            assert!(client.handle(now, &bytes, &mut |bytes| to_server.push(bytes)).is_none());
        }
    }
    panic!("the client never finishes");
}

/// A record of epoch 1 as the client would seal it.
fn sealed(server: &Association, kind: u8, sequence: u8, plain: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    write_record(&mut record, kind, sequence.into(), &[]);
    record[4] = 1;
    record[11..].copy_from_slice(&(plain.len() as u16).to_be_bytes());
    let body = server.keys.as_ref().unwrap().peer.seal(&record, plain);
    record[11..].copy_from_slice(&(body.len() as u16).to_be_bytes());
    [record, body].concat()
}

fn finished(seq: u16, said: [u8; 12]) -> Vec<u8> {
    let mut message = Vec::new();
    write_message(&mut message, record::FINISHED, seq, &said);
    message
}

#[test]
fn the_clients_finished_is_verified() {
    let now = onecast_udp::clock::now();
    let (mut server, genuine) = server_before_finished(now);
    let expected = server.keys.as_ref().unwrap().finished.unwrap();
    let same = sealed(&server, record::HANDSHAKE, 9, &finished(5, expected));
    assert_eq!(same.len(), genuine.len());
    let step = server.handle(now, &same, &mut |_| {});
    assert!(matches!(step, Some(Step::Connected(_))), "{step:?}");

    let (mut server, _) = server_before_finished(now);
    let fed = server.fed();
    let mut wrong = server.keys.as_ref().unwrap().finished.unwrap();
    wrong[11] ^= 1;
    let wrong = sealed(&server, record::HANDSHAKE, 9, &finished(5, wrong));
    let step = server.handle(now, &wrong, &mut |_| {});
    assert!(
        matches!(step, Some(Step::Failed(HandshakeError::BadFinished))),
        "{step:?}"
    );
    assert_eq!(server.fed(), fed);
}

#[test]
fn sealed_records_that_are_no_finished_do_not_reach_the_crate() {
    let now = onecast_udp::clock::now();
    let (mut server, genuine) = server_before_finished(now);
    let fed = server.fed();
    let chain = |offset: u8| {
        [
            &[20, 0, 0, 0, 0, 5, 0, 0, offset, 0, 0, 1][..],
            &[20, 0, 0, 0, 0, 5, 0, 0, offset + 1, 0, 0, 1],
        ]
        .concat()
    };
    for number in 0..100 {
        let nested = sealed(&server, record::HANDSHAKE, number, &chain(number));
        assert!(server.handle(now, &nested, &mut |_| {}).is_none());
        let other = sealed(&server, record::HANDSHAKE, number, &finished(6, [0; 12]));
        assert!(server.handle(now, &other, &mut |_| {}).is_none());
    }
    assert_eq!(server.fed(), fed);
    let step = server.handle(now, &genuine, &mut |_| {});
    assert!(matches!(step, Some(Step::Connected(_))), "{step:?}");
}

#[test]
fn a_sealed_alert_ends_an_association_only_if_it_is_authentic_and_an_end() {
    let now = onecast_udp::clock::now();
    let (mut server, genuine) = server_before_finished(now);
    assert!(matches!(
        server.handle(now, &genuine, &mut |_| {}),
        Some(Step::Connected(_))
    ));
    let warning = sealed(&server, record::ALERT, 20, &[1, 90]);
    let close = sealed(&server, record::ALERT, 21, &[1, 0]);
    let fatal = sealed(&server, record::ALERT, 22, &[2, 80]);
    let mut forged = close.clone();
    *forged.last_mut().unwrap() ^= 1;
    for bytes in [&warning, &forged] {
        assert!(server.handle(now, bytes, &mut |_| {}).is_none());
    }
    let remains = server.settle(now);
    assert!(!remains.close_notify().is_empty());
    assert!(!remains.is_closed_by(&warning) && !remains.is_closed_by(&forged));
    assert!(
        (0..10_000).all(|_| !remains.is_closed_by(&forged)),
        "and it does not tire of it"
    );
    assert!(remains.is_closed_by(&close) && remains.is_closed_by(&fatal));
    assert!(remains.is_closed_by(&[forged, close].concat()));
}

//! Two of our own associations against each other: both must live through trouble that the bare library does not.

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
        let fingerprint = certificate.fingerprint();
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

/// Delivers `datagrams`, each with its own luck: lost, twice, or after the next one.
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
    let mut now = crate::clock::now();
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

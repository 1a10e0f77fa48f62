//! The flights of a handshake (RFC 6347 section 4.2.4): which messages can come when.

use super::reassembly::Flight;
use crate::{DtlsRole, record};

/// How far the handshake has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// As client: the path is not nominated yet.
    Idle,
    /// As server we wait for a ClientHello, as client for the answer to ours.
    Hello,
    /// Our hello is sent. We wait for the other side's messages up to its ChangeCipherSpec.
    Flight,
    /// There are keys. We wait for the other side's Finished.
    Finished,
    Connected,
}

/// The flights that the other side can send now. `role` is ours.
pub(super) fn awaited(role: DtlsRole, stage: Stage) -> &'static [&'static Flight] {
    match (role, stage) {
        (DtlsRole::Server, Stage::Hello) => &[CLIENT_HELLO],
        (DtlsRole::Server, Stage::Flight) => &[CLIENT_FLIGHT],
        (DtlsRole::Client, Stage::Hello) => SERVER_FLIGHTS,
        // A server sends one cookie.
        (DtlsRole::Client, Stage::Flight) => &SERVER_FLIGHTS[1..],
        (_, Stage::Idle | Stage::Finished | Stage::Connected) => &[],
    }
}

/// The ClientHello with a cookie (RFC 6347 section 4.2.2).
pub(super) const SECOND_HELLO_SEQ: u16 = 1;
const CLIENT_HELLO: &Flight = &[record::CLIENT_HELLO];
/// Flight of a client with a certificate, up to its ChangeCipherSpec.
const CLIENT_FLIGHT: &Flight = &[
    record::CERTIFICATE,
    record::CLIENT_KEY_EXCHANGE,
    record::CERTIFICATE_VERIFY,
];
/// Flights of a server: a cookie, or everything up to its ServerHelloDone, with or without a request for our certificate.
const SERVER_FLIGHTS: &[&Flight] = &[
    &[record::HELLO_VERIFY_REQUEST],
    &[
        record::SERVER_HELLO,
        record::CERTIFICATE,
        record::SERVER_KEY_EXCHANGE,
        record::SERVER_HELLO_DONE,
    ],
    &[
        record::SERVER_HELLO,
        record::CERTIFICATE,
        record::SERVER_KEY_EXCHANGE,
        record::CERTIFICATE_REQUEST,
        record::SERVER_HELLO_DONE,
    ],
];

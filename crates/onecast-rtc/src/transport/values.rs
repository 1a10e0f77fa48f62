//! What goes into a transport and what comes out.

use std::net::SocketAddr;

use crate::{HandshakeError, SrtpKeys};

/// What a client is sent once it has connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sends {
    /// Media: only to an address that is proven.
    Media,
    /// Reports and requests about the media that the client sends, a small part of it: authentic media and a second check are
    /// enough, because some publishers answer no binding requests while they send.
    Feedback,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// What a binding request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Passed, from an address known before.
    Known,
    /// Passed, from a new address. There is room for [`CHECKED_MAX`](super::CHECKED_MAX); another may have made way: see [`Transport::poll_lost`](super::Transport::poll_lost).
    New,
    /// Answered with an error; the address counts for nothing.
    Refused,
}

/// What the caller must know.
#[derive(Debug)]
pub enum TransportEvent {
    /// The handshake is done and the certificate is the one of the offer. Once.
    Connected(SrtpKeys),
    /// The end. Once, and last; not after [`Transport::close`](super::Transport::close).
    Closed(CloseReason),
}

/// Why a transport ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client closed DTLS.
    #[error("closed by the client")]
    PeerClosed,
    /// DTLS cannot succeed.
    #[error("DTLS failed: {0}")]
    HandshakeFailed(#[from] HandshakeError),
    /// The client's certificate is not the one of its offer.
    #[error("the client's certificate does not match its offer")]
    FingerprintMismatch,
    /// No ICE within 30 s, or no DTLS within 15 s of it.
    #[error("the client did not connect in time")]
    HandshakeTimeout,
    /// No sign of life for 30 s (RFC 7675).
    #[error("the client vanished")]
    ConsentExpired,
}

//! Inputs and outputs of a transport.

use crate::path::Path;
use crate::{HandshakeError, SrtpKeys};

/// What a client is sent once it has connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sends {
    /// Media, which goes out on proven paths only.
    Media,
    /// Reports and requests about the media that the client sends, which are a small part of that media. Authentic media and a second
    /// check suffice for a path, because some publishers answer no binding requests while they send.
    Feedback,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The path to send it on.
    pub to: Path,
    /// Payload of the datagram.
    pub bytes: Vec<u8>,
}

/// What a binding request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Passed, on a known path.
    Known,
    /// Passed, on a new path. At most [`CHECKED_MAX`](super::CHECKED_MAX) are kept, so another may have been removed: see
    /// [`Transport::poll_lost`](super::Transport::poll_lost).
    New,
    /// Answered with an error; the path is not checked.
    Refused,
}

/// What the caller has to act on.
#[derive(Debug)]
pub enum TransportEvent {
    /// The handshake is done, with the certificate of the offer, and the path is proven. Emitted once.
    Connected(SrtpKeys),
    /// The end. Emitted once, as the last event, but not after [`Transport::close`](super::Transport::close).
    Closed(CloseReason),
}

/// Why a transport ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client closed DTLS.
    #[error("closed by the client")]
    PeerClosed,
    /// The handshake failed.
    #[error("DTLS failed: {0}")]
    HandshakeFailed(#[from] HandshakeError),
    /// The client's certificate is not the one of its offer.
    #[error("the client's certificate does not match its offer")]
    FingerprintMismatch,
    /// No ICE within 30 s, or no DTLS within 15 s of it.
    #[error("the client did not connect in time")]
    HandshakeTimeout,
    /// Nothing authentic came for 30 s (RFC 7675).
    #[error("the client vanished")]
    ConsentExpired,
}

//! The identity of a path between the server and a client.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

/// A path: consent, handshakes and media belong to one. Paths that differ in any part are different paths: a client that reaches the
/// server by TCP, or at another of the server's addresses, has shown nothing about its UDP address there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The transport protocol.
    pub transport: PathTransport,
    /// Where the client's datagrams arrive, and where answers have to leave from.
    pub local: LocalSocket,
    /// The client's address, as the server sees it.
    pub remote: SocketAddr,
}

/// What carries the datagrams of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathTransport {
    /// UDP datagrams as they are.
    Udp,
}

/// A socket or local address of the server, by a number of the caller. This crate only compares and hashes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LocalSocket(pub u16);

impl Path {
    /// A path over UDP to a server with one socket.
    #[inline]
    pub const fn udp(remote: SocketAddr) -> Path {
        Path {
            transport: PathTransport::Udp,
            local: LocalSocket(0),
            remote,
        }
    }
}

/// Each received datagram is looked up by its path. Everything but the IP address is hashed as one number, so the whole path costs about
/// as much as the client's address alone. Flow label and scope are left to `Eq`.
impl Hash for Path {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [high, low] = self.local.0.to_be_bytes();
        let [port_high, port_low] = self.remote.port().to_be_bytes();
        self.remote.ip().hash(state);
        state.write_u64(u64::from_be_bytes([
            0,
            0,
            0,
            self.transport as u8,
            high,
            low,
            port_high,
            port_low,
        ]));
    }
}

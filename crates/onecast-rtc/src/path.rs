//! The identity of a path between the server and a client.

use std::net::SocketAddr;

/// A path: consent, handshakes and media belong to one. Paths that differ in any part are different paths: a client that reaches the
/// server by TCP, or at another of the server's addresses, has shown nothing about its UDP address there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// A socket or local address of the server, by a number of the caller. This crate only compares it.
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

impl From<SocketAddr> for Path {
    #[inline]
    fn from(remote: SocketAddr) -> Path {
        Path::udp(remote)
    }
}

/// What a socket needs to know of the path.
impl From<Path> for SocketAddr {
    #[inline]
    fn from(path: Path) -> SocketAddr {
        path.remote
    }
}

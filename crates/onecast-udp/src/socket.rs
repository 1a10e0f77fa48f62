//! The media socket of a shard, and how the shards come to share one port.

#[cfg(target_os = "linux")]
use super::linux::Linux;
use super::portable::Portable;
use super::waker::ShardWaker;
use mio::{Events, Interest, Poll, Token};
use onecast_metrics::{SocketCounters, SocketCounts};
use onecast_rtc::Path;
use onecast_rtc::transmit::{Outlet, SendQueue};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Where and how media is received and sent.
#[derive(Debug, Clone)]
pub struct MediaSocketConfig {
    /// The UDP port that all clients share. `[::]` takes IPv4 too; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Sockets on that port, one for each shard, at least 1.
    pub shards: usize,
    /// Plain sends and receives also where the system has faster ones.
    pub portable: bool,
    /// Bytes that the system may hold until a shard reads them; 0 leaves its default. It may grant less, see
    /// [`MediaSocket::buffer_sizes`].
    pub receive_buffer: usize,
    /// Bytes that the system may hold until the network takes them; 0 leaves its default.
    pub send_buffer: usize,
}

impl Default for MediaSocketConfig {
    fn default() -> MediaSocketConfig {
        MediaSocketConfig {
            address: (Ipv6Addr::UNSPECIFIED, 8080).into(),
            shards: 1,
            portable: false,
            receive_buffer: 4 << 20,
            send_buffer: 4 << 20,
        }
    }
}

/// Binds one socket for each shard to the same port.
///
/// Fewer sockets than asked come back where a port cannot be shared with an even spread (anywhere but on Linux): one. The kernel
/// keeps a source address and port on one of the sockets, as long as none of them closes.
///
/// # Errors
/// Those of the system, with its [`io::ErrorKind`] and the address in the words. `AddrInUse` also when another process has bound
/// the port in a way that would let this one in beside it.
pub fn bind(config: &MediaSocketConfig) -> io::Result<Vec<MediaSocket>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot use UDP {}: {error}", config.address));
    bind_all(config)
        .map_err(named)?
        .into_iter()
        .map(|socket| MediaSocket::new(socket, config).map_err(named))
        .collect()
}

/// The socket of one shard: receives datagrams, sends queues of runs, and is where the shard's thread sleeps.
pub struct MediaSocket {
    socket: mio::net::UdpSocket,
    address: SocketAddr,
    io: Io,
    poll: Poll,
    events: Events,
    waker: ShardWaker,
    counters: Arc<SocketCounters>,
    /// The last receive found the socket empty, and no event has come since. Events only report new datagrams, so the thread must not
    /// sleep before.
    drained: bool,
    /// The log says that a datagram was too long; once is enough.
    told_oversized: bool,
}

/// The result of one turn of receiving.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) counts: SocketCounts,
    /// The socket is empty: only a new datagram makes it readable again.
    pub(crate) drained: bool,
}

/// How datagrams are moved.
enum Io {
    #[cfg(target_os = "linux")]
    Linux(Box<Linux>),
    Portable(Portable),
}

impl MediaSocket {
    fn new(socket: Socket, config: &MediaSocketConfig) -> io::Result<MediaSocket> {
        // What the system does not grant is missing in `buffer_sizes`, and no reason not to run.
        if config.receive_buffer > 0 {
            let _ = socket.set_recv_buffer_size(config.receive_buffer);
        }
        if config.send_buffer > 0 {
            let _ = socket.set_send_buffer_size(config.send_buffer);
        }
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::UdpSocket::from_std(socket.into());
        let address = socket.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
        Ok(MediaSocket {
            io: Io::new(&socket, Family::of(address), config.portable),
            waker: ShardWaker::new(mio::Waker::new(poll.registry(), WAKER)?),
            events: Events::with_capacity(2),
            counters: Arc::default(),
            drained: true,
            told_oversized: false,
            socket,
            address,
            poll,
        })
    }

    /// The bound address, with the port that the system chose if it was asked to.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What the system grants: bytes of the receive buffer and of the send buffer.
    pub fn buffer_sizes(&self) -> io::Result<(usize, usize)> {
        let socket = SockRef::from(&self.socket);
        Ok((socket.recv_buffer_size()?, socket.send_buffer_size()?))
    }

    /// Wakes the thread that waits on this socket.
    pub fn waker(&self) -> ShardWaker {
        self.waker.clone()
    }

    /// What was moved and dropped so far. The code that reports it may keep the `Arc`.
    pub fn counters(&self) -> &Arc<SocketCounters> {
        &self.counters
    }

    /// Waits until there is something to receive, the waker was called, or the time is over (`None`: never). It may return early
    /// for no reason. The system counts whole milliseconds, rounded up.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let may_sleep = self.waker.may_sleep() && self.drained;
        let timeout = if may_sleep { timeout } else { Some(Duration::ZERO) };
        let result = self.poll.poll(&mut self.events, timeout);
        self.waker.awake();
        if self.events.iter().any(|event| event.token() == SOCKET) {
            self.drained = false;
        }
        match result {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Hands over what has arrived, at most [`RECEIVE_MAX`] datagrams, so that one turn stays short, each with the path that it came on:
    /// the sockets of all shards are one local socket. IPv4 sources are IPv4 addresses also on a socket for both.
    ///
    /// Returns how many were read, oversized ones included; with fewer than [`RECEIVE_MAX`] the socket is empty. The shard need not
    /// ask again: [`wait`](MediaSocket::wait) returns at once while there is more.
    pub fn receive(&mut self, each: &mut dyn FnMut(Path, &mut [u8])) -> io::Result<usize> {
        let received = match &mut self.io {
            #[cfg(target_os = "linux")]
            Io::Linux(linux) => linux.receive(self.socket.as_fd(), each)?,
            Io::Portable(portable) => portable.receive(&self.socket, each)?,
        };
        let Received { counts, drained } = received;
        self.drained = drained;
        self.counters.record(&counts);
        if counts.oversized_in > 0 && !std::mem::replace(&mut self.told_oversized, true) {
            tracing::warn!(
                "a datagram larger than {DATAGRAM_IN_MAX} bytes was dropped; later ones are dropped too, and only counted in `oversized_in`"
            );
        }
        Ok((counts.datagrams_in + counts.oversized_in) as usize)
    }
}

impl Outlet for MediaSocket {
    fn send(&mut self, queue: &mut SendQueue, failed: &mut dyn FnMut(u32)) {
        let sent = match &mut self.io {
            #[cfg(target_os = "linux")]
            Io::Linux(linux) => linux.send(self.socket.as_fd(), queue, failed),
            Io::Portable(portable) => portable.send(&self.socket, queue, failed),
        };
        self.counters.record(&sent);
        queue.clear();
    }
}

impl std::fmt::Debug for MediaSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediaSocket")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Io {
    #[cfg(target_os = "linux")]
    fn new(socket: &mio::net::UdpSocket, family: Family, portable: bool) -> Io {
        if portable {
            return Io::Portable(Portable::new(family));
        }
        Io::Linux(Box::new(Linux::new(socket.as_fd(), family)))
    }

    #[cfg(not(target_os = "linux"))]
    fn new(_: &mio::net::UdpSocket, family: Family, _: bool) -> Io {
        Io::Portable(Portable::new(family))
    }
}

/// What kind of addresses a socket speaks. An IPv6 socket names IPv4 addresses `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: SocketAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The destination of a path as the socket wants it.
    pub(super) fn outgoing(self, to: Path) -> SocketAddr {
        match (self, to.remote) {
            (Family::V6, SocketAddr::V4(v4)) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
            _ => to.remote,
        }
    }

    /// The path of a source as the socket names it.
    pub(super) fn incoming(from: SocketAddr) -> Path {
        Path::udp(match from {
            SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
                Some(v4) => (v4, v6.port()).into(),
                None => from,
            },
            SocketAddr::V4(_) => from,
        })
    }
}

fn bind_all(config: &MediaSocketConfig) -> io::Result<Vec<Socket>> {
    let first = bind_first(config.address)?;
    let shards = if cfg!(target_os = "linux") { config.shards } else { 1 };
    let mut sockets = vec![first];
    if shards > 1 {
        // Only now, bound: had the first socket asked to share before, another process of the same user that shares the port
        // would silently get half of the datagrams.
        share_port(&sockets[0])?;
        let address = bound_address(&sockets[0])?;
        for _ in 1..shards {
            let socket = open(address)?;
            share_port(&socket)?;
            socket.bind(&address.into())?;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// Binds for this process alone; falls back to all IPv4 addresses when all addresses are asked for and there is no IPv6.
fn bind_first(address: SocketAddr) -> io::Result<Socket> {
    let bind = |address: SocketAddr| {
        let socket = open(address)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let error = match bind(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && means_no_ipv6(&error) => error,
        result => return result,
    };
    tracing::debug!(%error, "no IPv6 on this machine");
    bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    Ok(socket)
}

fn means_no_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own: std calls it `Uncategorized`, and nothing else that matters here is called so.
    let known = [
        io::ErrorKind::AddrInUse,
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::InvalidInput,
    ];
    !known.contains(&error.kind())
}

#[cfg(target_os = "linux")]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(target_os = "linux"))]
fn share_port(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn bound_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Longest datagram that is received, in bytes. WebRTC keeps below 1,500, an Ethernet path; cameras on networks of their own use jumbo
/// frames of 9,000. It is also the longest that macOS sends. The fan-out can pass on all of it.
pub const DATAGRAM_IN_MAX: usize = 9_216;
const _: () = assert!(DATAGRAM_IN_MAX + 64 <= SendQueue::DATAGRAM_MAX);
/// Datagrams in one [`MediaSocket::receive`].
pub const RECEIVE_MAX: usize = 64;

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn only_a_missing_ipv6_leads_to_the_ipv4_fallback() {
        for (code, expected) in [
            (libc::EAFNOSUPPORT, true),
            (libc::EADDRNOTAVAIL, true),
            (libc::EADDRINUSE, false),
            (libc::EACCES, false),
        ] {
            assert_eq!(means_no_ipv6(&io::Error::from_raw_os_error(code)), expected);
        }
    }

    #[test]
    fn ipv4_is_mapped_for_an_ipv6_socket_and_back() {
        let v4: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:7".parse().unwrap();
        assert_eq!(
            Family::V6.outgoing(Path::udp(v4)),
            "[::ffff:192.0.2.1]:7".parse::<SocketAddr>().unwrap()
        );
        assert_eq!(Family::V4.outgoing(Path::udp(v4)), v4);
        for address in [v4, v6] {
            let path = Path::udp(address);
            assert_eq!(Family::incoming(Family::V6.outgoing(path)), path);
        }
    }
}

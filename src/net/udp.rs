//! The media sockets: one for each shard, all on the same port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Protocol, Socket, Type};

use super::portable;
#[cfg(target_os = "linux")]
use super::sys;
use crate::fanout::{Outlet, SendQueue};
use crate::metrics::Counter;

/// How the media sockets are made.
#[derive(Debug, Clone)]
pub struct MediaSocketConfig {
    /// Address and port. `[::]` means every address, IPv4 too; port 0 lets the system choose.
    pub address: SocketAddr,
    /// How many, from 1. More than one needs SO_REUSEPORT, which Windows has not: there it is always one.
    pub shards: usize,
    /// Plain sends and receives even where there is something faster.
    pub portable: bool,
    /// Bytes that the system may keep for a slow shard; the system may grant less.
    pub receive_buffer: usize,
    /// Bytes that may wait to be sent; the system may grant less.
    pub send_buffer: usize,
}

impl MediaSocketConfig {
    /// 4 MiB in, 4 MiB out: 25 ms of W1 for 1,000 viewers.
    pub const BUFFER: usize = 4 * 1024 * 1024;

    /// Sockets on `address` with buffers of [`BUFFER`](Self::BUFFER).
    pub fn new(address: SocketAddr, shards: usize, portable: bool) -> MediaSocketConfig {
        let (receive_buffer, send_buffer) = (MediaSocketConfig::BUFFER, MediaSocketConfig::BUFFER);
        MediaSocketConfig {
            address,
            shards,
            portable,
            receive_buffer,
            send_buffer,
        }
    }
}

/// What a socket counts.
#[derive(Debug, Default)]
pub struct SocketCounters {
    /// Datagrams received.
    pub datagrams_in: Counter,
    /// Their bytes.
    pub bytes_in: Counter,
    /// Datagrams that were longer than the buffer, and dropped.
    pub oversized_in: Counter,
    /// Datagrams sent.
    pub datagrams_out: Counter,
    /// Their bytes.
    pub bytes_out: Counter,
    /// System calls made to send.
    pub send_calls: Counter,
    /// Runs sent with UDP_SEGMENT.
    pub gso_runs: Counter,
    /// Runs that were sent one by one, because the way to the destination takes no UDP_SEGMENT.
    pub gso_refused: Counter,
    /// Sends that failed.
    pub send_errors: Counter,
}

/// One shard's socket, and what its thread sleeps on.
pub struct MediaSocket {
    socket: UdpSocket,
    poll: Poll,
    events: Events,
    waker: ShardWaker,
    local: SocketAddr,
    counters: Arc<SocketCounters>,
    io: Io,
}

enum Io {
    Portable {
        buffer: Box<[u8]>,
    },
    #[cfg(target_os = "linux")]
    Linux(Box<sys::Batches>),
}

/// Wakes a shard's thread from anywhere.
///
/// The thread says that it is about to sleep, looks at its queues once more, and sleeps. Whoever fills a queue afterwards sees that and
/// wakes it; whoever filled one before was seen by the last look. Both sides need a sequentially consistent order of
/// "flag, then queue" and "queue, then flag", which the fences give.
#[derive(Debug, Clone)]
pub struct ShardWaker {
    inner: Arc<WakerInner>,
}

#[derive(Debug)]
struct WakerInner {
    waker: Waker,
    asleep: AtomicBool,
}

impl ShardWaker {
    /// Wakes the thread if it sleeps; else costs a fence and a load.
    pub fn wake(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.inner.asleep.load(Ordering::Relaxed) && self.inner.asleep.swap(false, Ordering::AcqRel) {
            // It fails only when the system is out of resources; the thread then wakes at its next timeout.
            let _ = self.inner.waker.wake();
        }
    }

    /// The thread is about to sleep: after this it must look at its queues once more.
    pub fn prepare_sleep(&self) {
        self.inner.asleep.store(true, Ordering::Relaxed);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// It does not sleep after all, or has woken.
    pub fn cancel_sleep(&self) {
        self.inner.asleep.store(false, Ordering::Relaxed);
    }
}

/// Binds a socket for every shard to the same port.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] also when another process shares the port on purpose, so that two servers never split the
/// datagrams of one port between them.
pub fn bind(config: &MediaSocketConfig) -> io::Result<Vec<MediaSocket>> {
    let shards = if cfg!(unix) { config.shards.max(1) } else { 1 };
    let mut address = probe(config.address)?;
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = open(address, shards > 1)?;
        let _ = socket.set_recv_buffer_size(config.receive_buffer);
        let _ = socket.set_send_buffer_size(config.send_buffer);
        address.set_port(local_addr(&socket)?.port());
        sockets.push(MediaSocket::new(socket, config.portable)?);
    }
    Ok(sockets)
}

/// Binds alone, which fails when anybody holds the port, and says which address to use: `[::]` becomes `0.0.0.0` where there is no IPv6.
fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    match open(address, false) {
        Ok(socket) => Ok(SocketAddr::new(address.ip(), local_addr(&socket)?.port())),
        Err(error) if error.kind() != io::ErrorKind::AddrInUse && address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            let socket = open(address, false)?;
            Ok(SocketAddr::new(address.ip(), local_addr(&socket)?.port()))
        }
        Err(error) => Err(error),
    }
}

fn open(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    #[cfg(unix)]
    if shared {
        socket.set_reuse_port(true)?;
    }
    #[cfg(not(unix))]
    let _ = shared;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}

impl MediaSocket {
    /// Datagrams received in one turn.
    pub const RECEIVE_MAX: usize = 64;
    /// Longest datagram that is taken: no path carries longer ones whole, but jumbo frames come close.
    pub const DATAGRAM_MAX: usize = 2_048;

    fn new(socket: Socket, portable: bool) -> io::Result<MediaSocket> {
        let local = local_addr(&socket)?;
        let mut socket = UdpSocket::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let waker = ShardWaker {
            inner: Arc::new(WakerInner {
                waker,
                asleep: AtomicBool::new(false),
            }),
        };
        let counters = Arc::default();
        Ok(MediaSocket {
            socket,
            poll,
            events: Events::with_capacity(8),
            waker,
            local,
            counters,
            io: Io::new(portable),
        })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What wakes its thread.
    pub fn waker(&self) -> ShardWaker {
        self.waker.clone()
    }

    /// Its counters.
    pub fn counters(&self) -> &Arc<SocketCounters> {
        &self.counters
    }

    /// Sleeps until a datagram came, the waker was used, or the time is over (rounded up to milliseconds).
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let waited = self.poll.poll(&mut self.events, timeout);
        self.waker.cancel_sleep();
        match waited {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Receives what waits, up to [`RECEIVE_MAX`](Self::RECEIVE_MAX) datagrams, and says how many those were. The loop must go on
    /// until none came before it [waits](Self::wait): readiness is told once.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive(&mut self, each: &mut dyn FnMut(SocketAddr, &mut [u8])) -> io::Result<usize> {
        match &mut self.io {
            Io::Portable { buffer } => {
                portable::receive(&self.socket, buffer, MediaSocket::RECEIVE_MAX, &self.counters, each)
            }
            #[cfg(target_os = "linux")]
            Io::Linux(batches) => batches.receive(&self.socket, &self.counters, each),
        }
    }
}

impl Outlet for MediaSocket {
    fn send(&mut self, queue: &mut SendQueue, failed: &mut dyn FnMut(u32)) {
        let v6 = self.local.is_ipv6();
        match &mut self.io {
            Io::Portable { .. } => portable::send(&self.socket, v6, queue, &self.counters, failed),
            #[cfg(target_os = "linux")]
            Io::Linux(batches) => batches.send(&self.socket, v6, queue, &self.counters, failed),
        }
        queue.clear();
    }
}

impl Io {
    #[cfg(target_os = "linux")]
    fn new(portable: bool) -> Io {
        if portable {
            Io::plain()
        } else {
            Io::Linux(Box::default())
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn new(_portable: bool) -> Io {
        Io::plain()
    }

    fn plain() -> Io {
        Io::Portable {
            buffer: vec![0; MediaSocket::DATAGRAM_MAX + 1].into_boxed_slice(),
        }
    }
}

/// The address as a socket of that family takes it: on one that is IPv6, an IPv4 address is mapped.
pub(super) fn on_wire(address: SocketAddr, v6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        other => other,
    }
}

/// Errors on one datagram that say nothing about the socket.
pub(super) fn is_harmless(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::Interrupted
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    ) || error.raw_os_error() == Some(WSAEMSGSIZE)
}

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);
/// Windows: the datagram was longer than the buffer.
const WSAEMSGSIZE: i32 = 10_040;

//! Tokio for the `webrtc` crate, with larger receive buffers.
//!
//! A peer reads nothing from its socket while it waits for a core, or for the lock that applying a description holds. Packets wait in the
//! kernel meanwhile. In a room of twelve members the system's default buffer (208 KiB on Linux) overflows. The receiver requests lost packets
//! again, except those before the first packet of a track that it gets: it does not know of them.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

/// Bytes. The system may grant less: with Linux's default limit, 416 KiB.
const RECEIVE_BUFFER: usize = 2 << 20;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The crate's [`TokioRuntime`], but for the receive buffers of UDP sockets.
#[derive(Debug)]
pub(super) struct LargeBuffers;

impl Runtime for LargeBuffers {
    fn spawn(&self, future: Task) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn spawn_reactor(&self, reactor_pool_size: usize, future: Task) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn_reactor(reactor_pool_size, future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        // A smaller buffer is no reason not to connect.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn wrap_tcp_listener(&self, listener: TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp(&self, remote: SocketAddr) -> Pending<'_, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Pending<'a, io::Result<Vec<SocketAddr>>> {
        TokioRuntime.resolve_host(host)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }

    fn sleep(&self, duration: Duration) -> Task {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> Task {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        TokioRuntime.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn udp_sockets_have_a_large_receive_buffer() {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let (observed, before) = (socket.try_clone().unwrap(), size(&socket));
        LargeBuffers.wrap_udp_socket(socket).unwrap();
        assert!(size(&observed) > before, "{before} bytes before and after");
    }

    fn size(socket: &UdpSocket) -> usize {
        socket2::SockRef::from(socket).recv_buffer_size().unwrap()
    }
}

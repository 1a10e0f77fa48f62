//! Tokio for the `webrtc` crate, with receive buffers that outlast its pauses.
//!
//! All peers of a process share one thread of the crate. While it applies a description, packets of every other peer wait in the kernel. The
//! system's default of 208 KiB holds a quarter of a second of a room of twelve, and a packet that is dropped there looks like one that was
//! never sent: if it is the first of a track, nobody can tell that it is missing.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

/// In bytes; the system may grant less.
const RECEIVE_BUFFER: usize = 2 << 20;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The crate's own runtime in everything else.
#[derive(Debug)]
pub(super) struct LargeBuffers(pub(super) TokioRuntime);

impl Runtime for LargeBuffers {
    fn spawn(&self, future: Task) -> Box<dyn JoinHandle> {
        self.0.spawn(future)
    }

    fn spawn_reactor(&self, reactor_pool_size: usize, future: Task) -> Box<dyn JoinHandle> {
        self.0.spawn_reactor(reactor_pool_size, future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        self.0.wrap_udp_socket(socket)
    }

    fn wrap_tcp_listener(&self, listener: TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.0.wrap_tcp_listener(listener)
    }

    fn connect_tcp(&self, remote: SocketAddr) -> Pending<'_, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.0.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Pending<'a, io::Result<Vec<SocketAddr>>> {
        self.0.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Task {
        self.0.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.0.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.0.block_on(future);
    }

    fn yield_now(&self) -> Task {
        self.0.yield_now()
    }

    fn name(&self) -> &'static str {
        self.0.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn udp_sockets_have_a_large_receive_buffer() {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let (observed, before) = (socket.try_clone().unwrap(), size(&socket));
        LargeBuffers(TokioRuntime).wrap_udp_socket(socket).unwrap();
        assert!(size(&observed) > before, "{before} bytes before and after");
    }

    fn size(socket: &UdpSocket) -> usize {
        socket2::SockRef::from(socket).recv_buffer_size().unwrap()
    }
}

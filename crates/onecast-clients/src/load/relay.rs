//! A network path with a fixed delay between one client and a server. Datagrams stay in order.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use onecast_udp::clock;
use onecast_udp::socket::DATAGRAM_IN_MAX;

/// A running relay. When dropped, it still forwards what arrives, and ends once nothing arrives for a moment.
pub struct Relay {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
}

/// Shared by both directions.
#[derive(Clone)]
struct Ends {
    near: Arc<UdpSocket>,
    far: Arc<UdpSocket>,
    /// The client, known from its first datagram.
    client: Arc<OnceLock<SocketAddr>>,
    ends: Arc<AtomicBool>,
}

type Held = (Instant, Vec<u8>);

impl Relay {
    /// A relay to `server` with `delay` in each direction.
    ///
    /// # Errors
    /// Those of the system.
    pub fn start(server: SocketAddr, delay: Duration) -> io::Result<Relay> {
        let open = || -> io::Result<Arc<UdpSocket>> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
            socket.set_read_timeout(Some(QUIET))?;
            Ok(Arc::new(socket))
        };
        let both = Ends {
            near: open()?,
            far: open()?,
            client: Arc::default(),
            ends: Arc::default(),
        };
        both.far.connect(server)?;
        let relay = Relay {
            address: both.near.local_addr()?,
            ends: both.ends.clone(),
        };
        let (up, to_server) = channel();
        let (down, to_client) = channel();
        let threads: [Box<dyn FnOnce() + Send>; 4] = [
            Box::new({
                let both = both.clone();
                move || both.receive(&both.near, delay, &up)
            }),
            Box::new({
                let both = both.clone();
                move || both.receive(&both.far, delay, &down)
            }),
            Box::new({
                let far = both.far.clone();
                move || release(&to_server, |bytes| drop(far.send(bytes)))
            }),
            Box::new(move || {
                let to = both.client;
                release(&to_client, |bytes| {
                    drop(to.get().map(|&client| both.near.send_to(bytes, client)));
                });
            }),
        ];
        threads.into_iter().for_each(|run| drop(std::thread::spawn(run)));
        Ok(relay)
    }

    /// Address that the client sends to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
    }
}

impl Ends {
    fn receive(&self, from: &UdpSocket, delay: Duration, into: &Sender<Held>) {
        let mut buffer = [0; DATAGRAM_IN_MAX];
        loop {
            match from.recv_from(&mut buffer) {
                Ok((len, source)) => {
                    if std::ptr::eq(from, &*self.near) {
                        self.client.get_or_init(|| source);
                    }
                    let held = (clock::now() + delay, buffer[..len].to_vec());
                    if into.send(held).is_err() {
                        return;
                    }
                }
                Err(_) if self.ends.load(Ordering::Acquire) => return,
                // Nothing arrived, or the other side closed its socket. The relay is still in use.
                Err(_) => {}
            }
        }
    }
}

/// Sends each datagram when it is due, until the channel closes.
fn release(held: &Receiver<Held>, mut send: impl FnMut(&[u8])) {
    for (due, bytes) in held {
        if let Some(left) = due.checked_duration_since(clock::now()) {
            wait(left);
        }
        send(&bytes);
    }
}

#[expect(clippy::disallowed_methods, reason = "the delay is real time")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// A dropped relay ends after this time without a datagram.
const QUIET: Duration = Duration::from_millis(200);
/// As large as a client's own.
const RECEIVE_BUFFER: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_pass_both_ways_with_the_delay() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let delay = Duration::from_millis(20);
        let relay = Relay::start(server.local_addr().unwrap(), delay).unwrap();
        let start = clock::now();
        client.send_to(&[1, 2], relay.address()).unwrap();
        let mut buffer = [0; 10];
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..len], [1, 2]);
        assert!(clock::now() - start >= delay);
        server.send_to(&[3], from).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (1, relay.address()));
        assert!(clock::now() - start >= delay * 2);
    }
}

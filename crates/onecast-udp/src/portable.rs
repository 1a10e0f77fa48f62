//! One datagram per call, on any system.

use super::socket::{DATAGRAM_IN_MAX, Family, RECEIVE_MAX, Received};
use mio::net::UdpSocket;
use onecast_metrics::SocketCounts;
use onecast_rtc::Path;
use onecast_rtc::transmit::{Run, SendQueue};
use std::io;
use std::net::SocketAddr;

/// The portable way to move datagrams.
pub(super) struct Portable {
    family: Family,
    /// One byte longer than a datagram may be: a full buffer shows that a datagram was truncated.
    buffer: Box<[u8; DATAGRAM_IN_MAX + 1]>,
}

impl Portable {
    pub(super) fn new(family: Family) -> Portable {
        Portable {
            family,
            buffer: Box::new([0; DATAGRAM_IN_MAX + 1]),
        }
    }

    /// Sends every run of the queue. `failed` gets the owner of each run that was not sent completely.
    pub(super) fn send(&mut self, socket: &UdpSocket, queue: &SendQueue, failed: &mut dyn FnMut(u32)) -> SocketCounts {
        let mut sent = SocketCounts::default();
        for run in queue.runs() {
            if !self.send_run(socket, queue, run, &mut sent) && run.owner != Run::NO_OWNER {
                failed(run.owner);
            }
        }
        sent
    }

    fn send_run(&self, socket: &UdpSocket, queue: &SendQueue, run: &Run, sent: &mut SocketCounts) -> bool {
        let to = self.family.outgoing(run.to);
        let mut datagrams = queue.bytes(run).chunks(usize::from(run.segment).max(1));
        while let Some(datagram) = datagrams.next() {
            let Err(error) = send_patiently(socket, to, datagram, sent) else {
                sent.datagrams_out += 1;
                sent.bytes_out += datagram.len() as u64;
                continue;
            };
            let lost = 1 + datagrams.len() as u64;
            match error.kind() {
                io::ErrorKind::WouldBlock => sent.dropped_full += lost,
                _ => sent.dropped_refused += lost,
            }
            return false;
        }
        true
    }

    /// Receives up to [`RECEIVE_MAX`] datagrams.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        each: &mut dyn FnMut(Path, &mut [u8]),
    ) -> io::Result<Received> {
        let mut received = Received::default();
        while received.counts.receive_calls < RECEIVE_MAX as u64 {
            received.counts.receive_calls += 1;
            match socket.recv_from(&mut self.buffer[..]) {
                Ok((len, _)) if len > DATAGRAM_IN_MAX => received.counts.oversized_in += 1,
                Ok((len, from)) => {
                    received.counts.datagrams_in += 1;
                    received.counts.bytes_in += len as u64;
                    each(Family::incoming(from), &mut self.buffer[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    received.drained = true;
                    break;
                }
                Err(error) if error.raw_os_error() == Some(WINDOWS_MESSAGE_SIZE) => received.counts.oversized_in += 1,
                Err(error) if concerns_an_earlier_send(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(received)
    }
}

/// Sends one datagram. With a full buffer it yields to other threads and tries once more: no wait is available on all systems, and
/// further attempts would spin.
fn send_patiently(socket: &UdpSocket, to: SocketAddr, datagram: &[u8], sent: &mut SocketCounts) -> io::Result<()> {
    let mut waited = false;
    loop {
        sent.send_calls += 1;
        match socket.send_to(datagram, to) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !waited => {
                sent.send_waits += 1;
                waited = true;
                std::thread::yield_now();
            }
            Err(error) => return Err(error),
        }
    }
}

/// Windows reports the ICMP errors of earlier sends when receiving; they do not concern the datagrams to be received.
fn concerns_an_earlier_send(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable};
    let kinds = [
        ConnectionRefused,
        ConnectionReset,
        HostUnreachable,
        Interrupted,
        NetworkUnreachable,
    ];
    kinds.contains(&error.kind())
}

/// WSAEMSGSIZE: the datagram did not fit into the buffer. On other systems no such code exists.
const WINDOWS_MESSAGE_SIZE: i32 = 10_040;

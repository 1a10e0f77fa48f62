//! Sending and receiving one datagram a call: what every system can do.

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;

use super::udp::{SocketCounters, is_harmless, on_wire};
use crate::fanout::SendQueue;

/// Sends every run, segment by segment.
pub(super) fn send(
    socket: &UdpSocket,
    v6: bool,
    queue: &SendQueue,
    counters: &SocketCounters,
    failed: &mut dyn FnMut(u32),
) {
    for run in queue.runs() {
        let segments = queue.bytes(run).chunks(usize::from(run.segment).max(1));
        if !send_segments(socket, on_wire(run.to, v6), segments, counters) {
            failed(run.owner);
        }
    }
}

/// Sends datagrams to one destination; false as soon as one is not taken.
pub(super) fn send_segments<'a>(
    socket: &UdpSocket,
    to: SocketAddr,
    segments: impl Iterator<Item = &'a [u8]>,
    counters: &SocketCounters,
) -> bool {
    for segment in segments {
        counters.send_calls.add(1);
        match socket.send_to(segment, to) {
            Ok(len) => {
                counters.datagrams_out.add(1);
                counters.bytes_out.add(len as u64);
            }
            Err(error) => {
                counters.send_errors.add(1);
                tracing::trace!(%to, %error, "a datagram was not sent");
                return false;
            }
        }
    }
    true
}

/// Receives until nothing waits or `datagrams_max` were given to `each`.
pub(super) fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    datagrams_max: usize,
    counters: &SocketCounters,
    each: &mut dyn FnMut(SocketAddr, &mut [u8]),
) -> io::Result<usize> {
    // One byte more than a datagram may have tells those that are longer.
    let whole = buffer.len() - 1;
    let mut received = 0;
    while received < datagrams_max {
        match socket.recv_from(buffer) {
            Ok((len, from)) => {
                received += 1;
                counters.datagrams_in.add(1);
                counters.bytes_in.add(len as u64);
                if len > whole {
                    counters.oversized_in.add(1);
                    continue;
                }
                each(
                    SocketAddr::new(from.ip().to_canonical(), from.port()),
                    &mut buffer[..len],
                );
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // An ICMP error of an earlier send, or on Windows WSAEMSGSIZE for a datagram that is too long.
            Err(error) if is_harmless(&error) => received += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(received)
}

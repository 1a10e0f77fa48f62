//! Sockets of the media threads, the waker that ends their sleep, and the clock. All `unsafe` of the project lives in `sys`.
//!
//! [`socket::MediaSocket`] is the one socket of a shard. Underneath it has two ways to move datagrams, chosen when it is bound:
//! `linux` (sendmmsg, recvmmsg, UDP_SEGMENT) and `portable` (one datagram per call, any system).
//!
//! ```
//! use std::net::UdpSocket;
//! use std::time::Duration;
//!
//! use onecast_udp::socket::{MediaSocketConfig, bind};
//!
//! let config = MediaSocketConfig { address: "127.0.0.1:0".parse()?, ..MediaSocketConfig::default() };
//! let mut socket = bind(&config)?.remove(0);
//!
//! let client = UdpSocket::bind("127.0.0.1:0")?;
//! client.send_to(b"hello", socket.local_addr())?;
//! socket.wait(Some(Duration::from_secs(5)))?;
//! let mut received = Vec::new();
//! socket.receive(&mut |_from, datagram| received.push(datagram.to_vec()))?;
//! assert_eq!(received, [b"hello"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;
use std::net::UdpSocket;
use std::time::Duration;

pub mod clock;

pub mod interfaces;

#[cfg(target_os = "linux")]
mod linux;

mod portable;

pub mod resources;

pub mod socket;

#[cfg(target_os = "linux")]
mod sys;

pub mod waker;

/// Makes the kernel record when each datagram arrives at `socket`, for [`receive_stamped`]. Does nothing on systems without that.
///
/// # Errors
/// Those of the system.
pub fn stamp_arrivals(socket: &UdpSocket) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return sys::stamp_arrivals(std::os::fd::AsFd::as_fd(socket));
    #[cfg(not(target_os = "linux"))]
    socket.local_addr().map(drop)
}

/// Receives one datagram: its length, and the time of its arrival since 1970: the kernel's after [`stamp_arrivals`], otherwise that of
/// this call.
///
/// # Errors
/// Those of the system, `WouldBlock` among them.
pub fn receive_stamped(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Duration)> {
    #[cfg(target_os = "linux")]
    let (len, at) = sys::receive_stamped(std::os::fd::AsFd::as_fd(socket), buffer)?;
    #[cfg(not(target_os = "linux"))]
    let (len, at) = (socket.recv(buffer)?, None);
    Ok((len, at.unwrap_or_else(crate::clock::unix_time)))
}

/// Datagrams that `socket` dropped since it was made: by its filter, or because its buffer was full. `None` where the system does not
/// report it.
///
/// # Errors
/// Those of the system.
pub fn dropped(socket: &UdpSocket) -> io::Result<Option<u32>> {
    #[cfg(target_os = "linux")]
    return sys::dropped(std::os::fd::AsFd::as_fd(socket)).map(Some);
    #[cfg(not(target_os = "linux"))]
    socket.local_addr().map(|_| None)
}

/// Lets this process have `wanted` files and sockets open, or as many as the system allows. Returns how many it may have; `None`
/// where the system does not report it.
///
/// # Errors
/// Those of the system.
pub fn raise_open_files(wanted: u64) -> io::Result<Option<u64>> {
    #[cfg(target_os = "linux")]
    return sys::raise_open_files(wanted).map(Some);
    #[cfg(not(target_os = "linux"))]
    Ok(Some(wanted).filter(|_| false))
}

/// CPU time that the calling thread has used, user and system. `None` where the system does not report it.
pub fn thread_cpu_time() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    return sys::thread_cpu_time();
    #[cfg(not(target_os = "linux"))]
    None
}

/// CPU time that all threads of a process have used, user and system, including those that have ended: it never decreases while
/// the process lives. `None` when there is no such process, or the system does not report it.
pub fn process_cpu_time(pid: u32) -> Option<Duration> {
    #[cfg(target_os = "linux")]
    return sys::process_cpu_time(pid);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        None
    }
}

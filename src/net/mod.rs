//! Sockets and the threads that turn a shard. All `unsafe` of the project lives in `sys`.
//!
//! [`udp::MediaSocket`] is the one socket of a shard. Underneath it has two ways to move datagrams, chosen when it is bound:
//! `linux` (sendmmsg, recvmmsg, UDP_SEGMENT) and `portable` (one datagram a call, any system).

pub mod counters;

pub mod interfaces;

#[cfg(target_os = "linux")]
mod linux;

mod portable;

pub mod shard_loop;

#[cfg(target_os = "linux")]
mod sys;

pub mod udp;

pub mod waker;

/// CPU time that the calling thread has used, user and system. `None` where the system does not tell.
pub fn thread_cpu_time() -> Option<std::time::Duration> {
    #[cfg(target_os = "linux")]
    return sys::thread_cpu_time();
    #[cfg(not(target_os = "linux"))]
    None
}

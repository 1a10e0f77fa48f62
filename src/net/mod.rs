//! Sockets and the threads that turn a shard. All `unsafe` of the project lives in `sys`.

pub mod interfaces;
mod portable;
pub mod shard_loop;
#[cfg(target_os = "linux")]
pub mod sys;
pub mod udp;

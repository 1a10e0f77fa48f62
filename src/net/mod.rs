//! Sockets and the threads that turn a shard. All `unsafe` of the project lives in `sys`.

//! Fan-out: one packet in, one sealed datagram for every viewer out. Pure.

pub mod egress;

//! What a media socket counts. Written by the thread of the shard, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals of one socket since it was bound.
#[derive(Debug, Default)]
pub struct SocketCounters {
    /// Datagrams received, oversized ones not among them.
    pub datagrams_in: AtomicU64,
    /// UDP payload bytes received.
    pub bytes_in: AtomicU64,
    /// Datagrams longer than [`DATAGRAM_IN_MAX`](super::socket::DATAGRAM_IN_MAX), dropped.
    pub oversized_in: AtomicU64,
    /// System calls that asked for datagrams.
    pub receive_calls: AtomicU64,
    /// Datagrams that the system took.
    pub datagrams_out: AtomicU64,
    /// UDP payload bytes that the system took.
    pub bytes_out: AtomicU64,
    /// System calls that sent or tried to.
    pub send_calls: AtomicU64,
    /// Runs of two or more datagrams that left as one UDP_SEGMENT message.
    pub gso_runs: AtomicU64,
    /// Runs that the system refused to segment, sent one datagram at a time instead.
    pub gso_refused: AtomicU64,
    /// Times the send buffer was full and the shard waited for it, at most a millisecond each.
    pub send_waits: AtomicU64,
    /// Datagrams dropped because the send buffer stayed full.
    pub dropped_full: AtomicU64,
    /// Datagrams dropped because the system refused them: no route, not permitted, an impossible address.
    pub dropped_refused: AtomicU64,
}

impl SocketCounters {
    /// Names and values, in a fixed order.
    pub fn values(&self) -> Vec<(&'static str, u64)> {
        let counters = [
            ("datagrams_in", &self.datagrams_in),
            ("bytes_in", &self.bytes_in),
            ("oversized_in", &self.oversized_in),
            ("receive_calls", &self.receive_calls),
            ("datagrams_out", &self.datagrams_out),
            ("bytes_out", &self.bytes_out),
            ("send_calls", &self.send_calls),
            ("gso_runs", &self.gso_runs),
            ("gso_refused", &self.gso_refused),
            ("send_waits", &self.send_waits),
            ("dropped_full", &self.dropped_full),
            ("dropped_refused", &self.dropped_refused),
        ];
        let value = |(name, counter): (_, &AtomicU64)| (name, counter.load(Ordering::Relaxed));
        counters.map(value).to_vec()
    }

    /// Adds to a counter. Counters carry no order between threads: each is only a number.
    pub(super) fn add(counter: &AtomicU64, amount: u64) {
        if amount > 0 {
            counter.fetch_add(amount, Ordering::Relaxed);
        }
    }

    pub(super) fn add_sent(&self, sent: &Sent) {
        SocketCounters::add(&self.datagrams_out, sent.datagrams);
        SocketCounters::add(&self.bytes_out, sent.bytes);
        SocketCounters::add(&self.send_calls, sent.calls);
        SocketCounters::add(&self.gso_runs, sent.gso_runs);
        SocketCounters::add(&self.gso_refused, sent.gso_refused);
        SocketCounters::add(&self.send_waits, sent.waits);
        SocketCounters::add(&self.dropped_full, sent.dropped_full);
        SocketCounters::add(&self.dropped_refused, sent.dropped_refused);
    }

    pub(super) fn add_received(&self, received: &Received) {
        SocketCounters::add(&self.datagrams_in, received.datagrams);
        SocketCounters::add(&self.bytes_in, received.bytes);
        SocketCounters::add(&self.oversized_in, received.oversized);
        SocketCounters::add(&self.receive_calls, received.calls);
    }
}

/// What the sending of one queue came to; added to the counters once a queue.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    pub(super) calls: u64,
    pub(super) gso_runs: u64,
    pub(super) gso_refused: u64,
    pub(super) waits: u64,
    pub(super) dropped_full: u64,
    pub(super) dropped_refused: u64,
}

/// What one turn of receiving came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    pub(super) oversized: u64,
    pub(super) calls: u64,
    /// The socket had no more: only a new datagram makes it readable again.
    pub(super) drained: bool,
}

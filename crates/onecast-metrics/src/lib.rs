//! Every counter of the server in one table: name, type, unit and help text.
//!
//! A part of the server (a shard, its socket, a session, the admission control) owns one set of counters, for example
//! [`ShardCounters`], and is the only one to write it: an update is a load and a store, not a locked instruction. Any thread may read
//! the set into plain numbers ([`ShardCounts`]), merge those of several shards, and list them with their descriptions.
//!
//! ```
//! use onecast_metrics::{ShardCounters, ShardCounts};
//!
//! let shards = [ShardCounters::default(), ShardCounters::default()];
//! shards[0].rtp_in.add(3);
//! shards[1].rtp_in.add(4);
//! let mut all = ShardCounts::default();
//! shards.iter().for_each(|shard| all.merge(&shard.read()));
//! assert_eq!(all.rtp_in, 7);
//! let (metric, value) = all.iter().find(|(_, value)| *value > 0).expect("packets were counted");
//! assert_eq!(format!("{value} {} ({})", metric.unit, metric.help), "7 packets (RTP packets received from publishers.)");
//! ```
#![forbid(unsafe_code)]

mod cells;
mod table;

use std::fmt;

pub use cells::{Counter, Gauge, Peak};
pub use table::{
    AdmissionCounters, AdmissionCounts, SessionCounters, SessionCounts, ShardCounters, ShardCounts, SocketCounters,
    SocketCounts,
};

/// The description of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Name within its set, in snake case.
    pub name: &'static str,
    /// How it behaves over time, and how several are merged.
    pub kind: MetricKind,
    /// What it counts.
    pub unit: Unit,
    /// One or more sentences for operators.
    pub help: &'static str,
}

/// How a number behaves over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Only grows. Merged by adding.
    Counter,
    /// A present amount, which goes up and down. Merged by adding.
    Gauge,
    /// The highest value so far. Merged by taking the highest.
    Peak,
}

impl MetricKind {
    /// The value of two owners together.
    pub const fn merge(self, one: u64, other: u64) -> u64 {
        match self {
            MetricKind::Counter | MetricKind::Gauge => one.wrapping_add(other),
            MetricKind::Peak if one > other => one,
            MetricKind::Peak => other,
        }
    }

    const fn since(self, now: u64, earlier: u64) -> u64 {
        match self {
            MetricKind::Counter => now.wrapping_sub(earlier),
            MetricKind::Gauge | MetricKind::Peak => now,
        }
    }
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// System calls.
    Calls,
    /// UDP datagrams.
    Datagrams,
    /// Packets, most of them RTP.
    Packets,
    /// Connected clients, or connections.
    Peers,
    /// Requests.
    Requests,
    /// Runs of datagrams that one system call sends.
    Runs,
    /// Publishing or viewing sessions.
    Sessions,
    /// Times that a viewer starts to be sent a stream.
    Starts,
    /// Turns of a loop.
    Turns,
    /// Waits.
    Waits,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Bytes => "bytes",
            Unit::Calls => "calls",
            Unit::Datagrams => "datagrams",
            Unit::Packets => "packets",
            Unit::Peers => "peers",
            Unit::Requests => "requests",
            Unit::Runs => "runs",
            Unit::Sessions => "sessions",
            Unit::Starts => "starts",
            Unit::Turns => "turns",
            Unit::Waits => "waits",
        })
    }
}

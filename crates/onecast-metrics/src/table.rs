//! The table. A row is a name, a kind, a unit and the help text; a counter is added or changed here and nowhere else.
//!
//! Names are part of the API (`GET /api/shards`): a renamed row breaks dashboards.

use crate::cells::{Counter, Gauge, Peak};
use crate::{Metric, Unit};

/// Makes of a set's rows the counters that its owner writes, and the plain numbers that readers get.
macro_rules! set {
    (
        $(#[$about:meta])*
        $counters:ident, $counts:ident;
        $($name:ident: $kind:ident, $unit:ident, $help:literal;)+
    ) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        pub struct $counters {
            $(#[doc = $help] pub $name: $kind,)+
        }

        impl $counters {
            /// The present numbers.
            pub fn read(&self) -> $counts {
                $counts { $($name: self.$name.value()),+ }
            }

            /// Adds what the owner has gathered since the last call: one pass over the set instead of an update for each event. Gauges
            /// stay as they are. For the single writer only.
            pub fn record(&self, gathered: &$counts) {
                $(self.$name.record(gathered.$name);)+
            }
        }

        #[doc = concat!("Plain numbers of [`", stringify!($counters), "`]: a reading, a sum of readings, or numbers to record.")]
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct $counts {
            $(#[doc = $help] pub $name: u64,)+
        }

        impl $counts {
            /// Descriptions of the numbers, in the order of [`iter`](Self::iter).
            pub const METRICS: &[Metric] = &[
                $(Metric { name: stringify!($name), kind: $kind::KIND, unit: Unit::$unit, help: $help }),+
            ];

            /// Each number with its description.
            pub fn iter(&self) -> impl Iterator<Item = (&'static Metric, u64)> + use<> {
                Self::METRICS.iter().zip([$(self.$name),+])
            }

            /// What was counted since an earlier reading of the same owner. Gauges and peaks are the present ones.
            pub fn since(&self, earlier: &$counts) -> $counts {
                $counts { $($name: $kind::KIND.since(self.$name, earlier.$name)),+ }
            }

            /// Merges the numbers of another owner into these.
            pub fn merge(&mut self, other: &$counts) {
                $(self.$name = $kind::KIND.merge(self.$name, other.$name);)+
            }
        }
    };
}

set! {
    /// What one shard counts.
    ShardCounters, ShardCounts;
    peers: Gauge, Peers, "Peers on the shard, including those still connecting.";
    rtp_in: Counter, Packets, "RTP packets received from publishers.";
    rtp_in_dropped: Counter, Packets, "RTP packets from publishers dropped: not authentic, duplicate, or not negotiated.";
    rtp_out: Counter, Packets, "RTP packets sealed for viewers.";
    rtp_out_bytes: Counter, Bytes, "Payload bytes of the RTP packets sealed for viewers.";
    rtp_out_waiting: Counter, Packets, "RTP packets not sent because the viewer was waiting for a keyframe.";
    rtp_out_codec: Counter, Packets, "RTP packets not sent because the viewer did not negotiate their codec.";
    rtp_out_rest_of_frame: Counter, Packets,
        "RTP packets not sent because the viewer's path did not take an earlier packet of the frame.";
    rtp_out_oversized: Counter, Packets, "RTP packets too long to send.";
    rtp_stale: Counter, Packets, "RTP packets that reached the shard twice or too late.";
    retransmitted: Counter, Packets, "RTP packets retransmitted to viewers.";
    retransmitted_bytes: Counter, Bytes, "Payload bytes of the RTP packets retransmitted.";
    not_retransmitted: Counter, Packets,
        "RTP packets requested again but not retransmitted: no longer stored, just sent, sent often enough, or over the allowance.";
    not_retransmitted_allowance: Counter, Packets,
        "RTP packets not retransmitted because the viewer's allowance was used up. Included in not_retransmitted.";
    probes: Counter, Requests, "Probes begun, to see whether a viewer's path carries a better layer.";
    probed: Counter, Packets, "RTP packets repeated by probes.";
    probed_bytes: Counter, Bytes, "Payload bytes of the RTP packets repeated by probes.";
    runs_failed: Counter, Runs, "Runs of datagrams that the socket did not take.";
    rtcp_dropped: Counter, Datagrams, "RTCP datagrams dropped: not authentic or malformed.";
    stun_in: Counter, Datagrams, "STUN checks answered.";
    stun_dropped: Counter, Datagrams, "STUN datagrams dropped: unknown user name, wrong password, or malformed.";
    dtls_dropped: Counter, Datagrams, "DTLS datagrams dropped: from an address that passed no STUN check, or malformed.";
    handshakes_dropped: Counter, Datagrams, "DTLS datagrams of connecting clients dropped because the handshake queue was full.";
    unknown_dropped: Counter, Datagrams, "Datagrams of an unknown protocol dropped.";
    strays: Counter, Datagrams, "Datagrams handed to the shard that owns their peer.";
    strays_dropped: Counter, Datagrams, "Datagrams for other shards dropped because the mailbox was full.";
    connected: Counter, Peers, "DTLS handshakes completed.";
    ice_restarts: Counter, Peers, "ICE restarts completed.";
    closed: Counter, Peers, "Peers closed.";
    keyframe_requests: Counter, Requests, "Keyframe requests from viewers.";
    keyframe_requests_coalesced: Counter, Requests, "Keyframe requests merged into one that was already pending.";
    keyframe_requests_deferred: Counter, Requests,
        "Keyframe requests that waited because keyframes had used up their share of the stream.";
    keyframe_requests_sent: Counter, Requests, "Keyframe requests sent to publishers.";
    keyframe_requests_answered: Counter, Requests, "Keyframe requests that the publisher answered within 2 s.";
    starts: Counter, Starts, "Viewers started at the newest keyframe.";
    starts_repeated: Counter, Starts, "Viewers started again at the newest keyframe after they had missed packets.";
    starts_waiting: Counter, Starts, "Viewers that had to wait for the next keyframe.";
    starts_without_keyframe: Counter, Starts,
        "Viewers that waited too long for a keyframe and were started at the best other picture.";
    starts_skipped_ahead: Counter, Starts, "Viewers moved to a newer keyframe before they had caught up.";
    start_packets: Counter, Packets, "Stored RTP packets sent to starting viewers. Included in rtp_out.";
    start_cache_bytes: Gauge, Bytes, "Bytes stored since the newest keyframe of each stream in which viewers can start.";
    control_dropped: Counter, Datagrams, "STUN, DTLS and RTCP datagrams dropped because the send queue was full.";
    turns: Counter, Turns, "Turns of the media thread's loop.";
}

set! {
    /// What the socket of one shard counts.
    SocketCounters, SocketCounts;
    datagrams_in: Counter, Datagrams, "Datagrams received, without oversized ones.";
    bytes_in: Counter, Bytes, "UDP payload bytes received.";
    oversized_in: Counter, Datagrams, "Received datagrams dropped because they were longer than the receive buffer.";
    receive_calls: Counter, Calls, "System calls to receive datagrams.";
    datagrams_out: Counter, Datagrams, "Datagrams that the system accepted for sending.";
    bytes_out: Counter, Bytes, "UDP payload bytes that the system accepted for sending.";
    send_calls: Counter, Calls, "System calls to send datagrams, including failed ones.";
    gso_runs: Counter, Runs, "Runs of two or more datagrams sent as one UDP_SEGMENT message.";
    gso_refused: Counter, Runs, "Runs that the system refused to segment; their datagrams were sent one by one.";
    send_waits: Counter, Waits, "Waits for a full send buffer, each at most a millisecond long.";
    dropped_full: Counter, Datagrams, "Datagrams dropped because the send buffer stayed full.";
    dropped_refused: Counter, Datagrams,
        "Datagrams dropped because the system refused them: no route, not permitted, or an impossible address.";
}

set! {
    /// What the shard that adopted a session counts for it.
    SessionCounters, SessionCounts;
    rtp_bytes: Counter, Bytes, "Bytes of authentic RTP packets received from the client, headers included.";
    large_packets: Counter, Packets, "RTP packets received that are too large for an Ethernet path when sent to viewers.";
    longest_datagram: Peak, Bytes, "Length of the longest datagram that carries such a packet to viewers.";
}

set! {
    /// What the admission control counts. The lock around it makes it a single writer.
    AdmissionCounters, AdmissionCounts;
    half_open: Gauge, Sessions, "Sessions whose handshake is not complete.";
    refused_rate: Counter, Requests, "Offers refused because too many arrived per second (--joins-per-second).";
    refused_half_open: Counter, Requests, "Offers refused because too many sessions were half-open (--half-open-max).";
    refused_address: Counter, Requests,
        "Offers refused because too many sessions of the client's address were half-open (--half-open-per-address).";
    refused_address_rate: Counter, Requests,
        "Offers refused because too many arrived per second from the client's address (--joins-per-address).";
}

impl AdmissionCounts {
    /// Offers refused for any reason.
    pub fn refused(&self) -> u64 {
        self.refused_rate + self.refused_half_open + self.refused_address + self.refused_address_rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MetricKind;

    const SETS: [&[Metric]; 4] = [
        ShardCounts::METRICS,
        SocketCounts::METRICS,
        SessionCounts::METRICS,
        AdmissionCounts::METRICS,
    ];

    #[test]
    fn every_row_has_a_unique_name_and_a_sentence_of_help() {
        for set in SETS {
            let mut names: Vec<_> = set.iter().map(|metric| metric.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), set.len());
            for Metric { name, help, .. } in set {
                assert!(
                    help.ends_with('.') && help.starts_with(char::is_uppercase),
                    "{name}: {help}"
                );
            }
        }
    }

    #[test]
    fn readings_of_several_owners_are_merged_by_kind() {
        let one = SessionCounters::default();
        one.rtp_bytes.add(100);
        one.longest_datagram.raise(1_516);
        one.longest_datagram.raise(1_500);
        let other = SessionCounters::default();
        other.rtp_bytes.set_total(11);
        other.longest_datagram.raise(1_501);
        let mut both = one.read();
        both.merge(&other.read());
        assert_eq!((both.rtp_bytes, both.longest_datagram), (111, 1_516));
        assert_eq!(MetricKind::Gauge.merge(2, 3), 5);
    }

    #[test]
    fn gathered_numbers_are_added_in_one_pass() {
        let counters = ShardCounters::default();
        counters.rtp_out.add(5);
        counters.peers.set(3);
        let gathered = ShardCounts {
            rtp_out: 2,
            starts: 1,
            peers: 9,
            ..ShardCounts::default()
        };
        counters.record(&gathered);
        counters.record(&gathered);
        let now = counters.read();
        assert_eq!((now.rtp_out, now.starts, now.peers), (9, 2, 3));
    }

    #[test]
    fn only_counters_are_counted_since_an_earlier_reading() {
        let reading = |half_open, refused_rate| AdmissionCounts {
            half_open,
            refused_rate,
            ..AdmissionCounts::default()
        };
        let since = reading(3, 9).since(&reading(5, 7));
        assert_eq!((since.half_open, since.refused_rate, since.refused()), (3, 2, 2));
    }

    #[test]
    fn names_come_with_their_values() {
        let counts = SocketCounts {
            send_calls: 2,
            ..SocketCounts::default()
        };
        let set: Vec<_> = counts.iter().filter(|(_, value)| *value > 0).collect();
        assert_eq!(set.len(), 1);
        assert_eq!((set[0].0.name, set[0].0.unit, set[0].1), ("send_calls", Unit::Calls, 2));
    }
}

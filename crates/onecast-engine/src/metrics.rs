//! Every counter of the server, its name and unit.
//!
//! Each shard owns one [`ShardCounters`] and is its only writer, so adding is a load and a store; readers merge all shards.
//! What happens before a shard knows of a client is in [`AdmissionCounters`].

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread raises and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Raises the counter. For its one writer only.
    pub fn add(&self, amount: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Its value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it, for numbers that go up and down.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

macro_rules! counters {
    ($(#[$about:meta])* $owner:ident: $($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        pub struct $owner {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl $owner {
            /// Names and values, in a fixed order.
            pub fn values(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.value())),*]
            }
        }
    };
}

counters! {
    /// What one shard counts.
    ShardCounters:
    /// Peers that the shard holds, connecting ones included.
    peers,
    /// RTP packets taken from publishers.
    rtp_in,
    /// RTP packets that were not authentic, twice there, or not negotiated.
    rtp_in_dropped,
    /// RTP packets sealed for viewers.
    rtp_out,
    /// Payload bytes of those.
    rtp_out_bytes,
    /// RTP packets not sent to viewers that wait for a keyframe.
    rtp_out_waiting,
    /// RTP packets in a codec that the viewer did not negotiate.
    rtp_out_codec,
    /// RTP packets given up with the rest of their frame, because the viewer's path took no more.
    rtp_out_rest_of_frame,
    /// RTP packets too long to send.
    rtp_out_oversized,
    /// RTP packets that came to the shard twice or too late.
    rtp_stale,
    /// RTP packets sent again.
    retransmitted,
    /// Payload bytes of those.
    retransmitted_bytes,
    /// RTP packets asked for again that were not sent: they are not there any more, were just sent, or were sent often enough.
    not_retransmitted,
    /// Those of them for which the viewer's allowance was used up.
    not_retransmitted_allowance,
    /// Runs that the socket did not take.
    runs_failed,
    /// RTCP datagrams that were not authentic or not RTCP.
    rtcp_dropped,
    /// STUN checks answered.
    stun_in,
    /// STUN datagrams for nobody, malformed, or with a wrong password.
    stun_dropped,
    /// DTLS datagrams from an address that passed no check, or malformed.
    dtls_dropped,
    /// DTLS datagrams of clients that connect, for which there was no room in the queue of handshakes.
    handshakes_dropped,
    /// Datagrams that are nothing we speak.
    unknown_dropped,
    /// Datagrams handed to the shard that owns their peer.
    strays,
    /// Datagrams for other shards that found no room.
    strays_dropped,
    /// Handshakes completed.
    connected,
    /// ICE restarts completed.
    ice_restarts,
    /// Peers that ended.
    closed,
    /// Viewers' requests for a keyframe.
    keyframe_requests,
    /// Wishes for a keyframe that found another one waiting.
    keyframe_requests_coalesced,
    /// Wishes for a keyframe that had to wait because keyframes have had their share of the stream.
    keyframe_requests_deferred,
    /// Requests for a keyframe sent to publishers.
    keyframe_requests_sent,
    /// Requests for a keyframe that publishers answered within 2 s.
    keyframe_requests_answered,
    /// Viewers sent from the newest keyframe on.
    starts,
    /// Viewers sent from the newest keyframe on again, because they missed something.
    starts_repeated,
    /// Viewers that had to wait for the next keyframe.
    starts_waiting,
    /// Viewers that waited too long for a keyframe, and were sent what comes closest to one.
    starts_without_keyframe,
    /// Viewers led on to a newer keyframe before they had caught up.
    starts_skipped_ahead,
    /// RTP packets of the past sent to viewers that start; they are among those sealed.
    start_packets,
    /// Bytes since the newest keyframe of each stream, as long as viewers can start with them.
    start_cache_bytes,
    /// Control datagrams that found no room in the send queue.
    control_dropped,
    /// Turns of the media thread.
    turns,
}

counters! {
    /// What is counted at the door, where the registry's lock makes one writer of all.
    AdmissionCounters:
    /// Sessions whose handshake is not finished.
    half_open,
    /// Offers refused because too many came in a second (`--joins-per-second`).
    joins_refused_rate,
    /// Offers refused because too many sessions were half-open (`--half-open-max`).
    joins_refused_half_open,
    /// Offers refused because too many sessions of their address were half-open (`--half-open-per-address`).
    joins_refused_address,
    /// Offers refused because too many of their address came in a second (`--joins-per-address`).
    joins_refused_address_rate,
}

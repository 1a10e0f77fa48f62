//! What a stream sends with, and what is counted on the way.

use std::time::Instant;

use onecast_rtc::SessionId;
use onecast_rtc::transmit::{Outlet, SendQueue};

use crate::fanout::forwarder::Skip;
use crate::fanout::ids::PeerIndex;
use crate::fanout::session::Event;
use crate::media::lane::{StreamKey, StreamSlot};
use crate::media::{LayerIndex, LayerReason};
use onecast_metrics::ShardCounters;

/// What a stream sends with: the queue, the outlet that empties it, and what the shard reports afterwards.
pub struct Out<'a> {
    /// Now.
    pub now: Instant,
    /// The stream's place in the shard.
    pub slot: StreamSlot,
    /// Sealed datagrams gather here.
    pub queue: &'a mut SendQueue,
    /// Empties the queue when it is full.
    pub outlet: &'a mut dyn Outlet,
    /// What is counted.
    pub flow: &'a mut Flow,
    /// Viewers that got their first picture.
    pub first: &'a mut Vec<FirstPicture>,
    /// Viewers that go on with fewer spatial layers.
    pub layers: &'a mut Vec<LayerChange>,
    /// Peers whose runs could not be sent.
    pub failed: &'a mut Vec<PeerIndex>,
}

/// A subscriber that has just been sent a whole keyframe.
#[derive(Debug, Clone, Copy)]
pub struct FirstPicture {
    /// Its peer.
    pub peer: PeerIndex,
    /// The stream's place in the shard.
    pub slot: StreamSlot,
}

/// A subscriber that is sent another layer from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerChange {
    /// Its peer.
    pub peer: PeerIndex,
    /// The stream.
    pub stream: StreamKey,
    /// The layer.
    pub layer: LayerIndex,
    /// Why.
    pub reason: LayerReason,
}

impl LayerChange {
    /// What the control plane is told of it, for the peer's session.
    pub(in crate::fanout) fn event(self, session: SessionId) -> Event {
        Event::Layer {
            session,
            stream: self.stream,
            layer: self.layer,
            reason: self.reason,
        }
    }
}

impl Out<'_> {
    /// Sends what is queued unless datagrams of so many more bytes surely fit.
    pub(super) fn make_room(&mut self, bytes: usize) {
        if !self.queue.has_room_for(bytes) {
            let failed = &mut *self.failed;
            self.outlet.send(self.queue, &mut |owner| failed.push(PeerIndex(owner)));
        }
    }
}

/// What of a stream's flow is counted by the shard.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Packets sealed and queued.
    pub sent: u64,
    /// Payload bytes of those.
    pub sent_bytes: u64,
    /// Packets not sent because the viewer waits for a keyframe or started later.
    pub waiting: u64,
    /// Those of viewers that nothing is done for at the moment.
    pub stranded: u64,
    /// Packets in a codec that the viewer cannot take.
    pub codec: u64,
    /// Packets of a frame whose rest was given up.
    pub rest_of_frame: u64,
    /// Packets too long for a datagram.
    pub oversized: u64,
    /// Packets that came twice or too late for the window.
    pub stale: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Payload bytes of those.
    pub retransmitted_bytes: u64,
    /// Packets asked for again that were not sent: not in the window, sent already, or over the viewer's allowance.
    pub not_retransmitted: u64,
    /// Those of them that were over the viewer's allowance.
    pub over_allowance: u64,
    /// Packets sent again to see whether the path carries more.
    pub probed: u64,
    /// Payload bytes of those.
    pub probed_bytes: u64,
    /// Packets sent to viewers on their way to the live edge; they are among those sent.
    pub past: u64,
    /// Times that a viewer on its way was led on to a newer keyframe.
    pub skipped_ahead: u64,
}

impl Flow {
    pub(super) fn count(&mut self, skip: Skip) {
        *(match skip {
            Skip::Waiting | Skip::BeforeStart => &mut self.waiting,
            Skip::Codec => &mut self.codec,
            Skip::RestOfFrame => &mut self.rest_of_frame,
        }) += 1;
    }

    /// Counts what was sent to subscribers and what was not.
    pub(in crate::fanout) fn count_sent(&self, counters: &ShardCounters) {
        counters.rtp_out.add(self.sent);
        counters.rtp_out_bytes.add(self.sent_bytes);
        counters.rtp_out_waiting.add(self.waiting);
        counters.rtp_out_codec.add(self.codec);
        counters.rtp_out_rest_of_frame.add(self.rest_of_frame);
        counters.rtp_out_oversized.add(self.oversized);
        counters.start_packets.add(self.past);
        counters.starts_skipped_ahead.add(self.skipped_ahead);
    }

    /// Counts what was sent again and what was not.
    pub(in crate::fanout) fn count_repairs(&self, counters: &ShardCounters) {
        counters.retransmitted.add(self.retransmitted);
        counters.retransmitted_bytes.add(self.retransmitted_bytes);
        counters.not_retransmitted.add(self.not_retransmitted);
        counters.not_retransmitted_allowance.add(self.over_allowance);
        counters.probed.add(self.probed);
        counters.probed_bytes.add(self.probed_bytes);
    }
}

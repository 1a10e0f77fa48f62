//! Where a stream's datagrams go, and what is noted on the way.

use super::*;

/// What a stream sends with: the queue, who empties it, and what is to be told afterwards.
pub struct Out<'a> {
    /// Now.
    pub now: Instant,
    /// The stream's place in the shard.
    pub slot: u32,
    /// Sealed datagrams gather here.
    pub queue: &'a mut SendQueue,
    /// Empties the queue when it is full.
    pub outlet: &'a mut dyn Outlet,
    /// What is counted.
    pub flow: &'a mut Flow,
    /// Viewers that got their first picture.
    pub first: &'a mut Vec<FirstPicture>,
    /// Peers whose runs could not be sent.
    pub failed: &'a mut Vec<u32>,
}

/// A viewer that has just been sent a whole keyframe.
#[derive(Debug, Clone, Copy)]
pub struct FirstPicture {
    /// The viewer's peer.
    pub peer: u32,
    /// The stream's place in the shard.
    pub slot: u32,
    /// Since its offer was answered.
    pub after: Duration,
}

impl Out<'_> {
    /// Sends what is queued unless datagrams of so many more bytes surely fit.
    pub(super) fn make_room(&mut self, bytes: usize) {
        if !self.queue.has_room_for(bytes) {
            let failed = &mut *self.failed;
            self.outlet.send(self.queue, &mut |owner| failed.push(owner));
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
}

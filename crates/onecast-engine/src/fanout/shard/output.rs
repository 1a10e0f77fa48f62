//! What leaves a shard: sealed datagrams, control datagrams, events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use onecast_rtc::Transmit;
use onecast_rtc::transmit::{Outlet, Run, SendQueue};

use crate::fanout::ids::PeerIndex;
use crate::fanout::session::Event;
use crate::fanout::stream::{FirstPicture, Flow, LayerChange, Out};
use crate::media::lane::StreamSlot;
use onecast_metrics::ShardCounters;

pub(super) struct Output {
    /// Sealed datagrams gather here.
    pub(super) queue: SendQueue,
    /// STUN and DTLS datagrams.
    control: Vec<Transmit>,
    events: VecDeque<Event>,
    /// Peers whose runs could not be sent.
    failed: Vec<PeerIndex>,
    first_pictures: Vec<FirstPicture>,
    layer_changes: Vec<LayerChange>,
    counters: Arc<ShardCounters>,
}

impl Output {
    /// Control datagrams that wait for room in the send queue: what one turn can bring, a batch from the network and four handshake
    /// flights, several times over.
    const CONTROL_MAX: usize = 1_024;

    pub(super) fn new(counters: Arc<ShardCounters>) -> Output {
        Output {
            queue: SendQueue::new(),
            control: Vec::new(),
            events: VecDeque::new(),
            failed: Vec::new(),
            first_pictures: Vec::new(),
            layer_changes: Vec::new(),
            counters,
        }
    }

    pub(super) fn push_event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Queues control datagrams, as many as there is room for.
    pub(super) fn push_control(&mut self, mut out: Vec<Transmit>) {
        let room = Output::CONTROL_MAX.saturating_sub(self.control.len());
        self.counters.control_dropped.add(out.len().saturating_sub(room) as u64);
        out.truncate(room);
        self.control.append(&mut out);
    }

    /// Moves the control datagrams into the send queue, which is sent whenever it is full.
    pub(super) fn flush_control(&mut self, outlet: &mut dyn Outlet) {
        for outgoing in std::mem::take(&mut self.control) {
            if self.queue.is_full() {
                self.send(outlet);
            }
            self.queue.push(outgoing.to, Run::NO_OWNER, &outgoing.bytes);
        }
    }

    /// Sends what is queued. Peers whose runs failed wait for [`poll_failed`](Self::poll_failed).
    pub(super) fn send(&mut self, outlet: &mut dyn Outlet) {
        if !self.queue.is_empty() {
            outlet.send(&mut self.queue, &mut |owner| self.failed.push(PeerIndex(owner)));
        }
    }

    /// A peer that lost a run. A peer appears once for each run that failed.
    pub(super) fn poll_failed(&mut self) -> Option<PeerIndex> {
        self.failed.pop()
    }

    pub(super) fn take_first_pictures(&mut self) -> Vec<FirstPicture> {
        std::mem::take(&mut self.first_pictures)
    }

    pub(super) fn take_layer_changes(&mut self) -> Vec<LayerChange> {
        std::mem::take(&mut self.layer_changes)
    }

    /// What the stream at a slot sends with.
    pub(super) fn for_stream<'a>(
        &'a mut self,
        now: Instant,
        slot: StreamSlot,
        outlet: &'a mut dyn Outlet,
        flow: &'a mut Flow,
    ) -> Out<'a> {
        Out {
            now,
            slot,
            queue: &mut self.queue,
            outlet,
            flow,
            first: &mut self.first_pictures,
            layers: &mut self.layer_changes,
            failed: &mut self.failed,
        }
    }
}

//! Subscribers that start: they wait for the moment, are sent what came since the newest keyframe, and join the live edge.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use onecast_rtc::rtp::Kind;
use onecast_rtc::transmit::Outlet;

use super::Shard;
use super::start_queue::QueuedStart;
use crate::fanout::ids::PeerIndex;
use crate::fanout::stream::{Flow, KeyframeAnswer, Progress, Remedy, Started};
use crate::fanout::subscriber::Subscriber;
use crate::media::lane::StreamSlot;

/// When a subscriber that starts has its next turn.
enum NextTurn {
    At(Instant),
    /// With the stream's next batch.
    NextBatch,
    /// It needs no more turns.
    Never,
}

impl Shard {
    /// From the finished handshake to the first packet of video. Some receivers do not exist before: without a wait Firefox lost the
    /// beginning of 20 of 48 starts, with 10 ms none of 81.
    pub(super) const START_WAIT: Duration = Duration::from_millis(20);
    /// Packets of the past that one turn sends: a third of a millisecond, which is as long as live packets ever wait for them.
    const START_PACKETS_PER_TURN: usize = 256;
    /// Between looks for a place to start that is expected at any moment.
    const START_RETRY: Duration = Duration::from_millis(10);
    /// Longest wait for a packet that is missing since the newest keyframe.
    const START_TIMEOUT: Duration = Duration::from_millis(300);

    /// The subscriber is to start at `at`, if it is sent video.
    pub(super) fn start_later(&mut self, index: PeerIndex, slot: StreamSlot, at: Instant) {
        let Some(subscriber) = self.subscriber(index, slot) else {
            return;
        };
        if subscriber.forwarder(Kind::Video).is_none() {
            return;
        }
        subscriber.starting = true;
        self.starts.push(QueuedStart {
            peer: index,
            generation: self.peers.generation(index),
            slot,
            at: Some(at),
            since: at,
        });
    }

    /// The client has sent RTCP: its receiver is ready for the streams that wait to start.
    pub(super) fn mark_ready(&mut self, now: Instant, index: PeerIndex) {
        let Some(subscriptions) = self.peers.subscriptions(index) else {
            return;
        };
        for one in subscriptions.ready(now) {
            let subscriber = self.streams.subscriber(one.key.slot, one.position);
            if subscriber.is_some_and(|subscriber| subscriber.starting && subscriber.started_at.is_none()) {
                self.starts.expedite(index, one.key.slot, now);
            }
        }
    }

    /// The subscriber asks for a keyframe.
    pub(super) fn handle_keyframe_request(&mut self, now: Instant, index: PeerIndex, slot: StreamSlot) {
        self.serve_keyframe(now, index, slot, false);
    }

    fn serve_keyframe(&mut self, now: Instant, index: PeerIndex, slot: StreamSlot, lost: bool) {
        let Some(position) = self.peers.position(index, slot) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        let tracks = stream.tracks().clone();
        match stream.keyframe_wanted(now, position, lost) {
            KeyframeAnswer::Cache { ask } => {
                ask.into_iter().for_each(|need| tracks.request_keyframe(need));
                self.start_again(now, index, slot);
            }
            KeyframeAnswer::Publisher { need } => tracks.request_keyframe(need),
            KeyframeAnswer::None => {}
        }
    }

    /// Gives a subscriber what it needs besides retransmissions.
    pub(super) fn apply_remedy(&mut self, now: Instant, index: PeerIndex, slot: StreamSlot, remedy: Remedy) {
        match remedy {
            Remedy::None => {}
            Remedy::Keyframe => self.serve_keyframe(now, index, slot, true),
            Remedy::Start => self.start_again(now, index, slot),
        }
    }

    fn start_again(&mut self, now: Instant, index: PeerIndex, slot: StreamSlot) {
        let Some(subscriber) = self.subscriber(index, slot) else {
            return;
        };
        subscriber.again = subscriber.started_at.is_some();
        if subscriber.starting {
            self.starts.expedite(index, slot, now);
        } else {
            self.start_later(index, slot, now);
        }
    }

    /// A stream's batch went out: if it brought a keyframe, the subscribers that waited for one start.
    pub(super) fn find_startable(&mut self, now: Instant, slot: StreamSlot) {
        let mut found = Vec::new();
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.take_startable(now, &mut found);
        }
        found.into_iter().for_each(|index| self.start_later(index, slot, now));
    }

    /// Sends each subscriber that is due its slice of the past, and all of them together a bounded number of packets.
    pub(super) fn run_starts(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        if self.starts.poll_timeout().is_none_or(|next| next > now) {
            return;
        }
        let mut budget = Shard::START_PACKETS_PER_TURN;
        let mut flow = Flow::default();
        let starts = self.starts.take_all();
        let (mut waiting, mut served) = (VecDeque::with_capacity(starts.len()), VecDeque::new());
        for mut start in starts {
            let has_turn = start.at.is_some_and(|at| at <= now) && !self.streams.is_flushing_at(start.slot);
            if budget == 0 || !has_turn {
                waiting.push_back(start);
                continue;
            }
            start.at = match self.run_start(now, &mut start, &mut budget, outlet, &mut flow) {
                NextTurn::At(at) => Some(at),
                NextTurn::NextBatch => None,
                NextTurn::Never => continue,
            };
            served.push_back(start);
        }
        // Those that had no turn come first in the next round.
        waiting.append(&mut served);
        self.starts.end_turns(waiting);
        self.send(outlet);
        self.finish(now, &flow);
    }

    /// One subscriber's turn.
    fn run_start(
        &mut self,
        now: Instant,
        start: &mut QueuedStart,
        budget: &mut usize,
        outlet: &mut dyn Outlet,
        flow: &mut Flow,
    ) -> NextTurn {
        if self.peers.generation(start.peer) != start.generation {
            return NextTurn::Never;
        }
        let Some(position) = self.peers.position(start.peer, start.slot) else {
            return NextTurn::Never;
        };
        let Some(stream) = self.streams.get_mut(start.slot) else {
            return NextTurn::Never;
        };
        // A newer keyframe on the way means one more start; more of them do not fit one turn.
        for _ in 0..2 {
            match stream.start(now, position) {
                Started::Yes { again, blind, layer } => {
                    start.since = now;
                    self.counters.starts.add(1);
                    self.counters.starts_without_keyframe.add(u64::from(blind));
                    if blind {
                        stream.tracks().request_keyframe(stream.need(position));
                    }
                    self.counters.starts_repeated.add(u64::from(again));
                    if let (Some(change), Some(peer)) = (layer, self.peers.get(start.peer)) {
                        self.out.push_event(change.event(peer.session.id));
                    }
                }
                Started::NotYet if now < start.since + Shard::START_TIMEOUT => {
                    return NextTurn::At(now + Shard::START_RETRY);
                }
                Started::NotYet | Started::NextKeyframe => {
                    self.counters.starts_waiting.add(1);
                    let need = stream.need(position);
                    stream.tracks().request_keyframe(need);
                    stream.await_startable(now, position);
                    break;
                }
                Started::OnItsWay => start.since = now,
                Started::No => break,
            }
            let mut out = self.out.for_stream(now, start.slot, outlet, flow);
            match stream.catch_up(position, budget, &mut out) {
                Progress::Until(at) => return NextTurn::At(at),
                Progress::Edge => return NextTurn::NextBatch,
                Progress::Level => break,
                Progress::Lost => {}
            }
        }
        stream.subscriber(position).starting = false;
        NextTurn::Never
    }

    fn subscriber(&mut self, index: PeerIndex, slot: StreamSlot) -> Option<&mut Subscriber> {
        let position = self.peers.position(index, slot)?;
        self.streams.subscriber(slot, position)
    }
}

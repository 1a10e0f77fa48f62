//! Retransmissions: packets that subscribers ask for, sent from the window by RTX (RFC 4588) or exactly as they were.

use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_rtc::rtp::{Kind, Ssrc};
use onecast_rtc::transmit::SendQueue;

use super::ShardStream;
use super::output::Flow;
use super::sender::TrackSender;
use crate::fanout::forwarder::Rewrite;
use crate::fanout::ids::SubscriberPosition;
use crate::fanout::pacer::{Lost, Rank};
use crate::fanout::repairs::{Repairs, Request};
use crate::fanout::subscriber::{Outgoing, Subscriber};
use crate::media::{Packet, TrackLocalStaticRtp};
use onecast_rtc::rtp::rtcp::NackSequences;

/// What a subscriber needs besides the packets that it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// Nothing.
    None,
    /// A keyframe: a packet is lost for good.
    Keyframe,
    /// To be sent everything from the newest keyframe on again: most of its start is lost.
    Start,
}

/// The requests of one NACK on their way through the window.
struct Repair<'a> {
    now: Instant,
    sender: &'a TrackSender,
    track: &'a TrackLocalStaticRtp,
    subscriber: &'a mut Subscriber,
    /// How long a packet that was sent may be on its way.
    wait: Duration,
    out: &'a mut SendQueue,
    flow: &'a mut Flow,
    /// Packets that were not asked for before.
    lost: u32,
    given_up: bool,
}

impl ShardStream {
    /// What a packet takes besides its payload: headers, tag, UDP and IP.
    pub(super) const RETRANSMISSION_OVERHEAD: usize = 64;

    /// Sends the packets that a subscriber asks for, within its budget: those that were not sent again so far come first.
    pub fn retransmit(
        &mut self,
        now: Instant,
        position: SubscriberPosition,
        ssrc: Ssrc,
        sequences: NackSequences<'_>,
        out: &mut SendQueue,
        flow: &mut Flow,
    ) -> Remedy {
        let Some(kind) = self.kind_of(ssrc) else {
            return Remedy::None;
        };
        let rendition = self.subscribers[position.index()].rendition_of(kind);
        let Some(place) = self.place_of(kind, rendition) else {
            return Remedy::None;
        };
        let sender = &self.senders[place];
        let subscriber = &mut self.subscribers[position.index()];
        let mut repair = Repair {
            now,
            sender,
            track: self.tracks.track(kind),
            wait: subscriber.round_trip.wait(),
            subscriber,
            out,
            flow,
            lost: 0,
            given_up: false,
        };
        repair.run(sequences);
        let Repair { lost, given_up, .. } = repair;
        if kind == Kind::Audio {
            return Remedy::None;
        }
        if lost > 0 {
            self.note_loss(now, position, Lost::Packets(lost));
        }
        if lost > 0 && self.is_start_lost(now, position) {
            Remedy::Start
        } else if given_up {
            Remedy::Keyframe
        } else {
            Remedy::None
        }
    }

    /// A receiver report of a subscriber, which shows the round trip to it.
    pub fn note_report(&mut self, now: Instant, position: SubscriberPosition, about: Ssrc, last_sr: u32, delay: u32) {
        let Some(kind) = self.kind_of(about) else { return };
        let subscriber = &mut self.subscribers[position.index()];
        // Sender reports go out when the next are put off.
        let Some(sent) = subscriber.report_at.checked_sub(ShardStream::REPORT_INTERVAL) else {
            return;
        };
        subscriber.round_trip.handle_report(now, kind, (last_sr, delay), sent);
    }

    /// Forgets the requests of a subscriber that has not asked for a while.
    pub(super) fn forget_repairs(&mut self, now: Instant, position: SubscriberPosition, kind: Kind) {
        let rendition = self.subscribers[position.index()].rendition_of(kind);
        let place = self.place_of(kind, rendition);
        let keyframe = place.map_or(0, |place| self.senders[place].meter.keyframe());
        let Some(forwarder) = self.subscribers[position.index()].forwarder(kind) else {
            return;
        };
        let volume = forwarder.volume(keyframe);
        let is_over = forwarder.repairs.as_ref().is_none_or(|repairs| repairs.is_over(now));
        let subscriber = &mut self.subscribers[position.index()];
        if is_over && subscriber.has_whole_budget(now, kind, volume) {
            subscriber.end_repairs(kind);
        }
    }
}

impl Repair<'_> {
    /// One of so many packets goes by RTX to a receiver that ignores it, to see whether it still does.
    const TRY_RTX: u64 = 8;

    fn run(&mut self, sequences: NackSequences<'_>) {
        let Some(forwarder) = self.subscriber.forwarder(self.sender.kind) else {
            return;
        };
        let volume = forwarder.volume(self.sender.meter.keyframe());
        let repairs = forwarder.repairs.take();
        let pacer = self.subscriber.pacer();
        if repairs.is_none() {
            pacer.begin_repairs(self.now, self.sender.kind, volume);
        }
        pacer.fill(self.now, self.sender.kind, volume);
        let mut repairs = repairs.unwrap_or_else(|| Box::new(Repairs::new(self.now)));
        let looks = repairs.begin(self.now, volume.packets);
        let named = sequences.len();
        repairs.looked(named);
        self.flow.not_retransmitted += named.saturating_sub(looks) as u64;
        for sequence in sequences.take(looks) {
            self.take(&mut repairs, sequence);
        }
        for sequence in sequences.take(looks) {
            self.take_again(&mut repairs, sequence);
        }
        if let Some(forwarder) = self.subscriber.forwarder(self.sender.kind) {
            forwarder.repairs = Some(repairs);
        }
    }

    /// First pass over the requests: packets that were not sent again so far.
    fn take(&mut self, repairs: &mut Repairs, sequence: u16) {
        let Some((index, number)) = self.name(sequence) else {
            self.flow.not_retransmitted += 1;
            return;
        };
        match repairs.ask(self.now, number, self.wait) {
            Request::First { new } => {
                self.lost += u32::from(new);
                if let Some(started_at) = self.subscriber.started_at.filter(|_| new) {
                    let since = self.now.saturating_duration_since(started_at);
                    self.subscriber.round_trip.is_within(since);
                }
                self.answer(repairs, (index, number), Rank::First);
            }
            Request::Again(_) => {}
            Request::Soon(_) => self.flow.not_retransmitted += 1,
            Request::Often { news } => {
                // Without RTX every receiver notices what it is sent.
                self.given_up |= news && (repairs.is_attentive() || !self.has_rtx());
                self.flow.not_retransmitted += 1;
            }
        }
    }

    /// Second pass: packets that were sent again already.
    fn take_again(&mut self, repairs: &mut Repairs, sequence: u16) {
        let Some((index, number)) = self.name(sequence) else {
            return;
        };
        if let Request::Again(times) = repairs.ask(self.now, number, self.wait) {
            self.answer(repairs, (index, number), rank_after(times));
        }
    }

    /// The track's index and the viewer's number for a sequence number.
    fn name(&mut self, sequence: u16) -> Option<(u64, u64)> {
        let forwarder = self.subscriber.forwarder(self.sender.kind)?;
        let index = forwarder.track_index(sequence)?;
        Some((index, forwarder.number(index)))
    }

    /// Sends a packet again, in two copies where much is lost and enough of the budget is left.
    fn answer(&mut self, repairs: &mut Repairs, (index, number): (u64, u64), rank: Rank) {
        let Some((packet, original, padded)) = self.find(index).filter(|_| !self.out.is_full()) else {
            self.flow.not_retransmitted += 1;
            return;
        };
        let bytes = packet.payload.len() + ShardStream::RETRANSMISSION_OVERHEAD;
        if !self.may_send(bytes, rank) {
            self.flow.not_retransmitted += 1;
            self.flow.over_allowance += 1;
            return;
        }
        let has_rtx = self.has_rtx();
        let by_rtx = has_rtx && self.goes_by_rtx(repairs, index, number);
        if !self.send(&packet, original, padded, by_rtx) {
            self.flow.not_retransmitted += 1;
            return;
        }
        repairs.answered(self.now, number, by_rtx || !has_rtx);
        if repairs.is_lossy() && !self.out.is_full() && self.may_send(bytes, Rank::Copy) {
            self.send(&packet, original, padded, by_rtx);
        }
    }

    fn may_send(&mut self, bytes: usize, rank: Rank) -> bool {
        let kind = self.sender.kind;
        let catches_up = self.subscriber.catches_up(kind);
        self.subscriber.pacer().may_repair(kind, bytes, rank, catches_up)
    }

    /// The packet, and how it was sent first.
    fn find(&mut self, index: u64) -> Option<(Arc<Packet>, Rewrite, bool)> {
        let forwarder = self.subscriber.forwarder(self.sender.kind)?;
        if forwarder.is_parameter_sets(index) {
            let (packet, rewrite) = forwarder.parameter_sets()?;
            return Some((packet, rewrite, false));
        }
        let slot = self.sender.window.get(index).filter(|slot| slot.settled)?;
        let rewrite = forwarder.readmit(&slot.packet)?;
        Some((slot.packet.clone(), rewrite, slot.padded))
    }

    fn has_rtx(&mut self) -> bool {
        let forwarder = self.subscriber.forwarder(self.sender.kind);
        forwarder.is_some_and(|forwarder| forwarder.has_rtx())
    }

    /// A receiver that ignores RTX stops asking when the packet itself comes again, as long as its replay window takes that.
    fn goes_by_rtx(&mut self, repairs: &Repairs, index: u64, number: u64) -> bool {
        let forwarder = self.subscriber.forwarder(self.sender.kind);
        let is_recent = forwarder.is_some_and(|forwarder| forwarder.is_recent(index));
        !repairs.is_deaf_to_rtx() || !is_recent || number.is_multiple_of(Repair::TRY_RTX)
    }

    fn send(&mut self, packet: &Packet, original: Rewrite, padded: bool, by_rtx: bool) -> bool {
        let forwarder = self.subscriber.forwarder(self.sender.kind).filter(|_| by_rtx);
        let outgoing = match forwarder.and_then(|forwarder| forwarder.retransmission(&original)) {
            Some(rewrite) => Outgoing {
                packet,
                ssrc: self.track.rtx_ssrc(),
                rewrite,
                padded: false,
                original_sequence: Some(original.index as u16),
            },
            None => Outgoing {
                packet,
                ssrc: self.track.ssrc(),
                rewrite: original,
                padded,
                original_sequence: None,
            },
        };
        let sent = self.subscriber.seal(self.out, outgoing);
        if sent {
            self.flow.retransmitted += 1;
            self.flow.retransmitted_bytes += packet.payload.len() as u64;
        }
        sent
    }
}

/// How much a packet matters that was sent again so many times already, at least once.
const fn rank_after(times: u8) -> Rank {
    if times == 1 { Rank::Second } else { Rank::Third }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet that is asked for until it is given up matters less each time.
    #[test]
    fn each_request_for_a_packet_has_its_rank() {
        const WAIT: Duration = Duration::from_millis(50);
        let start = onecast_udp::clock::now();
        let mut repairs = Repairs::new(start);
        let mut ranks = Vec::new();
        for round in 0..6 {
            let now = start + round * WAIT;
            repairs.begin(now, 0);
            ranks.push(match repairs.ask(now, 7, WAIT) {
                Request::First { .. } => Some(Rank::First),
                Request::Again(times) => Some(rank_after(times)),
                Request::Soon(_) | Request::Often { .. } => None,
            });
            if ranks.last() != Some(&None) {
                repairs.answered(now, 7, true);
            }
        }
        let sent = [Rank::First, Rank::Second, Rank::Third].map(Some);
        assert_eq!((&ranks[..3], &ranks[3..]), (&sent[..], &[None; 3][..]));
    }
}

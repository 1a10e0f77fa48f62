//! What viewers ask for again: sent from the window, by RTX (RFC 4588) or exactly as it was.

use super::*;
use crate::fanout::repairs::{Rank, Repairs, Request};
use crate::media::TrackLocalStaticRtp;
use onecast_rtc::rtp::rtcp::NackSequences;

/// What a viewer needs besides the packets that it asked for.
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
    fan: &'a TrackFan,
    track: &'a TrackLocalStaticRtp,
    viewer: &'a mut Viewer,
    /// How long a packet that was sent may be on its way.
    wait: Duration,
    out: &'a mut SendQueue,
    flow: &'a mut Flow,
    /// Packets of which the loss was not known.
    lost: u32,
    given_up: bool,
}

impl ShardStream {
    /// What a packet takes besides its payload: headers, tag, UDP and IP.
    const RETRANSMISSION_OVERHEAD: usize = 64;

    /// Sends the packets a viewer asks for again, within its allowance: what it was not sent again so far comes first.
    pub fn retransmit(
        &mut self,
        now: Instant,
        position: usize,
        ssrc: u32,
        sequences: NackSequences<'_>,
        out: &mut SendQueue,
        flow: &mut Flow,
    ) -> Remedy {
        let Some(kind) = self.kind_of(ssrc) else {
            return Remedy::None;
        };
        let fan = match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        };
        let viewer = &mut self.viewers[position];
        let mut repair = Repair {
            now,
            fan,
            track: self.tracks.track(kind),
            wait: viewer.round_trip.wait(),
            viewer,
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

    /// What a viewer says of how it receives: the round trip to it.
    pub fn note_report(&mut self, now: Instant, position: usize, about: u32, last_sr: u32, delay: u32) {
        let Some(kind) = self.kind_of(about) else { return };
        let viewer = &mut self.viewers[position];
        // Sender reports go out when the next are put off.
        let Some(sent) = viewer.report_at.checked_sub(ShardStream::REPORT_INTERVAL) else {
            return;
        };
        viewer.round_trip.handle_report(now, kind, (last_sr, delay), sent);
    }

    /// Frees what is known of requests of a viewer that has none any more.
    pub(super) fn forget_repairs(&mut self, now: Instant, position: usize, kind: Kind) {
        let keyframe = self.fan(kind).meter.keyframe();
        let Some(forwarder) = self.viewers[position].forwarder(kind) else {
            return;
        };
        let volume = forwarder.volume(keyframe);
        if forwarder
            .repairs
            .as_mut()
            .is_some_and(|repairs| repairs.is_over(now, volume))
        {
            forwarder.repairs = None;
        }
    }
}

impl Repair<'_> {
    /// One of so many packets goes by RTX to a receiver that takes no notice of it, to see whether it still does not.
    const TRY_RTX: u64 = 8;

    fn run(&mut self, sequences: NackSequences<'_>) {
        let Some(forwarder) = self.viewer.forwarder(self.fan.kind) else {
            return;
        };
        let volume = forwarder.volume(self.fan.meter.keyframe());
        let repairs = forwarder.repairs.take();
        let mut repairs = repairs.unwrap_or_else(|| Box::new(Repairs::new(self.now, volume)));
        let looks = repairs.begin(self.now, volume);
        let named = sequences.len();
        repairs.looked(named);
        self.flow.not_retransmitted += named.saturating_sub(looks) as u64;
        for sequence in sequences.take(looks) {
            self.take(&mut repairs, sequence);
        }
        for sequence in sequences.take(looks) {
            self.take_again(&mut repairs, sequence);
        }
        if let Some(forwarder) = self.viewer.forwarder(self.fan.kind) {
            forwarder.repairs = Some(repairs);
        }
    }

    /// A request in its first turn: for what was not sent again so far.
    fn take(&mut self, repairs: &mut Repairs, sequence: u16) {
        let Some((index, number)) = self.name(sequence) else {
            self.flow.not_retransmitted += 1;
            return;
        };
        match repairs.ask(self.now, number, self.wait) {
            Request::First { new } => {
                self.lost += u32::from(new);
                if let Some(started_at) = self.viewer.started_at.filter(|_| new) {
                    let since = self.now.saturating_duration_since(started_at);
                    self.viewer.round_trip.is_within(since);
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

    /// A request in its second turn.
    fn take_again(&mut self, repairs: &mut Repairs, sequence: u16) {
        let Some((index, number)) = self.name(sequence) else {
            return;
        };
        if let Request::Again(times) = repairs.ask(self.now, number, self.wait) {
            let rank = if times == 1 { Rank::Second } else { Rank::Third };
            self.answer(repairs, (index, number), rank);
        }
    }

    /// The track's index and the viewer's number for a sequence number.
    fn name(&mut self, sequence: u16) -> Option<(u64, u64)> {
        let forwarder = self.viewer.forwarder(self.fan.kind)?;
        let index = forwarder.track_index(sequence)?;
        Some((index, forwarder.number(index)))
    }

    /// Sends a packet again, in two copies where much is lost and enough of the allowance is left.
    fn answer(&mut self, repairs: &mut Repairs, (index, number): (u64, u64), rank: Rank) {
        let Some((packet, original, padded)) = self.find(index).filter(|_| !self.out.is_full()) else {
            self.flow.not_retransmitted += 1;
            return;
        };
        let bytes = packet.payload.len() + ShardStream::RETRANSMISSION_OVERHEAD;
        if !self.is_of_start(bytes, rank) && !repairs.afford(bytes, rank) {
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
        if repairs.is_lossy() && !self.out.is_full() && repairs.afford(bytes, Rank::Copy) {
            self.send(&packet, original, padded, by_rtx);
        }
    }

    /// While a viewer is sent the past, what it missed of that comes first and takes its time from what follows: a start is never faster than
    /// its pace.
    fn is_of_start(&mut self, bytes: usize, rank: Rank) -> bool {
        let forwarder = self.viewer.forwarder(self.fan.kind).filter(|_| rank == Rank::First);
        let pace = forwarder.and_then(|forwarder| forwarder.pace());
        pace.map(|pace| pace.spend(bytes)).is_some()
    }

    /// The packet, and how it was sent first.
    fn find(&mut self, index: u64) -> Option<(Arc<Packet>, Route, bool)> {
        let forwarder = self.viewer.forwarder(self.fan.kind)?;
        if forwarder.is_parameter_sets(index) {
            let (packet, route) = forwarder.parameter_sets()?;
            return Some((packet, route, false));
        }
        let slot = self.fan.window.get(index).filter(|slot| slot.settled)?;
        let route = forwarder.readmit(&slot.packet)?;
        Some((slot.packet.clone(), route, slot.padded))
    }

    fn has_rtx(&mut self) -> bool {
        let forwarder = self.viewer.forwarder(self.fan.kind);
        forwarder.is_some_and(|forwarder| forwarder.has_rtx())
    }

    /// A receiver that takes no notice of RTX stops asking when the packet itself comes again, as long as it takes that.
    fn goes_by_rtx(&mut self, repairs: &Repairs, index: u64, number: u64) -> bool {
        let forwarder = self.viewer.forwarder(self.fan.kind);
        let is_recent = forwarder.is_some_and(|forwarder| forwarder.is_recent(index));
        !repairs.is_deaf_to_rtx() || !is_recent || number.is_multiple_of(Repair::TRY_RTX)
    }

    fn send(&mut self, packet: &Packet, original: Route, padded: bool, by_rtx: bool) -> bool {
        let forwarder = self.viewer.forwarder(self.fan.kind).filter(|_| by_rtx);
        let outgoing = match forwarder.and_then(|forwarder| forwarder.retransmission(original.timestamp)) {
            Some(route) => Outgoing {
                packet,
                ssrc: self.track.rtx_ssrc(),
                route,
                padded: false,
                original_sequence: Some(original.index as u16),
            },
            None => Outgoing {
                packet,
                ssrc: self.track.ssrc(),
                route: original,
                padded,
                original_sequence: None,
            },
        };
        let sent = self.viewer.seal(self.out, outgoing);
        if sent {
            self.flow.retransmitted += 1;
            self.flow.retransmitted_bytes += packet.payload.len() as u64;
        }
        sent
    }
}

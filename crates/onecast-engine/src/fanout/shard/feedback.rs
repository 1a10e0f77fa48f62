//! What a peer reports about the streams that it is sent, on its way to each of them.

use std::time::Instant;

use onecast_rtc::rtp::Kind;
use onecast_rtc::rtp::rtcp::Report;
use onecast_rtc::transmit::SendQueue;

use super::streams::Streams;
use crate::fanout::layers::ProbePlan;
use crate::fanout::pacer::Lost;
use crate::fanout::stream::{Flow, Reception, Remedy};
use crate::fanout::subscriptions::Subscriptions;
use crate::media::lane::StreamSlot;

/// One RTCP datagram of a peer.
pub(super) struct Feedback<'a> {
    pub(super) now: Instant,
    /// Viewers are sent what their paths carry.
    pub(super) adapts: bool,
    pub(super) streams: &'a mut Streams,
    pub(super) subscriptions: &'a Subscriptions,
    /// Retransmissions go here.
    pub(super) queue: &'a mut SendQueue,
    pub(super) flow: Flow,
    /// Slots of streams of which the peer wants a keyframe, once for each request.
    pub(super) keyframes: Vec<StreamSlot>,
    /// Probes that would show whether the peer's path carries more.
    pub(super) probes: Vec<(StreamSlot, ProbePlan)>,
    /// What else the peer needs of streams.
    pub(super) remedies: Vec<(StreamSlot, Remedy)>,
}

impl Feedback<'_> {
    pub(super) fn handle_report(&mut self, report: Report<'_>) {
        let about = match &report {
            Report::Nack { about, .. } | Report::Pli { about } => *about,
            Report::Fir { about, .. } | Report::ReceiverReport { about, .. } => *about,
            _ => return,
        };
        let Some(slot) = self.subscriptions.slot_of(about) else {
            return;
        };
        let position = self.subscriptions.position(slot);
        let Some((stream, position)) = self.streams.get_mut(slot).zip(position) else {
            return;
        };
        let now = self.now;
        match report {
            Report::Nack { sequences, .. } => {
                let remedy = stream.retransmit(now, position, about, sequences, self.queue, &mut self.flow);
                self.note_remedy(slot, remedy);
            }
            Report::ReceiverReport {
                fraction_lost,
                highest,
                last_sr,
                delay,
                ..
            } => {
                stream.note_report(now, position, about, last_sr, delay);
                if self.adapts && stream.kind_of(about) == Some(Kind::Video) {
                    let report = Reception { highest, fraction_lost };
                    let probe = stream.judge_path(now, position, report);
                    self.probes.extend(probe.map(|plan| (slot, plan)));
                }
                // Whichever track lost something: both take the same path.
                if fraction_lost > 0 {
                    stream.note_loss(now, position, Lost::Share(fraction_lost));
                }
            }
            Report::Pli { .. } | Report::Fir { .. } if stream.kind_of(about) == Some(Kind::Video) => {
                self.keyframes.push(slot);
            }
            _ => {}
        }
    }

    /// Of several remedies for one stream the greatest is applied.
    fn note_remedy(&mut self, slot: StreamSlot, remedy: Remedy) {
        match self.remedies.iter_mut().find(|(known, _)| *known == slot) {
            Some((_, known)) => *known = remedy.max(*known),
            None if remedy != Remedy::None => self.remedies.push((slot, remedy)),
            None => {}
        }
    }
}

//! The automatic choice: a viewer's reports are compared with what it was sent, and it is sent what its path carries.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::Kind;
use onecast_rtc::transmit::SendQueue;

use super::ShardStream;
use super::output::Flow;
use crate::fanout::ids::SubscriberPosition;
use crate::fanout::layers::{self, LadderStep, LayerControl, Millis, ProbePlan, Reason, ReportNote, Sending};
use crate::fanout::subscriber::{Acknowledged, Outgoing};
use crate::media::{LayerFacts, LayerIndex, LayerLimit, LayerReason, Rendition, Target, Window};

/// What a viewer reports on its video.
#[derive(Debug, Clone, Copy)]
pub struct Reception {
    /// The highest sequence number, extended to 32 bits.
    pub highest: u32,
    /// Lost since the last report, 1/256.
    pub fraction_lost: u8,
}

/// The layers that can be chosen, the lowest first.
struct Steps {
    steps: [LadderStep; LayerIndex::COUNT],
    len: usize,
}

impl Steps {
    fn as_slice(&self) -> &[LadderStep] {
        &self.steps[..self.len]
    }
}

impl ShardStream {
    /// A temporal base layer that takes more than this share of its layer, in percent, is not worth a change.
    const BASE_SHARE_MAX: u64 = 85;
    /// A viewer of a stream without layers is looked after from such a queue on,
    const SLOW_QUEUE: Duration = Duration::from_millis(60);
    /// or from such a loss, of 256.
    const SLOW_LOSS: u8 = 51;
    /// Packets that a probe repeats are looked for among the newest.
    const REPEATED: u64 = 64;

    /// A viewer reports on its video. Returns the probe that would show whether its path carries more.
    pub fn judge_path(&mut self, now: Instant, position: SubscriberPosition, report: Reception) -> Option<ProbePlan> {
        let steps = self.steps();
        let is_slow = match steps.as_slice() {
            [] => return None,
            [_] => {
                self.subscribers[position.index()].control().is_some()
                    || report.fraction_lost >= ShardStream::SLOW_LOSS
                    || self.looks_slow(now, position, report)
            }
            _ => true,
        };
        if !is_slow {
            return None;
        }
        let (note, acknowledged) = self.compare(now, position, report)?;
        let at = self.millis(now);
        let present = self.subscribers[position.index()].rendition.layer;
        let is_new = self.subscribers[position.index()].control().is_none();
        let begun = is_new.then(|| {
            let mut own = steps.as_slice().iter().copied();
            let own = own.find(|step| usize::from(step.layer) == present.index());
            LayerControl::new(at, own.as_slice(), self.limit_of(position))
        });
        let layers = self.subscribers[position.index()].layers_mut();
        if acknowledged.is_some() {
            layers.acknowledged = acknowledged;
        }
        layers.control = begun.or(layers.control.take());
        let plan = layers.control.as_mut()?.handle_report(at, &note, steps.as_slice());
        self.apply_choice(now, position);
        // While more of the layer is to come, or little is sent, reports could not judge a probe.
        plan.filter(|_| !self.awaits_more(position) && self.is_moving(position))
    }

    /// Whether the viewer waits for a place from which more of its layer can be sent.
    fn awaits_more(&self, position: SubscriberPosition) -> bool {
        let subscriber = &self.subscribers[position.index()];
        let present = subscriber.rendition;
        let next = subscriber.next_rendition().filter(|next| next.layer == present.layer);
        next.is_some_and(|next| present.target.is_less_than(next.target))
    }

    fn is_moving(&self, position: SubscriberPosition) -> bool {
        self.subscribers[position.index()].rendition.target.is_moving()
    }

    /// Whether the viewer's path has overflowed a short time ago.
    pub(super) fn is_narrow(&mut self, now: Instant, position: SubscriberPosition) -> bool {
        let at = self.millis(now);
        let control = self.subscribers[position.index()].control();
        control.is_some_and(|control| control.is_narrow(at))
    }

    /// Whether a viewer without a choice may need less than all: the reports of others are not followed.
    fn looks_slow(&mut self, now: Instant, position: SubscriberPosition, report: Reception) -> bool {
        let rendition = self.subscribers[position.index()].rendition;
        let Some(place) = self.place_of(Kind::Video, rendition) else {
            return false;
        };
        let subscriber = &mut self.subscribers[position.index()];
        let wait = subscriber.round_trip.wait();
        let Some(forwarder) = subscriber.forwarder(Kind::Video) else {
            return false;
        };
        let (newest, index) = (forwarder.newest_sent(), forwarder.track_index(report.highest as u16));
        let Some((index, _)) = index.zip(newest).filter(|(index, newest)| index < newest) else {
            return false;
        };
        let oldest = oldest_under_way(&self.senders[place].window, index + 1);
        oldest.is_some_and(|arrived| {
            forwarder.was_live(arrived) && now.saturating_duration_since(arrived) > wait + ShardStream::SLOW_QUEUE
        })
    }

    /// Compares a report with what was sent. Returns what it acknowledges, too.
    fn compare(
        &mut self,
        now: Instant,
        position: SubscriberPosition,
        report: Reception,
    ) -> Option<(ReportNote, Option<Acknowledged>)> {
        let rendition = self.subscribers[position.index()].rendition;
        let place = self.place_of(Kind::Video, rendition)?;
        let window = &self.senders[place].window;
        let idle = self.senders[place]
            .arrival
            .map(|(_, at)| now.saturating_duration_since(at));
        let subscriber = &mut self.subscribers[position.index()];
        let rtt = subscriber.round_trip.smoothed();
        let forwarder = subscriber.forwarder(Kind::Video)?;
        let newest = forwarder.newest_sent();
        let index = forwarder.track_index(report.highest as u16);
        let live_lag = |index| {
            let oldest = oldest_under_way(window, index + 1).filter(|arrived| forwarder.was_live(*arrived));
            oldest.map(|arrived| now.saturating_duration_since(arrived))
        };
        // Nothing is under way while no video is sent, or when all of it is acknowledged.
        let lag = match (newest, index) {
            (None, _) => Some(Duration::ZERO),
            (Some(newest), Some(index)) if index >= newest => Some(Duration::ZERO),
            (Some(_), index) => index.and_then(live_lag),
        };
        let sent = forwarder.packets;
        let layers = subscriber.layers_mut();
        // The loss is that of the packets up to the highest, of which others may have been sent since.
        let before = layers.highest.replace(report.highest);
        let covered = before.map_or(sent, |before| report.highest.wrapping_sub(before));
        let packets = if covered > u32::from(u16::MAX) { 0 } else { covered };
        let acknowledged = index.and_then(|index| {
            let slot = window.get(index)?;
            Some(Acknowledged {
                index,
                total: slot.total,
                at: now,
            })
        });
        let delivered = acknowledged.zip(layers.acknowledged).and_then(|(this, before)| {
            let micros = this.at.saturating_duration_since(before.at).as_micros();
            let bytes = u128::from(this.total.wrapping_sub(before.total));
            let arrived = bytes * u128::from(256 - u16::from(report.fraction_lost)) / 256;
            let goes_on = this.index > before.index && micros > 0;
            goes_on.then(|| u32::try_from(arrived * 8_000_000 / micros).unwrap_or(u32::MAX))
        });
        let note = ReportNote {
            lag,
            idle: idle.unwrap_or_default(),
            fraction_lost: report.fraction_lost,
            packets,
            delivered,
            rtt,
        };
        Some((note, acknowledged))
    }

    /// Layers by size and rate, those that are silent at their place.
    fn steps(&self) -> Steps {
        let shared = self.tracks.video.layers();
        let mut facts = [(LayerIndex::FIRST, LayerFacts::default()); LayerIndex::COUNT];
        let mut len = 0;
        for layer in LayerIndex::all() {
            let of_layer = shared.read(layer);
            if of_layer.is_live || of_layer.rate > 0 && of_layer.size.is_some() {
                facts[len] = (layer, of_layer);
                len += 1;
            }
        }
        facts[..len].sort_unstable_by_key(|(_, facts)| facts.rank());
        let empty = LadderStep {
            layer: 0,
            rate: 0,
            base_rate: None,
            live_since: None,
        };
        let mut steps = Steps {
            steps: [empty; LayerIndex::COUNT],
            len,
        };
        for (step, (layer, facts)) in steps.steps.iter_mut().zip(&facts[..len]) {
            let is_much_less = u64::from(facts.base_rate) * 100 <= u64::from(facts.rate) * ShardStream::BASE_SHARE_MAX;
            *step = LadderStep {
                layer: layer.index() as u8,
                rate: facts.rate,
                base_rate: (is_much_less && facts.base_rate > 0).then_some(facts.base_rate),
                live_since: self.live_since[layer.index()].filter(|_| facts.is_live),
            };
        }
        steps
    }

    fn millis(&self, now: Instant) -> Millis {
        Millis(now.saturating_duration_since(self.born).as_millis() as u32)
    }

    /// Notes which layers are live, since when.
    pub(super) fn note_live_layers(&mut self, now: Instant) {
        let at = self.millis(now);
        let live = self.tracks.video.layers().ranked();
        for layer in LayerIndex::all() {
            let since = &mut self.live_since[layer.index()];
            *since = since.or(Some(at)).filter(|_| live.contains(layer));
        }
    }

    fn limit_of(&self, position: SubscriberPosition) -> layers::StepLimit {
        let subscriber = &self.subscribers[position.index()];
        let limit = subscriber.limit();
        let number = |layer: LayerIndex| layer.index() as u8;
        match limit.pin {
            _ if limit == LayerLimit::default() && subscriber.has_descriptor() => layers::StepLimit::None,
            Some(pin) => layers::StepLimit::Pin(number(pin)),
            None => {
                let allowed = self.allowed_layers(subscriber);
                let highest = allowed.as_slice().last().copied();
                highest.map_or(layers::StepLimit::None, |layer| {
                    layers::StepLimit::Ceiling(number(layer))
                })
            }
        }
    }

    /// The choice follows another limit. False if there is none yet.
    pub(super) fn limit_choice(&mut self, now: Instant, position: SubscriberPosition) -> bool {
        let has_choice = self.update_choice(position).is_some();
        if has_choice {
            self.apply_choice(now, position);
        }
        has_choice
    }

    /// The choice follows layers that have come or gone, and what the viewer may be sent of them. Returns the layer that it wants; `None` if
    /// there is no choice yet.
    pub(super) fn update_choice(&mut self, position: SubscriberPosition) -> Option<LayerIndex> {
        let (limit, steps) = (self.limit_of(position), self.steps());
        let control = self.subscribers[position.index()].control()?;
        control.set_limit(limit, steps.as_slice());
        Some(LayerIndex::new(control.wanted().unwrap_or(control.layer())))
    }

    /// The viewer is sent another layer from now on.
    pub(super) fn note_choice(&mut self, now: Instant, position: SubscriberPosition) {
        let (at, steps) = (self.millis(now), self.steps());
        let subscriber = &mut self.subscribers[position.index()];
        let layer = subscriber.rendition.layer.index() as u8;
        subscriber.layers_mut().acknowledged = None;
        if let Some(control) = subscriber.control().filter(|control| control.layer() != layer) {
            control.switched(at, layer, steps.as_slice());
        }
    }

    /// Sends the viewer what was chosen: less of its layer at once, more of it or another layer from a keyframe on.
    pub(super) fn apply_choice(&mut self, now: Instant, position: SubscriberPosition) {
        let subscriber = &mut self.subscribers[position.index()];
        let Some(control) = subscriber.control() else { return };
        let sending = match control.sending() {
            Sending::Whole => Target::ALL,
            Sending::BaseTemporal => Target::BASE,
            Sending::KeyframesOnly => Target::KEYFRAMES,
            Sending::AudioOnly => Target::NONE,
        };
        let (layer, wanted) = (LayerIndex::new(control.layer()), control.wanted().map(LayerIndex::new));
        let reason = reason_of(control.reason());
        let subscriber = &self.subscribers[position.index()];
        let present = subscriber.rendition;
        let own = self.rendition_of(subscriber, layer);
        let own = Rendition {
            target: own.target.and(sending),
            ..own
        };
        let next = wanted.map(|wanted| self.rendition_of(subscriber, wanted));
        if let Some(next) = next.filter(|next| next.is_part_of(&present)) {
            // It goes on with fewer spatial layers at once.
            self.want(now, position, next, reason);
        } else if present.layer == own.layer && own.target.is_less_than(present.target) {
            self.want(now, position, own, reason);
        } else if let Some(next) = next {
            self.want(now, position, next, reason);
        } else {
            self.want(now, position, own, reason);
        }
    }

    /// Whether a probe of the viewer goes on.
    pub fn is_probing(&mut self, position: SubscriberPosition) -> bool {
        let control = self.subscribers[position.index()].control();
        control.is_some_and(|control| control.is_probing())
    }

    /// A probe of the viewer begins.
    pub fn begin_probe(&mut self, now: Instant, position: SubscriberPosition, plan: &ProbePlan) {
        let at = self.millis(now);
        if let Some(control) = self.subscribers[position.index()].control() {
            control.probe_started(at, plan);
        }
    }

    /// All of a probe has been sent.
    pub fn end_probe(&mut self, now: Instant, position: SubscriberPosition) {
        let at = self.millis(now);
        if let Some(control) = self.subscribers[position.index()].control() {
            control.probe_ended(at);
        }
    }

    /// Sends the viewer packets again by RTX, until `bytes` are sent. Returns how many were. A viewer without RTX is sent nothing: it tries
    /// the next layer itself.
    pub fn send_probe(
        &mut self,
        position: SubscriberPosition,
        bytes: u64,
        out: &mut SendQueue,
        flow: &mut Flow,
    ) -> u64 {
        let rendition = self.subscribers[position.index()].rendition;
        let Some(place) = self.place_of(Kind::Video, rendition) else {
            return 0;
        };
        let (sender, track) = (&self.senders[place], &self.tracks.video);
        let subscriber = &mut self.subscribers[position.index()];
        let mut sent = 0;
        let newest = subscriber
            .forwarder(Kind::Video)
            .and_then(|forwarder| forwarder.newest_sent());
        let Some(newest) = newest else { return 0 };
        for index in (newest.saturating_sub(ShardStream::REPEATED)..=newest).rev() {
            if sent >= bytes || out.is_full() {
                break;
            }
            let Some(slot) = sender.window.get(index).filter(|slot| slot.settled) else {
                continue;
            };
            let Some(forwarder) = subscriber.forwarder(Kind::Video) else {
                break;
            };
            let Some(original) = forwarder.readmit(&slot.packet) else {
                continue;
            };
            let Some(rewrite) = forwarder.retransmission(&original) else {
                break;
            };
            let outgoing = Outgoing {
                packet: &slot.packet,
                ssrc: track.rtx_ssrc(),
                rewrite,
                padded: false,
                original_sequence: Some(original.index as u16),
            };
            if subscriber.seal(out, outgoing) {
                sent += (slot.packet.payload.len() + ShardStream::RETRANSMISSION_OVERHEAD) as u64;
                flow.probed += 1;
                flow.probed_bytes += slot.packet.payload.len() as u64;
            }
        }
        sent
    }
}

/// When the oldest packet from `first` on that is not from before a pause of the publisher arrived. The last packets before a pause may be
/// lost, and reports on those after it have yet to come.
fn oldest_under_way(window: &Window, first: u64) -> Option<Instant> {
    let mut oldest = window.get(first)?.packet.arrived;
    let mut before = oldest;
    for slot in (first + 1..first + UNDER_WAY_MAX).map_while(|index| window.get(index)) {
        let arrived = slot.packet.arrived;
        if arrived.saturating_duration_since(before) >= PAUSE {
            oldest = arrived;
        }
        before = arrived;
    }
    Some(oldest)
}

/// Encoders of slow computers leave such gaps between frames.
const PAUSE: Duration = Duration::from_millis(250);
/// Packets that are looked at: more are under way only on a path that is full in any case.
const UNDER_WAY_MAX: u64 = 64;

fn reason_of(reason: Reason) -> LayerReason {
    match reason {
        Reason::Start => LayerReason::Start,
        Reason::Queue | Reason::Loss => LayerReason::Path,
        Reason::Recovered => LayerReason::Recovered,
        Reason::LayerGone => LayerReason::Gone,
        Reason::Limit => LayerReason::Limit,
    }
}

//! One layer of a track on its way to all subscribers: its window, the packets gathered for the next batch, and the batch that goes out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ShardStream;
use super::derivation::Derivation;
use super::meter::Meter;
use super::output::{FirstPicture, Out};
use super::waiting::Waiting;
use crate::fanout::catch_up::LiveClock;
use crate::fanout::forwarder::{Rewrite, Skip};
use crate::fanout::subscriber::{Outgoing, Subscriber};
use crate::media::continuity::REORDER_MAX;
use crate::media::packet::PassedExtensions;
use crate::media::window::{GopSnapshot, Insert, Slot, WindowBounds};
use crate::media::{Packet, Rendition, SenderClock, StreamTracks, Window};
use onecast_rtc::Profile;
use onecast_rtc::rtp::{Kind, Refresh, RtpTime, Ssrc};

pub(super) struct TrackSender {
    pub(super) kind: Kind,
    pub(super) rendition: Rendition,
    /// Makes its packets from those of its layer; `None` if it is all of the layer.
    derivation: Option<Derivation>,
    /// Subscribers that are sent it, or wait for it.
    pub(super) subscribers: usize,
    pub(super) waiting: Waiting,
    pub(super) window: Window,
    bounds: WindowBounds,
    /// Packets for the next batches.
    gathered: VecDeque<Arc<Packet>>,
    /// The batch on its way out.
    batch: Vec<Batched>,
    /// The publisher's clock by its sender reports.
    pub(super) clock: Option<SenderClock>,
    /// How large its keyframes are.
    pub(super) meter: Meter,
    /// Timestamp and arrival of the latest packet: the clock of a publisher that sends no sender reports.
    pub(super) arrival: Option<(RtpTime, Instant)>,
}

/// What became of a packet that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// It came twice, or too late for the window.
    Stale,
    /// It does not belong to the part of the layer.
    LeftOut,
}

struct Batched {
    packet: Arc<Packet>,
    padded: bool,
}

impl TrackSender {
    /// Publishers that send nothing for so long pause.
    pub(super) const PAUSE: Duration = Duration::from_secs(1);
    /// No frame is sent so long after one that is shown later.
    const REORDER_TIME: Duration = Duration::from_secs(1);

    pub(super) fn new((kind, rendition): (Kind, Rendition), bounds: WindowBounds, now: Instant) -> TrackSender {
        let batch = Vec::with_capacity(ShardStream::BATCH_MAX);
        TrackSender {
            kind,
            rendition,
            derivation: Derivation::of(rendition.target),
            subscribers: 0,
            waiting: Waiting::new(now),
            window: Window::new(bounds),
            bounds,
            gathered: VecDeque::with_capacity(ShardStream::BATCH_MAX),
            batch,
            clock: None,
            meter: Meter::default(),
            arrival: None,
        }
    }

    /// The track had no subscribers for a while, and what came meanwhile is not known: everything from before is forgotten. A batch on its
    /// way out has no subscriber left to go to.
    pub(super) fn reset(&mut self) {
        self.window = Window::new(self.bounds);
        self.derivation = Derivation::of(self.rendition.target);
        self.gathered.clear();
        self.clock = None;
        self.arrival = None;
    }

    /// Takes a packet of its layer from the lane.
    pub(super) fn take(&mut self, now: Instant, packet: &Arc<Packet>) -> Taken {
        let packet = match &mut self.derivation {
            None => packet.clone(),
            // The past brings it, in order.
            Some(_) if self.waiting.expects_past(now) => return Taken::LeftOut,
            Some(derivation) => match derivation.take(packet) {
                Some(packet) => Arc::new(packet),
                None => return Taken::LeftOut,
            },
        };
        if self.window.insert(packet.clone()) != Insert::Taken {
            return Taken::Stale;
        }
        self.meter.note(&packet);
        if self.window.newest() == Some(packet.index) {
            self.note_arrival(packet.timestamp, packet.arrived);
        }
        self.gathered.push_back(packet);
        Taken::Yes
    }

    /// The index in its layer of a packet.
    pub(super) fn index_in_layer(&self, index: u64) -> Option<u64> {
        match &self.derivation {
            None => Some(index),
            Some(derivation) => derivation.index_in_layer(index),
        }
    }

    /// The index of the first packet from one of its layer on.
    pub(super) fn index_of(&self, index_in_layer: u64) -> Option<u64> {
        match &self.derivation {
            None => Some(index_in_layer),
            Some(derivation) => derivation.number_of(index_in_layer),
        }
    }

    /// Where frames are not sent in the order in which they are shown, the clock follows those furthest ahead. A step back that lasts is
    /// another clock.
    fn note_arrival(&mut self, timestamp: RtpTime, at: Instant) {
        let is_clock = self.arrival.is_none_or(|(known, since)| {
            let step = timestamp.since(known);
            !(-REORDER_MAX..0).contains(&step) || at >= since + TrackSender::REORDER_TIME
        });
        if is_clock {
            self.arrival = Some((timestamp, at));
        }
    }

    /// Whether its packets are for the subscriber.
    #[inline]
    pub(super) fn serves(&self, subscriber: &Subscriber) -> bool {
        !self.batch.is_empty() && (self.kind == Kind::Audio || self.rendition == subscriber.rendition)
    }

    /// Packets come. While they do not, no keyframe can be missed: one comes first when it goes on.
    pub(super) fn is_sending(&self, now: Instant) -> bool {
        self.arrival.is_some_and(|(_, at)| now < at + TrackSender::PAUSE)
    }

    /// Its newest keyframe has just come.
    pub(super) fn is_young(&self) -> bool {
        let gop = self.window.gop();
        gop.start().is_some() && gop.age() <= ShardStream::YOUNG && gop.frames() <= ShardStream::YOUNG_FRAMES
    }

    /// Packets that are gathered.
    pub(super) fn gathered(&self) -> usize {
        self.gathered.len()
    }

    /// When the oldest of them came.
    pub(super) fn oldest_gathered(&self) -> Option<Instant> {
        self.gathered.front().map(|packet| packet.arrived)
    }

    /// Enough for a batch.
    pub(super) fn is_full(&self) -> bool {
        self.gathered.len() >= ShardStream::BATCH_MAX
    }

    /// The end of a frame is among them.
    pub(super) fn holds_frame(&self) -> bool {
        self.kind == Kind::Video && self.gathered.iter().any(|packet| packet.marker)
    }

    /// Packets of the batch on its way out.
    pub(super) fn batch(&self) -> usize {
        self.batch.len()
    }

    /// The next batch, from what is gathered: of video at most a frame.
    pub(super) fn begin_batch(&mut self) {
        let mut bytes = 0;
        while self.batch.len() < ShardStream::BATCH_MAX
            && let Some(packet) = self.gathered.pop_front()
        {
            bytes += datagram_len_max(&packet);
            if bytes > ShardStream::BATCH_BYTES_MAX {
                self.gathered.push_front(packet);
                break;
            }
            let ends = packet.marker && self.kind == Kind::Video;
            self.batch.push(Batched { packet, padded: false });
            if ends {
                break;
            }
        }
        self.equalize();
    }

    /// Every subscriber has the batch.
    pub(super) fn end_batch(&mut self) {
        self.batch.clear();
    }

    /// The publisher left.
    pub(super) fn end_source(&mut self) {
        self.clock = None;
        self.arrival = None;
        self.window.end_source();
    }

    /// What came of its layer before the first packet of the lane.
    pub(super) fn insert_past(&mut self, past: &GopSnapshot) {
        let past = match &mut self.derivation {
            None => past.clone(),
            // It has the past already, and goes on.
            Some(_) if self.window.newest().is_some() => return,
            Some(derivation) => {
                let packets = past.packets().iter();
                GopSnapshot::new(
                    packets
                        .filter_map(|packet| derivation.take(packet).map(Arc::new))
                        .collect(),
                )
            }
        };
        past.packets().iter().for_each(|packet| self.meter.note(packet));
        if self.arrival.is_none() {
            for packet in past.packets() {
                self.note_arrival(packet.timestamp, packet.arrived);
            }
        }
        self.window.insert_past(past);
    }

    pub(super) fn clock_rate(&self) -> Option<u32> {
        let newest = self.window.newest()?;
        Some(self.window.get(newest)?.packet.codec.clock_rate())
    }

    /// Decides, once for all viewers, which packets are padded by one byte: browsers split a frame into packets whose sizes differ by
    /// one, smaller ones first, and a GSO run needs equal segments.
    fn equalize(&mut self) {
        let longest = self
            .batch
            .iter()
            .map(|entry| entry.packet.payload.len())
            .max()
            .unwrap_or(0);
        let last = self.batch.len().saturating_sub(1);
        for (position, entry) in self.batch.iter_mut().enumerate() {
            let len = entry.packet.payload.len();
            entry.padded = position != last && len > 0 && len + 1 == longest;
            self.window.settle(entry.packet.index, entry.padded);
        }
    }

    pub(super) fn forward(&self, subscriber: &mut Subscriber, tracks: &StreamTracks, out: &mut Out<'_>) {
        let track = tracks.track(self.kind);
        let profile = track.profile();
        for Batched { packet, padded } in &self.batch {
            let Some(forwarder) = subscriber.forwarder(self.kind) else {
                return;
            };
            let rewrite = match forwarder.admit(packet, profile) {
                Ok(rewrite) => rewrite,
                Err(skip) => {
                    let waits = skip == Skip::Waiting && forwarder.is_waiting();
                    out.flow.count(skip);
                    out.flow.stranded += u64::from(waits && !subscriber.starting);
                    continue;
                }
            };
            self.seal(subscriber, track.ssrc(), (packet, rewrite, *padded), out);
        }
    }

    /// Sends a subscriber that catches up the packet at its cursor, with parameter sets in front of the first.
    pub(super) fn send_next(
        &self,
        subscriber: &mut Subscriber,
        slot: &Slot,
        live: LiveClock,
        tracks: &StreamTracks,
        out: &mut Out<'_>,
    ) {
        let Some(forwarder) = subscriber.forwarder(self.kind) else {
            return;
        };
        let ssrc = tracks.track(self.kind).ssrc();
        let next = forwarder.next(out.now, &slot.packet, live);
        let sets = forwarder.parameter_sets();
        // Unless the codec is another one, and the viewer waits.
        if forwarder.is_catching_up() {
            subscriber.pacer().spend(slot.packet.payload.len());
        }
        let rewrite = match next {
            Ok(rewrite) => rewrite,
            Err(skip) => return out.flow.count(skip),
        };
        let sets = sets.filter(|(_, sets)| sets.index.wrapping_add(1) == rewrite.index);
        if let Some((packet, rewrite)) = sets {
            self.seal(subscriber, ssrc, (&packet, rewrite, false), out);
        }
        out.flow.past += 1;
        self.seal(subscriber, ssrc, (&slot.packet, rewrite, slot.padded), out);
    }

    fn seal(
        &self,
        subscriber: &mut Subscriber,
        ssrc: Ssrc,
        (packet, rewrite, padded): (&Packet, Rewrite, bool),
        out: &mut Out<'_>,
    ) {
        let outgoing = Outgoing {
            packet,
            ssrc,
            rewrite,
            padded,
            original_sequence: None,
        };
        if !subscriber.seal(out.queue, outgoing) {
            out.flow.oversized += 1;
            return;
        }
        out.flow.sent += 1;
        out.flow.sent_bytes += packet.payload.len() as u64;
        if self.kind == Kind::Video {
            subscriber.blind &= packet.refresh <= Some(Refresh::Intra);
        }
        if !subscriber.has_picture && !subscriber.blind && packet.marker && self.kind == Kind::Video {
            subscriber.has_picture = true;
            out.first.push(FirstPicture {
                peer: subscriber.peer,
                slot: out.slot,
            });
        }
    }
}

/// The longest datagram that a packet can become: RTP header, its extensions in the longer form, one byte of padding, the longer tag.
fn datagram_len_max(packet: &Packet) -> usize {
    let extensions = match packet.extensions.is_empty() {
        true => 0,
        false => 4 + PassedExtensions::BYTES_MAX.next_multiple_of(4),
    };
    12 + extensions + packet.payload.len() + 1 + Profile::AeadAes128Gcm.tag_len()
}

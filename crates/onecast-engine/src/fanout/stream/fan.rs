//! One track on its way to all viewers: the window, the batch that is gathered, and what is sealed from them.

use super::*;
use crate::media::continuity::REORDER_MAX;
use crate::media::packet::PassedExtensions;
use crate::media::window::{Past, Slot};
use onecast_rtc::Profile;
use onecast_rtc::rtp::Refresh;

pub(super) struct TrackFan {
    pub(super) kind: Kind,
    pub(super) window: Window,
    bounds: WindowBounds,
    /// What the next batches are made of.
    gathered: VecDeque<Arc<Packet>>,
    /// The batch on its way out.
    batch: Vec<Entry>,
    /// The publisher's clock by its sender reports.
    pub(super) clock: Option<SenderClock>,
    /// How large its keyframes are.
    pub(super) meter: Meter,
    /// Timestamp and arrival of the latest packet: the clock of a publisher that sends no sender reports.
    pub(super) arrival: Option<(u32, Instant)>,
}

struct Entry {
    packet: Arc<Packet>,
    padded: bool,
}

impl TrackFan {
    /// No frame is sent so long after one that is shown later.
    const REORDER_TIME: Duration = Duration::from_secs(1);

    pub(super) fn new(kind: Kind, bounds: WindowBounds) -> TrackFan {
        let batch = Vec::with_capacity(ShardStream::BATCH_MAX);
        TrackFan {
            kind,
            window: Window::new(bounds),
            bounds,
            gathered: VecDeque::with_capacity(ShardStream::BATCH_MAX),
            batch,
            clock: None,
            meter: Meter::default(),
            arrival: None,
        }
    }

    /// Nobody was sent anything for a while, and what came is not known: everything from before is forgotten. A batch on its way out
    /// has nobody left to go to.
    pub(super) fn begin_anew(&mut self) {
        self.window = Window::new(self.bounds);
        self.gathered.clear();
        self.clock = None;
        self.arrival = None;
    }

    /// Takes a packet off the lane into the window and what is gathered. False when it came twice or too late.
    pub(super) fn take(&mut self, packet: Arc<Packet>) -> bool {
        if self.window.insert(packet.clone()) != Insert::Taken {
            return false;
        }
        self.meter.note(&packet);
        if self.window.newest() == Some(packet.index) {
            self.note_arrival(packet.timestamp, packet.arrived);
        }
        self.gathered.push_back(packet);
        true
    }

    /// Where frames are not sent in the order in which they are shown, the clock is that of those furthest ahead. A step back that lasts
    /// is another clock.
    fn note_arrival(&mut self, timestamp: u32, at: Instant) {
        let is_clock = self.arrival.is_none_or(|(known, since)| {
            let step = timestamp.wrapping_sub(known).cast_signed();
            !(-REORDER_MAX..0).contains(&step) || at >= since + TrackFan::REORDER_TIME
        });
        if is_clock {
            self.arrival = Some((timestamp, at));
        }
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
            self.batch.push(Entry { packet, padded: false });
            if ends {
                break;
            }
        }
        self.equalize();
    }

    /// Everybody has the batch.
    pub(super) fn end_batch(&mut self) {
        self.batch.clear();
    }

    /// The publisher left.
    pub(super) fn end_source(&mut self) {
        self.clock = None;
        self.arrival = None;
        self.window.end_source();
    }

    /// What came before the first packet of the lane.
    pub(super) fn insert_past(&mut self, past: Past) {
        past.packets().iter().for_each(|packet| self.meter.note(packet));
        if self.arrival.is_none() {
            for packet in past.packets() {
                self.note_arrival(packet.timestamp, packet.arrived);
            }
        }
        self.window.insert_past(past);
    }

    /// When the packet behind a gap came.
    pub(super) fn missing_since(&self, index: u64) -> Option<Instant> {
        let newest = self.window.newest()?;
        let behind = (index..=newest).find_map(|index| self.window.get(index))?;
        Some(behind.packet.arrived)
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

    pub(super) fn forward(&self, viewer: &mut Viewer, tracks: &StreamTracks, out: &mut Out<'_>) {
        let track = tracks.track(self.kind);
        let profile = track.profile();
        for Entry { packet, padded } in &self.batch {
            let Some(forwarder) = viewer.forwarder(self.kind) else {
                return;
            };
            let route = match forwarder.admit(packet, profile) {
                Ok(route) => route,
                Err(skip) => {
                    let waits = skip == Skip::Waiting && forwarder.is_waiting();
                    out.flow.count(skip);
                    out.flow.stranded += u64::from(waits && !viewer.starting);
                    continue;
                }
            };
            self.seal(viewer, track.ssrc(), (packet, route, *padded), out);
        }
    }

    /// Sends a viewer on its way the packet at its cursor, parameter sets in front of the first.
    pub(super) fn send_next(
        &self,
        viewer: &mut Viewer,
        slot: &Slot,
        live: LiveClock,
        tracks: &StreamTracks,
        out: &mut Out<'_>,
    ) {
        let Some(forwarder) = viewer.forwarder(self.kind) else {
            return;
        };
        let ssrc = tracks.track(self.kind).ssrc();
        let route = match forwarder.next(out.now, &slot.packet, live) {
            Ok(route) => route,
            Err(skip) => return out.flow.count(skip),
        };
        let sets = forwarder
            .parameter_sets()
            .filter(|(_, sets)| sets.index.wrapping_add(1) == route.index);
        if let Some((packet, route)) = sets {
            self.seal(viewer, ssrc, (&packet, route, false), out);
        }
        out.flow.past += 1;
        self.seal(viewer, ssrc, (&slot.packet, route, slot.padded), out);
    }

    fn seal(&self, viewer: &mut Viewer, ssrc: u32, (packet, route, padded): (&Packet, Route, bool), out: &mut Out<'_>) {
        let outgoing = Outgoing {
            packet,
            ssrc,
            route,
            padded,
            original_sequence: None,
        };
        if !viewer.seal(out.queue, outgoing) {
            out.flow.oversized += 1;
            return;
        }
        out.flow.sent += 1;
        out.flow.sent_bytes += packet.payload.len() as u64;
        if self.kind == Kind::Video {
            viewer.blind &= packet.refresh <= Some(Refresh::Intra);
        }
        if !viewer.has_picture && !viewer.blind && packet.marker && self.kind == Kind::Video {
            viewer.has_picture = true;
            let after = out.now.saturating_duration_since(viewer.created);
            out.first.push(FirstPicture {
                peer: viewer.peer,
                slot: out.slot,
                after,
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

//! One stream on one shard: the windows of its tracks, the viewers, and the way of a batch of packets to all of them.
//!
//! ```text
//! lane -> take() -> window + batch -> flush(): for each viewer, for each packet of the batch: seal into the send queue
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::egress::{Outlet, SendQueue};
use super::forwarder::Skip;
use super::viewer::{Outgoing, Viewer};
use crate::media::{LaneItem, Packet, SenderClock, StreamTracks, Window, window::Insert};
use crate::rtp::{Kind, rtcp};

/// A stream that somebody on this shard watches.
pub struct ShardStream {
    tracks: Arc<StreamTracks>,
    viewers: Vec<Viewer>,
    audio: TrackFan,
    video: TrackFan,
    flush_at: Option<Instant>,
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
    /// Packets asked for again that were not sent: not in the window, or over the viewer's allowance.
    pub not_retransmitted: u64,
}

/// A viewer that has just been sent a whole keyframe.
#[derive(Debug, Clone, Copy)]
pub struct FirstPicture {
    /// The viewer's peer.
    pub peer: u32,
    /// Since its offer was answered.
    pub after: Duration,
}

struct TrackFan {
    kind: Kind,
    window: Window,
    batch: Vec<Entry>,
    clock: Option<SenderClock>,
    /// Timestamp and arrival of the latest packet: the clock of a publisher that sends no sender reports.
    arrival: Option<(u32, Instant)>,
}

struct Entry {
    packet: Arc<Packet>,
    padded: bool,
}

impl ShardStream {
    /// Packets after which a batch goes out although the frame is not complete.
    const BATCH_MAX: usize = 16;
    /// Datagrams that one viewer's share of a batch may take, and some to spare.
    pub const SHARE_MAX: usize = 2 * ShardStream::BATCH_MAX + 4;
    /// How long the first packet of a batch waits for more: the packets of a frame arrive within 0.2-0.4 ms, at p95 0.7-2 ms.
    const GATHER: Duration = Duration::from_millis(1);
    /// Packets a video window holds: 8 s at 250 packets a second (2.5 Mbit/s).
    const VIDEO_WINDOW: usize = 2_048;
    /// Packets an audio window holds: 5 s at 50 a second.
    const AUDIO_WINDOW: usize = 256;
    /// Between sender reports of a track to a viewer.
    const REPORT_INTERVAL: Duration = Duration::from_secs(2);

    /// A stream with no viewer yet.
    pub fn new(tracks: Arc<StreamTracks>) -> ShardStream {
        ShardStream {
            tracks,
            viewers: Vec::new(),
            audio: TrackFan::new(Kind::Audio, ShardStream::AUDIO_WINDOW),
            video: TrackFan::new(Kind::Video, ShardStream::VIDEO_WINDOW),
            flush_at: None,
        }
    }

    /// The tracks that it carries.
    pub fn tracks(&self) -> &Arc<StreamTracks> {
        &self.tracks
    }

    /// Adds a viewer and returns its position.
    pub fn add(&mut self, viewer: Viewer, shard: usize) -> usize {
        viewer.bind(&self.tracks, shard);
        self.viewers.push(viewer);
        self.viewers.len() - 1
    }

    /// Removes the viewer at `position`; the last one takes its place and is returned by its peer, for the books.
    pub fn remove(&mut self, position: usize, shard: usize) -> Option<u32> {
        self.viewers.swap_remove(position).unbind(&self.tracks, shard);
        self.viewers.get(position).map(|moved| moved.peer)
    }

    /// The viewer at a position.
    pub fn viewer(&mut self, position: usize) -> &mut Viewer {
        &mut self.viewers[position]
    }

    /// How many watch.
    pub fn viewers(&self) -> usize {
        self.viewers.len()
    }

    /// When the gathered batch must go out.
    pub fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    /// Takes what came on the lane. True when the batch is complete and should be flushed.
    pub fn take(&mut self, now: Instant, item: LaneItem, flow: &mut Flow) -> bool {
        match item {
            LaneItem::Packet(kind, packet) => {
                let complete = kind == Kind::Video && packet.marker;
                let fan = self.fan(kind);
                if fan.window.insert(packet.clone()) != Insert::Taken {
                    flow.stale += 1;
                    return false;
                }
                fan.arrival = Some((packet.timestamp, packet.arrived));
                fan.batch.push(Entry { packet, padded: false });
                let full = fan.batch.len() >= ShardStream::BATCH_MAX;
                self.flush_at.get_or_insert(now + ShardStream::GATHER);
                complete || full
            }
            LaneItem::Clock(kind, clock) => {
                self.fan(kind).clock = Some(clock);
                false
            }
            LaneItem::Ended => {
                self.publisher_ended();
                true
            }
        }
    }

    fn publisher_ended(&mut self) {
        for fan in [&mut self.audio, &mut self.video] {
            fan.clock = None;
            fan.arrival = None;
        }
        for viewer in &mut self.viewers {
            if let Some(forwarder) = viewer.forwarder(Kind::Video) {
                forwarder.await_keyframe();
            }
        }
    }

    /// Seals the gathered batch for every viewer, in the order in which they came.
    pub fn flush(
        &mut self,
        out: &mut SendQueue,
        outlet: &mut dyn Outlet,
        flow: &mut Flow,
        pictures: &mut Pictures<'_>,
    ) {
        self.flush_at = None;
        self.audio.equalize();
        self.video.equalize();
        let mut viewers = std::mem::take(&mut self.viewers);
        for viewer in &mut viewers {
            if !out.has_room_for(ShardStream::SHARE_MAX) {
                send(out, outlet, pictures);
            }
            self.audio.forward(viewer, &self.tracks, out, flow, pictures);
            self.video.forward(viewer, &self.tracks, out, flow, pictures);
        }
        self.viewers = viewers;
        self.audio.batch.clear();
        self.video.batch.clear();
    }

    /// A viewer's packets could not be sent: the rest of the frame is of no use to it.
    pub fn skip_rest_of_frame(&mut self, position: usize) {
        if let Some(forwarder) = self.viewers[position].forwarder(Kind::Video) {
            forwarder.skip_rest_of_frame();
        }
    }

    /// Sends the packets a viewer asks for again, within its allowance.
    pub fn retransmit(
        &mut self,
        now: Instant,
        position: usize,
        ssrc: u32,
        sequences: impl Iterator<Item = u16>,
        out: &mut SendQueue,
        flow: &mut Flow,
    ) {
        let Some(kind) = self.kind_of(ssrc) else { return };
        let tracks = self.tracks.clone();
        let (fan, viewer) = match kind {
            Kind::Audio => (&self.audio, &mut self.viewers[position]),
            Kind::Video => (&self.video, &mut self.viewers[position]),
        };
        for sequence in sequences {
            let sent = !out.is_full() && fan.resend(now, viewer, &tracks, sequence, out);
            *(if sent {
                &mut flow.retransmitted
            } else {
                &mut flow.not_retransmitted
            }) += 1;
        }
    }

    /// Which track an SSRC towards viewers names.
    pub fn kind_of(&self, ssrc: u32) -> Option<Kind> {
        [Kind::Video, Kind::Audio]
            .into_iter()
            .find(|&kind| self.tracks.track(kind).ssrc() == ssrc)
    }

    /// Sends a viewer the sender reports that are due, and says when the next are.
    pub fn report(&mut self, now: Instant, wall: u64, position: usize, out: &mut SendQueue) -> Instant {
        for kind in [Kind::Audio, Kind::Video] {
            let clock = self.clock(kind, wall, now);
            let ssrc = self.tracks.track(kind).ssrc();
            let name = self.tracks.name.clone();
            let viewer = &mut self.viewers[position];
            let Some(forwarder) = viewer.forwarder(kind) else {
                continue;
            };
            let (packets, octets) = (forwarder.packets, forwarder.octets);
            if let Some((ntp, rtp)) = clock.filter(|_| packets > 0) {
                let write =
                    |buffer: &mut [u8]| rtcp::write_sender_report(buffer, ssrc, ntp, rtp, packets, octets, &name);
                viewer.seal_rtcp(out, write);
            }
        }
        let viewer = &mut self.viewers[position];
        viewer.report_at = now + ShardStream::REPORT_INTERVAL;
        viewer.report_at
    }

    /// NTP time and RTP timestamp of `now`. The publisher's own clock when all its tracks have told it, else arrival times for all:
    /// never one track by one clock and the other by another.
    fn clock(&self, kind: Kind, wall: u64, now: Instant) -> Option<(u64, u32)> {
        let told = [&self.audio, &self.video]
            .iter()
            .all(|fan| fan.arrival.is_none() || fan.clock.is_some());
        let fan = match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        };
        let (timestamp, at) = fan.arrival?;
        let clock_rate = fan.clock_rate()?;
        match fan.clock.filter(|_| told) {
            Some(clock) => Some(clock.at(now, clock_rate)),
            None => Some((
                wall,
                SenderClock {
                    ntp: wall,
                    rtp: timestamp,
                    received_at: at,
                }
                .at(now, clock_rate)
                .1,
            )),
        }
    }

    fn fan(&mut self, kind: Kind) -> &mut TrackFan {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}

/// Viewers that got their first picture, and viewers whose packets could not be sent: gathered while a batch goes out.
pub struct Pictures<'a> {
    /// Now.
    pub now: Instant,
    /// First pictures.
    pub first: &'a mut Vec<FirstPicture>,
    /// Peers whose runs failed.
    pub failed: &'a mut Vec<u32>,
}

fn send(out: &mut SendQueue, outlet: &mut dyn Outlet, notes: &mut Pictures<'_>) {
    outlet.send(out, &mut |owner| notes.failed.push(owner));
}

impl TrackFan {
    fn new(kind: Kind, capacity: usize) -> TrackFan {
        let batch = Vec::with_capacity(ShardStream::BATCH_MAX);
        TrackFan {
            kind,
            window: Window::new(capacity),
            batch,
            clock: None,
            arrival: None,
        }
    }

    fn clock_rate(&self) -> Option<u32> {
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
            self.window.mark_sent(entry.packet.index, entry.padded);
        }
    }

    fn forward(
        &self,
        viewer: &mut Viewer,
        tracks: &StreamTracks,
        out: &mut SendQueue,
        flow: &mut Flow,
        notes: &mut Pictures<'_>,
    ) {
        let track = tracks.track(self.kind);
        let profile = track.profile();
        for Entry { packet, padded } in &self.batch {
            let Some(forwarder) = viewer.forwarder(self.kind) else {
                return;
            };
            let route = match forwarder.admit(packet, profile) {
                Ok(route) => route,
                Err(skip) => {
                    flow.count(skip);
                    continue;
                }
            };
            let outgoing = Outgoing {
                packet,
                ssrc: track.ssrc(),
                route,
                padded: *padded,
                original_sequence: None,
            };
            if !viewer.seal(out, outgoing) {
                flow.oversized += 1;
                continue;
            }
            flow.sent += 1;
            flow.sent_bytes += packet.payload.len() as u64;
            if !viewer.has_picture && packet.marker && self.kind == Kind::Video {
                viewer.has_picture = true;
                let after = notes.now.saturating_duration_since(viewer.created);
                notes.first.push(FirstPicture {
                    peer: viewer.peer,
                    after,
                });
            }
        }
    }

    fn resend(
        &self,
        now: Instant,
        viewer: &mut Viewer,
        tracks: &StreamTracks,
        sequence: u16,
        out: &mut SendQueue,
    ) -> bool {
        let track = tracks.track(self.kind);
        let Some(newest) = self.window.newest() else {
            return false;
        };
        let Some(forwarder) = viewer.forwarder(self.kind) else {
            return false;
        };
        let Some(slot) = forwarder
            .track_index(sequence, newest)
            .and_then(|index| self.window.get(index))
        else {
            return false;
        };
        let Some(original) = forwarder.readmit(&slot.packet).filter(|_| slot.sent) else {
            return false;
        };
        if !viewer.may_retransmit(now, slot.packet.payload.len() + 64) {
            return false;
        }
        let packet = &*slot.packet;
        let outgoing = match viewer
            .forwarder(self.kind)
            .and_then(|forwarder| forwarder.retransmission())
        {
            Some(route) => {
                let original_sequence = Some(original.index as u16);
                Outgoing {
                    packet,
                    ssrc: track.rtx_ssrc(),
                    route,
                    padded: false,
                    original_sequence,
                }
            }
            None => Outgoing {
                packet,
                ssrc: track.ssrc(),
                route: original,
                padded: slot.padded,
                original_sequence: None,
            },
        };
        viewer.seal(out, outgoing)
    }
}

impl Flow {
    fn count(&mut self, skip: Skip) {
        *(match skip {
            Skip::Waiting | Skip::BeforeStart => &mut self.waiting,
            Skip::Codec => &mut self.codec,
            Skip::RestOfFrame => &mut self.rest_of_frame,
        }) += 1;
    }
}

//! One stream on one shard: the windows of its tracks, the viewers, and the way of a batch of packets to all of them.
//!
//! ```text
//! lane -> take() -> window + batch -> flush(): for each viewer, for each packet of the batch: seal into the send queue
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catch_up::{LiveClock, Stamping};
use super::egress::{Outlet, SendQueue};
use super::forwarder::{Route, Skip};
use super::viewer::{Outgoing, Viewer};
use crate::media::gop::Gop;
use crate::media::window::{CacheBounds, Insert, Start, WindowBounds};
use crate::media::{KeyframeNeed, LaneItem, Packet, SenderClock, StreamTracks, Window};
use crate::rtp::{Kind, rtcp};

/// A stream that somebody on this shard watches.
pub struct ShardStream {
    tracks: Arc<StreamTracks>,
    viewers: Vec<Viewer>,
    audio: TrackFan,
    video: TrackFan,
    flush_at: Option<Instant>,
    stamping: Stamping,
    /// Until then the publisher's shard may answer with the past.
    past_due: Option<Instant>,
    /// The keyframe for which all waiting viewers were looked up; `None` when somebody waits who could not start there yet.
    looked_up: Option<u64>,
    told_bytes: u64,
}

/// How viewers are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartConfig {
    /// How much of the past they may be sent.
    pub cache: CacheBounds,
    /// How that is stamped.
    pub stamping: Stamping,
}

impl Default for StartConfig {
    /// 8 MiB: 10 s of 6 Mbit/s. 300 pictures of 1280x720: 10 s of them, which receivers decode in about a second.
    fn default() -> StartConfig {
        StartConfig {
            cache: CacheBounds {
                bytes: 8 << 20,
                pixels: 300 * Gop::PIXELS_DEFAULT,
            },
            stamping: Stamping::Live,
        }
    }
}

/// What became of a viewer that was to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// At the newest keyframe.
    Yes {
        /// Because it asked for one, although it had started.
        again: bool,
    },
    /// It has started and is on its way to the live edge.
    OnItsWay,
    /// The place to start is expected at any moment.
    NotYet,
    /// With the next keyframe, for which the publisher should be asked.
    NextKeyframe,
    /// There is nothing to start: it watches no video, is level with the others, or cannot take the codec.
    No,
}

/// How far a viewer is on its way to the live edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It goes on then.
    Until(Instant),
    /// It goes on with the stream's next batch.
    Edge,
    /// It is level with everybody else.
    Level,
    /// It has to start again.
    Lost,
}

/// How much a viewer lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Packets.
    Packets(u32),
    /// A share of what it was sent, 1/256.
    Share(u8),
}

/// Who serves a viewer that asks for a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The cache: the viewer is started, or started again.
    Cache,
    /// The publisher.
    Publisher {
        /// How much it is needed.
        need: KeyframeNeed,
    },
    /// Nobody: it is being served, or was a moment ago.
    Nobody,
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
    /// Packets sent to viewers on their way to the live edge; they are among those sent.
    pub past: u64,
    /// Times that a viewer on its way was led on to a newer keyframe.
    pub skipped_ahead: u64,
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
    /// Packets a video window holds at least, for retransmissions: 8 s at 250 packets a second (2.5 Mbit/s).
    const VIDEO_WINDOW: usize = 2_048;
    /// Packets an audio window holds: 5 s at 50 a second.
    const AUDIO_WINDOW: usize = 256;
    /// Between sender reports of a track to a viewer.
    const REPORT_INTERVAL: Duration = Duration::from_secs(2);
    /// How long the publisher's shard may take to answer with the past; it takes microseconds.
    const PAST_PATIENCE: Duration = Duration::from_millis(50);
    /// A viewer that asks for a keyframe so soon after its start has missed its beginning.
    const EARLY: Duration = Duration::from_secs(3);
    /// Starts in that time that are not the first: a receiver that needs more does not understand us.
    const EARLY_REPEATS_MAX: u8 = 3;
    /// Between two starts of a viewer that has missed its beginning.
    const EARLY_INTERVAL: Duration = Duration::from_millis(100);
    /// Least time between two starts of a viewer that was level with the others once. It is twice what has come since the keyframe
    /// if that is more: repeated starts never take more than half of what the stream itself takes.
    const REPEAT_INTERVAL: Duration = Duration::from_secs(1);
    /// How long a viewer on its way waits for a packet that publishers are asked for again.
    const GAP_PATIENCE: Duration = Duration::from_millis(100);
    /// A keyframe of this age is sent again to a viewer that lost something: a new one would cost everybody.
    const CHEAP_AGE: Duration = Duration::from_secs(1);

    /// A stream with no viewer yet.
    pub fn new(tracks: Arc<StreamTracks>, config: StartConfig, now: Instant) -> ShardStream {
        let bounds = |packets, cache| WindowBounds { packets, cache };
        ShardStream {
            tracks,
            viewers: Vec::new(),
            audio: TrackFan::new(Kind::Audio, bounds(ShardStream::AUDIO_WINDOW, CacheBounds::OFF)),
            video: TrackFan::new(Kind::Video, bounds(ShardStream::VIDEO_WINDOW, config.cache)),
            flush_at: None,
            stamping: config.stamping,
            past_due: Some(now + ShardStream::PAST_PATIENCE),
            looked_up: None,
            told_bytes: 0,
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
                if fan.window.newest() == Some(packet.index) {
                    fan.arrival = Some((packet.timestamp, packet.arrived));
                }
                fan.batch.push(Entry { packet, padded: false });
                let full = fan.batch.len() >= ShardStream::BATCH_MAX;
                self.flush_at.get_or_insert(now + ShardStream::GATHER);
                complete || full
            }
            LaneItem::Clock(kind, clock) => {
                self.fan(kind).clock = Some(clock);
                false
            }
            LaneItem::Past(past) => {
                self.past_due = None;
                self.video.window.insert_past(*past);
                self.video.arrival = self.video.arrival.or_else(|| self.video.newest_arrival());
                true
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
            fan.window.end_source();
        }
        self.looked_up = None;
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

    /// Bytes that viewers start with, and how many of them were told by the last call.
    pub fn take_cached_bytes(&mut self) -> (u64, u64) {
        let window = &self.video.window;
        let is_of_use = !matches!(window.start(), Start::NextKeyframe);
        let bytes = if is_of_use { window.gop().bytes() as u64 } else { 0 };
        (bytes, std::mem::replace(&mut self.told_bytes, bytes))
    }

    /// Viewers that wait, once there is a new keyframe for them to start with. They are marked as starting.
    pub fn take_startable(&mut self, peers: &mut Vec<u32>) {
        let Start::At(point) = self.video.window.start() else {
            return;
        };
        if self.looked_up.replace(point.index) == Some(point.index) {
            return;
        }
        for viewer in self.viewers.iter_mut().filter(|viewer| !viewer.starting) {
            if viewer
                .forwarder(Kind::Video)
                .is_some_and(|forwarder| forwarder.is_waiting())
            {
                viewer.starting = true;
                peers.push(viewer.peer);
            }
        }
    }

    /// A viewer gave up on a place to start that is not there yet: should it come after all, everybody who waits is looked up again.
    pub fn await_startable(&mut self) {
        self.looked_up = None;
    }

    /// Starts a viewer at the newest keyframe if it waits, or if it is to start again.
    pub fn start(&mut self, now: Instant, position: usize) -> Started {
        let viewer = &mut self.viewers[position];
        let again = std::mem::take(&mut viewer.again);
        let Some(forwarder) = viewer.forwarder(Kind::Video) else {
            return Started::No;
        };
        if !again && !forwarder.is_waiting() {
            return if forwarder.is_live() {
                Started::No
            } else {
                Started::OnItsWay
            };
        }
        if self.past_due.is_some_and(|due| due > now) {
            return Started::NotYet;
        }
        let point = match self.video.window.start() {
            Start::At(point) => point,
            Start::Gap => return Started::NotYet,
            Start::NextKeyframe => return Started::NextKeyframe,
        };
        let Some(slot) = self.video.window.get(point.index) else {
            return Started::NextKeyframe;
        };
        let format = (slot.packet.codec, self.tracks.video.profile());
        if forwarder.start(now, point, format, self.stamping).is_err() {
            return Started::No;
        }
        viewer.repeated = viewer.repeated.saturating_add(u8::from(again));
        viewer.started_at = Some(now);
        Started::Yes { again }
    }

    /// How much this viewer needs a keyframe. The first picture of a stream comes before everything else.
    pub fn need(&self, position: usize) -> KeyframeNeed {
        let somebody_sees = self.viewers.iter().any(|viewer| viewer.has_picture);
        if self.viewers[position].has_picture || somebody_sees {
            KeyframeNeed::Repair
        } else {
            KeyframeNeed::Urgent
        }
    }

    /// A viewer asks for a keyframe: who is to serve it?
    pub fn keyframe_wanted(&mut self, now: Instant, position: usize) -> Server {
        let ready = matches!(self.video.window.start(), Start::At(_));
        let age = self.video.window.gop().age();
        let cheap = age <= ShardStream::CHEAP_AGE;
        let unanswered = self.tracks.video.keyframes().are_unanswered();
        let need = self.need(position);
        let viewer = &mut self.viewers[position];
        let Some(started_at) = viewer.started_at else {
            return if viewer.starting {
                Server::Cache
            } else {
                Server::Publisher { need }
            };
        };
        let since = now.saturating_duration_since(started_at);
        let early = since < ShardStream::EARLY && viewer.repeated < ShardStream::EARLY_REPEATS_MAX;
        let interval = if early {
            ShardStream::EARLY_INTERVAL
        } else {
            ShardStream::REPEAT_INTERVAL.max(2 * age)
        };
        if since < interval {
            return Server::Nobody;
        }
        if since > 2 * ShardStream::EARLY {
            viewer.repeated = 0;
        }
        if ready && (early || cheap || unanswered) {
            return Server::Cache;
        }
        Server::Publisher { need }
    }

    /// Sends a viewer on its way what its pace and `budget` packets allow.
    #[expect(
        clippy::too_many_arguments,
        reason = "where from, where to, and what to note on the way"
    )]
    pub fn catch_up(
        &mut self,
        now: Instant,
        position: usize,
        budget: &mut usize,
        out: &mut SendQueue,
        outlet: &mut dyn Outlet,
        flow: &mut Flow,
        notes: &mut Pictures<'_>,
    ) -> Progress {
        let Some((timestamp, at)) = self.video.arrival else {
            return Progress::Lost;
        };
        let live = LiveClock { timestamp, at };
        let viewer = &mut self.viewers[position];
        loop {
            let Some(forwarder) = viewer.forwarder(Kind::Video) else {
                return Progress::Lost;
            };
            let Some(cursor) = forwarder.cursor() else {
                return if forwarder.is_live() {
                    Progress::Level
                } else {
                    Progress::Lost
                };
            };
            let packet = match self.video.window.get(cursor) {
                Some(slot) if !slot.settled => return Progress::Edge,
                Some(slot) => &slot.packet,
                None if self.video.window.newest().is_some_and(|newest| cursor < newest) => {
                    if self.video.window.has_left(cursor) {
                        forwarder.await_keyframe();
                        return Progress::Lost;
                    }
                    if !forwarder.is_true()
                        && self
                            .video
                            .missing_since(cursor)
                            .is_some_and(|at| now < at + ShardStream::GAP_PATIENCE)
                    {
                        return Progress::Edge;
                    }
                    forwarder.pass_over();
                    continue;
                }
                None if forwarder.reach_edge(now) => return Progress::Level,
                None => return Progress::Edge,
            };
            if forwarder.begins_frame(packet)
                && self.video.window.gop().start().is_some_and(|start| start > cursor)
                && matches!(self.video.window.start(), Start::At(_))
            {
                // A newer keyframe: what is left of the older group of pictures would only be decoded to be thrown away.
                flow.skipped_ahead += 1;
                forwarder.await_keyframe();
                return Progress::Lost;
            }
            if *budget == 0 {
                return Progress::Until(now);
            }
            if let Some(at) = forwarder.wait(now) {
                return Progress::Until(at);
            }
            if !out.has_room_for(2) {
                send(out, outlet, notes);
            }
            *budget -= 1;
            self.video
                .send_next(now, viewer, cursor, live, &self.tracks, out, flow, notes);
        }
    }

    /// A viewer lost packets: so many, or such a share of what it was sent, 1/256. On its way to the live edge it is sent less at once.
    pub fn note_loss(&mut self, now: Instant, position: usize, lost: Lost) {
        let stream = self.video.window.gop().bytes_per_second();
        let forwarder = self.viewers[position].forwarder(Kind::Video);
        match (forwarder.and_then(|forwarder| forwarder.pace()), lost) {
            (Some(pace), Lost::Packets(packets)) => pace.lose(now, packets, stream),
            (Some(pace), Lost::Share(share)) => pace.lose_share(now, share, stream),
            (None, _) => {}
        }
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
        if let Some(forwarder) = viewer.forwarder(Kind::Video) {
            forwarder.forget_past(now);
        }
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
    fn new(kind: Kind, bounds: WindowBounds) -> TrackFan {
        let batch = Vec::with_capacity(ShardStream::BATCH_MAX);
        TrackFan {
            kind,
            window: Window::new(bounds),
            batch,
            clock: None,
            arrival: None,
        }
    }

    /// When the packet behind a gap came.
    fn missing_since(&self, index: u64) -> Option<Instant> {
        let newest = self.window.newest()?;
        let behind = (index..=newest).find_map(|index| self.window.get(index))?;
        Some(behind.packet.arrived)
    }

    fn newest_arrival(&self) -> Option<(u32, Instant)> {
        let packet = &self.window.get(self.window.newest()?)?.packet;
        Some((packet.timestamp, packet.arrived))
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
            self.window.settle(entry.packet.index, entry.padded);
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
            self.seal(viewer, track.ssrc(), (packet, route, *padded), out, flow, notes);
        }
    }

    /// Sends a viewer on its way the packet at its cursor, parameter sets in front of the first.
    #[expect(
        clippy::too_many_arguments,
        reason = "where from, where to, and what to note on the way"
    )]
    fn send_next(
        &self,
        now: Instant,
        viewer: &mut Viewer,
        cursor: u64,
        live: LiveClock,
        tracks: &StreamTracks,
        out: &mut SendQueue,
        flow: &mut Flow,
        notes: &mut Pictures<'_>,
    ) {
        let (Some(slot), Some(forwarder)) = (self.window.get(cursor), viewer.forwarder(self.kind)) else {
            return;
        };
        let ssrc = tracks.track(self.kind).ssrc();
        let route = match forwarder.next(now, &slot.packet, live) {
            Ok(route) => route,
            Err(skip) => return flow.count(skip),
        };
        let sets = forwarder
            .parameter_sets()
            .filter(|(_, sets)| sets.index.wrapping_add(1) == route.index);
        if let Some((packet, route)) = sets {
            self.seal(viewer, ssrc, (&packet, route, false), out, flow, notes);
        }
        flow.past += 1;
        self.seal(viewer, ssrc, (&slot.packet, route, slot.padded), out, flow, notes);
    }

    fn seal(
        &self,
        viewer: &mut Viewer,
        ssrc: u32,
        (packet, route, padded): (&Packet, Route, bool),
        out: &mut SendQueue,
        flow: &mut Flow,
        notes: &mut Pictures<'_>,
    ) {
        let outgoing = Outgoing {
            packet,
            ssrc,
            route,
            padded,
            original_sequence: None,
        };
        if !viewer.seal(out, outgoing) {
            flow.oversized += 1;
            return;
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

    fn resend(
        &self,
        now: Instant,
        viewer: &mut Viewer,
        tracks: &StreamTracks,
        sequence: u16,
        out: &mut SendQueue,
    ) -> bool {
        let track = tracks.track(self.kind);
        let Some(forwarder) = viewer.forwarder(self.kind) else {
            return false;
        };
        let Some(index) = forwarder.track_index(sequence) else {
            return false;
        };
        let found = if forwarder.is_parameter_sets(index) {
            forwarder.parameter_sets().map(|(packet, route)| (packet, route, false))
        } else {
            self.window.get(index).filter(|slot| slot.settled).and_then(|slot| {
                let route = forwarder.readmit(&slot.packet)?;
                Some((slot.packet.clone(), route, slot.padded))
            })
        };
        let Some((packet, original, padded)) = found else {
            return false;
        };
        if !viewer.may_retransmit(now, packet.payload.len() + 64) {
            return false;
        }
        let forwarder = viewer.forwarder(self.kind);
        let outgoing = match forwarder.and_then(|forwarder| forwarder.retransmission(original.timestamp)) {
            Some(route) => Outgoing {
                packet: &packet,
                ssrc: track.rtx_ssrc(),
                route,
                padded: false,
                original_sequence: Some(original.index as u16),
            },
            None => Outgoing {
                packet: &packet,
                ssrc: track.ssrc(),
                route: original,
                padded,
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

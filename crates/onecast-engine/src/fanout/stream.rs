//! One stream on one shard: the windows of its tracks, the viewers, and the way of a batch of packets to all of them.
//!
//! ```text
//! lane -> take() -> window + gathered -> flush(): for each viewer, for each packet of the batch: seal into the send queue
//! ```
//!
//! A batch to thousands of viewers takes many milliseconds. It goes out in slices, between which the shard reads from the network: a
//! retransmission does not wait for the end of a keyframe, nor a small stream for that of a large one.

mod choice;
mod derivation;
mod layers;
mod meter;
mod output;
mod repair;
mod sender;
mod starts;
mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catch_up::Stamping;
use super::formats::ViewerLine;
use super::ids::{PeerIndex, SubscriberPosition};
use super::subscriber::{Subscriber, Switched};
use crate::fanout::layers::Millis;
use crate::media::gop::Gop;
use crate::media::window::{CacheBounds, Start, Window, WindowBounds};
use crate::media::{LaneItem, LayerIndex, Packet, Rendition, SenderClock, StreamTracks};
use layers::Changes;
use onecast_rtc::RtcpSealer;
use onecast_rtc::rtp::{Kind, RtpTime, Ssrc, rtcp};
use onecast_rtc::transmit::SendQueue;
use sender::{Taken, TrackSender};

pub use choice::Reception;
pub use output::{FirstPicture, Flow, LayerChange, Out};
pub use repair::Remedy;
pub use starts::{KeyframeAnswer, Progress, Started};

/// A stream that has subscribers on this shard.
pub struct ShardStream {
    tracks: Arc<StreamTracks>,
    subscribers: Vec<Subscriber>,
    /// Viewers that have been sent a whole keyframe.
    seeing: usize,
    /// Audio, the first layer of the video, and what else of the video has been watched here. Never fewer than two.
    senders: Vec<TrackSender>,
    config: StartConfig,
    shard: usize,
    /// When what is gathered must go out, complete or not.
    flush_at: Option<Instant>,
    /// The batch on its way out: the viewers in front of this position have it.
    flushing: Option<usize>,
    told_bytes: u64,
    /// When each layer began to be live; `None` for those that are not.
    live_since: [Option<Millis>; LayerIndex::COUNT],
    changes: Changes,
    /// Times of the automatic choice count from here.
    born: Instant,
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

impl ShardStream {
    /// Packets after which a batch goes out although the frame is not complete: a usual keyframe and more, so that the first subscriber
    /// has all of it first, however many have joined since.
    const BATCH_MAX: usize = 64;
    /// Bytes that the datagrams of a batch take at most: as many packets as fit Ethernet paths, and fewer of larger ones.
    const BATCH_BYTES_MAX: usize = ShardStream::BATCH_MAX * SendQueue::PATH_DATAGRAM_MAX;
    /// Packets of a track that are gathered while a batch goes out: more wait on the lane, which is bounded.
    const GATHERED_MAX: usize = 256;
    /// Datagrams that one viewer's share of a batch may take, and some to spare.
    pub const SHARE_MAX: usize = 2 * ShardStream::BATCH_MAX + 4;
    /// Bytes that they may take.
    pub const SHARE_BYTES_MAX: usize = 2 * ShardStream::BATCH_BYTES_MAX + 4 * SendQueue::PATH_DATAGRAM_MAX;
    /// How long the first packet of a batch waits for more: the packets of a frame arrive within 0.2-0.4 ms, at p95 0.7-2 ms.
    const GATHER: Duration = Duration::from_millis(1);
    /// Packets a video window holds at least, for retransmissions: 8 s at 250 packets a second (2.5 Mbit/s).
    const VIDEO_WINDOW: usize = 2_048;
    /// Packets an audio window holds: 5 s at 50 a second.
    const AUDIO_WINDOW: usize = 256;
    /// Between sender reports of a track to a viewer.
    pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(2);

    /// A stream with no viewer yet.
    pub fn new(tracks: Arc<StreamTracks>, shard: usize, config: StartConfig, now: Instant) -> ShardStream {
        let sender = |kind| {
            TrackSender::new(
                (kind, Rendition::default()),
                ShardStream::bounds(kind, config.cache),
                now,
            )
        };
        ShardStream {
            tracks,
            subscribers: Vec::new(),
            seeing: 0,
            senders: Kind::ALL.map(sender).into(),
            config,
            shard,
            flush_at: None,
            flushing: None,
            told_bytes: 0,
            live_since: [None; LayerIndex::COUNT],
            changes: Changes::default(),
            born: now,
        }
    }

    fn bounds(kind: Kind, cache: CacheBounds) -> WindowBounds {
        let (packets, cache) = match kind {
            Kind::Audio => (ShardStream::AUDIO_WINDOW, CacheBounds::OFF),
            Kind::Video => (ShardStream::VIDEO_WINDOW, cache),
        };
        WindowBounds { packets, cache }
    }

    /// The tracks that it carries.
    pub fn tracks(&self) -> &Arc<StreamTracks> {
        &self.tracks
    }

    /// Adds a viewer and returns its position. It begins with the middle one of the layers that it may be sent, or with the highest if it
    /// is sent the same whatever its path carries.
    pub fn add(&mut self, now: Instant, mut subscriber: Subscriber, adapts: bool) -> SubscriberPosition {
        self.note_live_layers(now);
        let allowed = self.allowed_layers(&subscriber);
        let first = match adapts {
            true => allowed.middle(),
            false => allowed.as_slice().last().copied(),
        };
        subscriber.rendition = self.rendition_of(&subscriber, first.unwrap_or_default());
        for (kind, rendition) in subscriber.bindings() {
            self.bind(now, kind, rendition);
        }
        self.subscribers.push(subscriber);
        SubscriberPosition::new(self.subscribers.len() - 1)
    }

    /// The first subscriber of something finds the window empty, and the publisher's shard is asked for what came since the newest
    /// keyframe.
    fn bind(&mut self, now: Instant, kind: Kind, rendition: Rendition) {
        let tracks = self.tracks.clone();
        tracks.track(kind).bind(self.shard, rendition);
        let clock = self.watched_clock(kind);
        let sender = self.sender_mut(now, kind, rendition);
        sender.subscribers += 1;
        if sender.subscribers > 1 {
            return;
        }
        sender.reset();
        sender.clock = clock;
        if kind == Kind::Video {
            sender.waiting.reset(now);
            tracks.request_past(self.shard, rendition.encoding);
        }
    }

    /// The publisher's clock, as another layer of the track has it.
    fn watched_clock(&self, kind: Kind) -> Option<SenderClock> {
        let mut watched = self
            .senders
            .iter()
            .filter(|sender| sender.kind == kind && sender.subscribers > 0);
        watched.find_map(|sender| sender.clock)
    }

    fn unbind(&mut self, kind: Kind, rendition: Rendition) {
        self.tracks.track(kind).unbind(self.shard, rendition);
        if let Some(place) = self.place_of(kind, rendition) {
            self.senders[place].subscribers -= 1;
        }
    }

    fn place_of(&self, kind: Kind, rendition: Rendition) -> Option<usize> {
        let mut senders = self.senders.iter();
        senders.position(|sender| sender.kind == kind && sender.rendition == rendition)
    }

    /// The sender of something, which is made when it is first watched. One that is not watched any more makes room.
    fn sender_mut(&mut self, now: Instant, kind: Kind, rendition: Rendition) -> &mut TrackSender {
        let place = self.place_of(kind, rendition).unwrap_or_else(|| {
            let bounds = ShardStream::bounds(kind, self.config.cache);
            let sender = TrackSender::new((kind, rendition), bounds, now);
            let unwatched = |sender: &TrackSender| sender.subscribers == 0 && sender.batch() == 0;
            let others = self.senders.iter().enumerate().skip(Kind::ALL.len());
            let room = others
                .filter(|(_, sender)| unwatched(sender))
                .map(|(place, _)| place)
                .next();
            match room {
                Some(place) => self.senders[place] = sender,
                None => self.senders.push(sender),
            }
            room.unwrap_or(self.senders.len() - 1)
        });
        &mut self.senders[place]
    }

    /// Switches a viewer's track on, off, or over to another line. True when its video is to be started.
    pub fn switch(
        &mut self,
        now: Instant,
        position: SubscriberPosition,
        (kind, line): (Kind, Option<&ViewerLine>),
    ) -> bool {
        let subscriber = &mut self.subscribers[position.index()];
        let bindings = subscriber.bindings_of(kind);
        match subscriber.switch(kind, line) {
            Switched::On => {
                let layers = subscriber.bindings_of(kind);
                layers
                    .into_iter()
                    .flatten()
                    .for_each(|layer| self.bind(now, kind, layer));
            }
            Switched::Off => {
                if kind == Kind::Video {
                    if subscriber.take_next_rendition().is_some() {
                        self.changes.end();
                    }
                    self.seeing -= usize::from(std::mem::take(&mut subscriber.has_picture));
                }
                bindings
                    .into_iter()
                    .flatten()
                    .for_each(|rendition| self.unbind(kind, rendition));
            }
            Switched::Over => {}
            Switched::Stays => return false,
        }
        let subscriber = &mut self.subscribers[position.index()];
        if kind == Kind::Audio || subscriber.starting {
            return false;
        }
        subscriber
            .forwarder(kind)
            .is_some_and(|forwarder| forwarder.is_waiting())
    }

    /// Removes the subscriber at `position`. Returns the peers of those that moved, and where to: subscribers that have the batch that
    /// is going out stay in front of those that do not.
    pub fn remove(&mut self, position: SubscriberPosition) -> [Option<(PeerIndex, SubscriberPosition)>; 2] {
        let position = position.index();
        let mut gap = position;
        if let Some(next) = &mut self.flushing
            && position < *next
        {
            *next -= 1;
            gap = *next;
            self.subscribers.swap(position, gap);
        }
        let subscriber = self.subscribers.swap_remove(gap);
        if subscriber.next_rendition().is_some() {
            self.changes.end();
        }
        for (kind, rendition) in subscriber.bindings() {
            self.unbind(kind, rendition);
        }
        self.seeing -= usize::from(subscriber.has_picture);
        [position, gap].map(|place| Some((self.subscribers.get(place)?.peer, SubscriberPosition::new(place))))
    }

    /// The subscriber at a position.
    pub fn subscriber(&mut self, position: SubscriberPosition) -> &mut Subscriber {
        &mut self.subscribers[position.index()]
    }

    /// How many subscribers it has.
    pub fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    /// When what is gathered must go out.
    pub fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    /// A batch is on its way out.
    pub fn is_flushing(&self) -> bool {
        self.flushing.is_some()
    }

    /// So much is gathered that the lane should be left to wait.
    pub fn is_behind(&self) -> bool {
        let mut senders = self.senders.iter();
        senders.any(|sender| sender.gathered() >= ShardStream::GATHERED_MAX)
    }

    /// What is gathered needs no more packets to go out: a frame is complete, or there are many.
    pub fn is_complete(&self) -> bool {
        let mut senders = self.senders.iter();
        senders.any(|sender| sender.holds_frame() || sender.is_full())
    }

    /// Takes what came on the lane. True when there is something to flush.
    pub fn take(&mut self, now: Instant, item: LaneItem, flow: &mut Flow) -> bool {
        match item {
            LaneItem::Packet(kind, packet) => self.take_packet(now, kind, packet, flow),
            LaneItem::Clock(kind, clock) => {
                let of_track = self.senders.iter_mut().filter(|sender| sender.kind == kind);
                of_track.for_each(|sender| sender.clock = Some(clock));
                false
            }
            LaneItem::Past(layer, past) => {
                let of_layer =
                    |sender: &&mut TrackSender| sender.kind == Kind::Video && sender.rendition.encoding == layer;
                for sender in self.senders.iter_mut().filter(of_layer) {
                    sender.waiting.end_past();
                    sender.insert_past(&past);
                }
                true
            }
            LaneItem::LayersChanged => {
                self.follow_layers(now);
                true
            }
            LaneItem::Ended => {
                self.publisher_ended();
                true
            }
        }
    }

    fn take_packet(&mut self, now: Instant, kind: Kind, packet: Arc<Packet>, flow: &mut Flow) -> bool {
        let of_layer = |sender: &&mut TrackSender| sender.kind == kind && sender.rendition.encoding == packet.layer;
        let mut is_taken = false;
        // A sender without subscribers is kept for those that come later; it takes no packets.
        for sender in self
            .senders
            .iter_mut()
            .filter(of_layer)
            .filter(|sender| sender.subscribers > 0)
        {
            if kind == Kind::Video && !sender.is_sending(now) {
                sender.waiting.end();
            }
            match sender.take(now, &packet) {
                Taken::Yes => is_taken = true,
                Taken::Stale => flow.stale += 1,
                Taken::LeftOut => {}
            }
        }
        if !is_taken {
            return false;
        }
        self.flush_at.get_or_insert(now + ShardStream::GATHER);
        self.is_complete()
    }

    fn publisher_ended(&mut self) {
        for sender in &mut self.senders {
            sender.end_source();
            sender.waiting.end_source();
        }
        for subscriber in &mut self.subscribers {
            if let Some(forwarder) = subscriber.forwarder(Kind::Video) {
                forwarder.await_keyframe();
            }
        }
    }

    /// Seals a batch for every viewer, in the order in which they came; stops when `budget` datagrams are used up. True when all have
    /// it. A frame is a batch of its own, so that it can be one run.
    pub fn flush(&mut self, budget: &mut usize, out: &mut Out<'_>) -> bool {
        let mut next = self.flushing.take().unwrap_or_else(|| {
            self.senders.iter_mut().for_each(TrackSender::begin_batch);
            let oldest = self.senders.iter().filter_map(TrackSender::oldest_gathered).min();
            self.flush_at = oldest.map(|at| at + ShardStream::GATHER);
            0
        });
        let before = out.first.len();
        let stranded = out.flow.stranded;
        while *budget > 0
            && let Some(subscriber) = self.subscribers.get(next)
        {
            if subscriber.next_rendition().is_some() {
                let change = self.narrow(out.now, SubscriberPosition::new(next));
                out.layers.extend(change);
            }
            let Some(subscriber) = self.subscribers.get_mut(next) else {
                break;
            };
            out.make_room(ShardStream::SHARE_BYTES_MAX);
            let mut datagrams = 1;
            for sender in &self.senders {
                if !sender.serves(subscriber) {
                    continue;
                }
                datagrams += sender.batch();
                sender.forward(subscriber, &self.tracks, out);
            }
            *budget = budget.saturating_sub(datagrams);
            next += 1;
        }
        self.seeing += out.first.len() - before;
        if out.flow.stranded > stranded {
            self.senders
                .iter_mut()
                .for_each(|sender| sender.waiting.note_stranded());
        }
        if next < self.subscribers.len() {
            self.flushing = Some(next);
            return false;
        }
        self.senders.iter_mut().for_each(TrackSender::end_batch);
        true
    }

    /// Bytes that viewers start with, and how many the last call returned.
    pub fn take_cached_bytes(&mut self) -> (u64, u64) {
        let videos = self
            .senders
            .iter()
            .filter(|sender| sender.kind == Kind::Video && sender.subscribers > 0);
        let cached = |window: &Window| match window.start() {
            Start::NextKeyframe => 0,
            _ => window.gop().bytes() as u64,
        };
        let bytes = videos.map(|sender| cached(&sender.window)).sum();
        (bytes, std::mem::replace(&mut self.told_bytes, bytes))
    }

    /// A viewer's packets could not be sent: it skips the rest of the frame, which it could not decode.
    pub fn skip_rest_of_frame(&mut self, position: SubscriberPosition) {
        if let Some(forwarder) = self.subscribers[position.index()].forwarder(Kind::Video) {
            forwarder.skip_rest_of_frame();
        }
    }

    /// Which track an SSRC towards viewers names.
    pub fn kind_of(&self, ssrc: Ssrc) -> Option<Kind> {
        [Kind::Video, Kind::Audio]
            .into_iter()
            .find(|&kind| self.tracks.track(kind).ssrc() == ssrc)
    }

    /// Sends a subscriber sender reports, sealed with its peer's `sealer`, and notes when the next are due.
    pub fn report(
        &mut self,
        now: Instant,
        wall: u64,
        position: SubscriberPosition,
        sealer: &mut RtcpSealer,
        out: &mut SendQueue,
    ) {
        for kind in Kind::ALL {
            let clock = self.clock(kind, wall, now);
            let ssrc = self.tracks.track(kind).ssrc();
            let name = self.tracks.name.clone();
            let subscriber = &mut self.subscribers[position.index()];
            let Some(forwarder) = subscriber.forwarder(kind) else {
                continue;
            };
            let (packets, octets) = (forwarder.packets, forwarder.octets);
            if let Some((ntp, rtp)) = clock.filter(|_| packets > 0) {
                let write =
                    |buffer: &mut [u8]| rtcp::write_sender_report(buffer, ssrc, ntp, rtp, packets, octets, &name);
                subscriber.seal_rtcp(sealer, out, write);
                subscriber.round_trip.reported(kind, ntp);
            }
            self.forget_repairs(now, position, kind);
        }
        let subscriber = &mut self.subscribers[position.index()];
        subscriber.tidy(now);
        subscriber.report_at = now + ShardStream::REPORT_INTERVAL;
    }

    /// NTP time and RTP timestamp of `now`: by the publisher's own clock if it is known for all of its tracks, else by arrival times for all,
    /// never one track by one clock and the other by another.
    fn clock(&self, kind: Kind, wall: u64, now: Instant) -> Option<(u64, RtpTime)> {
        let mut senders = self.senders.iter();
        let told = senders.all(|sender| sender.arrival.is_none() || sender.clock.is_some());
        let of_track = self.senders.iter().filter(|sender| sender.kind == kind);
        let sender = of_track.max_by_key(|sender| sender.arrival.map(|(_, at)| at))?;
        let (timestamp, at) = sender.arrival?;
        let clock_rate = sender.clock_rate()?;
        match sender.clock.filter(|_| told) {
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

    /// The layer of the video that a subscriber is sent, or waits for.
    fn video_of(&self, position: SubscriberPosition) -> &TrackSender {
        self.video(self.subscribers[position.index()].rendition)
    }

    fn video(&self, rendition: Rendition) -> &TrackSender {
        let place = self.place_of(Kind::Video, rendition);
        &self.senders[place.unwrap_or(Kind::Video as usize)]
    }
}

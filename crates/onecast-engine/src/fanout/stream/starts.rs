//! How a stream's subscribers start: where, when they start again, and how they reach the live edge.

use std::time::{Duration, Instant};

use onecast_rtc::rtp::Kind;
use onecast_rtc::transmit::SendQueue;

use super::ShardStream;
use super::output::{LayerChange, Out};
use super::sender::TrackSender;
use crate::fanout::catch_up::LiveClock;
use crate::fanout::history::{History, Next, next_packet};
use crate::fanout::ids::{PeerIndex, SubscriberPosition};
use crate::fanout::pacer::Lost;
use crate::media::window::Start;
use crate::media::{KeyframeNeed, Rendition};

/// What became of a subscriber that was to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// At the newest keyframe.
    Yes {
        /// Because it asked for one, although it had started.
        again: bool,
        /// There was none for too long: it starts at what comes closest.
        blind: bool,
        /// The layer that it is sent from now on, if it is another one than before, or the first of several.
        layer: Option<LayerChange>,
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

/// How far a subscriber is on its way to the live edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It goes on then.
    Until(Instant),
    /// It goes on with the stream's next batch.
    Edge,
    /// It is level with the other subscribers.
    Level,
    /// It has to start again.
    Lost,
}

/// How a subscriber that asks for a keyframe is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyframeAnswer {
    /// From the cache: it starts, or starts again.
    Cache {
        /// The publisher is asked, too: not every decoder begins where the cache does.
        ask: Option<KeyframeNeed>,
    },
    /// With a keyframe that the publisher is asked for.
    Publisher {
        /// How much it is needed.
        need: KeyframeNeed,
    },
    /// Not at all: it is being served, or was a moment ago.
    None,
}

impl ShardStream {
    /// A subscriber that asks for a keyframe so soon after its start has missed the beginning.
    const EARLY: Duration = Duration::from_secs(3);
    /// Repeated starts in that time: a receiver that needs more cannot decode the stream anyway.
    const EARLY_REPEATS_MAX: u8 = 3;
    /// Between two starts of a viewer that has missed its beginning.
    const EARLY_INTERVAL: Duration = Duration::from_millis(100);
    /// Least time between two starts of a viewer that was level with the others once. It is twice what has come since the keyframe
    /// if that is more: repeated starts never take more than half of what the stream itself takes.
    const REPEAT_INTERVAL: Duration = Duration::from_secs(1);
    /// The packets of a picture arrive within this, or some are lost.
    const PICTURE_TIME: Duration = Duration::from_millis(15);
    /// Longest wait for a keyframe that was asked for: by then the request was repeated twice.
    const KEYFRAME_TIMEOUT: Duration = Duration::from_secs(4);
    /// An encoder whose own keyframes come this often is waited for, and a little longer than it takes.
    const OWN_INTERVAL_MAX: Duration = Duration::from_secs(10);
    const OWN_INTERVAL_SLACK: Duration = Duration::from_millis(500);
    /// A keyframe of this age is sent again to a viewer that lost something: a new one would cost every viewer.
    const CHEAP_AGE: Duration = Duration::from_secs(1);
    /// Time from a start until its losses are judged: a round trip and more, in which a receiver asks for what it missed.
    const START_JUDGED: Duration = Duration::from_millis(200);
    /// Of a start, one packet of three: single repairs of so many would take longer and not much less.
    const START_LOST: u32 = 3;
    /// Fewer packets are repaired in any case.
    const START_LOST_MIN: u32 = 16;

    /// Viewers that wait, once there is a keyframe for them to start with or they have waited for too long. They are marked as starting.
    pub fn take_startable(&mut self, now: Instant, peers: &mut Vec<PeerIndex>) {
        self.ask_for_change(now);
        for place in Kind::Video as usize..self.senders.len() {
            if !self.may_start_some(now, place) {
                continue;
            }
            let rendition = self.senders[place].rendition;
            let is_young = self.senders[place].is_young();
            for subscriber in self.subscribers.iter_mut().filter(|subscriber| !subscriber.starting) {
                if subscriber.may_start_in(rendition, is_young) {
                    subscriber.starting = true;
                    peers.push(subscriber.peer);
                }
            }
        }
    }

    fn may_start_some(&mut self, now: Instant, place: usize) -> bool {
        let sender = &mut self.senders[place];
        let stranded = sender.waiting.take_stranded();
        if sender.subscribers == 0 {
            return false;
        }
        if let Start::At(point) = sender.window.start() {
            sender.waiting.end();
            return sender.waiting.look_up(point.index) || stranded;
        }
        if stranded && !sender.waiting.has_begun() {
            // No keyframe has been asked for: the publisher or the codec has changed, without beginning with one.
            let rendition = sender.rendition;
            self.await_startable_in(now, rendition);
            let need = self.need_of(false);
            self.tracks.request_keyframe(need);
        }
        stranded && self.has_waited_long(now, &self.senders[place])
    }

    /// A subscriber stopped waiting for a place to start. Should one come after all, all that wait are looked up again.
    pub fn await_startable(&mut self, now: Instant, position: SubscriberPosition) {
        let subscriber = &self.subscribers[position.index()];
        self.await_startable_in(now, subscriber.next_rendition().unwrap_or(subscriber.rendition));
    }

    fn await_startable_in(&mut self, now: Instant, rendition: Rendition) {
        if let Some(place) = self.place_of(Kind::Video, rendition) {
            let sender = &mut self.senders[place];
            let is_sending = sender.is_sending(now);
            sender.waiting.begin(now, is_sending);
        }
    }

    /// Whether subscribers have waited for a keyframe long enough and start without. One that has just come is worth a little more
    /// time, although a part of it is missing.
    fn has_waited_long(&self, now: Instant, video: &TrackSender) -> bool {
        let gop = video.window.gop();
        if gop.start().is_some() && gop.age() < TrackSender::PAUSE {
            return false;
        }
        let timeout = self.longest_wait().unwrap_or_default();
        video.waiting.is_over(now, timeout.max(ShardStream::KEYFRAME_TIMEOUT))
    }

    /// How long the next keyframe takes at most of an encoder that makes them often; `None` of others.
    pub(super) fn longest_wait(&self) -> Option<Duration> {
        let own = self.tracks.video.keyframes().read().stats.interval;
        let own = own.filter(|interval| *interval <= ShardStream::OWN_INTERVAL_MAX);
        own.map(|interval| interval + ShardStream::OWN_INTERVAL_SLACK)
    }

    /// Starts a viewer at the newest keyframe if it waits, if it is to start again, or if it is to be sent another layer.
    pub fn start(&mut self, now: Instant, position: SubscriberPosition) -> Started {
        let subscriber = &mut self.subscribers[position.index()];
        let again = std::mem::take(&mut subscriber.again);
        let Some(forwarder) = subscriber.forwarder(Kind::Video) else {
            return Started::No;
        };
        let (waits, is_live) = (forwarder.is_waiting(), forwarder.is_live());
        let (present, next) = (subscriber.rendition, subscriber.next_rendition());
        let next = next.filter(|rendition| waits || self.video(*rendition).is_young());
        if !again && !waits && next.is_none() {
            return if is_live { Started::No } else { Started::OnItsWay };
        }
        let video = self.video(next.unwrap_or(present));
        if video.waiting.expects_past(now) || !waits && self.is_amid_picture(now, position) {
            return Started::NotYet;
        }
        let (point, blind) = match video.window.start() {
            Start::At(point) => (point, false),
            // It sees the layer that it has, and waits for the next keyframe of the other one.
            _ if next.is_some() && !waits => return if is_live { Started::No } else { Started::OnItsWay },
            _ if self.has_waited_long(now, video) => match video.window.best_start() {
                Some(point) => (point, true),
                None => return Started::NextKeyframe,
            },
            Start::Gap => return Started::NotYet,
            Start::NextKeyframe => return Started::NextKeyframe,
        };
        let Some(slot) = video.window.get(point.index) else {
            return Started::NextKeyframe;
        };
        let format = (slot.packet.codec, self.tracks.video.profile());
        let subscriber = &mut self.subscribers[position.index()];
        let Some(forwarder) = subscriber.forwarder(Kind::Video) else {
            return Started::No;
        };
        if forwarder.start(point, format, self.config.stamping).is_err() {
            return Started::No;
        }
        let is_first = subscriber.started_at.is_none();
        if next.is_some() {
            self.end_change(now, position);
            self.note_choice(now, position);
        }
        let subscriber = &mut self.subscribers[position.index()];
        subscriber.pacer().begin_past(now);
        subscriber.blind = blind && !subscriber.has_picture;
        subscriber.repeated = subscriber.repeated.saturating_add(u8::from(again));
        subscriber.started_at = Some(now);
        let layer = (is_first || next.is_some()).then(|| self.layer_change(position));
        Started::Yes { again, blind, layer }
    }

    /// Whether the rest of a picture that the subscriber has begun to receive should come at any moment.
    fn is_amid_picture(&self, now: Instant, position: SubscriberPosition) -> bool {
        let subscriber = &self.subscribers[position.index()];
        let open = subscriber.open_picture();
        let slot = open.and_then(|index| self.video(subscriber.rendition).window.get(index));
        slot.is_some_and(|slot| now < slot.packet.arrived + ShardStream::PICTURE_TIME)
    }

    /// How much this viewer needs a keyframe. The first picture of a stream comes before everything else.
    pub fn need(&self, position: SubscriberPosition) -> KeyframeNeed {
        self.need_of(self.subscribers[position.index()].has_picture)
    }

    fn need_of(&self, has_picture: bool) -> KeyframeNeed {
        if has_picture || self.seeing > 0 {
            KeyframeNeed::Repair
        } else {
            KeyframeNeed::Urgent
        }
    }

    /// A subscriber needs a keyframe, because it asks for one or because packets are `lost` for good. After a loss the cache does not
    /// serve it only because it started a short time ago: what could not be repaired once is not sent from the beginning once more. A path
    /// that is too narrow already gets no more of the past than takes no time: the next keyframe is soon there.
    pub fn keyframe_wanted(&mut self, now: Instant, position: SubscriberPosition, lost: bool) -> KeyframeAnswer {
        if self.waits_for_keyframe(now, position) {
            return KeyframeAnswer::None;
        }
        let window = &self.video_of(position).window;
        let ready = matches!(window.start(), Start::At(_));
        let age = window.gop().age();
        let cheap = age <= ShardStream::CHEAP_AGE;
        let unanswered = self.tracks.video.keyframes().are_unanswered();
        let need = self.need(position);
        // The cache of a publisher that may send a keyframe does not stand for one when it begins at a recovery point.
        let ask = (!window.gop().is_keyframe() && !unanswered).then_some(need);
        let subscriber = &mut self.subscribers[position.index()];
        if subscriber.forwarder(Kind::Video).is_none() {
            return KeyframeAnswer::None;
        }
        if !subscriber.rendition.target.is_moving() {
            // Its path carries no more.
            return KeyframeAnswer::None;
        }
        let Some(started_at) = subscriber.started_at else {
            return if subscriber.starting {
                KeyframeAnswer::Cache { ask: None }
            } else {
                KeyframeAnswer::Publisher { need }
            };
        };
        let since = now.saturating_duration_since(started_at);
        let early = since < ShardStream::EARLY && subscriber.repeated < ShardStream::EARLY_REPEATS_MAX && !lost;
        let interval = if early {
            ShardStream::EARLY_INTERVAL
        } else {
            ShardStream::REPEAT_INTERVAL.max(2 * age)
        };
        if since < interval {
            return KeyframeAnswer::None;
        }
        if since > 2 * ShardStream::EARLY {
            subscriber.repeated = 0;
        }
        if ready && (early || unanswered || cheap && ask.is_none()) {
            return KeyframeAnswer::Cache { ask };
        }
        KeyframeAnswer::Publisher { need }
    }

    /// Whether a viewer that has lost something is best served by the encoder's next keyframe: its path is too narrow for the past.
    fn waits_for_keyframe(&mut self, now: Instant, position: SubscriberPosition) -> bool {
        let own = self.tracks.video.keyframes().read().stats.interval;
        let is_soon = own.is_some_and(|interval| interval <= ShardStream::KEYFRAME_TIMEOUT);
        is_soon && self.is_narrow(now, position) && !self.video_of(position).is_young()
    }

    /// Sends a viewer on its way what its pace and `budget` packets allow.
    pub fn catch_up(&mut self, position: SubscriberPosition, budget: &mut usize, out: &mut Out<'_>) -> Progress {
        let before = out.first.len();
        let progress = self.send_past(position, budget, out);
        self.seeing += out.first.len() - before;
        progress
    }

    fn send_past(&mut self, position: SubscriberPosition, budget: &mut usize, out: &mut Out<'_>) -> Progress {
        let now = out.now;
        let rendition = self.subscribers[position.index()].rendition;
        let Some(place) = self.place_of(Kind::Video, rendition) else {
            return Progress::Lost;
        };
        let video = &self.senders[place];
        let Some((timestamp, at)) = video.arrival else {
            return Progress::Lost;
        };
        let live = LiveClock { timestamp, at };
        let subscriber = &mut self.subscribers[position.index()];
        loop {
            let Some(forwarder) = subscriber.forwarder(Kind::Video) else {
                return Progress::Lost;
            };
            let packet = match next_packet(&video.window, forwarder, now) {
                Next::Packet(packet) => packet,
                Next::Missing => {
                    forwarder.pass_over();
                    continue;
                }
                Next::Stop(progress) => {
                    if progress == Progress::Lost {
                        forwarder.await_keyframe();
                    }
                    return progress;
                }
            };
            if forwarder.begins_frame(&packet.packet) && video.window.is_outdated(packet.packet.index) {
                out.flow.skipped_ahead += 1;
                forwarder.await_keyframe();
                return Progress::Lost;
            }
            if *budget == 0 {
                return Progress::Until(now);
            }
            if let Some(at) = subscriber.pacer().wait(now) {
                return Progress::Until(at);
            }
            // Parameter sets, and the packet.
            out.make_room(2 * SendQueue::DATAGRAM_MAX);
            *budget -= 1;
            video.send_next(subscriber, packet, live, &self.tracks, out);
        }
    }

    /// A viewer lost video packets: so many, or such a share of what it was sent, 1/256. On its way to the live edge it is sent less at once.
    pub fn note_loss(&mut self, now: Instant, position: SubscriberPosition, lost: Lost) {
        let stream = self.video_of(position).window.gop().bytes_per_second();
        let subscriber = &mut self.subscribers[position.index()];
        if subscriber.catches_up(Kind::Video) {
            subscriber.pacer().note_loss(now, lost, stream);
        }
    }

    /// Whether so much of a viewer's start is lost that it is better sent again as a whole, which it does not always ask for by itself.
    pub(super) fn is_start_lost(&mut self, now: Instant, position: SubscriberPosition) -> bool {
        if self.waits_for_keyframe(now, position) {
            return false;
        }
        let subscriber = &mut self.subscribers[position.index()];
        let (repeated, started_at) = (subscriber.repeated, subscriber.started_at);
        let Some(forwarder) = subscriber.forwarder(Kind::Video) else {
            return false;
        };
        let lost = forwarder
            .repairs
            .as_ref()
            .map_or(0, |repairs| repairs.lost_since_start());
        let is_most =
            lost >= ShardStream::START_LOST_MIN && lost * ShardStream::START_LOST >= forwarder.sent_since_start();
        let since = started_at.map(|at| now.saturating_duration_since(at));
        let in_time = since.is_some_and(|since| (ShardStream::START_JUDGED..ShardStream::EARLY).contains(&since));
        is_most
            && in_time
            && repeated < ShardStream::EARLY_REPEATS_MAX
            && matches!(self.video_of(position).window.start(), Start::At(_))
    }
}

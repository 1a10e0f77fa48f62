//! How a stream's viewers start: where, when again, and how they come to the live edge.

use super::*;
use crate::fanout::forwarder::Forwarder;
use crate::media::window::Slot;

/// What became of a viewer that was to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// At the newest keyframe.
    Yes {
        /// Because it asked for one, although it had started.
        again: bool,
        /// There was none for too long: it starts at what comes closest.
        blind: bool,
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
    Cache {
        /// The publisher is asked, too: not every decoder begins where the cache does.
        ask: Option<KeyframeNeed>,
    },
    /// The publisher.
    Publisher {
        /// How much it is needed.
        need: KeyframeNeed,
    },
    /// Nobody: it is being served, or was a moment ago.
    Nobody,
}

impl ShardStream {
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
    /// Longest wait for a keyframe that was asked for: by then the request was repeated twice.
    const KEYFRAME_PATIENCE: Duration = Duration::from_secs(4);
    /// Publishers that send nothing for so long pause.
    const PAUSE: Duration = Duration::from_secs(1);
    /// An encoder whose own keyframes come this often is waited for, and a little longer than it takes.
    const OWN_INTERVAL_MAX: Duration = Duration::from_secs(10);
    const OWN_INTERVAL_SLACK: Duration = Duration::from_millis(500);
    /// A keyframe of this age is sent again to a viewer that lost something: a new one would cost everybody.
    const CHEAP_AGE: Duration = Duration::from_secs(1);
    /// Time from a start until its losses are judged: a round trip and more, in which a receiver asks for what it missed.
    const START_JUDGED: Duration = Duration::from_millis(200);
    /// Of a start, one packet of three: single repairs of so many would take longer and not much less.
    const START_LOST: u32 = 3;
    /// Fewer packets are repaired in any case.
    const START_LOST_MIN: u32 = 16;

    /// Viewers that wait, once there is a keyframe for them to start with or they have waited for too long. They are marked as starting.
    pub fn take_startable(&mut self, now: Instant, peers: &mut Vec<u32>) {
        if !self.may_start_some(now) {
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

    fn may_start_some(&mut self, now: Instant) -> bool {
        let stranded = std::mem::take(&mut self.stranded);
        if let Start::At(point) = self.video.window.start() {
            self.waits_since = None;
            return self.looked_up.replace(point.index) != Some(point.index) || stranded;
        }
        if stranded && self.waits_since.is_none() {
            // Nobody has asked: the publisher or the codec is another, and did not begin with a keyframe.
            self.await_startable(now);
            let need = self.need_of(false);
            self.tracks.request_keyframe(need);
        }
        stranded && self.is_patience_over(now)
    }

    /// A viewer gave up on a place to start that is not there yet: should it come after all, everybody who waits is looked up again.
    pub fn await_startable(&mut self, now: Instant) {
        self.looked_up = None;
        if self.is_sending(now) {
            self.waits_since.get_or_insert(now);
        }
    }

    /// Video comes. While it does not, no keyframe can be missed: one comes first when it goes on.
    pub(super) fn is_sending(&self, now: Instant) -> bool {
        let arrived = self.video.arrival.map(|(_, at)| at);
        arrived.is_some_and(|at| now < at + ShardStream::PAUSE)
    }

    /// Viewers have waited for a keyframe long enough: those who wait start without. One that has just come is worth a little more,
    /// although a part of it is missing.
    fn is_patience_over(&self, now: Instant) -> bool {
        let gop = self.video.window.gop();
        if gop.start().is_some() && gop.age() < ShardStream::PAUSE {
            return false;
        }
        let own = self.tracks.video.keyframes().read().interval;
        let own = own.filter(|interval| *interval <= ShardStream::OWN_INTERVAL_MAX);
        let patience = own.map_or(Duration::ZERO, |interval| interval + ShardStream::OWN_INTERVAL_SLACK);
        let patience = patience.max(ShardStream::KEYFRAME_PATIENCE);
        self.waits_since.is_some_and(|since| now >= since + patience)
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
        let (point, blind) = match self.video.window.start() {
            Start::At(point) => (point, false),
            _ if self.is_patience_over(now) => match self.video.window.best_start() {
                Some(point) => (point, true),
                None => return Started::NextKeyframe,
            },
            Start::Gap => return Started::NotYet,
            Start::NextKeyframe => return Started::NextKeyframe,
        };
        let Some(slot) = self.video.window.get(point.index) else {
            return Started::NextKeyframe;
        };
        let format = (slot.packet.codec, self.tracks.video.profile());
        let viewer = &mut self.viewers[position];
        let Some(forwarder) = viewer.forwarder(Kind::Video) else {
            return Started::No;
        };
        if forwarder.start(now, point, format, self.stamping).is_err() {
            return Started::No;
        }
        viewer.blind = blind && !viewer.has_picture;
        viewer.repeated = viewer.repeated.saturating_add(u8::from(again));
        viewer.started_at = Some(now);
        Started::Yes { again, blind }
    }

    /// How much this viewer needs a keyframe. The first picture of a stream comes before everything else.
    pub fn need(&self, position: usize) -> KeyframeNeed {
        self.need_of(self.viewers[position].has_picture)
    }

    fn need_of(&self, has_picture: bool) -> KeyframeNeed {
        if has_picture || self.seeing > 0 {
            KeyframeNeed::Repair
        } else {
            KeyframeNeed::Urgent
        }
    }

    /// A viewer needs a keyframe, by its own word or because packets are `lost` for good: who is to serve it? What could not be repaired once is
    /// not sent once more from its beginning only because that was a short time ago.
    pub fn keyframe_wanted(&mut self, now: Instant, position: usize, lost: bool) -> Server {
        let ready = matches!(self.video.window.start(), Start::At(_));
        let age = self.video.window.gop().age();
        let cheap = age <= ShardStream::CHEAP_AGE;
        let unanswered = self.tracks.video.keyframes().are_unanswered();
        let need = self.need(position);
        // The cache of a publisher that may send a keyframe does not stand for one when it begins at a recovery point.
        let ask = (!self.video.window.gop().is_keyframe() && !unanswered).then_some(need);
        let viewer = &mut self.viewers[position];
        if viewer.forwarder(Kind::Video).is_none() {
            return Server::Nobody;
        }
        let Some(started_at) = viewer.started_at else {
            return if viewer.starting {
                Server::Cache { ask: None }
            } else {
                Server::Publisher { need }
            };
        };
        let since = now.saturating_duration_since(started_at);
        let early = since < ShardStream::EARLY && viewer.repeated < ShardStream::EARLY_REPEATS_MAX && !lost;
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
        if ready && (early || unanswered || cheap && ask.is_none()) {
            return Server::Cache { ask };
        }
        Server::Publisher { need }
    }

    /// Sends a viewer on its way what its pace and `budget` packets allow.
    pub fn catch_up(&mut self, position: usize, budget: &mut usize, out: &mut Out<'_>) -> Progress {
        let before = out.first.len();
        let progress = self.send_past(position, budget, out);
        self.seeing += out.first.len() - before;
        progress
    }

    fn send_past(&mut self, position: usize, budget: &mut usize, out: &mut Out<'_>) -> Progress {
        let now = out.now;
        let Some((timestamp, at)) = self.video.arrival else {
            return Progress::Lost;
        };
        let live = LiveClock { timestamp, at };
        let viewer = &mut self.viewers[position];
        loop {
            let Some(forwarder) = viewer.forwarder(Kind::Video) else {
                return Progress::Lost;
            };
            let packet = match self.video.next_of_past(forwarder, now) {
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
            if self.video.is_outdated(forwarder, packet) {
                out.flow.skipped_ahead += 1;
                forwarder.await_keyframe();
                return Progress::Lost;
            }
            if *budget == 0 {
                return Progress::Until(now);
            }
            if let Some(at) = forwarder.wait(now) {
                return Progress::Until(at);
            }
            // Parameter sets, and the packet.
            out.make_room(2 * SendQueue::DATAGRAM_MAX);
            *budget -= 1;
            self.video.send_next(viewer, packet, live, &self.tracks, out);
        }
    }

    /// A viewer lost video packets: so many, or such a share of what it was sent, 1/256. On its way to the live edge it is sent less at once.
    pub fn note_loss(&mut self, now: Instant, position: usize, lost: Lost) {
        let stream = self.video.window.gop().bytes_per_second();
        let forwarder = self.viewers[position].forwarder(Kind::Video);
        match (forwarder.and_then(|forwarder| forwarder.pace()), lost) {
            (Some(pace), Lost::Packets(packets)) => pace.lose(now, packets, stream),
            (Some(pace), Lost::Share(share)) => pace.lose_share(now, share, stream),
            (None, _) => {}
        }
    }

    /// Whether so much of a viewer's start is lost that it is better sent again as a whole, which it does not always ask for by itself.
    pub(super) fn is_start_lost(&mut self, now: Instant, position: usize) -> bool {
        let viewer = &mut self.viewers[position];
        let (repeated, started_at) = (viewer.repeated, viewer.started_at);
        let Some(forwarder) = viewer.forwarder(Kind::Video) else {
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
            && matches!(self.video.window.start(), Start::At(_))
    }
}

/// What is at a viewer's cursor on its way to the live edge.
enum Next<'a> {
    /// The packet that it is sent next.
    Packet(&'a Slot),
    /// Nothing, and nothing is waited for.
    Missing,
    /// It goes on later, or not at all.
    Stop(Progress),
}

impl TrackFan {
    fn next_of_past(&self, forwarder: &mut Forwarder, now: Instant) -> Next<'_> {
        let Some(cursor) = forwarder.cursor() else {
            return Next::Stop(if forwarder.is_live() {
                Progress::Level
            } else {
                Progress::Lost
            });
        };
        match self.window.get(cursor) {
            Some(slot) if slot.settled => return Next::Packet(slot),
            Some(_) => return Next::Stop(Progress::Edge),
            None => {}
        }
        if self.window.newest().is_none_or(|newest| cursor >= newest) {
            let level = forwarder.reach_edge(now);
            return Next::Stop(if level { Progress::Level } else { Progress::Edge });
        }
        if self.window.has_left(cursor) {
            return Next::Stop(Progress::Lost);
        }
        let may_come = |at| now < at + ShardStream::GAP_PATIENCE;
        if !forwarder.is_true() && self.missing_since(cursor).is_some_and(may_come) {
            return Next::Stop(Progress::Edge);
        }
        Next::Missing
    }

    /// Whether a newer keyframe has come: what is left of the older group of pictures would only be decoded to be thrown away.
    fn is_outdated(&self, forwarder: &Forwarder, slot: &Slot) -> bool {
        let packet = &slot.packet;
        forwarder.begins_frame(packet)
            && self.window.gop().is_keyframe()
            && self.window.gop().start().is_some_and(|start| start > packet.index)
            && matches!(self.window.start(), Start::At(_))
    }
}

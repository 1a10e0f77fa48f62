//! A source on air: its packets are written to another stream, too, under that stream's numbers and on its timeline.
//!
//! Whoever is on air goes on until the next one really begins, with a keyframe; the tickets of the stream's tracks see to that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::continuity::Mapping;
use crate::media::keyframes::KeyframeReading;
use crate::media::{KeyframeNeed, Packet, SenderClock, StreamTracks, Window};
use onecast_rtc::rtp::{Codec, Kind, keyframe};

/// The way of a source's packets into another stream.
pub(super) struct Air {
    program: Arc<StreamTracks>,
    /// What `StreamTracks::start_writing` gave; `None` before it begins.
    ticket: Option<u64>,
    ways: [Option<Way>; 2],
    /// The video since the newest keyframe, as the other stream has it.
    window: Window,
    since: Instant,
    video_at: Option<Instant>,
}

/// How one track's numbers become the other's.
struct Way {
    /// The first packet that is written; what is older is not.
    first: u64,
    /// `None` when both are the same.
    mapping: Option<Mapping>,
    codec: Option<Codec>,
}

/// What is known of a source whose packet is shown.
pub(super) struct Sight {
    pub(super) shard: usize,
    pub(super) has_video: bool,
    pub(super) profile: u8,
    pub(super) clock: Option<SenderClock>,
}

impl Air {
    /// Audio waits so long for the video beside it: a camera that is covered sends none, and speaks nevertheless.
    const VIDEO_PATIENCE: Duration = Duration::from_secs(2);
    /// Longest wait for a keyframe to begin with, which was asked for: some sources never send one.
    const KEYFRAME_PATIENCE: Duration = Duration::from_secs(5);

    /// A source that is to be seen in `program`, from its next keyframe on.
    pub(super) fn new(program: Arc<StreamTracks>, window: Window, now: Instant) -> Air {
        Air {
            program,
            ticket: None,
            ways: [None, None],
            window,
            since: now,
            video_at: None,
        }
    }

    /// A source that has been seen there already, under the numbers that it has.
    pub(super) fn going_on((program, ticket): (Arc<StreamTracks>, u64), window: Window, now: Instant) -> Air {
        let way = || {
            Some(Way {
                first: 0,
                mapping: None,
                codec: None,
            })
        };
        let mut air = Air::new(program, window, now);
        air.ticket = Some(ticket);
        air.ways = [way(), way()];
        air
    }

    /// It is what viewers of the stream see.
    pub(super) fn is_seen(&self) -> bool {
        self.ticket.is_some_and(|ticket| self.program.may_write(ticket))
    }

    /// Somebody else has taken its place.
    fn is_over(&self) -> bool {
        self.ticket.is_some() && !self.is_seen()
    }

    /// It is seen in `program`, or will be.
    pub(super) fn goes_on_in(&self, program: &Arc<StreamTracks>) -> bool {
        Arc::ptr_eq(&self.program, program) && !self.is_over()
    }

    /// Somebody watches its video there.
    pub(super) fn is_bound(&self) -> bool {
        self.is_seen() && self.program.video.is_bound()
    }

    /// There is no picture any more, until the source sends another.
    pub(super) fn end_picture(&mut self) {
        self.window.end_source();
        if self.is_seen() && self.ways[Kind::Video as usize].is_some() {
            self.program.video.write_ended();
        }
    }

    /// The source's own numbers begin anew.
    pub(super) fn begin_anew(&mut self) {
        self.ways = [None, None];
    }

    /// The source goes back to these tracks, in which it has been seen under its own numbers all the time: the ticket to write with.
    pub(super) fn return_to(&mut self, tracks: &Arc<StreamTracks>) -> Option<u64> {
        let same = |way: &Option<Way>| way.as_ref().is_some_and(|way| way.mapping.is_none());
        let returns = Arc::ptr_eq(&self.program, tracks) && self.is_seen() && self.ways.iter().all(same);
        self.ticket.take_if(|_| returns)
    }

    /// Writes a packet of the source, if its time has come. False when somebody else is seen by now.
    pub(super) fn take(&mut self, now: Instant, kind: Kind, packet: &Arc<Packet>, sight: Sight) -> bool {
        if self.is_over() {
            return false;
        }
        if kind == Kind::Video {
            self.video_at = Some(now);
        }
        if self.ways[kind as usize].is_none() {
            let may_begin = match kind {
                Kind::Video => packet.keyframe || self.begins_without_keyframe(now, packet),
                Kind::Audio => self.ways[Kind::Video as usize].is_some() || !self.expects_video(now, &sight),
            };
            if !may_begin {
                return true;
            }
            self.begin(now, kind, packet, &sight);
        }
        self.write(kind, packet, &sight);
        true
    }

    fn begins_without_keyframe(&self, now: Instant, packet: &Packet) -> bool {
        now >= self.since + Air::KEYFRAME_PATIENCE && keyframe::starts_frame(packet.codec, &packet.payload)
    }

    fn expects_video(&self, now: Instant, sight: &Sight) -> bool {
        let heard = self.video_at.map_or(self.since, |at| at.max(self.since));
        sight.has_video && now < heard + Air::VIDEO_PATIENCE
    }

    fn begin(&mut self, now: Instant, kind: Kind, packet: &Packet, sight: &Sight) {
        let program = &self.program;
        self.ticket.get_or_insert_with(|| program.start_writing(sight.shard));
        // The picture of who was seen before is over where none follows. One of another profile has another payload type, and one whose
        // parameter sets do not come by themselves has them only for viewers who start there.
        let is_over = match kind {
            Kind::Audio => self.ways[Kind::Video as usize].is_none(),
            Kind::Video => program.video.profile() != sight.profile || packet.sets.is_some(),
        };
        if is_over {
            program.video.write_ended();
        }
        let continuity = program.track(kind).continuity();
        let rate = packet.codec.clock_rate();
        let mapping = continuity.append(packet.index, packet.timestamp, now, rate);
        self.ways[kind as usize] = Some(Way {
            first: packet.index,
            mapping: Some(mapping),
            codec: None,
        });
        if let Some(clock) = sight.clock {
            self.write_clock(kind, clock);
        }
    }

    fn write(&mut self, kind: Kind, packet: &Arc<Packet>, sight: &Sight) {
        let Some(way) = self.ways[kind as usize]
            .as_mut()
            .filter(|way| packet.index >= way.first)
        else {
            return;
        };
        let track = self.program.track(kind);
        if way.codec.replace(packet.codec) != Some(packet.codec) {
            track.set_profile(sight.profile);
        }
        let packet = way.carry(packet);
        if kind == Kind::Video {
            self.window.insert(packet.clone());
        }
        // With nobody watching the pipe is closed, which is no failure.
        let _ = track.write_rtp(&packet);
    }

    /// Passes on the source's clock.
    pub(super) fn write_clock(&self, kind: Kind, clock: SenderClock) {
        let Some(way) = self.ways[kind as usize].as_ref().filter(|_| self.is_seen()) else {
            return;
        };
        let rtp = way.mapping.map_or(clock.rtp, |mapping| mapping.timestamp(clock.rtp));
        self.program.track(kind).write_clock(SenderClock { rtp, ..clock });
    }

    /// Tells what is known of the source's keyframes.
    pub(super) fn write_facts(&self, facts: &KeyframeReading) {
        if self.is_seen() {
            self.program.video.keyframes().write(facts);
        }
    }

    /// What shards with viewers of the stream wish: the past is given, a keyframe is for the source to ask for.
    pub(super) fn serve_wishes(&self) -> Option<KeyframeNeed> {
        if !self.is_seen() {
            return None;
        }
        self.program.video.answer_past(|| self.window.past());
        self.program.video.take_keyframe_request()
    }
}

impl Way {
    /// The packet as the other stream has it: the same, or a copy.
    fn carry(&self, packet: &Arc<Packet>) -> Arc<Packet> {
        match self.mapping {
            None => packet.clone(),
            Some(mapping) => Arc::new(Packet {
                index: mapping.index(packet.index),
                timestamp: mapping.timestamp(packet.timestamp),
                ..Packet::clone(packet)
            }),
        }
    }
}

impl Drop for Air {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        if self.program.may_write(ticket) {
            self.program.video.keyframes().write(&KeyframeReading::default());
        }
        self.program.stop_writing(ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::lane::StreamKey;
    use crate::media::testing::packet;
    use crate::media::window::{CacheBounds, WindowBounds};
    use crate::media::{Inbox, LaneItem, Wake};

    struct Silent;

    impl Wake for Silent {
        fn wake(&self) {}
    }

    /// A source that is to be seen in a stream with a viewer, and what comes to that viewer's shard.
    fn air(now: Instant) -> (Air, Arc<Inbox>) {
        let inbox = Inbox::new(Box::new(Silent));
        let key = StreamKey { slot: 0, serial: 1 };
        let program = StreamTracks::new(key, "room", [1, 2, 3], Arc::new([inbox.clone()]), now);
        program.video.bind(0);
        let window = Window::new(WindowBounds {
            packets: 64,
            cache: CacheBounds::OFF,
        });
        (Air::new(Arc::new(program), window, now), inbox)
    }

    fn show(air: &mut Air, now: Instant, packet: &Arc<Packet>) {
        let sight = Sight {
            shard: 0,
            has_video: true,
            profile: 0,
            clock: None,
        };
        assert!(air.take(now, Kind::Video, packet, sight));
    }

    #[test]
    fn a_source_without_keyframes_is_seen_after_a_while() {
        let start = onecast_udp::clock::now();
        let (mut air, inbox) = air(start);
        for second in 0..8 {
            let packet = packet(second).timestamp(second as u32 * 90_000).payload(&[0x10, 1]);
            show(&mut air, start + Duration::from_secs(second), &packet.build());
            assert_eq!(inbox.pop().is_some(), second >= 5, "{second}");
        }
    }

    #[test]
    fn viewers_start_again_where_parameter_sets_do_not_come_by_themselves() {
        let now = onecast_udp::clock::now();
        for (sets, restarts) in [(None, false), (Some(&[0x78, 1][..]), true)] {
            let (mut air, inbox) = air(now);
            let keyframe = packet(7).codec(Codec::H264).keyframe();
            let keyframe = sets.into_iter().fold(keyframe, |keyframe, sets| keyframe.sets(sets));
            show(&mut air, now, &keyframe.build());
            let items: Vec<LaneItem> = std::iter::from_fn(|| inbox.pop()).map(|(_, item)| item).collect();
            assert_eq!(matches!(items.first(), Some(LaneItem::Ended)), restarts);
            assert!(matches!(items.last(), Some(LaneItem::Packet(Kind::Video, _))));
        }
    }
}

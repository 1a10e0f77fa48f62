//! The active speaker of a room: its packets are also written to the room's stream, with that stream's numbers and timeline.
//!
//! The room's stream changes hands without a gap. The control plane names the next speaker, but the previous one continues to write until
//! the next one begins, at a keyframe: only then does the next one take the write ticket ([`StreamTracks::start_writing`]), and the
//! previous one finds with its next packet that it [may not write](StreamTracks::may_write) any more. So at every moment one source at
//! most writes to a stream, whichever shards the two are on, and neither waits for the other. A [`ProgramOutput`] that is dropped gives
//! its ticket back, which has no effect if another source has taken over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::continuity::Mapping;
use crate::media::{KeyframeNeed, KeyframeReading, LayerIndex, Packet, SenderClock, StreamTracks, Window, WriteTicket};
use onecast_rtc::rtp::{Codec, Kind, SeqIndex, keyframe};

/// The way of a source's packets into the room's stream.
pub(super) struct ProgramOutput {
    program: Arc<StreamTracks>,
    /// The write ticket; `None` before the source begins.
    ticket: Option<WriteTicket>,
    ways: [Option<Way>; 2],
    /// The video since the newest keyframe, as the other stream has it.
    window: Window,
    since: Instant,
    video_at: Option<Instant>,
}

/// Maps the numbers of one track to those of the other.
struct Way {
    /// The first packet that is written; older ones are not.
    first: u64,
    /// `None` if both are the same.
    mapping: Option<Mapping>,
    codec: Option<Codec>,
}

/// State of the source whose packet is shown.
pub(super) struct Sight {
    pub(super) shard: usize,
    pub(super) has_video: bool,
    pub(super) profile: u8,
    pub(super) clock: Option<SenderClock>,
}

impl ProgramOutput {
    /// Longest time that audio waits for its video: a covered camera sends none while its member speaks.
    const VIDEO_TIMEOUT: Duration = Duration::from_secs(2);
    /// Longest wait for the requested keyframe to begin with: some sources never send one.
    const KEYFRAME_TIMEOUT: Duration = Duration::from_secs(5);

    /// A source that will be shown in `program` from its next keyframe on.
    pub(super) fn new(program: Arc<StreamTracks>, window: Window, now: Instant) -> ProgramOutput {
        ProgramOutput {
            program,
            ticket: None,
            ways: [None, None],
            window,
            since: now,
            video_at: None,
        }
    }

    /// A source that is shown there already, under its present numbers.
    pub(super) fn going_on(
        (program, ticket): (Arc<StreamTracks>, WriteTicket),
        window: Window,
        now: Instant,
    ) -> ProgramOutput {
        let way = || {
            Some(Way {
                first: 0,
                mapping: None,
                codec: None,
            })
        };
        let mut output = ProgramOutput::new(program, window, now);
        output.ticket = Some(ticket);
        output.ways = [way(), way()];
        output
    }

    /// Whether viewers of the room's stream see it.
    pub(super) fn is_seen(&self) -> bool {
        self.ticket.is_some_and(|ticket| self.program.may_write(ticket))
    }

    /// Whether another source has taken its place.
    fn is_over(&self) -> bool {
        self.ticket.is_some() && !self.is_seen()
    }

    /// Whether it is or will be shown in `program`.
    pub(super) fn goes_on_in(&self, program: &Arc<StreamTracks>) -> bool {
        Arc::ptr_eq(&self.program, program) && !self.is_over()
    }

    /// Whether the room's stream has viewers that see it.
    pub(super) fn is_bound(&self) -> bool {
        self.is_seen() && self.program.video.is_bound()
    }

    /// Ends the picture until the source sends another one.
    pub(super) fn end_picture(&mut self) {
        self.window.end_source();
        if self.is_seen() && self.ways[Kind::Video as usize].is_some() {
            self.program.video.write_ended();
        }
    }

    /// Prepares for a new numbering of the source.
    pub(super) fn restart_numbering(&mut self) {
        self.ways = [None, None];
    }

    /// The source is redirected back to these tracks, in which it has been seen under its own numbers all the time. Returns the ticket.
    pub(super) fn return_to(&mut self, tracks: &Arc<StreamTracks>) -> Option<WriteTicket> {
        let same = |way: &Option<Way>| way.as_ref().is_some_and(|way| way.mapping.is_none());
        let returns = Arc::ptr_eq(&self.program, tracks) && self.is_seen() && self.ways.iter().all(same);
        self.ticket.take_if(|_| returns)
    }

    /// Writes a packet of the source, if its time has come. False when another source has taken its place.
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
        now >= self.since + ProgramOutput::KEYFRAME_TIMEOUT && keyframe::starts_frame(packet.codec, &packet.payload)
    }

    fn expects_video(&self, now: Instant, sight: &Sight) -> bool {
        let heard = self.video_at.map_or(self.since, |at| at.max(self.since));
        sight.has_video && now < heard + ProgramOutput::VIDEO_TIMEOUT
    }

    fn begin(&mut self, now: Instant, kind: Kind, packet: &Packet, sight: &Sight) {
        let program = &self.program;
        self.ticket.get_or_insert_with(|| program.start_writing(sight.shard));
        // The previous speaker's picture ends if none follows. A picture of another profile has another payload type; one whose parameter
        // sets are not sent in band has them only for viewers that start there.
        let is_over = match kind {
            Kind::Audio => self.ways[Kind::Video as usize].is_none(),
            Kind::Video => program.video.profile() != sight.profile || packet.sets.is_some(),
        };
        if is_over {
            program.video.write_ended();
        }
        let [continuity, ..] = program.track(kind).continuity();
        let rate = packet.codec.clock_rate();
        let mapping = continuity.append(SeqIndex(packet.index), packet.timestamp, now, rate);
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
        // Without viewers the pipe is closed, which is no failure.
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

    /// Publishes the state of the source's keyframes.
    pub(super) fn write_facts(&self, facts: &KeyframeReading) {
        if self.is_seen() {
            self.program.video.keyframes().write(facts);
        }
    }

    /// Handles requests of shards with viewers of the room's stream: gives them the past, and returns a request for a keyframe.
    pub(super) fn handle_requests(&self) -> Option<KeyframeNeed> {
        if !self.is_seen() {
            return None;
        }
        self.program.video.answer_past(LayerIndex::FIRST, || self.window.past());
        self.program.video.take_keyframe_request()
    }
}

impl Way {
    /// The packet as the other stream has it: the same, or a copy.
    fn carry(&self, packet: &Arc<Packet>) -> Arc<Packet> {
        match self.mapping {
            None => packet.clone(),
            Some(mapping) => Arc::new(Packet {
                index: mapping.index(SeqIndex(packet.index)),
                timestamp: mapping.timestamp(packet.timestamp),
                ..Packet::clone(packet)
            }),
        }
    }
}

impl Drop for ProgramOutput {
    /// Gives the ticket back. Viewers learn that the picture has ended only if no other source has taken over.
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
    use crate::media::lane::{StreamKey, StreamSlot};
    use crate::media::testing::packet;
    use crate::media::window::{CacheBounds, WindowBounds};
    use crate::media::{Inbox, LaneItem, Rendition, Wake};
    use onecast_rtc::rtp::{RtpTime, Ssrc};

    struct Silent;

    impl Wake for Silent {
        fn wake(&self) {}
    }

    /// A source that will be shown in a stream with a viewer, and the inbox of that viewer's shard.
    fn output(now: Instant) -> (ProgramOutput, Arc<Inbox>) {
        let inbox = Inbox::new(Box::new(Silent));
        let key = StreamKey {
            slot: StreamSlot(0),
            serial: 1,
        };
        let program = StreamTracks::new(key, "room", [Ssrc(1), Ssrc(2), Ssrc(3)], Arc::new([inbox.clone()]), now);
        program.video.bind(0, Rendition::default());
        let window = Window::new(WindowBounds {
            packets: 64,
            cache: CacheBounds::OFF,
        });
        (ProgramOutput::new(Arc::new(program), window, now), inbox)
    }

    fn show(output: &mut ProgramOutput, now: Instant, packet: &Arc<Packet>) {
        let sight = Sight {
            shard: 0,
            has_video: true,
            profile: 0,
            clock: None,
        };
        assert!(output.take(now, Kind::Video, packet, sight));
    }

    #[test]
    fn a_source_without_keyframes_begins_after_a_timeout() {
        let start = onecast_udp::clock::now();
        let (mut output, inbox) = output(start);
        for second in 0..8 {
            let packet = packet(second)
                .timestamp(RtpTime(second as u32 * 90_000))
                .payload(&[0x10, 1]);
            show(&mut output, start + Duration::from_secs(second), &packet.build());
            assert_eq!(inbox.pop().is_some(), second >= 5, "{second}");
        }
    }

    #[test]
    fn viewers_start_again_when_parameter_sets_are_not_in_band() {
        let now = onecast_udp::clock::now();
        for (sets, restarts) in [(None, false), (Some(&[0x78, 1][..]), true)] {
            let (mut output, inbox) = output(now);
            let keyframe = packet(7).codec(Codec::H264).keyframe();
            let keyframe = sets.into_iter().fold(keyframe, |keyframe, sets| keyframe.sets(sets));
            show(&mut output, now, &keyframe.build());
            let items: Vec<LaneItem> = std::iter::from_fn(|| inbox.pop()).map(|(_, item)| item).collect();
            assert_eq!(matches!(items.first(), Some(LaneItem::Ended)), restarts);
            assert!(matches!(items.last(), Some(LaneItem::Packet(Kind::Video, _))));
        }
    }
}

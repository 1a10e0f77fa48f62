//! Video of a verified viewer: which packets are missing and requested again, and which frames are complete. Without sockets or clock;
//! times are since 1970, like arrival times.

use std::collections::BTreeMap;
use std::time::Duration;

use super::playback::PictureSize;
use onecast_rtc::rtp::RtpTime;
use onecast_rtc::rtp::seq::SequenceExtender;

/// The video of one viewer.
#[derive(Debug, Default)]
pub(super) struct Frames {
    extender: SequenceExtender,
    /// The first number after the last complete frame, once a picture was complete.
    next: Option<u64>,
    /// Packets of frames that are not complete yet.
    waiting: BTreeMap<u64, Part>,
    missing: BTreeMap<u64, Missing>,
    lost: u64,
    rules: RepairRules,
}

/// What a viewer does about missing packets.
#[derive(Debug, Clone, Copy)]
struct RepairRules {
    /// Time between two requests for the same packet.
    ask_again: Duration,
    /// After this time, the packet is lost.
    give_up: Duration,
    /// A complete keyframe is shown at once, as by browsers, even if frames before it could still be repaired.
    skips_to_keyframes: bool,
}

/// The relevant properties of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// First packet of a keyframe.
    pub(super) starts_keyframe: bool,
    /// Last packet of its frame.
    pub(super) marker: bool,
    /// RTP timestamp.
    pub(super) timestamp: RtpTime,
    /// Size of the picture, if this packet has it.
    pub(super) size: Option<PictureSize>,
}

/// A frame that was received completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WholeFrame {
    /// RTP timestamp.
    pub(super) timestamp: RtpTime,
    /// Size of the picture, if it is a keyframe that has it in its first packet.
    pub(super) keyframe: Option<PictureSize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Missing {
    since: Duration,
    asked: Option<Duration>,
    asked_last: Duration,
    tries: u32,
}

/// Effects of a packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// It was requested this long ago.
    pub(super) repaired: Option<Duration>,
    /// The frames that it completed; the first one ever is a keyframe.
    pub(super) whole: Vec<WholeFrame>,
}

impl Frames {
    /// The video of a viewer behind a slow path, where a repair may wait in the queue of the bottleneck.
    pub(super) fn behind_a_path() -> Frames {
        Frames {
            rules: RepairRules {
                ask_again: ASK_AGAIN_SLOWLY,
                give_up: GIVE_UP_SLOWLY,
                skips_to_keyframes: true,
            },
            ..Frames::default()
        }
    }

    /// Handles a packet that arrived at `arrived`.
    pub(super) fn handle_packet(&mut self, arrived: Duration, sequence: u16, part: Part) -> Taken {
        let before = self.extender.highest().map(|highest| highest.0);
        let index = self.extender.extend(sequence).0;
        let repaired = self.note_number(arrived, before, index);
        if self.next.is_none_or(|next| index >= next) {
            self.waiting.insert(index, part);
        }
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_first();
        }
        let settles = part.marker || before.is_some_and(|before| index < before);
        Taken {
            repaired,
            whole: if settles { self.take_whole() } else { vec![] },
        }
    }

    /// Sequence numbers to request now, in order. Packets that do not arrive in time are lost.
    pub(super) fn due(&mut self, now: Duration) -> Vec<u16> {
        let RepairRules { ask_again, give_up, .. } = self.rules;
        let mut due = Vec::new();
        let mut given_up = None;
        self.missing.retain(|&index, missing| {
            if now.saturating_sub(missing.since) >= give_up {
                given_up = Some(index);
                self.lost += 1;
                return false;
            }
            let waited = now.saturating_sub(missing.asked_last);
            if missing.tries < TRIES_MAX && (missing.tries == 0 || waited >= ask_again) {
                missing.asked.get_or_insert(now);
                missing.asked_last = now;
                missing.tries += 1;
                due.push(index as u16);
            }
            true
        });
        if let (Some(given_up), Some(next)) = (given_up, self.next)
            && given_up >= next
        {
            // Like a decoder: frames that depend on the lost packet are useless.
            self.next = None;
            self.waiting = self.waiting.split_off(&(given_up + 1));
        }
        due
    }

    /// Packets are missing.
    pub(super) fn has_gaps(&self) -> bool {
        !self.missing.is_empty()
    }

    /// The picture can be shown: every packet since a keyframe arrived. False until the first keyframe, and from a loss to the next one.
    pub(super) fn is_playing(&self) -> bool {
        self.next.is_some()
    }

    /// Packets that never arrived.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Counts packets as lost that are missing for longer than a repair takes, when nothing more comes.
    pub(super) fn finish(&mut self, now: Duration) {
        let old = |missing: &&Missing| now.saturating_sub(missing.since) >= SURELY_LOST;
        self.lost += self.missing.values().filter(old).count() as u64;
        self.missing.clear();
    }

    fn note_number(&mut self, arrived: Duration, before: Option<u64>, index: u64) -> Option<Duration> {
        let before = before?;
        let gap = index.saturating_sub(before + 1);
        if gap > GAP_MAX {
            self.lost += gap;
            self.missing.clear();
            self.next = None;
        } else {
            let missing = Missing {
                since: arrived,
                ..Missing::default()
            };
            self.missing.extend((before + 1..index).map(|index| (index, missing)));
        }
        let asked = self.missing.remove(&index)?.asked?;
        Some(arrived.saturating_sub(asked))
    }

    fn take_whole(&mut self) -> Vec<WholeFrame> {
        let mut whole = Vec::new();
        self.skip_to_keyframe();
        let start = self.next.or_else(|| self.whole_keyframe());
        let Some(mut next) = start else { return whole };
        while let Some(end) = self.end_of_frame(next) {
            let first = self.waiting[&next];
            whole.push(WholeFrame {
                timestamp: first.timestamp,
                keyframe: first.size.filter(|_| first.starts_keyframe),
            });
            next = end + 1;
        }
        self.waiting = self.waiting.split_off(&next);
        self.next = Some(next);
        whole
    }

    /// Gives up a frame that waits for a repair when a later keyframe is complete.
    fn skip_to_keyframe(&mut self) {
        if let Some(next) = self.next.filter(|_| self.rules.skips_to_keyframes)
            && self.end_of_frame(next).is_none()
            && let Some(start) = self.whole_keyframe()
        {
            let needed = self.missing.split_off(&start);
            self.lost += self.missing.len() as u64;
            self.missing = needed;
            self.next = Some(start);
        }
    }

    /// Start of the first complete keyframe.
    fn whole_keyframe(&self) -> Option<u64> {
        let mut starts = self.waiting.iter().filter(|(_, part)| part.starts_keyframe);
        starts.find_map(|(&start, _)| self.end_of_frame(start).map(|_| start))
    }

    /// Last packet of the frame that begins at `start`, if the frame is complete.
    fn end_of_frame(&self, start: u64) -> Option<u64> {
        let mut run = self.waiting.range(start..).zip(start..);
        run.find_map(|((&index, part), expected)| match index == expected {
            false => Some(None),
            true => part.marker.then_some(Some(index)),
        })?
    }
}

impl Default for RepairRules {
    fn default() -> RepairRules {
        RepairRules {
            ask_again: ASK_AGAIN,
            give_up: GIVE_UP,
            skips_to_keyframes: false,
        }
    }
}

/// Time between two requests for the same packet; longer than the round trip of most viewers.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Requests for one packet, as browsers do.
const TRIES_MAX: u32 = 10;
/// After this time, a decoder has given up on the packet.
const GIVE_UP: Duration = Duration::from_millis(500);
/// As [`ASK_AGAIN`], behind a slow path. Browsers begin with this round trip, too.
const ASK_AGAIN_SLOWLY: Duration = Duration::from_millis(100);
/// As [`GIVE_UP`], behind a slow path: when the last request has been on the way for as long as a queue may take.
const GIVE_UP_SLOWLY: Duration = Duration::from_millis(1_400);
/// At the end, younger gaps might still have been repaired.
const SURELY_LOST: Duration = Duration::from_millis(250);
/// Longer gaps are not requested.
const GAP_MAX: u64 = 1_000;
/// More packets than any keyframe has.
const WAITING_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Part = part(true, false);
    const MID: Part = part(false, false);
    const END: Part = part(false, true);

    const fn part(starts_keyframe: bool, marker: bool) -> Part {
        Part {
            starts_keyframe,
            marker,
            timestamp: RtpTime(7),
            size: None,
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Feeds packets a millisecond apart and returns how many frames were whole.
    fn fed(frames: &mut Frames, packets: &[(u16, Part)]) -> usize {
        let take = |(at, &(sequence, part)): (usize, &(u16, Part))| {
            frames.handle_packet(ms(at as u64), sequence, part).whole.len()
        };
        packets.iter().enumerate().map(take).sum()
    }

    #[test]
    fn frames_count_from_the_first_complete_keyframe() {
        let mut frames = Frames::default();
        assert_eq!(fed(&mut frames, &[(65_533, MID), (65_534, END)]), 0);
        assert_eq!(fed(&mut frames, &[(65_535, KEY), (0, MID), (1, END), (2, END)]), 2);
        assert!(frames.is_playing() && !frames.has_gaps());
        assert_eq!(frames.lost(), 0);
    }

    #[test]
    fn a_repaired_packet_completes_all_frames_that_waited_for_it() {
        let mut frames = Frames::default();
        assert_eq!(fed(&mut frames, &[(1, KEY), (2, END), (4, END), (5, END)]), 1);
        assert_eq!(frames.due(ms(10)), [3]);
        assert!(frames.due(ms(59)).is_empty());
        assert_eq!(frames.due(ms(60)), [3]);
        let taken = frames.handle_packet(ms(75), 3, MID);
        assert_eq!((taken.repaired, taken.whole.len()), (Some(ms(65)), 2));
        assert_eq!((frames.due(ms(600)), frames.lost()), (vec![], 0));
        assert_eq!(frames.handle_packet(ms(80), 3, MID), Taken::default(), "a copy");
    }

    #[test]
    fn a_lost_packet_stops_the_picture_until_a_keyframe() {
        let mut frames = Frames::default();
        fed(&mut frames, &[(1, KEY), (2, END), (4, END)]);
        let asked: usize = (4..=600).map(|at| frames.due(ms(at)).len()).sum();
        assert_eq!((asked, frames.lost()), (TRIES_MAX as usize, 1));
        assert!(!frames.is_playing());
        assert_eq!(fed(&mut frames, &[(5, END), (6, KEY), (7, END)]), 1);
        assert!(frames.is_playing());
    }

    #[test]
    fn a_keyframe_with_a_gap_is_no_picture_until_the_gap_is_closed() {
        let mut frames = Frames::default();
        assert_eq!(fed(&mut frames, &[(1, KEY), (3, MID), (4, END), (5, END)]), 0);
        assert_eq!(fed(&mut frames, &[(2, MID)]), 2);
    }

    #[test]
    fn a_keyframe_may_be_one_packet() {
        let mut frames = Frames::default();
        assert_eq!(fed(&mut frames, &[(9, part(true, true))]), 1);
        assert!(frames.is_playing());
        assert_eq!(frames.lost(), 0);
    }

    #[test]
    fn a_keyframe_after_a_broken_one_is_a_picture() {
        let mut frames = Frames::default();
        let broken = [(1, KEY), (3, MID), (4, END)];
        assert_eq!(fed(&mut frames, &broken), 0);
        assert!(!frames.is_playing());
        frames.due(ms(1_000));
        assert_eq!(fed(&mut frames, &[(5, KEY), (6, END)]), 1);
        assert!(frames.is_playing());
        assert_eq!(frames.lost(), 1);
    }

    #[test]
    fn behind_a_path_a_complete_keyframe_is_shown_before_a_repair_comes() {
        let packets = [(1, KEY), (2, END), (4, END), (5, KEY), (6, END)];
        let mut patient = Frames::default();
        assert_eq!((fed(&mut patient, &packets), patient.lost()), (1, 0));
        let mut frames = Frames::behind_a_path();
        assert_eq!((fed(&mut frames, &packets), frames.lost()), (2, 1));
        assert!(frames.is_playing() && frames.due(ms(20)).is_empty());
        assert_eq!(fed(&mut frames, &[(7, END)]), 1);
    }

    #[test]
    fn behind_a_path_requests_are_repeated_more_slowly() {
        let mut frames = Frames::behind_a_path();
        fed(&mut frames, &[(1, KEY), (2, END), (4, END)]);
        let asked: usize = (4..=1_390).map(|at| frames.due(ms(at)).len()).sum();
        assert_eq!((asked, frames.lost()), (TRIES_MAX as usize, 0));
        frames.due(ms(1_500));
        assert_eq!((frames.lost(), frames.is_playing()), (1, false));
    }

    #[test]
    fn a_keyframe_has_its_size() {
        let size = Some(PictureSize::new(320, 180));
        let sized = Part {
            size,
            ..part(true, true)
        };
        let mut frames = Frames::default();
        let whole = frames.handle_packet(ms(1), 1, sized).whole;
        assert_eq!(whole.iter().map(|frame| frame.keyframe).collect::<Vec<_>>(), [size]);
        let whole = frames.handle_packet(ms(2), 2, END).whole;
        assert_eq!(whole.iter().map(|frame| frame.keyframe).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn missing_packets_count_as_lost_and_copies_do_not() {
        let mut frames = Frames::default();
        fed(&mut frames, &[(1, part(true, true)), (2, END), (2, END), (5, END)]);
        frames.finish(ms(1_000));
        assert_eq!(frames.lost(), 2);
    }

    #[test]
    fn a_large_gap_is_counted_and_not_requested() {
        let mut frames = Frames::default();
        fed(&mut frames, &[(1, KEY), (2, END), (20_000, END)]);
        assert_eq!((frames.lost(), frames.due(ms(9))), (19_997, vec![]));
    }

    #[test]
    fn gaps_too_young_to_be_repaired_do_not_count() {
        let mut frames = Frames::default();
        fed(&mut frames, &[(1, KEY), (3, END)]);
        frames.handle_packet(ms(300), 5, END);
        frames.finish(ms(400));
        assert_eq!(frames.lost(), 1);
    }
}

//! What a viewer sees: its media opened, checked for gaps, and its frames timed. Pure.

use std::time::Duration;

use super::figures::Figures;
use super::frames::{Frames, Part};
use super::offer::Payload;
use crate::load::stamp::Stamp;
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::keyframe::starts_keyframe;
use onecast_rtc::rtp::rtcp::{write_nack, write_pli, write_receiver_report_empty};
use onecast_rtc::srtp::Opener;

/// How viewers look.
#[derive(Debug, Clone, Copy)]
pub(super) struct ViewingConfig {
    /// Share of the video packets that is thrown away, to be asked for again.
    pub(super) loss: f64,
    /// No video comes: each audio packet is a frame.
    pub(super) audio_only: bool,
    /// Time between frames; `None` when it must be learned from the stream.
    pub(super) frame_interval: Option<Duration>,
    /// Times of sending can be read and are of this machine's clock.
    pub(super) stamps: bool,
}

/// One viewer's eyes.
pub(super) struct Viewing {
    config: ViewingConfig,
    frames: Frames,
    video_ssrc: Option<u32>,
    interval: Interval,
    first_packet: Option<Duration>,
    whole_last: Option<Duration>,
    picture: Option<Duration>,
    /// When the first frame was sent that was the newest one when it came.
    live_since: Option<Duration>,
    delay_last: Duration,
    unopened: u64,
    keyframe_asked: Duration,
    dice: u64,
}

impl Viewing {
    /// Sees nothing yet; `number` is that of the viewer.
    pub(super) fn new(config: ViewingConfig, number: u32) -> Viewing {
        Viewing {
            config,
            frames: Frames::default(),
            video_ssrc: None,
            interval: Interval::new(config.frame_interval),
            first_packet: None,
            whole_last: None,
            picture: None,
            live_since: None,
            delay_last: Duration::ZERO,
            unopened: 0,
            keyframe_asked: Duration::ZERO,
            dice: (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Takes a media packet that arrived at `arrived`.
    pub(super) fn handle_media(
        &mut self,
        arrived: Duration,
        opener: &mut Opener,
        header: &RtpHeader,
        kind: Payload,
        datagram: &mut [u8],
        figures: &mut Figures,
    ) {
        if kind != Payload::Audio && self.is_dropped() {
            figures.dropped_on_purpose += 1;
            return;
        }
        self.first_packet.get_or_insert(arrived);
        let opened = opener.open_rtp(datagram, header.len, header.ssrc, header.sequence);
        let payload = opened.ok().and_then(|len| header.payload(&datagram[..len]).ok());
        let Some(payload) = payload else {
            self.unopened += 1;
            return;
        };
        match kind {
            Payload::Audio if self.config.audio_only => {
                self.note_whole(arrived, None, figures);
                self.note_delay(arrived, payload, figures);
            }
            Payload::Audio => {}
            Payload::Video(_) => {
                self.video_ssrc = Some(header.ssrc);
                self.handle_video(arrived, header.sequence, header, kind, payload, figures);
            }
            // RFC 4588 section 4: the number that the packet had comes first. Shorter ones are padding.
            Payload::Rtx(_) => {
                if let Some((&[high, low], payload)) = payload.split_first_chunk() {
                    let sequence = u16::from_be_bytes([high, low]);
                    self.handle_video(arrived, sequence, header, kind, payload, figures);
                }
            }
        }
    }

    /// Feedback to seal and send: what is missing, and a keyframe when there is no picture without one. Returns its length in
    /// `out`, 0 for none.
    pub(super) fn poll_feedback(&mut self, now: Duration, out: &mut [u8]) -> usize {
        let (Some(media), Some(first)) = (self.video_ssrc, self.first_packet) else {
            return 0;
        };
        let due = if self.frames.has_gaps() {
            self.frames.due(now)
        } else {
            vec![]
        };
        let head = write_receiver_report_empty(out, SSRC);
        if !due.is_empty() {
            return head + write_nack(&mut out[head..], SSRC, media, due);
        }
        let asked = self.keyframe_asked.max(first);
        let wait = if self.keyframe_asked.is_zero() {
            PICTURE_WAIT
        } else {
            ASK_AGAIN
        };
        if self.frames.is_playing() || now.saturating_sub(asked) < wait {
            return 0;
        }
        self.keyframe_asked = now;
        head + write_pli(&mut out[head..], SSRC, media)
    }

    /// When the first picture was whole.
    pub(super) fn picture(&self) -> Option<Duration> {
        self.picture
    }

    /// It gets video.
    pub(super) fn has_video(&self) -> bool {
        self.video_ssrc.is_some()
    }

    /// Nothing more comes. Returns the video packets that were lost, and those of any kind that could not be opened.
    pub(super) fn finish(&mut self, now: Duration, is_live: bool, figures: &mut Figures) -> u64 {
        if is_live {
            self.note_freeze(now, figures);
        }
        self.frames.finish(now);
        self.frames.lost() + self.unopened
    }

    fn handle_video(
        &mut self,
        arrived: Duration,
        sequence: u16,
        header: &RtpHeader,
        kind: Payload,
        payload: &[u8],
        figures: &mut Figures,
    ) {
        let (Payload::Video(codec) | Payload::Rtx(codec)) = kind else {
            return;
        };
        let part = Part {
            starts_keyframe: starts_keyframe(codec, payload),
            marker: header.marker,
            timestamp: header.timestamp,
        };
        let taken = self.frames.handle_packet(arrived, sequence, part);
        if let Some(time) = taken.repaired {
            figures.repaired.add(time);
        }
        for timestamp in taken.whole {
            self.note_whole(arrived, Some(timestamp), figures);
        }
        if header.marker {
            self.note_delay(arrived, payload, figures);
        }
    }

    fn note_whole(&mut self, arrived: Duration, timestamp: Option<u32>, figures: &mut Figures) {
        figures.whole_frames += 1;
        self.picture.get_or_insert(arrived);
        self.note_freeze(arrived, figures);
        self.whole_last = Some(arrived);
        let watched = self.picture.map(|picture| arrived.saturating_sub(picture));
        if let Some(timestamp) = timestamp
            && watched >= Some(LEARN_AFTER)
        {
            self.interval.learn(timestamp);
        }
    }

    /// A picture that stands for more than three frame intervals is frozen.
    fn note_freeze(&self, now: Duration, figures: &mut Figures) {
        if let (Some(last), Some(interval)) = (self.whole_last, self.interval.known) {
            let stood = now.saturating_sub(last);
            if stood > interval * 3 {
                figures.freezes += 1;
                figures.frozen += stood;
                figures.freeze_longest = figures.freeze_longest.max(stood);
            }
        }
    }

    /// The last packet of a frame tells how long it took. What a viewer is sent of the past at its start does not count.
    fn note_delay(&mut self, arrived: Duration, payload: &[u8], figures: &mut Figures) {
        if !self.config.stamps || self.picture.is_none() {
            return;
        }
        let (Some(Stamp { sent, .. }), Some(interval)) = (Stamp::read(payload), self.interval.known) else {
            return;
        };
        let delay = arrived.saturating_sub(sent);
        match self.live_since {
            Some(since) if sent > since => {
                figures.delays.add(delay);
                figures.jitter.add(delay.abs_diff(self.delay_last));
                self.delay_last = delay;
            }
            None if delay < interval => {
                self.live_since = Some(sent);
                self.delay_last = delay;
            }
            _ => {}
        }
    }

    /// Throws the dice (xorshift, Marsaglia 2003).
    fn is_dropped(&mut self) -> bool {
        if self.config.loss <= 0.0 {
            return false;
        }
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        ((self.dice >> 11) as f64) < self.config.loss * (1_u64 << 53) as f64
    }
}

/// The time between frames, told or learned.
struct Interval {
    known: Option<Duration>,
    last: Option<u32>,
    steps: Vec<u32>,
}

impl Interval {
    fn new(known: Option<Duration>) -> Interval {
        Interval {
            known,
            last: None,
            steps: Vec::new(),
        }
    }

    fn learn(&mut self, timestamp: u32) {
        if self.known.is_some() {
            return;
        }
        let step = timestamp.wrapping_sub(self.last.replace(timestamp).unwrap_or(timestamp));
        // Not the same frame's, and less than a second.
        if (1..VIDEO_CLOCK).contains(&step) {
            self.steps.push(step);
        }
        if self.steps.len() >= STEPS {
            self.steps.sort_unstable();
            let median = f64::from(self.steps[STEPS / 2]);
            self.known = Some(Duration::from_secs_f64(median / f64::from(VIDEO_CLOCK)));
            self.steps = Vec::new();
        }
    }
}

/// Of a viewer's own reports.
pub(super) const SSRC: u32 = 1;
/// Without a picture so long after the first packet, a keyframe is asked for.
const PICTURE_WAIT: Duration = Duration::from_millis(200);
/// Between two such requests.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Ticks a second of every video codec's RTP clock.
const VIDEO_CLOCK: u32 = 90_000;
/// Until then the times of frames may be those of the past, squeezed together.
const LEARN_AFTER: Duration = Duration::from_secs(1);
/// So many frames tell the interval.
const STEPS: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn viewing(loss: f64, frame_interval: Option<Duration>) -> Viewing {
        let config = ViewingConfig {
            loss,
            audio_only: false,
            frame_interval,
            stamps: true,
        };
        Viewing::new(config, 1)
    }

    #[test]
    fn a_picture_that_stands_for_more_than_three_intervals_is_frozen() {
        let (mut viewing, mut figures) = (viewing(0.0, Some(Duration::from_millis(10))), Figures::default());
        for ms in [1_000, 1_010, 1_040, 1_071, 1_080] {
            viewing.note_whole(Duration::from_millis(ms), None, &mut figures);
        }
        assert_eq!((figures.whole_frames, figures.freezes), (5, 1));
        assert_eq!(figures.frozen, Duration::from_millis(31));
        viewing.finish(Duration::from_millis(1_200), true, &mut figures);
        assert_eq!(
            (figures.freezes, figures.freeze_longest),
            (2, Duration::from_millis(120))
        );
    }

    #[test]
    fn the_frame_interval_is_learned_over_the_wrap_of_the_clock() {
        let mut interval = Interval::new(None);
        for frame in 0..=30_u32 {
            interval.learn(u32::MAX.wrapping_add(frame * 3_600));
        }
        assert_eq!(interval.known, Some(Duration::from_millis(40)));
    }

    #[test]
    fn the_stated_share_is_thrown_away() {
        let mut viewing = viewing(0.02, None);
        let dropped = (0..100_000).filter(|_| viewing.is_dropped()).count();
        assert!((1_800..2_200).contains(&dropped), "{dropped}");
    }

    #[test]
    fn only_live_frames_tell_a_delay() {
        let (mut viewing, mut figures) = (viewing(0.0, Some(Duration::from_millis(33))), Figures::default());
        let mut at = |sent_ms, arrived_ms| {
            let mut payload = [0; 60];
            let sent = Duration::from_millis(sent_ms);
            Stamp { frame: 0, sent }.write(&mut payload);
            let arrived = Duration::from_millis(arrived_ms);
            viewing.picture.get_or_insert(arrived);
            viewing.note_delay(arrived, &payload, &mut figures);
        };
        at(1_000, 2_000);
        at(2_000, 2_001);
        at(2_033, 2_037);
        at(1_066, 2_040);
        let (delays, jitter) = (figures.delays.percentile(100.0), figures.jitter.percentile(100.0));
        assert_eq!((delays.as_millis(), jitter.as_millis()), (4, 3));
    }
}

//! Receive side of a viewer: decrypts media, checks it for gaps and times its frames. Without sockets or clock.

use std::time::Duration;

use super::frames::{Frames, Part};
use super::offer::Payload;
use super::stamp::Stamp;
use super::totals::Totals;
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::keyframe::starts_keyframe;
use onecast_rtc::rtp::rtcp::{write_nack, write_pli, write_receiver_report_empty};
use onecast_rtc::rtp::{RtpTime, Ssrc};
use onecast_rtc::srtp::Opener;

/// How viewers receive. The default is a viewer of another publisher's stream that sends feedback as browsers do.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiverConfig {
    /// Share of the video packets that is discarded and requested again.
    pub loss: f64,
    /// There is no video: each audio packet is a frame.
    pub audio_only: bool,
    /// Time between frames; `None` to learn it from the stream.
    pub frame_interval: Option<Duration>,
    /// The publisher stamps its packets, with this machine's clock.
    pub stamps: bool,
    /// Network delay that was added on purpose: a frame is live if it took at most this and one frame interval.
    pub one_way: Duration,
    /// Keep the delay of every frame.
    pub logs_frames: bool,
    /// RTCP that viewers send.
    pub feedback: Feedback,
}

/// RTCP that viewers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Feedback {
    /// Receiver reports every second, NACK and PLI.
    #[default]
    LikeBrowsers,
    /// One receiver report, which tells the server that the handshake is complete.
    FirstReport,
    /// Nothing.
    None,
}

/// How long the last packet of a frame took from the publisher to a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameDelay {
    /// Number of the frame.
    pub frame: u64,
    /// When the publisher sent it, since 1970.
    pub sent: Duration,
    /// The time until the viewer's kernel had it.
    pub delay: Duration,
}

/// What one viewer has received.
pub(super) struct MediaReceiver {
    config: ReceiverConfig,
    frames: Frames,
    video_ssrc: Option<Ssrc>,
    interval: FrameInterval,
    first_packet: Option<Duration>,
    whole_last: Option<Duration>,
    picture: Option<Duration>,
    /// The first live frame: when it arrived, and when it was sent.
    live: Option<(Duration, Duration)>,
    delay_last: Duration,
    log: Vec<FrameDelay>,
    keyframe_asked: Duration,
    random: u64,
}

impl MediaReceiver {
    /// A receiver that has received nothing; `number` is that of the viewer.
    pub(super) fn new(config: ReceiverConfig, number: u32) -> MediaReceiver {
        MediaReceiver {
            config,
            frames: Frames::default(),
            video_ssrc: None,
            interval: FrameInterval::new(config.frame_interval),
            first_packet: None,
            whole_last: None,
            picture: None,
            live: None,
            delay_last: Duration::ZERO,
            log: Vec::new(),
            keyframe_asked: Duration::ZERO,
            random: (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Handles a media packet that arrived at `arrived`.
    pub(super) fn handle_media(
        &mut self,
        arrived: Duration,
        opener: &mut Opener,
        header: &RtpHeader,
        kind: Payload,
        datagram: &mut [u8],
        totals: &mut Totals,
    ) {
        if kind != Payload::Audio && self.is_discarded() {
            totals.dropped_on_purpose += 1;
            return;
        }
        self.first_packet.get_or_insert(arrived);
        let opened = opener.open_rtp(datagram, header.len, header.ssrc, header.sequence);
        let payload = opened.ok().and_then(|len| header.payload(&datagram[..len]).ok());
        let Some(payload) = payload else {
            totals.unopened += 1;
            return;
        };
        match kind {
            Payload::Audio if self.config.audio_only => {
                self.note_whole(arrived, None, totals);
                self.note_delay(arrived, payload, totals);
            }
            Payload::Audio => {}
            Payload::Video(_) => {
                self.video_ssrc = Some(header.ssrc);
                self.handle_video(arrived, header.sequence, header, kind, payload, totals);
            }
            // RFC 4588 section 4: the payload starts with the original sequence number. Shorter payloads are padding.
            Payload::Rtx(_) => {
                if let Some((&[high, low], payload)) = payload.split_first_chunk() {
                    let sequence = u16::from_be_bytes([high, low]);
                    self.handle_video(arrived, sequence, header, kind, payload, totals);
                }
            }
        }
    }

    /// Feedback to seal and send: what is missing, and a keyframe request when there is no picture without one. Returns its length
    /// in `out`, 0 for none.
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

    /// When the first picture was complete.
    pub(super) fn picture(&self) -> Option<Duration> {
        self.picture
    }

    /// When the first live frame arrived.
    pub(super) fn caught_up(&self) -> Option<Duration> {
        self.live.map(|(arrived, _)| arrived)
    }

    /// Video has arrived.
    pub(super) fn has_video(&self) -> bool {
        self.video_ssrc.is_some()
    }

    /// The delay of each frame so far, if they are logged.
    pub(super) fn delays(&self) -> &[FrameDelay] {
        &self.log
    }

    /// Video packets that were lost, when nothing more comes.
    pub(super) fn finish(&mut self, now: Duration) -> u64 {
        self.frames.finish(now);
        self.frames.lost()
    }

    fn handle_video(
        &mut self,
        arrived: Duration,
        sequence: u16,
        header: &RtpHeader,
        kind: Payload,
        payload: &[u8],
        totals: &mut Totals,
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
            totals.repaired.add(time);
        }
        for timestamp in taken.whole {
            self.note_whole(arrived, Some(timestamp), totals);
        }
        if header.marker {
            self.note_delay(arrived, payload, totals);
        }
    }

    fn note_whole(&mut self, arrived: Duration, timestamp: Option<RtpTime>, totals: &mut Totals) {
        totals.whole_frames += 1;
        self.picture.get_or_insert(arrived);
        self.note_freeze(arrived, totals);
        self.whole_last = Some(arrived);
        let watched = self.picture.map(|picture| arrived.saturating_sub(picture));
        if let Some(timestamp) = timestamp
            && watched >= Some(LEARN_AFTER)
        {
            self.interval.learn(timestamp);
        }
    }

    /// A picture that does not change for more than three frame intervals is frozen.
    pub(super) fn note_freeze(&self, now: Duration, totals: &mut Totals) {
        if let (Some(last), Some(interval)) = (self.whole_last, self.interval.known) {
            let frozen = now.saturating_sub(last);
            if frozen > interval * 3 {
                totals.freezes += 1;
                totals.frozen += frozen;
                totals.freeze_longest = totals.freeze_longest.max(frozen);
            }
        }
    }

    /// The last packet of a frame shows how long the frame took. Frames of the past, which a viewer receives at its start, do not
    /// count.
    fn note_delay(&mut self, arrived: Duration, payload: &[u8], totals: &mut Totals) {
        if !self.config.stamps {
            return;
        }
        let (Some(Stamp { frame, sent }), Some(interval)) = (Stamp::read(payload), self.interval.known) else {
            return;
        };
        let delay = arrived.saturating_sub(sent);
        if self.config.logs_frames {
            self.log.push(FrameDelay { frame, sent, delay });
        }
        if self.picture.is_none() {
            return;
        }
        match self.live {
            Some((_, since)) if sent > since => {
                totals.delays.add(delay);
                totals.jitter.add(delay.abs_diff(self.delay_last));
                self.delay_last = delay;
            }
            None if delay < interval + self.config.one_way => {
                self.live = Some((arrived, sent));
                self.delay_last = delay;
            }
            _ => {}
        }
    }

    /// Decides by chance (xorshift, Marsaglia 2003).
    fn is_discarded(&mut self) -> bool {
        if self.config.loss <= 0.0 {
            return false;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 11) as f64) < self.config.loss * (1_u64 << 53) as f64
    }
}

/// The time between frames, configured or learned.
struct FrameInterval {
    known: Option<Duration>,
    last: Option<RtpTime>,
    steps: Vec<u32>,
}

impl FrameInterval {
    fn new(known: Option<Duration>) -> FrameInterval {
        FrameInterval {
            known,
            last: None,
            steps: Vec::new(),
        }
    }

    fn learn(&mut self, timestamp: RtpTime) {
        if self.known.is_some() {
            return;
        }
        let step = timestamp.ticks_since(self.last.replace(timestamp).unwrap_or(timestamp));
        // Skips the same frame, and gaps of a second and more.
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

/// Sender SSRC of the viewers' feedback.
pub(super) const SSRC: Ssrc = Ssrc(1);
/// Time from the first packet after which a viewer without a picture requests a keyframe.
const PICTURE_WAIT: Duration = Duration::from_millis(200);
/// Time between two such requests.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// RTP clock rate of every video codec, Hz.
const VIDEO_CLOCK: u32 = 90_000;
/// Earlier frames may be those of the past, which arrive faster than they were sent.
const LEARN_AFTER: Duration = Duration::from_secs(1);
/// Frames after which the interval is known.
const STEPS: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(loss: f64, frame_interval: Option<Duration>) -> MediaReceiver {
        let config = ReceiverConfig {
            loss,
            frame_interval,
            stamps: true,
            ..ReceiverConfig::default()
        };
        MediaReceiver::new(config, 1)
    }

    #[test]
    fn a_picture_unchanged_for_three_intervals_is_frozen() {
        let (mut receiver, mut totals) = (receiver(0.0, Some(Duration::from_millis(10))), Totals::default());
        for ms in [1_000, 1_010, 1_040, 1_071, 1_080] {
            receiver.note_whole(Duration::from_millis(ms), None, &mut totals);
        }
        assert_eq!((totals.whole_frames, totals.freezes), (5, 1));
        assert_eq!(totals.frozen, Duration::from_millis(31));
        receiver.note_freeze(Duration::from_millis(1_200), &mut totals);
        assert_eq!((totals.freezes, totals.freeze_longest), (2, Duration::from_millis(120)));
    }

    #[test]
    fn the_frame_interval_is_learned_across_a_timestamp_wrap() {
        let mut interval = FrameInterval::new(None);
        for frame in 0..=30_u32 {
            interval.learn(RtpTime(u32::MAX.wrapping_add(frame * 3_600)));
        }
        assert_eq!(interval.known, Some(Duration::from_millis(40)));
    }

    #[test]
    fn the_configured_share_is_discarded() {
        let mut receiver = receiver(0.02, None);
        let dropped = (0..100_000).filter(|_| receiver.is_discarded()).count();
        assert!((1_800..2_200).contains(&dropped), "{dropped}");
    }

    #[test]
    fn only_live_frames_count_for_the_delay() {
        let (mut receiver, mut totals) = (receiver(0.0, Some(Duration::from_millis(33))), Totals::default());
        let mut at = |sent_ms, arrived_ms| {
            let mut payload = [0; 60];
            let sent = Duration::from_millis(sent_ms);
            Stamp { frame: 0, sent }.write(&mut payload);
            let arrived = Duration::from_millis(arrived_ms);
            receiver.picture.get_or_insert(arrived);
            receiver.note_delay(arrived, &payload, &mut totals);
        };
        at(1_000, 2_000);
        at(2_000, 2_001);
        at(2_033, 2_037);
        at(1_066, 2_040);
        let (delays, jitter) = (totals.delays.percentile(100.0), totals.jitter.percentile(100.0));
        assert_eq!((delays.as_millis(), jitter.as_millis()), (4, 3));
    }
}

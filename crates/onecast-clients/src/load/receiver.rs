//! Receive side of a viewer: decrypts media, checks it for gaps and times its frames. Without sockets or clock.

use std::time::Duration;

use super::frames::{Frames, Part};
use super::offer::Payload;
use super::playback::{PictureSize, Playback, Score};
use super::reception::Reception;
use super::stamp::Stamp;
use super::totals::Totals;
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::keyframe::{picture_size, starts_keyframe};
use onecast_rtc::rtp::rtcp::{ReceptionBlock, write_nack, write_pli, write_receiver_report};
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
    /// Receiver reports every second, without blocks; NACK and PLI.
    #[default]
    LikeBrowsers,
    /// Receiver reports with a block about every stream, as often as browsers; NACK and PLI as behind a slow path.
    WithReports,
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
    /// With [`Feedback::WithReports`].
    receptions: Vec<Reception>,
    playback: Playback,
    /// Packets that it requested, each as often as it did.
    requested: u64,
}

impl MediaReceiver {
    /// A receiver that has received nothing; `number` is that of the viewer.
    pub(super) fn new(config: ReceiverConfig, number: u32) -> MediaReceiver {
        MediaReceiver {
            config,
            frames: match config.feedback {
                Feedback::WithReports => Frames::behind_a_path(),
                _ => Frames::default(),
            },
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
            receptions: Vec::new(),
            playback: Playback::default(),
            requested: 0,
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
        if self.config.feedback == Feedback::WithReports {
            self.count_reception(arrived, header, kind);
        }
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
        if !due.is_empty() {
            self.requested += due.len() as u64;
            let head = self.write_report(now, out);
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
        let head = self.write_report(now, out);
        head + write_pli(&mut out[head..], SSRC, media)
    }

    /// Writes a receiver report with a block about each stream; without blocks unless it sends [`Feedback::WithReports`]. Returns its
    /// length.
    pub(super) fn write_report(&mut self, now: Duration, out: &mut [u8]) -> usize {
        let blocks = self.receptions.iter_mut().filter_map(|reception| reception.report(now));
        let blocks: Vec<ReceptionBlock> = blocks.collect();
        write_receiver_report(out, SSRC, &blocks)
    }

    /// The time until the next report: as browsers report, rarely at first, and not at the same time as others.
    pub(super) fn report_interval(&mut self, connected: Duration) -> Duration {
        if connected < REPORTS_RARE {
            return REPORT_INTERVAL_RARE;
        }
        let chance = (self.next_random() >> 32) as f64 / f64::from(u32::MAX);
        REPORT_INTERVAL.mul_f64(0.75 + chance / 2.0)
    }

    /// Remembers a sender report of one of the streams.
    pub(super) fn handle_sender_report(&mut self, arrived: Duration, ssrc: Ssrc, ntp: u64) {
        let mut receptions = self.receptions.iter_mut();
        if let Some(reception) = receptions.find(|reception| reception.ssrc() == ssrc) {
            reception.handle_sender_report(arrived, ntp);
        }
    }

    /// What it has shown until `now`, and how many packets it requested; with [`Feedback::WithReports`].
    pub(super) fn score(&self, now: Duration, is_live: bool) -> (Score, u64) {
        (self.playback.clone().finish(now, is_live), self.requested)
    }

    fn count_reception(&mut self, arrived: Duration, header: &RtpHeader, kind: Payload) {
        let known = self
            .receptions
            .iter()
            .position(|reception| reception.ssrc() == header.ssrc);
        let place = match known {
            Some(place) => place,
            None if self.receptions.len() >= RECEPTIONS_MAX => return,
            None => {
                let clock = if kind == Payload::Audio {
                    AUDIO_CLOCK
                } else {
                    VIDEO_CLOCK
                };
                self.receptions.push(Reception::new(header.ssrc, clock));
                self.receptions.len() - 1
            }
        };
        self.receptions[place].handle_packet(arrived, header);
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
        let starts_keyframe = starts_keyframe(codec, payload);
        let size = picture_size(codec, payload).filter(|_| starts_keyframe);
        let part = Part {
            starts_keyframe,
            marker: header.marker,
            timestamp: header.timestamp,
            size: size.map(|(width, height)| PictureSize::new(width, height)),
        };
        let taken = self.frames.handle_packet(arrived, sequence, part);
        if let Some(time) = taken.repaired {
            totals.repaired.add(time);
        }
        for frame in taken.whole {
            self.note_whole(arrived, Some(frame.timestamp), totals);
            if self.config.feedback == Feedback::WithReports {
                self.playback.handle_frame(arrived, frame.keyframe);
            }
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

    /// Decides by chance.
    fn is_discarded(&mut self) -> bool {
        if self.config.loss <= 0.0 {
            return false;
        }
        ((self.next_random() >> 11) as f64) < self.config.loss * (1_u64 << 53) as f64
    }

    /// xorshift, Marsaglia 2003.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
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
/// RTP clock rate of Opus, Hz.
const AUDIO_CLOCK: u32 = 48_000;
/// Audio, video, RTX, and some whose publisher restarted; a report has room for 31.
const RECEPTIONS_MAX: usize = 8;
/// For so long after connecting, browsers report rarely.
const REPORTS_RARE: Duration = Duration::from_secs(5);
const REPORT_INTERVAL_RARE: Duration = Duration::from_secs(1);
/// Mean time between two reports of Chromium that does not use transport-wide feedback.
const REPORT_INTERVAL: Duration = Duration::from_millis(230);
/// Earlier frames may be those of the past, which arrive faster than they were sent.
const LEARN_AFTER: Duration = Duration::from_secs(1);
/// Frames after which the interval is known.
const STEPS: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::workload::write_vp8_sized;
    use onecast_rtc::DtlsRole;
    use onecast_rtc::rtp::header::HeaderOut;
    use onecast_rtc::rtp::rtcp::{self, Report};
    use onecast_rtc::rtp::{Codec, Pt};
    use onecast_rtc::srtp::{Profile, Sealer, SrtpKeys};

    fn receiver(loss: f64, frame_interval: Option<Duration>) -> MediaReceiver {
        let config = ReceiverConfig {
            loss,
            frame_interval,
            stamps: true,
            ..ReceiverConfig::default()
        };
        MediaReceiver::new(config, 1)
    }

    /// A sealed packet of video: a keyframe of one packet.
    fn keyframe(sealer: &mut Sealer, sequence: u16) -> (RtpHeader, Vec<u8>) {
        let mut datagram = vec![0; 200];
        let header = HeaderOut {
            marker: true,
            padding: false,
            payload_type: Pt(96),
            sequence,
            timestamp: RtpTime(u32::from(sequence) * 3_000),
            ssrc: Ssrc(7),
        };
        let header_len = header.write(&mut datagram, &[]);
        write_vp8_sized(true, true, (320, 180), &mut datagram[header_len..]);
        let len = sealer.seal_rtp(&mut datagram, header_len, 180, sequence.into());
        datagram.truncate(len);
        (RtpHeader::parse(&datagram).unwrap(), datagram)
    }

    #[test]
    fn reports_have_a_block_for_each_stream_and_the_pace_of_browsers() {
        let keys = |role| {
            let profile = Profile::AeadAes128Gcm;
            SrtpKeys::from_keying_material(profile, &vec![7; profile.keying_material_len()], role).unwrap()
        };
        let (mut sealer, mut opener) = (
            Sealer::new(&keys(DtlsRole::Server)),
            Opener::new(&keys(DtlsRole::Client)),
        );
        let config = ReceiverConfig {
            feedback: Feedback::WithReports,
            ..ReceiverConfig::default()
        };
        let (mut receiver, mut totals) = (MediaReceiver::new(config, 1), Totals::default());
        let at = |sequence: u16| Duration::from_millis(1_000 + 33 * u64::from(sequence));
        for sequence in [1, 2, 4] {
            let (header, mut datagram) = keyframe(&mut sealer, sequence);
            let kind = Payload::Video(Codec::Vp8);
            receiver.handle_media(at(sequence), &mut opener, &header, kind, &mut datagram, &mut totals);
        }
        receiver.handle_sender_report(at(4), Ssrc(7), 0x1_0000);
        let mut buffer = [0; 500];
        // A complete keyframe makes the repair pointless.
        assert_eq!(receiver.poll_feedback(at(4), &mut buffer), 0);
        let len = receiver.write_report(at(4), &mut buffer);
        let mut seen = Vec::new();
        rtcp::parse(&buffer[..len], |report| {
            if let Report::ReceiverReport {
                about,
                highest,
                lost,
                last_sr,
                ..
            } = report
            {
                seen.push((about, highest, lost, last_sr));
            }
        })
        .unwrap();
        assert_eq!(seen, [(Ssrc(7), 4, 1, 1)]);
        let (score, requested) = receiver.score(at(4), true);
        assert_eq!((score.frames, score.keyframes, requested), (3, 3, 0));
        assert_eq!(receiver.report_interval(Duration::from_secs(2)), REPORT_INTERVAL_RARE);
        let steady: Duration = (0..100).map(|_| receiver.report_interval(REPORTS_RARE)).sum();
        assert!((21_000..25_000).contains(&steady.as_millis()), "{steady:?}");
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

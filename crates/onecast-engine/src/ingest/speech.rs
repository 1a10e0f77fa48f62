//! Speech detection: the audio levels that clients attach to audio packets (RFC 6464) become beginnings and ends of speech.
//!
//! Loudness counts for as long as it lasts: a click is short, a syllable is followed by others.

use std::time::{Duration, Instant};

/// Detects whether the sender of one audio track speaks. A plain state machine.
#[derive(Debug, Default)]
pub struct SpeechDetector {
    /// Recent loudness as a duration: grows while the audio is loud, shrinks more slowly while it is not.
    loud_for: Duration,
    last_level_at: Option<Instant>,
    /// When it was last loud for longer than a click.
    loud_at: Option<Instant>,
    speaks: bool,
    /// The state that the last change reported.
    reported: bool,
    reported_at: Option<Instant>,
    /// The client has set the voice bit, so it distinguishes voice from noise.
    marks_voice: bool,
}

/// The loudness of one packet, as the header extension gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// Distance below the loudest possible level: 0 to 127 dB, 127 for silence.
    pub below: u8,
    /// The client considers it voice.
    pub voice: bool,
}

impl AudioLevel {
    /// Parses the extension's value (RFC 6464 section 3); `None` for an empty one. The two-byte form has a padding byte, which is
    /// ignored.
    ///
    /// ```text
    ///  0 1 2 3 4 5 6 7
    /// |V|    level    |
    /// ```
    pub fn parse(value: &[u8]) -> Option<AudioLevel> {
        let &first = value.first()?;
        Some(AudioLevel {
            below: first & 0x7f,
            voice: first & 0x80 != 0,
        })
    }
}

impl SpeechDetector {
    /// -50 dBov: speech near a microphone is between -15 and -40, a quiet room below -60.
    const LOUD: u8 = 50;
    /// Speech begins after this much loudness: longer than a click, shorter than a word.
    const ATTACK: Duration = Duration::from_millis(200);
    /// Speech ends this long after the last loudness: longer than the pauses between words.
    const RELEASE: Duration = Duration::from_secs(1);
    /// The accumulated loudness stops here, so that long speech does not delay its end.
    const LOUD_MAX: Duration = Duration::from_millis(400);
    /// Loudness of this length keeps speech going; less is a click.
    const SUSTAIN: Duration = Duration::from_millis(60);
    /// A packet counts for at most this long: a longer gap before it was silence that was not sent (DTX).
    const PACKET_MAX: Duration = Duration::from_millis(60);
    /// The first packet counts for this long.
    const PACKET: Duration = Duration::from_millis(20);
    /// Shortest time between two reported changes.
    const REPORT_INTERVAL: Duration = Duration::from_millis(300);

    /// Takes the level of a packet.
    pub fn handle_level(&mut self, now: Instant, level: AudioLevel) {
        self.marks_voice |= level.voice;
        let since = self.last_level_at.map(|last| now.saturating_duration_since(last));
        let lasted = since.unwrap_or(SpeechDetector::PACKET).min(SpeechDetector::PACKET_MAX);
        let silence = since.unwrap_or_default().saturating_sub(SpeechDetector::PACKET_MAX);
        self.last_level_at = Some(now);
        self.loud_for = self.loud_for.saturating_sub(silence / 2);
        if level.below <= SpeechDetector::LOUD && (level.voice || !self.marks_voice) {
            self.loud_for = (self.loud_for + lasted).min(SpeechDetector::LOUD_MAX);
            if self.loud_for >= SpeechDetector::SUSTAIN {
                self.loud_at = Some(now);
            }
        } else {
            self.loud_for = self.loud_for.saturating_sub(lasted / 2);
        }
        self.speaks |= self.loud_for >= SpeechDetector::ATTACK;
        self.handle_timeout(now);
    }

    /// Lets time pass. Speech also ends when no packets arrive any more.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.speaks && self.loud_at.is_none_or(|loud| now >= loud + SpeechDetector::RELEASE) {
            self.speaks = false;
            self.loud_for = Duration::ZERO;
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_change`](Self::poll_change) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ends = self
            .loud_at
            .filter(|_| self.speaks)
            .map(|loud| loud + SpeechDetector::RELEASE);
        let reported_at = self.reported_at.filter(|_| self.speaks != self.reported);
        let reports = reported_at.map(|at| at + SpeechDetector::REPORT_INTERVAL);
        ends.into_iter().chain(reports).min()
    }

    /// Whether speech has begun (`true`) or ended since the last reported change; at most one change every 300 ms.
    pub fn poll_change(&mut self, now: Instant) -> Option<bool> {
        let may_report = self
            .reported_at
            .is_none_or(|at| now >= at + SpeechDetector::REPORT_INTERVAL);
        if self.speaks == self.reported || !may_report {
            return None;
        }
        self.reported = self.speaks;
        self.reported_at = Some(now);
        Some(self.reported)
    }

    /// The audio track ended.
    pub fn end(&mut self) {
        self.speaks = false;
        self.loud_for = Duration::ZERO;
        self.loud_at = None;
        self.last_level_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn level(below: u8) -> AudioLevel {
        AudioLevel { below, voice: false }
    }

    struct Scene {
        speech: SpeechDetector,
        start: Instant,
        now: Instant,
        changes: Vec<(u64, bool)>,
    }

    impl Scene {
        fn new() -> Scene {
            let now = onecast_udp::clock::now();
            Scene {
                speech: SpeechDetector::default(),
                start: now,
                now,
                changes: Vec::new(),
            }
        }

        /// Packets of 20 ms for `time` milliseconds.
        fn hear(&mut self, time: u64, level: AudioLevel) {
            for _ in 0..time / 20 {
                self.speech.handle_level(self.now, level);
                self.poll();
                self.pass(20);
            }
        }

        /// No packets, only deadlines.
        fn pass(&mut self, time: u64) {
            let end = self.now + ms(time);
            while let Some(at) = self.speech.poll_timeout().filter(|at| *at < end) {
                self.now = self.now.max(at);
                self.speech.handle_timeout(self.now);
                self.poll();
            }
            self.now = end;
        }

        fn poll(&mut self) {
            if let Some(speaks) = self.speech.poll_change(self.now) {
                self.changes.push(((self.now - self.start).as_millis() as u64, speaks));
            }
        }
    }

    #[test]
    fn speech_begins_after_a_fifth_of_a_second_and_ends_a_second_after_the_last_word() {
        let mut scene = Scene::new();
        scene.hear(1_000, level(80));
        scene.hear(2_000, level(30));
        scene.hear(3_000, level(80));
        assert_eq!(scene.changes, [(1_180, true), (3_980, false)]);
    }

    #[test]
    fn clicks_neither_begin_nor_prolong_speech() {
        let mut scene = Scene::new();
        for _ in 0..20 {
            scene.hear(40, level(10));
            scene.hear(460, level(90));
        }
        assert_eq!(scene.changes, []);
        scene.hear(600, level(20));
        scene.hear(900, level(90));
        for _ in 0..5 {
            scene.hear(20, level(10));
            scene.hear(480, level(90));
        }
        assert_eq!(scene.changes.len(), 2, "{:?}", scene.changes);
    }

    #[test]
    fn pauses_between_words_do_not_end_speech() {
        let mut scene = Scene::new();
        for _ in 0..10 {
            scene.hear(400, level(35));
            scene.hear(500, level(75));
        }
        assert_eq!(scene.changes, [(180, true)]);
    }

    #[test]
    fn a_track_that_stops_sending_ends_its_speech() {
        let mut scene = Scene::new();
        scene.hear(500, level(30));
        scene.pass(5_000);
        assert_eq!(scene.changes, [(180, true), (1_480, false)]);
        scene.hear(300, level(30));
        assert_eq!(scene.changes.len(), 3, "and begins again: {:?}", scene.changes);
    }

    #[test]
    fn the_voice_bit_of_a_client_that_sets_it_is_trusted() {
        let mut scene = Scene::new();
        let voice = AudioLevel { below: 30, voice: true };
        scene.hear(400, voice);
        scene.hear(3_000, level(30));
        assert_eq!(scene.changes, [(180, true), (1_380, false)]);
    }

    #[test]
    fn changes_are_reported_at_most_every_300_ms() {
        let mut scene = Scene::new();
        scene.hear(200, level(30));
        scene.speech.end();
        scene.poll();
        assert_eq!(scene.changes, [(180, true)]);
        scene.pass(1_000);
        assert_eq!(scene.changes, [(180, true), (480, false)]);
    }

    #[test]
    fn the_extension_has_one_or_two_bytes() {
        let read = |value: &[u8]| AudioLevel::parse(value).map(|level| (level.below, level.voice));
        assert_eq!(read(&[0x80 | 30]), Some((30, true)));
        assert_eq!(read(&[127, 0]), Some((127, false)));
        assert_eq!(read(&[]), None);
    }
}

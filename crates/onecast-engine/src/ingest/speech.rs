//! Who speaks: the audio levels that clients write beside their audio (RFC 6464) become a beginning and an end of speech.
//!
//! Loudness counts for as long as it lasts: a click is short, a syllable is followed by others.

use std::time::{Duration, Instant};

/// Whether the sender of one audio track speaks. A plain state machine.
#[derive(Debug, Default)]
pub struct Speech {
    /// How long it has been loud of late: grows while it is, shrinks more slowly while it is not.
    loud_for: Duration,
    heard_at: Option<Instant>,
    /// When it was loud for the last time, and not for a moment only.
    loud_at: Option<Instant>,
    speaks: bool,
    told: bool,
    told_at: Option<Instant>,
    /// The client has set the voice bit: it tells voice from noise.
    tells_voice: bool,
}

/// The value of the extension: the loudness of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// Below the loudest there is: 0 to 127 -dBov, 127 for silence.
    pub below: u8,
    /// The client takes it for voice.
    pub voice: bool,
}

impl AudioLevel {
    /// Reads the extension's value (RFC 6464 section 3); `None` for an empty one. The two-byte form pads with a byte that says nothing.
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

impl Speech {
    /// -50 dBov: speech near a microphone is between -15 and -40, a quiet room below -60.
    const LOUD: u8 = 50;
    /// How long it must be loud: longer than a click, shorter than a word.
    const ATTACK: Duration = Duration::from_millis(200);
    /// What loudness is forgotten after: the pauses between words are not an end.
    const RELEASE: Duration = Duration::from_secs(1);
    /// No more of it is kept, so that an end is not put off by much speech before it.
    const LOUD_MAX: Duration = Duration::from_millis(400);
    /// Loudness of this length keeps speech going; less of it is a click.
    const GOES_ON: Duration = Duration::from_millis(60);
    /// A packet stands for no more than this: what came before it was silence that was not sent (DTX).
    const PACKET_MAX: Duration = Duration::from_millis(60);
    /// The first packet stands for this much.
    const PACKET: Duration = Duration::from_millis(20);
    /// Between two changes that are told.
    const TOLD_INTERVAL: Duration = Duration::from_millis(300);

    /// Takes the level of a packet.
    pub fn handle_level(&mut self, now: Instant, level: AudioLevel) {
        self.tells_voice |= level.voice;
        let since = self.heard_at.map(|heard| now.saturating_duration_since(heard));
        let lasted = since.unwrap_or(Speech::PACKET).min(Speech::PACKET_MAX);
        let silence = since.unwrap_or_default().saturating_sub(Speech::PACKET_MAX);
        self.heard_at = Some(now);
        self.loud_for = self.loud_for.saturating_sub(silence / 2);
        if level.below <= Speech::LOUD && (level.voice || !self.tells_voice) {
            self.loud_for = (self.loud_for + lasted).min(Speech::LOUD_MAX);
            if self.loud_for >= Speech::GOES_ON {
                self.loud_at = Some(now);
            }
        } else {
            self.loud_for = self.loud_for.saturating_sub(lasted / 2);
        }
        self.speaks |= self.loud_for >= Speech::ATTACK;
        self.handle_timeout(now);
    }

    /// Lets time pass: speech ends also when nothing comes any more.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.speaks && self.loud_at.is_none_or(|loud| now >= loud + Speech::RELEASE) {
            self.speaks = false;
            self.loud_for = Duration::ZERO;
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_change`](Self::poll_change) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ends = self.loud_at.filter(|_| self.speaks).map(|loud| loud + Speech::RELEASE);
        let tells = self.told_at.filter(|_| self.speaks != self.told);
        let tells = tells.map(|told| told + Speech::TOLD_INTERVAL);
        ends.into_iter().chain(tells).min()
    }

    /// Whether speech has begun or ended since the last call that told so; at most every 300 ms.
    pub fn poll_change(&mut self, now: Instant) -> Option<bool> {
        let may_tell = self.told_at.is_none_or(|told| now >= told + Speech::TOLD_INTERVAL);
        if self.speaks == self.told || !may_tell {
            return None;
        }
        self.told = self.speaks;
        self.told_at = Some(now);
        Some(self.told)
    }

    /// The audio is no more.
    pub fn end(&mut self) {
        self.speaks = false;
        self.loud_for = Duration::ZERO;
        self.loud_at = None;
        self.heard_at = None;
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
        speech: Speech,
        start: Instant,
        now: Instant,
        told: Vec<(u64, bool)>,
    }

    impl Scene {
        fn new() -> Scene {
            let now = onecast_udp::clock::now();
            Scene {
                speech: Speech::default(),
                start: now,
                now,
                told: Vec::new(),
            }
        }

        /// Packets of 20 ms for so long.
        fn hear(&mut self, time: u64, level: AudioLevel) {
            for _ in 0..time / 20 {
                self.speech.handle_level(self.now, level);
                self.poll();
                self.pass(20);
            }
        }

        /// Nothing comes, only deadlines.
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
                self.told.push(((self.now - self.start).as_millis() as u64, speaks));
            }
        }
    }

    #[test]
    fn speech_begins_after_a_fifth_of_a_second_and_ends_a_second_after_the_last_word() {
        let mut scene = Scene::new();
        scene.hear(1_000, level(80));
        scene.hear(2_000, level(30));
        scene.hear(3_000, level(80));
        assert_eq!(scene.told, [(1_180, true), (3_980, false)]);
    }

    #[test]
    fn clicks_are_no_speech_and_keep_none_going() {
        let mut scene = Scene::new();
        for _ in 0..20 {
            scene.hear(40, level(10));
            scene.hear(460, level(90));
        }
        assert_eq!(scene.told, []);
        scene.hear(600, level(20));
        scene.hear(900, level(90));
        for _ in 0..5 {
            scene.hear(20, level(10));
            scene.hear(480, level(90));
        }
        assert_eq!(scene.told.len(), 2, "{:?}", scene.told);
    }

    #[test]
    fn pauses_between_words_are_no_end() {
        let mut scene = Scene::new();
        for _ in 0..10 {
            scene.hear(400, level(35));
            scene.hear(500, level(75));
        }
        assert_eq!(scene.told, [(180, true)]);
    }

    #[test]
    fn a_track_that_falls_silent_without_a_word_ends_too() {
        let mut scene = Scene::new();
        scene.hear(500, level(30));
        scene.pass(5_000);
        assert_eq!(scene.told, [(180, true), (1_480, false)]);
        scene.hear(300, level(30));
        assert_eq!(scene.told.len(), 3, "and begins again: {:?}", scene.told);
    }

    #[test]
    fn who_tells_voice_from_noise_is_believed() {
        let mut scene = Scene::new();
        let voice = AudioLevel { below: 30, voice: true };
        scene.hear(400, voice);
        scene.hear(3_000, level(30));
        assert_eq!(scene.told, [(180, true), (1_380, false)]);
    }

    #[test]
    fn changes_are_told_at_most_every_300_ms() {
        let mut scene = Scene::new();
        scene.hear(200, level(30));
        scene.speech.end();
        scene.poll();
        assert_eq!(scene.told, [(180, true)]);
        scene.pass(1_000);
        assert_eq!(scene.told, [(180, true), (480, false)]);
    }

    #[test]
    fn the_extension_is_one_byte_and_maybe_a_second() {
        let read = |value: &[u8]| AudioLevel::parse(value).map(|level| (level.below, level.voice));
        assert_eq!(read(&[0x80 | 30]), Some((30, true)));
        assert_eq!(read(&[127, 0]), Some((127, false)));
        assert_eq!(read(&[]), None);
    }
}

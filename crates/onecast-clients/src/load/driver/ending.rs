//! The end of a run: measures losses, ends the sessions, and fills the report.

use std::time::Duration;

use reqwest::Url;

use super::turn::TURN;
use super::{Driver, Stop};
use crate::load::process::Usage;
use crate::load::report::ServerUse;
use onecast_udp::clock;

impl Driver<'_> {
    /// Finds out what each viewer lost, in groups: this process could not read the media of all viewers at once.
    pub(super) fn measure(&mut self) -> Result<(), Stop> {
        for places in self.pool.places().chunks(MEASURED_AT_ONCE) {
            for &place in places {
                self.pool.measure(place)?;
            }
            while places.iter().any(|place| self.pool.is_measured(*place) == Some(false)) {
                self.turn_media(TURN)?;
            }
        }
        Ok(())
    }

    /// Ends all sessions as real clients do.
    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
        let end = clock::now() + GOODBYES_MAX;
        let is_live = !self.server_is_gone;
        for place in self.pool.places() {
            self.turn_leaving(Duration::ZERO);
            while self.deleting >= DELETING_MAX && clock::now() < end {
                self.turn_leaving(TURN);
            }
            let session = self.pool.leave(place, is_live);
            self.delete(session);
        }
        if let Some(mut publisher) = self.publisher.take() {
            publisher.close(clock::now());
            self.report.publisher = Some(publisher.counts());
            if self.args.layers().is_simulcast() {
                self.report.layers = publisher.layers();
            }
        }
        let session = self.publisher_session.take();
        self.delete(session);
        while self.deleting > 0 && clock::now() < end {
            self.turn_leaving(TURN);
        }
    }

    /// Errors no longer matter while leaving.
    fn turn_leaving(&mut self, limit: Duration) {
        let _ = self.turn_media(limit);
        let _ = self.take_outcomes();
    }

    pub(super) fn delete(&mut self, session: Option<Url>) {
        if let Some(session) = session
            && !self.server_is_gone
        {
            self.signaller.leave(session);
            self.deleting += 1;
        }
    }

    pub(super) fn usage(&self) -> [Option<Usage>; 2] {
        [self.args.pid.and_then(Usage::of), Usage::own()]
    }

    pub(super) fn note_usage(&mut self, before: [Option<Usage>; 2], held: Duration, delivered: u64) {
        let after = self.usage();
        let held = held.as_secs_f64().max(1e-9);
        let used = |which: usize| Some(after[which]?.cpu.saturating_sub(before[which]?.cpu).as_secs_f64());
        self.report.seconds = held;
        self.report.load_cpu_percent = used(1).map(|cpu| cpu / held * 100.0);
        self.report.server = after[0].zip(used(0)).map(|(after, cpu)| ServerUse {
            cpu_percent: cpu / held * 100.0,
            ns_per_packet_viewer: (delivered > 0).then(|| cpu * 1e9 / delivered as f64),
            resident_bytes: after.resident_bytes,
        });
    }

    pub(super) fn finish(&mut self) {
        self.report.fill(&self.pool.totals);
        if let Some(classes) = &self.args.paths {
            self.report.fill_paths(classes, &self.pool.totals);
        }
        let counts = self.report.viewers;
        let mut say = |count: u64, words: String| {
            if count > 0 {
                self.report.troubles.push(words);
            }
        };
        let refusal = self.refusal.take().unwrap_or_default();
        say(
            counts.refused,
            format!("{} viewers were refused; the first: {refusal}", counts.refused),
        );
        say(
            counts.failed,
            format!(
                "{} viewers were answered, but completed no ICE and DTLS handshake within 10 s",
                counts.failed
            ),
        );
        say(counts.ended, format!("{} viewers lost their session", counts.ended));
        let is_silent = counts.joined > 0 && self.report.packets.delivered == 0;
        say(u64::from(is_silent), "no media arrived; is the stream live?".to_owned());
    }
}

/// This process reads their backlog of a frame interval in a few milliseconds.
const MEASURED_AT_ONCE: usize = 200;
/// DELETE requests in flight at once.
const DELETING_MAX: u32 = 64;
/// Time for all DELETE requests.
const GOODBYES_MAX: Duration = Duration::from_secs(20);

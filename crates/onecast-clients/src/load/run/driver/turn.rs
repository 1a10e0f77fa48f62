//! What is done over and over: media, outcomes of signalling, replacements, progress.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Driver, LoadError, Stop};
use crate::load::run::desk::{Granted, Outcome, Who};
use crate::load::run::source::Source;
use onecast_udp::clock;

impl Driver<'_> {
    pub(super) fn post(&mut self) {
        self.desk.join(Who::Viewer(self.posted));
        self.posted += 1;
        self.pending += 1;
    }

    /// Whoever has been there for a while; it leaves when it is known what it lost.
    pub(super) fn let_one_leave(&mut self) -> Result<(), Stop> {
        let place = self.crew.connected_from(self.next_leaver).next();
        if let Some(place) = place {
            // Apart from each other, so that verified viewers leave as often as others.
            self.next_leaver = place + 1;
            self.crew.measure(place)?;
            self.leavers.push(place);
        }
        Ok(())
    }

    fn replace_leavers(&mut self) {
        for place in std::mem::take(&mut self.leavers) {
            match self.crew.is_measured(place) {
                Some(false) => self.leavers.push(place),
                Some(true) => {
                    self.crew.figures.left += 1;
                    let session = self.crew.leave(place, true);
                    self.delete(session);
                    self.post();
                }
                // It lost its session meanwhile.
                None => {}
            }
        }
    }

    pub(super) fn turn(&mut self) -> Result<(), Stop> {
        if self.stop.load(Ordering::Relaxed) {
            return self.end_early("the run was interrupted".to_owned());
        }
        self.turn_media(TURN)?;
        self.take_outcomes()?;
        self.replace_leavers();
        if self.crew.is_empty() && self.crew.figures.ended > 0 && self.pending == 0 {
            self.server_is_gone = true;
            return self.end_early("no viewer has a session any more: the server ended them, or is gone".to_owned());
        }
        self.show_progress();
        Ok(())
    }

    pub(super) fn turn_media(&mut self, patience: Duration) -> Result<(), Stop> {
        let due = self.source.as_ref().map(Source::poll_timeout);
        let due = due.map(|due| due.saturating_duration_since(clock::now()));
        let patience = due.map_or(patience, |due| due.min(patience));
        for session in self.crew.turn(patience)? {
            self.delete(Some(session));
        }
        let Some(source) = self.source.as_mut().filter(|_| !self.server_is_gone) else {
            return Ok(());
        };
        let was_connected = source.is_connected();
        if let Err(error) = source.turn(clock::now()) {
            self.server_is_gone = true;
            let words = format!("the server ended the publisher's session, or is gone: {error}");
            return match was_connected {
                true => self.end_early(words),
                false => Err(LoadError::Refused(words).into()),
            };
        }
        Ok(())
    }

    pub(super) fn take_outcomes(&mut self) -> Result<(), Stop> {
        while let Some(outcome) = self.desk.poll_outcome() {
            match outcome {
                Outcome::Retrying => self.crew.figures.retried += 1,
                Outcome::Left { taken } => {
                    self.deleting -= 1;
                    self.crew.figures.goodbyes_failed += u64::from(!taken);
                }
                Outcome::Granted(granted) if self.is_leaving => {
                    self.pending = self.pending.saturating_sub(1);
                    self.delete(granted.session);
                }
                Outcome::Granted(granted) if granted.who == Who::Publisher => self.start_source(*granted)?,
                Outcome::Granted(granted) => {
                    self.pending -= 1;
                    self.crew.admit(*granted)?;
                }
                Outcome::Refused(Who::Publisher, error) => return Err(LoadError::Refused(error.to_string()).into()),
                Outcome::Refused(Who::Viewer(_), error) => {
                    self.pending -= 1;
                    self.crew.figures.refused += 1;
                    self.refusal.get_or_insert_with(|| error.to_string());
                }
            }
        }
        Ok(())
    }

    fn start_source(&mut self, granted: Granted) -> Result<(), Stop> {
        let (workload, obeys) = (self.args.workload, self.args.obey_keyframe_requests);
        let source = Source::open(&granted, workload, obeys, self.certificate.clone(), clock::now())?;
        self.source_registered = self.crew.watch(&source.socket)?;
        self.source = Some(source);
        self.publisher_session = granted.session;
        Ok(())
    }

    fn end_early(&mut self, words: String) -> Result<(), Stop> {
        self.report.troubles.push(words);
        Err(Stop::Early)
    }

    fn show_progress(&mut self) {
        let now = clock::now();
        let since = now.saturating_duration_since(self.told);
        if !self.shows_progress || since < PROGRESS {
            return;
        }
        let delivered = self.crew.delivered();
        let rate = delivered.saturating_sub(self.delivered_told) as f64 / since.as_secs_f64();
        let figures = &self.crew.figures;
        eprintln!(
            "{:>4} s  {} of {} viewers, {rate:.0} packets/s, {} freezes, {} refused, {} ended",
            now.saturating_duration_since(self.started).as_secs(),
            self.crew.len(),
            self.args.viewers,
            figures.freezes,
            figures.refused,
            figures.ended,
        );
        (self.told, self.delivered_told) = (now, delivered);
    }
}

/// The longest wait for something to come; the desk ends it too.
pub(super) const TURN: Duration = Duration::from_millis(5);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);

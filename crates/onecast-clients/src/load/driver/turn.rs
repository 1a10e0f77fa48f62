//! One iteration of a run: media, results of signalling, replacements, progress.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Driver, LoadError, Stop};
use crate::load::publisher::{LoadPublisher, PublisherConfig};
use crate::load::signalling::{Admitted, ClientId, Outcome};
use onecast_udp::clock;

impl Driver<'_> {
    pub(super) fn post(&mut self) {
        self.signaller.join(ClientId::Viewer(self.posted));
        self.posted += 1;
        self.pending += 1;
    }

    /// Picks the next viewer in turn; it leaves when its losses are known.
    pub(super) fn let_one_leave(&mut self) -> Result<(), Stop> {
        let place = self.pool.connected_from(self.next_leaver).next();
        if let Some(place) = place {
            // Not the oldest first, so that verified viewers leave as often as others.
            self.next_leaver = place + 1;
            self.pool.measure(place)?;
            self.leavers.push(place);
        }
        Ok(())
    }

    fn replace_leavers(&mut self) {
        for place in std::mem::take(&mut self.leavers) {
            match self.pool.is_measured(place) {
                Some(false) => self.leavers.push(place),
                Some(true) => {
                    self.pool.totals.left += 1;
                    let session = self.pool.leave(place, true);
                    self.delete(session);
                    self.post();
                }
                // It lost its session in the meantime.
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
        if self.pool.is_empty() && self.pool.totals.ended > 0 && self.pending == 0 {
            self.server_is_gone = true;
            return self.end_early("no viewer has a session any more: the server ended them, or is gone".to_owned());
        }
        self.show_progress();
        Ok(())
    }

    pub(super) fn turn_media(&mut self, limit: Duration) -> Result<(), Stop> {
        let due = self.publisher.as_ref().map(LoadPublisher::poll_timeout);
        let due = due.map(|due| due.saturating_duration_since(clock::now()));
        let limit = due.map_or(limit, |due| due.min(limit));
        for session in self.pool.turn(limit)? {
            self.delete(Some(session));
        }
        let Some(publisher) = self.publisher.as_mut().filter(|_| !self.server_is_gone) else {
            return Ok(());
        };
        let was_connected = publisher.is_connected();
        if let Err(error) = publisher.turn(clock::now()) {
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
        while let Some(outcome) = self.signaller.poll_outcome() {
            match outcome {
                Outcome::Retrying => self.pool.totals.retried += 1,
                Outcome::Left { accepted } => {
                    self.deleting -= 1;
                    self.pool.totals.goodbyes_failed += u64::from(!accepted);
                }
                Outcome::Admitted(admitted) if self.is_leaving => {
                    self.pending = self.pending.saturating_sub(1);
                    self.delete(admitted.session);
                }
                Outcome::Admitted(admitted) if admitted.client == ClientId::Publisher => {
                    self.start_publisher(*admitted)?
                }
                Outcome::Admitted(admitted) => {
                    self.pending -= 1;
                    let is_verified = self.pool.verified() < self.args.verified_viewers() as usize;
                    self.pool.admit(*admitted, is_verified)?;
                }
                Outcome::Refused(ClientId::Publisher, error) => {
                    return Err(LoadError::Refused(error.to_string()).into());
                }
                Outcome::Refused(ClientId::Viewer(_), error) => {
                    self.pending -= 1;
                    self.pool.totals.refused += 1;
                    self.refusal.get_or_insert_with(|| error.to_string());
                }
            }
        }
        Ok(())
    }

    fn start_publisher(&mut self, admitted: Admitted) -> Result<(), Stop> {
        let workload = self.args.workload;
        let config = PublisherConfig {
            video: workload.video(),
            frame_interval: workload.frame_interval(),
            has_audio: workload.has_audio(),
            obeys_requests: self.args.obey_keyframe_requests,
            layers: self.args.layers(),
        };
        let mut publisher = LoadPublisher::open(&admitted, config, self.certificate.clone(), clock::now())?;
        publisher.start(clock::now());
        self.publisher_registered = self.pool.watch(&publisher.socket)?;
        self.publisher = Some(publisher);
        self.publisher_session = admitted.session;
        Ok(())
    }

    fn end_early(&mut self, words: String) -> Result<(), Stop> {
        self.report.troubles.push(words);
        Err(Stop::Early)
    }

    fn show_progress(&mut self) {
        let now = clock::now();
        let since = now.saturating_duration_since(self.reported);
        if !self.shows_progress || since < PROGRESS {
            return;
        }
        let delivered = self.pool.delivered();
        let rate = delivered.saturating_sub(self.delivered_reported) as f64 / since.as_secs_f64();
        let totals = &self.pool.totals;
        eprintln!(
            "{:>4} s  {} of {} viewers, {rate:.0} packets/s, {} freezes, {} refused, {} ended",
            now.saturating_duration_since(self.started).as_secs(),
            self.pool.len(),
            self.args.viewers,
            totals.freezes,
            totals.refused,
            totals.ended,
        );
        (self.reported, self.delivered_reported) = (now, delivered);
    }
}

/// The longest wait for a datagram. Results of signalling end it, too.
pub(super) const TURN: Duration = Duration::from_millis(5);
/// Time between two progress lines.
const PROGRESS: Duration = Duration::from_secs(1);

//! The course of a run: publish, join, hold, measure, leave.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Url;

use super::args::LoadArgs;
use super::crew::{Crew, CrewConfig};
use super::desk::{Desk, DeskConfig, Granted, Outcome, Who};
use super::process::Usage;
use super::report::{Report, ServerUse, ViewerCounts};
use super::source::Source;
use super::viewing::ViewingConfig;
use super::workload::Workload;
use crate::client::signal::SignalError;
use crate::clock;
use crate::net::raise_open_files;
use crate::peer::Certificate;

/// Why a load cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server would not have the publisher or the first viewer, or the URL is none.
    #[error("{0}")]
    Refused(String),
    /// There was an answer, but no connection.
    #[error("{who} had an answer, but no ICE and DTLS handshake with {media} within 10 s")]
    NoHandshake {
        /// Publisher or viewer.
        who: &'static str,
        /// Where it tried.
        media: String,
    },
    /// The system lets us open too few sockets.
    #[error(
        "{viewers} viewers need {needed} open files, and the limit is {limit}: raise it (ulimit -n), or take fewer viewers"
    )]
    OpenFiles {
        /// As asked for.
        viewers: u32,
        /// What they take.
        needed: u64,
        /// What there is.
        limit: u64,
    },
    /// The process of `--pid` cannot be read.
    #[error("there is no process {0} whose CPU time can be read")]
    Process(u32),
    /// The system fails us.
    #[error("this machine cannot carry the load: {0}")]
    System(#[from] io::Error),
}

impl From<SignalError> for LoadError {
    fn from(error: SignalError) -> LoadError {
        LoadError::Refused(error.to_string())
    }
}

/// Why a run is over before its time.
enum Stop {
    /// Nothing was measured.
    CannotRun(LoadError),
    /// It was; the reason is among the troubles.
    Early,
}

impl From<LoadError> for Stop {
    fn from(error: LoadError) -> Stop {
        Stop::CannotRun(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::CannotRun(error.into())
    }
}

/// A run.
pub(super) struct Driver<'a> {
    args: &'a LoadArgs,
    desk: Desk,
    crew: Crew,
    source: Option<Source>,
    certificate: Certificate,
    stop: Arc<AtomicBool>,
    shows_progress: bool,
    report: Report,
    /// Offers posted so far, and those without an outcome.
    posted: u32,
    pending: u32,
    deleting: u32,
    /// The first refusal of a viewer.
    refusal: Option<String>,
    publisher_session: Option<Url>,
    source_registered: Option<mio::net::UdpSocket>,
    server_is_gone: bool,
    started: Instant,
    told: Instant,
    delivered_told: u64,
    /// Where the next viewer that leaves is looked for.
    next_leaver: usize,
    /// Places of viewers that will leave as soon as it is known what they lost.
    leavers: Vec<usize>,
}

impl<'a> Driver<'a> {
    /// Prepares a run; nothing is sent yet.
    ///
    /// # Errors
    /// When an URL cannot be used, the process of `--pid` is not there, or the system has too little.
    pub(super) fn new(
        args: &'a LoadArgs,
        stop: Arc<AtomicBool>,
        shows_progress: bool,
    ) -> Result<Driver<'a>, LoadError> {
        let needed = u64::from(args.viewers) + FILES_BESIDE;
        // Half as many again, for the HTTP connections of a server that is slow to answer.
        if let Some(limit) = raise_open_files(needed + needed / 2)?
            && limit < needed
        {
            let viewers = args.viewers;
            return Err(LoadError::OpenFiles { viewers, needed, limit });
        }
        if let Some(pid) = args.pid {
            Usage::of(pid).ok_or(LoadError::Process(pid))?;
        }
        let certificate = Certificate::generate().map_err(io::Error::other)?;
        let publishes = args.whip.is_some();
        let crew = Crew::new(CrewConfig {
            viewing: ViewingConfig {
                loss: args.loss,
                audio_only: args.workload == Workload::Audio,
                frame_interval: publishes.then(|| args.workload.frame_interval()),
                stamps: publishes,
            },
            certificate: certificate.clone(),
            verified: args.verified_viewers() as usize,
        })?;
        let desk = Desk::open(DeskConfig {
            whep: args.whep.clone(),
            whip: args.whip.clone(),
            token: args.token.clone(),
            certificate: certificate.clone(),
            workload: args.workload,
            waker: crew.waker()?,
        })?;
        let now = clock::now();
        Ok(Driver {
            report: Report {
                whep: args.whep.clone(),
                whip: args.whip.clone(),
                workload: args.workload.name(),
                viewers: ViewerCounts {
                    wanted: args.viewers,
                    verified: args.verified_viewers(),
                    ..ViewerCounts::default()
                },
                ..Report::default()
            },
            args,
            desk,
            crew,
            source: None,
            certificate,
            stop,
            shows_progress,
            posted: 0,
            pending: 0,
            deleting: 0,
            refusal: None,
            publisher_session: None,
            source_registered: None,
            server_is_gone: false,
            started: now,
            told: now,
            delivered_told: 0,
            next_leaver: 0,
            leavers: Vec::new(),
        })
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub(super) fn run(mut self) -> Result<Report, LoadError> {
        let outcome = self.go();
        if let Err(Stop::CannotRun(error)) = outcome {
            self.leave();
            return Err(error);
        }
        if !self.server_is_gone {
            // When the server goes away just now, what could not be measured is said to be unknown.
            let _ = self.measure();
        }
        self.leave();
        self.finish();
        Ok(self.report)
    }

    fn go(&mut self) -> Result<(), Stop> {
        self.publish()?;
        self.scout()?;
        self.ramp()?;
        self.hold()
    }

    fn publish(&mut self) -> Result<(), Stop> {
        if self.args.whip.is_none() {
            return Ok(());
        }
        self.desk.join(Who::Publisher);
        while self.source.is_none() {
            self.turn()?;
        }
        let patience = clock::now() + HANDSHAKE_MAX;
        while self.source.as_ref().is_some_and(|source| !source.is_connected()) {
            self.turn()?;
            if clock::now() > patience {
                let media = self.source.as_ref().and_then(|source| source.socket.peer_addr().ok());
                let media = media.map(|media| media.to_string()).unwrap_or_default();
                let who = "the publisher";
                return Err(LoadError::NoHandshake { who, media }.into());
            }
        }
        // Some servers know a stream only from its first media on.
        self.wait(SETTLE)
    }

    /// One viewer goes first: a server that refuses is asked once, not a thousand times.
    fn scout(&mut self) -> Result<(), Stop> {
        self.post();
        while self.pending > 0 {
            self.turn()?;
        }
        match self.refusal.take() {
            Some(words) => Err(LoadError::Refused(words).into()),
            None => Ok(()),
        }
    }

    fn ramp(&mut self) -> Result<(), Stop> {
        let start = clock::now();
        while self.posted < self.args.viewers {
            self.turn()?;
            let due = clock::now().saturating_duration_since(start).as_secs_f64() * self.args.ramp;
            while self.posted < self.args.viewers && f64::from(self.posted) < 1.0 + due {
                self.post();
            }
        }
        while self.pending > 0 || self.crew.is_connecting() {
            self.turn()?;
        }
        Ok(())
    }

    fn hold(&mut self) -> Result<(), Stop> {
        let start = clock::now();
        let (before, delivered) = (self.usage(), self.crew.delivered());
        let outcome = self.watch_until(start + self.args.limit);
        let held = clock::now().saturating_duration_since(start);
        let delivered = self.crew.delivered().saturating_sub(delivered);
        self.note_usage(before, held, delivered);
        outcome
    }

    fn watch_until(&mut self, end: Instant) -> Result<(), Stop> {
        let start = clock::now();
        let churn = self.args.churn * f64::from(self.args.viewers);
        let mut left = 0_u32;
        while clock::now() < end {
            self.turn()?;
            let due = clock::now().saturating_duration_since(start).as_secs_f64() * churn;
            while f64::from(left + 1) <= due {
                left += 1;
                self.let_one_leave()?;
            }
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<(), Stop> {
        let end = clock::now() + time;
        while clock::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    fn post(&mut self) {
        self.desk.join(Who::Viewer(self.posted));
        self.posted += 1;
        self.pending += 1;
    }

    /// Whoever has been there for a while; it leaves when it is known what it lost.
    fn let_one_leave(&mut self) -> Result<(), Stop> {
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

    fn turn(&mut self) -> Result<(), Stop> {
        if self.stop.load(Ordering::Relaxed) {
            return self.end_early("the run was interrupted".to_owned());
        }
        self.turn_media()?;
        self.take_outcomes()?;
        self.replace_leavers();
        if self.crew.is_empty() && self.crew.figures.ended > 0 && self.pending == 0 {
            self.server_is_gone = true;
            return self.end_early("no viewer has a session any more: the server ended them, or is gone".to_owned());
        }
        self.show_progress();
        Ok(())
    }

    fn turn_media(&mut self) -> Result<(), Stop> {
        let now = clock::now();
        let due = self.source.as_ref().map(Source::poll_timeout);
        let patience = due.map_or(TURN, |due| due.saturating_duration_since(now).min(TURN));
        for session in self.crew.turn(patience)? {
            self.delete(Some(session));
        }
        let Some(source) = &mut self.source else { return Ok(()) };
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

    fn take_outcomes(&mut self) -> Result<(), Stop> {
        while let Some(outcome) = self.desk.poll_outcome() {
            match outcome {
                Outcome::Retrying => self.crew.figures.retried += 1,
                Outcome::Left { taken } => {
                    self.deleting -= 1;
                    self.crew.figures.goodbyes_failed += u64::from(!taken);
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

    /// Finds out what each viewer lost, some at a time: all at once would be more than this process can read.
    fn measure(&mut self) -> Result<(), Stop> {
        for places in self.crew.places().chunks(MEASURED_AT_ONCE) {
            for &place in places {
                self.crew.measure(place)?;
            }
            while places.iter().any(|place| self.crew.is_measured(*place) == Some(false)) {
                self.turn_media()?;
            }
        }
        Ok(())
    }

    /// Everybody leaves, as real clients do.
    fn leave(&mut self) {
        let end = clock::now() + GOODBYES_MAX;
        let is_live = !self.server_is_gone;
        for place in self.crew.places() {
            while self.deleting >= DELETING_MAX && clock::now() < end {
                self.turn_leaving();
            }
            let session = self.crew.leave(place, is_live);
            self.delete(session);
        }
        if let Some(source) = &mut self.source {
            source.close(clock::now());
        }
        let session = self.publisher_session.take();
        self.delete(session);
        while self.deleting > 0 && clock::now() < end {
            self.turn_leaving();
        }
    }

    /// Errors of a server that is left anyway do not matter.
    fn turn_leaving(&mut self) {
        let _ = self.turn_media();
        let _ = self.take_outcomes();
    }

    fn delete(&mut self, session: Option<Url>) {
        if let Some(session) = session
            && !self.server_is_gone
        {
            self.desk.leave(session);
            self.deleting += 1;
        }
    }

    fn usage(&self) -> [Option<Usage>; 2] {
        [self.args.pid.and_then(Usage::of), Usage::own()]
    }

    fn note_usage(&mut self, before: [Option<Usage>; 2], held: Duration, delivered: u64) {
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

    fn finish(&mut self) {
        self.report.fill(&self.crew.figures);
        self.report.publisher = self.source.as_ref().map(Source::counts);
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
                "{} viewers had an answer, but no ICE and DTLS handshake within 10 s",
                counts.failed
            ),
        );
        say(counts.ended, format!("{} viewers lost their session", counts.ended));
        let is_silent = counts.joined > 0 && self.report.packets.delivered == 0;
        say(u64::from(is_silent), "no media came; is somebody live?".to_owned());
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
const TURN: Duration = Duration::from_millis(5);
/// As for viewers.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// From the first media to the first viewer.
const SETTLE: Duration = Duration::from_secs(1);
/// Their backlog of a frame interval is read in a few milliseconds.
const MEASURED_AT_ONCE: usize = 200;
/// Goodbyes on their way at once.
const DELETING_MAX: u32 = 64;
/// For all goodbyes.
const GOODBYES_MAX: Duration = Duration::from_secs(20);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);
/// Files that are open besides the viewers' sockets, connections for signalling among them.
const FILES_BESIDE: u64 = 128;

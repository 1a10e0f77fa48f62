//! The course of a run: publish, join, hold, measure, leave.

mod ending;
mod turn;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use reqwest::Url;

use super::args::LoadArgs;
use super::crew::{Crew, CrewConfig};
use super::desk::{Desk, DeskConfig, Who};
use super::report::{Report, ViewerCounts};
use super::source::Source;
use super::viewing::ViewingConfig;
use crate::load::process::Usage;
use crate::load::workload::Workload;
use crate::signal::SignalError;
use onecast_rtc::Certificate;
use onecast_udp::clock;
use onecast_udp::raise_open_files;

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
    is_leaving: bool,
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
            is_leaving: false,
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
}

/// As for viewers.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// From the first media to the first viewer.
const SETTLE: Duration = Duration::from_secs(1);
/// Files that are open besides the viewers' sockets, connections for signalling among them.
const FILES_BESIDE: u64 = 128;

//! The phases of a run: publish, join, watch, measure, leave.

mod ending;
mod turn;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use reqwest::Url;

use super::args::LoadArgs;
use super::process::Usage;
use super::publisher::LoadPublisher;
use super::receiver::ReceiverConfig;
use super::report::{Report, ViewerCounts};
use super::signalling::{ClientId, Signaller, SignallerConfig};
use super::viewer_pool::{PoolConfig, ViewerPool};
use super::workload::Workload;
use crate::signal::SignalError;
use onecast_rtc::Certificate;
use onecast_udp::clock;
use onecast_udp::raise_open_files;

/// Why a load cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server refused the publisher or the first viewer, or the URL is invalid.
    #[error("{0}")]
    Refused(String),
    /// The offer was answered, but the client did not connect.
    #[error("{who} was answered, but completed no ICE and DTLS handshake with {media} within 10 s")]
    NoHandshake {
        /// Publisher or viewer.
        who: &'static str,
        /// Where it tried.
        media: String,
    },
    /// The system permits too few sockets.
    #[error(
        "{viewers} viewers need {needed} open files, but the limit is {limit}: raise it (ulimit -n), or use fewer viewers"
    )]
    OpenFiles {
        /// As requested.
        viewers: u32,
        /// Files that they need.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// The process of `--pid` cannot be read.
    #[error("there is no process {0} whose CPU time can be read")]
    Process(u32),
    /// A system call failed.
    #[error("this machine cannot carry the load: {0}")]
    System(#[from] io::Error),
}

impl From<SignalError> for LoadError {
    fn from(error: SignalError) -> LoadError {
        LoadError::Refused(error.to_string())
    }
}

/// Why a run ends early.
enum Stop {
    /// Nothing was measured.
    CannotRun(LoadError),
    /// The totals so far are valid; the reason is among the troubles.
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
    signaller: Signaller,
    pool: ViewerPool,
    publisher: Option<LoadPublisher>,
    certificate: Certificate,
    stop: Arc<AtomicBool>,
    shows_progress: bool,
    report: Report,
    /// Offers posted so far, and those without a result.
    posted: u32,
    pending: u32,
    deleting: u32,
    /// The first refusal of a viewer.
    refusal: Option<String>,
    publisher_session: Option<Url>,
    publisher_registered: Option<mio::net::UdpSocket>,
    server_is_gone: bool,
    is_leaving: bool,
    started: Instant,
    reported: Instant,
    delivered_reported: u64,
    /// Where the search for the next viewer that leaves starts.
    next_leaver: usize,
    /// Places of viewers that leave as soon as their losses are known.
    leavers: Vec<usize>,
}

impl<'a> Driver<'a> {
    /// Prepares a run; nothing is sent yet.
    ///
    /// # Errors
    /// When a URL cannot be used, the process of `--pid` does not exist, or the system permits too few sockets.
    pub(super) fn new(
        args: &'a LoadArgs,
        stop: Arc<AtomicBool>,
        shows_progress: bool,
    ) -> Result<Driver<'a>, LoadError> {
        check_resources(args)?;
        let certificate = Certificate::generate().map_err(io::Error::other)?;
        let pool = ViewerPool::new(pool_config(args, certificate.clone()))?;
        let signaller = Signaller::open(SignallerConfig {
            whep: args.whep.clone(),
            whip: args.whip.clone(),
            token: args.token.clone(),
            certificate: certificate.clone(),
            workload: args.workload,
            layers: args.layers(),
            waker: pool.waker()?,
        })?;
        let now = clock::now();
        Ok(Driver {
            report: empty_report(args),
            args,
            signaller,
            pool,
            publisher: None,
            certificate,
            stop,
            shows_progress,
            posted: 0,
            pending: 0,
            deleting: 0,
            refusal: None,
            publisher_session: None,
            publisher_registered: None,
            server_is_gone: false,
            is_leaving: false,
            started: now,
            reported: now,
            delivered_reported: 0,
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
            // If the server disappears now, losses that were not measured are reported as unknown.
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
        self.signaller.join(ClientId::Publisher);
        while self.publisher.is_none() {
            self.turn()?;
        }
        let deadline = clock::now() + HANDSHAKE_MAX;
        while self
            .publisher
            .as_ref()
            .is_some_and(|publisher| !publisher.is_connected())
        {
            self.turn()?;
            if clock::now() > deadline {
                let media = self
                    .publisher
                    .as_ref()
                    .and_then(|publisher| publisher.socket.peer_addr().ok());
                let media = media.map(|media| media.to_string()).unwrap_or_default();
                let who = "the publisher";
                return Err(LoadError::NoHandshake { who, media }.into());
            }
        }
        // Some servers create a stream only when its first media arrives.
        self.wait(SETTLE)
    }

    /// Joins one viewer first, so that a server that refuses is asked once, not a thousand times.
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
        while self.pending > 0 || self.pool.connecting() > 0 {
            self.turn()?;
        }
        Ok(())
    }

    fn hold(&mut self) -> Result<(), Stop> {
        let start = clock::now();
        let (before, delivered) = (self.usage(), self.pool.delivered());
        let outcome = self.watch_until(start + self.args.limit);
        let held = clock::now().saturating_duration_since(start);
        let delivered = self.pool.delivered().saturating_sub(delivered);
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

/// Checks that the system permits enough sockets, and that the process of `--pid` exists.
fn check_resources(args: &LoadArgs) -> Result<(), LoadError> {
    let needed = u64::from(args.viewers) + FILES_BESIDE;
    // Half as many more, for HTTP connections when the server answers slowly.
    if let Some(limit) = raise_open_files(needed + needed / 2)?
        && limit < needed
    {
        let viewers = args.viewers;
        return Err(LoadError::OpenFiles { viewers, needed, limit });
    }
    match args.pid {
        Some(pid) => Usage::of(pid).map(drop).ok_or(LoadError::Process(pid)),
        None => Ok(()),
    }
}

fn pool_config(args: &LoadArgs, certificate: Certificate) -> PoolConfig {
    let publishes = args.whip.is_some();
    PoolConfig {
        receiver: ReceiverConfig {
            loss: args.loss,
            audio_only: args.workload == Workload::Audio,
            frame_interval: publishes.then(|| args.workload.frame_interval()),
            stamps: publishes,
            ..ReceiverConfig::default()
        },
        certificate,
        until_picture: true,
        paths: args.paths.clone().unwrap_or_default(),
    }
}

fn empty_report(args: &LoadArgs) -> Report {
    Report {
        whep: args.whep.clone(),
        whip: args.whip.clone(),
        workload: args.workload.name(),
        viewers: ViewerCounts {
            wanted: args.viewers,
            verified: args.verified_viewers(),
            ..ViewerCounts::default()
        },
        ..Report::default()
    }
}

/// The longest a publisher may take to connect; as for viewers.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Time between the first media and the first viewer.
const SETTLE: Duration = Duration::from_secs(1);
/// Open files besides the viewers' sockets, such as signalling connections.
const FILES_BESIDE: u64 = 128;

//! A publisher by itself, without viewers, that a test drives.

use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use reqwest::Url;

use super::LoadError;
use super::layers::LayerSet;
use super::publisher::{LoadPublisher, PublisherConfig};
use super::signalling::{Admitted, ClientId, Outcome, Signaller, SignallerConfig};
use super::workload::Workload;
use onecast_rtc::Certificate;
use onecast_udp::clock;

/// What a publisher publishes, and where.
#[derive(Debug, Clone)]
pub struct SoloConfig {
    /// WHIP endpoint.
    pub whip: String,
    /// Bearer token.
    pub token: Option<String>,
    /// What is published.
    pub workload: Workload,
    /// The layers of the video, and the program that is imitated.
    pub layers: LayerSet,
    /// Answers keyframe requests with a keyframe; layers of a browser always do.
    pub obeys_requests: bool,
}

/// A connected publisher. Its calls block and send while they do, so it needs a thread of its own in an asynchronous program, also to be
/// dropped.
///
/// ```no_run
/// use std::time::Duration;
///
/// use onecast_clients::load::layers::{LayerSet, SenderKind};
/// use onecast_clients::load::solo::{SoloConfig, SoloPublisher};
///
/// let config = SoloConfig {
///     layers: LayerSet::new(SenderKind::Obs, 3),
///     ..SoloConfig::new("http://127.0.0.1:8080/whip/live")
/// };
/// let mut obs = SoloPublisher::connect(&config)?;
/// obs.send_for(Duration::from_secs(5))?;
/// assert!(obs.publisher().layers().iter().all(|layer| layer.packets > 0));
/// obs.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SoloPublisher {
    signaller: Signaller,
    poll: Poll,
    events: Events,
    publisher: LoadPublisher,
    session: Option<Url>,
}

impl SoloConfig {
    /// A publisher of workload W1 without layers.
    pub fn new(whip: &str) -> SoloConfig {
        SoloConfig {
            whip: whip.to_owned(),
            token: None,
            workload: Workload::W1,
            layers: LayerSet::SINGLE,
            obeys_requests: false,
        }
    }

    fn publisher(&self) -> PublisherConfig {
        PublisherConfig {
            video: self.workload.video(),
            frame_interval: self.workload.frame_interval(),
            has_audio: self.workload.has_audio(),
            obeys_requests: self.obeys_requests,
            layers: self.layers,
        }
    }
}

impl SoloPublisher {
    /// Posts the offer and connects. Nothing is sent yet.
    ///
    /// # Errors
    /// When the server refuses the offer, when OBS would refuse the answer, or without a handshake within 10 s.
    pub fn connect(config: &SoloConfig) -> Result<SoloPublisher, LoadError> {
        let certificate = Certificate::generate().map_err(io::Error::other)?;
        let poll = Poll::new()?;
        let signaller = Signaller::open(SignallerConfig {
            whep: config.whip.clone(),
            whip: Some(config.whip.clone()),
            token: config.token.clone(),
            certificate: certificate.clone(),
            workload: config.workload,
            layers: config.layers,
            waker: Waker::new(poll.registry(), WAKER)?,
        })?;
        let (mut poll, mut events) = (poll, Events::with_capacity(1));
        let admitted = admission(&signaller, &mut poll, &mut events)?;
        let publisher = LoadPublisher::open(&admitted, config.publisher(), certificate, clock::now())?;
        let mut solo = SoloPublisher {
            signaller,
            poll,
            events,
            publisher,
            session: admitted.session,
        };
        match solo.turn_until(HANDSHAKE_MAX, LoadPublisher::is_connected)? {
            true => Ok(solo),
            false => Err(LoadError::NoHandshake {
                who: "the publisher",
                media: admitted.accepted.media.to_string(),
            }),
        }
    }

    /// Sends for a while.
    ///
    /// # Errors
    /// When the server ended the session.
    pub fn send_for(&mut self, time: Duration) -> io::Result<()> {
        self.send_until(time, |_| false).map(drop)
    }

    /// Sends until `is_done`, at most for a while. Returns whether it is done.
    ///
    /// # Errors
    /// When the server ended the session.
    pub fn send_until(&mut self, limit: Duration, is_done: impl Fn(&LoadPublisher) -> bool) -> io::Result<bool> {
        self.publisher.start(clock::now());
        let is_done = self.turn_until(limit, is_done)?;
        self.publisher.pause();
        Ok(is_done)
    }

    /// What it has sent and received so far.
    pub fn publisher(&self) -> &LoadPublisher {
        &self.publisher
    }

    /// The publisher, to stop and resume layers.
    pub fn publisher_mut(&mut self) -> &mut LoadPublisher {
        &mut self.publisher
    }

    /// Ends the session, as real clients do.
    pub fn close(mut self) {
        self.publisher.close(clock::now());
        let Some(session) = self.session.take() else { return };
        self.signaller.leave(session);
        let end = clock::now() + HANDSHAKE_MAX;
        while self.signaller.poll_outcome().is_none() && clock::now() < end {
            let _ = wait(&mut self.poll, &mut self.events, TURN);
        }
    }

    /// Receives and sends until `is_done`.
    fn turn_until(&mut self, limit: Duration, is_done: impl Fn(&LoadPublisher) -> bool) -> io::Result<bool> {
        let end = clock::now() + limit;
        while clock::now() < end {
            self.publisher.turn(clock::now())?;
            if is_done(&self.publisher) {
                return Ok(true);
            }
            let due = self.publisher.poll_timeout().saturating_duration_since(clock::now());
            wait(&mut self.poll, &mut self.events, due.min(TURN))?;
        }
        Ok(false)
    }
}

/// Posts the offer and waits for the answer.
fn admission(signaller: &Signaller, poll: &mut Poll, events: &mut Events) -> Result<Admitted, LoadError> {
    signaller.join(ClientId::Publisher);
    loop {
        match signaller.poll_outcome() {
            Some(Outcome::Admitted(admitted)) => return Ok(*admitted),
            Some(Outcome::Refused(_, error)) => return Err(LoadError::Refused(error.to_string())),
            _ => wait(poll, events, TURN)?,
        }
    }
}

fn wait(poll: &mut Poll, events: &mut Events, limit: Duration) -> io::Result<()> {
    match poll.poll(events, Some(limit)) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

const WAKER: Token = Token(0);
/// The longest a publisher may take to connect, and to leave.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// The longest wait; datagrams that arrive are read after it.
const TURN: Duration = Duration::from_millis(5);

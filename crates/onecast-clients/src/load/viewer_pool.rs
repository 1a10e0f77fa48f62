//! All viewers of a load on their sockets, driven by one thread. The kernel counts and drops the media of viewers that need no more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Registry, Token, Waker};
use reqwest::Url;

use super::kernel::{drop_rtp, open_socket};
use super::path::{ModelledPath, PathClasses};
use super::receiver::{Feedback, ReceiverConfig};
use super::signalling::{Admitted, ClientId};
use super::totals::{PathTotals, Totals};
use super::viewer::{LoadViewer, ViewerParams};
use onecast_rtc::Certificate;
use onecast_udp::clock;
use onecast_udp::socket::DATAGRAM_IN_MAX;
use onecast_udp::{dropped, receive_stamped, stamp_arrivals};

/// Viewers that are connecting or connected.
pub struct ViewerPool {
    poll: Poll,
    events: Events,
    viewers: Vec<Option<PooledViewer>>,
    free: Vec<usize>,
    config: PoolConfig,
    /// Counted over all viewers.
    pub totals: Totals,
    /// Frames of unverified viewers, which look only until their first picture: not reported.
    discarded: Totals,
    scanned: Instant,
    /// Viewers that have each class of path.
    taken: Vec<u32>,
    /// When the next datagram on the path of a viewer is delivered, since 1970, and the viewer's place.
    deliveries: BinaryHeap<Reverse<(Duration, usize)>>,
}

/// What all viewers of a pool have in common.
pub struct PoolConfig {
    /// How they receive.
    pub receiver: ReceiverConfig,
    /// They share a certificate.
    pub certificate: Certificate,
    /// Unverified viewers receive until their first picture. Otherwise the kernel drops their media from the start.
    pub until_picture: bool,
    /// Paths that are modelled between the server and the viewers, all of which must be verified then. Without classes there are none.
    pub paths: PathClasses,
}

struct PooledViewer {
    socket: UdpSocket,
    viewer: LoadViewer,
    session: Option<Url>,
    phase: Phase,
    path: Option<ViewerPath>,
    /// The poll's registration, on systems where it must be kept.
    _registered: Option<mio::net::UdpSocket>,
}

/// The path of a viewer in the pool.
struct ViewerPath {
    /// Index of its class.
    class: usize,
    path: ModelledPath,
    /// The time of delivery that the pool knows.
    scheduled: Option<Duration>,
}

/// What happens to a viewer's media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The viewer reads it.
    Receiving,
    /// The kernel drops it. The socket had dropped `before` datagrams already, for lack of space.
    Dropping { before: u32 },
    /// The viewer reads it again until it has the last sequence numbers.
    Measuring { before: u32, dropped: u32, until: Instant },
    /// The losses are known, or cannot be known.
    Measured {
        before: u32,
        dropped: u32,
        lost: Option<u64>,
    },
}

impl ViewerPool {
    /// An empty pool.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(config: PoolConfig) -> io::Result<ViewerPool> {
        Ok(ViewerPool {
            poll: Poll::new()?,
            events: Events::with_capacity(1_024),
            viewers: Vec::new(),
            free: Vec::new(),
            totals: Totals {
                paths: vec![PathTotals::default(); config.paths.as_slice().len()],
                ..Totals::default()
            },
            taken: vec![0; config.paths.as_slice().len()],
            deliveries: BinaryHeap::new(),
            config,
            discarded: Totals::default(),
            scanned: clock::now(),
        })
    }

    /// Interrupts the wait of [`turn`](Self::turn) from another thread.
    ///
    /// # Errors
    /// Those of the system.
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Lets datagrams on this socket, too, interrupt the wait.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn watch(&self, socket: &UdpSocket) -> io::Result<Option<mio::net::UdpSocket>> {
        register(self.poll.registry(), socket, OTHER)
    }

    /// Adds a viewer whose offer was answered, and begins to connect it. Returns its place.
    ///
    /// # Errors
    /// Those of the system.
    pub fn admit(&mut self, admitted: Admitted, is_verified: bool) -> io::Result<usize> {
        let ClientId::Viewer(number) = admitted.client else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let socket = open_socket(admitted.accepted.media)?;
        stamp_arrivals(&socket)?;
        let place = self.free.pop().unwrap_or_else(|| {
            self.viewers.push(None);
            self.viewers.len() - 1
        });
        let registered = register(self.poll.registry(), &socket, Token(place))?;
        let receives = is_verified || self.config.until_picture;
        let phase = if receives {
            Phase::Receiving
        } else {
            drop_rtp(&socket)?;
            Phase::Dropping { before: 0 }
        };
        let params = ViewerParams {
            number,
            ice: admitted.ice,
            accepted: &admitted.accepted,
            certificate: self.config.certificate.clone(),
            posted: admitted.posted,
            answered: admitted.answered,
            is_verified,
            receives,
        };
        let now = clock::now();
        let (path, receiver) = self.next_path();
        let mut pooled = PooledViewer {
            viewer: LoadViewer::new(params, receiver, now),
            socket,
            session: admitted.session,
            phase,
            path,
            _registered: registered,
        };
        pooled.turn(now);
        self.viewers[place] = Some(pooled);
        Ok(place)
    }

    /// The path of the next viewer, and how that viewer receives.
    fn next_path(&mut self) -> (Option<ViewerPath>, ReceiverConfig) {
        let receiver = self.config.receiver;
        let Some(class) = self.config.paths.next(&self.taken) else {
            return (None, receiver);
        };
        self.taken[class] += 1;
        let facts = self.config.paths.as_slice()[class];
        let path = ViewerPath {
            class,
            path: ModelledPath::new(facts),
            scheduled: None,
        };
        let behind_it = ReceiverConfig {
            one_way: receiver.one_way + facts.delay,
            feedback: Feedback::WithReports,
            ..receiver
        };
        (Some(path), behind_it)
    }

    /// Waits at most `limit` for datagrams, handles them, and does what is due. Returns sessions to delete: those of viewers whose
    /// handshake failed.
    ///
    /// # Errors
    /// Those of the system.
    pub fn turn(&mut self, limit: Duration) -> io::Result<Vec<Url>> {
        let limit = self.until_delivery(limit);
        match self.poll.poll(&mut self.events, Some(limit)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &self.events {
            let place = event.token().0;
            if let Some(Some(pooled)) = self.viewers.get_mut(place) {
                pooled.read(&mut self.totals, &mut self.discarded);
                let due = pooled.path.as_mut().and_then(ViewerPath::schedule);
                self.deliveries.extend(due.map(|due| Reverse((due, place))));
            }
        }
        self.deliver();
        let now = clock::now();
        if now.saturating_duration_since(self.scanned) < SCAN {
            return Ok(vec![]);
        }
        self.scanned = now;
        self.scan(now)
    }

    /// `limit`, or less when a datagram on a path is delivered before that.
    fn until_delivery(&self, limit: Duration) -> Duration {
        let next = self.deliveries.peek().map(|Reverse((due, _))| due);
        next.map_or(limit, |due| due.saturating_sub(clock::unix_time()).min(limit))
    }

    /// Hands the datagrams to the viewers that their paths have delivered by now.
    fn deliver(&mut self) {
        let now = clock::unix_time();
        while let Some(&Reverse((due, place))) = self.deliveries.peek()
            && due <= now
        {
            self.deliveries.pop();
            let Some(Some(pooled)) = self.viewers.get_mut(place) else {
                continue;
            };
            // Otherwise this is of a viewer that has left, or no longer the next delivery.
            if pooled.path.as_ref().is_some_and(|path| path.scheduled == Some(due)) {
                pooled.deliver(now, &mut self.totals);
                let next = pooled.path.as_mut().and_then(ViewerPath::schedule);
                self.deliveries.extend(next.map(|due| Reverse((due, place))));
            }
        }
    }

    /// Viewers in the pool.
    pub fn len(&self) -> usize {
        self.viewers.len() - self.free.len()
    }

    /// The pool has no viewers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All viewers.
    pub fn viewers(&self) -> impl Iterator<Item = &LoadViewer> {
        self.viewers.iter().flatten().map(|pooled| &pooled.viewer)
    }

    /// The viewer at a place; `None` when it has left.
    pub fn viewer(&self, place: usize) -> Option<&LoadViewer> {
        Some(&self.viewers.get(place)?.as_ref()?.viewer)
    }

    /// Viewers that have not finished their handshake.
    pub fn connecting(&self) -> usize {
        self.viewers().filter(|viewer| !viewer.is_connected()).count()
    }

    /// Verified viewers.
    pub fn verified(&self) -> usize {
        self.viewers().filter(|viewer| viewer.is_verified()).count()
    }

    /// Media packets that arrived at all viewers, including those that have left.
    pub fn delivered(&self) -> u64 {
        let present = self.viewers.iter().flatten();
        self.totals.delivered + present.map(PooledViewer::delivered).sum::<u64>()
    }

    /// Places of the connected viewers, starting at `start` and wrapping around.
    pub(super) fn connected_from(&self, start: usize) -> impl Iterator<Item = usize> + '_ {
        let count = self.viewers.len();
        let places = (0..count).map(move |offset| (start + offset) % count.max(1));
        places.filter(|place| {
            let pooled = self.viewers[*place].as_ref();
            pooled.is_some_and(|pooled| pooled.viewer.is_connected() && !pooled.is_leaving())
        })
    }

    /// Places of all viewers.
    pub(super) fn places(&self) -> Vec<usize> {
        let taken = self.viewers.iter().enumerate().filter(|(_, pooled)| pooled.is_some());
        taken.map(|(place, _)| place).collect()
    }

    /// From now on the kernel drops the viewer's media.
    ///
    /// # Errors
    /// Those of the system.
    pub fn ignore_media(&mut self, place: usize) -> io::Result<()> {
        match self.viewers.get_mut(place) {
            Some(Some(pooled)) => pooled.ignore_media(),
            _ => Ok(()),
        }
    }

    /// Lets the viewer receive once more to find out what it lost. Then it may leave.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn measure(&mut self, place: usize) -> io::Result<()> {
        match self.viewers.get_mut(place) {
            Some(Some(pooled)) => pooled.measure(clock::now()),
            _ => Ok(()),
        }
    }

    /// Whether [`measure`](Self::measure) has finished; `None` when it was not called for the viewer at this place.
    pub(super) fn is_measured(&self, place: usize) -> Option<bool> {
        let pooled = self.viewers.get(place)?.as_ref()?;
        let is_measured = matches!(pooled.phase, Phase::Measured { .. });
        pooled.is_leaving().then_some(is_measured)
    }

    /// Removes the viewer with a close_notify and adds what it counted to the totals. Returns the session to delete. `is_live`: the
    /// publisher is still sending.
    pub fn leave(&mut self, place: usize, is_live: bool) -> Option<Url> {
        let mut pooled = self.viewers.get_mut(place)?.take()?;
        self.free.push(place);
        pooled.read(&mut self.totals, &mut self.discarded);
        pooled.deliver(clock::unix_time(), &mut self.totals);
        if let Some(path) = &pooled.path {
            self.taken[path.class] -= 1;
        }
        pooled.settle(is_live, &mut self.totals);
        pooled.viewer.close(clock::now());
        pooled.flush();
        pooled.session
    }

    fn scan(&mut self, now: Instant) -> io::Result<Vec<Url>> {
        let mut sessions = Vec::new();
        for place in 0..self.viewers.len() {
            let Some(pooled) = &mut self.viewers[place] else {
                continue;
            };
            pooled.turn(now);
            pooled.progress(now)?;
            if pooled.viewer.has_failed(now) {
                self.totals.failed += 1;
                sessions.extend(self.leave(place, false));
            } else if pooled.viewer.has_ended(now) {
                self.totals.ended += 1;
                self.leave(place, false);
            }
        }
        Ok(sessions)
    }
}

impl PooledViewer {
    fn read(&mut self, totals: &mut Totals, discarded: &mut Totals) {
        let totals = if self.viewer.is_verified() { totals } else { discarded };
        let mut buffer = [0; DATAGRAM_IN_MAX];
        loop {
            match receive_stamped(&self.socket, &mut buffer) {
                Ok((len, arrived)) => match &mut self.path {
                    Some(path) => path.path.push(arrived, &buffer[..len]),
                    None => self
                        .viewer
                        .handle_datagram(clock::now(), arrived, &mut buffer[..len], totals),
                },
                Err(error) => {
                    self.handle_error(&error);
                    break;
                }
            }
        }
        self.turn(clock::now());
    }

    /// Hands over what the path has delivered by `now`, with the exact times.
    fn deliver(&mut self, now: Duration, totals: &mut Totals) {
        let Some(path) = &mut self.path else { return };
        while let Some((delivered, mut datagram)) = path.path.pop(now) {
            self.viewer
                .handle_datagram(clock::now(), delivered, &mut datagram, totals);
        }
        self.turn(clock::now());
    }

    fn turn(&mut self, now: Instant) {
        self.viewer.handle_timeout(now, clock::unix_time());
        self.flush();
    }

    /// Datagrams that the kernel does not accept are lost, as on any network.
    fn flush(&mut self) {
        while let Some(datagram) = self.viewer.poll_transmit() {
            if let Err(error) = self.socket.send(&datagram) {
                self.handle_error(&error);
            }
        }
    }

    fn handle_error(&mut self, error: &io::Error) {
        if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) {
            self.viewer.handle_unreachable();
        }
    }

    fn progress(&mut self, now: Instant) -> io::Result<()> {
        match self.phase {
            Phase::Receiving if self.viewer.has_seen_enough(now) => self.ignore_media()?,
            Phase::Measuring { before, dropped, until } => {
                let is_fresh = self.viewer.has_media() && self.viewer.are_streams_fresh();
                if is_fresh || until <= now {
                    let lost = is_fresh.then(|| self.viewer.missing_by_numbers(u64::from(dropped)));
                    self.phase = Phase::Measured { before, dropped, lost };
                    drop_rtp(&self.socket)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn ignore_media(&mut self) -> io::Result<()> {
        let before = self.drops();
        drop_rtp(&self.socket)?;
        self.viewer.ignore_media(clock::unix_time());
        self.phase = Phase::Dropping { before };
        Ok(())
    }

    fn measure(&mut self, now: Instant) -> io::Result<()> {
        self.phase = match self.phase {
            Phase::Dropping { before } => {
                #[cfg(target_os = "linux")]
                socket2::SockRef::from(&self.socket).detach_filter()?;
                self.viewer.mark_streams();
                Phase::Measuring {
                    before,
                    dropped: self.drops().wrapping_sub(before),
                    until: now + MEASURE_MAX,
                }
            }
            Phase::Receiving => Phase::Measured {
                before: 0,
                dropped: 0,
                lost: self.viewer.has_media().then(|| self.viewer.missing_by_numbers(0)),
            },
            other => other,
        };
        Ok(())
    }

    fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Measuring { .. } | Phase::Measured { .. })
    }

    /// Media packets that arrived, read or not.
    fn delivered(&self) -> u64 {
        let dropped = match self.phase {
            Phase::Receiving => 0,
            Phase::Dropping { before } => self.drops().wrapping_sub(before),
            Phase::Measuring { dropped, .. } | Phase::Measured { dropped, .. } => dropped,
        };
        self.viewer.read() + u64::from(dropped)
    }

    /// Adds what this viewer counted to the totals.
    fn settle(&mut self, is_live: bool, totals: &mut Totals) {
        if !self.viewer.is_connected() {
            return;
        }
        self.settle_path(is_live, totals);
        totals.joins.push(self.viewer.times());
        totals.delivered += self.delivered();
        if self.viewer.is_verified() {
            totals.own_drops += u64::from(match self.phase {
                Phase::Dropping { before } => before,
                _ => self.drops(),
            });
            totals.lost += self.viewer.finish(clock::unix_time(), is_live, totals);
            return;
        }
        let (before, lost) = match self.phase {
            Phase::Measured { before, lost, .. } => (before, lost),
            Phase::Dropping { before } | Phase::Measuring { before, .. } => (before, None),
            Phase::Receiving => (self.drops(), None),
        };
        totals.own_drops += u64::from(before);
        totals.lost += lost.unwrap_or(0);
        totals.unknown += u64::from(lost.is_none());
    }

    fn settle_path(&self, is_live: bool, totals: &mut Totals) {
        let Some(path) = &self.path else { return };
        let totals = &mut totals.paths[path.class];
        totals.viewers += 1;
        totals.dropped += path.path.dropped;
        let times = self.viewer.times();
        totals
            .pictures
            .extend(times.picture.map(|picture| picture.saturating_sub(times.posted)));
        if let Some((score, requested)) = self.viewer.score(clock::unix_time(), is_live) {
            totals.score.merge(&score);
            totals.requested += requested;
        }
    }

    fn drops(&self) -> u32 {
        dropped(&self.socket).ok().flatten().unwrap_or(0)
    }
}

impl ViewerPath {
    /// The time of the next delivery, if the pool does not know it yet.
    fn schedule(&mut self) -> Option<Duration> {
        let next = self.path.next_delivery();
        let before = std::mem::replace(&mut self.scheduled, next);
        next.filter(|_| next != before)
    }
}

#[cfg(unix)]
fn register(registry: &Registry, socket: &UdpSocket, token: Token) -> io::Result<Option<mio::net::UdpSocket>> {
    use std::os::fd::AsRawFd as _;
    registry.register(&mut mio::unix::SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
    Ok(None)
}

#[cfg(not(unix))]
fn register(registry: &Registry, socket: &UdpSocket, token: Token) -> io::Result<Option<mio::net::UdpSocket>> {
    let mut source = mio::net::UdpSocket::from_std(socket.try_clone()?);
    registry.register(&mut source, token, Interest::READABLE)?;
    Ok(Some(source))
}

const WAKER: Token = Token(usize::MAX);
const OTHER: Token = Token(usize::MAX - 1);
/// Time between two passes over all timers, the shortest of which is 50 ms.
const SCAN: Duration = Duration::from_millis(10);
/// Time to learn the last sequence numbers of every stream.
const MEASURE_MAX: Duration = Duration::from_secs(1);

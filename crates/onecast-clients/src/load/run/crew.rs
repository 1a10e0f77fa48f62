//! All viewers on their sockets, turned by one thread. The kernel counts and drops the media of those that have seen enough.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Registry, Token, Waker};
use reqwest::Url;

use super::desk::{Granted, Who};
use super::figures::Figures;
use super::member::{Invitation, Member, Sums};
use super::viewing::ViewingConfig;
use crate::load::viewers::drop_rtp_in_kernel;
use onecast_rtc::Certificate;
use onecast_udp::clock;
use onecast_udp::socket::DATAGRAM_IN_MAX;
use onecast_udp::{dropped, receive_stamped, stamp_arrivals};

/// Viewers that are connecting or connected.
pub(super) struct Crew {
    poll: Poll,
    events: Events,
    seats: Vec<Option<Seat>>,
    free: Vec<usize>,
    config: CrewConfig,
    /// What was counted of all.
    pub(super) figures: Figures,
    /// Not used: see [`Sums`].
    others: Figures,
    scanned: Instant,
}

/// What all viewers have in common.
pub(super) struct CrewConfig {
    /// How they look.
    pub(super) viewing: ViewingConfig,
    /// They share a certificate.
    pub(super) certificate: Certificate,
    /// So many of them look until they leave.
    pub(super) verified: usize,
}

struct Seat {
    socket: UdpSocket,
    member: Member,
    session: Option<Url>,
    phase: Phase,
    /// What the poll knows the socket by, where that must be kept.
    _registered: Option<mio::net::UdpSocket>,
}

/// What becomes of its media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is read.
    Looking,
    /// The kernel drops it; the socket had dropped so many before.
    Dropping { before: u32 },
    /// It is read again, until the last numbers are known.
    Measuring { before: u32, dropped: u32, until: Instant },
    /// It is known what was lost, or that it cannot be known.
    Measured {
        before: u32,
        dropped: u32,
        lost: Option<u64>,
    },
}

impl Crew {
    /// Nobody yet.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn new(config: CrewConfig) -> io::Result<Crew> {
        Ok(Crew {
            poll: Poll::new()?,
            events: Events::with_capacity(1_024),
            seats: Vec::new(),
            free: Vec::new(),
            config,
            figures: Figures::default(),
            others: Figures::default(),
            scanned: clock::now(),
        })
    }

    /// Ends the wait of [`turn`](Self::turn) from another thread.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Has what comes to this socket end the wait too.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn watch(&self, socket: &UdpSocket) -> io::Result<Option<mio::net::UdpSocket>> {
        register(self.poll.registry(), socket, OTHER)
    }

    /// A viewer that was answered begins to connect.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn admit(&mut self, granted: Granted) -> io::Result<()> {
        let Who::Viewer(number) = granted.who else {
            return Ok(());
        };
        let socket = open_socket(granted.accepted.media)?;
        stamp_arrivals(&socket)?;
        let place = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.seats.len() - 1
        });
        let registered = register(self.poll.registry(), &socket, Token(place))?;
        let seated = self.seats.iter().flatten();
        let verified = seated.filter(|seat| seat.member.is_verified()).count() < self.config.verified;
        let invitation = Invitation {
            number,
            ice: granted.ice,
            accepted: &granted.accepted,
            certificate: self.config.certificate.clone(),
            posted: granted.posted,
            answered: granted.answered,
        };
        let now = clock::now();
        let mut seat = Seat {
            member: Member::new(invitation, self.config.viewing, verified, now),
            socket,
            session: granted.session,
            phase: Phase::Looking,
            _registered: registered,
        };
        seat.turn(now);
        self.seats[place] = Some(seat);
        Ok(())
    }

    /// Waits at most `patience` for something to come and handles it, and what is due. Returns sessions to delete: those of viewers
    /// whose handshake failed.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn turn(&mut self, patience: Duration) -> io::Result<Vec<Url>> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut sums = Sums {
            verified: &mut self.figures,
            others: &mut self.others,
        };
        for event in &self.events {
            if let Some(Some(seat)) = self.seats.get_mut(event.token().0) {
                seat.read(&mut sums);
            }
        }
        let now = clock::now();
        if now.saturating_duration_since(self.scanned) < SCAN {
            return Ok(vec![]);
        }
        self.scanned = now;
        self.scan(now)
    }

    /// How many have an answer and are still there.
    pub(super) fn len(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    /// Nobody is there.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Somebody has no keys yet.
    pub(super) fn is_connecting(&self) -> bool {
        self.seats.iter().flatten().any(|seat| !seat.member.is_connected())
    }

    /// Media packets that came to all viewers, those that left among them.
    pub(super) fn delivered(&self) -> u64 {
        let seated = self.seats.iter().flatten();
        self.figures.delivered + seated.map(Seat::delivered).sum::<u64>()
    }

    /// Viewers that are connected, by place, from `start` on and around.
    pub(super) fn connected_from(&self, start: usize) -> impl Iterator<Item = usize> + '_ {
        let count = self.seats.len();
        let places = (0..count).map(move |offset| (start + offset) % count.max(1));
        places.filter(|place| {
            let seat = self.seats[*place].as_ref();
            seat.is_some_and(|seat| seat.member.is_connected() && !seat.is_leaving())
        })
    }

    /// All viewers, by place.
    pub(super) fn places(&self) -> Vec<usize> {
        let taken = self.seats.iter().enumerate().filter(|(_, seat)| seat.is_some());
        taken.map(|(place, _)| place).collect()
    }

    /// The viewer looks once more, to tell what it lost; then it may leave.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn measure(&mut self, place: usize) -> io::Result<()> {
        match self.seats.get_mut(place) {
            Some(Some(seat)) => seat.measure(clock::now()),
            _ => Ok(()),
        }
    }

    /// [`measure`](Self::measure) has its result; `None` when it was not asked for of whoever is there.
    pub(super) fn is_measured(&self, place: usize) -> Option<bool> {
        let seat = self.seats.get(place)?.as_ref()?;
        seat.is_leaving()
            .then_some(matches!(seat.phase, Phase::Measured { .. }))
    }

    /// The viewer leaves with a close_notify. Returns the session to delete. `is_live`: media still comes.
    pub(super) fn leave(&mut self, place: usize, is_live: bool) -> Option<Url> {
        let mut seat = self.seats.get_mut(place)?.take()?;
        self.free.push(place);
        let mut sums = Sums {
            verified: &mut self.figures,
            others: &mut self.others,
        };
        seat.read(&mut sums);
        seat.settle(is_live, &mut self.figures);
        seat.member.close(clock::now());
        seat.flush();
        seat.session
    }

    fn scan(&mut self, now: Instant) -> io::Result<Vec<Url>> {
        let mut sessions = Vec::new();
        for place in 0..self.seats.len() {
            let Some(seat) = &mut self.seats[place] else { continue };
            seat.turn(now);
            seat.progress(now)?;
            if seat.member.has_failed(now) {
                self.figures.failed += 1;
                sessions.extend(self.leave(place, false));
            } else if seat.member.has_ended(now) {
                self.figures.ended += 1;
                self.leave(place, false);
            }
        }
        Ok(sessions)
    }
}

impl Seat {
    fn read(&mut self, sums: &mut Sums<'_>) {
        let mut buffer = [0; DATAGRAM_IN_MAX];
        loop {
            match receive_stamped(&self.socket, &mut buffer) {
                Ok((len, arrived)) => {
                    self.member
                        .handle_datagram(clock::now(), arrived, &mut buffer[..len], sums);
                }
                Err(error) => {
                    self.handle_error(&error);
                    break;
                }
            }
        }
        self.turn(clock::now());
    }

    fn turn(&mut self, now: Instant) {
        self.member.handle_timeout(now, clock::unix_time());
        self.flush();
    }

    /// What the kernel does not take is lost, as on any way.
    fn flush(&mut self) {
        while let Some(datagram) = self.member.poll_transmit() {
            if let Err(error) = self.socket.send(&datagram) {
                self.handle_error(&error);
            }
        }
    }

    fn handle_error(&mut self, error: &io::Error) {
        if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) {
            self.member.handle_unreachable();
        }
    }

    fn progress(&mut self, now: Instant) -> io::Result<()> {
        match self.phase {
            Phase::Looking if self.member.is_content(now) => {
                let before = self.drops();
                drop_rtp_in_kernel(&self.socket)?;
                self.member.look_away();
                self.phase = Phase::Dropping { before };
            }
            Phase::Measuring { before, dropped, until } => {
                let is_fresh = self.member.has_media() && self.member.are_tracks_fresh();
                if is_fresh || until <= now {
                    let lost = is_fresh.then(|| self.member.missing_by_numbers(u64::from(dropped)));
                    self.phase = Phase::Measured { before, dropped, lost };
                    drop_rtp_in_kernel(&self.socket)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn measure(&mut self, now: Instant) -> io::Result<()> {
        self.phase = match self.phase {
            Phase::Dropping { before } => {
                #[cfg(target_os = "linux")]
                socket2::SockRef::from(&self.socket).detach_filter()?;
                self.member.mark_tracks();
                Phase::Measuring {
                    before,
                    dropped: self.drops().wrapping_sub(before),
                    until: now + MEASURE_MAX,
                }
            }
            Phase::Looking => Phase::Measured {
                before: 0,
                dropped: 0,
                lost: self.member.has_media().then(|| self.member.missing_by_numbers(0)),
            },
            other => other,
        };
        Ok(())
    }

    fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Measuring { .. } | Phase::Measured { .. })
    }

    /// Media packets that came, read or not.
    fn delivered(&self) -> u64 {
        let dropped = match self.phase {
            Phase::Looking => 0,
            Phase::Dropping { before } => self.drops().wrapping_sub(before),
            Phase::Measuring { dropped, .. } | Phase::Measured { dropped, .. } => dropped,
        };
        self.member.read() + u64::from(dropped)
    }

    /// Adds what this viewer had to the sums.
    fn settle(&mut self, is_live: bool, figures: &mut Figures) {
        if !self.member.is_connected() {
            return;
        }
        figures.joins.push(self.member.times());
        figures.delivered += self.delivered();
        if self.member.is_verified() {
            figures.own_drops += u64::from(self.drops());
            figures.lost += self.member.finish(clock::unix_time(), is_live, figures);
            return;
        }
        let (before, lost) = match self.phase {
            Phase::Measured { before, lost, .. } => (before, lost),
            Phase::Dropping { before } | Phase::Measuring { before, .. } => (before, None),
            Phase::Looking => (self.drops(), None),
        };
        figures.own_drops += u64::from(before);
        figures.lost += lost.unwrap_or(0);
        figures.unknown += u64::from(lost.is_none());
    }

    fn drops(&self) -> u32 {
        dropped(&self.socket).ok().flatten().unwrap_or(0)
    }
}

/// A socket that is connected to `server` and does not block.
pub(super) fn open_socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(BUFFER)?;
    options.set_send_buffer_size(BUFFER)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
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
/// Between looks at everybody's timers, the shortest of which is 50 ms.
const SCAN: Duration = Duration::from_millis(10);
/// For the last numbers of every source to be known.
const MEASURE_MAX: Duration = Duration::from_secs(1);
/// Holds the backlog of a second, as far as the system lets.
const BUFFER: usize = 4 << 20;

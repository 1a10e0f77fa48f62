//! Joining viewers on their sockets: one thread turns them all, others may post their offers.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};

use super::joiner::{JoinTimes, Joiner, JoinerConfig};
use super::publisher::Publisher;
use super::relay::Relay;
use super::session::{open_socket, post};
use super::signalling::Signalling;
use super::viewers::drop_rtp_in_kernel;
use onecast_rtc::Certificate;
use onecast_rtc::client_peer::ClientPeer;
use onecast_udp::clock;
use onecast_udp::socket::DATAGRAM_IN_MAX;
use onecast_udp::{receive_stamped, stamp_arrivals};

/// What all joining viewers have in common.
#[derive(Clone)]
pub struct Invitation {
    /// Where they post.
    pub path: String,
    /// They share a certificate.
    pub certificate: Certificate,
    /// How long everything takes in each direction, offers and answers too. Zero means no relay.
    pub one_way: Duration,
    /// They send an empty receiver report, as browsers do.
    pub reports: bool,
}

/// A viewer that has its answer and sent its first check.
pub struct Admission {
    socket: UdpSocket,
    joiner: Joiner,
    /// Lives as long as the viewer.
    _relay: Option<Relay>,
}

impl Invitation {
    /// Posts the offer of viewer `number` and begins to connect. Blocks until the answer is there.
    ///
    /// # Errors
    /// When the server refuses, or those of the system.
    pub fn accept(&self, signalling: &mut Signalling, number: u32) -> io::Result<Admission> {
        let posted = clock::unix_time();
        wait(self.one_way);
        let (ice, answered) = post(signalling, &self.path, number, false, &self.certificate)?;
        wait(self.one_way);
        let answered_at = clock::unix_time();

        let server = *answered.candidates.first().ok_or(ErrorKind::InvalidData)?;
        let relay = match self.one_way {
            Duration::ZERO => None,
            delay => Some(Relay::start(server, delay)?),
        };
        let socket = open_socket(relay.as_ref().map_or(server, Relay::address), RECEIVE_BUFFER)?;
        socket.set_nonblocking(true)?;
        stamp_arrivals(&socket)?;
        let config = JoinerConfig {
            reports: self.reports,
            live_within: Publisher::FRAME_INTERVAL + self.one_way,
        };
        let now = clock::now();
        let peer = ClientPeer::new(&ice, &answered, true, self.certificate.clone(), now);
        let mut admission = Admission {
            socket,
            joiner: Joiner::new(peer, config, posted, answered_at),
            _relay: relay,
        };
        admission.joiner.handle_timeout(now);
        admission.flush();
        Ok(admission)
    }
}

/// Viewers that are joining or have joined.
pub struct Joiners {
    poll: Poll,
    events: Events,
    members: Vec<Option<Admission>>,
    /// What the poll knows the sockets by.
    sources: Vec<Option<mio::net::UdpSocket>>,
    scanned: Instant,
}

impl Joiners {
    /// Nobody yet.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new() -> io::Result<Joiners> {
        Ok(Joiners {
            poll: Poll::new()?,
            events: Events::with_capacity(256),
            members: Vec::new(),
            sources: Vec::new(),
            scanned: clock::now(),
        })
    }

    /// Ends the wait of [`turn`](Self::turn) from another thread.
    ///
    /// # Errors
    /// Those of the system.
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Takes a viewer in and returns its place.
    ///
    /// # Errors
    /// Those of the system.
    pub fn admit(&mut self, admission: Admission) -> io::Result<usize> {
        let place = self.members.len();
        // The copy is closed at the end of this block; the registration is of the socket that both name, and ends with it.
        let mut source = mio::net::UdpSocket::from_std(admission.socket.try_clone()?);
        self.poll
            .registry()
            .register(&mut source, Token(place), Interest::READABLE)?;
        self.sources.push(Some(source));
        self.members.push(Some(admission));
        self.read(place);
        Ok(place)
    }

    /// Waits at most `patience` for something to come and handles it, and what is due.
    ///
    /// # Errors
    /// Those of the system.
    pub fn turn(&mut self, patience: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        ready.into_iter().for_each(|place| self.read(place));
        let now = clock::now();
        if now.saturating_duration_since(self.scanned) >= SCAN {
            self.scanned = now;
            let due = |member: &&mut Admission| member.joiner.poll_timeout() <= now;
            for member in self.members.iter_mut().flatten().filter(due) {
                member.joiner.handle_timeout(now);
                member.flush();
            }
        }
        Ok(())
    }

    /// What the viewer at a place has so far; `None` when it left.
    pub fn joiner(&self, place: usize) -> Option<&Joiner> {
        Some(&self.members.get(place)?.as_ref()?.joiner)
    }

    /// From now on its media is dropped in the kernel: it costs little and is not looked at.
    ///
    /// # Errors
    /// Those of the system.
    pub fn ignore_media(&mut self, place: usize) -> io::Result<()> {
        match &self.members[place] {
            Some(member) => drop_rtp_in_kernel(&member.socket),
            None => Ok(()),
        }
    }

    /// The viewer leaves, with a close_notify. Returns when it had what and what it lost.
    pub fn leave(&mut self, place: usize) -> Option<(JoinTimes, u64)> {
        let mut member = self.members.get_mut(place)?.take()?;
        self.sources[place] = None;
        let outcome = (member.joiner.times(), member.joiner.lost());
        member.joiner.close(clock::now());
        member.flush();
        Some(outcome)
    }

    fn read(&mut self, place: usize) {
        let Some(member) = self.members.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        let mut buffer = [0; DATAGRAM_IN_MAX];
        while let Ok((len, arrived)) = receive_stamped(&member.socket, &mut buffer) {
            member.joiner.handle_datagram(clock::now(), arrived, &mut buffer[..len]);
        }
        member.flush();
    }
}

impl Admission {
    /// What the kernel does not take is lost, as on any way.
    fn flush(&mut self) {
        while let Some(datagram) = self.joiner.poll_transmit() {
            let _ = self.socket.send(&datagram);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the length of the way is real time")]
fn wait(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}

const WAKER: Token = Token(usize::MAX);
/// Between looks at everybody's timers, the shortest of which is 50 ms.
const SCAN: Duration = Duration::from_millis(5);
/// Holds the backlog of 10 s and more.
const RECEIVE_BUFFER: usize = 4 << 20;

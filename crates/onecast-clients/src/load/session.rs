//! A connected client on a socket of its own: what publishers and viewers of a load have in common.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::signalling::Signalling;
use onecast_rtc::client_peer::{Answered, ClientEvent, ClientPeer, OfferParams, write_offer};
use onecast_rtc::rtp::rtcp::write_receiver_report_empty;
use onecast_rtc::srtp::{Sealer, SrtpKeys};
use onecast_rtc::{Certificate, IceCredentials};
use onecast_udp::clock;
use onecast_udp::receive_stamped;
use onecast_udp::socket::DATAGRAM_IN_MAX;

/// A datagram for the caller to open.
pub struct Incoming<'a> {
    /// What it is.
    pub kind: Protected,
    /// When it came, since 1970: see [`receive_stamped`].
    pub arrived: Duration,
    /// Its bytes.
    pub datagram: &'a mut [u8],
}

/// Kinds of protected datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protected {
    /// SRTP.
    Media,
    /// SRTCP.
    Control,
}

/// One client's socket, transport and keys.
pub struct Session {
    /// Connected to the server.
    pub socket: UdpSocket,
    /// Keys of the finished handshake.
    pub keys: SrtpKeys,
    /// What the server answered.
    pub answered: Answered,
    peer: ClientPeer,
}

impl Session {
    /// Posts an offer to `path`, checks and shakes hands.
    ///
    /// # Errors
    /// `InvalidData` when the server refuses or its answer lacks something, `TimedOut` without a handshake in 5 s.
    pub fn connect(
        signalling: &mut Signalling,
        path: &str,
        number: u32,
        publishes: bool,
        certificate: &Certificate,
    ) -> io::Result<Session> {
        let (ice, answered) = post(signalling, path, number, publishes, certificate)?;
        Session::establish(&ice, answered, certificate)
    }

    /// Checks and shakes hands, for an offer that was answered.
    ///
    /// # Errors
    /// `InvalidData` when the answer lacks something, `TimedOut` without a handshake in 5 s.
    pub fn establish(own: &IceCredentials, answered: Answered, certificate: &Certificate) -> io::Result<Session> {
        let server = *answered.candidates.first().ok_or(io::ErrorKind::InvalidData)?;
        let socket = open_socket(server, RECEIVE_BUFFER)?;
        let mut peer = ClientPeer::new(own, &answered, true, certificate.clone(), clock::now());
        let keys = shake_hands(&socket, &mut peer)?;
        socket.set_nonblocking(true)?;
        Ok(Session {
            socket,
            keys,
            answered,
            peer,
        })
    }

    /// Keeps the consent: sends a check when one is due and reads what waits. `each` is handed each SRTP and SRTCP datagram.
    ///
    /// # Errors
    /// `ConnectionAborted` when the server ended the session.
    pub fn turn(&mut self, now: Instant, each: &mut dyn FnMut(Incoming<'_>)) -> io::Result<()> {
        let mut buffer = [0; DATAGRAM_IN_MAX];
        while let Ok((len, arrived)) = receive_stamped(&self.socket, &mut buffer) {
            let kind = match self.peer.handle_datagram(now, &buffer[..len]) {
                Some(ClientEvent::Media) => Protected::Media,
                Some(ClientEvent::Control) => Protected::Control,
                Some(ClientEvent::Closed) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Some(ClientEvent::Connected(_)) | None => continue,
            };
            each(Incoming {
                kind,
                arrived,
                datagram: &mut buffer[..len],
            });
        }
        if self.peer.poll_timeout() <= now {
            self.peer.handle_timeout(now);
        }
        send_all(&self.socket, &mut self.peer)
    }

    /// Sends an empty receiver report, as browsers soon do: it tells the server that our handshake is complete too.
    ///
    /// # Errors
    /// Those of the system.
    pub fn report(&self) -> io::Result<()> {
        let mut report = [0; 64];
        let len = seal_report(&self.keys, &mut report);
        self.socket.send(&report[..len]).map(drop)
    }

    /// Whether [`turn`](Self::turn) has something to send.
    pub fn is_due(&self, now: Instant) -> bool {
        self.peer.poll_timeout() <= now
    }
}

/// Posts the offer of client `number` and returns its ICE credentials and the answer.
pub(super) fn post(
    signalling: &mut Signalling,
    path: &str,
    number: u32,
    publishes: bool,
    certificate: &Certificate,
) -> io::Result<(IceCredentials, Answered)> {
    let ice = IceCredentials {
        ufrag: format!("load{number:08x}").into(),
        pwd: format!("{number:08x}0123456789abcdef").into(),
    };
    let offer = write_offer(&OfferParams {
        ice: &ice,
        fingerprint: certificate.fingerprint(),
        active: true,
        publishes,
        rtx: true,
    });
    let answer = signalling.offer(path, &offer)?;
    let answered = Answered::parse(&answer).ok_or(io::ErrorKind::InvalidData)?;
    Ok((ice, answered))
}

/// A blocking socket on loopback that is connected to `server`.
pub(super) fn open_socket(server: SocketAddr, receive_buffer: usize) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(receive_buffer)?;
    socket.connect(server)?;
    Ok(socket)
}

/// Writes a sealed empty receiver report, the first one of these keys, and returns its length.
pub(super) fn seal_report(keys: &SrtpKeys, out: &mut [u8; 64]) -> usize {
    let len = write_receiver_report_empty(out, 1);
    Sealer::new(keys).seal_rtcp(out, len)
}

fn shake_hands(socket: &UdpSocket, peer: &mut ClientPeer) -> io::Result<SrtpKeys> {
    let mut buffer = [0; 2_048];
    let end = clock::now() + HANDSHAKE_MAX;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    while clock::now() < end {
        peer.handle_timeout(clock::now());
        send_all(socket, peer)?;
        let Ok(len) = socket.recv(&mut buffer) else { continue };
        match peer.handle_datagram(clock::now(), &buffer[..len]) {
            Some(ClientEvent::Connected(keys)) => {
                send_all(socket, peer)?;
                return Ok(keys);
            }
            Some(ClientEvent::Closed) => return Err(io::ErrorKind::ConnectionAborted.into()),
            _ => {}
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

pub(super) fn send_all(socket: &UdpSocket, peer: &mut ClientPeer) -> io::Result<()> {
    while let Some(datagram) = peer.poll_transmit() {
        socket.send(&datagram)?;
    }
    Ok(())
}

/// The longest a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Holds a few keyframes of 40 packets, each of which the kernel counts as more than its 1,000 bytes.
const RECEIVE_BUFFER: usize = 1 << 20;

//! A connected client on a socket of its own: what publishers and viewers of a load have in common.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use super::client_peer::{Answered, OfferParams, write_offer};
use super::signalling::Signalling;
use super::{ClientEvent, ClientPeer};
use crate::clock;
use crate::peer::srtp::{Sealer, SrtpKeys};
use crate::peer::{Certificate, IceCredentials};

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
        let server = *answered.candidates.first().ok_or(io::ErrorKind::InvalidData)?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.connect(server)?;
        let mut peer = ClientPeer::new(&ice.ufrag, &answered, true, certificate.clone(), clock::now());
        let keys = shake_hands(&socket, &mut peer)?;
        socket.set_nonblocking(true)?;
        Ok(Session {
            socket,
            keys,
            answered,
            peer,
        })
    }

    /// Keeps the consent: sends a check when one is due and reads what waits. `media` is handed each SRTP datagram.
    ///
    /// # Errors
    /// `ConnectionAborted` when the server ended the session.
    pub fn turn(&mut self, now: Instant, media: &mut dyn FnMut(&mut [u8])) -> io::Result<()> {
        let mut buffer = [0; 2_048];
        while let Ok(len) = self.socket.recv(&mut buffer) {
            match self.peer.handle_datagram(now, &buffer[..len]) {
                Some(ClientEvent::Media) => media(&mut buffer[..len]),
                Some(ClientEvent::Closed) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Some(ClientEvent::Control | ClientEvent::Connected(_)) | None => {}
            }
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
        // RFC 3550 section 6.4.2: version 2, no report block, length 1 word, our SSRC.
        let mut report = [0; 64];
        report[..8].copy_from_slice(&[0x80, 201, 0, 1, 0, 0, 0, 1]);
        let len = Sealer::new(&self.keys).seal_rtcp(&mut report, 8);
        self.socket.send(&report[..len]).map(drop)
    }

    /// Whether [`turn`](Self::turn) has something to send.
    pub fn is_due(&self, now: Instant) -> bool {
        self.peer.poll_timeout() <= now
    }
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

fn send_all(socket: &UdpSocket, peer: &mut ClientPeer) -> io::Result<()> {
    while let Some(datagram) = peer.poll_transmit() {
        socket.send(&datagram)?;
    }
    Ok(())
}

/// The longest a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Holds a few keyframes of 40 packets, each of which the kernel counts as more than its 1,000 bytes.
const RECEIVE_BUFFER: usize = 1 << 20;

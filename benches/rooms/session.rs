//! A connected client of a room or broadcast on its own socket.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use onecast_clients::load::http::BlockingHttp;
use onecast_clients::load::kernel::open_socket;
use onecast_rtc::client_peer::{Answered, ClientEvent, ClientPeer, OfferParams, write_offer};
use onecast_rtc::rtp::Ssrc;
use onecast_rtc::rtp::rtcp::write_receiver_report_empty;
use onecast_rtc::srtp::{Sealer, SrtpKeys};
use onecast_rtc::{Certificate, IceCredentials};
use onecast_udp::clock;
use onecast_udp::receive_stamped;
use onecast_udp::socket::DATAGRAM_IN_MAX;

/// One client's socket, transport and keys.
pub(crate) struct Session {
    /// Connected to the server.
    pub(crate) socket: UdpSocket,
    /// Keys of the finished handshake.
    pub(crate) keys: SrtpKeys,
    /// The server's answer.
    pub(crate) answered: Answered,
    peer: ClientPeer,
}

impl Session {
    /// Posts an offer to `path` and connects.
    pub(crate) fn connect(
        http: &BlockingHttp,
        path: &str,
        number: u32,
        publishes: bool,
        certificate: &Certificate,
    ) -> Result<Session> {
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
        let answer = http.post(path, "application/sdp", offer)?.unwrap_or_default();
        let answered = Answered::parse(&answer).context("an answer has ICE credentials")?;
        Ok(Session::establish(&ice, answered, certificate)?)
    }

    /// Connects a client whose offer was answered.
    pub(crate) fn establish(
        own: &IceCredentials,
        answered: Answered,
        certificate: &Certificate,
    ) -> io::Result<Session> {
        let server = *answered.candidates.first().ok_or(io::ErrorKind::InvalidData)?;
        let socket = open_socket(server)?;
        socket.set_nonblocking(false)?;
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

    /// Sends a consent check when one is due, and reads. Passes each SRTP datagram to `handle_media`.
    pub(crate) fn turn(&mut self, now: Instant, handle_media: &mut dyn FnMut(&mut [u8])) -> io::Result<()> {
        let mut buffer = [0; DATAGRAM_IN_MAX];
        while let Ok((len, _)) = receive_stamped(&self.socket, &mut buffer) {
            match self.peer.handle_datagram(now, &buffer[..len]) {
                Some(ClientEvent::Media) => handle_media(&mut buffer[..len]),
                Some(ClientEvent::Closed) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Some(ClientEvent::Control | ClientEvent::Connected(_)) | None => {}
            }
        }
        if self.peer.poll_timeout() <= now {
            self.peer.handle_timeout(now);
        }
        send_all(&self.socket, &mut self.peer)
    }

    /// Sends an empty receiver report, which tells the server that the handshake is complete.
    pub(crate) fn report(&self) -> io::Result<()> {
        let mut report = [0; 64];
        let len = write_receiver_report_empty(&mut report, Ssrc(1));
        let len = Sealer::new(&self.keys).seal_rtcp(&mut report, len);
        self.socket.send(&report[..len]).map(drop)
    }

    /// [`turn`](Self::turn) has something to send.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
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

//! Many viewers of one stream, cheap enough to load a server from one other core.
//!
//! Each viewer has its own socket and its own finished ICE and DTLS. A filter in the kernel drops their RTP at the socket and the
//! kernel counts it; the rest (STUN, DTLS, RTCP) comes through. A few viewers have no such filter: they open every packet.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use super::session::{Incoming, Protected, Session};
use super::signalling::Signalling;
use super::stamp::Stamp;
use onecast_rtc::Certificate;
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::srtp::Opener;
use onecast_udp::stamp_arrivals;

/// Viewers that are connected.
pub struct Viewers {
    filtered: Vec<Session>,
    verified: Vec<Verified>,
}

/// What arrived at the viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Packets that reached the sockets whose RTP the kernel drops.
    pub filtered: u64,
    /// Packets of which every verified viewer has at least this many, opened and in sequence.
    pub verified_least: u64,
    /// Packets missing in the sequence of verified viewers, and those that could not be opened.
    pub lost: u64,
}

/// How long the last packet of a frame took from the publisher to a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameDelay {
    /// Number of the frame.
    pub frame: u64,
    /// When the publisher sent it, since 1970.
    pub sent: Duration,
    /// The time until the viewer's kernel had it.
    pub delay: Duration,
}

impl Viewers {
    /// Connects `count` viewers to `path`, one after the other; `verified` of them open what they get.
    ///
    /// # Errors
    /// Those of [`Session::connect`].
    pub fn connect(
        signalling: &mut Signalling,
        path: &str,
        count: usize,
        verified: usize,
        certificate: &Certificate,
    ) -> io::Result<Viewers> {
        let mut viewers = Viewers {
            filtered: Vec::with_capacity(count),
            verified: Vec::new(),
        };
        for number in 0..count {
            let session = Session::connect(signalling, path, number as u32, false, certificate)?;
            session.report()?;
            // Spread evenly, the last one among them: who comes later is served later.
            if (number + 1) * verified / count > number * verified / count {
                viewers.verified.push(Verified::new(session));
            } else {
                drop_rtp_in_kernel(&session.socket)?;
                viewers.filtered.push(session);
            }
        }
        Ok(viewers)
    }

    /// How many watch.
    pub fn len(&self) -> usize {
        self.filtered.len() + self.verified.len()
    }

    /// Nobody watches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many have their RTP dropped and counted by the kernel.
    pub fn filtered(&self) -> usize {
        self.filtered.len()
    }

    /// From now on, notes how long each frame took to the verified viewers.
    ///
    /// # Errors
    /// Those of the system.
    pub fn note_delays(&mut self) -> io::Result<()> {
        for viewer in &mut self.verified {
            stamp_arrivals(&viewer.session.socket)?;
            viewer.reception.delays = Some(Vec::new());
        }
        Ok(())
    }

    /// What [`note_delays`](Self::note_delays) noted, for each verified viewer.
    pub fn delays(&self) -> impl Iterator<Item = &[FrameDelay]> {
        let verified = self.verified.iter();
        verified.map(|viewer| viewer.reception.delays.as_deref().unwrap_or_default())
    }

    /// Keeps the consent of all that are due and opens what the verified ones got.
    ///
    /// # Errors
    /// When the server ended a session.
    pub fn turn(&mut self, now: Instant) -> io::Result<()> {
        for session in self.filtered.iter_mut().filter(|session| session.is_due(now)) {
            session.turn(now, &mut |_| {})?;
        }
        for viewer in &mut self.verified {
            viewer.turn(now)?;
        }
        Ok(())
    }

    /// What arrived so far.
    ///
    /// # Errors
    /// When the kernel's table of sockets cannot be read.
    pub fn received(&self) -> io::Result<Received> {
        let drops = kernel_drops()?;
        let mut filtered = 0;
        for session in &self.filtered {
            let port = session.socket.local_addr()?.port();
            filtered += drops.get(&port).copied().unwrap_or(0);
        }
        let verified = self.verified.iter();
        Ok(Received {
            filtered,
            verified_least: verified
                .clone()
                .map(|viewer| viewer.reception.opened)
                .min()
                .unwrap_or(0),
            lost: verified.map(|viewer| viewer.reception.lost).sum(),
        })
    }
}

/// A viewer that opens every packet and looks for gaps.
struct Verified {
    session: Session,
    reception: Reception,
}

struct Reception {
    opener: Opener,
    next: Option<u16>,
    opened: u64,
    lost: u64,
    /// `None` unless they are wanted.
    delays: Option<Vec<FrameDelay>>,
}

impl Verified {
    fn new(session: Session) -> Verified {
        Verified {
            reception: Reception {
                opener: Opener::new(&session.keys),
                next: None,
                opened: 0,
                lost: 0,
                delays: None,
            },
            session,
        }
    }

    fn turn(&mut self, now: Instant) -> io::Result<()> {
        let Verified { session, reception } = self;
        session.turn(now, &mut |incoming| {
            if incoming.kind == Protected::Media {
                reception.handle(incoming);
            }
        })
    }
}

impl Reception {
    fn handle(&mut self, incoming: Incoming<'_>) {
        let Incoming { arrived, datagram, .. } = incoming;
        let Ok(header) = RtpHeader::parse(datagram) else {
            self.lost += 1;
            return;
        };
        let Ok(len) = self.opener.open_rtp(datagram, header.len, header.ssrc, header.sequence) else {
            self.lost += 1;
            return;
        };
        let expected = self.next.unwrap_or(header.sequence);
        self.lost += u64::from(header.sequence.wrapping_sub(expected));
        self.next = Some(header.sequence.wrapping_add(1));
        self.opened += 1;
        if let Some(delays) = &mut self.delays
            && header.marker
            && let Some(Stamp { frame, sent }) = header.payload(&datagram[..len]).ok().and_then(Stamp::read)
        {
            let delay = arrived.saturating_sub(sent);
            delays.push(FrameDelay { frame, sent, delay });
        }
    }
}

/// RTP is dropped before it takes memory: payloads whose first byte is 128 to 191 and whose second is not an RTCP type (RFC 7983,
/// RFC 5761).
///
/// # Errors
/// Those of the system.
#[cfg(target_os = "linux")]
pub fn drop_rtp_in_kernel(socket: &std::net::UdpSocket) -> io::Result<()> {
    use socket2::SockFilter;
    // Classic BPF: load a byte at an absolute offset, jump if greater or equal, return bytes to keep.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_GE: u16 = 0x35;
    const RETURN: u16 = 0x06;
    // The filter of a UDP socket sees the UDP header first.
    const PAYLOAD: u32 = 8;
    socket2::SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, PAYLOAD),
        SockFilter::new(JUMP_GE, 0, 5, 128),
        SockFilter::new(JUMP_GE, 4, 0, 192),
        SockFilter::new(LOAD_BYTE, 0, 0, PAYLOAD + 1),
        SockFilter::new(JUMP_GE, 0, 1, 192),
        SockFilter::new(JUMP_GE, 0, 1, 224),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// There is no such filter here.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn drop_rtp_in_kernel(_: &std::net::UdpSocket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Datagrams that each IPv4 UDP socket dropped, by local port.
///
/// # Errors
/// When the kernel's table of sockets cannot be read.
pub fn kernel_drops() -> io::Result<HashMap<u16, u64>> {
    let table = std::fs::read_to_string("/proc/net/udp")?;
    let row = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let port = fields.nth(1)?.split_once(':')?.1;
        Some((u16::from_str_radix(port, 16).ok()?, fields.last()?.parse().ok()?))
    };
    Ok(table.lines().skip(1).filter_map(row).collect())
}

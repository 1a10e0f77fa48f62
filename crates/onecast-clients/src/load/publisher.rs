//! The publisher of a load: sends the frames of a workload when they are due, and answers NACKs.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::kernel::open_socket;
use super::offer::{AUDIO_SSRC, OPUS, VIDEO_SSRC, VP8};
use super::signalling::Admitted;
use super::stamp::Stamp;
use super::workload::{AUDIO_BYTES, AUDIO_RATE, VIDEO_BYTES, Video, write_vp8};
use onecast_rtc::Certificate;
use onecast_rtc::client_peer::{ClientEvent, ClientPeer};
use onecast_rtc::rtp::header::HeaderOut;
use onecast_rtc::rtp::rtcp::{self, Report, ntp_from_unix, write_sender_report};
use onecast_rtc::rtp::{Pt, RtpTime, Ssrc};
use onecast_rtc::srtp::{Opener, RTCP_OVERHEAD_MAX, Sealer};
use onecast_udp::clock;
use onecast_udp::receive_stamped;

/// A publisher of a workload.
pub struct LoadPublisher {
    /// Connected to the server.
    pub(super) socket: UdpSocket,
    peer: ClientPeer,
    opener: Option<Opener>,
    sealer: Option<Sealer>,
    config: PublisherConfig,
    is_sending: bool,
    video_at: Instant,
    audio_at: Instant,
    report_at: Instant,
    video: RtpStream,
    audio: RtpStream,
    keyframe_at: u64,
    counts: PublisherCounts,
    slowest_send: Duration,
}

/// What a publisher sends.
#[derive(Debug, Clone, Copy)]
pub struct PublisherConfig {
    /// Video, if any.
    pub video: Option<Video>,
    /// Time between video frames, whatever the nominal rate.
    pub frame_interval: Duration,
    /// Opus.
    pub has_audio: bool,
    /// Answers keyframe requests with a keyframe, as browsers do; otherwise they are only counted.
    pub obeys_requests: bool,
}

/// What the publisher sent, and what the server requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct PublisherCounts {
    /// Video frames sent.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Packets sent, without retransmissions.
    pub packets: u64,
    /// Keyframe requests of the server: PLI and FIR.
    pub keyframe_requests: u64,
    /// Packets that the server requested again.
    pub nacked: u64,
    /// The longest delay of a frame before it was sent, ms: the load's own share of freezes.
    pub late_ms_max: f64,
}

/// One SSRC.
struct RtpStream {
    ssrc: Ssrc,
    payload_type: Pt,
    /// Packets sent so far.
    packets: u64,
    /// Frames sent so far; each packet of audio is one.
    frames: u64,
    octets: u64,
    timestamp: RtpTime,
    /// The newest datagrams, by sequence number, for retransmission.
    kept: Vec<Vec<u8>>,
}

impl LoadPublisher {
    /// A publisher that begins to connect.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(
        admitted: &Admitted,
        config: PublisherConfig,
        certificate: Certificate,
        now: Instant,
    ) -> io::Result<LoadPublisher> {
        let accepted = &admitted.accepted;
        let (ice, begins) = (&admitted.ice, accepted.we_begin);
        Ok(LoadPublisher {
            socket: open_socket(accepted.media)?,
            peer: ClientPeer::new(ice, &accepted.answered, begins, certificate, now),
            opener: None,
            sealer: None,
            config,
            is_sending: false,
            video_at: now,
            audio_at: now,
            report_at: now,
            video: RtpStream::new(VIDEO_SSRC, VP8),
            audio: RtpStream::new(AUDIO_SSRC, OPUS),
            keyframe_at: 0,
            counts: PublisherCounts::default(),
            slowest_send: Duration::ZERO,
        })
    }

    /// The handshake is complete.
    pub fn is_connected(&self) -> bool {
        self.sealer.is_some()
    }

    /// Starts to send once connected, or continues after [`pause`](Self::pause).
    pub fn start(&mut self, now: Instant) {
        self.is_sending = true;
        (self.video_at, self.audio_at, self.report_at) = (now, now, now);
    }

    /// Stops sending; the session stays.
    pub fn pause(&mut self) {
        self.is_sending = false;
    }

    /// What it sent, and what the server requested.
    pub fn counts(&self) -> PublisherCounts {
        PublisherCounts {
            packets: self.video.packets + self.audio.packets,
            frames: self.video.frames,
            ..self.counts
        }
    }

    /// The longest time that a packet took from its stamp until the kernel had it, since the last call. A measured delay may include
    /// as much of the load's own time.
    pub fn take_slowest_send(&mut self) -> Duration {
        std::mem::take(&mut self.slowest_send)
    }

    /// When [`turn`](Self::turn) is due.
    pub fn poll_timeout(&self) -> Instant {
        let peer = self.peer.poll_timeout();
        if !self.sends() {
            return peer;
        }
        let video = self.config.video.map(|_| self.video_at);
        let audio = self.config.has_audio.then_some(self.audio_at);
        [video, audio].into_iter().flatten().fold(peer, Instant::min)
    }

    /// Handles received datagrams and sends what is due.
    ///
    /// # Errors
    /// `ConnectionAborted` when the server ended the session, `ConnectionRefused` when its port is closed.
    pub fn turn(&mut self, now: Instant) -> io::Result<()> {
        let mut buffer = [0; 2_048];
        loop {
            match receive_stamped(&self.socket, &mut buffer) {
                Ok((len, _)) => self.handle_datagram(now, &mut buffer[..len])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.peer.poll_timeout() <= now {
            self.peer.handle_timeout(now);
        }
        while let Some(datagram) = self.peer.poll_transmit() {
            send(&self.socket, &datagram)?;
        }
        if self.sends() {
            self.send_due(now)?;
        }
        Ok(())
    }

    /// Ends the session with close_notify.
    pub fn close(&mut self, now: Instant) {
        self.peer.close(now);
        while let Some(datagram) = self.peer.poll_transmit() {
            // A server that is gone needs no goodbye.
            let _ = send(&self.socket, &datagram);
        }
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) -> io::Result<()> {
        match self.peer.handle_datagram(now, datagram) {
            Some(ClientEvent::Connected(keys)) => {
                self.opener = Some(Opener::new(&keys));
                self.sealer = Some(Sealer::new(&keys));
                if self.is_sending {
                    self.start(now);
                }
                Ok(())
            }
            Some(ClientEvent::Control) => self.handle_control(datagram),
            Some(ClientEvent::Closed) => Err(ErrorKind::ConnectionAborted.into()),
            Some(ClientEvent::Media) | None => Ok(()),
        }
    }

    fn handle_control(&mut self, datagram: &mut [u8]) -> io::Result<()> {
        let Some(Ok(len)) = self.opener.as_mut().map(|opener| opener.open_rtcp(datagram)) else {
            return Ok(());
        };
        let mut wanted: Vec<u16> = Vec::new();
        let (counts, mut keyframe) = (&mut self.counts, false);
        // Reports before a malformed one count.
        let _ = rtcp::parse(&datagram[..len], |report| match report {
            Report::Pli { .. } | Report::Fir { .. } => {
                counts.keyframe_requests += 1;
                keyframe = true;
            }
            Report::Nack { about, sequences } if about == VIDEO_SSRC => wanted.extend(sequences),
            _ => {}
        });
        if keyframe && self.config.obeys_requests {
            self.keyframe_at = self.video.frames;
        }
        self.counts.nacked += wanted.len() as u64;
        wanted.truncate(KEPT);
        for sequence in wanted {
            if let Some(datagram) = self.video.kept(sequence) {
                send(&self.socket, datagram)?;
            }
        }
        Ok(())
    }

    fn sends(&self) -> bool {
        self.is_sending && self.is_connected()
    }

    fn send_due(&mut self, now: Instant) -> io::Result<()> {
        if let Some(video) = self.config.video {
            while let Some(late) = now.checked_duration_since(self.video_at) {
                self.counts.late_ms_max = self.counts.late_ms_max.max(late.as_micros() as f64 / 1e3);
                self.video_at += self.config.frame_interval;
                self.send_frame(video)?;
            }
        }
        while self.config.has_audio && self.audio_at <= now {
            self.audio_at += Duration::from_secs(1) / AUDIO_RATE;
            self.send_audio()?;
        }
        if self.report_at <= now {
            self.report_at += REPORT_INTERVAL;
            self.send_reports()?;
        }
        Ok(())
    }

    fn send_frame(&mut self, video: Video) -> io::Result<()> {
        let is_keyframe = self.video.frames >= self.keyframe_at;
        let packets = if is_keyframe {
            video.keyframe_packets
        } else {
            video.frame_packets
        };
        self.video.timestamp = RtpTime((self.video.frames * u64::from(VIDEO_CLOCK / video.rate)) as u32);
        let Some(sealer) = &mut self.sealer else { return Ok(()) };
        for position in 0..packets {
            let write = |payload: &mut [u8]| write_vp8(is_keyframe, position == 0, payload);
            let is_last = position + 1 == packets;
            let (datagram, sent) = self.video.seal_next(sealer, is_last, VIDEO_BYTES, write);
            send(&self.socket, datagram)?;
            self.slowest_send = self.slowest_send.max(clock::unix_time().saturating_sub(sent));
        }
        if is_keyframe {
            self.counts.keyframes += 1;
            self.keyframe_at = self.video.frames + video.keyframe_interval;
        }
        self.video.frames += 1;
        Ok(())
    }

    fn send_audio(&mut self) -> io::Result<()> {
        let Some(sealer) = &mut self.sealer else { return Ok(()) };
        let (datagram, _) = self.audio.seal_next(sealer, false, AUDIO_BYTES, |_| {});
        send(&self.socket, datagram)?;
        self.audio.frames += 1;
        self.audio.timestamp = self.audio.timestamp.plus(AUDIO_CLOCK / AUDIO_RATE);
        Ok(())
    }

    fn send_reports(&mut self) -> io::Result<()> {
        let Some(sealer) = &mut self.sealer else { return Ok(()) };
        let ntp = ntp_from_unix(clock::unix_time());
        for stream in [&self.video, &self.audio]
            .into_iter()
            .filter(|stream| stream.packets > 0)
        {
            let mut buffer = [0; 128];
            let (packets, octets) = (stream.packets as u32, stream.octets as u32);
            let room = &mut buffer[..128 - RTCP_OVERHEAD_MAX];
            let len = write_sender_report(room, stream.ssrc, ntp, stream.timestamp, packets, octets, "load");
            let len = sealer.seal_rtcp(&mut buffer, len);
            send(&self.socket, &buffer[..len])?;
        }
        Ok(())
    }
}

impl RtpStream {
    fn new(ssrc: Ssrc, payload_type: Pt) -> RtpStream {
        RtpStream {
            ssrc,
            payload_type,
            packets: 0,
            frames: 0,
            octets: 0,
            timestamp: RtpTime(0),
            kept: vec![Vec::new(); KEPT],
        }
    }

    fn header(&self, marker: bool) -> HeaderOut {
        HeaderOut {
            marker,
            padding: false,
            payload_type: self.payload_type,
            sequence: self.packets as u16,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        }
    }

    /// Seals the next packet, a datagram of `bytes` with a stamped payload, and keeps it for retransmission. Returns it with the time
    /// of its stamp.
    fn seal_next(
        &mut self,
        sealer: &mut Sealer,
        marker: bool,
        bytes: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> (&[u8], Duration) {
        let mut buffer = [FILLER; VIDEO_BYTES];
        let header_len = self.header(marker).write(&mut buffer, &[]);
        let clear = bytes - sealer.overhead();
        let payload = &mut buffer[header_len..clear];
        write(payload);
        let (frame, sent) = (self.frames, clock::unix_time());
        Stamp { frame, sent }.write(payload);
        let len = sealer.seal_rtp(&mut buffer, header_len, clear, self.packets);
        self.octets += (clear - header_len) as u64;
        (self.keep(&buffer[..len]), sent)
    }

    /// Keeps the next packet.
    fn keep(&mut self, datagram: &[u8]) -> &[u8] {
        let place = &mut self.kept[self.packets as usize % KEPT];
        place.clear();
        place.extend_from_slice(datagram);
        self.packets += 1;
        place
    }

    fn kept(&self, sequence: u16) -> Option<&[u8]> {
        let datagram = &self.kept[usize::from(sequence) % KEPT];
        (datagram.get(2..4)? == sequence.to_be_bytes()).then_some(datagram)
    }
}

/// Datagrams that the kernel has no room for are lost, as on any network.
fn send(socket: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
    match socket.send(datagram) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        other => other.map(drop),
    }
}

const FILLER: u8 = 0x55;
const VIDEO_CLOCK: u32 = 90_000;
const AUDIO_CLOCK: u32 = 48_000;
/// More than a second of workload W1, and a divisor of 65,536, so that a sequence number is a position.
const KEPT: usize = 512;
/// As browsers report.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_packets_can_be_sent_again() {
        let mut stream = RtpStream::new(Ssrc(1), VP8);
        for number in 0..600_u16 {
            let [high, low] = number.to_be_bytes();
            stream.keep(&[0, 0, high, low]);
        }
        assert_eq!(stream.kept(599), Some(&[0, 0, 2, 87][..]));
        assert_eq!((stream.kept(87), stream.kept(600)), (None, None));
    }
}

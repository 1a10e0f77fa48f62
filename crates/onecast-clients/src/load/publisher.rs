//! The publisher of a load: sends the frames of a workload when they are due, and answers NACKs.

mod rtp_stream;
mod video;

pub use video::LayerCounts;

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::kernel::open_socket;
use super::layers::LayerSet;
use super::offer::{AUDIO_SSRC, OPUS};
use super::signalling::Admitted;
use super::workload::{AUDIO_BYTES, AUDIO_RATE, Video};
use onecast_rtc::Certificate;
use onecast_rtc::client_peer::{ClientEvent, ClientPeer};
use onecast_rtc::rtp::Ssrc;
use onecast_rtc::rtp::rtcp::{self, Report, ntp_from_unix};
use onecast_rtc::srtp::{Opener, Sealer};
use onecast_udp::clock;
use onecast_udp::receive_stamped;
use rtp_stream::{KEPT, RtpStream};
use video::{PublishedVideo, REPORT_BYTES, SenderReport};

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
    video: Option<PublishedVideo>,
    audio: RtpStream,
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
    /// Answers keyframe requests with a keyframe, as browsers do; otherwise they are only counted. Layers of a browser always do.
    pub obeys_requests: bool,
    /// The layers of the video, as in the offer.
    pub layers: LayerSet,
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
            video: config
                .video
                .map(|video| PublishedVideo::new(video, config.layers, &accepted.layers)),
            audio: RtpStream::new(AUDIO_SSRC, OPUS),
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
        let (packets, frames) = match &self.video {
            Some(video) => (video.packets(), video.frames),
            None => (0, 0),
        };
        PublisherCounts {
            packets: packets + self.audio.packets,
            frames,
            ..self.counts
        }
    }

    /// Stops or resumes a layer, as browsers do when their estimate changes. Returns false without a layer of this name.
    pub fn set_active(&mut self, rid: &str, is_active: bool) -> bool {
        self.video
            .as_mut()
            .is_some_and(|video| video.set_active(rid, is_active))
    }

    /// The layers of its video, in the order of the offer, with what was sent of each.
    pub fn layers(&self) -> Vec<LayerCounts> {
        self.video.iter().flat_map(PublishedVideo::layers).collect()
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
        let video = self.video.as_ref().map(|_| self.video_at);
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
        let mut wanted: Vec<(Ssrc, u16)> = Vec::new();
        let (counts, mut is_keyframe_wanted) = (&mut self.counts, false);
        let video = &mut self.video;
        // Reports before a malformed one count.
        let _ = rtcp::parse(&datagram[..len], |report| match (report, &mut *video) {
            (Report::Pli { .. } | Report::Fir { .. }, _) => {
                counts.keyframe_requests += 1;
                is_keyframe_wanted = true;
            }
            (Report::Nack { about, sequences }, Some(video)) if video.is_about(about) => {
                wanted.extend(sequences.map(|sequence| (about, sequence)));
            }
            (Report::ReceiverReport { about, .. }, Some(video)) => video.handle_report_about(about),
            _ => {}
        });
        self.counts.nacked += wanted.len() as u64;
        wanted.truncate(KEPT);
        let Some(video) = video else { return Ok(()) };
        if is_keyframe_wanted && (self.config.obeys_requests || video.obeys_requests()) {
            video.request_keyframe();
        }
        for (about, sequence) in wanted {
            if let Some(datagram) = video.kept(about, sequence) {
                send(&self.socket, datagram)?;
            }
        }
        Ok(())
    }

    fn sends(&self) -> bool {
        self.is_sending && self.is_connected()
    }

    fn send_due(&mut self, now: Instant) -> io::Result<()> {
        if self.video.is_some() {
            while let Some(late) = now.checked_duration_since(self.video_at) {
                self.counts.late_ms_max = self.counts.late_ms_max.max(late.as_micros() as f64 / 1e3);
                self.video_at += self.config.frame_interval;
                self.send_frame()?;
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

    fn send_frame(&mut self) -> io::Result<()> {
        let (Some(sealer), Some(video)) = (&mut self.sealer, &mut self.video) else {
            return Ok(());
        };
        let is_keyframe = video.send_frame(sealer, |datagram, stamped| {
            send(&self.socket, datagram)?;
            self.slowest_send = self.slowest_send.max(clock::unix_time().saturating_sub(stamped));
            Ok(())
        })?;
        self.counts.keyframes += u64::from(is_keyframe);
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
        let mut send_report = |report: SenderReport| {
            let mut buffer = [0; REPORT_BYTES];
            let len = report.seal(sealer, &mut buffer);
            send(&self.socket, &buffer[..len])
        };
        if let Some(video) = &mut self.video {
            video.send_reports(ntp, &mut send_report)?;
        }
        match self.audio.packets {
            0 => Ok(()),
            _ => send_report(SenderReport::of(&self.audio, ntp)),
        }
    }
}

/// Datagrams that the kernel has no room for are lost, as on any network.
fn send(socket: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
    match socket.send(datagram) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        other => other.map(drop),
    }
}

const AUDIO_CLOCK: u32 = 48_000;
/// As browsers report.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

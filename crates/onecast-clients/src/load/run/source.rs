//! The publisher of a load: a session whose frames are sent when they are due.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::desk::Granted;
use super::offer::{AUDIO_SSRC, OPUS, VIDEO_SSRC, VP8};
use crate::load::stamp::Stamp;
use crate::load::workload::{AUDIO_BYTES, AUDIO_RATE, VIDEO_BYTES, Video, Workload};
use onecast_rtc::Certificate;
use onecast_rtc::client_peer::{ClientEvent, ClientPeer};
use onecast_rtc::rtp::header::HeaderOut;
use onecast_rtc::rtp::rtcp::{self, Report, ntp_from_unix, write_sender_report};
use onecast_rtc::srtp::{Opener, RTCP_OVERHEAD_MAX, Sealer};
use onecast_udp::clock;
use onecast_udp::receive_stamped;

/// A publisher of a workload.
pub(super) struct Source {
    /// Connected to the server.
    pub(super) socket: UdpSocket,
    peer: ClientPeer,
    opener: Option<Opener>,
    sealer: Option<Sealer>,
    started: Instant,
    rhythm: Option<Video>,
    video: Line,
    audio: Option<Line>,
    keyframe_at: u64,
    report_at: Instant,
    obeys: bool,
    counts: SourceCounts,
}

/// What the publisher did and was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct SourceCounts {
    /// Video frames sent.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Packets sent, repairs not among them.
    pub packets: u64,
    /// Keyframe requests of the server, PLI and FIR.
    pub keyframe_requests: u64,
    /// Packets that the server asked for again.
    pub nacked: u64,
    /// How late a frame was sent at most, ms: the load's own part in what froze.
    pub late_ms_max: f64,
}

/// One SSRC.
struct Line {
    ssrc: u32,
    payload_type: u8,
    /// Packets sent so far.
    packets: u64,
    /// Frames sent so far; each packet of audio is one.
    frames: u64,
    octets: u64,
    timestamp: u32,
    /// The newest datagrams, by sequence number, for repairs.
    kept: Vec<Vec<u8>>,
}

/// What a packet is in its frame.
#[derive(Clone, Copy)]
struct Place {
    keyframe: bool,
    first: bool,
    last: bool,
}

impl Source {
    /// A publisher that begins to connect.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn open(
        granted: &Granted,
        workload: Workload,
        obeys: bool,
        certificate: Certificate,
        now: Instant,
    ) -> io::Result<Source> {
        let socket = super::crew::open_socket(granted.accepted.media)?;
        let accepted = &granted.accepted;
        let (ice, begins) = (&granted.ice, accepted.we_begin);
        Ok(Source {
            socket,
            peer: ClientPeer::new(ice, &accepted.answered, begins, certificate, now),
            opener: None,
            sealer: None,
            started: now,
            rhythm: workload.video(),
            video: Line::new(VIDEO_SSRC, VP8),
            audio: workload.has_audio().then(|| Line::new(AUDIO_SSRC, OPUS)),
            keyframe_at: 0,
            report_at: now,
            obeys,
            counts: SourceCounts::default(),
        })
    }

    /// It has its keys, and sends.
    pub(super) fn is_connected(&self) -> bool {
        self.sealer.is_some()
    }

    /// What it did.
    pub(super) fn counts(&self) -> SourceCounts {
        SourceCounts {
            packets: self.video.packets + self.audio.as_ref().map_or(0, |audio| audio.packets),
            frames: self.video.frames,
            ..self.counts
        }
    }

    /// When [`turn`](Self::turn) is due.
    pub(super) fn poll_timeout(&self) -> Instant {
        let frames = self.sealer.as_ref().map(|_| self.next_frame().min(self.next_audio()));
        frames.map_or(self.peer.poll_timeout(), |frames| frames.min(self.peer.poll_timeout()))
    }

    /// Reads what came and sends what is due.
    ///
    /// # Errors
    /// `ConnectionAborted` when the server ended the session, `ConnectionRefused` when nobody is there any more.
    pub(super) fn turn(&mut self, now: Instant) -> io::Result<()> {
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
        if self.is_connected() {
            self.send_due(now)?;
        }
        Ok(())
    }

    /// Ends the session with close_notify.
    pub(super) fn close(&mut self, now: Instant) {
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
                self.started = now;
                self.report_at = now;
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
        // What was read before a broken packet counts.
        let _ = rtcp::parse(&datagram[..len], |report| match report {
            Report::Pli { .. } | Report::Fir { .. } => {
                counts.keyframe_requests += 1;
                keyframe = true;
            }
            Report::Nack { about, sequences } if about == VIDEO_SSRC => wanted.extend(sequences),
            _ => {}
        });
        if keyframe && self.obeys {
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

    fn next_frame(&self) -> Instant {
        let at = |video: Video| self.started + Duration::from_secs(self.video.frames) / video.rate;
        self.rhythm.map_or(self.next_audio(), at)
    }

    fn next_audio(&self) -> Instant {
        let at = |audio: &Line| self.started + Duration::from_secs(audio.frames) / AUDIO_RATE;
        self.audio.as_ref().map_or(self.started + FOREVER, at)
    }

    fn send_due(&mut self, now: Instant) -> io::Result<()> {
        if let Some(rhythm) = self.rhythm {
            while let Some(late) = now.checked_duration_since(self.next_frame()) {
                self.counts.late_ms_max = self.counts.late_ms_max.max(late.as_micros() as f64 / 1e3);
                self.send_frame(rhythm)?;
            }
        }
        while self.next_audio() <= now {
            self.send_audio()?;
        }
        if self.report_at <= now {
            self.report_at += REPORT_INTERVAL;
            self.send_reports()?;
        }
        Ok(())
    }

    fn send_frame(&mut self, rhythm: Video) -> io::Result<()> {
        let keyframe = self.video.frames >= self.keyframe_at;
        let packets = if keyframe {
            rhythm.keyframe_packets
        } else {
            rhythm.frame_packets
        };
        self.video.timestamp = (self.video.frames * u64::from(VIDEO_CLOCK / rhythm.rate)) as u32;
        for position in 0..packets {
            let place = Place {
                keyframe,
                first: position == 0,
                last: position + 1 == packets,
            };
            self.send_packet(place, false)?;
        }
        if keyframe {
            self.counts.keyframes += 1;
            self.keyframe_at = self.video.frames + rhythm.keyframe_interval;
        }
        self.video.frames += 1;
        Ok(())
    }

    fn send_audio(&mut self) -> io::Result<()> {
        let place = Place {
            keyframe: false,
            first: true,
            last: false,
        };
        self.send_packet(place, true)?;
        if let Some(audio) = &mut self.audio {
            audio.frames += 1;
            audio.timestamp = audio.timestamp.wrapping_add(AUDIO_CLOCK / AUDIO_RATE);
        }
        Ok(())
    }

    fn send_packet(&mut self, place: Place, is_audio: bool) -> io::Result<()> {
        let (line, bytes) = match &mut self.audio {
            Some(audio) if is_audio => (audio, AUDIO_BYTES),
            _ => (&mut self.video, VIDEO_BYTES),
        };
        let Some(sealer) = &mut self.sealer else { return Ok(()) };
        let mut buffer = [FILLER; VIDEO_BYTES];
        let header_len = line.header(place.last).write(&mut buffer, &[]);
        let clear = bytes - sealer.overhead();
        let payload = &mut buffer[header_len..clear];
        if !is_audio {
            write_vp8(place, payload);
        }
        let sent = clock::unix_time();
        let frame = line.frames;
        Stamp { frame, sent }.write(payload);
        let len = sealer.seal_rtp(&mut buffer, header_len, clear, line.packets);
        line.keep(&buffer[..len]);
        line.octets += (clear - header_len) as u64;
        line.packets += 1;
        send(&self.socket, &buffer[..len])
    }

    fn send_reports(&mut self) -> io::Result<()> {
        let Some(sealer) = &mut self.sealer else { return Ok(()) };
        let ntp = ntp_from_unix(clock::unix_time());
        let video = self.rhythm.map(|_| &self.video);
        for line in video.into_iter().chain(&self.audio).filter(|line| line.packets > 0) {
            let mut buffer = [0; 128];
            let (packets, octets) = (line.packets as u32, line.octets as u32);
            let room = &mut buffer[..128 - RTCP_OVERHEAD_MAX];
            let len = write_sender_report(room, line.ssrc, ntp, line.timestamp, packets, octets, "load");
            let len = sealer.seal_rtcp(&mut buffer, len);
            send(&self.socket, &buffer[..len])?;
        }
        Ok(())
    }
}

impl Line {
    fn new(ssrc: u32, payload_type: u8) -> Line {
        Line {
            ssrc,
            payload_type,
            packets: 0,
            frames: 0,
            octets: 0,
            timestamp: 0,
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

    fn keep(&mut self, datagram: &[u8]) {
        let place = &mut self.kept[self.packets as usize % KEPT];
        place.clear();
        place.extend_from_slice(datagram);
    }

    fn kept(&self, sequence: u16) -> Option<&[u8]> {
        let datagram = &self.kept[usize::from(sequence) % KEPT];
        (datagram.get(2..4)? == sequence.to_be_bytes()).then_some(datagram)
    }
}

/// RFC 7741 section 4.2: the S bit on the first packet of a frame. RFC 6386 section 9.1: a tag whose bit 0 is clear in keyframes and
/// whose bit 4 says that the frame is shown; keyframes also tell their size.
fn write_vp8(place: Place, payload: &mut [u8]) {
    payload[0] = if place.first { 0x10 } else { 0 };
    if place.first {
        payload[1] = 0x10 | u8::from(!place.keyframe);
        if place.keyframe {
            payload[4..11].copy_from_slice(&PICTURE_HEADER);
        }
    }
}

/// What the kernel has no room for is lost, as on any way.
fn send(socket: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
    match socket.send(datagram) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        other => other.map(drop),
    }
}

const FILLER: u8 = 0x55;
const VIDEO_CLOCK: u32 = 90_000;
const AUDIO_CLOCK: u32 = 48_000;
/// Start code, 640, 360.
const PICTURE_HEADER: [u8; 7] = [0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
/// More than a second of W1, and a divisor of 65,536.
const KEPT: usize = 512;
/// As browsers report.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(1 << 32);

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_rtc::rtp::Codec;
    use onecast_rtc::rtp::keyframe::{starts_frame, starts_keyframe};

    #[test]
    fn frames_and_keyframes_are_seen_where_they_start() {
        let payload = |keyframe, first| {
            let mut payload = [FILLER; 100];
            let place = Place {
                keyframe,
                first,
                last: false,
            };
            write_vp8(place, &mut payload);
            payload
        };
        for (keyframe, first) in [(true, true), (true, false), (false, true), (false, false)] {
            let payload = payload(keyframe, first);
            assert_eq!(starts_keyframe(Codec::Vp8, &payload), keyframe && first);
            assert_eq!(starts_frame(Codec::Vp8, &payload), first);
        }
    }

    #[test]
    fn only_the_newest_packets_can_be_sent_again() {
        let mut line = Line::new(1, VP8);
        for number in 0..600_u16 {
            let [high, low] = number.to_be_bytes();
            line.keep(&[0, 0, high, low]);
            line.packets += 1;
        }
        assert_eq!(line.kept(599), Some(&[0, 0, 2, 87][..]));
        assert_eq!((line.kept(87), line.kept(600)), (None, None));
    }
}

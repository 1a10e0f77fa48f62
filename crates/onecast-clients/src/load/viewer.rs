//! One viewer of a load without its socket: ICE, DTLS, RTCP reports, and what it receives.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::offer::{Accepted, Payload, payload_type};
use super::playback::Score;
use super::receiver::{Feedback, FrameDelay, MediaReceiver, ReceiverConfig, SSRC};
use super::totals::Totals;
use onecast_rtc::client_peer::{ClientEvent, ClientPeer};
use onecast_rtc::rtp::Ssrc;
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::rtcp::{self, Report, write_receiver_report_empty};
use onecast_rtc::rtp::seq::SequenceExtender;
use onecast_rtc::srtp::{Opener, RTCP_OVERHEAD_MAX, Sealer};
use onecast_rtc::{Certificate, IceCredentials};

/// A viewer whose offer was answered.
pub struct LoadViewer {
    peer: ClientPeer,
    keys: Option<(Opener, Sealer)>,
    streams: Vec<CountedStream>,
    /// `None` once its media is ignored.
    receiver: Option<Box<MediaReceiver>>,
    /// Video packets lost until its media was ignored.
    video_lost: u64,
    feedback: Feedback,
    /// It receives until it leaves.
    is_verified: bool,
    times: JoinTimes,
    answered_at: Instant,
    heard_at: Instant,
    report_at: Option<Instant>,
    is_closed: bool,
    out: VecDeque<Vec<u8>>,
}

/// When a viewer reached each step of joining, since 1970. From `connected` on, these are arrival times at its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JoinTimes {
    /// It began to send its offer.
    pub posted: Duration,
    /// It had the answer.
    pub answered: Duration,
    /// The datagram that completed the DTLS handshake.
    pub connected: Option<Duration>,
    /// The first media packet.
    pub first_packet: Option<Duration>,
    /// The last packet of the first complete keyframe.
    pub picture: Option<Duration>,
    /// The end of the first frame, after that, that was the publisher's newest on arrival.
    pub caught_up: Option<Duration>,
}

/// Media packets of one SSRC, counted by their unencrypted headers.
struct CountedStream {
    ssrc: Ssrc,
    is_audio: bool,
    first: u64,
    numbers: SequenceExtender,
    count: u64,
    /// A packet arrived since the streams were last marked.
    is_fresh: bool,
}

/// Parameters of a new viewer.
pub(super) struct ViewerParams<'a> {
    pub(super) number: u32,
    pub(super) ice: IceCredentials,
    pub(super) accepted: &'a Accepted,
    pub(super) certificate: Certificate,
    pub(super) posted: Duration,
    pub(super) answered: Duration,
    pub(super) is_verified: bool,
    /// It looks at media, at least until its first picture.
    pub(super) receives: bool,
}

impl LoadViewer {
    /// A viewer that begins to connect.
    pub(super) fn new(params: ViewerParams<'_>, config: ReceiverConfig, now: Instant) -> LoadViewer {
        let ViewerParams { accepted, ice, .. } = params;
        let config = ReceiverConfig {
            loss: if params.is_verified { config.loss } else { 0.0 },
            ..config
        };
        let receiver = || Box::new(MediaReceiver::new(config, params.number));
        LoadViewer {
            peer: ClientPeer::new(&ice, &accepted.answered, accepted.we_begin, params.certificate, now),
            keys: None,
            streams: Vec::new(),
            receiver: params.receives.then(receiver),
            video_lost: 0,
            feedback: config.feedback,
            is_verified: params.is_verified,
            times: JoinTimes {
                posted: params.posted,
                answered: params.answered,
                ..JoinTimes::default()
            },
            answered_at: now,
            heard_at: now,
            report_at: (config.feedback != Feedback::None).then_some(now),
            is_closed: false,
            out: VecDeque::new(),
        }
    }

    /// When it reached each step of joining.
    pub fn times(&self) -> JoinTimes {
        self.times
    }

    /// The handshake is complete.
    pub fn is_connected(&self) -> bool {
        self.keys.is_some()
    }

    /// It receives until it leaves.
    pub fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// The delay of each frame so far; empty unless they are logged.
    pub fn delays(&self) -> &[FrameDelay] {
        self.receiver.as_ref().map_or(&[], |receiver| receiver.delays())
    }

    /// The next datagram to send.
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.peer.poll_transmit().or_else(|| self.out.pop_front())
    }

    /// Handles a datagram that arrived at `arrived`, since 1970.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        arrived: Duration,
        datagram: &mut [u8],
        totals: &mut Totals,
    ) {
        self.heard_at = now;
        match self.peer.handle_datagram(now, datagram) {
            Some(ClientEvent::Connected(keys)) => {
                self.times.connected = Some(arrived);
                self.keys = Some((Opener::new(&keys), Sealer::new(&keys)));
            }
            Some(ClientEvent::Media) => self.handle_media(arrived, datagram, totals),
            Some(ClientEvent::Closed) => self.is_closed = true,
            Some(ClientEvent::Control) if self.feedback == Feedback::WithReports => {
                self.handle_control(arrived, datagram);
            }
            Some(ClientEvent::Control) | None => {}
        }
    }

    /// Sender reports are what the delay of the next report counts from.
    fn handle_control(&mut self, arrived: Duration, datagram: &mut [u8]) {
        let (Some(receiver), Some((opener, _))) = (&mut self.receiver, &mut self.keys) else {
            return;
        };
        let Ok(len) = opener.open_rtcp(datagram) else { return };
        // Reports before a malformed one count.
        let _ = rtcp::parse(&datagram[..len], |report| {
            if let Report::SenderReport { ssrc, ntp, .. } = report {
                receiver.handle_sender_report(arrived, ssrc, ntp);
            }
        });
    }

    /// Sends what is due: checks, reports, requests. `at` is `now` since 1970.
    pub(super) fn handle_timeout(&mut self, now: Instant, at: Duration) {
        if self.peer.poll_timeout() <= now {
            self.peer.handle_timeout(now);
        }
        let mut buffer = [0; FEEDBACK_BYTES];
        if self.is_connected() && self.report_at.is_some_and(|due| due <= now) {
            let len = self.write_report(now, at, &mut buffer[..FEEDBACK_BYTES - RTCP_OVERHEAD_MAX]);
            self.send_control(&mut buffer, len);
        }
        if let Some(receiver) = &mut self.receiver
            && matches!(self.feedback, Feedback::LikeBrowsers | Feedback::WithReports)
        {
            let len = receiver.poll_feedback(at, &mut buffer[..FEEDBACK_BYTES - RTCP_OVERHEAD_MAX]);
            self.send_control(&mut buffer, len);
        }
    }

    /// Writes the report that is due and decides when the next one is. Returns its length.
    fn write_report(&mut self, now: Instant, at: Duration, out: &mut [u8]) -> usize {
        if let Some(receiver) = self
            .receiver
            .as_mut()
            .filter(|_| self.feedback == Feedback::WithReports)
        {
            let connected = self
                .times
                .connected
                .map_or(Duration::ZERO, |since| at.saturating_sub(since));
            self.report_at = Some(now + receiver.report_interval(connected));
            return receiver.write_report(at, out);
        }
        self.report_at = (self.feedback == Feedback::LikeBrowsers).then(|| now + REPORT_INTERVAL);
        write_receiver_report_empty(out, SSRC)
    }

    /// What it has shown, and how many packets it requested; `None` once its media is ignored.
    pub(super) fn score(&self, at: Duration, is_live: bool) -> Option<(Score, u64)> {
        Some(self.receiver.as_ref()?.score(at, is_live))
    }

    /// Ends the session with close_notify.
    pub(super) fn close(&mut self, now: Instant) {
        self.peer.close(now);
    }

    /// An unverified viewer has its first picture, or none came in time: the kernel may drop its media from now on.
    pub(super) fn has_seen_enough(&self, now: Instant) -> bool {
        let Some(receiver) = &self.receiver else { return false };
        let waited = now.saturating_duration_since(self.answered_at);
        let is_hopeless = waited > PICTURE_MAX || !receiver.has_video() && self.has_media() && waited > VIDEO_MAX;
        !self.is_verified && (receiver.picture().is_some() || is_hopeless)
    }

    /// Stops receiving; its times and losses are kept.
    pub(super) fn ignore_media(&mut self, at: Duration) {
        if let Some(mut receiver) = self.receiver.take() {
            self.video_lost = receiver.finish(at);
        }
    }

    /// The handshake takes too long.
    pub(super) fn has_failed(&self, now: Instant) -> bool {
        !self.is_connected() && (self.is_closed || now.saturating_duration_since(self.answered_at) > HANDSHAKE_MAX)
    }

    /// The server ended the session, or no longer answers checks (RFC 7675).
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        self.is_connected() && (self.is_closed || now.saturating_duration_since(self.heard_at) > SILENCE_MAX)
    }

    /// The system reports that the server's port is closed.
    pub(super) fn handle_unreachable(&mut self) {
        self.is_closed = true;
    }

    /// Media has arrived.
    pub(super) fn has_media(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Media packets that were read.
    pub(super) fn read(&self) -> u64 {
        self.streams.iter().map(|stream| stream.count).sum()
    }

    /// From now on, [`are_streams_fresh`](Self::are_streams_fresh) is about what arrives.
    pub(super) fn mark_streams(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.is_fresh = false);
    }

    /// A packet of every stream arrived.
    pub(super) fn are_streams_fresh(&self) -> bool {
        self.streams.iter().all(|stream| stream.is_fresh)
    }

    /// Packets that never arrived, by the first and last sequence numbers of each stream, when the kernel dropped `dropped`. Correct
    /// if fewer than 32,768 are missing. Repairs and duplicates among the dropped packets hide as many missing ones.
    pub(super) fn missing_by_numbers(&self, dropped: u64) -> u64 {
        let expected: u64 = self.streams.iter().map(CountedStream::span).sum();
        let missing = (expected as u16).wrapping_sub((self.read() + dropped) as u16);
        u64::try_from(missing.cast_signed()).unwrap_or(0)
    }

    /// Packets that a verified viewer never received, when nothing more comes.
    pub(super) fn finish(&mut self, at: Duration, is_live: bool, totals: &mut Totals) -> u64 {
        if let Some(receiver) = self.receiver.as_ref().filter(|_| is_live) {
            receiver.note_freeze(at, totals);
        }
        self.ignore_media(at);
        let audio = self.streams.iter().filter(|stream| stream.is_audio);
        let audio_lost = audio.map(|stream| stream.span().saturating_sub(stream.count));
        self.video_lost + audio_lost.sum::<u64>()
    }

    fn handle_media(&mut self, arrived: Duration, datagram: &mut [u8], totals: &mut Totals) {
        let Ok(header) = RtpHeader::parse(datagram) else { return };
        let Some(kind) = payload_type(header.payload_type) else {
            return;
        };
        if !matches!(kind, Payload::Rtx(_)) {
            self.times.first_packet.get_or_insert(arrived);
            self.count(&header, kind);
        }
        if let (Some(receiver), Some((opener, _))) = (&mut self.receiver, &mut self.keys) {
            receiver.handle_media(arrived, opener, &header, kind, datagram, totals);
            self.times.picture = receiver.picture();
            self.times.caught_up = receiver.caught_up();
        }
    }

    fn count(&mut self, header: &RtpHeader, kind: Payload) {
        let known = self.streams.iter().position(|stream| stream.ssrc == header.ssrc);
        if known.is_none() && self.streams.len() >= STREAMS_MAX {
            return;
        }
        let place = known.unwrap_or_else(|| {
            self.streams.push(CountedStream {
                ssrc: header.ssrc,
                is_audio: kind == Payload::Audio,
                first: 0,
                numbers: SequenceExtender::new(),
                count: 0,
                is_fresh: false,
            });
            self.streams.len() - 1
        });
        let stream = &mut self.streams[place];
        let index = stream.numbers.extend(header.sequence);
        stream.first = if stream.count == 0 { index.0 } else { stream.first };
        stream.count += 1;
        stream.is_fresh = true;
    }

    fn send_control(&mut self, buffer: &mut [u8; FEEDBACK_BYTES], len: usize) {
        if let Some((_, sealer)) = &mut self.keys
            && len > 0
        {
            let len = sealer.seal_rtcp(buffer, len);
            self.out.push_back(buffer[..len].to_vec());
        }
    }
}

impl CountedStream {
    /// Sequence numbers from the first to the last packet.
    fn span(&self) -> u64 {
        self.numbers.highest().map_or(0, |last| last.0 + 1 - self.first)
    }
}

/// Holds every number that may be missing at once.
const FEEDBACK_BYTES: usize = 1_200;
/// As browsers report on video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The longest a handshake may take, from the answer.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long an unverified viewer waits for its first picture.
const PICTURE_MAX: Duration = Duration::from_secs(5);
/// If only audio has arrived until then, there is no video.
const VIDEO_MAX: Duration = Duration::from_secs(2);
/// Three checks without an answer.
const SILENCE_MAX: Duration = Duration::from_secs(16);
/// One audio and one video stream, and some whose publisher restarted.
const STREAMS_MAX: usize = 8;

//! One viewer of a load, without its socket: ICE, DTLS, reports, what it counts and sees.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::figures::Figures;
use super::offer::{Accepted, Payload, payload_type};
use super::viewing::{SSRC, Viewing, ViewingConfig};
use crate::load::joiner::JoinTimes;
use onecast_rtc::client_peer::{ClientEvent, ClientPeer};
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::rtcp::write_receiver_report_empty;
use onecast_rtc::rtp::seq::SequenceExtender;
use onecast_rtc::srtp::{Opener, RTCP_OVERHEAD_MAX, Sealer};
use onecast_rtc::{Certificate, IceCredentials};

/// A viewer from its answer on.
pub(super) struct Member {
    peer: ClientPeer,
    keys: Option<(Opener, Sealer)>,
    tracks: Vec<Track>,
    viewing: Option<Box<Viewing>>,
    /// It looks until it leaves.
    is_verified: bool,
    times: JoinTimes,
    answered_at: Instant,
    heard_at: Instant,
    report_at: Instant,
    is_closed: bool,
    out: VecDeque<Vec<u8>>,
}

/// Media packets of one source, by their clear headers.
struct Track {
    ssrc: u32,
    is_audio: bool,
    first: u64,
    numbers: SequenceExtender,
    count: u64,
    /// A packet came since the tracks were last marked.
    is_fresh: bool,
}

/// What a new viewer is made of.
pub(super) struct Invitation<'a> {
    /// Its number.
    pub(super) number: u32,
    /// Its own credentials.
    pub(super) ice: IceCredentials,
    /// What it was answered.
    pub(super) accepted: &'a Accepted,
    /// Shared by all.
    pub(super) certificate: Certificate,
    /// When its offer was posted and the answer was there, since 1970.
    pub(super) posted: Duration,
    /// See `posted`.
    pub(super) answered: Duration,
}

impl Member {
    /// A viewer that begins to connect.
    pub(super) fn new(invitation: Invitation<'_>, config: ViewingConfig, is_verified: bool, now: Instant) -> Member {
        let Invitation { accepted, ice, .. } = invitation;
        let config = ViewingConfig {
            loss: if is_verified { config.loss } else { 0.0 },
            ..config
        };
        Member {
            peer: ClientPeer::new(&ice, &accepted.answered, accepted.we_begin, invitation.certificate, now),
            keys: None,
            tracks: Vec::new(),
            viewing: Some(Box::new(Viewing::new(config, invitation.number))),
            is_verified,
            times: JoinTimes {
                posted: invitation.posted,
                answered: invitation.answered,
                ..JoinTimes::default()
            },
            answered_at: now,
            heard_at: now,
            report_at: now,
            is_closed: false,
            out: VecDeque::new(),
        }
    }

    /// The next datagram to send.
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.peer.poll_transmit().or_else(|| self.out.pop_front())
    }

    /// Takes a datagram that arrived at `arrived`, since 1970.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        arrived: Duration,
        datagram: &mut [u8],
        sums: &mut Sums<'_>,
    ) {
        self.heard_at = now;
        match self.peer.handle_datagram(now, datagram) {
            Some(ClientEvent::Connected(keys)) => {
                self.times.connected = Some(arrived);
                self.keys = Some((Opener::new(&keys), Sealer::new(&keys)));
            }
            Some(ClientEvent::Media) => self.handle_media(arrived, datagram, sums),
            Some(ClientEvent::Closed) => self.is_closed = true,
            Some(ClientEvent::Control) | None => {}
        }
    }

    /// Does what is due: checks, reports, requests. `at` is the same instant since 1970.
    pub(super) fn handle_timeout(&mut self, now: Instant, at: Duration) {
        if self.peer.poll_timeout() <= now {
            self.peer.handle_timeout(now);
        }
        let mut buffer = [0; FEEDBACK_BYTES];
        if self.keys.is_some() && self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            let len = write_receiver_report_empty(&mut buffer, SSRC);
            self.send_control(&mut buffer, len);
        }
        if let Some(viewing) = &mut self.viewing {
            let len = viewing.poll_feedback(at, &mut buffer[..FEEDBACK_BYTES - RTCP_OVERHEAD_MAX]);
            self.send_control(&mut buffer, len);
        }
    }

    /// Ends the session with close_notify.
    pub(super) fn close(&mut self, now: Instant) {
        self.peer.close(now);
    }

    /// It has seen what it was to see, and its media may be dropped in the kernel: it has its first picture, or none came in time.
    pub(super) fn is_content(&self, now: Instant) -> bool {
        let Some(viewing) = &self.viewing else { return true };
        let waited = now.saturating_duration_since(self.answered_at);
        let hopeless = waited > PICTURE_MAX || !viewing.has_video() && self.has_media() && waited > VIDEO_MAX;
        !self.is_verified && (viewing.picture().is_some() || hopeless)
    }

    /// It looks no more; what it saw is in its times.
    pub(super) fn look_away(&mut self) {
        self.viewing = None;
    }

    /// It looks until it leaves.
    pub(super) fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// It has its keys.
    pub(super) fn is_connected(&self) -> bool {
        self.keys.is_some()
    }

    /// Its handshake takes too long.
    pub(super) fn has_failed(&self, now: Instant) -> bool {
        !self.is_connected() && (self.is_closed || now.saturating_duration_since(self.answered_at) > HANDSHAKE_MAX)
    }

    /// The server ended the session, or is not there any more (RFC 7675: it answers no checks).
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        self.is_connected() && (self.is_closed || now.saturating_duration_since(self.heard_at) > SILENCE_MAX)
    }

    /// The system says that nobody is at the server's address.
    pub(super) fn handle_unreachable(&mut self) {
        self.is_closed = true;
    }

    /// When it had what.
    pub(super) fn times(&self) -> JoinTimes {
        self.times
    }

    /// Something came.
    pub(super) fn has_media(&self) -> bool {
        !self.tracks.is_empty()
    }

    /// Media packets that were read.
    pub(super) fn read(&self) -> u64 {
        self.tracks.iter().map(|track| track.count).sum()
    }

    /// From now on, [`are_tracks_fresh`](Self::are_tracks_fresh) is about what comes.
    pub(super) fn mark_tracks(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.is_fresh = false);
    }

    /// A packet came of every source.
    pub(super) fn are_tracks_fresh(&self) -> bool {
        self.tracks.iter().all(|track| track.is_fresh)
    }

    /// Packets that never came, by the first and last numbers of each source, when `dropped` of them were counted by the kernel.
    /// Right as long as fewer than 32,768 are missing; repairs and copies in the kernel's count hide as many.
    pub(super) fn missing_by_numbers(&self, dropped: u64) -> u64 {
        let span = |track: &Track| track.numbers.highest().map_or(0, |last| last + 1 - track.first);
        let expected: u64 = self.tracks.iter().map(span).sum();
        let missing = (expected as u16).wrapping_sub((self.read() + dropped) as u16);
        u64::try_from(missing.cast_signed()).unwrap_or(0)
    }

    /// What a verified viewer never got.
    pub(super) fn finish(&mut self, at: Duration, is_live: bool, figures: &mut Figures) -> u64 {
        let video = self
            .viewing
            .as_mut()
            .map_or(0, |viewing| viewing.finish(at, is_live, figures));
        let span = |track: &Track| track.numbers.highest().map_or(0, |last| last + 1 - track.first);
        let audio = self.tracks.iter().filter(|track| track.is_audio);
        video + audio.map(|track| span(track).saturating_sub(track.count)).sum::<u64>()
    }

    fn handle_media(&mut self, arrived: Duration, datagram: &mut [u8], sums: &mut Sums<'_>) {
        let Ok(header) = RtpHeader::parse(datagram) else { return };
        let Some(kind) = payload_type(header.payload_type) else {
            return;
        };
        if !matches!(kind, Payload::Rtx(_)) {
            self.times.first_packet.get_or_insert(arrived);
            self.count(&header, kind);
        }
        if let (Some(viewing), Some((opener, _))) = (&mut self.viewing, &mut self.keys) {
            let figures = if self.is_verified {
                &mut *sums.verified
            } else {
                &mut *sums.others
            };
            viewing.handle_media(arrived, opener, &header, kind, datagram, figures);
            self.times.picture = viewing.picture();
        }
    }

    fn count(&mut self, header: &RtpHeader, kind: Payload) {
        let known = self.tracks.iter().position(|track| track.ssrc == header.ssrc);
        if known.is_none() && self.tracks.len() >= TRACKS_MAX {
            return;
        }
        let place = known.unwrap_or_else(|| {
            self.tracks.push(Track {
                ssrc: header.ssrc,
                is_audio: kind == Payload::Audio,
                first: 0,
                numbers: SequenceExtender::new(),
                count: 0,
                is_fresh: false,
            });
            self.tracks.len() - 1
        });
        let track = &mut self.tracks[place];
        let index = track.numbers.extend(header.sequence);
        track.first = if track.count == 0 { index } else { track.first };
        track.count += 1;
        track.is_fresh = true;
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

/// Where figures go: those of viewers that look only until their first picture are of no use.
pub(super) struct Sums<'a> {
    /// Of verified viewers.
    pub(super) verified: &'a mut Figures,
    /// Of others.
    pub(super) others: &'a mut Figures,
}

/// Holds every number that may be missing at once.
const FEEDBACK_BYTES: usize = 1_200;
/// As browsers report on video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The longest a handshake may take, from the answer.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A viewer that does not look all the time waits so long for its picture.
const PICTURE_MAX: Duration = Duration::from_secs(5);
/// When only audio has come until then, there is no video.
const VIDEO_MAX: Duration = Duration::from_secs(2);
/// Three checks without an answer.
const SILENCE_MAX: Duration = Duration::from_secs(16);
/// One audio, one video, and some that came anew.
const TRACKS_MAX: usize = 8;

//! A connected publisher: its datagrams become packets of the stream's tracks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::egress::SendQueue;
use super::formats;
use crate::ingest::{Ingest, IngestConfig, KeyframeStatus};
use crate::media::keyframes::KeyframeReading;
use crate::media::window::{CacheBounds, Start, WindowBounds};
use crate::media::{Packet, SenderClock, StreamTracks, Window};
use crate::peer::sdp::Negotiated;
use crate::peer::{Opener, Sealer};
use crate::rtp::header::RtpHeader;
use crate::rtp::{Codec, Kind};

/// The sending half of a session, as we see it.
pub struct Publisher {
    tracks: Arc<StreamTracks>,
    ingest: Ingest,
    sealer: Sealer,
    opener: Opener,
    /// What `StreamTracks::start_writing` gave.
    ticket: u64,
    playing: [Option<Codec>; 2],
    clocks: [Option<SenderClock>; 2],
    keyframe_interval: Option<Duration>,
    keyframe_at: Option<Instant>,
    /// The video since the newest keyframe, for shards that have their first viewer.
    window: Window,
    told: KeyframeStatus,
    formats: Vec<(Codec, u8)>,
    received_bytes: u64,
}

/// What a publisher is asked for, and what is kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublisherConfig {
    /// Between regular keyframe requests; `None` for never.
    pub keyframe_interval: Option<Duration>,
    /// What keyframes that viewers ask for may take of the video's bytes, percent.
    pub keyframe_share: u8,
    /// How much is kept for viewers to start with.
    pub cache: CacheBounds,
}

/// What happened to keyframe requests; counts are since the last news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyframeNews {
    /// Wishes that found another one waiting.
    pub coalesced: u64,
    /// Wishes that wait for keyframes' share of the stream.
    pub deferred: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// The publisher has turned out not to answer, or to answer after all.
    pub unanswered: Option<bool>,
    /// Time between the encoder's own keyframes.
    pub interval: Option<Duration>,
}

/// What one datagram of a publisher led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Nothing to tell.
    Media,
    /// The first packet of a track, or the first in another codec.
    Started(Kind, Codec),
    /// Not authentic, a duplicate, not negotiated or no RTP at all: dropped.
    Dropped,
}

impl Publisher {
    /// A publisher that has just connected and takes over the stream's tracks on `shard`.
    pub fn new(
        tracks: Arc<StreamTracks>,
        negotiated: &Negotiated,
        (sealer, opener): (Sealer, Opener),
        shard: usize,
        config: PublisherConfig,
        now: Instant,
    ) -> Publisher {
        let ticket = tracks.start_writing(shard);
        let keyframe_interval = config.keyframe_interval;
        let ingest = IngestConfig {
            negotiated: negotiated.clone(),
            local_ssrc: tracks.video.ssrc() ^ 1,
            video_fir: false,
            keyframe_share: config.keyframe_share,
            audio: tracks.audio.continuity(),
            video: tracks.video.continuity(),
        };
        let lines = [&negotiated.audio, &negotiated.video].into_iter().flatten();
        let formats = lines.flat_map(|line| &line.formats);
        Publisher {
            ingest: Ingest::new(&ingest, now),
            sealer,
            opener,
            ticket,
            playing: [None; 2],
            clocks: [None; 2],
            keyframe_interval,
            keyframe_at: keyframe_interval.map(|interval| now + interval),
            window: Window::new(WindowBounds {
                packets: WINDOW,
                cache: config.cache,
            }),
            told: KeyframeStatus::default(),
            formats: formats
                .map(|format| (format.codec, formats::profile(format.codec, &format.fmtp)))
                .collect(),
            received_bytes: 0,
            tracks,
        }
    }

    /// One SRTP datagram, decrypted in place and written to its track.
    pub fn handle_rtp(&mut self, now: Instant, datagram: &mut [u8]) -> Received {
        let Ok(header) = RtpHeader::parse(datagram) else {
            return Received::Dropped;
        };
        let Ok(len) = self.opener.open_rtp(datagram, header.len, header.ssrc, header.sequence) else {
            return Received::Dropped;
        };
        self.received_bytes += len as u64;
        let (kind, packet) = match self.ingest.handle_rtp(now, &datagram[..len], &header) {
            Ok(Some(taken)) => taken,
            Ok(None) => return Received::Media,
            Err(_) => return Received::Dropped,
        };
        if !self.tracks.may_write(self.ticket) {
            return Received::Dropped;
        }
        let started = self.playing[kind as usize] != Some(packet.codec);
        if started {
            self.start(kind, packet.codec);
        }
        let codec = packet.codec;
        let packet = Arc::new(packet);
        if kind == Kind::Video {
            self.keep(&packet);
        }
        // With nobody watching the pipe is closed, which is no failure: the next viewer opens it again.
        let _ = self.tracks.track(kind).write_rtp(&packet);
        if started {
            Received::Started(kind, codec)
        } else {
            Received::Media
        }
    }

    fn keep(&mut self, packet: &Arc<Packet>) {
        self.window.insert(packet.clone());
        if packet.marker || packet.keyframe {
            self.write_facts();
        }
    }

    fn write_facts(&self) {
        let status = self.ingest.keyframe_status();
        self.tracks.video.keyframes().write(&KeyframeReading {
            interval: status.interval,
            unanswered: status.unanswered,
            wanted: status.wanted,
            coalesced: status.coalesced,
            deferred: status.deferred,
            requested: status.sent,
            answered: status.answered,
            cached_bytes: self.window.gop().bytes() as u64,
            cached_frames: self.window.gop().frames(),
            ready: matches!(self.window.start(), Start::At(_)),
        });
    }

    fn start(&mut self, kind: Kind, codec: Codec) {
        self.playing[kind as usize] = Some(codec);
        let profile = self
            .formats
            .iter()
            .find(|(known, _)| *known == codec)
            .map_or(0, |(_, profile)| *profile);
        self.tracks.track(kind).set_profile(profile);
    }

    /// One SRTCP datagram. False if it is not authentic.
    pub fn handle_rtcp(&mut self, now: Instant, datagram: &mut [u8]) -> bool {
        let Ok(len) = self.opener.open_rtcp(datagram) else {
            return false;
        };
        self.ingest.handle_rtcp(now, &datagram[..len]);
        self.pass_clocks_on();
        true
    }

    fn pass_clocks_on(&mut self) {
        for kind in [Kind::Audio, Kind::Video] {
            let clock = self.ingest.clock(kind);
            if clock.is_some() && clock != self.clocks[kind as usize] && self.tracks.may_write(self.ticket) {
                self.clocks[kind as usize] = clock;
                clock
                    .into_iter()
                    .for_each(|clock| self.tracks.track(kind).write_clock(clock));
            }
        }
    }

    /// What shards with viewers wish: a keyframe, asked for as soon as the last request is long enough ago, or what was before their
    /// first viewer came. They are left to the publisher that writes now.
    pub fn serve_wishes(&mut self) {
        if !self.tracks.may_write(self.ticket) {
            return;
        }
        if let Some(need) = self.tracks.video.take_keyframe_request() {
            self.ingest.request_keyframe(need);
        }
        self.tracks.video.answer_past(|| self.window.past());
    }

    /// What changed in keyframes and requests for them since the last call.
    pub fn take_keyframe_news(&mut self) -> KeyframeNews {
        let status = self.ingest.keyframe_status();
        let before = std::mem::replace(&mut self.told, status);
        if status.unanswered != before.unanswered && self.tracks.may_write(self.ticket) {
            self.write_facts();
        }
        KeyframeNews {
            coalesced: status.coalesced - before.coalesced,
            deferred: status.deferred - before.deferred,
            sent: status.sent - before.sent,
            answered: status.answered - before.answered,
            unanswered: (status.unanswered != before.unanswered).then_some(status.unanswered),
            interval: status.interval,
        }
    }

    /// The regular keyframe request, while anybody watches. What ingest has to tell is left to [`poll_rtcp`](Self::poll_rtcp).
    pub fn handle_timeout(&mut self, now: Instant) {
        if let (Some(at), Some(interval)) = (self.keyframe_at, self.keyframe_interval)
            && at <= now
        {
            self.keyframe_at = Some(now + interval);
            if self.tracks.video.is_bound() {
                self.ingest.tick_keyframes();
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.ingest.poll_timeout(), self.keyframe_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Seals what ingest has to tell the publisher.
    pub fn poll_rtcp(&mut self, now: Instant, to: std::net::SocketAddr, owner: u32, out: &mut SendQueue) {
        while !out.is_full() {
            let buffer = out.reserve();
            let room = buffer.len() - RTCP_OVERHEAD_MAX;
            let Some(len) = self.ingest.poll_rtcp(now, &mut buffer[..room]) else {
                return;
            };
            let len = self.sealer.seal_rtcp(buffer, len);
            out.commit(to, owner, len);
        }
    }

    /// The stream that it feeds.
    pub fn tracks(&self) -> &Arc<StreamTracks> {
        &self.tracks
    }

    /// RTP that was authentic so far, whatever became of it, bytes.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// What came in so far.
    pub fn ingest(&self) -> &Ingest {
        &self.ingest
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if self.tracks.may_write(self.ticket) {
            self.tracks.video.keyframes().write(&KeyframeReading::default());
        }
        self.tracks.stop_writing(self.ticket);
    }
}

/// SRTCP index and the longest tag (RFC 3711, RFC 7714).
const RTCP_OVERHEAD_MAX: usize = 4 + 16;
/// Packets that are kept in any case, so that late ones find their place.
const WINDOW: usize = 64;

//! A connected publisher: its datagrams become packets of the stream's tracks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::egress::SendQueue;
use super::formats;
use crate::ingest::{Ingest, IngestConfig};
use crate::media::{SenderClock, StreamTracks};
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
    formats: Vec<(Codec, u8)>,
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
        keyframe_interval: Option<Duration>,
        now: Instant,
    ) -> Publisher {
        let ticket = tracks.start_writing(shard);
        let config = IngestConfig {
            negotiated: negotiated.clone(),
            local_ssrc: tracks.video.ssrc() ^ 1,
            video_fir: false,
            audio: tracks.audio.continuity(),
            video: tracks.video.continuity(),
        };
        let lines = [&negotiated.audio, &negotiated.video].into_iter().flatten();
        let formats = lines.flat_map(|line| &line.formats);
        Publisher {
            ingest: Ingest::new(&config, now),
            sealer,
            opener,
            ticket,
            playing: [None; 2],
            clocks: [None; 2],
            keyframe_interval,
            keyframe_at: keyframe_interval.map(|interval| now + interval),
            formats: formats
                .map(|format| (format.codec, formats::profile(format.codec, &format.fmtp)))
                .collect(),
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
        // With nobody watching the pipe is closed, which is no failure: the next viewer opens it again.
        let _ = self.tracks.track(kind).write_rtp(&Arc::new(packet));
        if started {
            Received::Started(kind, codec)
        } else {
            Received::Media
        }
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

    /// A viewer somewhere wants a keyframe: asks for it as soon as the last request is long enough ago.
    pub fn pass_keyframe_request_on(&mut self) {
        if self.tracks.video.take_keyframe_request() {
            self.ingest.request_keyframe(Kind::Video);
        }
    }

    /// The regular keyframe request, while anybody watches. What ingest has to tell is left to [`poll_rtcp`](Self::poll_rtcp).
    pub fn handle_timeout(&mut self, now: Instant) {
        if let (Some(at), Some(interval)) = (self.keyframe_at, self.keyframe_interval)
            && at <= now
        {
            self.keyframe_at = Some(now + interval);
            if self.tracks.video.is_bound() {
                self.ingest.request_keyframe(Kind::Video);
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

    /// What came in so far.
    pub fn ingest(&self) -> &Ingest {
        &self.ingest
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.tracks.stop_writing(self.ticket);
    }
}

/// SRTCP index and the longest tag (RFC 3711, RFC 7714).
const RTCP_OVERHEAD_MAX: usize = 4 + 16;

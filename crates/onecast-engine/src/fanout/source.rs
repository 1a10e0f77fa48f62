//! What one stream is made of at the shard of whoever sends it: its packets, in clear, become packets of the stream's tracks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::air::{Air, Sight};
use super::formats;
use crate::ingest::{AudioLevel, Ingest, IngestConfig, KeyframeStatus, Speech};
use crate::media::keyframes::KeyframeReading;
use crate::media::window::{CacheBounds, Start, WindowBounds};
use crate::media::{KeyframeNeed, Packet, SenderClock, StreamTracks, Window};
use onecast_rtc::Sealer;
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::rtcp::Report;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::sdp::{Format, MediaLine, Negotiated};
use onecast_rtc::transmit::SendQueue;

/// One stream that a client sends.
pub struct Source {
    tracks: Arc<StreamTracks>,
    ingest: Ingest,
    shard: usize,
    /// What `StreamTracks::start_writing` gave.
    ticket: u64,
    playing: [Option<Codec>; 2],
    clocks: [Option<SenderClock>; 2],
    keyframe_interval: Option<Duration>,
    keyframe_at: Option<Instant>,
    cache: CacheBounds,
    /// The video since the newest keyframe, for shards that have their first viewer.
    window: Window,
    told: KeyframeStatus,
    formats: Vec<SentFormat>,
    /// Payload type of the newest packets of each kind that were no retransmissions.
    payload_types: [Option<u8>; 2],
    /// Viewers do not have the parameter sets yet that the next keyframe may need.
    sets_due: bool,
    has_video: bool,
    /// Id of the audio level (RFC 6464), if it was negotiated.
    level_id: Option<u8>,
    /// Whether it speaks; `None` where nobody wants to know.
    speech: Option<Box<Speech>>,
    /// Another stream in which it is seen, too.
    air: Option<Box<Air>>,
}

/// A format in which the client may send.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SentFormat {
    codec: Codec,
    payload_type: u8,
    profile: u8,
    fmtp: Box<str>,
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
    /// Dropped like everything before it for seconds: only a new session helps.
    Unreadable,
}

/// Whose source it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A publisher: nothing else comes from its client.
    Publisher,
    /// A member of a room: other streams come from it, too, and whether it speaks is of interest.
    Member,
}

impl Source {
    /// A source that takes over the stream's tracks on `shard`.
    pub fn new(
        tracks: Arc<StreamTracks>,
        negotiated: &Negotiated,
        sender: Sender,
        shard: usize,
        config: PublisherConfig,
        now: Instant,
    ) -> Source {
        let ticket = tracks.start_writing(shard);
        let keyframe_interval = config.keyframe_interval;
        let ingest = IngestConfig {
            negotiated: negotiated.clone(),
            local_ssrc: tracks.video.ssrc() ^ 1,
            video_fir: false,
            keyframe_share: config.keyframe_share,
            transport_cc: sender == Sender::Publisher,
            audio: tracks.audio.continuity(),
            video: tracks.video.continuity(),
        };
        let mut source = Source {
            ingest: Ingest::new(&ingest, now),
            shard,
            ticket,
            playing: [None; 2],
            clocks: [None; 2],
            keyframe_interval,
            keyframe_at: keyframe_interval.map(|interval| now + interval),
            cache: config.cache,
            window: window(config.cache),
            told: KeyframeStatus::default(),
            formats: Vec::new(),
            payload_types: [None; 2],
            sets_due: true,
            has_video: false,
            level_id: None,
            speech: (sender == Sender::Member).then(Box::default),
            air: None,
            tracks,
        };
        source.note_lines(negotiated.audio.as_ref(), negotiated.video.as_ref());
        source
    }

    /// Its lines are these from now on. What stays as it was goes on untouched.
    pub fn set_lines(&mut self, now: Instant, audio: Option<&MediaLine>, video: Option<&MediaLine>) {
        self.ingest.set_line(Kind::Audio, audio);
        self.ingest.set_line(Kind::Video, video);
        self.note_lines(audio, video);
        if audio.is_none() {
            self.playing[Kind::Audio as usize] = None;
            if let Some(speech) = &mut self.speech {
                speech.end();
                speech.handle_timeout(now);
            }
        }
        if video.is_none() {
            // The picture is over: nobody starts with it any more, here or where it is sent to.
            self.window.end_source();
            if self.may_write() && self.playing[Kind::Video as usize].is_some() {
                self.tracks.video.write_ended();
                self.air.iter_mut().for_each(|air| air.end_picture());
            }
            self.playing[Kind::Video as usize] = None;
        }
    }

    fn note_lines(&mut self, audio: Option<&MediaLine>, video: Option<&MediaLine>) {
        self.has_video = video.is_some();
        self.level_id = audio.and_then(|line| line.extensions.audio_level);
        let formats = [audio, video].into_iter().flatten().flat_map(|line| &line.formats);
        let formats: Vec<_> = formats.map(SentFormat::new).collect();
        if formats != self.formats {
            // What was announced before may be something else now.
            self.payload_types = [None; 2];
        }
        self.formats = formats;
    }

    /// The stream `program` shows it from now on, or need not any more: then it goes on being seen there until somebody else is.
    pub fn set_air(&mut self, now: Instant, program: Option<&Arc<StreamTracks>>) {
        let Some(program) = program else {
            if self.air.as_ref().is_some_and(|air| !air.is_seen()) {
                self.air = None;
            }
            return;
        };
        let is_same = self.air.as_ref().is_some_and(|air| air.goes_on_in(program));
        if is_same || Arc::ptr_eq(program, &self.tracks) {
            return;
        }
        self.air = Some(Box::new(Air::new(program.clone(), window(self.cache), now)));
        let past = self.window.past();
        if !program.video.is_bound() && !past.packets().is_empty() {
            // Nobody sees that the pictures of the last seconds come at once.
            past.packets()
                .iter()
                .for_each(|packet| self.show(packet.arrived, Kind::Video, packet));
        } else if self.playing[Kind::Video as usize].is_some() {
            // One that has sent nothing yet begins with a keyframe.
            self.ingest.request_keyframe(KeyframeNeed::Urgent);
        }
    }

    /// Its packets go to these tracks from now on. What it has been seen in goes on as it is until somebody else is seen there.
    pub fn lift(&mut self, now: Instant, tracks: &Arc<StreamTracks>, program: Option<&Arc<StreamTracks>>) {
        self.speech.get_or_insert_default();
        if !Arc::ptr_eq(tracks, &self.tracks) {
            self.move_to(now, tracks);
        }
        self.set_air(now, program);
    }

    fn move_to(&mut self, now: Instant, tracks: &Arc<StreamTracks>) {
        self.playing = [None; 2];
        self.payload_types = [None; 2];
        self.clocks = [None; 2];
        let back = self.air.as_mut().and_then(|air| air.return_to(tracks));
        let ticket = back.unwrap_or_else(|| tracks.start_writing(self.shard));
        let before = (
            std::mem::replace(&mut self.tracks, tracks.clone()),
            std::mem::replace(&mut self.ticket, ticket),
        );
        if back.is_some() {
            self.air = None;
            before.0.stop_writing(before.1);
            return;
        }
        if self.air.is_none() && before.0.may_write(before.1) {
            let mut kept = window(self.cache);
            kept.insert_past(self.window.past());
            self.air = Some(Box::new(Air::going_on(before, kept, now)));
        } else {
            before.0.stop_writing(before.1);
        }
        let (audio, video) = (tracks.audio.continuity(), tracks.video.continuity());
        if audio.last_at.or(video.last_at).is_some() {
            self.ingest.go_on_from(audio, video);
            self.window = window(self.cache);
            if let Some(air) = &mut self.air {
                air.begin_anew();
            }
            self.ingest.request_keyframe(KeyframeNeed::Urgent);
        }
    }

    /// One RTP packet in clear, written to its track.
    pub fn handle_rtp(&mut self, now: Instant, clear: &[u8], header: &RtpHeader) -> Received {
        let (kind, packet) = match self.ingest.handle_rtp(now, clear, header) {
            Ok(Some(taken)) => taken,
            Ok(None) => return Received::Media,
            Err(_) => return Received::Dropped,
        };
        if kind == Kind::Audio {
            self.note_level(now, clear, header);
        }
        if !self.tracks.may_write(self.ticket) {
            if !self.tracks.is_written() {
                self.write_again();
            }
            return Received::Dropped;
        }
        let started = self.playing[kind as usize] != Some(packet.codec);
        self.playing[kind as usize] = Some(packet.codec);
        if started || self.payload_types[kind as usize] != Some(header.payload_type) {
            self.note_format(kind, packet.codec, header.payload_type);
        }
        if kind == Kind::Video && packet.keyframe && std::mem::take(&mut self.sets_due) && packet.sets.is_some() {
            // Viewers who are level with what was before are sent them only when they start again.
            self.tracks.video.write_ended();
            self.air.iter_mut().for_each(|air| air.end_picture());
        }
        let codec = packet.codec;
        let packet = Arc::new(packet);
        if kind == Kind::Video {
            self.keep(&packet);
        }
        // With nobody watching the pipe is closed, which is no failure: the next viewer opens it again.
        let _ = self.tracks.track(kind).write_rtp(&packet);
        self.show(now, kind, &packet);
        if started {
            Received::Started(kind, codec)
        } else {
            Received::Media
        }
    }

    /// A publisher that connected later was refused, and has left: this one goes on from its next keyframe.
    fn write_again(&mut self) {
        self.ticket = self.tracks.start_writing(self.shard);
        self.playing = [None; 2];
        self.clocks = [None; 2];
        self.window = window(self.cache);
        self.ingest
            .go_on_from(self.tracks.audio.continuity(), self.tracks.video.continuity());
        self.ingest.request_keyframe(KeyframeNeed::Urgent);
    }

    fn note_level(&mut self, now: Instant, clear: &[u8], header: &RtpHeader) {
        let (Some(speech), Some(id)) = (&mut self.speech, self.level_id) else {
            return;
        };
        let value = header.extensions(clear).find(|(known, _)| *known == id);
        if let Some(level) = value.and_then(|(_, value)| AudioLevel::parse(value)) {
            speech.handle_level(now, level);
        }
    }

    /// Writes it to the stream in which it is seen, too.
    fn show(&mut self, now: Instant, kind: Kind, packet: &Arc<Packet>) {
        let Some(air) = &mut self.air else { return };
        let sight = Sight {
            shard: self.shard,
            has_video: self.has_video,
            profile: self.tracks.track(kind).profile(),
            clock: self.clocks[kind as usize],
        };
        if !air.take(now, kind, packet, sight) {
            self.air = None;
        }
    }

    /// Somebody has begun to speak, or is silent again.
    pub fn poll_speech(&mut self, now: Instant) -> Option<bool> {
        self.speech.as_mut()?.poll_change(now)
    }

    fn keep(&mut self, packet: &Arc<Packet>) {
        self.window.insert(packet.clone());
        if packet.marker || packet.keyframe {
            self.write_facts();
        }
    }

    fn write_facts(&self) {
        let status = self.ingest.keyframe_status();
        let facts = KeyframeReading {
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
        };
        self.tracks.video.keyframes().write(&facts);
        if let Some(air) = &self.air {
            air.write_facts(&facts);
        }
    }

    /// Packets come in another format than before, unless it is that of retransmissions.
    fn note_format(&mut self, kind: Kind, codec: Codec, payload_type: u8) {
        let known = |format: &&SentFormat| format.codec == codec && format.payload_type == payload_type;
        let format = self.formats.iter().find(known);
        if format.is_some() {
            self.payload_types[kind as usize] = Some(payload_type);
            self.sets_due |= kind == Kind::Video;
        } else if self.payload_types[kind as usize].is_some() {
            return;
        }
        let of_codec = || self.formats.iter().find(|format| format.codec == codec);
        let profile = format.or_else(of_codec).map_or(0, |format| format.profile);
        self.tracks.track(kind).set_profile(profile);
    }

    /// One report of an authentic RTCP packet.
    pub fn handle_report(&mut self, now: Instant, report: &Report<'_>) {
        self.ingest.handle_report(now, report);
    }

    /// Passes on what sender reports have told of the clocks.
    pub fn pass_clocks_on(&mut self) {
        for kind in [Kind::Audio, Kind::Video] {
            let clock = self.ingest.clock(kind);
            let Some(clock) = clock.filter(|_| clock != self.clocks[kind as usize] && self.may_write()) else {
                continue;
            };
            self.clocks[kind as usize] = Some(clock);
            self.tracks.track(kind).write_clock(clock);
            if let Some(air) = &self.air {
                air.write_clock(kind, clock);
            }
        }
    }

    fn may_write(&self) -> bool {
        self.tracks.may_write(self.ticket)
    }

    /// What shards with viewers wish: a keyframe, asked for as soon as the last request is long enough ago, or what was before their
    /// first viewer came. They are left to the source that writes now.
    pub fn serve_wishes(&mut self) {
        if self.may_write() {
            if let Some(need) = self.tracks.video.take_keyframe_request() {
                self.ingest.request_keyframe(need);
            }
            self.tracks.video.answer_past(|| self.window.past());
        }
        if let Some(need) = self.air.as_ref().and_then(|air| air.serve_wishes()) {
            self.ingest.request_keyframe(need);
        }
    }

    /// What changed in keyframes and requests for them since the last call.
    pub fn take_keyframe_news(&mut self) -> KeyframeNews {
        let status = self.ingest.keyframe_status();
        let before = std::mem::replace(&mut self.told, status);
        if status.unanswered != before.unanswered && self.may_write() {
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
        if let Some(speech) = &mut self.speech {
            speech.handle_timeout(now);
        }
        if let (Some(at), Some(interval)) = (self.keyframe_at, self.keyframe_interval)
            && at <= now
        {
            self.keyframe_at = Some(now + interval);
            let is_seen = self.air.as_ref().is_some_and(|air| air.is_bound());
            if self.tracks.video.is_bound() || is_seen {
                self.ingest.tick_keyframes();
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let speech = self.speech.as_ref().and_then(|speech| speech.poll_timeout());
        [self.ingest.poll_timeout(), self.keyframe_at, speech]
            .into_iter()
            .flatten()
            .min()
    }

    /// Seals what ingest has to tell the client.
    pub fn poll_rtcp(
        &mut self,
        now: Instant,
        sealer: &mut Sealer,
        (to, owner): (std::net::SocketAddr, u32),
        out: &mut SendQueue,
    ) {
        let room = SendQueue::PATH_DATAGRAM_MAX - RTCP_OVERHEAD_MAX;
        while !out.is_full() {
            let buffer = out.reserve();
            let Some(len) = self.ingest.poll_rtcp(now, &mut buffer[..room]) else {
                return;
            };
            let len = sealer.seal_rtcp(buffer, len);
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

impl Drop for Source {
    fn drop(&mut self) {
        if self.may_write() {
            self.tracks.video.keyframes().write(&KeyframeReading::default());
        }
        self.tracks.stop_writing(self.ticket);
    }
}

impl SentFormat {
    fn new(format: &Format) -> SentFormat {
        SentFormat {
            codec: format.codec,
            payload_type: format.payload_type,
            profile: formats::profile(format.codec, &format.fmtp),
            fmtp: format.fmtp.clone(),
        }
    }
}

fn window(cache: CacheBounds) -> Window {
    Window::new(WindowBounds { packets: WINDOW, cache })
}

/// SRTCP index and the longest tag (RFC 3711, RFC 7714).
pub(super) const RTCP_OVERHEAD_MAX: usize = 4 + 16;
/// Packets that are kept in any case, so that late ones find their place.
const WINDOW: usize = 64;

//! Receive side of one published stream, on its publisher's shard: decrypted RTP in, packets of the stream's tracks out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ids::PeerIndex;
use super::picture_ends::PictureEnds;
use super::plan::SourceSpec;
use super::program_output::{ProgramOutput, Sight};
use super::sent_formats::{FormatChange, SentFormats};
use crate::ingest::{AudioLevel, Ingest, IngestConfig, SpeechDetector};
use crate::media::gop::Gop;
use crate::media::lane::StreamKey;
use crate::media::window::{CacheBounds, Start, WindowBounds};
use crate::media::{
    KeyframeNeed, KeyframeReading, KeyframeStats, LayerFacts, LayerIndex, Packet, SenderClock, StreamTracks, Window,
    WriteTicket,
};
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::rtcp::Report;
use onecast_rtc::rtp::{Codec, Kind, Pt};
use onecast_rtc::sdp::{MediaLine, Negotiated};
use onecast_rtc::transmit::SendQueue;
use onecast_rtc::{Path, RtcpSealer};

/// One stream that a client sends.
pub(super) struct PublishedStream {
    tracks: Arc<StreamTracks>,
    ingest: Ingest,
    config: SourceConfig,
    ticket: WriteTicket,
    playing: [Option<Codec>; 2],
    clocks: [Option<SenderClock>; 2],
    keyframe_at: Option<Instant>,
    /// The video since the newest keyframe by layer, for shards that have their first viewer. Never empty.
    windows: Vec<Window>,
    /// When what is known of the layers is published next; `None` before the first packet.
    layers_at: Option<Instant>,
    reported: KeyframeStats,
    formats: SentFormats,
    /// Viewers do not have the parameter sets yet that the next keyframe may need.
    sets_due: bool,
    picture_ends: PictureEnds,
    has_video: bool,
    /// Id of the audio level (RFC 6464), if it was negotiated.
    level_id: Option<u8>,
    /// Whether the sender speaks; `None` if that is not to be reported.
    speech: Option<Box<SpeechDetector>>,
    /// The stream of a whole room, in which it is seen, too.
    output: Option<Box<ProgramOutput>>,
}

/// What the sender of a stream is asked for, and what is kept of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourceConfig {
    /// The shard that the sender is on.
    pub shard: usize,
    /// Between regular keyframe requests; `None` for never.
    pub keyframe_interval: Option<Duration>,
    /// What keyframes that viewers ask for may take of the video's bytes, percent.
    pub keyframe_share: u8,
    /// How much is kept for viewers to start with.
    pub cache: CacheBounds,
    /// Nothing else comes from its client: transport-wide feedback is made here.
    pub transport_cc: bool,
}

/// What has happened to keyframe requests; counts are since the last call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyframeChanges {
    /// Requests that found another one waiting.
    pub coalesced: u64,
    /// Requests that wait until keyframes may take more of the stream's bytes.
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

/// What one datagram of a client led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RtpOutcome {
    /// A packet of the track, or a probe.
    Media,
    /// The first packet of a track, or the first in another codec.
    Started(Kind, Codec),
    /// Not authentic, a duplicate, not negotiated or no RTP at all: dropped.
    Dropped,
    /// Dropped like everything before it for seconds: only a new session helps.
    Unreadable,
}

impl PublishedStream {
    /// A stream as `spec` describes it. It takes over the tracks: whatever wrote to them before may not any more.
    pub(super) fn new(spec: &SourceSpec, config: SourceConfig, now: Instant) -> PublishedStream {
        let tracks = spec.tracks.clone();
        let ticket = tracks.start_writing(config.shard);
        let ingest = IngestConfig {
            negotiated: Negotiated {
                audio: spec.audio.clone(),
                video: spec.video.clone(),
            },
            local_ssrc: tracks.feedback_ssrc(),
            video_fir: false,
            keyframe_share: config.keyframe_share,
            transport_cc: config.transport_cc,
            continuity: tracks.continuity(),
        };
        let mut stream = PublishedStream {
            ingest: Ingest::new(&ingest, now),
            config,
            ticket,
            playing: [None; 2],
            clocks: [None; 2],
            keyframe_at: config.keyframe_interval.map(|interval| now + interval),
            windows: vec![window(config.cache)],
            layers_at: None,
            reported: KeyframeStats::default(),
            formats: SentFormats::default(),
            sets_due: true,
            picture_ends: PictureEnds::default(),
            has_video: false,
            level_id: None,
            speech: spec.detects_speech.then(Box::default),
            output: None,
            tracks,
        };
        stream.note_lines(spec.audio.as_ref(), spec.video.as_ref());
        stream.set_program(now, spec.program.as_ref());
        stream
    }

    /// Its lines, and where it is seen, are these from now on.
    pub(super) fn change(&mut self, now: Instant, spec: &SourceSpec) {
        self.set_lines(now, spec.audio.as_ref(), spec.video.as_ref());
        self.set_program(now, spec.program.as_ref());
    }

    /// A line that stays as it was is not touched.
    fn set_lines(&mut self, now: Instant, audio: Option<&MediaLine>, video: Option<&MediaLine>) {
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
            // The picture has ended: no viewer starts with it any more, on any shard.
            self.windows.iter_mut().for_each(Window::end_source);
            if self.may_write() && self.playing[Kind::Video as usize].is_some() {
                self.tracks.video.write_ended();
                self.output.iter_mut().for_each(|output| output.end_picture());
            }
            self.playing[Kind::Video as usize] = None;
        }
    }

    fn note_lines(&mut self, audio: Option<&MediaLine>, video: Option<&MediaLine>) {
        self.has_video = video.is_some();
        self.level_id = audio.and_then(|line| line.extensions.audio_level);
        self.formats.set_lines(audio, video);
    }

    /// The stream `program` shows it from now on. With `None` it goes on being seen where it is until another source is.
    fn set_program(&mut self, now: Instant, program: Option<&Arc<StreamTracks>>) {
        let Some(program) = program else {
            if self.output.as_ref().is_some_and(|output| !output.is_seen()) {
                self.output = None;
            }
            return;
        };
        let is_same = self.output.as_ref().is_some_and(|output| output.goes_on_in(program));
        if is_same || Arc::ptr_eq(program, &self.tracks) {
            return;
        }
        self.output = Some(Box::new(ProgramOutput::new(
            program.clone(),
            window(self.config.cache),
            now,
        )));
        let past = self.windows[0].past();
        if !program.video.is_bound() && !past.packets().is_empty() {
            // Without viewers, the pictures of the last seconds may come all at once.
            past.packets()
                .iter()
                .for_each(|packet| self.show(packet.arrived, Kind::Video, packet));
        } else if self.playing[Kind::Video as usize].is_some() {
            // One that has sent nothing yet begins with a keyframe.
            self.ingest.request_keyframe(KeyframeNeed::Urgent);
        }
    }

    /// Its packets go to the tracks of `spec` from now on, and its lines stay as they are. The stream that it was seen in goes on as it
    /// is until another source is seen there.
    pub(super) fn redirect(&mut self, now: Instant, spec: &SourceSpec) {
        if spec.detects_speech {
            self.speech.get_or_insert_default();
        }
        if !Arc::ptr_eq(&spec.tracks, &self.tracks) {
            self.move_to(now, &spec.tracks);
        }
        self.set_program(now, spec.program.as_ref());
    }

    fn move_to(&mut self, now: Instant, tracks: &Arc<StreamTracks>) {
        if let Some(packet) = self.picture_ends.end() {
            self.write_end(now, packet);
        }
        self.playing = [None; 2];
        self.formats.forget_used();
        self.clocks = [None; 2];
        let back = self.output.as_mut().and_then(|output| output.return_to(tracks));
        let ticket = back.unwrap_or_else(|| tracks.start_writing(self.config.shard));
        let before = (
            std::mem::replace(&mut self.tracks, tracks.clone()),
            std::mem::replace(&mut self.ticket, ticket),
        );
        if back.is_some() {
            self.output = None;
            before.0.stop_writing(before.1);
            return;
        }
        if self.output.is_none() && before.0.may_write(before.1) {
            let mut kept = window(self.config.cache);
            kept.insert_past(self.windows[0].past());
            self.output = Some(Box::new(ProgramOutput::going_on(before, kept, now)));
        } else {
            before.0.stop_writing(before.1);
        }
        let continuity = tracks.continuity();
        if continuity.iter().flatten().any(|layer| layer.last_at.is_some()) {
            self.ingest.resume_at(continuity);
            self.windows = vec![window(self.config.cache)];
            if let Some(output) = &mut self.output {
                output.restart_numbering();
            }
            self.ingest.request_keyframe(KeyframeNeed::Urgent);
        }
    }

    /// One RTP packet in clear, written to its track.
    pub(super) fn handle_rtp(&mut self, now: Instant, clear: &[u8], header: &RtpHeader) -> RtpOutcome {
        let (kind, packet) = match self.ingest.handle_rtp(now, clear, header) {
            Ok(Some(taken)) => taken,
            Ok(None) => return RtpOutcome::Media,
            Err(_) => return RtpOutcome::Dropped,
        };
        if kind == Kind::Audio {
            self.note_level(now, clear, header);
        }
        if !self.tracks.may_write(self.ticket) {
            if !self.tracks.is_written() {
                self.write_again();
            }
            return RtpOutcome::Dropped;
        }
        let started = self.playing[kind as usize] != Some(packet.codec);
        self.playing[kind as usize] = Some(packet.codec);
        if started || !self.formats.is_used(kind, header.payload_type) {
            self.note_format(kind, packet.codec, header.payload_type);
        }
        if kind == Kind::Video && packet.keyframe && std::mem::take(&mut self.sets_due) && packet.sets.is_some() {
            // Viewers that are live get them only when they start again.
            self.tracks.video.write_ended();
            self.output.iter_mut().for_each(|output| output.end_picture());
        }
        let codec = packet.codec;
        match kind {
            Kind::Audio => self.write(now, kind, packet),
            Kind::Video => {
                let known = self.picture_ends.take(now, packet);
                known
                    .into_iter()
                    .flatten()
                    .for_each(|packet| self.write(now, kind, packet));
                self.publish_layers(now);
            }
        }
        if started {
            RtpOutcome::Started(kind, codec)
        } else {
            RtpOutcome::Media
        }
    }

    /// The end of a picture, after which nothing has come.
    fn write_end(&mut self, now: Instant, packet: Packet) {
        if self.tracks.may_write(self.ticket) {
            self.write(now, Kind::Video, packet);
        }
    }

    fn write(&mut self, now: Instant, kind: Kind, packet: Packet) {
        let packet = Arc::new(packet);
        if kind == Kind::Video {
            self.keep(&packet);
        }
        // Without viewers the pipe is closed, which is no failure: the next viewer opens it again.
        let _ = self.tracks.track(kind).write_rtp(&packet);
        self.show(now, kind, &packet);
    }

    /// A publisher that connected later has left (the control plane refused it): this one goes on from its next keyframe.
    fn write_again(&mut self) {
        self.ticket = self.tracks.start_writing(self.config.shard);
        self.playing = [None; 2];
        self.clocks = [None; 2];
        self.windows = vec![window(self.config.cache)];
        self.ingest.resume_at(self.tracks.continuity());
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

    /// Writes a packet to the room's stream, if the source is seen there.
    fn show(&mut self, now: Instant, kind: Kind, packet: &Arc<Packet>) {
        // A room's stream has one layer.
        if packet.layer != LayerIndex::FIRST {
            return;
        }
        let Some(output) = &mut self.output else { return };
        let sight = Sight {
            shard: self.config.shard,
            has_video: self.has_video,
            profile: self.tracks.track(kind).profile(),
            clock: self.clocks[kind as usize],
        };
        if !output.take(now, kind, packet, sight) {
            self.output = None;
        }
    }

    /// Whether the sender has begun (true) or ended to speak since the last call.
    pub(super) fn poll_speech(&mut self, now: Instant) -> Option<bool> {
        self.speech.as_mut()?.poll_change(now)
    }

    fn keep(&mut self, packet: &Arc<Packet>) {
        let place = packet.layer.index();
        while self.windows.len() <= place {
            self.windows.push(window(self.config.cache));
        }
        self.windows[place].insert(packet.clone());
        if packet.marker || packet.keyframe {
            self.write_facts();
        }
    }

    fn write_facts(&self) {
        let gops = || self.windows.iter().map(Window::gop);
        let facts = KeyframeReading {
            stats: self.ingest.keyframe_stats(),
            cached_bytes: gops().map(|gop| gop.bytes() as u64).sum(),
            cached_frames: gops().map(Gop::frames).max().unwrap_or(0),
            ready: self.windows.iter().any(|window| matches!(window.start(), Start::At(_))),
        };
        self.tracks.video.keyframes().write(&facts);
        if let Some(output) = &self.output {
            output.write_facts(&facts);
        }
    }

    /// Publishes what is known of the layers, and tells the shards when one has come or gone.
    fn publish_layers(&mut self, now: Instant) {
        // Of several layers the first packets come one after the other. Those that are there then are there to choose from.
        let first = || {
            if self.ingest.has_layers() {
                now + LAYERS_WAIT
            } else {
                now
            }
        };
        if now < *self.layers_at.get_or_insert_with(first) {
            return;
        }
        self.layers_at = Some(now + LAYERS_INTERVAL);
        self.write_layers(self.ingest.layers(), self.ingest.keyframes_at());
    }

    fn write_layers(&self, facts: [LayerFacts; LayerIndex::COUNT], keyframes_at: [Option<Instant>; LayerIndex::COUNT]) {
        let shared = self.tracks.video.layers();
        let before = shared.changes();
        for ((layer, facts), keyframe_at) in LayerIndex::all().zip(&facts).zip(keyframes_at) {
            shared.write(layer, facts);
            shared.write_keyframe(layer, keyframe_at);
        }
        if shared.changes() != before {
            self.tracks.video.write_layers_changed();
        }
    }

    /// Packets come in another format than before, unless it is that of retransmissions.
    fn note_format(&mut self, kind: Kind, codec: Codec, payload_type: Pt) {
        let profile = match self.formats.note(kind, codec, payload_type) {
            FormatChange::Negotiated { profile } => {
                self.sets_due |= kind == Kind::Video;
                Some(profile)
            }
            FormatChange::Unknown { profile } => profile,
        };
        if let Some(profile) = profile {
            self.tracks.track(kind).set_profile(profile);
        }
    }

    /// One report of an authentic RTCP packet.
    pub(super) fn handle_report(&mut self, now: Instant, report: &Report<'_>) {
        self.ingest.handle_report(now, report);
    }

    /// Passes the clocks of sender reports on to the tracks.
    pub(super) fn pass_clocks_on(&mut self) {
        for kind in [Kind::Audio, Kind::Video] {
            let clock = self.ingest.clock(kind);
            let Some(clock) = clock.filter(|_| clock != self.clocks[kind as usize] && self.may_write()) else {
                continue;
            };
            self.clocks[kind as usize] = Some(clock);
            self.tracks.track(kind).write_clock(clock);
            if let Some(output) = &self.output {
                output.write_clock(kind, clock);
            }
        }
    }

    fn may_write(&self) -> bool {
        self.tracks.may_write(self.ticket)
    }

    /// Takes what shards with viewers request: a keyframe, asked for as soon as the last request is long enough ago, or the packets
    /// before their first viewer. Only the source that writes now may take them.
    pub(super) fn handle_requests(&mut self) {
        if self.may_write() {
            if let Some(need) = self.tracks.video.take_keyframe_request() {
                self.ingest.request_keyframe(need);
            }
            for (layer, window) in LayerIndex::all().zip(&self.windows) {
                self.tracks.video.answer_past(layer, || window.past());
            }
        }
        if let Some(need) = self.output.as_ref().and_then(|output| output.handle_requests()) {
            self.ingest.request_keyframe(need);
        }
    }

    /// What has happened to keyframe requests since the last call.
    pub(super) fn take_keyframe_changes(&mut self) -> KeyframeChanges {
        let status = self.ingest.keyframe_stats();
        let before = std::mem::replace(&mut self.reported, status);
        if status.unanswered != before.unanswered && self.may_write() {
            self.write_facts();
        }
        KeyframeChanges {
            coalesced: status.coalesced - before.coalesced,
            deferred: status.deferred - before.deferred,
            sent: status.requested - before.requested,
            answered: status.answered - before.answered,
            unanswered: (status.unanswered != before.unanswered).then_some(status.unanswered),
            interval: status.interval,
        }
    }

    /// Makes the regular keyframe request while there are viewers. Sending it is left to [`poll_rtcp`](Self::poll_rtcp).
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(packet) = self.picture_ends.handle_timeout(now) {
            self.write_end(now, packet);
        }
        if let Some(speech) = &mut self.speech {
            speech.handle_timeout(now);
        }
        if let (Some(at), Some(interval)) = (self.keyframe_at, self.config.keyframe_interval)
            && at <= now
        {
            self.keyframe_at = Some(now + interval);
            let is_seen = self.output.as_ref().is_some_and(|output| output.is_bound());
            if self.tracks.video.is_bound() || is_seen {
                self.ingest.tick_keyframes();
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let speech = self.speech.as_ref().and_then(|speech| speech.poll_timeout());
        [
            self.ingest.poll_timeout(),
            self.keyframe_at,
            speech,
            self.picture_ends.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Seals the RTCP that ingest has for the client.
    pub(super) fn poll_rtcp(
        &mut self,
        now: Instant,
        sealer: &mut RtcpSealer,
        (to, owner): (Path, PeerIndex),
        out: &mut SendQueue,
    ) {
        let room = SendQueue::PATH_DATAGRAM_MAX - RTCP_OVERHEAD_MAX;
        while !out.is_full() {
            let buffer = out.reserve();
            let Some(len) = self.ingest.poll_rtcp(now, &mut buffer[..room]) else {
                return;
            };
            let len = sealer.seal(buffer, len);
            out.commit(to, owner.number(), len);
        }
    }

    /// The stream whose tracks it writes to.
    #[inline]
    pub(super) fn key(&self) -> StreamKey {
        self.tracks.key
    }
}

impl Drop for PublishedStream {
    /// Gives the write ticket back, which ends the source for viewers, unless another one writes already.
    fn drop(&mut self) {
        if self.may_write() {
            self.tracks.video.keyframes().write(&KeyframeReading::default());
            self.write_layers(Default::default(), Default::default());
        }
        self.tracks.stop_writing(self.ticket);
    }
}

fn window(cache: CacheBounds) -> Window {
    Window::new(WindowBounds { packets: WINDOW, cache })
}

/// SRTCP index and the longest tag (RFC 3711, RFC 7714).
pub(super) const RTCP_OVERHEAD_MAX: usize = 4 + 16;
/// From the first packet of any layer to the first look.
const LAYERS_WAIT: Duration = Duration::from_millis(300);
/// Between two looks at how much each layer sends.
const LAYERS_INTERVAL: Duration = Duration::from_millis(100);
/// Packets that are kept in any case, so that late ones find their place.
const WINDOW: usize = 64;

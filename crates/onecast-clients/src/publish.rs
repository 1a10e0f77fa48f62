//! `onecast publish`: sends a test card or files to a WHIP endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rtc::media_stream::MediaStreamTrack;
use rtc::rtp::packetizer::{Packetizer, new_packetizer};
use rtc::rtp::sequence::new_random_sequencer;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpParameters};
use tokio_util::sync::CancellationToken;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::rtp_transceiver::RtpSender;

use super::client_args::ClientArgs;
use super::peer::{Peer, PeerConfig, PeerError, how_lost, in_library, parameters};
use super::random::random_u32;
use super::retry::busy_reporter;
use super::signal::Granted;
use super::source::{self, Sample, Source};
use super::vp9::Vp9Payloader;
use onecast_rtc::rtp::{Codec, Kind, Ssrc};
use onecast_udp::clock;

/// Options of `onecast publish`.
#[derive(Debug, Clone, clap::Args)]
pub struct PublishArgs {
    /// WHIP endpoint
    #[arg(
        long,
        value_name = "URL",
        env = "ONECAST_TO",
        default_value = "http://127.0.0.1:8080/whip/live"
    )]
    pub to: String,

    /// What to send: `test` (test card and tone), or FILE.ivf, FILE.h264, FILE.ogg; at most one video and one audio
    #[arg(long, value_name = "SOURCE", env = "ONECAST_SOURCE", default_value = "test", num_args = 1..=2)]
    pub source: Vec<String>,

    /// Repeat files until stopped. Without this option, publishing stops at their end
    #[arg(long = "loop")]
    pub repeat: bool,

    /// Options of all clients.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// A running publisher.
pub struct Publisher {
    peer: Peer,
    granted: Granted,
    sending: Sending,
}

/// Sources that are being sent.
pub(super) struct Sending {
    pub(super) counts: Arc<Counts>,
    ended: CancellationToken,
    stop: CancellationToken,
}

/// A source with the track that carries it.
pub(super) struct Attached {
    source: Box<dyn Source>,
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
}

/// What a publisher has sent.
#[derive(Debug, Default)]
pub struct Counts {
    /// RTP packets of both tracks.
    pub packets: AtomicU64,
    /// Video frames.
    pub frames: AtomicU64,
    /// Bytes of both tracks, without RTP headers.
    pub bytes: AtomicU64,
    /// Keyframe requests received.
    pub keyframe_requests: AtomicU64,
}

impl Publisher {
    /// Connects to the endpoint and starts to send.
    ///
    /// # Errors
    /// When the server refuses, or no connection is established.
    pub async fn connect(
        url: &str,
        sources: Vec<Box<dyn Source>>,
        token: Option<&str>,
    ) -> Result<Publisher, PeerError> {
        Publisher::connect_as(url, Publisher::config(url, &sources), sources, token).await
    }

    /// Configuration for the codecs of these sources.
    fn config(url: &str, sources: &[Box<dyn Source>]) -> PeerConfig {
        PeerConfig::towards(url, sources.iter().map(|source| source.codec()).collect())
    }

    /// Connects as configured and starts to send.
    async fn connect_as(
        url: &str,
        config: PeerConfig,
        sources: Vec<Box<dyn Source>>,
        token: Option<&str>,
    ) -> Result<Publisher, PeerError> {
        let mut peer = Peer::new(config, |_| {}).await?;
        let attached = attach(&peer, sources).await?;
        let granted = peer.connect(url, token).await?;
        Ok(Publisher {
            peer,
            granted,
            sending: start(attached),
        })
    }

    /// What was sent so far.
    pub fn counts(&self) -> &Counts {
        &self.sending.counts
    }

    /// Waits for the end. Returns true at the end of all sources, false when the connection is lost.
    pub async fn finished(&mut self) -> bool {
        tokio::select! {
            () = self.sending.ended.cancelled() => true,
            () = self.peer.lost() => false,
        }
    }

    /// Why the connection was lost: the server may have ended the session and know the reason.
    pub async fn how_lost(&self) -> PeerError {
        how_lost(&self.granted).await
    }

    /// Stops sending and ends the session.
    pub async fn close(self) {
        self.sending.stop();
        self.granted.delete().await;
        self.peer.close().await;
    }
}

impl Sending {
    /// Stops sending.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

/// Adds a track for each source. Nothing is sent yet.
pub(super) async fn attach(peer: &Peer, sources: Vec<Box<dyn Source>>) -> Result<Vec<Attached>, PeerError> {
    let mut attached = Vec::new();
    for source in sources {
        let track = Arc::new(TrackLocalStaticRTP::new(media_stream_track(source.codec())));
        let sender = peer.connection().add_track(track.clone()).await?;
        attached.push(Attached { source, track, sender });
    }
    Ok(attached)
}

/// Starts to send on a connected peer.
pub(super) fn start(attached: Vec<Attached>) -> Sending {
    let sending = Sending {
        counts: Arc::default(),
        ended: CancellationToken::new(),
        stop: CancellationToken::new(),
    };
    let mut tasks = Vec::new();
    for Attached { source, track, sender } in attached {
        let keyframe_wanted = Arc::new(AtomicBool::new(false));
        let (counts, stop) = (sending.counts.clone(), sending.stop.clone());
        tokio::spawn(watch_requests(
            track.clone(),
            keyframe_wanted.clone(),
            counts.clone(),
            stop.clone(),
        ));
        tasks.push(tokio::spawn(send(source, track, sender, keyframe_wanted, counts, stop)));
    }
    let all_ended = sending.ended.clone();
    tokio::spawn(async move {
        for task in tasks {
            let _ = task.await;
        }
        all_ended.cancel();
    });
    sending
}

pub(super) fn media_stream_track(codec: Codec) -> MediaStreamTrack {
    let kind = codec.kind();
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(random_u32()),
            ..Default::default()
        },
        codec: parameters(codec).rtp_codec,
        ..Default::default()
    };
    MediaStreamTrack::new(
        "onecast".into(),
        kind.to_string(),
        kind.to_string(),
        in_library(kind),
        vec![coding],
    )
}

async fn watch_requests(
    track: Arc<TrackLocalStaticRTP>,
    keyframe_wanted: Arc<AtomicBool>,
    counts: Arc<Counts>,
    stop: CancellationToken,
) {
    // The interceptor passes only keyframe requests.
    while let Some(Some(TrackLocalEvent::OnRtcpPacket(_))) = stop.run_until_cancelled(track.poll()).await {
        counts.keyframe_requests.fetch_add(1, Ordering::Relaxed);
        keyframe_wanted.store(true, Ordering::Relaxed);
    }
}

/// Splits frames into RTP packets.
fn packetizer(codec: Codec, ssrc: Ssrc) -> Result<impl Packetizer, PeerError> {
    let parameters = parameters(codec).rtp_codec;
    let payloader = match codec {
        Codec::Vp9 => Box::new(Vp9Payloader::default()),
        _ => parameters.payloader()?,
    };
    Ok(new_packetizer(
        clock::now(),
        PACKET_BYTES,
        0,
        ssrc.0,
        payloader,
        Box::new(new_random_sequencer()),
        codec.clock_rate(),
    ))
}

/// The negotiated extension id of audio levels (RFC 6464), if any.
fn level_id(parameters: &RTCRtpParameters) -> Option<u8> {
    let mut extensions = parameters.header_extensions.iter();
    let extension = extensions.find(|extension| extension.uri == LEVEL_URI)?;
    u8::try_from(extension.id).ok()
}

/// Sends the frames of a source, each at its time.
async fn send(
    mut source: Box<dyn Source>,
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
    keyframe_wanted: Arc<AtomicBool>,
    counts: Arc<Counts>,
    stop: CancellationToken,
) {
    let Ok(parameters) = sender.get_parameters().await else {
        return;
    };
    let Some(payload_type) = parameters.rtp_parameters.codecs.first().map(|codec| codec.payload_type) else {
        return;
    };
    let level_id = level_id(&parameters.rtp_parameters).filter(|_| source.codec().kind() == Kind::Audio);
    let Some(ssrc) = webrtc::media_stream::Track::ssrcs(&*track).await.first().copied() else {
        return;
    };
    let codec = source.codec();
    let video = codec.kind() == Kind::Video;
    let Ok(mut packetizer) = packetizer(codec, Ssrc(ssrc)) else {
        return;
    };
    let mut due = tokio::time::Instant::now();
    let mut is_logged = false;
    loop {
        if keyframe_wanted.swap(false, Ordering::Relaxed) && !source.request_keyframe() && !is_logged {
            is_logged = true;
            tracing::info!("the server requested a keyframe, but a file sends none before its next one");
        }
        let Some(Sample { data, duration }) = source.next_sample() else {
            return;
        };
        counts.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        counts.frames.fetch_add(u64::from(video), Ordering::Relaxed);
        let ticks = (duration.as_secs_f64() * f64::from(codec.clock_rate())) as u32;
        let packets = packetizer.packetize(clock::now(), &data, ticks).unwrap_or_default();
        for mut packet in packets {
            packet.header.payload_type = payload_type;
            if let Some(id) = level_id {
                let _ = packet.header.set_extension(id, bytes::Bytes::from_static(&[LEVEL]));
            }
            counts.packets.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = track.write_rtp(packet).await {
                tracing::debug!(%error, "a packet was not sent");
            }
        }
        due += duration;
        if stop.run_until_cancelled(tokio::time::sleep_until(due)).await.is_none() {
            return;
        }
    }
}

/// Runs the command. Returns the exit code.
pub async fn run(args: PublishArgs) -> u8 {
    let sources = match source::open(&args.source, args.repeat) {
        Ok(sources) => sources,
        Err(error) => return fail(&error, 2),
    };
    let trust = match args.client.trust.trust() {
        Ok(trust) => trust,
        Err(error) => return fail(&error, 2),
    };
    let about: Vec<String> = sources.iter().map(|source| source.describe()).collect();
    let config = PeerConfig {
        on_busy: Some(busy_reporter(args.client.json)),
        trust,
        ..Publisher::config(&args.to, &sources)
    };
    let mut publisher = match Publisher::connect_as(&args.to, config, sources, args.client.token.as_deref()).await {
        Ok(publisher) => publisher,
        Err(error) => return fail(&error, 1),
    };
    tell(
        &args,
        &format!("live at {}: {}", args.to, about.join(" and ")),
        &serde_json::json!({"event": "live", "to": args.to, "sources": about}),
    );
    let counts = publisher.sending.counts.clone();
    let code = tokio::select! {
        finished = publisher.finished() => if finished { 0 } else { fail(&publisher.how_lost().await, 1) },
        () = args.client.time_is_up() => 0,
        _ = tokio::signal::ctrl_c() => 0,
        () = progress(&args, &counts) => 0,
    };
    let (frames, bytes) = (
        counts.frames.load(Ordering::Relaxed),
        counts.bytes.load(Ordering::Relaxed),
    );
    tell(
        &args,
        &format!("sent {frames} frames, {bytes} bytes"),
        &serde_json::json!({"event": "end", "frames": frames, "bytes": bytes}),
    );
    publisher.close().await;
    code
}

/// Prints a line per second, forever.
async fn progress(args: &PublishArgs, counts: &Counts) {
    let (mut frames_before, mut bytes_before) = (0, 0);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    loop {
        second.tick().await;
        let (frames, bytes) = (
            counts.frames.load(Ordering::Relaxed),
            counts.bytes.load(Ordering::Relaxed),
        );
        let requests = counts.keyframe_requests.load(Ordering::Relaxed);
        let (rate, kbit) = (frames - frames_before, (bytes - bytes_before) * 8 / 1_000);
        (frames_before, bytes_before) = (frames, bytes);
        tell(
            args,
            &format!("{rate} frames/s, {kbit} kbit/s, {requests} keyframe requests so far"),
            &serde_json::json!({"event": "second", "frames": rate, "kbit": kbit, "keyframe_requests": requests}),
        );
    }
}

/// Publishes test card and tone to an endpoint until the task is dropped. Reconnects when the connection is lost.
pub async fn demo(url: String, token: String) {
    loop {
        let sources = source::open(&["test".to_owned()], true).unwrap_or_default();
        match Publisher::connect(&url, sources, Some(&token)).await {
            Ok(mut publisher) => drop(publisher.finished().await),
            Err(error) => tracing::warn!(%error, "the demo cannot publish"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn tell(args: &PublishArgs, words: &str, json: &serde_json::Value) {
    if args.client.json {
        println!("{json}");
    } else {
        println!("{words}");
    }
}

pub(super) fn fail(error: &dyn std::fmt::Display, code: u8) -> u8 {
    eprintln!("error: {error}");
    code
}

/// RFC 6464.
pub(super) const LEVEL_URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// Audio level of every packet: voice (the highest bit) at -20 dBov, about the level of the tone.
const LEVEL: u8 = 0x80 | 20;
/// RTP packets of this size fit every path, even encrypted and tunnelled.
const PACKET_BYTES: usize = 1_200;

//! `onecast watch`: receives a stream from a WHEP endpoint and reports what arrives.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use super::client_args::ClientArgs;
use super::peer::{Peer, PeerConfig, PeerError, how_lost, in_library, parameters};
use super::publish::fail;
use super::retry::busy_reporter;
use super::signal::Granted;
use onecast_rtc::rtp::seq::SequenceExtender;
use onecast_rtc::rtp::{Codec, Kind, RtpTime, keyframe};
use onecast_udp::clock;

/// Options of `onecast watch`.
#[derive(Debug, Clone, clap::Args)]
pub struct WatchArgs {
    /// WHEP endpoint
    #[arg(
        long,
        value_name = "URL",
        env = "ONECAST_FROM",
        default_value = "http://127.0.0.1:8080/whep/live"
    )]
    pub from: String,

    /// Options of all clients.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// What arrived of one track.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TrackReport {
    /// Name of the encoding.
    pub codec: Option<&'static str>,
    /// RTP packets without duplicates.
    pub packets: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Frames whose last packet arrived.
    pub frames: u64,
    /// Frames received completely.
    pub complete_frames: u64,
    /// Keyframes started.
    pub keyframes: u64,
    /// Packets that did not arrive, not even as a retransmission.
    pub lost: u64,
    /// From the start of watching to the first packet, ms.
    pub first_packet_ms: Option<u64>,
    /// From the start of watching to the first complete frame, ms.
    pub first_frame_ms: Option<u64>,
    /// Whether the first packet started a keyframe; `None` for audio.
    pub began_with_keyframe: Option<bool>,
}

/// Counts one track.
#[derive(Debug)]
pub struct TrackCounter {
    started: Instant,
    extender: SequenceExtender,
    first: Option<u64>,
    /// Received sequence numbers that are not settled yet, and those that end a frame.
    received: BTreeSet<u64>,
    ends: BTreeSet<u64>,
    /// Everything up to here is settled.
    settled: u64,
    last_keyframe: Option<RtpTime>,
    report: TrackReport,
}

impl TrackCounter {
    /// Packets after which a missing one counts as lost.
    const SETTLE_AFTER: u64 = 512;

    /// A track of which nothing has arrived.
    pub fn new(started: Instant) -> TrackCounter {
        TrackCounter {
            started,
            extender: SequenceExtender::default(),
            first: None,
            received: BTreeSet::new(),
            ends: BTreeSet::new(),
            settled: 0,
            last_keyframe: None,
            report: TrackReport::default(),
        }
    }

    /// Counts a packet.
    pub fn arrived(
        &mut self,
        now: Instant,
        codec: Codec,
        sequence: u16,
        timestamp: RtpTime,
        marker: bool,
        payload: &[u8],
    ) {
        let index = self.extender.extend(sequence).0;
        let first = *self.first.get_or_insert(index);
        self.settled = self.settled.max(first - 1);
        if index <= self.settled || !self.received.insert(index) {
            return;
        }
        if self.report.packets == 0 && codec.kind() == Kind::Video {
            self.report.began_with_keyframe = Some(keyframe::starts_keyframe(codec, payload));
        }
        let elapsed = now.saturating_duration_since(self.started).as_millis() as u64;
        self.report.first_packet_ms.get_or_insert(elapsed);
        self.report.codec = Some(codec.encoding_name());
        self.report.packets += 1;
        self.report.bytes += payload.len() as u64;
        if codec.kind() == Kind::Video
            && keyframe::starts_keyframe(codec, payload)
            && self.last_keyframe != Some(timestamp)
        {
            self.last_keyframe = Some(timestamp);
            self.report.keyframes += 1;
        }
        if marker || codec.kind() == Kind::Audio {
            self.ends.insert(index);
            self.report.frames += 1;
        }
        self.settle(index.saturating_sub(TrackCounter::SETTLE_AFTER));
        if self.report.complete_frames == 0 && self.ends.first().is_some_and(|&end| self.is_whole(end)) {
            self.report.first_frame_ms.get_or_insert(elapsed);
        }
    }

    /// What arrived so far.
    pub fn report(&self) -> TrackReport {
        self.report.clone()
    }

    /// What arrived, when nothing more comes.
    pub fn finish(mut self) -> TrackReport {
        let last = self.received.last().copied().unwrap_or(self.settled);
        self.settle(last);
        self.report
    }

    fn is_whole(&self, end: u64) -> bool {
        (self.settled + 1..=end).all(|index| self.received.contains(&index))
    }

    /// Settles every frame that ends at or before `limit`, and every packet up to there.
    fn settle(&mut self, limit: u64) {
        while let Some(&end) = self.ends.first().filter(|&&end| end <= limit) {
            self.report.complete_frames += u64::from(self.is_whole(end));
            self.ends.pop_first();
            self.settle_packets(end);
        }
        if limit > self.settled && self.ends.is_empty() {
            self.settle_packets(limit);
        }
    }

    fn settle_packets(&mut self, limit: u64) {
        let later = self.received.split_off(&(limit + 1));
        let came = std::mem::replace(&mut self.received, later).len() as u64;
        self.report.lost += limit - self.settled - came;
        self.settled = limit;
    }
}

/// A running viewer.
pub struct Viewer {
    peer: Peer,
    granted: Granted,
    counters: Counters,
}

type Counters = Arc<[Mutex<TrackCounter>; 2]>;

impl Viewer {
    /// Connects to the endpoint.
    ///
    /// # Errors
    /// When the server refuses, or no connection is established.
    pub async fn connect(url: &str, token: Option<&str>) -> Result<Viewer, PeerError> {
        Viewer::connect_as(url, Viewer::config(url), token).await
    }

    /// Configuration for every codec that the library can receive.
    fn config(url: &str) -> PeerConfig {
        let codecs = vec![Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];
        PeerConfig::towards(url, codecs)
    }

    /// Connects as configured.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_as(url: &str, config: PeerConfig, token: Option<&str>) -> Result<Viewer, PeerError> {
        let now = clock::now();
        let counters: Counters = Arc::new([Mutex::new(TrackCounter::new(now)), Mutex::new(TrackCounter::new(now))]);
        let (for_tracks, codecs) = (counters.clone(), config.codecs.clone());
        let mut peer = Peer::new(config, move |track| {
            tokio::spawn(count(track, codecs.clone(), for_tracks.clone()));
        })
        .await?;
        for kind in [Kind::Audio, Kind::Video] {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: vec![],
                send_encodings: vec![],
            };
            peer.connection()
                .add_transceiver_from_kind(in_library(kind), Some(init))
                .await?;
        }
        let granted = peer.connect(url, token).await?;
        Ok(Viewer {
            peer,
            granted,
            counters,
        })
    }

    /// What arrived of a track so far.
    pub fn report(&self, kind: Kind) -> TrackReport {
        lock(&self.counters[kind as usize]).report()
    }

    /// Why the connection was lost: the server may have ended the session and know the reason.
    pub async fn how_lost(&self) -> PeerError {
        how_lost(&self.granted).await
    }

    /// Ends the session and returns what arrived of audio and video.
    pub async fn close(self) -> [TrackReport; 2] {
        self.granted.delete().await;
        self.peer.close().await;
        let now = clock::now();
        [Kind::Audio, Kind::Video]
            .map(|kind| std::mem::replace(&mut *lock(&self.counters[kind as usize]), TrackCounter::new(now)).finish())
    }
}

async fn count(track: Arc<dyn TrackRemote>, codecs: Vec<Codec>, counters: Counters) {
    while let Some(event) = track.poll().await {
        let TrackRemoteEvent::OnRtpPacket(packet) = event else {
            continue;
        };
        let header = &packet.header;
        let codec = codecs
            .iter()
            .find(|codec| parameters(**codec).payload_type == header.payload_type);
        let Some(&codec) = codec else { continue };
        lock(&counters[codec.kind() as usize]).arrived(
            clock::now(),
            codec,
            header.sequence_number,
            RtpTime(header.timestamp),
            header.marker,
            &packet.payload,
        );
    }
}

pub(super) fn lock<T>(counter: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    counter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the command. Returns the exit code: 1 when no media arrived or the connection was lost.
pub async fn run(args: WatchArgs) -> u8 {
    let trust = match args.client.trust.trust() {
        Ok(trust) => trust,
        Err(error) => return fail(&error, 2),
    };
    let config = PeerConfig {
        on_busy: Some(busy_reporter(args.client.json)),
        trust,
        ..Viewer::config(&args.from)
    };
    let mut viewer = match Viewer::connect_as(&args.from, config, args.client.token.as_deref()).await {
        Ok(viewer) => viewer,
        Err(error) => return fail(&error, 1),
    };
    if !args.client.json {
        println!("watching {}", args.from);
    }
    let counters = viewer.counters.clone();
    let is_lost = tokio::select! {
        () = viewer.peer.lost() => true,
        () = args.client.time_is_up() => false,
        _ = tokio::signal::ctrl_c() => false,
        () = progress(&args, &counters) => false,
    };
    let code = if is_lost { fail(&viewer.how_lost().await, 1) } else { 0 };
    let [audio, video] = viewer.close().await;
    if args.client.json {
        println!(
            "{}",
            serde_json::json!({"event": "end", "video": video, "audio": audio})
        );
    } else {
        println!("video: {}", in_words(&video));
        println!("audio: {}", in_words(&audio));
    }
    if video.packets + audio.packets == 0 {
        fail(&"no media arrived; is the stream live?", 1)
    } else {
        code
    }
}

fn in_words(report: &TrackReport) -> String {
    let Some(codec) = report.codec else {
        return "nothing arrived".to_owned();
    };
    format!(
        "{codec}, {} packets, {} lost, {} bytes, {} frames, {} of them complete, {} keyframes, first frame after {} ms",
        report.packets,
        report.lost,
        report.bytes,
        report.frames,
        report.complete_frames,
        report.keyframes,
        report
            .first_frame_ms
            .map_or_else(|| "?".to_owned(), |ms| ms.to_string()),
    )
}

/// Prints a line per second, forever.
async fn progress(args: &WatchArgs, counters: &Counters) {
    let mut before = [TrackReport::default(), TrackReport::default()];
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    loop {
        second.tick().await;
        let now = [Kind::Audio, Kind::Video].map(|kind| lock(&counters[kind as usize]).report());
        let [audio, video] = [0, 1].map(|kind: usize| {
            let (now, before) = (&now[kind], &before[kind]);
            let kbit = (now.bytes - before.bytes) * 8 / 1_000;
            (
                now.codec,
                now.packets - before.packets,
                kbit,
                now.frames - before.frames,
                now.lost - before.lost,
            )
        });
        before = now;
        if args.client.json {
            let object = |(codec, packets, kbit, frames, lost)| serde_json::json!({"codec": codec, "packets": packets, "kbit": kbit, "frames": frames, "lost": lost});
            println!(
                "{}",
                serde_json::json!({"event": "second", "video": object(video), "audio": object(audio)})
            );
        } else if video.0.is_none() && audio.0.is_none() {
            println!("waiting for the broadcaster");
        } else {
            let words = |(codec, packets, kbit, frames, lost): (Option<&str>, u64, u64, u64, u64)| {
                format!(
                    "{} {packets} packets, {kbit} kbit/s, {frames} frames, {lost} lost",
                    codec.unwrap_or("nothing")
                )
            };
            println!("{} | {}", words(video), words(audio));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds (sequence, marker) pairs of VP8.
    fn counted(packets: &[(u16, bool)]) -> TrackReport {
        let now = clock::now();
        let mut counter = TrackCounter::new(now);
        for &(sequence, marker) in packets {
            counter.arrived(now, Codec::Vp8, sequence, RtpTime(0), marker, &[0x10, 0]);
        }
        counter.finish()
    }

    #[test]
    fn frames_are_complete_when_every_packet_arrived_in_any_order() {
        let report = counted(&[(65_534, false), (0, false), (65_535, true), (1, true), (1, true)]);
        assert_eq!(
            (report.packets, report.frames, report.complete_frames, report.lost),
            (4, 2, 2, 0)
        );
    }

    #[test]
    fn a_missing_packet_affects_only_its_frame() {
        let report = counted(&[(1, false), (2, true), (3, false), (5, true), (6, true)]);
        assert_eq!((report.frames, report.complete_frames, report.lost), (3, 2, 1));
    }

    #[test]
    fn a_packet_that_was_counted_as_lost_is_not_counted_again() {
        let mut packets: Vec<(u16, bool)> = (1..2_000)
            .filter(|sequence| *sequence != 5)
            .map(|s| (s, true))
            .collect();
        packets.push((5, true));
        let report = counted(&packets);
        assert_eq!((report.packets, report.lost), (1_998, 1));
    }
}

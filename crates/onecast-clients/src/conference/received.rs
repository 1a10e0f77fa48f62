//! The tracks of everybody else: which there are, and what came of each. Pure but for the task that feeds it.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use rtc::rtp::header::Header;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use super::words::OfferedTrack;
use crate::peer::parameters;
use crate::watch::{TrackCounter, TrackReport, lock};
use onecast_rtc::rtp::{Codec, Kind};
use onecast_udp::clock;

/// A track that a member is sent, or was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ReceivedTrack {
    /// Whose it is: the member's number, 0 if the server has not said.
    pub member: u64,
    /// Id of the stream that it belongs to.
    pub stream: String,
    /// `audio` or `video`.
    pub kind: String,
    /// The m-line that carries it, or did.
    pub mid: String,
    /// Whether it is in the newest offer no more.
    pub gone: bool,
    /// What came. Times are counted from the offer that had it first.
    #[serde(flatten)]
    pub report: TrackReport,
}

/// All tracks that were offered, in order.
#[derive(Debug, Default)]
pub(super) struct Received {
    tracks: Vec<Track>,
}

#[derive(Debug)]
struct Track {
    about: OfferedTrack,
    gone: bool,
    counter: TrackCounter,
}

impl Received {
    /// Tracks that are remembered; of those that are gone the oldest are forgotten first.
    const TRACKS_MAX: usize = 4_096;

    /// An offer says what there is.
    pub(super) fn offered(&mut self, now: Instant, tracks: &[OfferedTrack]) {
        for track in &mut self.tracks {
            track.gone = true;
        }
        for about in tracks {
            let known = self.position(&about.stream, &about.kind);
            let at = known.unwrap_or_else(|| self.add(now, about.clone()));
            (self.tracks[at].gone, self.tracks[at].about.mid) = (false, about.mid.clone());
        }
        while self.tracks.len() > Received::TRACKS_MAX
            && let Some(oldest) = self.tracks.iter().position(|track| track.gone)
        {
            self.tracks.remove(oldest);
        }
    }

    /// The library has a track; returns what is known of it.
    pub(super) fn opened(&mut self, now: Instant, stream: &str, kind: &str) -> OfferedTrack {
        let unknown = || OfferedTrack {
            mid: "?".to_owned(),
            id: 0,
            stream: stream.to_owned(),
            kind: kind.to_owned(),
        };
        let at = self.position(stream, kind).unwrap_or_else(|| self.add(now, unknown()));
        self.tracks[at].about.clone()
    }

    fn arrived(&mut self, now: Instant, stream: &str, codec: Codec, header: &Header, payload: &[u8]) {
        let Some(at) = self.position(stream, &codec.kind().to_string()) else {
            return;
        };
        let (sequence, timestamp) = (header.sequence_number, header.timestamp);
        self.tracks[at]
            .counter
            .arrived(now, codec, sequence, timestamp, header.marker, payload);
    }

    /// What came of each so far.
    pub(super) fn report(&self) -> Vec<ReceivedTrack> {
        self.tracks
            .iter()
            .map(|track| track.told(track.counter.report()))
            .collect()
    }

    /// What came of each, when nothing more will.
    pub(super) fn finish(&mut self) -> Vec<ReceivedTrack> {
        let tracks = std::mem::take(&mut self.tracks).into_iter();
        tracks
            .map(|mut track| {
                let counter = std::mem::replace(&mut track.counter, TrackCounter::new(clock::now()));
                track.told(counter.finish())
            })
            .collect()
    }

    fn position(&self, stream: &str, kind: &str) -> Option<usize> {
        let mut tracks = self.tracks.iter();
        tracks.position(|track| track.about.stream == stream && track.about.kind == kind)
    }

    fn add(&mut self, now: Instant, about: OfferedTrack) -> usize {
        self.tracks.push(Track {
            about,
            gone: false,
            counter: TrackCounter::new(now),
        });
        self.tracks.len() - 1
    }
}

impl Track {
    fn told(&self, report: TrackReport) -> ReceivedTrack {
        ReceivedTrack {
            member: self.about.id,
            stream: self.about.stream.clone(),
            kind: self.about.kind.clone(),
            mid: self.about.mid.clone(),
            gone: self.gone,
            report,
        }
    }
}

/// Counts what comes of a track until it ends.
pub(super) async fn count(track: Arc<dyn TrackRemote>, stream: String, received: Arc<Mutex<Received>>) {
    let mut known: Option<(u8, Codec)> = None;
    while let Some(event) = track.poll().await {
        let TrackRemoteEvent::OnRtpPacket(packet) = event else {
            continue;
        };
        let header = &packet.header;
        if known.is_none_or(|(payload_type, _)| payload_type != header.payload_type) {
            known = codec_of(&*track, header)
                .await
                .map(|codec| (header.payload_type, codec));
        }
        let Some((_, codec)) = known else { continue };
        lock(&received).arrived(clock::now(), &stream, codec, header, &packet.payload);
    }
}

/// By what was negotiated for the line, else by the number under which we offer a codec.
async fn codec_of(track: &dyn TrackRemote, header: &Header) -> Option<Codec> {
    let negotiated = track.codec(header.ssrc).await.map(|codec| codec.mime_type);
    let is_it = |codec: &&Codec| {
        let ours = parameters(**codec);
        match &negotiated {
            Some(mime) if !mime.is_empty() => ours.rtp_codec.mime_type.eq_ignore_ascii_case(mime),
            _ => ours.payload_type == header.payload_type,
        }
    };
    CODECS.iter().find(is_it).copied()
}

/// What a member can receive, best first.
pub(super) const CODECS: [Codec; 5] = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];

/// Whether something is a picture.
pub(super) fn is_video(kind: &str) -> bool {
    kind == Kind::Video.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(mid: &str, id: u64) -> OfferedTrack {
        OfferedTrack {
            mid: mid.to_owned(),
            id,
            stream: format!("m{id}.0"),
            kind: "video".to_owned(),
        }
    }

    fn header(sequence_number: u16) -> Header {
        Header {
            sequence_number,
            marker: true,
            ..Header::default()
        }
    }

    #[test]
    fn a_line_that_is_used_again_carries_a_new_track() {
        let (mut received, now) = (Received::default(), clock::now());
        received.offered(now, &[track("s0", 12)]);
        received.arrived(now, "m12.0", Codec::Vp8, &header(1), &[0x10, 0]);
        received.offered(now, &[]);
        received.offered(now, &[track("s0", 13)]);
        received.arrived(now, "m13.0", Codec::Vp8, &header(9), &[0x10, 1]);
        received.arrived(now, "m13.0", Codec::Vp8, &header(10), &[0x10, 1]);
        let told: Vec<_> = received
            .report()
            .into_iter()
            .map(|track| {
                (
                    track.member,
                    track.mid,
                    track.gone,
                    track.report.packets,
                    track.report.began_with_keyframe,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (12, "s0".to_owned(), true, 1, Some(true)),
                (13, "s0".to_owned(), false, 2, Some(false))
            ]
        );
    }

    #[test]
    fn a_track_that_was_offered_before_goes_on() {
        let (mut received, now) = (Received::default(), clock::now());
        received.offered(now, &[track("s0", 12)]);
        received.arrived(now, "m12.0", Codec::Vp8, &header(1), &[0x10, 0]);
        received.offered(now, &[track("s0", 12), track("s1", 13)]);
        received.arrived(now, "m12.0", Codec::Vp8, &header(2), &[0x10, 1]);
        let report = received.report();
        assert_eq!((report.len(), report[0].report.packets, report[0].gone), (2, 2, false));
        assert_eq!(received.opened(now, "m13.0", "video"), track("s1", 13));
        assert_eq!(received.opened(now, "other", "audio").id, 0, "unknown ones count, too");
    }

    #[test]
    fn tracks_that_are_gone_are_forgotten_before_they_are_too_many() {
        let (mut received, now) = (Received::default(), clock::now());
        for id in 0..Received::TRACKS_MAX as u64 + 10 {
            received.offered(now, &[track("s0", id)]);
        }
        let report = received.report();
        assert_eq!(report.len(), Received::TRACKS_MAX);
        assert_eq!(report.last().unwrap().member, Received::TRACKS_MAX as u64 + 9);
    }
}

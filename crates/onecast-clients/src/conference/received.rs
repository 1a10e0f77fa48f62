//! Tracks of the other members, and what arrived of each.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use rtc::rtp::header::Header;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use super::messages::OfferedTrack;
use crate::peer::parameters;
use crate::watch::{TrackCounter, TrackReport, lock};
use onecast_rtc::rtp::{Codec, Kind, RtpTime};
use onecast_udp::clock;

/// A track that a member receives or received.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ReceivedTrack {
    /// Number of the sending member; 0 when the server has not announced it.
    pub member: u64,
    /// Id of the stream that it belongs to.
    pub stream: String,
    /// `audio` or `video`.
    pub kind: String,
    /// The media line that carries or carried it.
    pub mid: String,
    /// The newest offer does not contain it any more.
    pub gone: bool,
    /// What arrived. Times count from the first offer that contained it.
    #[serde(flatten)]
    pub report: TrackReport,
}

/// All tracks that were offered, in order.
#[derive(Debug, Default)]
pub(super) struct ReceivedTracks {
    tracks: Vec<Track>,
}

#[derive(Debug)]
struct Track {
    about: OfferedTrack,
    gone: bool,
    counter: TrackCounter,
}

impl ReceivedTracks {
    /// Tracks to remember. The oldest of those that are gone are dropped first.
    const TRACKS_MAX: usize = 4_096;

    /// Handles the tracks of an offer.
    pub(super) fn offered(&mut self, now: Instant, tracks: &[OfferedTrack]) {
        for track in &mut self.tracks {
            track.gone = true;
        }
        for about in tracks {
            let known = self.position(&about.stream, &about.kind);
            let at = known.unwrap_or_else(|| self.add(now, about.clone()));
            (self.tracks[at].gone, self.tracks[at].about.mid) = (false, about.mid.clone());
        }
        while self.tracks.len() > ReceivedTracks::TRACKS_MAX
            && let Some(oldest) = self.tracks.iter().position(|track| track.gone)
        {
            self.tracks.remove(oldest);
        }
    }

    /// Handles a track that the library opened; returns what the server announced of it.
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
            .arrived(now, codec, sequence, RtpTime(timestamp), header.marker, payload);
    }

    /// Reports of all tracks so far.
    pub(super) fn report(&self) -> Vec<ReceivedTrack> {
        self.tracks
            .iter()
            .map(|track| track.report_with(track.counter.report()))
            .collect()
    }

    /// Final reports of all tracks.
    pub(super) fn finish(&mut self) -> Vec<ReceivedTrack> {
        let tracks = std::mem::take(&mut self.tracks).into_iter();
        tracks
            .map(|mut track| {
                let counter = std::mem::replace(&mut track.counter, TrackCounter::new(clock::now()));
                track.report_with(counter.finish())
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
    fn report_with(&self, report: TrackReport) -> ReceivedTrack {
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

/// Counts the packets of a track until it ends.
pub(super) async fn count(track: Arc<dyn TrackRemote>, stream: String, received: Arc<Mutex<ReceivedTracks>>) {
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

/// By the negotiated codec, else by the payload type of the client's offer.
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

/// Codecs that a member can receive, best first.
pub(super) const CODECS: [Codec; 5] = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];

/// Whether a kind is video.
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
    fn a_reused_line_carries_a_new_track() {
        let (mut received, now) = (ReceivedTracks::default(), clock::now());
        received.offered(now, &[track("s0", 12)]);
        received.arrived(now, "m12.0", Codec::Vp8, &header(1), &[0x10, 0]);
        received.offered(now, &[]);
        received.offered(now, &[track("s0", 13)]);
        received.arrived(now, "m13.0", Codec::Vp8, &header(9), &[0x10, 1]);
        received.arrived(now, "m13.0", Codec::Vp8, &header(10), &[0x10, 1]);
        let report_with: Vec<_> = received
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
            report_with,
            [
                (12, "s0".to_owned(), true, 1, Some(true)),
                (13, "s0".to_owned(), false, 2, Some(false))
            ]
        );
    }

    #[test]
    fn a_track_that_was_offered_before_continues() {
        let (mut received, now) = (ReceivedTracks::default(), clock::now());
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
    fn tracks_that_are_gone_are_dropped_at_the_limit() {
        let (mut received, now) = (ReceivedTracks::default(), clock::now());
        for id in 0..ReceivedTracks::TRACKS_MAX as u64 + 10 {
            received.offered(now, &[track("s0", id)]);
        }
        let report = received.report();
        assert_eq!(report.len(), ReceivedTracks::TRACKS_MAX);
        assert_eq!(report.last().unwrap().member, ReceivedTracks::TRACKS_MAX as u64 + 9);
    }
}

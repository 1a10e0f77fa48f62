//! A publisher in simulated time.

mod feedback;
mod pictures;
mod repair;
mod tracks;

use crate::media::{Continuity, LayerIndex};
use std::time::{Duration, Instant};

use onecast_rtc::rtp::{HeaderOut, Pt, RtpTime, Ssrc};
use onecast_rtc::sdp::{ExtensionIds, Format};
use onecast_testing::Noise;

use super::*;
use crate::media::packet::Passed;

const LOCAL: Ssrc = Ssrc(0x10ca1);
const VIDEO: Ssrc = Ssrc(1_000);
const VIDEO_RTX: Ssrc = Ssrc(1_001);
const AUDIO: Ssrc = Ssrc(2_000);
const VP8: Pt = Pt(96);
const VP8_RTX: Pt = Pt(97);
const H264: Pt = Pt(98);
const OPUS: Pt = Pt(111);
const KEY: &[u8] = &[0x10, 0x00, 1, 2, 3];
const DELTA: &[u8] = &[0x10, 0x01, 1, 2, 3];
const TWCC_ID: u8 = 3;

pub(super) fn format(codec: Codec, payload_type: Pt, rtx: Option<Pt>) -> Format {
    let video = codec.kind() == Kind::Video;
    Format {
        codec,
        payload_type,
        rtx,
        fmtp: "".into(),
        nack: video,
        pli: video,
        transport_cc: true,
    }
}

pub(super) fn media_line(kind: Kind, formats: Vec<Format>) -> MediaLine {
    let extensions = ExtensionIds {
        transport_cc: Some(TWCC_ID),
        video_orientation: Some(4),
        abs_capture_time: Some(5),
        ..ExtensionIds::default()
    };
    MediaLine {
        kind,
        mid: "0".into(),
        formats,
        extensions,
        ssrc: None,
        rtx_ssrc: None,
        layers: None,
    }
}

fn config() -> IngestConfig {
    let video = vec![format(Codec::Vp8, VP8, Some(VP8_RTX)), format(Codec::H264, H264, None)];
    IngestConfig {
        negotiated: Negotiated {
            audio: Some(media_line(Kind::Audio, vec![format(Codec::Opus, OPUS, None)])),
            video: Some(media_line(Kind::Video, video)),
        },
        local_ssrc: LOCAL,
        video_fir: false,
        keyframe_share: 10,
        transport_cc: true,
        continuity: [0, 1 << 32].map(|random| [Continuity::starting(random); LayerIndex::COUNT]),
    }
}

/// The header of a packet without marker and padding, with timestamp 0.
fn header(ssrc: Ssrc, payload_type: Pt, sequence: u16) -> HeaderOut {
    HeaderOut {
        marker: false,
        padding: false,
        payload_type,
        sequence,
        timestamp: RtpTime(0),
        ssrc,
    }
}

struct World {
    ingest: Ingest,
    now: Instant,
    start: Instant,
}

/// What a feedback packet says, in brief.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Nack(Vec<u16>),
    Pli(u32),
    Fir(u32, u8),
    Block {
        about: u32,
        fraction_lost: u8,
        lost: i32,
        highest: u32,
        last_sr: u32,
        delay: u32,
    },
}

impl World {
    fn new() -> World {
        World::with(&config())
    }

    fn with(config: &IngestConfig) -> World {
        let now = onecast_udp::clock::now();
        World {
            ingest: Ingest::new(config, now),
            now,
            start: now,
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn send(
        &mut self,
        out: HeaderOut,
        extensions: &[(u8, &[u8])],
        payload: &[u8],
    ) -> Result<Option<Packet>, IngestDrop> {
        let mut clear = vec![0; HeaderOut::len(extensions)];
        out.write(&mut clear, extensions);
        clear.extend_from_slice(payload);
        let header = RtpHeader::parse(&clear).unwrap();
        let got = self.ingest.handle_rtp(self.now, &clear, &header)?;
        Ok(got.map(|(_, packet)| packet))
    }

    fn rtp(
        &mut self,
        ssrc: Ssrc,
        payload_type: Pt,
        sequence: u16,
        payload: &[u8],
    ) -> Result<Option<Packet>, IngestDrop> {
        let out = HeaderOut {
            marker: true,
            timestamp: RtpTime(u32::from(sequence).wrapping_mul(3_000)),
            ..header(ssrc, payload_type, sequence)
        };
        self.send(out, &[], payload)
    }

    fn video(&mut self, sequence: u16, payload: &[u8]) -> Packet {
        self.rtp(VIDEO, VP8, sequence, payload).unwrap().unwrap()
    }

    fn rtx(&mut self, sequence: u16, original: u16, payload: &[u8]) -> Result<Option<Packet>, IngestDrop> {
        let out = HeaderOut {
            marker: true,
            timestamp: RtpTime(u32::from(original).wrapping_mul(3_000)),
            ..header(VIDEO_RTX, VP8_RTX, sequence)
        };
        self.send(out, &[], &[&original.to_be_bytes(), payload].concat())
    }

    fn feedback(&mut self) -> Vec<Vec<u8>> {
        let mut buf = [0; 1_200];
        let polled = std::iter::from_fn(|| self.ingest.poll_rtcp(self.now, &mut buf).map(|len| buf[..len].to_vec()));
        polled.take(100).collect()
    }

    fn said(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        for datagram in self.feedback() {
            assert_eq!(datagram[1], 201, "a compound packet starts with a receiver report");
            rtcp::parse(&datagram, |report| {
                said.extend(match report {
                    Report::Nack { sequences, .. } => Some(Said::Nack(sequences.collect())),
                    Report::Pli { about } => Some(Said::Pli(about.0)),
                    Report::Fir { about, number } => Some(Said::Fir(about.0, number)),
                    Report::ReceiverReport {
                        about,
                        fraction_lost,
                        lost,
                        highest,
                        last_sr,
                        delay,
                        ..
                    } => Some(Said::Block {
                        about: about.0,
                        fraction_lost,
                        lost,
                        highest,
                        last_sr,
                        delay,
                    }),
                    _ => None,
                });
            })
            .unwrap();
        }
        said
    }

    /// Feedback within this time, with its time in ms since the start. Polls only when the ingest has a timeout.
    fn run(&mut self, ms: u64) -> Vec<(u128, Said)> {
        let end = self.now + Duration::from_millis(ms);
        let mut all = Vec::new();
        while let Some(due) = self.ingest.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let at = (self.now - self.start).as_millis();
            all.extend(self.said().into_iter().map(|said| (at, said)));
        }
        self.now = end;
        all
    }

    fn nacks(&mut self, ms: u64) -> Vec<(u128, Vec<u16>)> {
        let said = self.run(ms).into_iter();
        said.filter_map(|(at, said)| {
            if let Said::Nack(sequences) = said {
                Some((at, sequences))
            } else {
                None
            }
        })
        .collect()
    }
}

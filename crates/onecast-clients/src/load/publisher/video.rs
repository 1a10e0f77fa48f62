//! The video of a load's publisher, in one or several layers: which packets a picture has, and what reports about them change.

use std::io;
use std::time::Duration;

use onecast_rtc::rtp::rtcp::write_sender_report;
use onecast_rtc::rtp::{RtpTime, Ssrc};
use onecast_rtc::srtp::{RTCP_OVERHEAD_MAX, Sealer};

use super::rtp_stream::{RtpStream, SharedHistory};
use crate::load::layers::{AnsweredLayers, LayerSet, LayerSpec, OBS_MID_ID, OBS_RID_ID, SenderKind};
use crate::load::offer::VP8;
use crate::load::workload::{FrameCut, Video, write_vp8_sized};
use crate::random::random_u32;

/// The video that a publisher sends.
pub(super) struct PublishedVideo {
    video: Video,
    sender: SenderKind,
    /// In the order of the offer.
    layers: Vec<VideoLayer>,
    /// Pictures sent so far.
    pub(super) frames: u64,
    /// Number of the next picture that is a keyframe.
    keyframe_at: u64,
    history: SharedHistory,
    /// Layer that the next sender report of OBS is about.
    reports: usize,
}

/// One layer, or the whole video.
struct VideoLayer {
    spec: LayerSpec,
    stream: RtpStream,
    /// Its clock at the first picture.
    offset: RtpTime,
    frame: FrameCut,
    keyframe: FrameCut,
    /// The answer accepts it.
    is_sent: bool,
    /// It is not stopped.
    is_active: bool,
}

/// A layer and what was sent of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct LayerCounts {
    /// Its name; `None` for a video without layers.
    pub rid: Option<&'static str>,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Its SSRC.
    #[serde(skip)]
    pub ssrc: Ssrc,
    /// The answer accepts it.
    pub is_sent: bool,
    /// Packets sent, without retransmissions.
    pub packets: u64,
}

impl PublishedVideo {
    /// A video that has not begun.
    pub(super) fn new(video: Video, layers: LayerSet, answered: &AnsweredLayers) -> PublishedVideo {
        let is_simulcast = layers.is_simulcast();
        let make = |(index, spec): (usize, LayerSpec)| {
            let has_random_start = is_simulcast && layers.sender() == SenderKind::Browser;
            let start = if has_random_start { random_u32() } else { 0 };
            // Room to wrap, but not from the first packets on: then a lost one would make the roll-over counter ambiguous.
            let mut stream = RtpStream::new(spec.ssrc, VP8).starting_at(start as u16 & 0x7fff);
            stream.set_names(names(&spec, layers.sender(), answered));
            VideoLayer {
                stream,
                offset: RtpTime(if has_random_start { random_u32() } else { 0 }),
                frame: video.frame(false).scaled(spec.share),
                keyframe: video.frame(true).scaled(spec.share),
                is_sent: answered.accepts(&layers, index),
                is_active: true,
                spec,
            }
        };
        PublishedVideo {
            video,
            sender: layers.sender(),
            layers: layers.specs().into_iter().enumerate().map(make).collect(),
            frames: 0,
            keyframe_at: 0,
            history: SharedHistory::default(),
            reports: 0,
        }
    }

    /// The layers, in the order of the offer.
    pub(super) fn layers(&self) -> impl Iterator<Item = LayerCounts> {
        self.layers.iter().map(|layer| LayerCounts {
            rid: layer.spec.rid,
            width: layer.spec.width,
            height: layer.spec.height,
            ssrc: layer.spec.ssrc,
            is_sent: layer.is_sent,
            packets: layer.stream.packets,
        })
    }

    /// Stops or resumes an accepted layer, as browsers do when their estimate changes. A layer that comes back goes on with its numbers,
    /// and all layers have a keyframe in its first picture. Returns false without a layer of this name.
    pub(super) fn set_active(&mut self, rid: &str, is_active: bool) -> bool {
        let Some(layer) = self.layers.iter_mut().find(|layer| layer.spec.rid == Some(rid)) else {
            return false;
        };
        if is_active && !layer.is_active {
            self.keyframe_at = self.frames;
        }
        layer.is_active = is_active;
        true
    }

    /// It has layers that browsers send with a keyframe each when asked for one.
    pub(super) fn obeys_requests(&self) -> bool {
        self.layers.len() > 1 && self.sender == SenderKind::Browser
    }

    /// The next picture is a keyframe, in all layers.
    pub(super) fn request_keyframe(&mut self) {
        self.keyframe_at = self.frames;
    }

    /// Sends the next picture of every layer, the largest first as browsers do. `send` gets each datagram and the time of its stamp.
    /// Returns whether it is a keyframe.
    ///
    /// # Errors
    /// Those of `send`.
    pub(super) fn send_frame(
        &mut self,
        sealer: &mut Sealer,
        mut send: impl FnMut(&[u8], Duration) -> io::Result<()>,
    ) -> io::Result<bool> {
        let is_keyframe = self.frames >= self.keyframe_at;
        let elapsed = (self.frames * u64::from(VIDEO_CLOCK / self.video.rate)) as u32;
        let shares_history = self.sender == SenderKind::Obs;
        let is_sent = |layer: &&mut VideoLayer| layer.is_sent && layer.is_active;
        let mut sent: Vec<&mut VideoLayer> = self.layers.iter_mut().filter(is_sent).collect();
        sent.sort_by_key(|layer| std::cmp::Reverse(layer.spec.height));
        for layer in sent {
            layer.stream.timestamp = layer.offset.plus(elapsed);
            let cut = if is_keyframe { layer.keyframe } else { layer.frame };
            let size = (layer.spec.width, layer.spec.height);
            for position in 0..cut.packets {
                let write = |payload: &mut [u8]| write_vp8_sized(is_keyframe, position == 0, size, payload);
                let is_last = position + 1 == cut.packets;
                let (datagram, stamped) = layer.stream.seal_next(sealer, is_last, cut.bytes, write);
                if shares_history {
                    self.history.keep(datagram);
                }
                send(datagram, stamped)?;
            }
            layer.stream.frames += 1;
        }
        if is_keyframe {
            self.keyframe_at = self.frames + self.video.keyframe_interval;
        }
        self.frames += 1;
        Ok(is_keyframe)
    }

    /// A report block about an SSRC has arrived: the server knows its name, and a browser stops sending it.
    pub(super) fn handle_report_about(&mut self, about: Ssrc) {
        if self.sender == SenderKind::Browser
            && let Some(layer) = self.layers.iter_mut().find(|layer| layer.stream.ssrc == about)
        {
            layer.stream.set_names(Vec::new());
        }
    }

    /// Whether a NACK about this SSRC is about the video.
    pub(super) fn is_about(&self, about: Ssrc) -> bool {
        self.layers.iter().any(|layer| layer.stream.ssrc == about)
    }

    /// The datagram to send again. OBS may pick one of another layer.
    pub(super) fn kept(&self, about: Ssrc, sequence: u16) -> Option<&[u8]> {
        if self.sender == SenderKind::Obs {
            return self.history.kept(sequence);
        }
        let layer = self.layers.iter().find(|layer| layer.stream.ssrc == about)?;
        layer.stream.kept(sequence)
    }

    /// Packets sent in all layers, without retransmissions.
    pub(super) fn packets(&self) -> u64 {
        self.layers.iter().map(|layer| layer.stream.packets).sum()
    }

    /// Writes and sends the sender reports that are due: of each layer, all for the same picture. OBS has one reporter, which counts the
    /// packets of all layers and reports on one of them in turn.
    ///
    /// # Errors
    /// Those of `send`.
    pub(super) fn send_reports(
        &mut self,
        ntp: u64,
        mut send: impl FnMut(SenderReport) -> io::Result<()>,
    ) -> io::Result<()> {
        let started = |layer: &&VideoLayer| layer.stream.packets > 0;
        if self.sender == SenderKind::Obs {
            let octets = self.layers.iter().map(|layer| layer.stream.octets).sum::<u64>();
            let count = self.layers.len();
            let layer = self.layers.iter().cycle().nth(self.reports % count);
            self.reports += 1;
            return layer.filter(started).map_or(Ok(()), |layer| {
                send(SenderReport {
                    packets: self.packets() as u32,
                    octets: octets as u32,
                    ..SenderReport::of(&layer.stream, ntp)
                })
            });
        }
        let mut layers = self.layers.iter().filter(started);
        layers.try_for_each(|layer| send(SenderReport::of(&layer.stream, ntp)))
    }
}

/// What a sender report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SenderReport {
    ssrc: Ssrc,
    ntp: u64,
    timestamp: RtpTime,
    packets: u32,
    octets: u32,
}

impl SenderReport {
    /// About a stream, now.
    pub(super) fn of(stream: &RtpStream, ntp: u64) -> SenderReport {
        SenderReport {
            ssrc: stream.ssrc,
            ntp,
            timestamp: stream.timestamp,
            packets: stream.packets as u32,
            octets: stream.octets as u32,
        }
    }

    /// Writes and seals it. Returns its length in `buffer`.
    pub(super) fn seal(&self, sealer: &mut Sealer, buffer: &mut [u8; REPORT_BYTES]) -> usize {
        let room = &mut buffer[..REPORT_BYTES - RTCP_OVERHEAD_MAX];
        let len = write_sender_report(
            room,
            self.ssrc,
            self.ntp,
            self.timestamp,
            self.packets,
            self.octets,
            "load",
        );
        sealer.seal_rtcp(buffer, len)
    }
}

/// The header extensions that name the layer. Browsers write those that the answer accepts.
fn names(spec: &LayerSpec, sender: SenderKind, answered: &AnsweredLayers) -> Vec<(u8, Box<[u8]>)> {
    let Some(rid) = spec.rid else { return Vec::new() };
    let (mid_id, rid_id) = match sender {
        SenderKind::Browser => (answered.mid_id, answered.rid_id),
        SenderKind::Obs => (Some(OBS_MID_ID), Some(OBS_RID_ID)),
    };
    let named = [(mid_id, answered.mid.as_str()), (rid_id, rid)];
    let named = named.into_iter().filter(|(_, name)| !name.is_empty());
    named
        .filter_map(|(id, name)| Some((id?, name.as_bytes().into())))
        .collect()
}

/// RTP clock rate of video, Hz.
const VIDEO_CLOCK: u32 = 90_000;
/// Holds a sender report.
pub(super) const REPORT_BYTES: usize = 128;

#[cfg(test)]
mod tests;

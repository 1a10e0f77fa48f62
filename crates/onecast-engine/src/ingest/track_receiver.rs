//! Receive side of one track: its layers, and what is sent back to the publisher about them.

use std::time::Instant;

use onecast_rtc::rtp::Ssrc;
use onecast_rtc::rtp::rtcp::ReceptionBlock;
use onecast_rtc::sdp::MediaLine;

use super::incoming::{Incoming, KeyframeFeedback};
use super::keyframe_requests::KeyframeRequests;
use super::layer::{LayerReceiver, SharedByLayers};
use super::ssrc_state::SenderReport;
use super::{IngestDrop, ReceiveStats};
use crate::media::continuity::Continuity;
use crate::media::packet::Packet;
use crate::media::{KeyframeNeed, KeyframeStats, SenderClock};

/// The layers of one track. A publisher without simulcast has one.
#[derive(Debug)]
pub(super) struct TrackReceiver {
    /// Never empty.
    layers: Vec<LayerReceiver>,
    shared: SharedByLayers,
    /// The line negotiated `ccm fir`.
    fir: bool,
}

impl TrackReceiver {
    pub(super) fn new(
        line: Option<&MediaLine>,
        continuity: Continuity,
        fir: bool,
        keyframe_share: u8,
    ) -> TrackReceiver {
        TrackReceiver {
            layers: vec![LayerReceiver::new(line, continuity, fir)],
            shared: SharedByLayers {
                extensions: line.map(|line| line.extensions).unwrap_or_default(),
                keyframes: KeyframeRequests::new(keyframe_share),
            },
            fir,
        }
    }

    /// The m-line was renegotiated, or removed (`None`).
    pub(super) fn set_line(&mut self, line: Option<&MediaLine>) {
        self.shared.extensions = line.map(|line| line.extensions).unwrap_or_default();
        // A negotiated line describes one layer.
        self.layers.truncate(1);
        self.layers[0].set_line(line, self.fir);
    }

    /// The packets go to another track from now on, whose numbering stands there.
    pub(super) fn resume_at(&mut self, continuity: Continuity) {
        self.layers[0].resume_at(continuity);
    }

    /// Handles a packet on a media SSRC.
    pub(super) fn handle_media(&mut self, incoming: Incoming<'_>) -> Result<Packet, IngestDrop> {
        let layer = match &mut self.layers[..] {
            // The only layer takes every SSRC: a restarted encoder or a replaced source comes with a new one.
            [only] => only,
            // With several, the SSRC has to be bound to one of them. A guess could mix the pictures of two layers.
            layers => layers
                .iter_mut()
                .find(|layer| layer.ssrc() == Some(incoming.ssrc()))
                .ok_or(IngestDrop::UnboundSsrc)?,
        };
        layer.handle_media(incoming, &mut self.shared)
    }

    /// Handles a retransmission. A bandwidth probe yields nothing.
    pub(super) fn handle_rtx(&mut self, incoming: Incoming<'_>) -> Result<Option<Packet>, IngestDrop> {
        let layer = match &mut self.layers[..] {
            [only] => only,
            layers => layers
                .iter_mut()
                .find(|layer| layer.is_repaired_by(incoming.ssrc()))
                .ok_or(IngestDrop::UnboundSsrc)?,
        };
        layer.handle_rtx(incoming, &mut self.shared)
    }

    /// Stores a sender report if it is about one of the layers. Returns whether it is.
    pub(super) fn handle_sender_report(&mut self, ssrc: Ssrc, report: SenderReport) -> bool {
        self.layers
            .iter_mut()
            .any(|layer| layer.handle_sender_report(ssrc, report))
    }

    /// An RTCP BYE: the SSRC stops sending.
    pub(super) fn handle_bye(&mut self, ssrc: Ssrc) {
        self.layers.iter_mut().for_each(|layer| layer.handle_bye(ssrc));
    }

    /// A viewer needs a keyframe.
    pub(super) fn request_keyframe(&mut self, need: KeyframeNeed) {
        self.shared.keyframes.want(need);
    }

    /// The operator's timer wants a keyframe.
    pub(super) fn tick_keyframes(&mut self) {
        self.shared.keyframes.tick();
    }

    /// Keyframes and the requests for them.
    pub(super) fn keyframe_stats(&self) -> KeyframeStats {
        self.shared.keyframes.stats()
    }

    /// Writes the keyframe request and the NACKs that are due. Returns their length.
    pub(super) fn write_feedback(&mut self, now: Instant, local_ssrc: Ssrc, out: &mut [u8]) -> usize {
        let Some((ssrc, format)) = self.layers.iter().find_map(LayerReceiver::sending) else {
            return 0;
        };
        let keyframes = &mut self.shared.keyframes;
        let mut len = keyframes.write(now, (local_ssrc, ssrc), format.keyframe_feedback, out);
        for layer in &mut self.layers {
            len += layer.write_nack(now, local_ssrc, &mut out[len..]);
        }
        len
    }

    /// When [`write_feedback`](Self::write_feedback) has something to write; `asap` if at once.
    pub(super) fn deadline(&self, asap: Instant) -> Option<Instant> {
        let (_, format) = self.layers.iter().find_map(LayerReceiver::sending)?;
        let keyframe = match format.keyframe_feedback {
            KeyframeFeedback::None => None,
            KeyframeFeedback::Pli | KeyframeFeedback::Fir => self.shared.keyframes.deadline(asap),
        };
        let nacks = self.layers.iter().filter_map(LayerReceiver::nack_deadline);
        nacks.chain(keyframe).min()
    }

    /// Report blocks about what arrived since the last ones.
    pub(super) fn take_reports(&mut self, now: Instant) -> impl Iterator<Item = ReceptionBlock> {
        self.layers.iter_mut().filter_map(move |layer| layer.take_report(now))
    }

    /// The sender's clock on the track's timeline.
    pub(super) fn clock(&self) -> Option<SenderClock> {
        self.layers.iter().find_map(LayerReceiver::clock)
    }

    /// SSRCs whose packets enter the track.
    pub(super) fn active_ssrcs(&self) -> impl Iterator<Item = Ssrc> {
        self.layers.iter().filter_map(LayerReceiver::active_ssrc)
    }

    /// Where the numbering stands.
    pub(super) fn continuity(&self) -> Continuity {
        self.layers[0].continuity()
    }

    /// Counts of all layers; the codec, SSRC and size of the first.
    pub(super) fn stats(&self) -> ReceiveStats {
        let mut stats = *self.layers[0].stats();
        self.layers[1..].iter().for_each(|layer| stats.add(layer.stats()));
        stats.keyframe_requests_sent = self.shared.keyframes.stats().requested;
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::incoming::ReceiveFormat;
    use crate::ingest::tests::{format, media_line};
    use onecast_rtc::rtp::rtcp::{self, Report};
    use onecast_rtc::rtp::{Codec, HeaderOut, Kind, Pt, RtpHeader, RtpTime};

    const VP8: Pt = Pt(96);
    const RTX: Pt = Pt(97);
    const KEY: &[u8] = &[0x10, 0x00, 1, 2, 3];
    const DELTA: &[u8] = &[0x10, 0x01, 1, 2, 3];

    /// A track with a layer for each SSRC, whose retransmissions have the SSRC + 100. Layer `n` counts from 100,000 * (n + 1).
    fn track(ssrcs: &[u32]) -> TrackReceiver {
        let mut line = media_line(Kind::Video, vec![format(Codec::Vp8, VP8, Some(RTX))]);
        let mut track = TrackReceiver::new(Some(&line), Continuity::starting(0), false, 10);
        track.layers.clear();
        for (&ssrc, number) in ssrcs.iter().zip(1..) {
            (line.ssrc, line.rtx_ssrc) = (Some(Ssrc(ssrc)), Some(Ssrc(ssrc + 100)));
            let mut continuity = Continuity::starting(0);
            continuity.next_index = 100_000 * number;
            track.layers.push(LayerReceiver::new(Some(&line), continuity, false));
        }
        track
    }

    /// The index of the packet that the track makes of a received one.
    fn receive(
        track: &mut TrackReceiver,
        now: Instant,
        ssrc: Ssrc,
        sequence: u16,
        payload: &[u8],
    ) -> Result<u64, IngestDrop> {
        let out = HeaderOut {
            marker: true,
            padding: false,
            payload_type: VP8,
            sequence,
            timestamp: RtpTime(0),
            ssrc,
        };
        let mut clear = vec![0; HeaderOut::len(&[])];
        out.write(&mut clear, &[]);
        let header = RtpHeader::parse(&clear).unwrap();
        let incoming = Incoming {
            now,
            header: &header,
            clear: &clear,
            payload,
            format: ReceiveFormat::new(&format(Codec::Vp8, VP8, Some(RTX)), false),
        };
        if ssrc > Ssrc(100) {
            return Ok(track.handle_rtx(incoming)?.expect("it carries media").index);
        }
        track.handle_media(incoming).map(|packet| packet.index)
    }

    #[test]
    fn each_layer_has_its_ssrc_its_numbering_and_its_repairs() {
        let now = onecast_udp::clock::now();
        let mut track = track(&[1, 2]);
        assert_eq!(
            receive(&mut track, now, Ssrc(2), 500, DELTA),
            Err(IngestDrop::BeforeKeyframe)
        );
        assert_eq!(receive(&mut track, now, Ssrc(1), 10, KEY), Ok(100_000));
        assert_eq!(receive(&mut track, now, Ssrc(2), 501, KEY), Ok(200_000));
        assert_eq!(receive(&mut track, now, Ssrc(2), 503, DELTA), Ok(200_002));
        assert_eq!(receive(&mut track, now, Ssrc(3), 1, KEY), Err(IngestDrop::UnboundSsrc));
        assert_eq!(receive(&mut track, now, Ssrc(1), 11, DELTA), Ok(100_001));
        let repair = [&502u16.to_be_bytes()[..], DELTA].concat();
        assert_eq!(receive(&mut track, now, Ssrc(102), 1, &repair), Ok(200_001));
        assert_eq!(
            receive(&mut track, now, Ssrc(103), 1, &repair),
            Err(IngestDrop::UnboundSsrc)
        );
        assert_eq!((track.stats().packets, track.stats().lost), (5, 0));
    }

    #[test]
    fn a_keyframe_is_requested_once_for_all_layers_and_lost_packets_for_each() {
        let now = onecast_udp::clock::now();
        let mut track = track(&[1, 2]);
        for (ssrc, first) in [(1, 10), (2, 500)] {
            receive(&mut track, now, Ssrc(ssrc), first, KEY).unwrap();
            receive(&mut track, now, Ssrc(ssrc), first + 2, DELTA).unwrap();
        }
        track.request_keyframe(KeyframeNeed::Urgent);
        let due = track.deadline(now).unwrap() + std::time::Duration::from_millis(15);
        let mut out = [0; 200];
        let len = track.write_feedback(due, Ssrc(7), &mut out);
        let (mut keyframes, mut nacks) = (Vec::new(), Vec::new());
        rtcp::parse(&out[..len], |report| match report {
            Report::Pli { about } => keyframes.push(about),
            Report::Nack { about, sequences } => nacks.push((about, sequences.collect::<Vec<_>>())),
            other => panic!("{other:?}"),
        })
        .unwrap();
        assert_eq!(
            (keyframes, nacks),
            (vec![Ssrc(1)], vec![(Ssrc(1), vec![11]), (Ssrc(2), vec![501])])
        );
        assert_eq!(
            track.take_reports(due).map(|block| block.about).collect::<Vec<_>>(),
            [1, 2].map(Ssrc)
        );
    }
}

//! Receive side of one track: its layers, and what is sent back to the publisher about them.

use std::time::Instant;

use onecast_rtc::rtp::rtcp::ReceptionBlock;
use onecast_rtc::rtp::{Codec, Ssrc};
use onecast_rtc::sdp::{MediaLine, SendLayers};

use super::allocation::Allocation;
use super::incoming::{Incoming, KeyframeFeedback};
use super::keyframe_requests::KeyframeRequests;
use super::layer::{LayerReceiver, SharedByLayers};
use super::layer_meter::LayerMeter;
use super::ssrc_state::SenderReport;
use super::timeline::Timeline;
use super::{IngestDrop, ReceiveStats};
use crate::media::packet::Packet;
use crate::media::{Continuity, KeyframeNeed, KeyframeStats, LayerContinuity, LayerFacts, LayerIndex, SenderClock};

/// The layers of one track. A publisher without simulcast has one.
#[derive(Debug)]
pub(super) struct TrackReceiver {
    /// Never empty.
    layers: Vec<LayerReceiver>,
    /// The encodings that were accepted by name; `None` for a track of one layer.
    accepted: Option<SendLayers>,
    /// Where the numberings of layers stand that are not sent.
    unsent: LayerContinuity,
    /// Which layer each RTX SSRC repairs, as packets showed.
    repaired: Vec<(Ssrc, LayerIndex)>,
    shared: SharedByLayers,
    /// The line negotiated `ccm fir`.
    fir: bool,
}

impl TrackReceiver {
    /// RTX SSRCs that are remembered: two for each layer.
    const REPAIRED_MAX: usize = 2 * LayerIndex::COUNT;

    pub(super) fn new(
        line: Option<&MediaLine>,
        continuity: &LayerContinuity,
        fir: bool,
        keyframe_share: u8,
    ) -> TrackReceiver {
        let mut track = TrackReceiver {
            layers: Vec::new(),
            accepted: None,
            unsent: *continuity,
            repaired: Vec::new(),
            shared: SharedByLayers {
                extensions: line.map(|line| line.extensions).unwrap_or_default(),
                keyframes: KeyframeRequests::new(keyframe_share),
                timeline: Timeline::default(),
                allocation: Allocation::default(),
            },
            fir,
        };
        track.make_layers(line, continuity);
        track
    }

    fn make_layers(&mut self, line: Option<&MediaLine>, continuity: &LayerContinuity) {
        self.accepted = named_layers(line);
        self.shared.allocation = Allocation::new(self.accepted.as_ref());
        self.unsent = *continuity;
        self.repaired.clear();
        let places = LayerIndex::all().take(layers_of(line));
        let layer = |place: LayerIndex| {
            let ssrcs = announced_ssrcs(line, place);
            LayerReceiver::new(place, line, ssrcs, continuity[place.index()], self.fir)
        };
        self.layers = places.map(layer).collect();
    }

    /// The m-line was renegotiated, or removed (`None`).
    pub(super) fn set_line(&mut self, line: Option<&MediaLine>) {
        self.shared.extensions = line.map(|line| line.extensions).unwrap_or_default();
        let rids = |layers: Option<SendLayers>| {
            layers.map(|layers| layers.as_slice().iter().map(|layer| layer.rid).collect::<Vec<_>>())
        };
        if line.is_some() && rids(named_layers(line)) != rids(self.accepted) {
            // Other encodings, each with a numbering that was not used before.
            let continuity = self.continuity();
            self.shared.timeline.restart();
            return self.make_layers(line, &continuity);
        }
        self.accepted = named_layers(line).or(self.accepted);
        for (layer, place) in self.layers.iter_mut().zip(LayerIndex::all()) {
            layer.set_line(line, announced_ssrcs(line, place), self.fir);
        }
    }

    /// The packets go to another track from now on, whose numbering stands there.
    pub(super) fn resume_at(&mut self, continuity: &LayerContinuity) {
        self.shared.timeline.restart();
        self.unsent = *continuity;
        for (layer, continuity) in self.layers.iter_mut().zip(continuity) {
            layer.resume_at(*continuity);
        }
    }

    /// Handles a packet on a media SSRC.
    pub(super) fn handle_media(&mut self, incoming: Incoming<'_>) -> Result<Packet, IngestDrop> {
        let place = self.layer_of(incoming).ok_or(IngestDrop::UnboundSsrc)?;
        self.layers[place].handle_media(incoming, &mut self.shared)
    }

    /// The only layer takes every SSRC: a restarted encoder or a replaced source comes with a new one. With several, the SSRC has to be
    /// bound to one of them: by the offer, or by the rid that its packets name until they are reported on. A guess could mix the
    /// pictures of two layers.
    fn layer_of(&self, incoming: Incoming<'_>) -> Option<usize> {
        let Some(accepted) = &self.accepted else { return Some(0) };
        let by_ssrc = |layer: &LayerReceiver| layer.ssrc() == Some(incoming.ssrc());
        self.layers
            .iter()
            .position(by_ssrc)
            .or_else(|| accepted.index(incoming.text(accepted.rid_extension()?)?))
    }

    /// Handles a retransmission. A bandwidth probe yields nothing.
    pub(super) fn handle_rtx(&mut self, incoming: Incoming<'_>) -> Result<Option<Packet>, IngestDrop> {
        let place = self.layer_repaired_by(incoming).ok_or(IngestDrop::UnboundSsrc)?;
        self.layers[place].handle_rtx(incoming, &mut self.shared)
    }

    /// Probes come before the media, so an RTX SSRC is bound to a layer and not to its SSRC.
    fn layer_repaired_by(&mut self, incoming: Incoming<'_>) -> Option<usize> {
        let Some(accepted) = &self.accepted else { return Some(0) };
        let ssrc = incoming.ssrc();
        if let Some((_, place)) = self.repaired.iter().find(|(known, _)| *known == ssrc) {
            return Some(place.index());
        }
        let by_name = || accepted.index(incoming.text(accepted.repaired_rid_extension()?)?);
        let by_group = self.layers.iter().position(|layer| layer.is_repaired_by(ssrc));
        let place = by_group.or_else(by_name)?;
        if self.repaired.len() == TrackReceiver::REPAIRED_MAX {
            self.repaired.remove(0);
        }
        self.repaired.push((ssrc, LayerIndex::new(place as u8)));
        Some(place)
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
        let Some((_, format)) = self.layers.iter().find_map(LayerReceiver::sending) else {
            return 0;
        };
        let sending = self.layers.iter().filter_map(LayerReceiver::sending);
        let about = (local_ssrc, sending.map(|(ssrc, _)| ssrc));
        let mut len = self.shared.keyframes.write(now, about, format.keyframe_feedback, out);
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

    /// Where the numberings stand, on the common timeline.
    pub(super) fn continuity(&self) -> LayerContinuity {
        let newest = self.shared.timeline.newest();
        let of_layer = |place: LayerIndex| {
            let layer = self.layers.get(place.index());
            let continuity = layer.map_or(self.unsent[place.index()], LayerReceiver::continuity);
            newest.map_or(continuity, |(timestamp, at)| Continuity {
                last_timestamp: timestamp,
                last_at: Some(at),
                ..continuity
            })
        };
        let mut places = LayerIndex::all();
        std::array::from_fn(|_| of_layer(places.next().unwrap_or_default()))
    }

    /// Whether it may come in several layers.
    pub(super) fn has_layers(&self) -> bool {
        self.layers.len() > 1
    }

    /// What is known of each layer.
    pub(super) fn layer_facts(&self) -> [LayerFacts; LayerIndex::COUNT] {
        let newest = self.layers.iter().filter_map(|layer| layer.meter().last_at()).max();
        let mut facts = [LayerFacts::default(); LayerIndex::COUNT];
        for ((layer, facts), place) in self.layers.iter().zip(&mut facts).zip(LayerIndex::all()) {
            let meter = layer.meter();
            let has_stopped = self.shared.allocation.has_stopped(place, meter.last_at());
            *facts = LayerFacts {
                size: layer.stats().picture_size,
                rate: meter.rate(),
                base_rate: meter.base_rate(),
                needs_descriptor: layer.stats().codec == Some(Codec::Av1) && meter.has_spatial_layers(),
                frame_rate: meter.frame_rate(),
                is_live: !has_stopped && newest.is_some_and(|newest| meter.is_live(newest)),
                part: None,
            };
        }
        if let [only] = &self.layers[..] {
            note_parts(&mut facts, only.meter());
        }
        facts
    }

    /// When the newest keyframe of each layer began. Parts of an encoding have it together with the whole.
    pub(super) fn keyframes_at(&self) -> [Option<Instant>; LayerIndex::COUNT] {
        if let [only] = &self.layers[..] {
            return [only.meter().keyframe_at(); LayerIndex::COUNT];
        }
        std::array::from_fn(|place| self.layers.get(place)?.meter().keyframe_at())
    }

    /// Counts of all layers; the codec, SSRC and size of the first.
    pub(super) fn stats(&self) -> ReceiveStats {
        let mut stats = *self.layers[0].stats();
        self.layers[1..].iter().for_each(|layer| stats.add(layer.stats()));
        stats.keyframe_requests_sent = self.shared.keyframes.stats().requested;
        stats
    }
}

/// What the only encoding has up to its lower spatial layers, in the places behind it.
fn note_parts(facts: &mut [LayerFacts; LayerIndex::COUNT], meter: &LayerMeter) {
    let [whole, parts @ ..] = facts;
    for (part, spatial) in parts.iter_mut().zip(0..meter.spatial_layers().saturating_sub(1)) {
        let reading = meter.up_to(spatial);
        *part = LayerFacts {
            size: reading.size,
            rate: reading.rate,
            base_rate: reading.base_rate,
            needs_descriptor: whole.needs_descriptor && spatial > 0,
            part: Some(spatial),
            ..*whole
        };
    }
}

/// The encodings that were accepted by name.
fn named_layers(line: Option<&MediaLine>) -> Option<SendLayers> {
    line?.layers.filter(SendLayers::is_simulcast)
}

fn layers_of(line: Option<&MediaLine>) -> usize {
    named_layers(line).map_or(1, |layers| layers.as_slice().len())
}

/// The SSRCs of media and RTX that the offer announced for a layer.
fn announced_ssrcs(line: Option<&MediaLine>, place: LayerIndex) -> (Option<Ssrc>, Option<Ssrc>) {
    match (named_layers(line), line) {
        (Some(layers), _) => {
            let layer = layers.as_slice().get(place.index());
            layer.map_or((None, None), |layer| (layer.ssrc, layer.rtx_ssrc))
        }
        (None, Some(line)) => (line.ssrc, line.rtx_ssrc),
        (None, None) => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ingest::incoming::ReceiveFormat;
    use onecast_rtc::rtp::rtcp::{self, Report};
    use onecast_rtc::rtp::{HeaderOut, Pt, RtpHeader, RtpTime};
    use onecast_rtc::sdp::{Offer, Role};

    const OFFER: &str = include_str!("../../../../tests/data/layers/chromium156-vp8-simulcast.offer.sdp");
    const RTX: Pt = Pt(97);
    /// Ids of the rid and the repaired rid in that offer.
    const RID: u8 = 10;
    const REPAIRED_RID: u8 = 11;
    const KEY: &[u8] = &[0x10, 0x00, 1, 2, 3];
    const DELTA: &[u8] = &[0x10, 0x01, 1, 2, 3];

    /// The video line of a browser's offer with the rids q, h and f.
    fn line() -> MediaLine {
        let offer = Offer::parse(OFFER).unwrap();
        let agreement = offer.negotiate(Role::Publisher).unwrap().with_layers();
        agreement.negotiated().video.unwrap()
    }

    /// Layer `n` counts from 100,000 * (n + 1).
    fn track() -> TrackReceiver {
        let mut numbers = 1..;
        let continuity = [Continuity::starting(0); LayerIndex::COUNT].map(|start| Continuity {
            next_index: 100_000 * numbers.next().unwrap_or_default(),
            ..start
        });
        TrackReceiver::new(Some(&line()), &continuity, false, 10)
    }

    #[derive(Clone, Copy)]
    struct Sent<'a> {
        ssrc: u32,
        sequence: u16,
        timestamp: u32,
        payload: &'a [u8],
        /// Header extension and the rid in it.
        name: Option<(u8, &'a str)>,
    }

    fn sent(ssrc: u32, sequence: u16, payload: &[u8]) -> Sent<'_> {
        Sent {
            ssrc,
            sequence,
            timestamp: 0,
            payload,
            name: None,
        }
    }

    impl<'a> Sent<'a> {
        fn named(self, id: u8, rid: &'a str) -> Sent<'a> {
            let name = Some((id, rid));
            Sent { name, ..self }
        }

        fn at(self, timestamp: u32) -> Sent<'a> {
            Sent { timestamp, ..self }
        }
    }

    /// Layer, index and timestamp of the packet that the track makes of a received one.
    fn receive(
        track: &mut TrackReceiver,
        now: Instant,
        sent: Sent<'_>,
    ) -> Result<Option<(usize, u64, RtpTime)>, IngestDrop> {
        let is_rtx = sent.name.is_some_and(|(id, _)| id == REPAIRED_RID);
        let line = line();
        let out = HeaderOut {
            marker: true,
            padding: false,
            payload_type: if is_rtx { RTX } else { line.formats[0].payload_type },
            sequence: sent.sequence,
            timestamp: RtpTime(sent.timestamp),
            ssrc: Ssrc(sent.ssrc),
        };
        let name = sent.name.map(|(id, rid)| (id, rid.as_bytes()));
        let mut clear = vec![0; HeaderOut::len(name.as_slice())];
        out.write(&mut clear, name.as_slice());
        let header = RtpHeader::parse(&clear).unwrap();
        let incoming = Incoming {
            now,
            header: &header,
            clear: &clear,
            payload: sent.payload,
            format: ReceiveFormat::new(&line.formats[0], false),
        };
        let packet = if is_rtx {
            track.handle_rtx(incoming)?
        } else {
            Some(track.handle_media(incoming)?)
        };
        Ok(packet.map(|packet| (packet.layer.index(), packet.index, packet.timestamp)))
    }

    fn place(received: Result<Option<(usize, u64, RtpTime)>, IngestDrop>) -> (usize, u64) {
        let (layer, index, _) = received.unwrap().expect("it carries media");
        (layer, index)
    }

    #[test]
    fn packets_are_bound_to_layers_by_the_rid_that_they_name_at_first() {
        let now = onecast_udp::clock::now();
        let mut track = track();
        let mut receive = |sent| receive(&mut track, now, sent);
        // Senders probe before they send media.
        assert_eq!(receive(sent(102, 1, &[]).named(REPAIRED_RID, "f")), Ok(None));
        assert_eq!(receive(sent(9, 1, KEY)), Err(IngestDrop::UnboundSsrc));
        assert_eq!(receive(sent(9, 1, KEY).named(RID, "x")), Err(IngestDrop::UnboundSsrc));
        assert_eq!(
            receive(sent(2, 500, DELTA).named(RID, "f")),
            Err(IngestDrop::BeforeKeyframe)
        );
        assert_eq!(place(receive(sent(1, 10, KEY).named(RID, "q"))), (0, 100_000));
        assert_eq!(place(receive(sent(2, 501, KEY))), (2, 300_000));
        assert_eq!(place(receive(sent(2, 503, DELTA))), (2, 300_002));
        assert_eq!(place(receive(sent(1, 11, DELTA))), (0, 100_001));
        let repair = [&502u16.to_be_bytes()[..], DELTA].concat();
        assert_eq!(
            receive(sent(103, 1, &repair).named(REPAIRED_RID, "x")),
            Err(IngestDrop::UnboundSsrc)
        );
        assert_eq!(
            place(receive(sent(102, 2, &repair).named(REPAIRED_RID, "f"))),
            (2, 300_001)
        );
        assert_eq!((track.stats().packets, track.stats().lost), (5, 0));
    }

    #[test]
    fn the_offer_of_firefox_binds_ssrcs_without_rids() {
        let offer = include_str!("../../../../tests/data/layers/firefox153-vp8-simulcast.offer.sdp");
        let offer = Offer::parse(offer).unwrap();
        let line = offer.negotiate(Role::Publisher).unwrap().with_layers();
        let line = line.negotiated().video.unwrap();
        let continuity = [Continuity::starting(0); LayerIndex::COUNT];
        let mut track = TrackReceiver::new(Some(&line), &continuity, false, 10);
        let now = onecast_udp::clock::now();
        let first = place(receive(&mut track, now, sent(2_833_380_658, 7, KEY)));
        assert_eq!(first.0, 2);
        let repair = [&8u16.to_be_bytes()[..], DELTA].concat();
        let repaired = receive(&mut track, now, sent(3_031_555_695, 1, &repair).named(REPAIRED_RID, ""));
        assert_eq!(place(repaired), (2, first.1 + 1));
    }

    #[test]
    fn layers_share_one_timeline() {
        let now = onecast_udp::clock::now();
        let mut track = track();
        let mut receive = |ms: u64, sent: Sent<'_>| {
            let received = receive(&mut track, now + Duration::from_millis(ms), sent);
            received.unwrap().expect("it carries media").2
        };
        let top = receive(0, sent(3, 1, KEY).named(RID, "f").at(5_000));
        assert_eq!(receive(1, sent(1, 1, KEY).named(RID, "q").at(4_000_000_000)), top);
        assert_eq!(receive(33, sent(1, 2, DELTA).at(4_000_003_000)), top.plus(3_000));
        assert_eq!(receive(34, sent(3, 2, DELTA).at(8_000)), top.plus(3_000));
    }

    #[test]
    fn a_keyframe_is_requested_of_all_layers_and_lost_packets_of_each() {
        let now = onecast_udp::clock::now();
        let mut track = track();
        for (ssrc, first, rid) in [(1, 10, "q"), (2, 500, "h")] {
            receive(&mut track, now, sent(ssrc, first, KEY).named(RID, rid)).unwrap();
            receive(&mut track, now, sent(ssrc, first + 2, DELTA)).unwrap();
        }
        track.request_keyframe(KeyframeNeed::Urgent);
        let due = track.deadline(now).unwrap() + Duration::from_millis(15);
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
            (vec![Ssrc(1), Ssrc(2)], vec![(Ssrc(1), vec![11]), (Ssrc(2), vec![501])])
        );
        assert_eq!(track.keyframe_stats().requested, 1);
        assert_eq!(
            track.take_reports(due).map(|block| block.about).collect::<Vec<_>>(),
            [1, 2].map(Ssrc)
        );
    }
}

//! Receive side of one peer: SRTP from its client becomes packets of the streams that it sends.

use std::time::Instant;

use onecast_rtc::rtp::rtcp::Report;
use onecast_rtc::transmit::SendQueue;
use onecast_rtc::{Opener, Path, RtcpSealer};

use super::demux::Demux;
use super::ids::PeerIndex;
use super::inbound::{Inbound, Inflow};
use super::plan::{Plan, SourceSpec};
use super::published_stream::{PublishedStream, RTCP_OVERHEAD_MAX, RtpOutcome, SourceConfig};
use crate::ingest::TransportFeedback;
use crate::media::lane::StreamKey;

/// The streams that a peer sends, and what they share.
pub(super) struct Receiver {
    inbound: Inbound,
    sources: Vec<PublishedStream>,
    /// Which source a packet belongs to; `None` for a publisher, whose only source takes them all.
    demux: Option<Demux>,
    /// Transport-wide feedback about all sources; the only source of a publisher makes its own.
    feedback: Option<TransportFeedback>,
    now: Instant,
}

impl Receiver {
    /// For a publisher: one source, which all packets belong to.
    pub(super) fn of_one(now: Instant) -> Receiver {
        Receiver {
            inbound: Inbound::default(),
            sources: Vec::new(),
            demux: None,
            feedback: None,
            now,
        }
    }

    /// For a member of a room: sources that come and go.
    pub(super) fn of_many(now: Instant) -> Receiver {
        Receiver {
            demux: Some(Demux::default()),
            ..Receiver::of_one(now)
        }
    }

    /// What the peer sends from now on.
    pub(super) fn apply(&mut self, now: Instant, specs: &[SourceSpec], config: SourceConfig) {
        if self.demux.is_some() {
            return self.set_sources(now, &specs[..specs.len().min(Plan::SOURCES_MAX)], config);
        }
        let Some(spec) = specs.first() else { return };
        match self.sources.first_mut() {
            Some(source) => source.redirect(now, spec),
            None => {
                // Nothing else comes from its client, so its feedback is on the whole transport.
                let config = SourceConfig {
                    transport_cc: true,
                    ..config
                };
                self.sources.push(PublishedStream::new(spec, config, now));
            }
        }
    }

    /// Sources that stay are changed in place, others begin or end.
    fn set_sources(&mut self, now: Instant, specs: &[SourceSpec], config: SourceConfig) {
        let stays = |source: &mut PublishedStream| specs.iter().any(|spec| spec.tracks.key == source.key());
        self.sources.retain_mut(stays);
        for spec in specs {
            let known = self.sources.iter_mut().find(|source| source.key() == spec.tracks.key);
            match known {
                Some(source) => source.change(now, spec),
                None => self.sources.push(PublishedStream::new(spec, config, now)),
            }
        }
        self.set_lines(specs);
    }

    fn set_lines(&mut self, specs: &[SourceSpec]) {
        let sources = &self.sources;
        let place = |key: StreamKey| sources.iter().position(|source| source.key() == key);
        let lines = specs.iter().flat_map(|spec| {
            let key = spec.tracks.key;
            let lines = [&spec.audio, &spec.video].into_iter().flatten();
            lines.filter_map(move |line| Some((place(key)?, key, line)))
        });
        if let Some(demux) = &mut self.demux {
            demux.set_lines(lines.clone());
        }
        let lines = lines.map(|(.., line)| line);
        match (&mut self.feedback, specs.first()) {
            (Some(feedback), _) => feedback.set_lines(lines),
            (None, Some(first)) => {
                self.feedback = TransportFeedback::new(lines, first.tracks.feedback_ssrc());
            }
            (None, None) => {}
        }
    }

    /// One SRTP datagram, decrypted in place and written to its track. Returns the source that it belongs to, if there is one, and what
    /// it led to.
    pub(super) fn handle_rtp(
        &mut self,
        now: Instant,
        opener: &mut Opener,
        datagram: &mut [u8],
    ) -> (Option<&mut PublishedStream>, RtpOutcome) {
        self.now = now;
        let (header, len) = match self.inbound.open_rtp(now, opener, datagram) {
            Ok(opened) => opened,
            Err(received) => return (None, received),
        };
        let clear = &datagram[..len];
        if let Some(feedback) = &mut self.feedback {
            feedback.record(now, clear, &header);
        }
        let place = match &mut self.demux {
            Some(demux) => demux.source(clear, &header),
            None => Some(0),
        };
        let Some(source) = place.and_then(|place| self.sources.get_mut(place)) else {
            return (None, RtpOutcome::Dropped);
        };
        let received = source.handle_rtp(now, clear, &header);
        (Some(source), received)
    }

    /// Authentic RTCP has come from the client.
    pub(super) fn note_rtcp(&mut self, now: Instant) {
        self.now = now;
        self.inbound.note_rtcp(now);
    }

    /// A report about what the client sends.
    pub(super) fn handle_report(&mut self, now: Instant, report: &Report<'_>) {
        let (Report::SenderReport { ssrc, .. } | Report::Bye { ssrc }) = *report else {
            return;
        };
        if let Report::SenderReport { packets, .. } = *report {
            self.inbound.note_sender_report(ssrc, packets);
        }
        let known = self.demux.as_ref().and_then(|demux| demux.source_of(ssrc));
        match known.and_then(|place| self.sources.get_mut(place)) {
            Some(source) => source.handle_report(now, report),
            // There is only one, or its first packet is yet to come.
            None => {
                for source in &mut self.sources {
                    source.handle_report(now, report);
                }
            }
        }
    }

    /// All reports of a datagram have been handled.
    pub(super) fn end_reports(&mut self) {
        self.sources.iter_mut().for_each(PublishedStream::pass_clocks_on);
    }

    /// The streams that the peer sends.
    pub(super) fn sources(&mut self) -> &mut [PublishedStream] {
        &mut self.sources
    }

    /// Lets time pass. RTCP that is due by then is left to [`poll_rtcp`](Self::poll_rtcp).
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        for source in &mut self.sources {
            source.handle_timeout(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_rtcp`](Self::poll_rtcp) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let feedback = self.feedback.as_ref().and_then(|feedback| feedback.deadline(self.now));
        let sources = self.sources.iter().filter_map(PublishedStream::poll_timeout);
        sources.chain(feedback).min()
    }

    /// Seals the RTCP that is due about the client's streams.
    pub(super) fn poll_rtcp(
        &mut self,
        now: Instant,
        sealer: &mut RtcpSealer,
        (to, owner): (Path, PeerIndex),
        out: &mut SendQueue,
    ) {
        self.now = now;
        for source in &mut self.sources {
            source.poll_rtcp(now, sealer, (to, owner), out);
        }
        let Some(feedback) = &mut self.feedback else { return };
        let room = SendQueue::PATH_DATAGRAM_MAX - RTCP_OVERHEAD_MAX;
        while !out.is_full() {
            let buffer = out.reserve();
            let Some(len) = feedback.poll_rtcp(now, &mut buffer[..room]) else {
                return;
            };
            let len = sealer.seal(buffer, len);
            out.commit(to, owner.number(), len);
        }
    }

    /// Authentic RTP so far, including packets that were dropped.
    #[inline]
    pub(super) fn inflow(&self) -> Inflow {
        self.inbound.inflow()
    }
}

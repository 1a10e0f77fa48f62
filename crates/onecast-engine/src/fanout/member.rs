//! A connected member of a room: the streams that it sends, and the books of those that it is sent.

use std::net::SocketAddr;
use std::time::Instant;

use super::demux::Demux;
use super::inbound::{Inbound, Inflow};
use super::membership::SourceSpec;
use super::source::{PublisherConfig, RTCP_OVERHEAD_MAX, Received, Sender, Source};
use super::subscriptions::Subscriptions;
use crate::ingest::TransportFeedback;
use crate::media::lane::StreamKey;
use onecast_rtc::rtp::rtcp::{self, Report};
use onecast_rtc::sdp::{MediaLine, Negotiated};
use onecast_rtc::transmit::SendQueue;
use onecast_rtc::{Opener, Sealer, SrtpKeys};

/// Both directions of a member's transport.
pub struct Member {
    /// Each subscription has a sealer of its own, made from them.
    keys: SrtpKeys,
    /// Of all RTCP, so that no index of it is sealed twice whatever the SSRC.
    sealer: Sealer,
    inbound: Inbound,
    sources: Vec<Source>,
    demux: Demux,
    feedback: Option<TransportFeedback>,
    /// What it is sent.
    pub(super) subscriptions: Subscriptions,
    /// Of the newest membership that was brought about.
    pub(super) number: Option<u64>,
    /// When it had its keys.
    pub(super) connected_at: Instant,
    /// It has been sent a whole keyframe of anybody.
    pub(super) has_picture: bool,
    /// Next sender reports.
    pub(super) report_at: Instant,
    now: Instant,
}

impl Member {
    /// Streams that one member may send.
    pub const SOURCES_MAX: usize = 8;

    /// A member that has just connected.
    pub fn new(keys: &SrtpKeys, now: Instant) -> Member {
        Member {
            keys: keys.clone(),
            sealer: Sealer::new(keys),
            inbound: Inbound::new(Opener::new(keys)),
            sources: Vec::new(),
            demux: Demux::default(),
            feedback: None,
            subscriptions: Subscriptions::default(),
            number: None,
            connected_at: now,
            has_picture: false,
            report_at: now,
            now,
        }
    }

    /// A sealer for another subscription.
    pub(super) fn subscription_sealer(&self) -> Sealer {
        Sealer::new(&self.keys)
    }

    /// The sealer of RTCP.
    pub(super) fn sealer(&mut self) -> &mut Sealer {
        &mut self.sealer
    }

    /// What it sends from now on: streams that stay are changed in place, others begin or end.
    pub fn set_sources(&mut self, now: Instant, specs: &[SourceSpec], shard: usize, config: PublisherConfig) {
        let specs = &specs[..specs.len().min(Member::SOURCES_MAX)];
        let stays = |source: &mut Source| specs.iter().any(|spec| spec.tracks.key == source.tracks().key);
        self.sources.retain_mut(|source| stays(source));
        for spec in specs {
            let known = self
                .sources
                .iter_mut()
                .find(|source| source.tracks().key == spec.tracks.key);
            let (audio, video) = (spec.audio.as_ref(), spec.video.as_ref());
            match known {
                Some(source) => {
                    source.set_lines(now, audio, video);
                    source.set_air(now, spec.air.as_ref());
                }
                None => {
                    let mut source = begin(spec, shard, config, now);
                    source.set_air(now, spec.air.as_ref());
                    self.sources.push(source);
                }
            }
        }
        self.route(specs);
    }

    /// Brings the books of lines in order with the sources.
    fn route(&mut self, specs: &[SourceSpec]) {
        let sources = &self.sources;
        let place = |key: StreamKey| sources.iter().position(|source| source.tracks().key == key);
        let lines = specs.iter().flat_map(|spec| {
            let key = spec.tracks.key;
            let lines = [&spec.audio, &spec.video].into_iter().flatten();
            lines.filter_map(move |line| Some((place(key)?, key, line)))
        });
        self.demux.set_lines(lines.clone());
        let lines = lines.map(|(.., line)| line);
        match (&mut self.feedback, specs.first()) {
            (Some(feedback), _) => feedback.set_lines(lines),
            (None, Some(first)) => {
                self.feedback = TransportFeedback::new(lines, first.tracks.video.ssrc() ^ 1);
            }
            (None, None) => {}
        }
    }

    /// One SRTP datagram. Returns the stream that it is of, or none, and what it led to.
    pub fn handle_rtp(&mut self, now: Instant, datagram: &mut [u8]) -> (Option<usize>, Received) {
        self.now = now;
        let (header, len) = match self.inbound.open_rtp(now, datagram) {
            Ok(opened) => opened,
            Err(received) => return (None, received),
        };
        let clear = &datagram[..len];
        if let Some(feedback) = &mut self.feedback {
            feedback.record(now, clear, &header);
        }
        let Some(place) = self.demux.source(clear, &header) else {
            return (None, Received::Dropped);
        };
        (Some(place), self.sources[place].handle_rtp(now, clear, &header))
    }

    /// Opens one SRTCP datagram in place; `None` if it is not authentic.
    pub(super) fn open_rtcp(&mut self, now: Instant, datagram: &mut [u8]) -> Option<usize> {
        self.now = now;
        self.inbound.open_rtcp(now, datagram)
    }

    /// Takes what its RTCP says of the streams that it sends.
    pub(super) fn handle_reports(&mut self, now: Instant, clear: &[u8]) {
        // The rest of a truncated compound packet is lost, what came before it stands.
        let _ = rtcp::parse(clear, |report| {
            let (Report::SenderReport { ssrc, .. } | Report::Bye { ssrc }) = report else {
                return;
            };
            if let Report::SenderReport { packets, .. } = report {
                self.inbound.note_sender_report(ssrc, packets);
            }
            match self.demux.source_of(ssrc) {
                Some(place) => self.sources[place].handle_report(now, &report),
                // Its first packet is yet to come.
                None => {
                    for source in &mut self.sources {
                        source.handle_report(now, &report);
                    }
                }
            }
        });
        self.sources.iter_mut().for_each(Source::pass_clocks_on);
    }

    /// The streams that it sends.
    pub fn sources(&mut self) -> &mut [Source] {
        &mut self.sources
    }

    /// Lets time pass. What there is to tell is left to [`poll_rtcp`](Self::poll_rtcp).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        for source in &mut self.sources {
            source.handle_timeout(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout), [`poll_rtcp`](Self::poll_rtcp) or a report is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let feedback = self.feedback.as_ref().and_then(|feedback| feedback.deadline(self.now));
        let sources = self.sources.iter().filter_map(Source::poll_timeout);
        let reports = (!self.subscriptions.is_empty()).then_some(self.report_at);
        sources.chain(feedback).chain(reports).min()
    }

    /// Seals what there is to tell about its streams.
    pub fn poll_rtcp(&mut self, now: Instant, to: SocketAddr, owner: u32, out: &mut SendQueue) {
        self.now = now;
        for source in &mut self.sources {
            source.poll_rtcp(now, &mut self.sealer, (to, owner), out);
        }
        let Some(feedback) = &mut self.feedback else { return };
        let room = SendQueue::PATH_DATAGRAM_MAX - RTCP_OVERHEAD_MAX;
        while !out.is_full() {
            let buffer = out.reserve();
            let Some(len) = feedback.poll_rtcp(now, &mut buffer[..room]) else {
                return;
            };
            let len = self.sealer.seal_rtcp(buffer, len);
            out.commit(to, owner, len);
        }
    }

    /// RTP that was authentic so far, whatever became of it.
    pub fn inflow(&self) -> Inflow {
        self.inbound.inflow()
    }
}

fn begin(spec: &SourceSpec, shard: usize, config: PublisherConfig, now: Instant) -> Source {
    let line = |line: &Option<MediaLine>| line.clone();
    let negotiated = Negotiated {
        audio: line(&spec.audio),
        video: line(&spec.video),
    };
    Source::new(spec.tracks.clone(), &negotiated, Sender::Member, shard, config, now)
}

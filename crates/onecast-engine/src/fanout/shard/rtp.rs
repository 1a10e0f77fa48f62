//! RTP and RTCP from clients: packets of the streams that they send, and what they say about those that they are sent.

use std::time::Instant;

use onecast_rtc::rtp::rtcp;
use onecast_rtc::{Path, SessionId};

use super::Shard;
use super::feedback::Feedback;
use super::output::Output;
use crate::fanout::ids::PeerIndex;
use crate::fanout::published_stream::{KeyframeChanges, PublishedStream, RtpOutcome};
use crate::fanout::session::{CloseCause, Direction, Event};
use crate::fanout::stream::Flow;
use onecast_metrics::ShardCounters;

impl Shard {
    pub(super) fn handle_rtp(&mut self, now: Instant, from: Path, datagram: &mut [u8]) {
        let Some(index) = self.routes.peer(from) else {
            return self
                .routes
                .hand_over_or_drop(from, datagram, |counters| &counters.rtp_in_dropped);
        };
        self.expedite_handshake(now, index);
        let Some(peer) = self.peers.get_mut(index) else { return };
        let Some(media) = peer.media.as_deref_mut() else {
            return self.counters.rtp_in_dropped.add(1);
        };
        let Some(receiver) = &mut media.receiver else {
            return self.counters.rtp_in_dropped.add(1);
        };
        let (source, received) = receiver.handle_rtp(now, &mut media.opener, datagram);
        if let Some(source) = source {
            report_source(&mut self.out, peer.session.id, source, received, now);
        }
        let inflow = receiver.inflow();
        // Authentic packets count, even those that are dropped.
        let authentic = peer.session.counters.rtp_bytes.value() != inflow.bytes;
        peer.session.set_inflow(inflow);
        let moves = authentic && peer.transport.handle_authenticated_media(now, from);
        if moves {
            self.follow_paths(now, index);
        }
        match received {
            RtpOutcome::Unreadable => return self.close_peer(index, CloseCause::Unreadable),
            RtpOutcome::Dropped => self.counters.rtp_in_dropped.add(1),
            RtpOutcome::Media | RtpOutcome::Started(..) => self.counters.rtp_in.add(1),
        }
        if authentic {
            self.schedule(index);
        }
    }

    pub(super) fn handle_rtcp(&mut self, now: Instant, from: Path, datagram: &mut [u8]) {
        let Some(index) = self.routes.peer(from) else {
            return self
                .routes
                .hand_over_or_drop(from, datagram, |counters| &counters.rtcp_dropped);
        };
        let media = self.peers.get_mut(index).and_then(|peer| peer.media.as_deref_mut());
        let Some(len) = media.and_then(|media| media.open_rtcp(now, datagram)) else {
            return self.counters.rtcp_dropped.add(1);
        };
        self.handle_reports(now, index, &datagram[..len]);
        if let Some(peer) = self.peers.get_mut(index)
            && peer.transport.handle_authenticated_media(now, from)
        {
            self.follow_paths(now, index);
        }
        self.schedule(index);
    }

    /// RTCP in clear: about the streams that the client sends, and about those that it is sent.
    fn handle_reports(&mut self, now: Instant, index: PeerIndex, clear: &[u8]) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let Some(media) = peer.media.as_deref_mut() else { return };
        let mut feedback = Feedback {
            now,
            // Members of a room are sent all of what they watch.
            adapts: self.config.adapts && media.subscriptions.is_single(),
            streams: &mut self.streams,
            subscriptions: &media.subscriptions,
            queue: &mut self.out.queue,
            flow: Flow::default(),
            keyframes: Vec::new(),
            probes: Vec::new(),
            remedies: Vec::new(),
        };
        let parsed = rtcp::parse(clear, |report| {
            if let Some(receiver) = &mut media.receiver {
                receiver.handle_report(now, &report);
            }
            feedback.handle_report(report);
        });
        let Feedback {
            flow,
            mut keyframes,
            probes,
            remedies,
            ..
        } = feedback;
        if let Some(receiver) = &mut media.receiver {
            receiver.end_reports();
            peer.poll_rtcp(now, index, &mut self.out.queue);
        }
        flow.count_repairs(&self.counters);
        self.counters.keyframe_requests.add(keyframes.len() as u64);
        // The rest of a truncated compound packet is lost, what came before it stands.
        self.counters.rtcp_dropped.add(u64::from(parsed.is_err()));
        // Each request counts, and each stream is served once: one datagram has room for a hundred requests.
        keyframes.sort_unstable();
        keyframes.dedup();
        for slot in keyframes {
            self.handle_keyframe_request(now, index, slot);
        }
        for (slot, plan) in probes {
            self.begin_probe(now, index, slot, plan);
        }
        for (slot, remedy) in remedies {
            self.apply_remedy(now, index, slot, remedy);
        }
        self.mark_ready(now, index);
    }

    /// Passes what viewers anywhere request on to the peers here that send it.
    pub(super) fn handle_requests(&mut self, now: Instant) {
        let mut position = 0;
        while let Some(index) = self.peers.sender(position) {
            position += 1;
            let Some(peer) = self.peers.get_mut(index) else {
                continue;
            };
            peer.sources().iter_mut().for_each(PublishedStream::handle_requests);
            peer.poll_rtcp(now, index, &mut self.out.queue);
            self.note_keyframes(index);
            self.schedule(index);
        }
    }

    /// Counts what became of keyframe requests, and reports a publisher that turns out not to answer them.
    pub(super) fn note_keyframes(&mut self, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let session = peer.session.id;
        let is_publisher = peer.session.direction == Direction::SendOnly;
        for source in peer.sources() {
            let stats = source.take_keyframe_changes();
            count_keyframes(&self.counters, &stats);
            if let Some(unanswered) = stats.unanswered.filter(|_| is_publisher) {
                self.out.push_event(Event::Keyframes {
                    session,
                    unanswered,
                    interval: stats.interval,
                });
            }
        }
    }

    /// Speech also ends when no more packets come.
    pub(super) fn note_speech(&mut self, now: Instant, index: PeerIndex) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let session = peer.session.id;
        for source in peer.sources() {
            report_speech(&mut self.out, session, source, now);
        }
    }
}

/// Reports the first packet of a track, and whether the sender has begun or ended to speak.
fn report_source(
    out: &mut Output,
    session: SessionId,
    source: &mut PublishedStream,
    received: RtpOutcome,
    now: Instant,
) {
    if let RtpOutcome::Started(kind, codec) = received {
        out.push_event(Event::Media {
            session,
            stream: source.key(),
            kind,
            codec,
        });
    }
    report_speech(out, session, source, now);
}

fn report_speech(out: &mut Output, session: SessionId, source: &mut PublishedStream, now: Instant) {
    if let Some(speaking) = source.poll_speech(now) {
        out.push_event(Event::Speaking {
            session,
            stream: source.key(),
            speaking,
        });
    }
}

fn count_keyframes(counters: &ShardCounters, stats: &KeyframeChanges) {
    counters.keyframe_requests_coalesced.add(stats.coalesced);
    counters.keyframe_requests_deferred.add(stats.deferred);
    counters.keyframe_requests_sent.add(stats.sent);
    counters.keyframe_requests_answered.add(stats.answered);
}

//! Packets from publishers, packets to viewers, and what viewers say about them.

use super::*;
use crate::fanout::source::Source;
use onecast_rtc::SessionId;

impl Shard {
    pub(super) fn handle_rtp(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(index) = self.routes.peer(from) else {
            return self.hand_over_or_drop(from, datagram, |counters| &counters.rtp_in_dropped);
        };
        self.hurry(now, index);
        let Some(peer) = self.peers.get_mut(index) else { return };
        let (source, received, inflow) = match &mut peer.state {
            State::Publishing(publisher) => {
                let received = publisher.handle_rtp(now, datagram);
                let inflow = publisher.inflow();
                (Some(publisher.source()), received, inflow)
            }
            State::Member(member) => {
                let (place, received) = member.handle_rtp(now, datagram);
                let inflow = member.inflow();
                (place.map(|place| &mut member.sources()[place]), received, inflow)
            }
            State::Connecting | State::Viewing { .. } => return self.counters.rtp_in_dropped.add(1),
        };
        // What is authentic counts, whatever becomes of it.
        let authentic = peer.session.received.value() != inflow.bytes;
        peer.session.set_inflow(inflow);
        if let Some(source) = source {
            tell_of_source(&mut self.events, peer.session.id, source, received, now);
        }
        let moves = authentic && peer.transport.handle_authenticated_media(now, from);
        if moves {
            self.follow_paths(now, index);
        }
        match received {
            Received::Unreadable => return self.close_peer(index, CloseCause::Unreadable),
            Received::Dropped => self.counters.rtp_in_dropped.add(1),
            Received::Media | Received::Started(..) => self.counters.rtp_in.add(1),
        }
        if authentic {
            self.schedule(index);
        }
    }

    pub(super) fn handle_rtcp(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(index) = self.routes.peer(from) else {
            return self.hand_over_or_drop(from, datagram, |counters| &counters.rtcp_dropped);
        };
        let Some(peer) = self.peers.get_mut(index) else { return };
        let authentic = match &mut peer.state {
            State::Connecting => false,
            State::Publishing(publisher) => {
                let authentic = publisher.handle_rtcp(now, datagram);
                if let Some(to) = peer.transport.remote() {
                    publisher.poll_rtcp(now, to, index, &mut self.queue);
                }
                authentic
            }
            &mut State::Viewing { slot, position } => self.handle_feedback(now, slot, position as usize, datagram),
            State::Member(_) => self.handle_member_rtcp(now, index, datagram),
        };
        if !authentic {
            return self.counters.rtcp_dropped.add(1);
        }
        if let Some(peer) = self.peers.get_mut(index)
            && peer.transport.handle_authenticated_media(now, from)
        {
            self.follow_paths(now, index);
        }
        self.schedule(index);
    }

    /// RTCP of a viewer. False if it is not authentic.
    pub(super) fn handle_feedback(&mut self, now: Instant, slot: u32, position: usize, datagram: &mut [u8]) -> bool {
        let Some(stream) = self.streams.get_mut(slot as usize).and_then(Option::as_mut) else {
            return false;
        };
        let opener = stream.viewer(position).opener.as_mut();
        let Some(len) = opener.and_then(|opener| opener.open_rtcp(datagram).ok()) else {
            return false;
        };
        let mut flow = Flow::default();
        let (mut keyframes, mut remedy) = (0, Remedy::None);
        let parsed = rtcp::parse(&datagram[..len], |report| match report {
            Report::Nack { about, sequences } => {
                let needed = stream.retransmit(now, position, about, sequences, &mut self.queue, &mut flow);
                remedy = remedy.max(needed);
            }
            Report::ReceiverReport {
                about,
                fraction_lost,
                last_sr,
                delay,
                ..
            } => {
                stream.note_report(now, position, about, last_sr, delay);
                if fraction_lost > 0 {
                    stream.note_loss(now, position, Lost::Share(fraction_lost));
                }
            }
            Report::Pli { about } | Report::Fir { about, .. } if stream.kind_of(about) == Some(Kind::Video) => {
                keyframes += 1
            }
            _ => {}
        });
        let peer = stream.viewer(position).peer;
        if keyframes > 0 {
            self.counters.keyframe_requests.add(keyframes);
            self.keyframe_wanted(now, peer, slot);
        } else {
            self.hear_of(now, peer, slot);
        }
        self.bring_remedy(now, peer, slot, remedy);
        self.count_repairs(&flow);
        // The rest of a truncated compound packet is lost, what came before it stands.
        self.counters.rtcp_dropped.add(u64::from(parsed.is_err()));
        true
    }

    /// Counts what was sent again and what was not.
    pub(super) fn count_repairs(&self, flow: &Flow) {
        self.counters.retransmitted.add(flow.retransmitted);
        self.counters.retransmitted_bytes.add(flow.retransmitted_bytes);
        self.counters.not_retransmitted.add(flow.not_retransmitted);
        self.counters.not_retransmitted_allowance.add(flow.over_allowance);
    }

    /// A stream's share of the bytes since the newest keyframes was `told` and is `cached`.
    pub(super) fn count_cached(&self, cached: u64, told: u64) {
        let all = &self.counters.start_cache_bytes;
        all.set((all.value() + cached).saturating_sub(told));
    }

    /// Counts what was sent and tells of first pictures.
    pub(super) fn finish(&mut self, now: Instant, flow: &Flow) {
        self.count(flow);
        for picture in std::mem::take(&mut self.first_pictures) {
            if let Some(peer) = self.peers.get_mut(picture.peer) {
                // Of a member the first of all tells that it sees anything.
                let is_news = match &mut peer.state {
                    State::Member(member) => !std::mem::replace(&mut member.has_picture, true),
                    _ => true,
                };
                if is_news {
                    self.events.push_back(Event::Picture {
                        session: peer.session.id,
                        after: picture.after,
                    });
                }
            }
            self.report(now, picture.peer, picture.slot);
        }
    }

    pub(super) fn count(&self, flow: &Flow) {
        self.counters.rtp_out.add(flow.sent);
        self.counters.rtp_out_bytes.add(flow.sent_bytes);
        self.counters.rtp_out_waiting.add(flow.waiting);
        self.counters.rtp_out_codec.add(flow.codec);
        self.counters.rtp_out_rest_of_frame.add(flow.rest_of_frame);
        self.counters.rtp_out_oversized.add(flow.oversized);
        self.counters.start_packets.add(flow.past);
        self.counters.starts_skipped_ahead.add(flow.skipped_ahead);
    }

    /// Sends the queue. A viewer whose run failed loses the rest of its frame (a member of a room that of all frames on
    /// their way to it), and nobody else anything.
    pub(super) fn send(&mut self, outlet: &mut dyn Outlet) {
        if !self.queue.is_empty() {
            outlet.send(&mut self.queue, &mut |owner| self.failed.push(owner));
        }
        let mut failed = std::mem::take(&mut self.failed);
        for index in failed.drain(..) {
            self.counters.runs_failed.add(1);
            let streams = &mut self.streams;
            let mut skip = |slot: u32, position: u32| {
                if let Some(stream) = streams.get_mut(slot as usize).and_then(Option::as_mut) {
                    stream.skip_rest_of_frame(position as usize);
                }
            };
            match self.peers.get(index).map(|peer| &peer.state) {
                Some(State::Viewing { slot, position }) => skip(*slot, *position),
                Some(State::Member(member)) => {
                    for one in member.subscriptions.all() {
                        skip(one.key.slot, one.position);
                    }
                }
                _ => {}
            }
        }
        self.failed = failed;
    }

    /// Viewers somewhere want something of publishers here.
    pub(super) fn serve_wishes(&mut self, now: Instant) {
        for position in 0..self.publishers.len() {
            let index = self.publishers[position];
            let Some(peer) = self.peers.get_mut(index) else {
                continue;
            };
            let to = peer.transport.remote();
            match &mut peer.state {
                State::Publishing(publisher) => {
                    publisher.source().serve_wishes();
                    if let Some(to) = to {
                        publisher.poll_rtcp(now, to, index, &mut self.queue);
                    }
                }
                State::Member(member) => {
                    member.sources().iter_mut().for_each(|source| source.serve_wishes());
                    if let Some(to) = to {
                        member.poll_rtcp(now, to, index, &mut self.queue);
                    }
                }
                State::Connecting | State::Viewing { .. } => continue,
            }
            self.note_keyframes(index);
            self.schedule(index);
        }
    }

    /// Counts what became of keyframe requests, and tells when a publisher turns out not to answer them.
    pub(super) fn note_keyframes(&mut self, index: u32) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        match &mut peer.state {
            State::Publishing(publisher) => {
                let news = publisher.take_keyframe_news();
                if let Some(unanswered) = news.unanswered {
                    self.events.push_back(Event::Keyframes {
                        session: peer.session.id,
                        unanswered,
                        interval: news.interval,
                    });
                }
                count_keyframes(&self.counters, &news);
            }
            State::Member(member) => {
                for source in member.sources() {
                    count_keyframes(&self.counters, &source.take_keyframe_news());
                }
            }
            State::Connecting | State::Viewing { .. } => {}
        }
    }
}

/// A first packet, and who speaks.
fn tell_of_source(
    events: &mut VecDeque<Event>,
    session: SessionId,
    source: &mut Source,
    received: Received,
    now: Instant,
) {
    let stream = source.tracks().key;
    if let Received::Started(kind, codec) = received {
        events.push_back(Event::Media {
            session,
            stream,
            kind,
            codec,
        });
    }
    tell_of_speech(events, session, source, now);
}

/// Somebody has begun to speak, or is silent again.
pub(super) fn tell_of_speech(events: &mut VecDeque<Event>, session: SessionId, source: &mut Source, now: Instant) {
    if let Some(speaking) = source.poll_speech(now) {
        events.push_back(Event::Speaking {
            session,
            stream: source.tracks().key,
            speaking,
        });
    }
}

fn count_keyframes(counters: &ShardCounters, news: &KeyframeNews) {
    counters.keyframe_requests_coalesced.add(news.coalesced);
    counters.keyframe_requests_deferred.add(news.deferred);
    counters.keyframe_requests_sent.add(news.sent);
    counters.keyframe_requests_answered.add(news.answered);
}

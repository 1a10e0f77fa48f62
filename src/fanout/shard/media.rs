//! Packets from publishers, packets to viewers, and what viewers say about them.

use super::*;

impl Shard {
    pub(super) fn handle_rtp(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(&index) = self.addresses.get(&from) else {
            return self.hand_over_or_drop(from, datagram, |counters| &counters.rtp_in_dropped);
        };
        let Some(peer) = self.peers.get_mut(index) else { return };
        let State::Publishing(publisher) = &mut peer.state else {
            return self.counters.rtp_in_dropped.add(1);
        };
        let received = publisher.handle_rtp(now, datagram);
        peer.session.received.set(publisher.received_bytes());
        match received {
            Received::Dropped => return self.counters.rtp_in_dropped.add(1),
            Received::Started(kind, codec) => {
                self.events.push_back(Event::Media {
                    session: peer.session.id,
                    stream: peer.session.tracks.key,
                    kind,
                    codec,
                });
            }
            Received::Media => {}
        }
        peer.transport.handle_authenticated_media();
        self.counters.rtp_in.add(1);
        self.schedule(index);
    }

    pub(super) fn handle_rtcp(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let Some(&index) = self.addresses.get(&from) else {
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
        };
        if !authentic {
            return self.counters.rtcp_dropped.add(1);
        }
        if let Some(peer) = self.peers.get_mut(index) {
            peer.transport.handle_authenticated_media();
        }
        self.schedule(index);
    }

    /// RTCP of a viewer. False if it is not authentic.
    pub(super) fn handle_feedback(&mut self, now: Instant, slot: u32, position: usize, datagram: &mut [u8]) -> bool {
        let Some(stream) = self.streams.get_mut(slot as usize).and_then(Option::as_mut) else {
            return false;
        };
        let Ok(len) = stream.viewer(position).opener.open_rtcp(datagram) else {
            return false;
        };
        let mut flow = Flow::default();
        let mut keyframes = 0;
        let parsed = rtcp::parse(&datagram[..len], |report| match report {
            Report::Nack { about, sequences } => {
                stream.note_loss(now, position, Lost::Packets(sequences.count() as u32));
                stream.retransmit(now, position, about, sequences, &mut self.queue, &mut flow);
            }
            Report::ReceiverReport { fraction_lost, .. } if fraction_lost > 0 => {
                stream.note_loss(now, position, Lost::Share(fraction_lost));
            }
            Report::Pli { about } | Report::Fir { about, .. } if stream.kind_of(about) == Some(Kind::Video) => {
                keyframes += 1
            }
            _ => {}
        });
        let peer = stream.viewer(position).peer;
        if keyframes > 0 {
            self.counters.keyframe_requests.add(keyframes);
            self.keyframe_wanted(now, peer);
        } else {
            self.hear_of(now, peer);
        }
        self.counters.retransmitted.add(flow.retransmitted);
        self.counters.not_retransmitted.add(flow.not_retransmitted);
        parsed.is_ok()
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
            if let Some(peer) = self.peers.get(picture.peer) {
                self.events.push_back(Event::Picture {
                    session: peer.session.id,
                    after: picture.after,
                });
            }
            self.report(now, picture.peer);
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

    /// Sends the queue. A viewer whose run failed loses the rest of its frame, and nobody else anything.
    pub(super) fn send(&mut self, outlet: &mut dyn Outlet) {
        if !self.queue.is_empty() {
            outlet.send(&mut self.queue, &mut |owner| self.failed.push(owner));
        }
        let mut failed = std::mem::take(&mut self.failed);
        for index in failed.drain(..) {
            self.counters.runs_failed.add(1);
            if let Some(Peer {
                state: State::Viewing { slot, position },
                ..
            }) = self.peers.get(index)
            {
                let (slot, position) = (*slot, *position as usize);
                if let Some(stream) = self.stream(slot) {
                    stream.skip_rest_of_frame(position);
                }
            }
        }
        self.failed = failed;
    }

    /// Viewers somewhere want something of publishers here.
    pub(super) fn serve_wishes(&mut self, now: Instant) {
        for position in 0..self.publishers.len() {
            let index = self.publishers[position];
            if let Some(Peer {
                state: State::Publishing(publisher),
                transport,
                ..
            }) = self.peers.get_mut(index)
            {
                publisher.serve_wishes();
                if let Some(to) = transport.remote() {
                    publisher.poll_rtcp(now, to, index, &mut self.queue);
                }
                self.note_keyframes(index);
                self.schedule(index);
            }
        }
    }

    /// Counts what became of keyframe requests, and tells when a publisher turns out not to answer them.
    pub(super) fn note_keyframes(&mut self, index: u32) {
        let Some(Peer {
            state: State::Publishing(publisher),
            session,
            ..
        }) = self.peers.get_mut(index)
        else {
            return;
        };
        let news = publisher.take_keyframe_news();
        self.counters.keyframe_requests_coalesced.add(news.coalesced);
        self.counters.keyframe_requests_deferred.add(news.deferred);
        self.counters.keyframe_requests_sent.add(news.sent);
        self.counters.keyframe_requests_answered.add(news.answered);
        if let Some(unanswered) = news.unanswered {
            self.events.push_back(Event::Keyframes {
                session: session.id,
                unanswered,
                interval: news.interval,
            });
        }
    }
}

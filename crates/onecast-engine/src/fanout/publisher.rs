//! A connected publisher: its datagrams become packets of the stream's tracks.

use std::sync::Arc;
use std::time::Instant;

use super::inbound::{Inbound, Inflow};
use super::membership::Lift;
use super::source::{KeyframeNews, PublisherConfig, Received, Sender, Source};
use crate::media::StreamTracks;
use onecast_rtc::rtp::rtcp::{self, Report};
use onecast_rtc::sdp::Negotiated;
use onecast_rtc::transmit::SendQueue;
use onecast_rtc::{Opener, Sealer};

/// The sending half of a session, as we see it.
pub struct Publisher {
    source: Source,
    sealer: Sealer,
    inbound: Inbound,
    /// Number of the newest word on what becomes of it in a room.
    lifted: u64,
}

impl Publisher {
    /// A publisher that has just connected and takes over the stream's tracks on `shard`.
    pub fn new(
        tracks: Arc<StreamTracks>,
        negotiated: &Negotiated,
        (sealer, opener): (Sealer, Opener),
        shard: usize,
        config: PublisherConfig,
        now: Instant,
    ) -> Publisher {
        Publisher {
            source: Source::new(tracks, negotiated, Sender::Publisher, shard, config, now),
            sealer,
            inbound: Inbound::new(opener),
            lifted: 0,
        }
    }

    /// Its packets go into a room from now on, or no longer. An older word than is known counts for nothing.
    pub fn lift(&mut self, now: Instant, lift: &Lift) {
        if lift.number > self.lifted {
            self.lifted = lift.number;
            self.source.lift(now, &lift.tracks, lift.air.as_ref());
        }
    }

    /// One SRTP datagram, decrypted in place and written to its track.
    pub fn handle_rtp(&mut self, now: Instant, datagram: &mut [u8]) -> Received {
        match self.inbound.open_rtp(now, datagram) {
            Ok((header, len)) => self.source.handle_rtp(now, &datagram[..len], &header),
            Err(received) => received,
        }
    }

    /// One SRTCP datagram. False if it is not authentic.
    pub fn handle_rtcp(&mut self, now: Instant, datagram: &mut [u8]) -> bool {
        let Some(len) = self.inbound.open_rtcp(now, datagram) else {
            return false;
        };
        // The rest of a truncated compound packet is lost, what came before it stands.
        let _ = rtcp::parse(&datagram[..len], |report| {
            if let Report::SenderReport { ssrc, packets, .. } = report {
                self.inbound.note_sender_report(ssrc, packets);
            }
            self.source.handle_report(now, &report);
        });
        self.source.pass_clocks_on();
        true
    }

    /// What changed in keyframes and requests for them since the last call.
    pub fn take_keyframe_news(&mut self) -> KeyframeNews {
        self.source.take_keyframe_news()
    }

    /// Seals what ingest has to tell the publisher.
    pub fn poll_rtcp(&mut self, now: Instant, to: std::net::SocketAddr, owner: u32, out: &mut SendQueue) {
        self.source.poll_rtcp(now, &mut self.sealer, (to, owner), out);
    }

    /// What it sends.
    pub fn source(&mut self) -> &mut Source {
        &mut self.source
    }

    /// When the source's [`handle_timeout`](Source::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.source.poll_timeout()
    }

    /// RTP that was authentic so far, whatever became of it.
    pub fn inflow(&self) -> Inflow {
        self.inbound.inflow()
    }
}

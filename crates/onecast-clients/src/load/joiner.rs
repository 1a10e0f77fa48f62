//! A viewer that joins and notes when it had what, without sockets: it checks, shakes hands, opens every packet and waits for a
//! whole picture.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::publisher::VP8;
use super::reception::{Progress, Reception};
use super::session::seal_report;
use super::stamp::Stamp;
use onecast_rtc::client_peer::{ClientEvent, ClientPeer};
use onecast_rtc::rtp::Codec;
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::keyframe::starts_keyframe;
use onecast_rtc::srtp::{Opener, SrtpKeys};

/// One viewer from its answer on.
pub struct Joiner {
    peer: ClientPeer,
    opener: Option<Opener>,
    reception: Reception,
    config: JoinerConfig,
    times: JoinTimes,
    unopened: u64,
    is_closed: bool,
    reports: VecDeque<Vec<u8>>,
}

/// How a viewer behaves, and what counts as live.
#[derive(Debug, Clone, Copy)]
pub struct JoinerConfig {
    /// Sends an empty receiver report once it has its keys, as browsers soon do.
    pub reports: bool,
    /// A frame that took less from the publisher is the newest one: the time between frames and that of the way.
    pub live_within: Duration,
}

/// When a viewer had what, since 1970. From `connected` on these are times of arrival at the viewer's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JoinTimes {
    /// It began to send its offer.
    pub posted: Duration,
    /// The answer was there.
    pub answered: Duration,
    /// The datagram that completed the DTLS handshake.
    pub connected: Option<Duration>,
    /// The first media packet.
    pub first_packet: Option<Duration>,
    /// The last packet of the first whole keyframe.
    pub picture: Option<Duration>,
    /// The end of the first frame, after that, that was the publisher's newest when it came.
    pub caught_up: Option<Duration>,
}

impl Joiner {
    /// A viewer that has its answer; `peer` was made from it.
    pub fn new(peer: ClientPeer, config: JoinerConfig, posted: Duration, answered: Duration) -> Joiner {
        Joiner {
            peer,
            opener: None,
            reception: Reception::default(),
            config,
            times: JoinTimes {
                posted,
                answered,
                ..JoinTimes::default()
            },
            unopened: 0,
            is_closed: false,
            reports: VecDeque::new(),
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.peer.poll_transmit().or_else(|| self.reports.pop_front())
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Instant {
        self.peer.poll_timeout()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.peer.handle_timeout(now);
    }

    /// Takes a datagram that arrived at `arrived`, since 1970.
    pub fn handle_datagram(&mut self, now: Instant, arrived: Duration, datagram: &mut [u8]) {
        match self.peer.handle_datagram(now, datagram) {
            Some(ClientEvent::Connected(keys)) => {
                self.times.connected = Some(arrived);
                self.handle_keys(&keys);
            }
            Some(ClientEvent::Media) => self.handle_media(arrived, datagram),
            Some(ClientEvent::Closed) => self.is_closed = true,
            Some(ClientEvent::Control) | None => {}
        }
    }

    /// Ends the session with close_notify.
    pub fn close(&mut self, now: Instant) {
        self.peer.close(now);
    }

    /// When it had what.
    pub fn times(&self) -> JoinTimes {
        self.times
    }

    /// Sequence numbers that it never got since its first packet, and packets that it could not open.
    pub fn lost(&self) -> u64 {
        self.reception.missing() + self.unopened
    }

    /// The server ended the session.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn handle_keys(&mut self, keys: &SrtpKeys) {
        self.opener = Some(Opener::new(keys));
        if self.config.reports {
            let mut report = [0; 64];
            let len = seal_report(keys, &mut report);
            self.reports.push_back(report[..len].to_vec());
        }
    }

    fn handle_media(&mut self, arrived: Duration, datagram: &mut [u8]) {
        let Ok(header) = RtpHeader::parse(datagram) else {
            self.unopened += 1;
            return;
        };
        let opened = self
            .opener
            .as_mut()
            .and_then(|opener| opener.open_rtp(datagram, header.len, header.ssrc, header.sequence).ok());
        let Some(len) = opened else {
            self.unopened += 1;
            return;
        };
        let payload = header.payload(&datagram[..len]).unwrap_or_default();
        if header.payload_type != VP8 {
            return;
        }
        self.times.first_packet.get_or_insert(arrived);
        let starts = starts_keyframe(Codec::Vp8, payload);
        let progress = self.reception.handle_packet(header.sequence, starts, header.marker);
        if progress == Progress::Picture {
            self.times.picture = Some(arrived);
        }
        if self.times.caught_up.is_none() && self.reception.has_picture() && header.marker {
            let is_newest = |stamp: Stamp| arrived.saturating_sub(stamp.sent) < self.config.live_within;
            self.times.caught_up = Stamp::read(payload).is_some_and(is_newest).then_some(arrived);
        }
    }
}

//! One client: its transport, its keys, and what it does with them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use onecast_engine::fanout::Session;
use onecast_rtc::client_peer::{ClientEvent, ClientPeer};
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::srtp::{Opener, Sealer};

use crate::caller::Caller;
use crate::guard::Guard;
use crate::member::Member;
use crate::publisher::{Ledger, Publisher};
use crate::viewer::Viewer;

pub(crate) enum Actor {
    Publisher(Box<Publisher>),
    /// A publisher with several layers.
    Layers(Vec<Publisher>),
    Viewer(Box<Viewer>),
    Member(Box<Member>),
    Caller(Box<Caller>),
}

pub(crate) struct Client {
    pub(crate) peer: ClientPeer,
    pub(crate) address: SocketAddr,
    pub(crate) session: Arc<Session>,
    pub(crate) actor: Actor,
    pub(crate) connected: bool,
    /// The server ended the session.
    pub(crate) closed: bool,
    /// Switched off: sends nothing, hears nothing.
    pub(crate) vanished: bool,
    /// Sends no checks once it has connected.
    pub(crate) uncheckable: bool,
    /// Answers no requests of the server.
    pub(crate) unanswering: bool,
    ciphers: Option<(Sealer, Opener)>,
    /// Sealed datagrams to send.
    out: Vec<Vec<u8>>,
}

/// What an actor wants to send, in clear.
pub(crate) enum Clear {
    /// Header length and packet index are needed to seal it.
    Rtp {
        bytes: Vec<u8>,
        header_len: usize,
        index: u64,
    },
    Rtcp(Vec<u8>),
}

impl Client {
    pub(crate) fn new(peer: ClientPeer, address: SocketAddr, session: Arc<Session>, actor: Actor) -> Client {
        Client {
            peer,
            address,
            session,
            actor,
            connected: false,
            closed: false,
            vanished: false,
            uncheckable: false,
            unanswering: false,
            ciphers: None,
            out: Vec::new(),
        }
    }

    pub(crate) fn viewer(&self) -> &Viewer {
        match &self.actor {
            Actor::Viewer(viewer) => viewer,
            _ => panic!("it does not watch a broadcast"),
        }
    }

    pub(crate) fn layers(&mut self) -> &mut [Publisher] {
        match &mut self.actor {
            Actor::Layers(layers) => layers,
            _ => panic!("it has one layer"),
        }
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        match &self.actor {
            Actor::Publisher(publisher) => publisher,
            _ => panic!("it does not publish a broadcast"),
        }
    }

    pub(crate) fn member(&mut self) -> &mut Member {
        match &mut self.actor {
            Actor::Member(member) => member,
            _ => panic!("it is no member"),
        }
    }

    pub(crate) fn caller(&mut self) -> &mut Caller {
        match &mut self.actor {
            Actor::Caller(caller) => caller,
            _ => panic!("it takes part in no conference"),
        }
    }

    pub(crate) fn publisher_mut(&mut self) -> &mut Publisher {
        match &mut self.actor {
            Actor::Publisher(publisher) => publisher,
            _ => panic!("it does not publish a broadcast"),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.vanished {
            return None;
        }
        let actor = match &self.actor {
            _ if !self.connected => None,
            Actor::Publisher(publisher) => publisher.poll_timeout(),
            Actor::Layers(layers) => layers.iter().filter_map(Publisher::poll_timeout).min(),
            Actor::Viewer(viewer) => viewer.poll_timeout(),
            Actor::Member(member) => member.poll_timeout(),
            Actor::Caller(caller) => caller.poll_timeout(),
        };
        // After the end it has nothing to check any more.
        let peer = (!self.closed).then(|| self.peer.poll_timeout());
        actor.filter(|_| !self.closed).into_iter().chain(peer).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, ledgers: &mut [Ledger]) {
        if self.vanished || self.closed {
            return;
        }
        self.peer.handle_timeout(now);
        if self.connected {
            let mut clear = Vec::new();
            match &mut self.actor {
                Actor::Publisher(publisher) => publisher.handle_timeout(now, ledgers, &mut clear),
                Actor::Layers(layers) => {
                    let layers = layers.iter_mut();
                    layers.for_each(|layer| layer.handle_timeout(now, ledgers, &mut clear));
                }
                Actor::Viewer(viewer) => viewer.handle_timeout(now, &mut clear),
                Actor::Member(member) => member.handle_timeout(now, ledgers, &mut clear),
                Actor::Caller(caller) => caller.handle_timeout(now, &mut clear),
            }
            self.seal(clear);
        }
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if self.vanished {
            return None;
        }
        while let Some(datagram) = self.peer.poll_transmit() {
            let is_check = self.uncheckable && self.connected && datagram.starts_with(&[0, 1]);
            let is_answer = self.unanswering && datagram.starts_with(&[1, 1]);
            if !is_check && !is_answer {
                return Some(datagram);
            }
        }
        (!self.out.is_empty()).then(|| self.out.remove(0))
    }

    fn seal(&mut self, clear: Vec<Clear>) {
        let Some((sealer, _)) = &mut self.ciphers else { return };
        for item in clear {
            match item {
                Clear::Rtp {
                    mut bytes,
                    header_len,
                    index,
                } => {
                    let clear_len = bytes.len();
                    bytes.resize(clear_len + 32, 0);
                    let len = sealer.seal_rtp(&mut bytes, header_len, clear_len, index);
                    bytes.truncate(len);
                    self.out.push(bytes);
                }
                Clear::Rtcp(mut bytes) => {
                    let clear_len = bytes.len();
                    bytes.resize(clear_len + 32, 0);
                    let len = sealer.seal_rtcp(&mut bytes, clear_len);
                    bytes.truncate(len);
                    self.out.push(bytes);
                }
            }
        }
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, mut bytes: Vec<u8>, ledgers: &[Ledger], guard: &Guard) {
        if self.vanished || self.closed {
            return;
        }
        match self.peer.handle_datagram(now, &bytes) {
            Some(ClientEvent::Connected(keys)) => {
                self.connected = true;
                self.ciphers = Some((Sealer::new(&keys), Opener::new(&keys)));
                match &mut self.actor {
                    Actor::Publisher(publisher) => publisher.begin(now),
                    Actor::Layers(layers) => layers.iter_mut().for_each(|layer| layer.begin(now)),
                    Actor::Viewer(viewer) => viewer.begin(now, keys),
                    Actor::Member(member) => member.begin(now, keys),
                    Actor::Caller(caller) => caller.begin(now, keys),
                }
            }
            Some(ClientEvent::Media) => self.handle_media(now, &mut bytes, ledgers, guard),
            Some(ClientEvent::Control) => self.handle_control(now, &mut bytes, ledgers),
            Some(ClientEvent::Closed) => self.closed = true,
            None => {}
        }
    }

    fn handle_media(&mut self, now: Instant, bytes: &mut [u8], ledgers: &[Ledger], guard: &Guard) {
        let header = RtpHeader::parse(bytes).unwrap();
        let Some((_, opener)) = &mut self.ciphers else { return };
        let first = guard.first_video(self.address);
        // What it has already is refused here as a replay.
        let Ok(len) = opener.open_rtp(bytes, header.len, header.ssrc, header.sequence) else {
            return;
        };
        match &mut self.actor {
            Actor::Viewer(viewer) => {
                viewer.check_first_video(first);
                viewer.handle_rtp(now, &bytes[..len], ledgers);
            }
            Actor::Member(member) => member.handle_rtp(now, &bytes[..len], ledgers),
            Actor::Caller(caller) => {
                let address = self.address;
                caller.handle_rtp(now, &bytes[..len], |ssrc| guard.first_of(address, ssrc));
            }
            Actor::Publisher(_) | Actor::Layers(_) => {}
        }
    }

    fn handle_control(&mut self, now: Instant, bytes: &mut [u8], ledgers: &[Ledger]) {
        let Some((_, opener)) = &mut self.ciphers else { return };
        let Ok(len) = opener.open_rtcp(bytes) else { return };
        let mut clear = Vec::new();
        match &mut self.actor {
            Actor::Publisher(publisher) => publisher.handle_rtcp(now, &bytes[..len], &mut clear),
            Actor::Layers(layers) => {
                let layers = layers.iter_mut();
                layers.for_each(|layer| layer.handle_rtcp(now, &bytes[..len], &mut clear));
            }
            Actor::Viewer(viewer) => viewer.handle_rtcp(now, &bytes[..len], ledgers),
            Actor::Member(member) => member.handle_rtcp(now, &bytes[..len], ledgers, &mut clear),
            Actor::Caller(caller) => caller.handle_rtcp(&bytes[..len], &mut clear),
        }
        self.seal(clear);
    }
}

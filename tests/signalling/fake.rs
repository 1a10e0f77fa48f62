//! A service that decides by the names and texts it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use onecast::http::feeds::{EventFeed, Feeds, RoomFeed};
use onecast_control::admission::Admission;
use onecast_control::layers::{LayerChoice, LayerState, ViewerLayer, WatchedLayer};
use onecast_control::playable::Playable;
use onecast_control::port::{
    Accepted, PasteRights, PasteRole, Patch, Patched, Protocol, Request, Service, SessionGuard, ShardReading,
    StreamStatus,
};
use onecast_control::registry::LargePackets;
use onecast_control::whep_events::{Audience, EventSet, EventStreamId, Reconnect};
use onecast_control::{AdmissionLimits, Caller, EndReason, Grant, Purpose, Refusal, SdpRefusal, SessionId};
use onecast_engine::fanout::ViewerLine;
use onecast_engine::media::keyframes::{KeyframeReading, KeyframeStats};
use onecast_engine::media::{LayerFacts, LayerIndex, LayerReason};
use onecast_metrics::{AdmissionCounts, ShardCounts, SocketCounts};
use onecast_rtc::rtp::{Codec, Kind, Pt, Rid};
use onecast_rtc::sdp::{ExtensionIds, Format, MediaLine};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::hall::Hall;
use super::operator::Desk;
use super::refused::{refusal_by_line, refusal_by_name, refusal_by_text};

/// Streams named after a refusal get it, and so does what has a line `a=x-refuse:` with its name; offers must begin with `v=0`, and those
/// with `unusable` in them are. A fragment with `a=x-restart` restarts the ICE session.
/// Joins of the stream `limited` pass the real admission control, in simulated time.
#[derive(Debug)]
pub(crate) struct Fake {
    state: Mutex<State>,
    gate: Mutex<Gate>,
    pub(crate) desk: Desk,
    pub(crate) hall: Hall,
}

#[derive(Debug)]
struct Gate {
    now: Instant,
    admission: Admission,
}

/// Limits of admission to the stream `limited`.
pub(crate) const LIMITS: AdmissionLimits = AdmissionLimits {
    joins_per_second: 5,
    half_open: 7,
    half_open_per_address: 3,
    joins_per_address: 1_000,
};

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<SessionId, Protocol>,
    awaiting: BTreeSet<SessionId>,
    answers: Vec<String>,
    feeds: BTreeMap<EventStreamId, Feed>,
    guards: BTreeMap<SessionId, SessionGuard>,
    taken_over: Vec<SessionId>,
    rights: Vec<Grant>,
    created: u8,
    offers: Vec<Offer>,
    fragments: Vec<String>,
    choices: Vec<LayerChoice>,
    broadcasting: bool,
}

/// An event stream.
#[derive(Debug)]
pub(crate) struct Feed {
    session: SessionId,
    wanted: EventSet,
    pub(crate) audience: watch::Sender<Audience>,
    pub(crate) reconnect: watch::Sender<Option<Reconnect>>,
    follower: CancellationToken,
}

/// A layer of the stream `live`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FakeLayer {
    index: u8,
    rid: &'static str,
    size: (u16, u16),
    rate: u32,
}

impl FakeLayer {
    pub(crate) fn state(&self) -> LayerState {
        LayerState {
            index: LayerIndex::new(self.index),
            rid: Rid::parse(self.rid),
            facts: LayerFacts {
                size: Some(self.size),
                rate: self.rate,
                frame_rate: 30,
                is_live: self.rate > 0,
                ..LayerFacts::default()
            },
        }
    }
}

/// The largest is silent.
pub(crate) const LAYERS: [FakeLayer; 3] = [
    FakeLayer {
        index: 2,
        rid: "f",
        size: (1280, 720),
        rate: 0,
    },
    FakeLayer {
        index: 1,
        rid: "h",
        size: (640, 360),
        rate: 512_000,
    },
    FakeLayer {
        index: 0,
        rid: "q",
        size: (320, 180),
        rate: 131_000,
    },
];

/// What arrived at the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) stream: String,
    pub(crate) text: String,
    pub(crate) client: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// The answer to every offer for this stream.
pub(crate) fn answer(stream: &str) -> String {
    format!("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns={stream}\r\nt=0 0\r\n")
}

impl Default for Fake {
    fn default() -> Fake {
        let gate = Gate {
            now: onecast_udp::clock::now(),
            admission: Admission::new(LIMITS),
        };
        Fake {
            state: Mutex::default(),
            gate: Mutex::new(gate),
            desk: Desk::default(),
            hall: Hall::default(),
        }
    }
}

impl Fake {
    /// Lets time pass for admission control.
    pub(crate) fn pass(&self, time: Duration) {
        self.gate.lock().unwrap().now += time;
    }

    fn check_admission(&self, request: &Request<'_>, protocol: Protocol) -> Result<(), Refusal> {
        if request.stream.as_str() != "limited" {
            return Ok(());
        }
        let caller = caller(protocol, request.client);
        let mut gate = self.gate.lock().unwrap();
        let now = gate.now;
        gate.admission.admit(now, caller).map_err(Refusal::Busy)?;
        gate.admission.opened(caller);
        Ok(())
    }

    /// The handshake of an admitted client is finished.
    pub(crate) fn connect(&self, protocol: Protocol, client: SocketAddr) {
        self.gate.lock().unwrap().admission.settled(caller(protocol, client));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn last_offer(&self) -> Offer {
        self.state().offers.last().cloned().expect("an offer came")
    }

    /// By whose right the last session was opened.
    pub(crate) fn last_right(&self) -> Grant {
        self.state().rights.last().cloned().expect("an offer was taken")
    }

    /// Ends a session as if its stream were taken over.
    pub(crate) fn take_over(&self, session: SessionId) {
        self.state().sessions.remove(&session);
        self.state().guards.remove(&session);
        self.state().taken_over.push(session);
    }

    pub(crate) fn offers(&self) -> usize {
        self.state().offers.len()
    }

    pub(crate) fn fragments(&self) -> Vec<String> {
        self.state().fragments.clone()
    }

    /// What viewers have chosen.
    pub(crate) fn choices(&self) -> Vec<LayerChoice> {
        self.state().choices.clone()
    }

    pub(crate) fn answers(&self) -> Vec<String> {
        self.state().answers.clone()
    }

    /// Does something with the only event stream that there is.
    pub(crate) fn with_feed<T>(&self, act: impl FnOnce(&Feed) -> T) -> T {
        let state = self.state();
        assert_eq!(state.feeds.len(), 1);
        act(state.feeds.values().next().unwrap())
    }

    /// Event streams.
    pub(crate) fn feeds(&self) -> usize {
        self.state().feeds.len()
    }

    pub(crate) fn followers(&self) -> usize {
        let state = self.state();
        state.feeds.values().map(|feed| feed.audience.receiver_count()).sum()
    }

    /// A session that is neither WHIP's nor WHEP's.
    pub(crate) fn open_member(&self, request: &Request<'_>, right: &Grant) -> SessionId {
        let mut state = self.state();
        state.created += 1;
        let session = SessionId::from_random([state.created; 16]);
        let guard = SessionGuard {
            stream: request.stream.clone(),
            purpose: Purpose::Participate,
            token: right.token,
        };
        state.guards.insert(session, guard);
        session
    }

    pub(crate) fn close_member(&self, session: SessionId) {
        self.state().guards.remove(&session);
    }

    fn take(&self, request: Request<'_>, protocol: Protocol) -> Result<Accepted, Refusal> {
        self.check_admission(&request, protocol)?;
        let mut state = self.state();
        state.offers.push(Offer {
            stream: request.stream.to_string(),
            text: request.offer.to_owned(),
            client: request.client,
            local: request.local,
        });
        refusal_by_name(request.stream.as_str())?;
        refusal_by_text(request.offer)?;
        state.created += 1;
        let session = SessionId::from_random([state.created; 16]);
        state.sessions.insert(session, protocol);
        let guard = SessionGuard {
            stream: request.stream.clone(),
            purpose: caller(protocol, request.client).purpose,
            token: request.grant.token,
        };
        state.guards.insert(session, guard);
        state.rights.push(request.grant.clone());
        Ok(Accepted {
            session,
            tag: format!("tag-{session}").into(),
            answer: answer(request.stream.as_str()),
            may_choose_layers: protocol == Protocol::Whep,
        })
    }
}

fn caller(protocol: Protocol, client: SocketAddr) -> Caller {
    Caller {
        purpose: match protocol {
            Protocol::Whip => Purpose::Publish,
            Protocol::Whep => Purpose::Watch,
        },
        address: client.ip(),
    }
}

/// What every viewer can play.
fn only_vp8() -> Playable {
    let format = Format {
        codec: Codec::Vp8,
        payload_type: Pt(96),
        rtx: None,
        fmtp: "".into(),
        nack: false,
        pli: false,
        transport_cc: false,
    };
    let line = MediaLine {
        kind: Kind::Video,
        mid: "0".into(),
        formats: vec![format],
        extensions: ExtensionIds::default(),
        ssrc: None,
        rtx_ssrc: None,
        layers: None,
    };
    Playable::of_lines(None, Some(&ViewerLine::new(&line)))
}

impl Feeds for Fake {
    fn follow_events(&self, events: EventStreamId) -> Result<EventFeed, Refusal> {
        let mut state = self.state();
        let feed = state.feeds.get_mut(&events).ok_or(Refusal::UnknownEventStream)?;
        feed.follower.cancel();
        feed.follower = CancellationToken::new();
        Ok(EventFeed {
            wanted: feed.wanted,
            playable: only_vp8(),
            video_line: Some(1),
            audience: feed.audience.subscribe(),
            reconnect: feed.reconnect.subscribe(),
            ended: feed.follower.clone(),
        })
    }

    fn follow_room(&self, peer: SessionId) -> Result<RoomFeed, Refusal> {
        self.follow_hall(peer)
    }

    fn wakes(&self, peer: SessionId) -> Result<watch::Receiver<u64>, Refusal> {
        self.wakes_of(peer)
    }
}

impl Service for Fake {
    fn check_join(&self, client: SocketAddr, purpose: Purpose) -> Result<(), Refusal> {
        let mut gate = self.gate.lock().unwrap();
        let (now, address) = (gate.now, client.ip());
        gate.admission
            .check(now, Caller { purpose, address })
            .map_err(Refusal::Busy)
    }

    fn publish(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        self.take(request, Protocol::Whip)
    }

    fn watch(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        self.take(request, Protocol::Whep)
    }

    fn paste(&self, request: Request<'_>, rights: PasteRights<'_>) -> Result<(Accepted, PasteRole), Refusal> {
        let first = rights.publish.is_some() && !std::mem::replace(&mut self.state().broadcasting, true);
        let sends = first || request.offer.contains("a=sendonly");
        let (protocol, role, right) = if sends {
            (Protocol::Whip, PasteRole::Broadcaster, rights.publish)
        } else {
            (Protocol::Whep, PasteRole::Viewer, rights.watch)
        };
        let purpose = caller(protocol, request.client).purpose;
        let right = right.ok_or(Refusal::NotAllowed(purpose))?;
        let request = Request {
            grant: right,
            ..request
        };
        Ok((self.take(request, protocol)?, role))
    }

    fn patch(&self, patch: Patch<'_>) -> Result<Patched, Refusal> {
        if !self.exists(patch.session, patch.protocol) {
            return Err(Refusal::gone(self.operation().why_ended(patch.session)));
        }
        if patch.fragment.contains("unreadable") {
            let detail = "line 1 cannot be read".to_owned();
            return Err(Refusal::Sdp(SdpRefusal {
                unusable: false,
                detail,
                hint: None,
                codecs: None,
            }));
        }
        refusal_by_line(patch.fragment)?;
        self.state().fragments.push(patch.fragment.to_owned());
        if patch.fragment.contains("a=x-restart") {
            return Ok(Patched::Restarted {
                tag: "tag-of-the-next".into(),
                fragment: "a=ice-ufrag:y\r\n".to_owned(),
            });
        }
        Ok(Patched::Trickled)
    }

    fn close(&self, session: SessionId, protocol: Protocol) -> Result<(), Refusal> {
        if !self.exists(session, protocol) {
            return Err(Refusal::UnknownSession);
        }
        let mut state = self.state();
        state.sessions.remove(&session);
        state.guards.remove(&session);
        state.feeds.retain(|_, feed| {
            if feed.session == session {
                feed.follower.cancel();
            }
            feed.session != session
        });
        Ok(())
    }

    fn counter_offer(&self, request: Request<'_>) -> Result<Accepted, Refusal> {
        self.check_admission(&request, Protocol::Whep)?;
        refusal_by_name(request.stream.as_str())?;
        let mut state = self.state();
        state.created += 1;
        let session = SessionId::from_random([state.created; 16]);
        state.sessions.insert(session, Protocol::Whep);
        let guard = SessionGuard {
            stream: request.stream.clone(),
            purpose: Purpose::Watch,
            token: request.grant.token,
        };
        state.guards.insert(session, guard);
        state.awaiting.insert(session);
        Ok(Accepted {
            session,
            tag: format!("tag-{session}").into(),
            answer: answer("counter-offer"),
            may_choose_layers: true,
        })
    }

    fn take_answer(&self, session: SessionId, answer: &str) -> Result<(), Refusal> {
        if !self.state().awaiting.contains(&session) {
            return Err(Refusal::NoAnswerAwaited);
        }
        refusal_by_text(answer)?;
        let mut state = self.state();
        state.awaiting.remove(&session);
        state.answers.push(answer.to_owned());
        Ok(())
    }

    fn open_events(&self, session: SessionId, wanted: EventSet) -> Result<EventStreamId, Refusal> {
        if !self.exists(session, Protocol::Whep) {
            return Err(Refusal::UnknownSession);
        }
        let mut state = self.state();
        if state.feeds.len() == 2 {
            return Err(Refusal::TooManyEventStreams { max: 2 });
        }
        state.created += 1;
        let id = EventStreamId::from_random([state.created; 16]);
        let feed = Feed {
            session,
            wanted,
            audience: watch::Sender::new(Audience::default()),
            reconnect: watch::Sender::new(None),
            follower: CancellationToken::new(),
        };
        state.feeds.insert(id, feed);
        Ok(id)
    }

    fn choose_layer(&self, session: SessionId, choice: &LayerChoice) -> Result<(), Refusal> {
        if !self.exists(session, Protocol::Whep) {
            return Err(Refusal::UnknownSession);
        }
        if let Some(rid) = choice.rid.as_deref() {
            refusal_by_name(rid)?;
            let known = LAYERS.map(|layer| layer.rid.to_owned());
            if !known.iter().any(|known| known == rid) {
                return Err(Refusal::UnknownLayer { known: known.into() });
            }
        }
        self.state().choices.push(choice.clone());
        Ok(())
    }

    fn viewer_layer(&self, session: SessionId) -> Result<ViewerLayer, Refusal> {
        if !self.exists(session, Protocol::Whep) {
            return Err(Refusal::UnknownSession);
        }
        Ok(ViewerLayer {
            sent: Some((LAYERS[1].state(), LayerReason::Path)),
            switches: 2,
            ..ViewerLayer::default()
        })
    }

    fn close_events(&self, events: EventStreamId) -> Result<(), Refusal> {
        let feed = self.state().feeds.remove(&events).ok_or(Refusal::UnknownEventStream)?;
        feed.follower.cancel();
        Ok(())
    }

    fn exists(&self, session: SessionId, protocol: Protocol) -> bool {
        self.state().sessions.get(&session) == Some(&protocol)
    }

    fn operation(&self) -> &dyn onecast_control::port::Operation {
        self
    }

    fn conference(&self) -> &dyn onecast_control::port::Conference {
        self
    }

    fn guard(&self, session: SessionId) -> Result<Option<SessionGuard>, Refusal> {
        if self.state().taken_over.contains(&session) {
            return Err(Refusal::Ended(EndReason::TakenOver));
        }
        if let Some(why) = self.operation().why_ended(session) {
            return Err(Refusal::Ended(why));
        }
        Ok(self.state().guards.get(&session).cloned())
    }

    fn shards(&self) -> Vec<ShardReading> {
        vec![ShardReading {
            counters: ShardCounts {
                rtp_in: 7,
                ..ShardCounts::default()
            },
            socket: SocketCounts {
                send_calls: 2,
                ..SocketCounts::default()
            },
        }]
    }

    fn streams(&self) -> Vec<StreamStatus> {
        let status = |name: &str| StreamStatus {
            name: name.parse().unwrap(),
            live: false,
            silent: None,
            since_unix: None,
            viewers: 0,
            video: None,
            audio: None,
            keyframes: KeyframeReading::default(),
            large: LargePackets::default(),
            layers: Vec::new(),
        };
        let live = StreamStatus {
            live: true,
            since_unix: Some(Duration::from_secs(1_709_210_096)),
            viewers: 17,
            video: Some("VP8".to_owned()),
            audio: Some("opus".to_owned()),
            keyframes: KeyframeReading {
                stats: KeyframeStats {
                    interval: Some(Duration::from_secs(10)),
                    unanswered: true,
                    wanted: 7,
                    coalesced: 3,
                    deferred: 1,
                    requested: 3,
                    answered: 0,
                },
                cached_bytes: 1_500_000,
                cached_frames: 290,
                ready: true,
            },
            large: LargePackets {
                count: 3,
                longest: 1_616,
            },
            layers: LAYERS
                .map(|layer| WatchedLayer {
                    layer: layer.state(),
                    viewers: 5,
                    keyframe_age: Some(Duration::from_millis(1_500)),
                })
                .to_vec(),
            ..status("live")
        };
        let connected = StreamStatus {
            silent: Some(Duration::from_millis(42_900)),
            since_unix: live.since_unix,
            ..status("connected")
        };
        vec![live, status("waiting"), connected]
    }

    fn admission(&self) -> AdmissionCounts {
        self.gate.lock().unwrap().admission.read()
    }
}

//! A server without sockets, threads and clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_engine::fanout::{CloseCause, Command, Direction, Event, Plan, Session};
use onecast_engine::media::{LayerIndex, LayerLimit};
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::sdp::{Agreement, NegotiationParams, Offer, Role, SdpError, TrackSsrcs};
use onecast_rtc::{Fingerprint, IceCredentials, Path, Profile, SessionId};

use crate::admission::AdmissionLimits;
use crate::conference::{InitialOffer, MemberInfo, RoomLimits};
use crate::control::{Control, ControlConfig, Join, Now, ParsedOffer};
use crate::drain::DrainOrder;
use crate::effect::{Effect, Notice};
use crate::port::PasteRights;
use crate::refusal::Refusal;
use crate::registry::{Limits, SessionFilter, SessionLimits, SessionNumber};
use crate::{Credential, Grant};

pub(super) const PUBLISH: &str = include_str!("../../../../../tests/data/offers/chromium156-publish.sdp");
pub(super) const WATCH: &str = include_str!("../../../../../tests/data/offers/chromium156-watch.sdp");

/// The server, and what its effects have come to.
pub(super) struct Bench {
    pub(super) control: Control,
    pub(super) now: Now,
    /// What followed since the last look, in its order.
    log: Vec<String>,
    /// Sessions that the shards expect or serve.
    pub(super) at_shards: BTreeMap<SessionId, Arc<Session>>,
    /// Most commands that followed from one call.
    pub(super) most_commands: usize,
    /// Present sessions as the tests number them, which need not be known to the shards.
    ids: BTreeMap<SessionId, u128>,
}

pub(super) const LIMITS: Limits = Limits {
    streams: 3,
    viewers: 5,
    admission: AdmissionLimits {
        joins_per_second: 1_000,
        half_open: 100,
        half_open_per_address: 100,
        joins_per_address: 100,
    },
    sessions: SessionLimits {
        viewers_per_stream: Some(3),
        publish_bps: None,
        session_time: None,
        publisher_idle: None,
        viewer_idle: None,
        layers_max_height: None,
    },
    rooms: RoomLimits { members: 2 },
};

pub(super) fn id(number: u128) -> SessionId {
    SessionId::from_random(number.to_be_bytes())
}

pub(super) fn grant(credential: Option<&str>) -> Grant {
    Grant {
        credential: credential.map(|name| Credential(name.into())),
        token: None,
    }
}

pub(super) fn credentials(number: u128) -> IceCredentials {
    IceCredentials {
        ufrag: format!("ours{number}").into(),
        pwd: format!("{number:022}").into(),
    }
}

/// Reads and negotiates an offer.
fn parsed(offer: &str, role: Role) -> Result<ParsedOffer, SdpError> {
    let offer = Offer::parse(offer)?;
    let agreement = offer.negotiate(role).map(Agreement::with_layers);
    Ok(ParsedOffer {
        negotiated: agreement.as_ref().map(Agreement::negotiated).map_err(Clone::clone),
        video_line: agreement
            .ok()
            .and_then(|agreement| agreement.video_line())
            .map(|line| line as u8),
        remote: offer.remote().clone(),
    })
}

pub(super) fn as_publisher(offer: &str) -> Result<ParsedOffer, SdpError> {
    parsed(offer, Role::Publisher)
}

pub(super) fn as_viewer(offer: &str) -> Result<ParsedOffer, SdpError> {
    parsed(offer, Role::Viewer(TrackSsrcs::default()))
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::with(LIMITS)
    }

    pub(super) fn with(limits: Limits) -> Bench {
        let now = Now {
            instant: start(),
            unix: Duration::from_secs(1_000_000),
        };
        let config = ControlConfig {
            limits,
            drain: DrainOrder::default(),
            inboxes: Arc::new([]),
            ssrc_mask: 7,
        };
        Bench {
            control: Control::new(now, config),
            now,
            log: Vec::new(),
            at_shards: BTreeMap::new(),
            most_commands: 0,
            ids: BTreeMap::new(),
        }
    }

    /// Lets time pass, and what is due happen.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while self.control.poll_timeout() <= end {
            self.set_time(self.control.poll_timeout());
            self.control.handle_timeout(self.now);
            self.take_effects();
        }
        self.set_time(end);
    }

    fn set_time(&mut self, instant: Instant) {
        self.now.unix += instant.saturating_duration_since(self.now.instant);
        self.now.instant = self.now.instant.max(instant);
    }

    /// Calls the server with a client that wants to join as session `number`.
    pub(super) fn join<T>(
        &mut self,
        number: u128,
        stream: &str,
        credential: Option<&str>,
        call: impl FnOnce(&mut Control, Now, Join<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let (stream, grant, local) = (stream.parse().unwrap(), grant(credential), credentials(number));
        let join = Join {
            id: id(number),
            local: &local,
            stream: &stream,
            client: ([192, 0, 2, 1], 4_000).into(),
            grant: &grant,
        };
        self.ids.insert(id(number), number);
        let done = call(&mut self.control, self.now, join);
        self.take_effects();
        done
    }

    pub(super) fn publish(&mut self, number: u128, stream: &str, credential: Option<&str>) -> Result<(), Refusal> {
        self.join(number, stream, credential, |control, now, join| {
            control.handle_publish(now, join, as_publisher(PUBLISH)).map(drop)
        })
    }

    pub(super) fn watch(&mut self, number: u128, stream: &str) -> Result<(), Refusal> {
        self.join(number, stream, None, |control, now, join| {
            control.handle_watch(now, join, as_viewer(WATCH)).map(drop)
        })
    }

    /// A browser's offer to publish joins a room.
    pub(super) fn participate(&mut self, number: u128, room: &str, may_send: bool) -> Result<SessionNumber, Refusal> {
        self.participate_with(number, room, PUBLISH, may_send)
    }

    pub(super) fn participate_with(
        &mut self,
        number: u128,
        room: &str,
        offer: &str,
        may_send: bool,
    ) -> Result<SessionNumber, Refusal> {
        let params = NegotiationParams {
            ice: credentials(number),
            fingerprint: Fingerprint([1; 32]),
            candidates: Vec::new(),
            session_id: 1,
        };
        let offer = InitialOffer::answer(offer, params).map(|(offer, _)| offer);
        let anybody = Grant::default();
        let rights = PasteRights {
            publish: may_send.then_some(&anybody),
            watch: Some(&anybody),
        };
        self.join(number, room, None, |control, now, join| {
            control.handle_room_join(now, join, rights, offer, &MemberInfo::default())
        })
    }

    /// Calls the server.
    pub(super) fn call<T>(&mut self, call: impl FnOnce(&mut Control, Now) -> T) -> T {
        let done = call(&mut self.control, self.now);
        self.take_effects();
        done
    }

    pub(super) fn event(&mut self, event: Event) {
        self.call(|control, now| control.handle_event(now, event));
    }

    pub(super) fn connect(&mut self, number: u128) {
        self.event(Event::Connected {
            session: id(number),
            path: Path::udp(([192, 0, 2, 1], 5_000).into()),
            cipher: Profile::AeadAes128Gcm,
        });
    }

    /// A packet of video comes from a publisher.
    pub(super) fn send(&mut self, number: u128, codec: Codec) {
        let session = &self.at_shards[&id(number)];
        session.counters.rtp_bytes.add(1_000);
        let stream = session.plan.sources[0].tracks.key;
        self.event(Event::Media {
            session: id(number),
            stream,
            kind: Kind::Video,
            codec,
        });
    }

    pub(super) fn closed(&mut self, number: u128, cause: CloseCause) {
        self.event(Event::Closed {
            session: id(number),
            cause,
        });
    }

    /// A publisher that has connected and sends VP8.
    pub(super) fn go_live(&mut self, number: u128, stream: &str, credential: Option<&str>) {
        self.publish(number, stream, credential).unwrap();
        self.connect(number);
        self.send(number, Codec::Vp8);
        self.log.clear();
    }

    /// Which sessions there are.
    pub(super) fn present(&self) -> Vec<u128> {
        let all = SessionFilter {
            stream: None,
            purpose: None,
            after: SessionNumber(0),
            limit: usize::MAX,
        };
        let sessions = self.control.sessions(self.now, &all).into_iter();
        let ids = sessions.map(|session| self.control.registry.find(session.session_number).unwrap());
        ids.map(|id| self.ids[&id]).collect()
    }

    pub(super) fn half_open(&self) -> u64 {
        self.control.admission().half_open
    }

    /// What followed since the last call, in its order.
    pub(super) fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Nothing at all followed since the last call.
    #[track_caller]
    pub(super) fn assert_quiet(&mut self) {
        assert_eq!(self.log(), Vec::<String>::new());
    }

    fn take_effects(&mut self) {
        let mut commands = 0;
        while let Some(effect) = self.control.poll_effect() {
            commands += usize::from(matches!(effect, Effect::Command(_)));
            let line = self.describe(effect);
            self.log.extend(line);
        }
        self.most_commands = self.most_commands.max(commands);
    }

    /// A word for it; `None` for what no test looks at.
    fn describe(&mut self, effect: Effect) -> Option<String> {
        let name = |id: &SessionId| self.ids[id];
        Some(match effect {
            Effect::Command(Command::Expect(session)) => {
                let line = format!("expect {}", name(&session.id));
                let before = self.at_shards.insert(session.id, session);
                assert!(before.is_none(), "{line} twice");
                line
            }
            Effect::Command(Command::Close(session)) => {
                let line = format!("close {}", name(&session.id));
                assert!(self.at_shards.remove(&session.id).is_some(), "{line} without expect");
                line
            }
            Effect::Command(Command::Restart(restart)) => {
                assert!(self.at_shards.contains_key(&restart.session.id));
                format!("restart {}", name(&restart.session.id))
            }
            Effect::Command(Command::Plan(session, plan)) => {
                assert!(self.at_shards.contains_key(&session.id));
                match session.direction {
                    Direction::SendOnly => "lift".to_owned(),
                    Direction::ReceiveOnly => describe_limit(name(&session.id), &plan),
                    Direction::SendReceive => format!("membership {}", name(&session.id)),
                }
            }
            Effect::Command(Command::PeersMax(max)) => format!("peers {max}"),
            Effect::Command(Command::Shutdown) => "shutdown".to_owned(),
            Effect::EventsOpened { audience, .. } => format!("events of {} viewers", audience.viewers),
            Effect::Audience(stream, audience) => {
                let live = if audience.live { "live" } else { "off" };
                format!("{stream} {live} {}", audience.viewers)
            }
            Effect::Reconnect(_, reconnect) => format!("reconnect to {}", reconnect.url.unwrap_or_default()),
            Effect::EventsClosed(_) => "events closed".to_owned(),
            Effect::AudienceClosed(stream) => format!("{stream} unfollowed"),
            Effect::MemberJoined { id, .. } => format!("joined {}", name(&id)),
            Effect::Wake(id) => format!("wake {}", name(&id)),
            Effect::Roster(roster) => format!("roster of {}", roster.members.len()),
            Effect::MemberLeft(id) => format!("left {}", name(&id)),
            Effect::RoomClosed(room) => format!("{room} closed"),
            Effect::TimeoutChanged => "timeout".to_owned(),
            Effect::Notice(Notice::Left { party, why, .. }) => format!("{party} ended: {}", why.name()),
            Effect::Notice(Notice::Draining(state)) => format!("draining {}", state.sessions),
            Effect::Notice(Notice::Refused { since }) => format!("{} refused", since.refused()),
            Effect::Notice(Notice::ClosedLate { session, .. }) => format!("late end of {}", name(&session)),
            Effect::Notice(_) => return None,
        })
    }
}

fn describe_limit(viewer: u128, plan: &Plan) -> String {
    let LayerLimit { pin, max_height, .. } = plan.subscriptions[0].limit;
    let pin = pin.map(LayerIndex::index);
    format!("plan {} of {viewer}: {pin:?} {max_height:?}", plan.number)
}

/// Any moment will do.
fn start() -> Instant {
    onecast_udp::clock::now()
}

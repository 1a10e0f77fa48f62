//! A long random walk over everything that can happen to sessions: what is left behind by any of it shows within a few thousand steps.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::sessions::SessionEntry;
use super::streams::StreamEntry;
use super::testing::{Succeeded, Terms};
use super::tests::UNBOUNDED;
use super::*;
use crate::Credential;
use crate::ice_session::{IceChange, IcePatch, Precondition};
use onecast_engine::fanout::{Direction, Plan};
use onecast_engine::media::lane::StreamSlot;
use onecast_rtc::sdp::Fragment;
use onecast_rtc::{DtlsRole, RemoteTransport};
use std::collections::BTreeMap;

const STREAMS: u64 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const WIDE: Limits = Limits {
    streams: STREAMS as usize,
    viewers: 24,
    admission: AdmissionLimits {
        joins_per_second: 1_000,
        half_open: 12,
        half_open_per_address: 6,
        joins_per_address: 1_000,
    },
    sessions: SessionLimits {
        viewers_per_stream: Some(9),
        publish_bps: Some(400),
        session_time: Some(Duration::from_secs(30)),
        publisher_idle: Some(Duration::from_secs(15)),
        viewer_idle: Some(Duration::from_secs(25)),
        layers_max_height: None,
    },
    rooms: crate::conference::RoomLimits::DEFAULT,
};
/// After a reload: fewer of everything than there may be, and nothing bounds those who are in.
const NARROW: Limits = Limits {
    streams: 1,
    viewers: 3,
    sessions: UNBOUNDED,
    ..WIDE
};

/// Chance with a seed, so that a failure can be seen again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let index = self.below(all.len().max(1) as u64) as usize;
        all.get(index).copied()
    }
}

/// The registry, and what its caller knows of it.
struct Walk {
    registry: Registry,
    seed: u64,
    chance: Chance,
    now: Instant,
    /// Sessions that were admitted and have not ended.
    inside: BTreeSet<SessionId>,
    /// What each that was ended was to the shards.
    at_shards: BTreeSet<SessionId>,
    admitted: u128,
    handed: BTreeSet<SessionNumber>,
    /// How often each thing happened, so that a walk which does nothing is noticed.
    done: BTreeMap<&'static str, u64>,
}

impl Walk {
    fn new(seed: u64) -> Walk {
        Walk {
            registry: Registry::new(WIDE, Vec::new().into(), 7),
            seed,
            chance: Chance(seed),
            now: onecast_udp::clock::now(),
            inside: BTreeSet::new(),
            at_shards: BTreeSet::new(),
            admitted: 0,
            handed: BTreeSet::new(),
            done: BTreeMap::new(),
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn any_session(&mut self) -> Option<SessionId> {
        let all: Vec<_> = self.inside.iter().copied().collect();
        self.chance.of(&all)
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.chance.below(400));
        match self.chance.below(16) {
            0..=3 => self.admit(),
            4 | 5 => self.answer(),
            6 => self.answer_of_ours(),
            7 | 8 => self.connect(),
            9 => self.restart(),
            10 => self.send(),
            11 => self.leave(),
            12 => self.kick(),
            13 | 14 => self.sweep(),
            _ => {
                let limits = if self.chance.below(4) == 0 { NARROW } else { WIDE };
                self.registry.set_limits(limits);
            }
        }
        self.check();
    }

    fn admit(&mut self) {
        let purpose = match self.chance.below(3) {
            0 => Purpose::Publish,
            _ => Purpose::Watch,
        };
        let caller = Caller {
            purpose,
            address: IpAddr::from([10, 0, 0, self.chance.below(3) as u8]),
        };
        let stream = name(self.chance.below(STREAMS + 1));
        let credential = self
            .chance
            .of(&[None, None, None, Some("studio"), Some("phone")])
            .flatten();
        let grant = Grant {
            credential: credential.map(|name| Credential(name.into())),
            token: None,
        };
        let terms = Terms {
            timeout: CONNECT_TIMEOUT,
            grant,
        };
        self.admitted += 1;
        let id = SessionId::from_random(self.admitted.to_be_bytes());
        let now = self.now;
        let admitted = self.registry.join(now, &stream, caller, id, terms);
        let Ok(admitted) = admitted else {
            return self.note("refused");
        };
        self.inside.insert(id);
        if let Some(displaced) = admitted.displaced {
            self.note(if admitted.takes_over { "taken over" } else { "made room" });
            self.ended(displaced, EndReason::TakenOver);
        }
        if purpose == Purpose::Watch && self.chance.below(3) == 0 {
            self.registry.set_offered(id, credentials(0));
            self.note("offered");
        }
    }

    /// The offer of a session is answered, even if the session has ended meanwhile.
    fn answer(&mut self) {
        let number = u128::from(self.chance.below(self.admitted.max(1) as u64)) + 1;
        let successors = self
            .registry
            .streams
            .by_name
            .values()
            .filter_map(|stream| stream.successor);
        let mut successors = successors.filter(|id| !self.at_shards.contains(id));
        let recent = successors
            .next()
            .filter(|_| self.chance.below(2) == 0)
            .or_else(|| self.any_session().filter(|_| self.chance.below(4) > 0));
        let id = recent.unwrap_or(SessionId::from_random(number.to_be_bytes()));
        let is_waiting = self.registry.awaits_answer(id);
        let known = self.registry.sessions.get(id);
        if is_waiting || known.is_some_and(|entry| entry.session.is_some()) {
            return;
        }
        let session = Arc::new(self.session(id));
        let taken = self.inside.contains(&id);
        self.registry.set_session(session);
        let entry = self.registry.sessions.get(id);
        assert_eq!(
            entry.is_some_and(|entry| entry.session.is_some()),
            taken,
            "a session that has ended does not come back"
        );
        if taken {
            self.at_shards.insert(id);
        }
        self.note(if taken { "answered" } else { "answered too late" });
    }

    fn answer_of_ours(&mut self) {
        let Some(id) = self.any_session() else { return };
        if self.registry.take_offered(self.now, id, CONNECT_TIMEOUT).is_none() {
            return;
        }
        assert!(self.registry.take_offered(self.now, id, CONNECT_TIMEOUT).is_none());
        let session = Arc::new(self.session(id));
        self.registry.set_session(session);
        self.at_shards.insert(id);
        self.note("answer taken");
    }

    /// The shards may report a session twice, and after its end.
    fn connect(&mut self) {
        // One that is to replace another is rare, and gets its turn more often.
        let successors = self
            .registry
            .streams
            .by_name
            .values()
            .filter_map(|stream| stream.successor);
        let mut successors = successors.filter(|id| self.at_shards.contains(id));
        let successor = successors.next().filter(|_| self.chance.below(2) == 0);
        let Some(id) = successor
            .or_else(|| self.any_session())
            .filter(|id| self.at_shards.contains(id))
        else {
            return;
        };
        match self.registry.succeed(self.now, id) {
            Succeeded::Free => {}
            Succeeded::Replaces { ended, silent } => {
                assert!(silent >= slot::REPLACEABLE_AFTER && ended.connected.is_some());
                self.ended(ended, EndReason::Replaced { silent });
                self.note("replaced");
            }
            Succeeded::Refused => {
                self.end(id, EndReason::PlaceKept);
                return self.note("place kept");
            }
        }
        let connected = self.registry.connected(self.now, Duration::from_secs(1), id);
        assert_eq!(connected.map(|connected| connected.purpose), self.registry.purpose(id));
        self.note("connected");
    }

    fn restart(&mut self) {
        let Some(id) = self.any_session() else { return };
        let number = self.chance.below(1 << 31);
        let fragment = format!("a=ice-ufrag:theirs{number}\r\na=ice-pwd:{number:022}\r\n");
        let fragment = Fragment::parse(&fragment).unwrap();
        let patch = IcePatch {
            session: id,
            condition: &Precondition::Any,
            fragment: &fragment,
        };
        let busy = self.chance.below(4) == 0;
        let patched = self
            .registry
            .sessions
            .patch(self.now, patch, &credentials(number), busy);
        match patched {
            Ok(IceChange::Restarted(restart)) => {
                assert!(!busy && restart.session.id == id && self.at_shards.contains(&id));
                self.note("restarted");
            }
            Err(Refusal::UnknownSession) => assert!(!self.at_shards.contains(&id)),
            Err(Refusal::Overloaded) => assert!(busy),
            Err(Refusal::RestartTooSoon) => self.note("restarted too soon"),
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self) {
        let sessions = &self.registry.sessions;
        let of_stream = |stream: &StreamEntry| stream.publisher.filter(|id| sessions.by_id[id].connected.is_some());
        let publishers: Vec<_> = self.registry.streams.by_name.values().filter_map(of_stream).collect();
        for id in publishers {
            // Some pause.
            if self.chance.below(3) == 0 {
                continue;
            }
            let session = self.registry.sessions.by_id[&id].session.as_ref();
            session
                .expect("it was answered")
                .counters
                .rtp_bytes
                .add(self.chance.below(20_000));
            let live = self.registry.media(id, Kind::Video, Codec::Vp8);
            assert!(live.is_some(), "there is one publisher");
        }
    }

    fn leave(&mut self) {
        let leaves = self.chance.below(3) == 0;
        let Some(id) = self.any_session().filter(|_| leaves) else {
            return;
        };
        self.end(id, EndReason::Goodbye);
        assert!(self.registry.remove(self.now, id).is_none(), "it ends once");
        self.note("left");
    }

    fn kick(&mut self) {
        let most = self.registry.sessions.last.0 + 1;
        let number = SessionNumber(self.chance.below(most));
        if let Some(id) = self.registry.find(number) {
            self.end(id, EndReason::Operator(None));
            assert_eq!(self.registry.find(number), None);
            self.note("kicked");
        }
        if self.chance.below(20) == 0 {
            let stream = name(self.chance.below(STREAMS));
            for id in self.registry.of_stream(&stream, true) {
                self.end(id, EndReason::Operator(None));
            }
            assert!(!self.registry.has(&stream));
        }
    }

    fn sweep(&mut self) {
        let mut told = BTreeSet::new();
        for verdict in self.registry.verdicts(self.now) {
            if let Verdict::End(id, why) = verdict {
                assert!(told.insert(id), "one verdict for each");
                self.note(match why {
                    EndReason::Idle { .. } => "idle",
                    EndReason::SessionTime { .. } => "old",
                    EndReason::BitRate { .. } => "too fast",
                    other => panic!("{other:?}"),
                });
                self.end(id, why);
            }
        }
        for id in self.registry.overdue(self.now) {
            self.end(id, EndReason::NeverCame);
            self.note("never came");
        }
    }

    fn end(&mut self, id: SessionId, why: EndReason) {
        let ended = self.registry.remove(self.now, id).expect("it was there");
        self.ended(ended, why);
    }

    /// What the caller does for each end: it must learn of each once, with what to close at the shards.
    fn ended(&mut self, ended: Ended, why: EndReason) {
        assert!(self.inside.remove(&ended.id), "an end is reported once");
        assert_eq!(self.at_shards.remove(&ended.id), ended.session.is_some());
        self.registry.remember(Duration::from_secs(1), &ended, why);
        self.handed.insert(ended.session_number);
    }

    fn check(&self) {
        let (registry, seed) = (&self.registry, self.seed);
        let known: BTreeSet<_> = registry.sessions.by_id.keys().copied().collect();
        assert_eq!(known, self.inside, "seed {seed}");
        let by_number: BTreeSet<_> = registry.sessions.by_number.values().copied().collect();
        assert_eq!((by_number, registry.sessions.by_number.len()), (known, registry.len()));
        let of = |wanted: &dyn Fn(&SessionEntry) -> bool| {
            registry.sessions.by_id.values().filter(|entry| wanted(entry)).count()
        };
        assert_eq!(
            registry.admission().half_open,
            of(&|entry| entry.connected.is_none()) as u64
        );
        assert_eq!(
            registry.sessions.viewers,
            of(&|entry| entry.caller.purpose == Purpose::Watch)
        );
        let mut slots: BTreeSet<StreamSlot> = registry.tracks.free_slots().collect();
        assert_eq!(slots.len(), registry.tracks.free_slots().count());
        for (name, stream) in &registry.streams.by_name {
            assert!(slots.insert(stream.tracks.key.slot), "a slot has one stream");
            let here = |entry: &SessionEntry| entry.stream == *name;
            let watches = |entry: &SessionEntry| here(entry) && entry.caller.purpose == Purpose::Watch;
            assert!(stream.sessions > 0, "no stream without sessions");
            assert_eq!(stream.sessions, of(&here));
            assert_eq!(stream.viewers, of(&watches));
            assert_eq!(
                stream.watching,
                of(&|entry| watches(entry) && entry.connected.is_some())
            );
            let publisher = stream.publisher.map(|id| &registry.sessions.by_id[&id]);
            let successor = stream.successor.map(|id| &registry.sessions.by_id[&id]);
            assert_eq!(
                of(&|entry| here(entry) && !watches(entry)),
                usize::from(publisher.is_some()) + usize::from(successor.is_some())
            );
            let is_connected = publisher.is_some_and(|entry| entry.connected.is_some());
            if let Some(successor) = successor {
                let credential = publisher.and_then(|entry| entry.grant.credential.as_ref());
                assert!(is_connected && credential.is_none() && successor.connected.is_none());
            }
            assert_eq!(stream.since.is_some(), is_connected);
            assert_eq!(stream.alone_since.is_none(), is_connected);
            let audience = registry.audience(self.now, name);
            assert!(is_connected || (!audience.live && !audience.silent));
            assert!(!(audience.live && audience.silent));
        }
        assert!(slots.last().is_none_or(|&last| u64::from(last.0) < STREAMS));
    }

    fn session(&self, id: SessionId) -> Session {
        let known = self
            .registry
            .stream_of(id)
            .map(|name| &self.registry.streams.by_name[&name]);
        let tracks = known
            .map(|stream| stream.tracks.clone())
            .unwrap_or_else(|| TrackMaker::new(Vec::new().into(), 7).open(self.now, "gone"));
        let remote = RemoteTransport {
            ice: IceCredentials {
                ufrag: "theirs".into(),
                pwd: "a-password-of-22-chars".into(),
            },
            fingerprints: vec![],
            role: DtlsRole::Server,
        };
        let plan = Plan::watch(tracks, None, None);
        Session::new(id, credentials(0), remote, Direction::ReceiveOnly, plan, self.now)
    }
}

fn name(number: u64) -> StreamName {
    format!("s{number}").parse().unwrap()
}

fn credentials(number: u64) -> IceCredentials {
    IceCredentials {
        ufrag: format!("ours{number}").into(),
        pwd: format!("{number:022}").into(),
    }
}

#[test]
fn whatever_happens_to_sessions_in_whatever_order_nothing_of_them_is_left() {
    let mut done = BTreeMap::<&str, u64>::new();
    for seed in 0..12 {
        let mut walk = Walk::new(seed);
        for _ in 0..4_000 {
            walk.step();
        }
        while let Some(id) = walk.any_session() {
            walk.end(id, EndReason::Goodbye);
            walk.check();
        }
        let registry = &walk.registry;
        assert!(registry.len() == 0 && registry.streams(walk.now).is_empty() && walk.at_shards.is_empty());
        assert_eq!((registry.admission().half_open, registry.sessions.viewers), (0, 0));
        assert_eq!(
            walk.handed.len() as u64,
            registry.sessions.last.0,
            "each number ended once"
        );
        for (what, count) in walk.done {
            *done.entry(what).or_default() += count;
        }
    }
    for what in [
        "taken over",
        "made room",
        "replaced",
        "place kept",
        "refused",
        "offered",
        "answered",
        "answered too late",
        "answer taken",
        "connected",
        "restarted",
        "restarted too soon",
        "left",
        "kicked",
        "idle",
        "old",
        "too fast",
        "never came",
    ] {
        assert!(done.get(what).is_some_and(|&count| count > 10), "{what}: {done:?}");
    }
}

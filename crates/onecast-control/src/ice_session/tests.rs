use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::registry::{Registry, SessionLimits};
use crate::{AdmissionLimits, Caller, Limits, Purpose};
use onecast_engine::fanout::{Direction, Plan};
use onecast_rtc::{DtlsRole, RemoteTransport};

const PWD: &str = "a-password-of-22-chars";
const NEW_PWD: &str = "b-password-of-22-chars";

/// A registry with one session, whose client is `theirs` and which we call `ours`.
struct Rig {
    registry: Registry,
    now: Instant,
    told: Vec<Arc<Restart>>,
    overloaded: bool,
}

impl Rig {
    fn new() -> Rig {
        let now = onecast_udp::clock::now();
        let limits = Limits {
            streams: 1,
            viewers: 1,
            admission: AdmissionLimits::default(),
            sessions: SessionLimits::default(),
            rooms: crate::conference::RoomLimits::DEFAULT,
        };
        let mut registry = Registry::new(limits, Vec::new().into(), 7);
        let caller = Caller {
            purpose: Purpose::Watch,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let timeout = Duration::from_secs(30);
        let admitted = registry
            .join(now, &"live".parse().unwrap(), caller, id(), timeout)
            .unwrap();
        let remote = RemoteTransport {
            ice: credentials("theirs", PWD),
            fingerprints: vec![],
            role: DtlsRole::Server,
        };
        let plan = Plan::watch(admitted.tracks, None, None);
        let local = credentials("ours", PWD);
        let session = Session::new(id(), local, remote, Direction::ReceiveOnly, plan, now);
        registry.set_session(Arc::new(session));
        Rig {
            registry,
            now,
            told: Vec::new(),
            overloaded: false,
        }
    }

    fn patch(&mut self, condition: &Precondition, fragment: &str) -> Result<IceChange, Refusal> {
        let fragment = Fragment::parse(fragment).unwrap();
        let patch = IcePatch {
            session: id(),
            condition,
            fragment: &fragment,
        };
        let fresh = credentials(&format!("ours{}", self.told.len() + 1), NEW_PWD);
        let patched = self.registry.sessions.patch(self.now, patch, &fresh, self.overloaded);
        if let Ok(IceChange::Restarted(restart)) = &patched {
            self.told.push(restart.clone());
        }
        patched
    }

    fn restart(&mut self, number: u32) -> Result<u32, Refusal> {
        let fragment = format!("a=ice-ufrag:theirs{number}\r\na=ice-pwd:{number}-password-of-22-chars\r\n");
        match self.patch(&Precondition::Any, &fragment)? {
            IceChange::Restarted(restart) => Ok(restart.ice.number),
            IceChange::Trickled => panic!("not a restart"),
        }
    }

    fn trickled(&mut self, condition: &Precondition, fragment: &str) -> bool {
        matches!(self.patch(condition, fragment), Ok(IceChange::Trickled))
    }
}

fn id() -> SessionId {
    SessionId::from_random([7; 16])
}

fn credentials(ufrag: &str, pwd: &str) -> IceCredentials {
    IceCredentials {
        ufrag: ufrag.into(),
        pwd: pwd.into(),
    }
}

fn tags(tags: &[&str]) -> Precondition {
    Precondition::Tags(tags.iter().map(|tag| Box::from(*tag)).collect())
}

const CANDIDATE: &str = "a=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n";
const CURRENT: &str = "a=ice-ufrag:theirs\r\na=ice-pwd:a-password-of-22-chars\r\n";

#[test]
fn candidates_of_the_current_ice_session_are_taken_with_its_tag_any_tag_or_none() {
    let mut rig = Rig::new();
    for condition in [
        tags(&["ours"]),
        tags(&["other", "ours"]),
        Precondition::Any,
        Precondition::Missing,
    ] {
        for fragment in [CURRENT, CANDIDATE, "a=ice-ufrag:theirs\r\n"] {
            assert!(rig.trickled(&condition, fragment), "{condition:?} {fragment}");
        }
    }
    assert!(rig.told.is_empty());
}

#[test]
fn another_tag_is_stale_whatever_comes_with_it() {
    let mut rig = Rig::new();
    for condition in [tags(&["theirs"]), tags(&[]), tags(&["OURS"])] {
        for fragment in [
            CURRENT,
            CANDIDATE,
            "a=ice-ufrag:renewed\r\na=ice-pwd:b-password-of-22-chars\r\n",
        ] {
            assert_eq!(
                rig.patch(&condition, fragment).unwrap_err(),
                Refusal::StaleIceSession,
                "{condition:?}"
            );
        }
    }
}

#[test]
fn a_restart_reaches_the_shards_and_changes_the_tag() {
    let mut rig = Rig::new();
    assert_eq!(rig.restart(1), Ok(1));
    let told = &rig.told[0].ice;
    assert_eq!(
        (told.number, &*told.local.ufrag, &*told.remote.ufrag),
        (1, "ours1", "theirs1")
    );
    assert_eq!(
        rig.patch(&tags(&["ours"]), CANDIDATE).unwrap_err(),
        Refusal::StaleIceSession
    );
    assert!(rig.trickled(&tags(&["ours1"]), CANDIDATE));
    assert!(rig.trickled(
        &Precondition::Any,
        "a=ice-ufrag:theirs1\r\na=ice-pwd:1-password-of-22-chars\r\n"
    ));
    rig.now += RESTART_INTERVAL;
    assert_eq!(rig.restart(2), Ok(2));
}

#[test]
fn what_comes_late_for_an_ice_session_that_is_over_is_no_restart() {
    let mut rig = Rig::new();
    for number in 1..=2 {
        rig.now += RESTART_INTERVAL;
        rig.restart(number).unwrap();
    }
    rig.now += RESTART_INTERVAL;
    for late in [CURRENT, "a=ice-ufrag:theirs1\r\na=ice-pwd:1-password-of-22-chars\r\n"] {
        assert_eq!(
            rig.patch(&Precondition::Any, late).unwrap_err(),
            Refusal::StaleIceSession
        );
        assert_eq!(
            rig.patch(&Precondition::Missing, late).unwrap_err(),
            Refusal::Unconditional
        );
    }
    assert_eq!(rig.told.len(), 2);
}

#[test]
fn half_a_restart_is_none() {
    let mut rig = Rig::new();
    for fragment in [
        "a=ice-ufrag:renewed\r\n",
        "a=ice-pwd:b-password-of-22-chars\r\n",
        "a=ice-ufrag:renewed\r\na=ice-pwd:a-password-of-22-chars\r\n",
        "a=ice-ufrag:theirs\r\na=ice-pwd:b-password-of-22-chars\r\n",
    ] {
        assert_eq!(
            rig.patch(&Precondition::Any, fragment).unwrap_err(),
            Refusal::HalfRestart,
            "{fragment}"
        );
        assert_eq!(
            rig.patch(&Precondition::Missing, fragment).unwrap_err(),
            Refusal::Unconditional
        );
    }
}

#[test]
fn restarts_have_a_pace_and_the_first_may_come_at_once() {
    let mut rig = Rig::new();
    rig.restart(1).unwrap();
    rig.now += RESTART_INTERVAL / 2;
    assert_eq!(rig.restart(2), Err(Refusal::RestartTooSoon));
    assert!(rig.trickled(&tags(&["ours1"]), CANDIDATE));
    rig.now += RESTART_INTERVAL / 2;
    assert_eq!(rig.restart(2), Ok(2));
}

#[test]
fn a_restart_that_not_every_shard_takes_leaves_everything_as_it_is() {
    let mut rig = Rig::new();
    rig.overloaded = true;
    assert_eq!(rig.restart(1), Err(Refusal::Overloaded));
    assert!(rig.trickled(&tags(&["ours"]), CURRENT));
    rig.overloaded = false;
    assert_eq!(rig.restart(1), Ok(1));
}

#[test]
fn a_session_that_is_gone_takes_nothing() {
    let mut rig = Rig::new();
    rig.registry.remove(rig.now, id());
    assert_eq!(
        rig.patch(&Precondition::Any, CANDIDATE).unwrap_err(),
        Refusal::UnknownSession
    );
}

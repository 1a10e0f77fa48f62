//! The changes between two rosters of a room. The diff is computed when the client is ready to receive it, from the roster that the client
//! knows to the current one. There is no queue: slow readers skip intermediate states and get the latest one.

use std::collections::BTreeMap;

use onecast_control::SessionNumber;
use onecast_control::conference::{MemberState, Roster};

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RosterChange<'a> {
    Left(SessionNumber),
    Joined(&'a MemberState),
    /// The name, the tracks or the muting of a member has changed.
    Changed(&'a MemberState),
    Speaking {
        id: SessionNumber,
        speaking: bool,
    },
    /// The member that the room's viewers see.
    Speaker(Option<SessionNumber>),
}

/// The changes from `known` to `now`, in the order in which to send them.
pub(crate) fn between<'a>(known: &Roster, now: &'a Roster) -> Vec<RosterChange<'a>> {
    let (before, after) = (by_id(known), by_id(now));
    let mut changes: Vec<RosterChange<'a>> = Vec::new();
    let gone = known.members.iter().filter(|member| !after.contains_key(&member.id));
    changes.extend(gone.map(|member| RosterChange::Left(member.id)));
    for member in &now.members {
        match before.get(&member.id) {
            None => changes.push(RosterChange::Joined(member)),
            Some(before) => changes.extend(of_member(before, member)),
        }
    }
    if known.speaker != now.speaker {
        changes.push(RosterChange::Speaker(now.speaker));
    }
    changes
}

fn of_member<'a>(before: &MemberState, now: &'a MemberState) -> impl Iterator<Item = RosterChange<'a>> {
    let is_same = before.name == now.name && before.broadcast == now.broadcast && before.tracks == now.tracks;
    let spoke = before.speaking != now.speaking;
    let changed = (!is_same).then_some(RosterChange::Changed(now));
    let speaking = spoke.then_some(RosterChange::Speaking {
        id: now.id,
        speaking: now.speaking,
    });
    changed.into_iter().chain(speaking)
}

fn by_id(roster: &Roster) -> BTreeMap<SessionNumber, &MemberState> {
    roster.members.iter().map(|member| (member.id, member)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use onecast_control::conference::TrackState;
    use onecast_rtc::rtp::Kind;

    fn member(id: u64) -> MemberState {
        MemberState {
            id: SessionNumber(id),
            name: None,
            broadcast: false,
            since_unix: Duration::from_secs(id),
            speaking: false,
            tracks: vec![],
        }
    }

    fn room(members: Vec<MemberState>, speaker: Option<u64>) -> Roster {
        Roster {
            room: "main".parse().unwrap(),
            members,
            speaker: speaker.map(SessionNumber),
        }
    }

    #[test]
    fn equal_rosters_have_no_changes() {
        let room = room(vec![member(1), member(2)], Some(2));
        assert_eq!(between(&room, &room.clone()), []);
    }

    #[test]
    fn joined_and_left_members_are_reported_once() {
        let (known, now) = (
            room(vec![member(1), member(2)], None),
            room(vec![member(2), member(3)], None),
        );
        assert_eq!(
            between(&known, &now),
            [RosterChange::Left(SessionNumber(1)), RosterChange::Joined(&member(3))]
        );
    }

    #[test]
    fn a_new_member_has_no_further_changes() {
        let speaks = MemberState {
            speaking: true,
            name: Some("Ada".into()),
            ..member(4)
        };
        let now = room(vec![speaks.clone()], Some(4));
        assert_eq!(
            between(&room(vec![], None), &now),
            [
                RosterChange::Joined(&speaks),
                RosterChange::Speaker(Some(SessionNumber(4)))
            ]
        );
    }

    #[test]
    fn each_change_of_a_member_is_reported() {
        let known = room(vec![member(1)], None);
        let track = TrackState {
            stream: "m1.0".into(),
            kind: Kind::Audio,
            label: None,
            muted: false,
            codec: None,
        };
        let sending = MemberState {
            tracks: vec![track.clone()],
            ..member(1)
        };
        let muted = MemberState {
            tracks: vec![TrackState { muted: true, ..track }],
            ..member(1)
        };
        let named = MemberState {
            name: Some("Ada".into()),
            ..member(1)
        };
        for changed in [&sending, &muted, &named] {
            let now = room(vec![changed.clone()], None);
            assert_eq!(between(&known, &now), [RosterChange::Changed(changed)]);
        }
        let (before, after) = (room(vec![sending], None), room(vec![muted.clone()], None));
        assert_eq!(between(&before, &after), [RosterChange::Changed(&muted)]);
    }

    #[test]
    fn speaking_is_reported_separately() {
        let speaks = MemberState {
            speaking: true,
            ..member(1)
        };
        let (quiet, loud) = (room(vec![member(1)], None), room(vec![speaks], Some(1)));
        let began = RosterChange::Speaking {
            id: SessionNumber(1),
            speaking: true,
        };
        assert_eq!(
            between(&quiet, &loud),
            [began, RosterChange::Speaker(Some(SessionNumber(1)))]
        );
        let ended = RosterChange::Speaking {
            id: SessionNumber(1),
            speaking: false,
        };
        assert_eq!(between(&loud, &quiet), [ended, RosterChange::Speaker(None)]);
    }

    #[test]
    fn a_member_that_came_and_left_unseen_is_skipped() {
        let known = room(vec![member(1)], None);
        let later = room(vec![member(1)], None);
        assert_eq!(between(&known, &later), [], "member 2 was present in between");
    }
}

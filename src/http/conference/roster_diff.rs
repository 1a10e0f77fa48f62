//! What has happened in a room between two of its rosters. It is made when there is time to tell it, out of what was told last and what
//! is now: for whoever reads slowly nothing piles up, and what came and went in between is not told.

use std::collections::BTreeMap;

use onecast_control::conference::{MemberState, Roster};

/// Something to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News<'a> {
    /// Somebody is no more in the room.
    Left(u64),
    /// Somebody is new.
    Joined(&'a MemberState),
    /// Somebody's name, tracks, or what is muted of them.
    Changed(&'a MemberState),
    /// Somebody began to speak, or has stopped.
    Speaking { id: u64, speaking: bool },
    /// Whom the room's viewers see.
    Speaker(Option<u64>),
}

/// What to tell, in this order, to somebody who was told `told`, so that it knows `now`.
pub(crate) fn between<'a>(told: &Roster, now: &'a Roster) -> Vec<News<'a>> {
    let (before, after) = (by_id(told), by_id(now));
    let mut news: Vec<News<'a>> = Vec::new();
    let gone = told.members.iter().filter(|member| !after.contains_key(&member.id));
    news.extend(gone.map(|member| News::Left(member.id)));
    for member in &now.members {
        match before.get(&member.id) {
            None => news.push(News::Joined(member)),
            Some(known) => news.extend(of_member(known, member)),
        }
    }
    if told.speaker != now.speaker {
        news.push(News::Speaker(now.speaker));
    }
    news
}

fn of_member<'a>(told: &MemberState, now: &'a MemberState) -> impl Iterator<Item = News<'a>> {
    let is_same = told.name == now.name && told.broadcast == now.broadcast && told.tracks == now.tracks;
    let spoke = told.speaking != now.speaking;
    let changed = (!is_same).then_some(News::Changed(now));
    let speaking = spoke.then_some(News::Speaking {
        id: now.id,
        speaking: now.speaking,
    });
    changed.into_iter().chain(speaking)
}

fn by_id(roster: &Roster) -> BTreeMap<u64, &MemberState> {
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
            id,
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
            speaker,
        }
    }

    #[test]
    fn nothing_is_told_while_nothing_has_happened() {
        let room = room(vec![member(1), member(2)], Some(2));
        assert_eq!(between(&room, &room.clone()), []);
    }

    #[test]
    fn who_came_and_who_left_is_told_once() {
        let (told, now) = (
            room(vec![member(1), member(2)], None),
            room(vec![member(2), member(3)], None),
        );
        assert_eq!(between(&told, &now), [News::Left(1), News::Joined(&member(3))]);
    }

    #[test]
    fn a_new_member_is_told_as_it_is_and_not_once_more() {
        let speaks = MemberState {
            speaking: true,
            name: Some("Ada".into()),
            ..member(4)
        };
        let now = room(vec![speaks.clone()], Some(4));
        assert_eq!(
            between(&room(vec![], None), &now),
            [News::Joined(&speaks), News::Speaker(Some(4))]
        );
    }

    #[test]
    fn each_change_of_a_member_has_its_event() {
        let told = room(vec![member(1)], None);
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
            assert_eq!(between(&told, &now), [News::Changed(changed)]);
        }
        let (before, after) = (room(vec![sending], None), room(vec![muted.clone()], None));
        assert_eq!(between(&before, &after), [News::Changed(&muted)]);
    }

    #[test]
    fn speech_is_told_apart_from_changes() {
        let speaks = MemberState {
            speaking: true,
            ..member(1)
        };
        let (quiet, loud) = (room(vec![member(1)], None), room(vec![speaks], Some(1)));
        let began = News::Speaking { id: 1, speaking: true };
        assert_eq!(between(&quiet, &loud), [began, News::Speaker(Some(1))]);
        let ended = News::Speaking { id: 1, speaking: false };
        assert_eq!(between(&loud, &quiet), [ended, News::Speaker(None)]);
    }

    #[test]
    fn what_came_and_went_unseen_is_not_told() {
        let told = room(vec![member(1)], None);
        let later = room(vec![member(1)], None);
        assert_eq!(between(&told, &later), [], "member 2 was there in between");
    }
}

//! The channels by which waiting requests learn of changes: each has the newest state of something, and nothing older.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use onecast_control::StreamName;
use onecast_control::conference::Roster;
use onecast_control::effect::Effect;
use onecast_control::playable::Playable;
use onecast_control::whep_events::{Audience, EventStreamId, EventsOf, Reconnect};
use onecast_rtc::SessionId;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::http::feeds::EventFeed;

/// Channels to the requests that follow an event stream or a room. A channel that is dropped ends the requests that follow it.
#[derive(Default)]
pub(super) struct Channels {
    audiences: HashMap<StreamName, Arc<Latest<Audience>>>,
    events: HashMap<EventStreamId, Follow>,
    rosters: HashMap<StreamName, Arc<Latest<Arc<Roster>>>>,
    members: HashMap<SessionId, Member>,
    /// Counts effects.
    number: u64,
}

/// An event stream.
struct Follow {
    reconnect: Arc<Latest<Option<Reconnect>>>,
    /// Ends the request that follows it.
    follower: Option<DropGuard>,
}

/// A member of a room.
struct Member {
    room: StreamName,
    /// Changes when there may be an offer for the member.
    wakes: Arc<watch::Sender<u64>>,
    /// Ends the request that follows the room for it.
    follower: Option<DropGuard>,
}

/// The newest value of something. Values are sent without the lock, so an older one may come late: it is dropped.
struct Latest<T> {
    sender: watch::Sender<T>,
    /// Number of the effect that the value is from. It changes only while the sender has locked the value.
    number: AtomicU64,
}

/// A change that is to be sent when the lock is released: it may wake hundreds of requests. Nothing wakes a request before.
pub(super) struct Update(Change);

enum Change {
    Audience(Arc<Latest<Audience>>, u64, Audience),
    Roster(Arc<Latest<Arc<Roster>>>, u64, Arc<Roster>),
    Reconnect(Arc<Latest<Option<Reconnect>>>, u64, Reconnect),
    Wake(Arc<watch::Sender<u64>>),
    /// Channels that are forgotten: dropping them ends the requests that follow them.
    Closed(Box<dyn Send>),
}

/// How a request follows a room.
pub(super) struct RoomChannels {
    pub(super) roster: watch::Receiver<Arc<Roster>>,
    pub(super) wakes: watch::Receiver<u64>,
    pub(super) ended: CancellationToken,
}

impl Channels {
    /// Applies an effect that concerns waiting requests. What it gives is to be sent without the lock.
    pub(super) fn apply(&mut self, effect: Effect) -> Option<Update> {
        self.number += 1;
        let number = self.number;
        let change = match effect {
            Effect::Audience(stream, audience) => {
                Change::Audience(self.audiences.get(&stream)?.clone(), number, audience)
            }
            Effect::Roster(roster) => Change::Roster(self.rosters.get(&roster.room)?.clone(), number, roster),
            Effect::Reconnect(id, reconnect) => {
                Change::Reconnect(self.events.get(&id)?.reconnect.clone(), number, reconnect)
            }
            Effect::Wake(id) => Change::Wake(self.members.get(&id)?.wakes.clone()),
            Effect::EventsClosed(id) => Change::Closed(Box::new(self.events.remove(&id)?)),
            Effect::AudienceClosed(stream) => Change::Closed(Box::new(self.audiences.remove(&stream)?)),
            Effect::MemberLeft(id) => Change::Closed(Box::new(self.members.remove(&id)?)),
            Effect::RoomClosed(room) => Change::Closed(Box::new(self.rosters.remove(&room)?)),
            Effect::EventsOpened {
                id,
                stream,
                audience,
                reconnect,
            } => {
                self.open_events(id, stream, audience, reconnect);
                return None;
            }
            Effect::MemberJoined { id, roster } => {
                self.join_member(id, roster);
                return None;
            }
            Effect::Command(_) | Effect::TimeoutChanged | Effect::Notice(_) => return None,
        };
        Some(Update(change))
    }

    fn open_events(&mut self, id: EventStreamId, stream: StreamName, audience: Audience, reconnect: Option<Reconnect>) {
        let latest = || Arc::new(Latest::new(audience));
        self.audiences.entry(stream).or_insert_with(latest);
        let follow = Follow {
            reconnect: Arc::new(Latest::new(reconnect)),
            follower: None,
        };
        self.events.insert(id, follow);
    }

    fn join_member(&mut self, id: SessionId, roster: Arc<Roster>) {
        let member = Member {
            room: roster.room.clone(),
            wakes: Arc::new(watch::Sender::new(0)),
            follower: None,
        };
        self.members.insert(id, member);
        let room = roster.room.clone();
        self.rosters
            .entry(room)
            .or_insert_with(|| Arc::new(Latest::new(roster)));
    }

    /// A request follows an event stream. The one before it ends with the update, if there is one: its client has reconnected.
    pub(super) fn follow_events(
        &mut self,
        id: EventStreamId,
        of: &EventsOf,
        playable: Playable,
    ) -> Option<(EventFeed, Option<Update>)> {
        let audience = self.audiences.get(&of.stream)?.sender.subscribe();
        let follow = self.events.get_mut(&id)?;
        let (ended, before) = succeed(&mut follow.follower);
        let feed = EventFeed {
            wanted: of.wanted,
            playable,
            video_line: None,
            audience,
            reconnect: follow.reconnect.sender.subscribe(),
            ended,
        };
        Some((feed, before))
    }

    /// A request follows the room of a member. The one before it ends with the update, if there is one.
    pub(super) fn follow_room(&mut self, id: SessionId) -> Option<(RoomChannels, Option<Update>)> {
        let member = self.members.get_mut(&id)?;
        let roster = self.rosters.get(&member.room)?.sender.subscribe();
        let (ended, before) = succeed(&mut member.follower);
        let channels = RoomChannels {
            roster,
            wakes: member.wakes.subscribe(),
            ended,
        };
        Some((channels, before))
    }

    /// Changes when there may be an offer for the member.
    pub(super) fn wakes(&self, id: SessionId) -> Option<watch::Receiver<u64>> {
        Some(self.members.get(&id)?.wakes.subscribe())
    }
}

/// Another request follows: gives what ends it, and the end of the one before.
fn succeed(follower: &mut Option<DropGuard>) -> (CancellationToken, Option<Update>) {
    let ended = CancellationToken::new();
    let before = follower.replace(ended.clone().drop_guard());
    (ended, before.map(|guard| Update(Change::Closed(Box::new(guard)))))
}

impl<T> Latest<T> {
    fn new(value: T) -> Latest<T> {
        Latest {
            sender: watch::Sender::new(value),
            number: AtomicU64::new(0),
        }
    }

    fn send(&self, number: u64, value: T) {
        self.sender.send_if_modified(|known| {
            let is_newer = self.number.load(Ordering::Relaxed) < number;
            if is_newer {
                self.number.store(number, Ordering::Relaxed);
                *known = value;
            }
            is_newer
        });
    }
}

impl Update {
    /// Sends it, and wakes the requests that wait for it.
    pub(super) fn send(self) {
        match self.0 {
            Change::Audience(latest, number, audience) => latest.send(number, audience),
            Change::Roster(latest, number, roster) => latest.send(number, roster),
            Change::Reconnect(latest, number, reconnect) => latest.send(number, Some(reconnect)),
            Change::Wake(wakes) => wakes.send_modify(|wakes| *wakes += 1),
            Change::Closed(channels) => drop(channels),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use onecast_control::whep_events::EventSet;

    fn of(number: u8) -> (EventStreamId, EventsOf) {
        let of = EventsOf {
            session: SessionId::from_random([number; 16]),
            stream: "live".parse().unwrap(),
            wanted: EventSet::of_names(["viewercount"]).unwrap(),
        };
        (EventStreamId::from_random([number; 16]), of)
    }

    fn open(channels: &mut Channels, number: u8) {
        let (id, of) = of(number);
        let update = channels.apply(Effect::EventsOpened {
            id,
            stream: of.stream,
            audience: Audience::default(),
            reconnect: None,
        });
        assert!(update.is_none());
    }

    fn follow(channels: &mut Channels, number: u8) -> Option<(EventFeed, Option<Update>)> {
        let (id, of) = of(number);
        channels.follow_events(id, &of, Playable::default())
    }

    fn audience(viewers: usize) -> Effect {
        let audience = Audience {
            live: true,
            viewers,
            ..Audience::default()
        };
        Effect::Audience("live".parse().unwrap(), audience)
    }

    fn reconnect(seconds: u64) -> Effect {
        let reconnect = Reconnect {
            url: None,
            after: Some(Duration::from_secs(seconds)),
        };
        Effect::Reconnect(of(1).0, reconnect)
    }

    fn roster() -> Arc<Roster> {
        Arc::new(Roster {
            room: "room".parse().unwrap(),
            members: Vec::new(),
            speaker: None,
        })
    }

    #[test]
    fn a_follower_that_comes_again_takes_the_place_of_its_old_connection() {
        let mut channels = Channels::default();
        open(&mut channels, 1);
        let (first, before) = follow(&mut channels, 1).unwrap();
        assert!(before.is_none());
        let (second, before) = follow(&mut channels, 1).unwrap();
        assert!(!first.ended.is_cancelled(), "the lock is still held");
        before.unwrap().send();
        assert!(first.ended.is_cancelled() && !second.ended.is_cancelled());
        let update = channels.apply(Effect::EventsClosed(of(1).0)).unwrap();
        assert!(!second.ended.is_cancelled() && follow(&mut channels, 1).is_none());
        update.send();
        assert!(second.ended.is_cancelled());
    }

    #[test]
    fn a_late_older_value_does_not_replace_a_newer_one() {
        let mut channels = Channels::default();
        open(&mut channels, 1);
        let (mut feed, _) = follow(&mut channels, 1).unwrap();
        let older = channels.apply(audience(1)).unwrap();
        let newer = channels.apply(audience(2)).unwrap();
        newer.send();
        assert!(feed.audience.has_changed().unwrap());
        assert_eq!(feed.audience.borrow_and_update().viewers, 2);
        older.send();
        assert!(!feed.audience.has_changed().unwrap());
        let older = channels.apply(reconnect(1)).unwrap();
        let newer = channels.apply(reconnect(2)).unwrap();
        assert!(!feed.reconnect.has_changed().unwrap(), "the lock is still held");
        newer.send();
        let after = |feed: &mut EventFeed| feed.reconnect.borrow_and_update().as_ref().unwrap().after;
        assert_eq!(after(&mut feed), Some(Duration::from_secs(2)));
        older.send();
        assert!(!feed.reconnect.has_changed().unwrap());
    }

    #[test]
    fn changes_of_streams_without_followers_go_nowhere() {
        let mut channels = Channels::default();
        assert!(channels.apply(audience(1)).is_none());
        open(&mut channels, 1);
        assert!(channels.apply(audience(1)).is_some());
        channels.apply(Effect::AudienceClosed("live".parse().unwrap()));
        assert!(channels.apply(audience(2)).is_none());
    }

    #[test]
    fn a_member_that_leaves_wakes_its_requests_when_the_lock_is_released() {
        let mut channels = Channels::default();
        let id = SessionId::from_random([1; 16]);
        let joined = Effect::MemberJoined { id, roster: roster() };
        assert!(channels.apply(joined).is_none());
        let (first, _) = channels.follow_room(id).unwrap();
        let (second, before) = channels.follow_room(id).unwrap();
        assert!(!first.ended.is_cancelled());
        before.unwrap().send();
        assert!(first.ended.is_cancelled());
        let left = channels.apply(Effect::MemberLeft(id)).unwrap();
        let closed = channels.apply(Effect::RoomClosed(roster().room.clone())).unwrap();
        let is_open = |room: &RoomChannels| room.wakes.has_changed().is_ok() && room.roster.has_changed().is_ok();
        assert!(!second.ended.is_cancelled() && is_open(&second));
        assert!(channels.follow_room(id).is_none() && channels.wakes(id).is_none());
        left.send();
        closed.send();
        assert!(second.ended.is_cancelled() && !is_open(&second));
    }
}

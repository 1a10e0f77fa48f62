//! Event streams: who follows which stream, each with the newest state of it and nothing older.

use std::collections::HashMap;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::http::service::EventFeed;
use onecast_control::StreamName;
use onecast_control::audience::{Audience, EventSet, EventStreamId, Farewell, Reconnect};
use onecast_control::playable::Playable;

/// The event streams of all sessions. What is dropped here ends the requests that follow it.
pub(super) struct EventStreams {
    open: HashMap<EventStreamId, EventStream>,
    sessions: HashMap<SessionId, Vec<EventStreamId>>,
    /// Of the streams that have event streams.
    audiences: HashMap<StreamName, Followed>,
    farewell: Option<Farewell>,
}

struct EventStream {
    session: SessionId,
    stream: StreamName,
    wanted: EventSet,
    /// Each is told its own time.
    reconnect: watch::Sender<Option<Reconnect>>,
    /// Ends the request that follows it.
    follower: Option<DropGuard>,
}

struct Followed {
    audience: watch::Sender<Audience>,
    /// Event streams of it, at least 1.
    open: usize,
}

/// One for the page, and one more while a broken connection is not known to be so. Sessions are bounded, and so event streams are.
const EVENT_STREAMS_PER_SESSION: usize = 2;

impl EventStreams {
    pub(super) fn new() -> EventStreams {
        EventStreams {
            open: HashMap::new(),
            sessions: HashMap::new(),
            audiences: HashMap::new(),
            farewell: None,
        }
    }

    fn open(
        &mut self,
        session: SessionId,
        stream: StreamName,
        audience: Audience,
        wanted: EventSet,
    ) -> Result<EventStreamId, Refusal> {
        let of_session = self.sessions.entry(session).or_default();
        if of_session.len() >= EVENT_STREAMS_PER_SESSION {
            return Err(Refusal::TooManyEventStreams {
                max: EVENT_STREAMS_PER_SESSION,
            });
        }
        let id = EventStreamId::from_random(random());
        of_session.push(id);
        let followed = self.audiences.entry(stream.clone()).or_insert_with(|| Followed {
            audience: watch::Sender::new(audience),
            open: 0,
        });
        followed.open += 1;
        let event_stream = EventStream {
            session,
            reconnect: watch::Sender::new(self.farewell.as_ref().map(|farewell| of_stream(farewell, &stream))),
            stream,
            wanted,
            follower: None,
        };
        self.open.insert(id, event_stream);
        Ok(id)
    }

    /// Whoever followed it before is sent away: its client has come again, and its old connection is of no use.
    fn follow(&mut self, id: EventStreamId, playable: impl FnOnce(SessionId) -> Playable) -> Option<EventFeed> {
        let event_stream = self.open.get_mut(&id)?;
        let followed = self.audiences.get(&event_stream.stream)?;
        let ended = CancellationToken::new();
        event_stream.follower = Some(ended.clone().drop_guard());
        Some(EventFeed {
            wanted: event_stream.wanted,
            playable: playable(event_stream.session),
            audience: followed.audience.subscribe(),
            reconnect: event_stream.reconnect.subscribe(),
            ended,
        })
    }

    fn close(&mut self, id: EventStreamId) -> bool {
        let Some(event_stream) = self.open.remove(&id) else {
            return false;
        };
        if let Some(of_session) = self.sessions.get_mut(&event_stream.session) {
            of_session.retain(|known| *known != id);
            if of_session.is_empty() {
                self.sessions.remove(&event_stream.session);
            }
        }
        if let Some(followed) = self.audiences.get_mut(&event_stream.stream) {
            followed.open -= 1;
            if followed.open == 0 {
                self.audiences.remove(&event_stream.stream);
            }
        }
        true
    }

    fn end_session(&mut self, session: SessionId) {
        for id in self.sessions.get(&session).cloned().unwrap_or_default() {
            self.close(id);
        }
    }

    fn say_farewell(&mut self, farewell: Farewell) {
        self.open.values().for_each(|event_stream| {
            let reconnect = of_stream(&farewell, &event_stream.stream);
            event_stream.reconnect.send_replace(Some(reconnect));
        });
        self.farewell = Some(farewell);
    }

    fn tell(&self, stream: &StreamName, audience: Audience) {
        if let Some(followed) = self.audiences.get(stream) {
            followed.audience.send_if_modified(|known| {
                let changed = *known != audience;
                *known = audience;
                changed
            });
        }
    }
}

fn of_stream(farewell: &Farewell, stream: &StreamName) -> Reconnect {
    farewell.reconnect(stream, u32::from_be_bytes(random()))
}

impl App {
    /// Asks every viewer that listens, now and from now on, to connect anew.
    pub fn ask_to_reconnect(&self, farewell: Farewell) {
        lock(&self.inner.events).say_farewell(farewell);
    }

    pub(super) fn open_event_stream(&self, session: SessionId, wanted: EventSet) -> Result<EventStreamId, Refusal> {
        // In this order everywhere: an event stream of a session that ends meanwhile is either seen by its end, or not opened.
        let mut events = lock(&self.inner.events);
        let registry = lock(&self.inner.registry);
        let watched = registry
            .stream_of(session)
            .filter(|_| registry.purpose(session) == Some(Purpose::Watch));
        let stream = watched.ok_or(Refusal::UnknownSession)?;
        let audience = registry.audience(clock::now(), &stream);
        events.open(session, stream, audience, wanted)
    }

    pub(super) fn follow_event_stream(&self, id: EventStreamId) -> Result<EventFeed, Refusal> {
        let registry = &self.inner.registry;
        let feed = lock(&self.inner.events).follow(id, |session| lock(registry).playable(session));
        feed.ok_or(Refusal::UnknownEventStream)
    }

    pub(super) fn close_event_stream(&self, id: EventStreamId) -> Result<(), Refusal> {
        match lock(&self.inner.events).close(id) {
            true => Ok(()),
            false => Err(Refusal::UnknownEventStream),
        }
    }
}

impl Inner {
    /// Somebody has come to or left the stream, or what is sent there is different.
    pub(super) fn tell_followers(&self, stream: &StreamName) {
        // Read and told under one lock, so that what is told last is the newest.
        let events = lock(&self.events);
        let audience = lock(&self.registry).audience(clock::now(), stream);
        events.tell(stream, audience);
    }

    /// The session is no more, and so are its event streams.
    pub(super) fn end_event_streams(&self, session: SessionId) {
        lock(&self.events).end_session(session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u8) -> SessionId {
        SessionId::from_random([number; 16])
    }

    fn open(streams: &mut EventStreams, number: u8) -> Result<EventStreamId, Refusal> {
        let wanted = EventSet::of_names(["viewercount"]).unwrap();
        streams.open(session(number), "live".parse().unwrap(), Audience::default(), wanted)
    }

    fn follow(streams: &mut EventStreams, id: EventStreamId) -> Option<EventFeed> {
        streams.follow(id, |_| Playable::default())
    }

    #[test]
    fn nothing_is_left_of_sessions_that_have_ended() {
        let mut streams = EventStreams::new();
        for number in 0..100 {
            let id = open(&mut streams, number).unwrap();
            open(&mut streams, number).unwrap();
            let refused = open(&mut streams, number).unwrap_err();
            assert_eq!(refused, Refusal::TooManyEventStreams { max: 2 });
            let ended = follow(&mut streams, id).unwrap().ended;
            if number % 3 == 0 {
                assert!(streams.close(id) && !streams.close(id));
            } else {
                assert!(!ended.is_cancelled());
                streams.end_session(session(number));
            }
            assert!(ended.is_cancelled());
            streams.end_session(session(number));
            streams.end_session(session(number));
        }
        assert!(streams.open.is_empty() && streams.sessions.is_empty() && streams.audiences.is_empty());
    }

    #[test]
    fn a_farewell_reaches_who_listens_already_and_who_listens_later() {
        let mut streams = EventStreams::new();
        let early = open(&mut streams, 1).unwrap();
        let mut feed = follow(&mut streams, early).unwrap();
        assert_eq!(*feed.reconnect.borrow_and_update(), None);
        streams.say_farewell(Farewell {
            to: Some("https://b.example.org".parse().unwrap()),
        });
        assert!(feed.reconnect.has_changed().unwrap());
        let late = open(&mut streams, 2).unwrap();
        for id in [early, late] {
            let told = follow(&mut streams, id).unwrap().reconnect.borrow().clone().unwrap();
            assert_eq!(told.url.as_deref(), Some("https://b.example.org/whep/live"));
            assert!(told.after.is_some());
        }
    }

    #[test]
    fn a_follower_that_comes_again_takes_the_place_of_its_old_connection() {
        let mut streams = EventStreams::new();
        let id = open(&mut streams, 1).unwrap();
        let first = follow(&mut streams, id).unwrap();
        let second = follow(&mut streams, id).unwrap();
        assert!(first.ended.is_cancelled() && !second.ended.is_cancelled());
    }

    #[test]
    fn followers_see_the_newest_state_and_are_woken_by_changes_only() {
        let mut streams = EventStreams::new();
        let id = open(&mut streams, 1).unwrap();
        let mut feed = follow(&mut streams, id).unwrap();
        let name = "live".parse().unwrap();
        streams.tell(&name, Audience::default());
        assert!(!feed.audience.has_changed().unwrap());
        for viewers in 1..=9 {
            let live = true;
            streams.tell(
                &name,
                Audience {
                    live,
                    viewers,
                    ..Audience::default()
                },
            );
        }
        assert!(feed.audience.has_changed().unwrap());
        assert_eq!(feed.audience.borrow_and_update().viewers, 9);
        streams.tell(&"other".parse().unwrap(), Audience::default());
        assert!(!feed.audience.has_changed().unwrap());
    }
}

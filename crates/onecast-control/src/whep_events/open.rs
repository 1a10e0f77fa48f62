//! Which event streams are open: each belongs to a viewer's session and tells of one stream.

use std::collections::HashMap;

use onecast_rtc::SessionId;

use super::{Audience, EventSet, EventStreamId, ReconnectNotice};
use crate::StreamName;
use crate::effect::{Effect, Effects};
use crate::refusal::Refusal;

/// The event streams of all sessions.
#[derive(Debug, Default)]
pub(crate) struct WhepEvents {
    open: HashMap<EventStreamId, OpenEvents>,
    sessions: HashMap<SessionId, Vec<EventStreamId>>,
    /// The streams that have event streams.
    followed: HashMap<StreamName, Followed>,
    notice: Option<ReconnectNotice>,
}

/// One event stream.
#[derive(Debug)]
struct OpenEvents {
    session: SessionId,
    stream: StreamName,
    wanted: EventSet,
    /// Decides when its viewer reconnects.
    jitter: u32,
}

/// A stream that has event streams.
#[derive(Debug)]
struct Followed {
    announced: Audience,
    /// Event streams of it, at least 1.
    open: usize,
}

/// The random numbers of a new event stream.
#[derive(Debug, Clone, Copy)]
pub struct NewEvents {
    /// Its id.
    pub id: EventStreamId,
    /// Any number: viewers must not all reconnect at once.
    pub jitter: u32,
}

/// What an event stream is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsOf {
    /// The viewer's session.
    pub session: SessionId,
    /// The stream that it watches.
    pub stream: StreamName,
    /// Which events are wanted.
    pub wanted: EventSet,
}

/// One for the page, and one more while a broken connection is not known to be broken. Sessions are bounded, and so event streams are.
const EVENT_STREAMS_PER_SESSION: usize = 2;

impl WhepEvents {
    /// Opens an event stream of a session. `audience` is what the stream is like now.
    ///
    /// # Errors
    /// When the session has as many as it may.
    pub(crate) fn open(
        &mut self,
        new: NewEvents,
        of: EventsOf,
        audience: Audience,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let EventsOf {
            session,
            stream,
            wanted,
        } = of;
        let of_session = self.sessions.entry(session).or_default();
        if of_session.len() >= EVENT_STREAMS_PER_SESSION {
            return Err(Refusal::TooManyEventStreams {
                max: EVENT_STREAMS_PER_SESSION,
            });
        }
        of_session.push(new.id);
        let followed = self.followed.entry(stream.clone()).or_insert(Followed {
            announced: audience,
            open: 0,
        });
        followed.open += 1;
        let notice = self.notice.as_ref();
        effects.push_back(Effect::EventsOpened {
            id: new.id,
            stream: stream.clone(),
            audience: followed.announced,
            reconnect: notice.map(|notice| notice.reconnect(&stream, new.jitter)),
        });
        let open = OpenEvents {
            session,
            stream,
            wanted,
            jitter: new.jitter,
        };
        self.open.insert(new.id, open);
        Ok(())
    }

    /// What an event stream is about; `None` when it is not open.
    pub(crate) fn get(&self, id: EventStreamId) -> Option<EventsOf> {
        let open = self.open.get(&id)?;
        Some(EventsOf {
            session: open.session,
            stream: open.stream.clone(),
            wanted: open.wanted,
        })
    }

    /// Closes an event stream; false when it is not open.
    pub(crate) fn close(&mut self, id: EventStreamId, effects: &mut Effects) -> bool {
        let Some(open) = self.open.remove(&id) else {
            return false;
        };
        effects.push_back(Effect::EventsClosed(id));
        if let Some(of_session) = self.sessions.get_mut(&open.session) {
            of_session.retain(|known| *known != id);
            if of_session.is_empty() {
                self.sessions.remove(&open.session);
            }
        }
        if let Some(followed) = self.followed.get_mut(&open.stream) {
            followed.open -= 1;
            if followed.open == 0 {
                self.followed.remove(&open.stream);
                effects.push_back(Effect::AudienceClosed(open.stream));
            }
        }
        true
    }

    /// Closes the event streams of a session that has ended.
    pub(crate) fn end_session(&mut self, session: SessionId, effects: &mut Effects) {
        for id in self.sessions.get(&session).cloned().unwrap_or_default() {
            self.close(id, effects);
        }
    }

    /// Asks every viewer that has an event stream, now or later, to reconnect.
    pub(crate) fn ask_to_reconnect(&mut self, notice: ReconnectNotice, effects: &mut Effects) {
        let reconnect = |(id, open): (&EventStreamId, &OpenEvents)| {
            Effect::Reconnect(*id, notice.reconnect(&open.stream, open.jitter))
        };
        #[expect(
            clippy::iter_over_hash_type,
            reason = "each event stream gets its own effect; their order does not matter"
        )]
        for open in &self.open {
            effects.push_back(reconnect(open));
        }
        self.notice = Some(notice);
    }

    /// Whether the stream has event streams.
    pub(crate) fn is_followed(&self, stream: &StreamName) -> bool {
        self.followed.contains_key(stream)
    }

    /// The streams that have event streams, by name.
    pub(crate) fn followed(&self) -> Vec<StreamName> {
        let mut followed: Vec<StreamName> = self.followed.keys().cloned().collect();
        followed.sort_unstable();
        followed
    }

    /// What the stream is like now, which counts if it is different.
    pub(crate) fn announce(&mut self, stream: &StreamName, mut audience: Audience, effects: &mut Effects) {
        if let Some(followed) = self.followed.get(stream)
            && !audience.layers.is_news_after(&followed.announced.layers)
        {
            audience.layers = followed.announced.layers;
        }
        if let Some(followed) = self.followed.get_mut(stream)
            && followed.announced != audience
        {
            followed.announced = audience;
            effects.push_back(Effect::Audience(stream.clone(), audience));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u8) -> SessionId {
        SessionId::from_random([number; 16])
    }

    fn name(text: &str) -> StreamName {
        text.parse().unwrap()
    }

    /// Event streams and what they have led to.
    #[derive(Default)]
    struct Bench {
        events: WhepEvents,
        effects: Effects,
        opened: u128,
    }

    impl Bench {
        fn open(&mut self, number: u8) -> Result<EventStreamId, Refusal> {
            self.opened += 1;
            let id = EventStreamId::from_random(self.opened.to_be_bytes());
            let of = EventsOf {
                session: session(number),
                stream: name("live"),
                wanted: EventSet::of_names(["viewercount"]).unwrap(),
            };
            let new = NewEvents { id, jitter: 7 };
            let opened = self.events.open(new, of, Audience::default(), &mut self.effects);
            opened.map(|()| id)
        }

        fn effects(&mut self) -> Vec<Effect> {
            self.effects.drain(..).collect()
        }
    }

    #[test]
    fn nothing_remains_of_sessions_that_have_ended() {
        let mut bench = Bench::default();
        for number in 0..100 {
            let id = bench.open(number).unwrap();
            bench.open(number).unwrap();
            let refused = bench.open(number).unwrap_err();
            assert_eq!(refused, Refusal::TooManyEventStreams { max: 2 });
            bench.effects();
            if number % 3 == 0 {
                assert!(bench.events.close(id, &mut bench.effects));
                assert!(!bench.events.close(id, &mut bench.effects));
            }
            bench.events.end_session(session(number), &mut bench.effects);
            bench.events.end_session(session(number), &mut bench.effects);
            let closed = |effect: &Effect| matches!(effect, Effect::EventsClosed(_));
            assert_eq!(bench.effects().iter().filter(|effect| closed(effect)).count(), 2);
        }
        let events = &bench.events;
        assert!(events.open.is_empty() && events.sessions.is_empty() && events.followed.is_empty());
    }

    #[test]
    fn a_reconnect_notice_reaches_present_and_later_event_streams() {
        let mut bench = Bench::default();
        let early = bench.open(1).unwrap();
        assert!(matches!(
            bench.effects()[..],
            [Effect::EventsOpened { reconnect: None, .. }]
        ));
        let notice = ReconnectNotice {
            to: Some("https://b.example.org".parse().unwrap()),
        };
        bench.events.ask_to_reconnect(notice, &mut bench.effects);
        let effects = bench.effects();
        let [Effect::Reconnect(id, reconnect)] = &effects[..] else {
            panic!("{effects:?}");
        };
        assert_eq!(*id, early);
        assert_eq!(reconnect.url.as_deref(), Some("https://b.example.org/whep/live"));
        assert!(reconnect.after.is_some());
        bench.open(2).unwrap();
        assert!(matches!(
            bench.effects()[..],
            [Effect::EventsOpened { reconnect: Some(_), .. }]
        ));
    }

    #[test]
    fn only_changes_of_followed_streams_are_announced() {
        let mut bench = Bench::default();
        bench.open(1).unwrap();
        bench.effects();
        let of = |viewers| Audience {
            live: true,
            viewers,
            ..Audience::default()
        };
        let (live, other) = (name("live"), name("other"));
        assert!(bench.events.is_followed(&live) && !bench.events.is_followed(&other));
        for (stream, viewers) in [(&live, 1), (&live, 1), (&other, 2), (&live, 2)] {
            bench.events.announce(stream, of(viewers), &mut bench.effects);
        }
        let viewers: Vec<usize> = bench
            .effects()
            .iter()
            .map(|effect| match effect {
                Effect::Audience(_, audience) => audience.viewers,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(viewers, [1, 2]);
    }
}

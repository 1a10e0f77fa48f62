//! Event streams of WHEP: whether a stream is live, whether it can be played, how many watch, and where to connect instead. A follower
//! gets the newest state, never a queue of old ones.

mod open;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

pub(crate) use open::WhepEvents;
pub use open::{EventsOf, NewEvents};

use super::drain::Destination;
use super::layers::StreamLayers;
use super::playable::{Missing, Playable};
use super::{SessionId, StreamName};
use onecast_rtc::rtp::Codec;
use onecast_rtc::session_id::SessionIdError;

/// A stream as its followers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Audience {
    /// Media arrives.
    pub live: bool,
    /// A publisher is connected and has sent no media for some time. Never while the stream is live.
    pub silent: bool,
    /// Connected viewers.
    pub viewers: usize,
    /// Its codecs: audio, video.
    pub codecs: [Option<Codec>; 2],
    /// The layers that a viewer can choose from; none without simulcast.
    pub layers: StreamLayers,
}

/// Asks a viewer to reconnect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconnect {
    /// Where to; `None` for the same place.
    pub url: Option<Box<str>>,
    /// When; `None` for at once.
    pub after: Option<Duration>,
}

/// Asks all viewers to reconnect: the server is about to stop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReconnectNotice {
    /// The server that takes its place; `None` for this one, after its restart.
    pub to: Option<Destination>,
}

/// Kinds of WHEP events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventName {
    /// The stream is live.
    Active,
    /// The stream is not live.
    Inactive,
    /// Which codecs of the stream the follower cannot play.
    CodecMissing,
    /// How many watch.
    ViewerCount,
    /// The layers that a viewer can choose from.
    Layers,
    /// Viewers should reconnect.
    Reconnect,
}

/// Which events a follower wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventSet(u8);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// The stream is live.
    Active,
    /// The stream is not live.
    Inactive {
        /// A publisher is connected and sends no media.
        silent: bool,
    },
    /// What the follower cannot play, which may be nothing any more, and what it can.
    CodecMissing(Missing, Playable),
    /// How many watch.
    ViewerCount(usize),
    /// The layers that a viewer can choose from.
    Layers(StreamLayers),
    /// Viewers should reconnect.
    Reconnect(Reconnect),
}

/// Names an event stream. It is also the right to follow it, so it is never logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventStreamId(SessionId);

/// The events of one follower: decides what it gets, and when.
#[derive(Debug)]
pub struct EventStream {
    wanted: EventSet,
    playable: Playable,
    audience: Audience,
    reconnect: Option<Reconnect>,
    told_reconnect: Option<Reconnect>,
    /// Live and silent, as told.
    told_state: Option<(bool, bool)>,
    told_missing: Missing,
    counted: Option<(usize, Instant)>,
    told_layers: StreamLayers,
    told_layers_at: Option<Instant>,
}

impl ReconnectNotice {
    /// Earliest and latest time at which a viewer is to reconnect.
    pub const SPREAD: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

    /// The event for a viewer of the stream. `chance` is a random number that spreads the reconnects.
    pub fn reconnect(&self, stream: &StreamName, chance: u32) -> Reconnect {
        let [earliest, latest] = ReconnectNotice::SPREAD;
        let after = earliest + (latest - earliest).mul_f64(f64::from(chance) / f64::from(u32::MAX));
        Reconnect {
            url: self.to.as_ref().map(|to| to.of(&format!("/whep/{stream}")).into()),
            after: Some(Duration::from_millis(after.as_millis() as u64)),
        }
    }
}

impl EventName {
    /// All of them.
    pub const ALL: [EventName; 6] = [
        EventName::Active,
        EventName::Inactive,
        EventName::CodecMissing,
        EventName::ViewerCount,
        EventName::Layers,
        EventName::Reconnect,
    ];

    /// As in the `events` parameter of the link, and in the `event:` line of a message.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventName::Active => "active",
            EventName::Inactive => "inactive",
            EventName::CodecMissing => "codec-missing",
            EventName::ViewerCount => "viewercount",
            EventName::Layers => "layers",
            EventName::Reconnect => "reconnect",
        }
    }

    fn from_name(name: &str) -> Option<EventName> {
        EventName::ALL.into_iter().find(|event| event.as_str() == name)
    }
}

impl EventSet {
    /// The known ones of these names; `None` if there is none among them.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<EventSet> {
        let bits = names.into_iter().filter_map(EventName::from_name);
        let set = bits.fold(0, |set, event| set | bit(event));
        (set != 0).then_some(EventSet(set))
    }

    /// All events.
    pub fn all() -> EventSet {
        EventSet(EventName::ALL.into_iter().fold(0, |set, event| set | bit(event)))
    }

    /// The same without one.
    #[must_use]
    pub const fn without(self, event: EventName) -> EventSet {
        EventSet(self.0 & !bit(event))
    }

    /// Whether the event is one of them.
    pub const fn has(self, event: EventName) -> bool {
        self.0 & bit(event) != 0
    }
}

impl Announcement {
    /// Its kind.
    pub const fn name(&self) -> EventName {
        match self {
            Announcement::Active => EventName::Active,
            Announcement::Inactive { .. } => EventName::Inactive,
            Announcement::CodecMissing(..) => EventName::CodecMissing,
            Announcement::ViewerCount(_) => EventName::ViewerCount,
            Announcement::Layers(_) => EventName::Layers,
            Announcement::Reconnect(_) => EventName::Reconnect,
        }
    }
}

impl EventStreamId {
    /// An id from 16 bytes of a cryptographic random source.
    pub fn from_random(bytes: [u8; 16]) -> EventStreamId {
        EventStreamId(SessionId::from_random(bytes))
    }
}

impl EventStream {
    /// For a new follower that wants these events and can play that.
    pub fn new(wanted: EventSet, playable: Playable) -> EventStream {
        EventStream {
            wanted,
            playable,
            audience: Audience::default(),
            reconnect: None,
            told_reconnect: None,
            told_state: None,
            told_missing: Missing::default(),
            counted: None,
            told_layers: StreamLayers::default(),
            told_layers_at: None,
        }
    }

    /// The stream is like this now.
    pub fn handle_audience(&mut self, audience: Audience) {
        self.audience = audience;
    }

    /// Viewers should reconnect, or need not.
    pub fn handle_reconnect(&mut self, reconnect: Option<Reconnect>) {
        self.reconnect = reconnect;
    }

    /// The next event; `None` when the follower is up to date.
    pub fn poll_announcement(&mut self, now: Instant) -> Option<Announcement> {
        self.poll_live()
            .or_else(|| self.poll_missing())
            .or_else(|| self.poll_count(now))
            .or_else(|| self.poll_layers(now))
            .or_else(|| self.poll_reconnect())
    }

    /// When to poll again although nothing has happened: a count or the layers are held back until then.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let count = self.counted.filter(|(count, _)| *count != self.audience.viewers);
        let layers = self.told_layers_at.filter(|_| self.told_layers != self.audience.layers);
        let last = [count.map(|(_, at)| at), layers].into_iter().flatten().min()?;
        Some(last + CHANGES_EVERY)
    }

    fn poll_live(&mut self) -> Option<Announcement> {
        let Audience { live, silent, .. } = self.audience;
        if self.told_state.replace((live, silent)) == Some((live, silent)) {
            return None;
        }
        let announcement = if live {
            Announcement::Active
        } else {
            Announcement::Inactive { silent }
        };
        self.wanted.has(announcement.name()).then_some(announcement)
    }

    /// A follower that can play everything from the start gets no such event.
    fn poll_missing(&mut self) -> Option<Announcement> {
        let missing = self.playable.missing(self.audience.codecs);
        if std::mem::replace(&mut self.told_missing, missing) == missing {
            return None;
        }
        let announcement = Announcement::CodecMissing(missing, self.playable);
        self.wanted.has(announcement.name()).then_some(announcement)
    }

    fn poll_count(&mut self, now: Instant) -> Option<Announcement> {
        let viewers = self.audience.viewers;
        let due = match self.counted {
            None => true,
            Some((count, at)) => count != viewers && now >= at + CHANGES_EVERY,
        };
        if !due || !self.wanted.has(EventName::ViewerCount) {
            return None;
        }
        self.counted = Some((viewers, now));
        Some(Announcement::ViewerCount(viewers))
    }

    /// A follower of a stream that has no layers gets no such event.
    fn poll_layers(&mut self, now: Instant) -> Option<Announcement> {
        let layers = self.audience.layers;
        let is_early = self.told_layers_at.is_some_and(|at| now < at + CHANGES_EVERY);
        if layers == self.told_layers || is_early || !self.wanted.has(EventName::Layers) {
            return None;
        }
        (self.told_layers, self.told_layers_at) = (layers, Some(now));
        Some(Announcement::Layers(layers))
    }

    fn poll_reconnect(&mut self) -> Option<Announcement> {
        if self.told_reconnect == self.reconnect {
            return None;
        }
        self.told_reconnect = self.reconnect.clone();
        let reconnect = self.reconnect.clone()?;
        self.wanted
            .has(EventName::Reconnect)
            .then_some(Announcement::Reconnect(reconnect))
    }
}

impl FromStr for EventStreamId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<EventStreamId, SessionIdError> {
        text.parse().map(EventStreamId)
    }
}

impl fmt::Display for EventStreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for EventStreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventStreamId(..)")
    }
}

const fn bit(event: EventName) -> u8 {
    1 << event as u8
}

/// A number that changes many times a second is unreadable, and costs a message for each viewer.
const CHANGES_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use onecast_engine::media::{LayerFacts, LayerIndex};
    use onecast_rtc::rtp::Rid;

    use super::*;
    use crate::layers::LayerState;

    const LIVE: Audience = Audience {
        live: true,
        silent: false,
        viewers: 3,
        codecs: [None; 2],
        layers: StreamLayers::NONE,
    };

    fn follower(wanted: EventSet) -> EventStream {
        EventStream::new(wanted, Playable::default())
    }

    fn all() -> EventSet {
        EventSet::of_names(EventName::ALL.map(EventName::as_str)).unwrap()
    }

    fn told(events: &mut EventStream, now: Instant) -> Vec<Announcement> {
        std::iter::from_fn(|| events.poll_announcement(now)).collect()
    }

    #[test]
    fn a_new_follower_gets_the_present_state_once() {
        let now = onecast_udp::clock::now();
        let mut events = follower(all());
        events.handle_audience(LIVE);
        assert_eq!(
            told(&mut events, now),
            [Announcement::Active, Announcement::ViewerCount(3)]
        );
        events.handle_audience(LIVE);
        assert_eq!(told(&mut events, now), []);
        assert_eq!(events.poll_timeout(), None);

        let mut events = follower(all());
        assert_eq!(
            told(&mut events, now),
            [Announcement::Inactive { silent: false }, Announcement::ViewerCount(0)]
        );
    }

    #[test]
    fn intermediate_states_are_skipped() {
        let now = onecast_udp::clock::now();
        let mut events = follower(all());
        events.handle_audience(LIVE);
        told(&mut events, now);
        events.handle_audience(Audience { live: false, ..LIVE });
        events.handle_audience(LIVE);
        assert_eq!(told(&mut events, now), []);
        events.handle_audience(Audience { live: false, ..LIVE });
        assert_eq!(told(&mut events, now), [Announcement::Inactive { silent: false }]);
    }

    #[test]
    fn a_silent_publisher_is_distinguished_from_one_that_left() {
        let now = onecast_udp::clock::now();
        let mut events = follower(all());
        let silent = Audience {
            live: false,
            silent: true,
            ..LIVE
        };
        events.handle_audience(LIVE);
        told(&mut events, now);
        for (audience, announcement) in [
            (silent, Announcement::Inactive { silent: true }),
            (LIVE, Announcement::Active),
            (silent, Announcement::Inactive { silent: true }),
            (
                Audience {
                    silent: false,
                    ..silent
                },
                Announcement::Inactive { silent: false },
            ),
        ] {
            events.handle_audience(audience);
            assert_eq!(told(&mut events, now), [announcement]);
        }
    }

    #[test]
    fn a_follower_learns_which_codec_it_lacks_and_when_that_ends() {
        let now = onecast_udp::clock::now();
        let playable = Playable::of_codecs(&[Codec::Opus], &[Codec::Vp8]);
        let mut events = EventStream::new(all(), playable);
        let sent_in = |video| Audience {
            codecs: [Some(Codec::Opus), video],
            ..LIVE
        };
        events.handle_audience(sent_in(None));
        let first = told(&mut events, now);
        assert_eq!(first, [Announcement::Active, Announcement::ViewerCount(3)]);
        for (video, is_news) in [
            (Some(Codec::Vp8), false),
            (Some(Codec::H264), true),
            (Some(Codec::H264), false),
            (Some(Codec::Av1), true),
            (Some(Codec::Vp8), true),
            (None, false),
            (Some(Codec::H264), true),
            (None, true),
        ] {
            let audience = sent_in(video);
            events.handle_audience(audience);
            let missing = playable.missing(audience.codecs);
            let expected = is_news.then_some(Announcement::CodecMissing(missing, playable));
            assert_eq!(told(&mut events, now), Vec::from_iter(expected), "{video:?}");
        }
        let mut other = EventStream::new(EventSet::of_names(["inactive"]).unwrap(), playable);
        other.handle_audience(sent_in(Some(Codec::H264)));
        assert_eq!(told(&mut other, now), [], "the follower did not ask for it");
    }

    #[test]
    fn viewers_are_counted_once_a_second_at_most() {
        let start = onecast_udp::clock::now();
        let mut events = follower(EventSet::of_names(["viewercount"]).unwrap());
        let mut counts = Vec::new();
        for ms in 0..2_500 {
            let now = start + Duration::from_millis(ms);
            events.handle_audience(Audience {
                viewers: ms as usize,
                ..LIVE
            });
            counts.extend(told(&mut events, now));
        }
        assert_eq!(counts, [0, 1_000, 2_000].map(Announcement::ViewerCount));
        // The last count comes late, but it comes.
        let due = events.poll_timeout().unwrap();
        assert_eq!(due, start + Duration::from_secs(3));
        assert_eq!(told(&mut events, due), [Announcement::ViewerCount(2_499)]);
        assert_eq!(events.poll_timeout(), None);
    }

    #[test]
    fn layers_are_announced_once_a_second_at_most_and_only_where_there_are_some() {
        let start = onecast_udp::clock::now();
        let layers = |rate| {
            let layer = LayerState {
                index: LayerIndex::FIRST,
                rid: Rid::parse("f"),
                facts: LayerFacts {
                    rate,
                    is_live: true,
                    ..LayerFacts::default()
                },
            };
            StreamLayers::ranked([layer].into_iter())
        };
        let mut events = follower(EventSet::of_names(["layers"]).unwrap());
        events.handle_audience(LIVE);
        assert_eq!(told(&mut events, start), [], "the stream has no layers");
        let mut announced = Vec::new();
        for ms in 0..1_500 {
            let layers = layers(1_000 + ms);
            events.handle_audience(Audience { layers, ..LIVE });
            announced.extend(told(&mut events, start + Duration::from_millis(ms.into())));
        }
        assert_eq!(announced, [1_000, 2_000].map(|rate| Announcement::Layers(layers(rate))));
        events.handle_audience(LIVE);
        let due = events.poll_timeout().unwrap();
        assert_eq!(due, start + Duration::from_secs(2));
        assert_eq!(told(&mut events, due), [Announcement::Layers(StreamLayers::NONE)]);
        assert_eq!(events.poll_timeout(), None);
    }

    #[test]
    fn only_subscribed_events_are_announced() {
        let now = onecast_udp::clock::now();
        let mut events = follower(EventSet::of_names(["inactive", "reconnect"]).unwrap());
        events.handle_audience(LIVE);
        events.handle_reconnect(Some(Reconnect::default()));
        assert_eq!(told(&mut events, now), [Announcement::Reconnect(Reconnect::default())]);
        assert_eq!(events.poll_timeout(), None);
        events.handle_audience(Audience::default());
        assert_eq!(told(&mut events, now), [Announcement::Inactive { silent: false }]);
    }

    #[test]
    fn a_viewer_is_sent_to_its_stream_on_the_other_server_and_not_all_at_once() {
        let farewell = ReconnectNotice {
            to: Some("https://b.example.org/cast/".parse().unwrap()),
        };
        let stream: StreamName = "show-1".parse().unwrap();
        let told = [0, u32::MAX / 2, u32::MAX].map(|chance| farewell.reconnect(&stream, chance));
        assert_eq!(told[0].url.as_deref(), Some("https://b.example.org/cast/whep/show-1"));
        assert_eq!(told.map(|told| told.after.unwrap().as_millis()), [1_000, 5_499, 10_000]);
        assert_eq!(ReconnectNotice::default().reconnect(&stream, 7).url, None);
    }

    #[test]
    fn unknown_names_are_passed_over_if_one_is_known() {
        assert_eq!(EventSet::of_names(["captions", "Active"]), None);
        assert_eq!(EventSet::of_names([]), None);
        let set = EventSet::of_names(["captions", "active", "active"]).unwrap();
        assert!(set.has(EventName::Active) && !set.has(EventName::Inactive));
    }

    #[test]
    fn the_id_of_an_event_stream_is_not_in_debug_output() {
        let id = EventStreamId::from_random([7; 16]);
        assert!(!format!("{id:?}").contains("07"));
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

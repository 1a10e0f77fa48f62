//! The registry: which streams there are, who publishes and who watches them. It decides; it does not act.

mod bounds;
mod liveness;
mod missing;
mod sessions;
mod succession;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::{Admission, AdmissionLimits, AdmissionReading, Busy, Caller};
use super::conference::RoomLimits;
use super::ended::RecentlyEnded;
use super::ice_session::Restarted;
use super::playable::Missing;
use super::right::{Right, Terms, TokenDigest};
use super::{SessionId, StreamName, TrackMaker};
use bounds::Meter;
pub use bounds::{LargePackets, SessionLimits, Verdict};
pub use liveness::{Liveness, SilenceChange};
pub use missing::CodecMissing;
use onecast_engine::fanout::Session;
use onecast_engine::media::keyframes::KeyframeReading;
use onecast_engine::media::{Inbox, StreamTracks};
use onecast_rtc::IceCredentials;
use onecast_rtc::rtp::{Codec, Kind};
use sessions::Details;
pub use sessions::{SessionFilter, SessionState, Via};
use succession::Place;
pub use succession::Succession;

/// Bounds of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most streams at once.
    pub streams: usize,
    /// Most viewers at once, connecting ones included.
    pub viewers: usize,
    /// At the door.
    pub admission: AdmissionLimits,
    /// Of those who are in.
    pub sessions: SessionLimits,
    /// Of conference rooms.
    pub rooms: RoomLimits,
}

impl Limits {
    /// Most peers at once: viewers, and for each stream a publisher and one that is about to replace it.
    pub fn peers(&self) -> usize {
        self.viewers + 2 * self.streams
    }
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To send the stream.
    Publish,
    /// To be sent it.
    Watch,
    /// To take part in the conference room of that name.
    Confer,
}

/// Why a client may not join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Somebody else publishes the stream.
    #[error("somebody else publishes the stream")]
    Taken {
        /// Since when, as time since 1970; `None` while that publisher connects.
        since: Option<Duration>,
        /// How long that publisher has sent no media, if that is long.
        silent: Option<Duration>,
        /// When to ask again.
        retry_after: Duration,
    },
    /// No room for another stream.
    #[error("there are {max} streams already")]
    TooManyStreams {
        /// The limit.
        max: usize,
    },
    /// No room for another viewer.
    #[error("there are {max} viewers already")]
    Full {
        /// The limit.
        max: usize,
    },
    /// No room for another viewer of this stream.
    #[error("there are {max} viewers of this stream already")]
    StreamFull {
        /// The limit.
        max: usize,
    },
    /// No room for another member of this conference room.
    #[error("there are {max} in the room already")]
    RoomFull {
        /// The limit.
        max: usize,
    },
    /// Too many are joining at this moment.
    #[error("too many are joining")]
    Busy(Busy),
}

/// A place that was given to a client.
#[derive(Debug)]
pub struct Admitted {
    /// The stream's tracks.
    pub tracks: Arc<StreamTracks>,
    /// Which viewer of the stream this is, counted from 1; 0 for a publisher.
    pub number: u64,
    /// A publisher that made room: it never connected, or the right is the same. A silent one makes room when this one has connected.
    pub displaced: Option<Ended>,
    /// It had the same right.
    pub takes_over: bool,
}

/// A session that is no more.
#[derive(Debug)]
pub struct Ended {
    /// Its name.
    pub id: SessionId,
    /// Its public number.
    pub handle: u64,
    /// Where its offer came from.
    pub client: Option<SocketAddr>,
    /// Its stream.
    pub stream: StreamName,
    /// What it did.
    pub purpose: Purpose,
    /// Which viewer.
    pub number: u64,
    /// Its other half at the shards; `None` if its answer was never made.
    pub session: Option<Arc<Session>>,
    /// How long it was connected; `None` if it never was.
    pub connected: Option<Duration>,
    /// How many still watch the stream.
    pub viewers: usize,
}

/// What is known of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// Its name.
    pub name: StreamName,
    /// Since when a publisher is connected or a member of the room is on air, as time since 1970; `None` when neither is.
    pub since: Option<Duration>,
    /// What there is to see.
    pub liveness: Liveness,
    /// Connected viewers.
    pub viewers: usize,
    /// What the audio is sent in.
    pub audio: Option<Codec>,
    /// What the video is sent in.
    pub video: Option<Codec>,
    /// What is known of its keyframes.
    pub keyframes: KeyframeReading,
    /// Packets of its publisher that no Ethernet path carries whole.
    pub large: LargePackets,
}

/// Streams and sessions by name.
#[derive(Debug)]
pub struct Registry {
    limits: Limits,
    admission: Admission,
    tracks: TrackMaker,
    streams: BTreeMap<StreamName, Stream>,
    sessions: HashMap<SessionId, Entry>,
    viewers: usize,
    /// Every session by its public number.
    handles: BTreeMap<u64, SessionId>,
    /// The last of those numbers.
    handed: u64,
    ended: RecentlyEnded,
}

#[derive(Debug)]
struct Stream {
    tracks: Arc<StreamTracks>,
    publisher: Option<SessionId>,
    /// Replaces the publisher, which is silent, when it has connected.
    successor: Option<SessionId>,
    since: Option<Duration>,
    /// Its viewers see a member of the room that has its name.
    member_on_air: bool,
    /// Since when the publisher has sent nothing, if that was told.
    silent_since: Option<Instant>,
    /// What its viewers are sent.
    codecs: [Option<Codec>; 2],
    /// For which of that viewers were looked for that cannot play it.
    codecs_checked: [Option<Codec>; 2],
    /// What its publisher sends, which is something else while viewers see somebody else of a conference room.
    published: [Option<Codec>; 2],
    watching: usize,
    /// Viewers, connecting ones included.
    viewers: usize,
    /// Of the conference room, connecting ones included.
    members: usize,
    sessions: usize,
    numbered: u64,
    /// Since when nobody publishes; `None` while somebody does.
    alone_since: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    stream: StreamName,
    caller: Caller,
    number: u64,
    session: Option<Arc<Session>>,
    /// Its newest ICE session, if there was a restart.
    restarted: Option<Box<Restarted>>,
    /// Our credentials in an offer of our own that waits for its answer.
    offered: Option<IceCredentials>,
    admitted: Instant,
    /// Until when the client must have connected.
    deadline: Instant,
    /// When the handshake was finished; until then the session is half-open.
    connected: Option<Instant>,
    details: Details,
    /// Of a publisher.
    meter: Option<Box<Meter>>,
    /// What a viewer cannot play, as far as the log has it.
    missing: Missing,
    right: Right,
}

impl Registry {
    /// A registry without streams, whose tracks lead into `inboxes`.
    pub fn new(limits: Limits, inboxes: Arc<[Arc<Inbox>]>) -> Registry {
        Registry {
            limits,
            admission: Admission::new(limits.admission),
            tracks: TrackMaker::new(inboxes),
            streams: BTreeMap::new(),
            sessions: HashMap::new(),
            viewers: 0,
            handles: BTreeMap::new(),
            handed: 0,
            ended: RecentlyEnded::default(),
        }
    }

    /// Other bounds from now on. Who is inside stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.admission.set_limits(limits.admission);
    }

    /// A client comes with an offer that nobody has read yet: may it go on?
    ///
    /// # Errors
    /// When a bound at the door is reached.
    pub fn knock(&mut self, now: Instant, caller: Caller) -> Result<(), Busy> {
        self.admission.knock(now, caller)
    }

    /// Whether a client that has not sent its offer yet could go on. It takes no token.
    ///
    /// # Errors
    /// When a bound at the door is reached.
    pub fn check_door(&mut self, now: Instant, caller: Caller) -> Result<(), Busy> {
        self.admission.check(now, caller)
    }

    /// Gives a place to a client, which must connect within the patience of the terms; until then its session is half-open.
    /// Who comes with the right of the stream's publisher takes that one's place. One that comes to a silent publisher without a
    /// credential replaces it when it has connected: see [`succeed`](Self::succeed).
    ///
    /// `random` makes the SSRCs of a new stream.
    pub fn admit(
        &mut self,
        now: Instant,
        name: &StreamName,
        caller: Caller,
        id: SessionId,
        terms: impl Into<Terms>,
        random: impl FnMut() -> u32,
    ) -> Result<Admitted, Refused> {
        let purpose = caller.purpose;
        let Terms { patience, right } = terms.into();
        self.admission.room(now, caller).map_err(Refused::Busy)?;
        let takes_over = purpose == Purpose::Publish && self.is_of_same_right(name, &right);
        // Who takes the last one's place is not the first of another stream, even if there may be fewer by now.
        let is_new = !self.streams.contains_key(name);
        if is_new && self.streams.len() >= self.limits.streams {
            return Err(Refused::TooManyStreams {
                max: self.limits.streams,
            });
        }
        let place = match purpose {
            Purpose::Publish => self.make_room(now, name, takes_over)?,
            Purpose::Watch | Purpose::Confer if self.viewers >= self.limits.viewers => {
                return Err(Refused::Full {
                    max: self.limits.viewers,
                });
            }
            Purpose::Watch => self.room_in_stream(name).map(|()| Place::default())?,
            Purpose::Confer => self.room_in_room(name).map(|()| Place::default())?,
        };
        let stream = self.stream(now, name, random);
        stream.sessions += 1;
        stream.viewers += usize::from(purpose == Purpose::Watch);
        stream.members += usize::from(purpose == Purpose::Confer);
        let number = match purpose {
            Purpose::Publish => {
                let holder = if place.is_contested {
                    &mut stream.successor
                } else {
                    &mut stream.publisher
                };
                *holder = Some(id);
                0
            }
            Purpose::Watch | Purpose::Confer => {
                stream.numbered += 1;
                stream.numbered
            }
        };
        let tracks = stream.tracks.clone();
        self.viewers += usize::from(purpose != Purpose::Publish);
        let details = self.enter(id);
        let entry = Entry {
            stream: name.clone(),
            caller,
            number,
            session: None,
            restarted: None,
            offered: None,
            admitted: now,
            deadline: now + patience,
            connected: None,
            details,
            meter: None,
            missing: Missing::default(),
            right,
        };
        self.sessions.insert(id, entry);
        self.admission.opened(caller);
        Ok(Admitted {
            tracks,
            number,
            displaced: place.displaced,
            takes_over,
        })
    }

    fn room_in_stream(&self, name: &StreamName) -> Result<(), Refused> {
        let max = self.limits.sessions.viewers_per_stream.unwrap_or(usize::MAX);
        match self.streams.get(name) {
            Some(stream) if stream.viewers >= max => Err(Refused::StreamFull { max }),
            _ => Ok(()),
        }
    }

    fn room_in_room(&self, name: &StreamName) -> Result<(), Refused> {
        let max = self.limits.rooms.members;
        match self.streams.get(name) {
            Some(stream) if stream.members >= max => Err(Refused::RoomFull { max }),
            _ => Ok(()),
        }
    }

    fn stream(&mut self, now: Instant, name: &StreamName, random: impl FnMut() -> u32) -> &mut Stream {
        if !self.streams.contains_key(name) {
            let stream = Stream {
                tracks: self.tracks.open(now, name.as_str(), random),
                publisher: None,
                successor: None,
                since: None,
                member_on_air: false,
                silent_since: None,
                codecs: [None; 2],
                codecs_checked: [None; 2],
                published: [None; 2],
                watching: 0,
                viewers: 0,
                members: 0,
                sessions: 0,
                numbered: 0,
                alone_since: Some(now),
            };
            self.streams.insert(name.clone(), stream);
        }
        self.streams.get_mut(name).expect("inserted above if it was not there")
    }

    /// Whether somebody publishes the stream, or is about to.
    pub fn is_taken(&self, name: &StreamName) -> bool {
        self.streams.get(name).is_some_and(|stream| stream.publisher.is_some())
    }

    /// The admitted client's offer was answered. False when the session has ended meanwhile: then nobody may hear of it any more.
    #[must_use]
    pub fn answered(&mut self, id: SessionId, session: Arc<Session>) -> bool {
        let entry = self.sessions.get_mut(&id);
        entry.map(|entry| entry.session = Some(session)).is_some()
    }

    /// An answered session, and its newest ICE session if it was restarted.
    pub(super) fn ice_session(&mut self, id: SessionId) -> Option<(&Arc<Session>, &mut Option<Box<Restarted>>)> {
        let entry = self.sessions.get_mut(&id)?;
        Some((entry.session.as_ref()?, &mut entry.restarted))
    }

    /// What the stream is sent in at this moment: audio, video. `None` for what nobody sends.
    pub fn codecs(&self, name: &StreamName) -> [Option<Codec>; 2] {
        self.streams.get(name).map_or([None; 2], |stream| stream.codecs)
    }

    /// The client's handshake is complete. `None` if the session has ended meanwhile.
    pub fn connected(&mut self, now: Instant, unix: Duration, id: SessionId) -> Option<Connected> {
        let entry = self.sessions.get_mut(&id)?;
        let stream = self.streams.get_mut(&entry.stream)?;
        let mut missing = Missing::default();
        if entry.connected.is_none() {
            entry.connected = Some(now);
            self.admission.settled(entry.caller);
            match entry.caller.purpose {
                Purpose::Publish => {
                    stream.since = Some(unix);
                    stream.alone_since = None;
                }
                Purpose::Watch => {
                    stream.watching += 1;
                    missing = entry.newly_missing(stream.codecs);
                }
                Purpose::Confer => {}
            }
        }
        Some(Connected {
            stream: entry.stream.clone(),
            purpose: entry.caller.purpose,
            number: entry.number,
            viewers: stream.watching,
            missing,
        })
    }

    /// A publisher's track has started, or changed its codec.
    pub fn media(&mut self, id: SessionId, kind: Kind, codec: Codec) -> Option<StreamName> {
        let entry = self.sessions.get(&id)?;
        let stream = self
            .streams
            .get_mut(&entry.stream)
            .filter(|stream| stream.publisher == Some(id))?;
        stream.codecs[kind as usize] = Some(codec);
        stream.published[kind as usize] = Some(codec);
        Some(entry.stream.clone())
    }

    /// Which viewer of which stream this is.
    pub fn viewer(&self, id: SessionId) -> Option<(StreamName, u64)> {
        self.sessions.get(&id).map(|entry| (entry.stream.clone(), entry.number))
    }

    /// What a session does, if there is one.
    pub fn purpose(&self, id: SessionId) -> Option<Purpose> {
        self.sessions.get(&id).map(|entry| entry.caller.purpose)
    }

    /// The stream of a session, and the token that is wanted for everything that is done with it. `None` if it is unknown.
    pub fn guard(&self, id: SessionId) -> Option<(StreamName, Option<TokenDigest>)> {
        let entry = self.sessions.get(&id)?;
        Some((entry.stream.clone(), entry.right.token))
    }

    /// Ends a session; the last of a stream takes the stream with it.
    pub fn remove(&mut self, now: Instant, id: SessionId) -> Option<Ended> {
        let entry = self.sessions.remove(&id)?;
        self.handles.remove(&entry.details.handle);
        if entry.connected.is_none() {
            self.admission.settled(entry.caller);
        }
        let stream = self.streams.get_mut(&entry.stream)?;
        stream.sessions -= 1;
        match entry.caller.purpose {
            Purpose::Publish if stream.successor == Some(id) => stream.successor = None,
            Purpose::Publish => {
                stream.publisher = stream.successor.take();
                stream.silent_since = None;
                // One that never connected has changed nothing: a room of that name may be on air.
                if entry.connected.is_some() {
                    stream.since = None;
                    stream.codecs = [None; 2];
                    stream.published = [None; 2];
                    stream.alone_since.get_or_insert(now);
                }
            }
            Purpose::Watch => {
                self.viewers -= 1;
                stream.viewers -= 1;
                stream.watching -= usize::from(entry.connected.is_some());
            }
            Purpose::Confer => {
                self.viewers -= 1;
                stream.members -= 1;
            }
        }
        let viewers = stream.watching;
        if stream.sessions == 0 {
            self.tracks.close(stream.tracks.key);
            self.streams.remove(&entry.stream);
        }
        Some(Ended {
            id,
            handle: entry.details.handle,
            client: entry.details.client(),
            stream: entry.stream,
            purpose: entry.caller.purpose,
            number: entry.number,
            session: entry.session,
            connected: entry.connected.map(|at| now.saturating_duration_since(at)),
            viewers,
        })
    }

    /// Sessions whose clients have not connected in time.
    pub fn overdue(&self, now: Instant) -> Vec<SessionId> {
        let mut overdue: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, entry)| entry.connected.is_none() && entry.deadline <= now)
            .map(|(&id, _)| id)
            .collect();
        overdue.sort_unstable();
        overdue
    }

    /// Tracks of a stream of a member of a room; [`close_tracks`](Self::close_tracks) takes them back.
    pub fn open_tracks(&mut self, now: Instant, name: &str, random: impl FnMut() -> u32) -> Arc<StreamTracks> {
        self.tracks.open(now, name, random)
    }

    /// The place of those tracks may be given to others.
    pub fn close_tracks(&mut self, tracks: &StreamTracks) {
        self.tracks.close(tracks.key);
    }

    /// What happened at the door.
    pub fn admission(&self) -> AdmissionReading {
        self.admission.read()
    }

    /// The stream that a session belongs to.
    pub fn stream_of(&self, session: SessionId) -> Option<StreamName> {
        Some(self.sessions.get(&session)?.stream.clone())
    }

    /// Every stream, by name.
    pub fn streams(&self, now: Instant) -> Vec<StreamState> {
        self.streams
            .iter()
            .map(|(name, stream)| StreamState {
                name: name.clone(),
                since: stream.since,
                liveness: liveness::liveness(&self.sessions, stream, now),
                viewers: stream.watching,
                audio: stream.codecs[Kind::Audio as usize],
                video: stream.codecs[Kind::Video as usize],
                keyframes: stream.tracks.video.keyframes().read(),
                large: self.large_packets(stream),
            })
            .collect()
    }
}

/// A session whose handshake is complete.
#[derive(Debug)]
pub struct Connected {
    /// Its stream.
    pub stream: StreamName,
    /// What it does.
    pub purpose: Purpose,
    /// Which viewer.
    pub number: u64,
    /// How many watch now.
    pub viewers: usize,
    /// What a viewer that has just come cannot play of the stream.
    pub missing: Missing,
}

mod offered;
mod rooms;

pub use offered::Offered;
pub use rooms::Publisher;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;

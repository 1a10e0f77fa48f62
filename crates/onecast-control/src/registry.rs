//! The registry of streams and sessions. It decides and remembers; it does not act.

mod bounds;
mod layers;
mod liveness;
mod missing;
mod session_state;
mod sessions;
mod slot;
mod stream_state;
mod streams;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_engine::fanout::Session;
use onecast_engine::media::{Inbox, StreamTracks};
use onecast_rtc::rtp::{Codec, Kind};
use onecast_rtc::{IceCredentials, Path, Profile, SessionId};

use crate::admission::{Admission, AdmissionLimits, Caller};
use crate::conference::{Program, RoomLimits};
use crate::effect::Party;
use crate::ended::{End, EndReason, RecentlyEnded};
use crate::playable::{Missing, Playable};
use crate::refusal::Refusal;
use crate::whep_events::Audience;
use crate::{Grant, StreamName, TokenDigest, TrackMaker};
pub use bounds::{LargePackets, SessionLimits, Verdict};
pub use liveness::{Liveness, SilenceChange};
pub use missing::CodecMissing;
use onecast_metrics::AdmissionCounts;
pub use session_state::{SessionFilter, SessionState, Via};
use sessions::SessionEntry;
pub use sessions::SessionNumber;
pub(crate) use sessions::Sessions;
pub(crate) use slot::{Slot, Succession};
pub(crate) use stream_state::StreamState;
use streams::Streams;

/// Bounds of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most streams at once.
    pub streams: usize,
    /// Most viewers at once, connecting ones included.
    pub viewers: usize,
    /// Of admission.
    pub admission: AdmissionLimits,
    /// Of present sessions.
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
    Participate,
}

/// A client that asks for a place.
#[derive(Debug)]
pub(crate) struct Applicant<'a> {
    /// Id of the session that it will have.
    pub(crate) id: SessionId,
    /// The stream, or the room.
    pub(crate) stream: &'a StreamName,
    /// What it wants to do there.
    pub(crate) purpose: Purpose,
    /// How it is signalled.
    pub(crate) via: Via,
    /// Where its offer came from.
    pub(crate) client: SocketAddr,
    /// What permits it.
    pub(crate) grant: &'a Grant,
    /// How long its handshake may take.
    pub(crate) timeout: Duration,
}

/// A session that has just ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its name.
    pub id: SessionId,
    /// Its public number.
    pub session_number: SessionNumber,
    /// Where its offer came from.
    pub client: SocketAddr,
    /// Its stream.
    pub stream: StreamName,
    /// Its purpose.
    pub purpose: Purpose,
    /// Which viewer.
    pub number: u64,
    /// What the shards know; `None` if it never answered our offer.
    pub session: Option<Arc<Session>>,
    /// How long it was connected; `None` if it never was.
    pub connected: Option<Duration>,
    /// Connected viewers that are left.
    pub viewers: usize,
}

/// A session whose handshake is complete.
#[derive(Debug)]
pub(crate) struct Connected {
    /// Its stream.
    pub(crate) stream: StreamName,
    /// Its purpose.
    pub(crate) purpose: Purpose,
    /// What it is to the log.
    pub(crate) party: Party,
    /// How many watch now.
    pub(crate) viewers: usize,
    /// What a viewer that has just come cannot play of the stream.
    pub(crate) missing: Missing,
}

/// An offer of our own whose answer has come.
#[derive(Debug)]
pub(crate) struct Offered {
    /// Our credentials in it.
    pub(crate) local: IceCredentials,
    /// The tracks of its stream.
    pub(crate) tracks: Arc<StreamTracks>,
}

/// The publisher of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    /// Its session.
    pub(crate) session: Arc<Session>,
    /// Its public number.
    pub(crate) session_number: SessionNumber,
    /// Since when, as time since 1970.
    pub(crate) since_unix: Duration,
    /// What it sends: audio, video.
    pub(crate) codecs: [Option<Codec>; 2],
}

/// Streams and sessions by name.
#[derive(Debug)]
pub(crate) struct Registry {
    limits: Limits,
    admission: Admission,
    /// Where streams get their tracks, those of members of rooms too.
    pub(crate) tracks: TrackMaker,
    streams: Streams,
    pub(crate) sessions: Sessions,
    ended: RecentlyEnded,
    /// Viewers that have chosen a layer by its name.
    pinned: BTreeSet<SessionId>,
}

impl Applicant<'_> {
    fn caller(&self) -> Caller {
        Caller {
            purpose: self.purpose,
            address: self.client.ip(),
        }
    }
}

impl Ended {
    /// What it was to the log.
    pub(crate) fn party(&self) -> Party {
        party(self.purpose, self.number, self.session_number)
    }
}

fn party(purpose: Purpose, number: u64, session_number: SessionNumber) -> Party {
    match purpose {
        Purpose::Publish => Party::Broadcaster,
        Purpose::Watch => Party::Viewer(number),
        Purpose::Participate => Party::Member(session_number),
    }
}

/// Joining, and what follows until the session ends.
impl Registry {
    /// A registry without streams, whose tracks lead into `inboxes`.
    pub(crate) fn new(limits: Limits, inboxes: Arc<[Arc<Inbox>]>, ssrc_mask: u32) -> Registry {
        Registry {
            limits,
            admission: Admission::new(limits.admission),
            tracks: TrackMaker::new(inboxes, ssrc_mask),
            streams: Streams::default(),
            sessions: Sessions::default(),
            ended: RecentlyEnded::default(),
            pinned: BTreeSet::new(),
        }
    }

    /// Other bounds from now on. Sessions that exceed them stay.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.admission.set_limits(limits.admission);
    }

    /// Admission of a client whose offer counts for nothing yet: takes a token.
    ///
    /// # Errors
    /// When a bound of admission is reached.
    pub(crate) fn admit(&mut self, now: Instant, caller: Caller) -> Result<(), Refusal> {
        self.admission.admit(now, caller).map_err(Refusal::Busy)
    }

    /// The same for a client that has not sent its offer yet. It takes no token.
    ///
    /// # Errors
    /// When a bound of admission is reached.
    pub(crate) fn check_admission(&mut self, now: Instant, caller: Caller) -> Result<(), Refusal> {
        self.admission.check(now, caller).map_err(Refusal::Busy)
    }

    /// Looks for a place of a client, which [`enter`](Self::enter) then gives it. Nothing changes but the count of refusals.
    ///
    /// A publisher with the credential of the stream's publisher takes that one's place. One that comes to a silent publisher without a
    /// credential replaces it when it has connected: see [`succession`](Self::succession).
    ///
    /// # Errors
    /// When there is no place.
    pub(crate) fn find_slot(&mut self, now: Instant, applicant: &Applicant<'_>) -> Result<Slot, Refusal> {
        self.admission.room(now, applicant.caller()).map_err(Refusal::Busy)?;
        slot::find(now, &self.limits, &self.streams, &self.sessions, applicant)
    }

    /// Gives a client its place, which is half-open until the client has connected. A session that the slot displaces has been removed.
    pub(crate) fn enter(&mut self, now: Instant, applicant: &Applicant<'_>, slot: &Slot) -> Arc<StreamTracks> {
        let tracks = &mut self.tracks;
        let name = applicant.stream;
        let stream = self.streams.open(now, name, || tracks.open(now, name.as_str()));
        let number = stream.enter(applicant, slot);
        let tracks = stream.tracks.clone();
        self.sessions.enter(now, applicant, number);
        self.admission.opened(applicant.caller());
        tracks
    }

    /// The shards know the session from now on.
    pub(crate) fn set_session(&mut self, session: Arc<Session>) {
        if let Some(entry) = self.sessions.get_mut(session.id) {
            entry.session = Some(session);
        }
    }

    /// The client was sent an offer with these server credentials and has to answer it.
    pub(crate) fn set_offered(&mut self, id: SessionId, local: IceCredentials) {
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.offered = Some(local);
        }
    }

    /// Whether an answer of the session's client is waited for.
    pub(crate) fn awaits_answer(&self, id: SessionId) -> bool {
        self.sessions.get(id).is_some_and(|entry| entry.offered.is_some())
    }

    /// The answer has come, and is good. The client has `timeout` to connect.
    pub(crate) fn take_offered(&mut self, now: Instant, id: SessionId, timeout: Duration) -> Option<Offered> {
        let entry = self.sessions.get_mut(id)?;
        let tracks = self.streams.get(&entry.stream)?.tracks.clone();
        let local = entry.offered.take()?;
        entry.deadline = now + timeout;
        Some(Offered { local, tracks })
    }

    /// A session is about to be connected: whether it replaces the stream's publisher, which is then to be removed.
    pub(crate) fn succession(&self, now: Instant, id: SessionId) -> Succession {
        slot::succession(now, &self.streams, &self.sessions, id)
    }

    /// Notes where the media of a session goes, and what it is sealed with.
    pub(crate) fn set_path(&mut self, id: SessionId, media: Path, cipher: Profile) {
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.path = Some((media, cipher));
        }
    }

    /// The client's handshake is complete. `None` if the session has ended meanwhile.
    pub(crate) fn connected(&mut self, now: Instant, unix: Duration, id: SessionId) -> Option<Connected> {
        let entry = self.sessions.get_mut(id)?;
        let stream = self.streams.get_mut(&entry.stream)?;
        let purpose = entry.caller.purpose;
        let mut missing = Missing::default();
        if entry.connected.is_none() {
            entry.connected = Some(now);
            self.admission.settled(entry.caller);
            stream.connected(purpose, unix);
            if purpose == Purpose::Watch {
                missing = entry.newly_missing(stream.codecs);
            }
        }
        Some(Connected {
            stream: entry.stream.clone(),
            purpose,
            party: party(purpose, entry.number, entry.session_number),
            viewers: stream.watching,
            missing,
        })
    }

    /// A publisher's track has started, or changed its codec. Gives the stream; `None` for others than publishers.
    pub(crate) fn media(&mut self, id: SessionId, kind: Kind, codec: Codec) -> Option<StreamName> {
        let entry = self.sessions.get(id)?;
        let stream = self.streams.get_mut(&entry.stream)?;
        if stream.publisher != Some(id) {
            return None;
        }
        stream.set_published(kind, codec);
        Some(entry.stream.clone())
    }

    /// Viewers of the stream see a member of the room that has its name, or nothing of it any more.
    pub(crate) fn set_program(&mut self, now: Instant, unix: Duration, name: &StreamName, program: Option<Program>) {
        let has_publisher = self.publisher(name).is_some();
        if let Some(stream) = self.streams.get_mut(name) {
            stream.set_program(now, unix, program, has_publisher);
        }
    }

    /// Ends a session; the last of a stream takes the stream with it.
    pub(crate) fn remove(&mut self, now: Instant, id: SessionId) -> Option<Ended> {
        let entry = self.sessions.remove(id)?;
        self.pinned.remove(&id);
        if entry.connected.is_none() {
            self.admission.settled(entry.caller);
        }
        let stream = self.streams.get_mut(&entry.stream)?;
        stream.leave(now, id, &entry);
        let viewers = stream.watching;
        if stream.sessions == 0 {
            self.tracks.close(stream.tracks.key);
            self.streams.by_name.remove(&entry.stream);
        }
        Some(Ended {
            id,
            session_number: entry.session_number,
            client: entry.client,
            stream: entry.stream,
            purpose: entry.caller.purpose,
            number: entry.number,
            session: entry.session,
            connected: entry.connected.map(|at| now.saturating_duration_since(at)),
            viewers,
        })
    }

    /// Remembers why a session, already removed, ended. `unix` is the time since 1970.
    pub(crate) fn remember(&mut self, unix: Duration, ended: &Ended, why: EndReason) {
        let end = End {
            session_number: ended.session_number,
            stream: ended.stream.clone(),
            purpose: ended.purpose,
            number: ended.number,
            client: Some(ended.client),
            at_unix: unix,
            connected: ended.connected,
            received_bytes: ended
                .session
                .as_ref()
                .map_or(0, |session| session.counters.rtp_bytes.value()),
            why,
        };
        self.ended.note(ended.id, end);
    }
}

/// Periodic checks.
impl Registry {
    /// What the bounds of sessions demand now.
    pub(crate) fn verdicts(&mut self, now: Instant) -> Vec<Verdict> {
        bounds::verdicts(now, &self.limits.sessions, &self.streams, &mut self.sessions)
    }

    /// Whether the client of a session has not connected in time.
    pub(crate) fn is_overdue(&self, now: Instant, id: SessionId) -> bool {
        self.sessions.is_overdue(now, id)
    }

    /// Sessions whose clients have not connected in time.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<SessionId> {
        self.sessions.overdue(now)
    }

    /// Publishers that fell silent or send again since the last call.
    pub(crate) fn silence_changes(&mut self, now: Instant) -> Vec<SilenceChange> {
        liveness::silence_changes(now, &mut self.streams, &self.sessions)
    }

    /// Viewers that cannot play what came since the last call.
    pub(crate) fn codecs_missing(&mut self) -> Vec<CodecMissing> {
        missing::codecs_missing(&mut self.streams, &mut self.sessions)
    }
}

/// Reads.
impl Registry {
    /// Whether the stream has a publisher, or is about to have one.
    pub(crate) fn is_taken(&self, name: &StreamName) -> bool {
        self.streams.get(name).is_some_and(|stream| stream.publisher.is_some())
    }

    /// Whether the stream has a session.
    pub(crate) fn has(&self, name: &StreamName) -> bool {
        self.streams.get(name).is_some()
    }

    /// What the stream is sent in at this moment: audio, video. `None` for what is not sent.
    pub(crate) fn codecs(&self, name: &StreamName) -> [Option<Codec>; 2] {
        self.streams.get(name).map_or([None; 2], |stream| stream.codecs)
    }

    /// The publisher of a stream, once it has connected.
    pub(crate) fn publisher(&self, name: &StreamName) -> Option<Publisher> {
        let stream = self.streams.get(name)?;
        let entry = self.sessions.get(stream.publisher?)?;
        entry.connected?;
        Some(Publisher {
            session: entry.session.clone()?,
            session_number: entry.session_number,
            since_unix: stream.since?,
            codecs: stream.published,
        })
    }

    /// What a session does, if it exists.
    pub(crate) fn purpose(&self, id: SessionId) -> Option<Purpose> {
        self.sessions.get(id).map(|entry| entry.caller.purpose)
    }

    /// The stream that a session belongs to.
    pub(crate) fn stream_of(&self, id: SessionId) -> Option<StreamName> {
        Some(self.sessions.get(id)?.stream.clone())
    }

    /// A session as the log names it, with its stream.
    pub(crate) fn party(&self, id: SessionId) -> Option<(StreamName, Party)> {
        let entry = self.sessions.get(id)?;
        let party = party(entry.caller.purpose, entry.number, entry.session_number);
        Some((entry.stream.clone(), party))
    }

    /// The public number of a session.
    pub(crate) fn number(&self, id: SessionId) -> Option<SessionNumber> {
        self.sessions.get(id).map(|entry| entry.session_number)
    }

    /// The token that is wanted for everything that is done with a session.
    pub(crate) fn token(&self, id: SessionId) -> Option<TokenDigest> {
        self.sessions.get(id)?.grant.token
    }

    /// What a viewer can play. Everything, as long as its answer is not known.
    pub(crate) fn playable(&self, id: SessionId) -> Playable {
        self.sessions.get(id).map(SessionEntry::playable).unwrap_or_default()
    }

    /// Why the server ended a session, as long as that is remembered.
    pub(crate) fn why_ended(&self, id: SessionId) -> Option<EndReason> {
        self.ended.why(id).cloned()
    }

    /// The last sessions that ended, the newest first.
    pub(crate) fn history(&self, limit: usize) -> Vec<End> {
        self.ended.history().take(limit).cloned().collect()
    }

    /// What admission has counted.
    pub(crate) fn admission(&self) -> AdmissionCounts {
        self.admission.read()
    }

    /// How many sessions there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.by_id.len()
    }

    /// Sessions by their numbers. `unix` is the time since 1970 at `now`.
    pub(crate) fn sessions(&self, now: Instant, unix: Duration, filter: &SessionFilter) -> Vec<SessionState> {
        let first = SessionNumber(filter.after.0.saturating_add(1));
        let entries = self.sessions.by_number.range(first..).map(|(_, id)| *id);
        entries
            .filter_map(|id| Some((id, self.sessions.get(id)?)))
            .filter(|(_, entry)| filter.has(entry))
            .take(filter.limit)
            .map(|(id, entry)| self.session_state(now, unix, (id, entry)))
            .collect()
    }

    /// The session of this number.
    pub(crate) fn session(&self, now: Instant, unix: Duration, number: SessionNumber) -> Option<SessionState> {
        let id = self.find(number)?;
        Some(self.session_state(now, unix, (id, self.sessions.get(id)?)))
    }

    fn session_state(&self, now: Instant, unix: Duration, (id, entry): (SessionId, &SessionEntry)) -> SessionState {
        SessionState {
            layer: self.viewer_layer(id),
            ..SessionState::of(now, unix, entry, self.codecs(&entry.stream))
        }
    }

    /// The session of this number.
    pub(crate) fn find(&self, number: SessionNumber) -> Option<SessionId> {
        self.sessions.by_number.get(&number).copied()
    }

    /// The publisher of a stream, and before it the viewers if they are meant, too: so they do not see it leave.
    pub(crate) fn of_stream(&self, name: &StreamName, with_viewers: bool) -> Vec<SessionId> {
        let Some(stream) = self.streams.get(name) else {
            return Vec::new();
        };
        let viewers = self.sessions.ids().filter(|&id| {
            let entry = self.sessions.get(id);
            with_viewers && entry.is_some_and(|entry| entry.stream == *name && entry.caller.purpose != Purpose::Publish)
        });
        viewers.chain(stream.successor).chain(stream.publisher).collect()
    }

    /// Whether media of a stream arrives.
    pub(crate) fn liveness(&self, now: Instant, name: &StreamName) -> Liveness {
        let stream = self.streams.get(name);
        stream.map_or(Liveness::Waiting, |stream| {
            liveness::liveness(&self.sessions, stream, now)
        })
    }

    /// A stream as its followers see it; one that does not exist is empty.
    pub(crate) fn audience(&self, now: Instant, name: &StreamName) -> Audience {
        let liveness = self.liveness(now, name);
        let stream = self.streams.get(name);
        stream.map_or_else(Audience::default, |stream| Audience {
            live: liveness.is_live(),
            silent: liveness.is_silent(),
            viewers: stream.watching,
            codecs: stream.codecs,
            layers: layers::layers(&self.sessions, stream).with_names(),
        })
    }

    /// Every stream, by name.
    pub(crate) fn streams(&self, now: Instant) -> Vec<StreamState> {
        let streams = self.streams.by_name.iter();
        streams
            .map(|(name, stream)| StreamState::of(now, name, stream, &self.sessions))
            .collect()
    }
}

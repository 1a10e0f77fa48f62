//! Single sessions, for whoever runs the server: what is known of each, and what is remembered when they have ended.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Ended, Entry, Liveness, Purpose, Registry};
use crate::ended::{End, EndReason};
use crate::playable::Missing;
use crate::{SessionId, StreamName};
use onecast_rtc::Profile;

/// How a session was signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// RFC 9725.
    Whip,
    /// draft-ietf-wish-whep.
    Whep,
    /// Copy and paste.
    Paste,
    /// Of a conference room.
    Conference,
}

/// What is known of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionState {
    /// Its public number: never used again, and no right to anything.
    pub handle: u64,
    /// Its stream.
    pub stream: StreamName,
    /// What it does.
    pub purpose: Purpose,
    /// How it was signalled.
    pub via: Option<Via>,
    /// Which viewer of the stream; 0 for a publisher.
    pub number: u64,
    /// Where its offer came from.
    pub client: Option<SocketAddr>,
    /// Where its media comes from or goes to, once it has connected.
    pub media: Option<SocketAddr>,
    /// What its media is sealed with.
    pub cipher: Option<Profile>,
    /// Since when there is the session, as time since 1970.
    pub since_unix: Duration,
    /// How long it is connected; `None` while it connects.
    pub connected: Option<Duration>,
    /// RTP that came from it, bytes; 0 for viewers.
    pub received_bytes: u64,
    /// How long a connected publisher has sent no media; `None` while it sends, and for others.
    pub silent: Option<Duration>,
    /// What a viewer cannot play of what its stream is sent in.
    pub missing: Missing,
}

/// Of which sessions to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFilter {
    /// Only those of this stream.
    pub stream: Option<StreamName>,
    /// Only publishers, or only viewers.
    pub purpose: Option<Purpose>,
    /// Only those whose numbers are greater.
    pub after: u64,
    /// At most so many, the lowest numbers first.
    pub limit: usize,
}

/// What only the operator is told of a session.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) handle: u64,
    via: Option<Via>,
    client: Option<SocketAddr>,
    media: Option<SocketAddr>,
    cipher: Option<Profile>,
}

impl Registry {
    /// Gives a new session its public number.
    pub(super) fn enter(&mut self, id: SessionId) -> Details {
        self.handed += 1;
        self.handles.insert(self.handed, id);
        Details {
            handle: self.handed,
            ..Details::default()
        }
    }

    /// How a session came about, and from where.
    pub fn introduce(&mut self, id: SessionId, via: Via, client: SocketAddr) {
        if let Some(entry) = self.sessions.get_mut(&id) {
            entry.details.via = Some(via);
            entry.details.client = Some(client);
        }
    }

    /// Where the media of a session goes, and what it is sealed with.
    pub fn secured(&mut self, id: SessionId, media: SocketAddr, cipher: Profile) {
        if let Some(entry) = self.sessions.get_mut(&id) {
            entry.details.media = Some(media);
            entry.details.cipher = Some(cipher);
        }
    }

    /// Sessions by their numbers. `unix` is the time since 1970 at `now`.
    pub fn sessions(&self, now: Instant, unix: Duration, filter: &SessionFilter) -> Vec<SessionState> {
        let of_stream = |state: &SessionState| filter.stream.as_ref().is_none_or(|stream| *stream == state.stream);
        let of_purpose = |state: &SessionState| filter.purpose.is_none_or(|purpose| purpose == state.purpose);
        self.handles
            .range(filter.after.saturating_add(1)..)
            .filter_map(|(_, id)| Some(self.state(now, unix, self.sessions.get(id)?)))
            .filter(|state| of_stream(state) && of_purpose(state))
            .take(filter.limit)
            .collect()
    }

    /// The session of this number.
    pub fn session(&self, now: Instant, unix: Duration, handle: u64) -> Option<SessionState> {
        let entry = self.sessions.get(self.handles.get(&handle)?)?;
        Some(self.state(now, unix, entry))
    }

    /// The session of this number.
    pub fn find(&self, handle: u64) -> Option<SessionId> {
        self.handles.get(&handle).copied()
    }

    /// The publisher of a stream, and its viewers too if `everybody` is meant; the publisher last, so that viewers are not told
    /// that it has left.
    pub fn of_stream(&self, name: &StreamName, everybody: bool) -> Vec<SessionId> {
        let Some(stream) = self.streams.get(name) else {
            return Vec::new();
        };
        let viewers = self.handles.values().copied().filter(|id| {
            let entry = self.sessions.get(id);
            everybody && entry.is_some_and(|entry| entry.stream == *name && entry.caller.purpose != Purpose::Publish)
        });
        viewers.chain(stream.successor).chain(stream.publisher).collect()
    }

    /// Whether somebody publishes or watches the stream, or is about to.
    pub fn has(&self, name: &StreamName) -> bool {
        self.streams.contains_key(name)
    }

    fn state(&self, now: Instant, unix: Duration, entry: &Entry) -> SessionState {
        let details = &entry.details;
        let age = now.saturating_duration_since(entry.admitted);
        let is_publisher = entry.caller.purpose == Purpose::Publish;
        let silent = entry.silence(now).filter(|_| is_publisher);
        SessionState {
            handle: details.handle,
            stream: entry.stream.clone(),
            purpose: entry.caller.purpose,
            via: details.via,
            number: entry.number,
            client: details.client,
            media: details.media,
            cipher: details.cipher,
            since_unix: unix.saturating_sub(age),
            connected: entry.connected.map(|at| now.saturating_duration_since(at)),
            received_bytes: entry.session.as_ref().map_or(0, |session| session.received.value()),
            silent: silent.filter(|silent| *silent >= Liveness::SILENT_AFTER),
            missing: entry.playable().missing(self.codecs(&entry.stream)),
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Remembers why a session, already removed, ended. `unix` is the time since 1970.
    pub fn note(&mut self, unix: Duration, ended: &Ended, why: EndReason) {
        let end = End {
            handle: ended.handle,
            stream: ended.stream.clone(),
            purpose: ended.purpose,
            number: ended.number,
            client: ended.client,
            at_unix: unix,
            connected: ended.connected,
            received_bytes: ended.session.as_ref().map_or(0, |session| session.received.value()),
            why,
        };
        self.ended.note(ended.id, end);
    }

    /// Why the server ended a session, as long as that is remembered.
    pub fn why_ended(&self, id: SessionId) -> Option<EndReason> {
        self.ended.why(id).cloned()
    }

    /// The last sessions that ended, the newest first.
    pub fn history(&self, limit: usize) -> Vec<End> {
        self.ended.history().take(limit).cloned().collect()
    }
}

impl Details {
    pub(super) fn client(&self) -> Option<SocketAddr> {
        self.client
    }
}

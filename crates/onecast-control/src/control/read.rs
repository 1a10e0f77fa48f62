//! Reads.

use std::sync::Arc;

use onecast_rtc::SessionId;

use super::{Control, Now};
use crate::StreamName;
use crate::conference::Roster;
use crate::ended::{End, EndReason};
use crate::layers::ViewerLayer;
use crate::port::{Protocol, SessionGuard, StreamStatus};
use crate::refusal::Refusal;
use crate::registry::{Purpose, SessionFilter, SessionNumber, SessionState};
use onecast_metrics::AdmissionCounts;

impl Control {
    /// Whether the session exists.
    pub fn exists(&self, session: SessionId, protocol: Protocol) -> bool {
        let purpose = self.registry.purpose(session);
        match protocol {
            Protocol::Whip => purpose == Some(Purpose::Publish),
            Protocol::Whep => purpose == Some(Purpose::Watch),
        }
    }

    /// What a request to a session's URL must show. `None` when there is no such session.
    ///
    /// # Errors
    /// When the server has ended the session for a reason that the client should know.
    pub fn guard(&self, session: SessionId) -> Result<Option<SessionGuard>, Refusal> {
        if let Some(why) = self.registry.why_ended(session) {
            return Err(Refusal::Ended(why));
        }
        let known = self.registry.stream_of(session).zip(self.registry.purpose(session));
        Ok(known.map(|(stream, purpose)| SessionGuard {
            stream,
            purpose,
            token: self.registry.token(session),
        }))
    }

    /// What a viewer wants of the layers, and what it is sent.
    ///
    /// # Errors
    /// When there is no such viewer.
    pub fn viewer_layer(&self, session: SessionId) -> Result<ViewerLayer, Refusal> {
        self.registry.viewer_layer(session).ok_or(Refusal::UnknownSession)
    }

    /// Every stream that has a session, by name.
    pub fn streams(&self, now: Now) -> Vec<StreamStatus> {
        let streams = self.registry.streams(now.instant).into_iter();
        let status = streams.map(|stream| StreamStatus {
            name: stream.name,
            live: stream.liveness.is_live(),
            silent: stream.liveness.silence(),
            since_unix: stream.since,
            viewers: stream.viewers,
            video: stream.video.map(|codec| codec.to_string()),
            audio: stream.audio.map(|codec| codec.to_string()),
            keyframes: stream.keyframes,
            large: stream.large,
            layers: stream.layers,
        });
        status.collect()
    }

    /// Sessions by their numbers.
    pub fn sessions(&self, now: Now, filter: &SessionFilter) -> Vec<SessionState> {
        self.registry.sessions(now.instant, now.unix, filter)
    }

    /// The session of this number.
    pub fn session(&self, now: Now, number: SessionNumber) -> Option<SessionState> {
        self.registry.session(now.instant, now.unix, number)
    }

    /// The last sessions that ended, the newest first.
    pub fn ended(&self, limit: usize) -> Vec<End> {
        self.registry.history(limit)
    }

    /// Why the server ended a session, as long as that is remembered.
    pub fn why_ended(&self, session: SessionId) -> Option<EndReason> {
        self.registry.why_ended(session)
    }

    /// What admission has counted.
    pub fn admission(&self) -> AdmissionCounts {
        self.registry.admission()
    }

    /// The members of a room. `None` when there is no such room.
    pub fn roster(&self, room: &StreamName) -> Option<Arc<Roster>> {
        self.rooms.roster(room).cloned()
    }
}

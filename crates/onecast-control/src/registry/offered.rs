//! Viewers who were sent an offer of our own, and what followers of a stream are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Registry, SessionId, StreamName};
use crate::audience::Audience;
use onecast_engine::media::StreamTracks;
use onecast_rtc::IceCredentials;

/// An offer of our own whose answer has come.
#[derive(Debug)]
pub struct Offered {
    /// Our credentials in it.
    pub local: IceCredentials,
    /// The tracks of its stream.
    pub tracks: Arc<StreamTracks>,
}

impl Registry {
    /// The admitted client was sent an offer with these credentials of ours, and is to answer it.
    pub fn offered(&mut self, id: SessionId, local: IceCredentials) {
        if let Some(entry) = self.sessions.get_mut(&id) {
            entry.offered = Some(local);
        }
    }

    /// Whether an answer of the session's client is waited for.
    pub fn awaits_answer(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|entry| entry.offered.is_some())
    }

    /// The answer has come, and is good: nobody waits for another. From `now` the client has `patience` to connect.
    pub fn take_offered(&mut self, now: Instant, id: SessionId, patience: Duration) -> Option<Offered> {
        let entry = self.sessions.get_mut(&id)?;
        let tracks = self.streams.get(&entry.stream)?.tracks.clone();
        let local = entry.offered.take()?;
        entry.deadline = now + patience;
        Some(Offered { local, tracks })
    }

    /// What followers of a stream are told; of one that is not there, that nobody is.
    pub fn audience(&self, now: Instant, name: &StreamName) -> Audience {
        let liveness = self.liveness(now, name);
        let stream = self.streams.get(name);
        stream.map_or_else(Audience::default, |stream| Audience {
            live: liveness.is_live(),
            silent: liveness.is_silent(),
            viewers: stream.watching,
            codecs: stream.codecs,
        })
    }
}

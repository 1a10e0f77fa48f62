//! What conference rooms need of the registry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Registry, SessionId, StreamName};
use crate::conference::Program;
use onecast_engine::fanout::Session;
use onecast_rtc::rtp::Codec;

/// Who publishes a stream.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// Its session.
    pub session: Arc<Session>,
    /// Its public number.
    pub handle: u64,
    /// Since when, as time since 1970.
    pub since_unix: Duration,
    /// What it sends: audio, video.
    pub codecs: [Option<Codec>; 2],
}

impl Registry {
    /// The public number of a session.
    pub fn handle(&self, id: SessionId) -> Option<u64> {
        self.sessions.get(&id).map(|entry| entry.details.handle)
    }

    /// Who publishes a stream, once it has connected.
    pub fn publisher(&self, name: &StreamName) -> Option<Publisher> {
        let stream = self.streams.get(name)?;
        let entry = self.sessions.get(&stream.publisher?)?;
        entry.connected?;
        Some(Publisher {
            session: entry.session.clone()?,
            handle: entry.details.handle,
            since_unix: stream.since?,
            codecs: stream.published,
        })
    }

    /// Viewers of the stream see a member of the room that has its name, or nothing any more. `unix` is the time since 1970.
    pub fn set_air(&mut self, now: Instant, name: &StreamName, air: Option<Program>, unix: Duration) {
        let codecs = air.map(|air| air.codecs);
        let publishes = self.publisher(name).is_some();
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        stream.codecs = codecs.unwrap_or(if publishes { stream.published } else { [None; 2] });
        stream.member_on_air = air.is_some_and(|air| !air.is_broadcast);
        if publishes {
            return;
        }
        match codecs {
            Some(_) => {
                stream.since.get_or_insert(unix);
                stream.alone_since = None;
            }
            None => {
                stream.since = None;
                stream.alone_since.get_or_insert(now);
            }
        }
    }
}

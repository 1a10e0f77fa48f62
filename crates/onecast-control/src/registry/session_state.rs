//! Sessions as the operator sees them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use onecast_rtc::Profile;
use onecast_rtc::rtp::Codec;

use super::sessions::{SessionEntry, SessionNumber};
use super::{Liveness, Purpose};
use crate::StreamName;
use crate::layers::ViewerLayer;
use crate::playable::Missing;

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
    pub session_number: SessionNumber,
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
    /// Which layer of the video a viewer is sent; `None` for others.
    pub layer: Option<ViewerLayer>,
}

/// Of which sessions to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFilter {
    /// Only those of this stream.
    pub stream: Option<StreamName>,
    /// Only publishers, or only viewers.
    pub purpose: Option<Purpose>,
    /// Only those whose numbers are greater.
    pub after: SessionNumber,
    /// At most so many, the lowest numbers first.
    pub limit: usize,
}

impl SessionState {
    /// What is known of this session of a stream in these codecs. `unix` is the time since 1970 at `now`.
    pub(super) fn of(now: Instant, unix: Duration, entry: &SessionEntry, codecs: [Option<Codec>; 2]) -> SessionState {
        let age = now.saturating_duration_since(entry.admitted);
        let is_publisher = entry.caller.purpose == Purpose::Publish;
        let silent = entry.silence(now).filter(|_| is_publisher);
        SessionState {
            session_number: entry.session_number,
            stream: entry.stream.clone(),
            purpose: entry.caller.purpose,
            via: Some(entry.via),
            number: entry.number,
            client: Some(entry.client),
            media: entry.path.map(|(path, _)| path.remote),
            cipher: entry.path.map(|(_, cipher)| cipher),
            since_unix: unix.saturating_sub(age),
            connected: entry.connected.map(|at| now.saturating_duration_since(at)),
            received_bytes: entry.received_bytes(),
            silent: silent.filter(|silent| *silent >= Liveness::SILENT_AFTER),
            missing: entry.playable().missing(codecs),
            layer: None,
        }
    }
}

impl SessionFilter {
    pub(super) fn has(&self, entry: &SessionEntry) -> bool {
        let of_stream = self.stream.as_ref().is_none_or(|stream| *stream == entry.stream);
        of_stream && self.purpose.is_none_or(|purpose| purpose == entry.caller.purpose)
    }
}

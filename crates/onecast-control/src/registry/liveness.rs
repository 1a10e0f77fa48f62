//! Whether the media of a stream arrives: a connected publisher alone does not make a stream live.
//!
//! It is derived from the counters that [`super::bounds`] reads once a second, so a silence may be up to a second longer than reported.
//! The packet path knows nothing of it.

use std::time::{Duration, Instant};

use super::sessions::Sessions;
use super::streams::{StreamEntry, Streams};
use crate::StreamName;

/// What there is to see of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Liveness {
    /// Nothing, and no publisher is connected.
    #[default]
    Waiting,
    /// A publisher is connected, and no media comes from it.
    Connected {
        /// For how long.
        silent: Duration,
    },
    /// Media arrives from a publisher, or a member of the room of the stream's name is on air.
    Live,
}

/// A publisher fell silent, or sends again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilenceChange {
    /// Its stream.
    pub stream: StreamName,
    /// How long no media has come, or had come.
    pub silent: Duration,
    /// It sends again.
    pub is_over: bool,
}

impl Liveness {
    /// A stream is live until nothing has come for this long. Shorter gaps are usual: a static screen is sent once a second, Opus
    /// with DTX every 400 ms, and a change of networks takes a few seconds.
    pub const SILENT_AFTER: Duration = Duration::from_secs(5);

    /// Whether media arrives.
    pub fn is_live(self) -> bool {
        self == Liveness::Live
    }

    /// For how long a publisher is connected without media.
    pub fn silence(self) -> Option<Duration> {
        match self {
            Liveness::Connected { silent } => Some(silent),
            Liveness::Waiting | Liveness::Live => None,
        }
    }

    /// Whether a publisher is connected and has sent nothing for so long that viewers should know. One that has just connected is
    /// about to send.
    pub fn is_silent(self) -> bool {
        self.silence().is_some_and(|silent| silent >= Liveness::SILENT_AFTER)
    }
}

/// Publishers that fell silent or send again since the last call.
pub(super) fn silence_changes(now: Instant, streams: &mut Streams, sessions: &Sessions) -> Vec<SilenceChange> {
    let changes = streams.by_name.iter_mut().filter_map(|(name, stream)| {
        let liveness = liveness(sessions, stream, now);
        let change = |silent, is_over| SilenceChange {
            stream: name.clone(),
            silent,
            is_over,
        };
        match (liveness, stream.silent_since) {
            (Liveness::Connected { silent }, None) if liveness.is_silent() => {
                stream.silent_since = Some(now.checked_sub(silent).unwrap_or(now));
                Some(change(silent, false))
            }
            (Liveness::Live, Some(since)) => {
                stream.silent_since = None;
                let silent = now.saturating_duration_since(since);
                // A member of the room is on air: the publisher may be as silent as before.
                (!stream.member_on_air).then(|| change(silent, true))
            }
            _ => None,
        }
    });
    changes.collect()
}

/// What there is to see of a stream whose sessions are among these.
pub(super) fn liveness(sessions: &Sessions, stream: &StreamEntry, now: Instant) -> Liveness {
    if stream.member_on_air {
        return Liveness::Live;
    }
    let publisher = stream.publisher.and_then(|id| sessions.get(id));
    let Some(silent) = publisher.and_then(|publisher| publisher.silence(now)) else {
        return Liveness::Waiting;
    };
    let has_begun = stream.published.iter().any(Option::is_some);
    if has_begun && silent < Liveness::SILENT_AFTER {
        Liveness::Live
    } else {
        Liveness::Connected { silent }
    }
}

#[cfg(test)]
mod tests;

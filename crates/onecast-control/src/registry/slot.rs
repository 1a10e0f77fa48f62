//! Whether a client has a place in a stream, and when a publisher may take the place of another.
//!
//! A publisher with the credential of the present one takes its place at once. Where no token was asked for, publishers cannot be told
//! apart: the present one keeps its place while it sends. When it is silent, another publisher may connect, and replaces it at that
//! moment unless it sends again by then. So a crashed encoder is back within seconds, and an offer alone ends no session.

use std::time::{Duration, Instant};

use onecast_rtc::SessionId;

use super::liveness::liveness;
use super::sessions::Sessions;
use super::streams::{StreamEntry, Streams};
use super::{Applicant, Limits, Purpose};
use crate::Grant;
use crate::ended::EndReason;
use crate::refusal::Refusal;

/// A place that a client may take now.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    displaced: Option<(SessionId, EndReason)>,
    is_contested: bool,
}

/// What a publisher that has just connected means to the one before it.
#[derive(Debug)]
pub(crate) enum Succession {
    /// Nothing: the place was free.
    Free,
    /// It replaces a silent one.
    Replaces {
        /// That one.
        holder: SessionId,
        /// How long nothing had come from it.
        silent: Duration,
    },
    /// The one before sends again and stays: the session is to be ended.
    Refused,
}

/// A publisher that has not connected for this long makes room for another.
pub(super) const PUBLISHER_TIMEOUT: Duration = Duration::from_secs(5);
/// A publisher without a credential may be replaced when it has been silent for this long by the readings: 2 to 3 s in fact. Encoders do
/// not pause for that long, and the supervisor of a crashed one tries again about then.
pub(super) const REPLACEABLE_AFTER: Duration = Duration::from_secs(2);
/// Silences are known to be up to this much shorter than they are.
const READING_INTERVAL: Duration = Duration::from_secs(1);
/// When to ask again for a place that its holder keeps: the holder may leave at any time, and a dead one is ended within 30 s.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl Slot {
    /// The session that makes room, and why: a publisher that never connected, or one with the same credential.
    pub(crate) fn displaces(&self) -> Option<(SessionId, EndReason)> {
        self.displaced.clone()
    }

    /// A silent publisher has it until the new one has connected.
    pub(super) fn is_contested(&self) -> bool {
        self.is_contested
    }

    fn made_by(id: SessionId, why: EndReason) -> Slot {
        Slot {
            displaced: Some((id, why)),
            is_contested: false,
        }
    }
}

/// Looks for a place of the applicant. Nothing changes.
pub(super) fn find(
    now: Instant,
    limits: &Limits,
    streams: &Streams,
    sessions: &Sessions,
    applicant: &Applicant<'_>,
) -> Result<Slot, Refusal> {
    let stream = streams.get(applicant.stream);
    // A publisher that takes over the last place opens no new stream, even if the limit has shrunk since.
    if stream.is_none() && streams.by_name.len() >= limits.streams {
        return Err(Refusal::TooManyStreams { max: limits.streams });
    }
    if applicant.purpose != Purpose::Publish && sessions.viewers >= limits.viewers {
        return Err(Refusal::Full { max: limits.viewers });
    }
    let Some(stream) = stream else {
        return Ok(Slot::default());
    };
    let viewers_max = limits.sessions.viewers_per_stream.unwrap_or(usize::MAX);
    let members_max = limits.rooms.members;
    match applicant.purpose {
        Purpose::Publish => of_publisher(now, sessions, stream, applicant.grant),
        Purpose::Watch if stream.viewers >= viewers_max => Err(Refusal::StreamFull { max: viewers_max }),
        Purpose::Participate if stream.members >= members_max => Err(Refusal::RoomFull { max: members_max }),
        Purpose::Watch | Purpose::Participate => Ok(Slot::default()),
    }
}

/// The place of a publisher is free, or becomes so because its holder never connected or is taken over, or may be contested.
fn of_publisher(now: Instant, sessions: &Sessions, stream: &StreamEntry, grant: &Grant) -> Result<Slot, Refusal> {
    let Some(holder) = stream.publisher else {
        return Ok(Slot::default());
    };
    let entry = &sessions.by_id[&holder];
    if grant.credential.is_some() && grant.credential == entry.grant.credential {
        return Ok(Slot::made_by(holder, EndReason::TakenOver));
    }
    let Some(silent) = entry.silence(now) else {
        return outwaited(now, sessions, holder);
    };
    let left = REPLACEABLE_AFTER.saturating_sub(silent);
    if entry.grant.credential.is_some() {
        return Err(taken(now, sessions, stream, RETRY_AFTER));
    }
    if !left.is_zero() {
        return Err(taken(now, sessions, stream, left + READING_INTERVAL));
    }
    let displaced = match stream.successor {
        Some(successor) => outwaited(now, sessions, successor)?.displaced,
        None => None,
    };
    Ok(Slot {
        displaced,
        is_contested: true,
    })
}

/// A publisher that is about to connect makes room if it has had time enough.
fn outwaited(now: Instant, sessions: &Sessions, id: SessionId) -> Result<Slot, Refusal> {
    let waited = now.saturating_duration_since(sessions.by_id[&id].admitted);
    let left = PUBLISHER_TIMEOUT.saturating_sub(waited);
    if left.is_zero() {
        return Ok(Slot::made_by(id, EndReason::MadeRoom));
    }
    Err(Refusal::Taken {
        since_unix: None,
        silent: None,
        retry_after: left,
    })
}

fn taken(now: Instant, sessions: &Sessions, stream: &StreamEntry, retry_after: Duration) -> Refusal {
    let liveness = liveness(sessions, stream, now);
    Refusal::Taken {
        since_unix: stream.since,
        silent: liveness.silence().filter(|_| liveness.is_silent()),
        retry_after,
    }
}

/// A session has connected: whether it replaces the stream's publisher. Nothing changes.
pub(super) fn succession(now: Instant, streams: &Streams, sessions: &Sessions, id: SessionId) -> Succession {
    let stream = sessions.get(id).and_then(|entry| streams.get(&entry.stream));
    let contested = stream.filter(|stream| stream.successor == Some(id));
    let Some(holder) = contested.and_then(|stream| stream.publisher) else {
        return Succession::Free;
    };
    let silent = sessions.by_id[&holder].silence(now).unwrap_or_default();
    if silent < REPLACEABLE_AFTER {
        return Succession::Refused;
    }
    Succession::Replaces { holder, silent }
}

#[cfg(test)]
mod tests;

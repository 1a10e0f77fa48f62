//! When a publisher may take the place of another.
//!
//! A publisher with the credential of the present one takes its place at once. Where no token was asked for, publishers cannot be told
//! apart: the present one keeps its place while it sends. When it is silent, another publisher may connect, and replaces it at that
//! moment unless it sends again by then. So a crashed encoder is back within seconds, and an offer alone ends no session.

use std::time::{Duration, Instant};

use super::{Ended, Refused, Registry};
use crate::right::Right;
use crate::{SessionId, StreamName};

/// The place of a publisher, given to another.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Who made room.
    pub(super) displaced: Option<Ended>,
    /// A silent publisher has it until the new one has connected.
    pub(super) is_contested: bool,
}

/// What a publisher that has just connected means to the one before it.
#[derive(Debug)]
pub enum Succession {
    /// Nothing: the place was free.
    Free,
    /// It replaces a silent one.
    Replaces {
        /// That one.
        ended: Box<Ended>,
        /// How long nothing had come from it.
        silent: Duration,
    },
    /// The one before sends again and stays: the session is to be ended.
    Refused,
}

impl Registry {
    /// A publisher that has not connected for this long makes room for another.
    pub(super) const PUBLISHER_PATIENCE: Duration = Duration::from_secs(5);
    /// A publisher without a credential may be replaced when it has been silent for this long by the readings: 2 to 3 s in fact. Encoders do
    /// not pause for that long, and the supervisor of a crashed one tries again about then.
    pub(super) const REPLACEABLE_AFTER: Duration = Duration::from_secs(2);
    /// Silences are known to be up to this much shorter than they are.
    const READING_EVERY: Duration = Duration::from_secs(1);
    /// When to ask again for a place that its holder keeps: the holder may leave at any time, and a dead one is ended within 30 s.
    const ASK_AGAIN: Duration = Duration::from_secs(5);

    /// Whether the stream's publisher came with this right.
    pub fn is_of_same_right(&self, name: &StreamName, right: &Right) -> bool {
        let holder = self.streams.get(name).and_then(|stream| stream.publisher);
        let holder = holder.and_then(|holder| self.sessions[&holder].right.credential.as_ref());
        holder.is_some() && holder == right.credential.as_ref()
    }

    /// The place of a publisher is free, or becomes so because its holder never connected or is taken over, or may be contested.
    pub(super) fn make_room(&mut self, now: Instant, name: &StreamName, takes_over: bool) -> Result<Place, Refused> {
        let Some((holder, successor)) = self
            .streams
            .get(name)
            .and_then(|stream| Some((stream.publisher?, stream.successor)))
        else {
            return Ok(Place::default());
        };
        if takes_over {
            let displaced = self.remove(now, holder);
            return Ok(Place {
                displaced,
                is_contested: false,
            });
        }
        let entry = &self.sessions[&holder];
        let Some(silent) = entry.silence(now) else {
            let displaced = self.outwaited(now, holder)?;
            return Ok(Place {
                displaced,
                is_contested: false,
            });
        };
        let left = Registry::REPLACEABLE_AFTER.saturating_sub(silent);
        if entry.right.credential.is_some() {
            return Err(self.taken(now, name, Registry::ASK_AGAIN));
        }
        if !left.is_zero() {
            return Err(self.taken(now, name, left + Registry::READING_EVERY));
        }
        let displaced = successor.map(|successor| self.outwaited(now, successor)).transpose()?;
        Ok(Place {
            displaced: displaced.flatten(),
            is_contested: true,
        })
    }

    /// Ends a publisher that is about to connect, if it has had time enough.
    fn outwaited(&mut self, now: Instant, id: SessionId) -> Result<Option<Ended>, Refused> {
        let entry = &self.sessions[&id];
        let waited = now.saturating_duration_since(entry.admitted);
        let left = Registry::PUBLISHER_PATIENCE.saturating_sub(waited);
        if left.is_zero() {
            return Ok(self.remove(now, id));
        }
        Err(Refused::Taken {
            since: None,
            silent: None,
            retry_after: left,
        })
    }

    fn taken(&self, now: Instant, name: &StreamName, retry_after: Duration) -> Refused {
        let liveness = self.liveness(now, name);
        Refused::Taken {
            since: self.streams.get(name).and_then(|stream| stream.since),
            silent: liveness.silence().filter(|_| liveness.is_silent()),
            retry_after,
        }
    }

    /// A publisher has connected; [`connected`](Self::connected) hears of it unless it is refused here.
    pub fn succeed(&mut self, now: Instant, id: SessionId) -> Succession {
        let stream = self.sessions.get(&id).and_then(|entry| self.streams.get(&entry.stream));
        let Some(holder) = stream
            .filter(|stream| stream.successor == Some(id))
            .and_then(|stream| stream.publisher)
        else {
            return Succession::Free;
        };
        let silent = self.sessions[&holder].silence(now).unwrap_or_default();
        if silent < Registry::REPLACEABLE_AFTER {
            return Succession::Refused;
        }
        // Its place goes to the successor.
        match self.remove(now, holder) {
            Some(ended) => Succession::Replaces {
                ended: Box::new(ended),
                silent,
            },
            None => Succession::Free,
        }
    }
}

#[cfg(test)]
mod tests;

//! Sessions by id and by number.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_engine::fanout::Session;
use onecast_rtc::rtp::Codec;
use onecast_rtc::{IceCredentials, Path, Profile, SessionId};

use super::bounds::Meter;
use super::layers::ViewerLayers;
use super::{Applicant, Purpose, Via};
use crate::admission::Caller;
use crate::ice_session::Restarted;
use crate::playable::{Missing, Playable};
use crate::{Grant, StreamName};

/// The public number of a session: never used again, and no right to anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionNumber(pub u64);

/// Every session.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(super) by_id: HashMap<SessionId, SessionEntry>,
    pub(super) by_number: BTreeMap<SessionNumber, SessionId>,
    pub(super) last: SessionNumber,
    /// Viewers and members, connecting ones included.
    pub(super) viewers: usize,
}

/// One session.
#[derive(Debug)]
pub(super) struct SessionEntry {
    pub(super) session_number: SessionNumber,
    pub(super) stream: StreamName,
    pub(super) caller: Caller,
    pub(super) via: Via,
    /// Where its offer came from.
    pub(super) client: SocketAddr,
    pub(super) grant: Grant,
    /// Which viewer or member of the stream, counted from 1; 0 for a publisher.
    pub(super) number: u64,
    /// What the shards know; `None` while the client has to answer an offer of the server.
    pub(super) session: Option<Arc<Session>>,
    /// Its newest ICE session, if there was a restart.
    pub(super) restarted: Option<Box<Restarted>>,
    /// Our credentials in an offer of our own that waits for its answer.
    pub(super) offered: Option<IceCredentials>,
    pub(super) admitted: Instant,
    /// Until when the client must have connected.
    pub(super) deadline: Instant,
    /// When the handshake was finished; until then the session is half-open.
    pub(super) connected: Option<Instant>,
    /// Where its media comes from or goes to, and what it is sealed with.
    pub(super) path: Option<(Path, Profile)>,
    /// Of a publisher or a member.
    pub(super) meter: Option<Box<Meter>>,
    /// What a viewer cannot play, as far as the log has it.
    pub(super) missing: Missing,
    /// Of a viewer.
    pub(super) layers: ViewerLayers,
}

impl Sessions {
    pub(super) fn get(&self, id: SessionId) -> Option<&SessionEntry> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut SessionEntry> {
        self.by_id.get_mut(&id)
    }

    /// In the order in which they were admitted.
    pub(super) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.by_number.values().copied()
    }

    /// Takes a session in, which gets the next number.
    pub(super) fn enter(&mut self, now: Instant, applicant: &Applicant<'_>, number: u64) {
        self.last.0 += 1;
        self.by_number.insert(self.last, applicant.id);
        self.viewers += usize::from(applicant.purpose != Purpose::Publish);
        let entry = SessionEntry {
            session_number: self.last,
            stream: applicant.stream.clone(),
            caller: applicant.caller(),
            via: applicant.via,
            client: applicant.client,
            grant: applicant.grant.clone(),
            number,
            session: None,
            restarted: None,
            offered: None,
            admitted: now,
            deadline: now + applicant.timeout,
            connected: None,
            path: None,
            meter: None,
            missing: Missing::default(),
            layers: ViewerLayers::default(),
        };
        self.by_id.insert(applicant.id, entry);
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<SessionEntry> {
        let entry = self.by_id.remove(&id)?;
        self.by_number.remove(&entry.session_number);
        self.viewers -= usize::from(entry.caller.purpose != Purpose::Publish);
        Some(entry)
    }

    /// An answered session, and its newest ICE session if it was restarted.
    pub(crate) fn ice_session(&mut self, id: SessionId) -> Option<(&Arc<Session>, &mut Option<Box<Restarted>>)> {
        let entry = self.by_id.get_mut(&id)?;
        Some((entry.session.as_ref()?, &mut entry.restarted))
    }

    /// Whether the client of a session has not connected in time.
    pub(super) fn is_overdue(&self, now: Instant, id: SessionId) -> bool {
        self.by_id.get(&id).is_some_and(|entry| entry.is_overdue(now))
    }

    /// Sessions whose clients have not connected in time.
    pub(super) fn overdue(&self, now: Instant) -> Vec<SessionId> {
        let mut ids: Vec<SessionId> = self
            .by_id
            .iter()
            .filter(|(_, entry)| entry.is_overdue(now))
            .map(|(&id, _)| id)
            .collect();
        ids.sort_unstable();
        ids
    }
}

impl SessionEntry {
    fn is_overdue(&self, now: Instant) -> bool {
        self.connected.is_none() && self.deadline <= now
    }

    /// RTP that came from its client, bytes.
    pub(super) fn received_bytes(&self) -> u64 {
        self.session
            .as_ref()
            .map_or(0, |session| session.counters.rtp_bytes.value())
    }

    /// How long no RTP is known to have come from its client; `None` while it connects.
    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        let connected = self.connected?;
        let bytes = self.received_bytes();
        let last = match &self.meter {
            Some(meter) => meter.moved(now, bytes),
            None if bytes > 0 => now,
            None => connected,
        };
        Some(now.saturating_duration_since(last))
    }

    /// What it can play: everything, as long as its answer is not known.
    pub(super) fn playable(&self) -> Playable {
        self.session.as_deref().map(Playable::of).unwrap_or_default()
    }

    /// What it cannot play of a stream in these codecs (audio, video), unless the log has it already.
    pub(super) fn newly_missing(&mut self, codecs: [Option<Codec>; 2]) -> Missing {
        let missing = self.playable().missing(codecs);
        let logged = std::mem::replace(&mut self.missing, missing);
        if logged == missing { Missing::default() } else { missing }
    }
}

impl fmt::Display for SessionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

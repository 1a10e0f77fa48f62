//! The end of a session, for whatever reason.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use onecast_engine::fanout::Command;
use onecast_rtc::SessionId;

use super::{Control, Now};
use crate::StreamName;
use crate::effect::{Effect, Notice};
use crate::ended::EndReason;
use crate::registry::Purpose;

/// Sessions that are to end, a few at a time: each end is a command for every shard, whose queues are bounded, and a message to a client.
#[derive(Debug, Default)]
pub(super) struct EndQueue {
    sessions: VecDeque<(SessionId, EndReason)>,
    next: Option<Instant>,
}

impl EndQueue {
    /// So many at once: a fraction of what the queue to a shard holds.
    pub(super) const BATCH: usize = 1_024;
    /// Between two batches the shards close the peers of the first.
    const PAUSE: Duration = Duration::from_millis(50);

    /// When the next batch is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next
    }

    fn take(&mut self, now: Instant) -> Vec<(SessionId, EndReason)> {
        let batch = self.sessions.len().min(EndQueue::BATCH);
        let batch = self.sessions.drain(..batch).collect();
        self.next = (!self.sessions.is_empty()).then(|| now + EndQueue::PAUSE);
        batch
    }
}

impl Control {
    /// Ends a session; false when it does not exist any more.
    pub(super) fn end(&mut self, now: Now, id: SessionId, why: EndReason) -> bool {
        let Some(ended) = self.registry.remove(now.instant, id) else {
            return false;
        };
        // First of all: a client that notices the end may ask why at once.
        self.registry.remember(now.unix, &ended, why.clone());
        self.events.end_session(id, &mut self.effects);
        if ended.purpose != Purpose::Watch {
            self.leave_room(now, id, &ended.stream);
        }
        self.announce(now, &ended.stream);
        let party = ended.party();
        if let Some(session) = ended.session {
            session.withdraw();
            self.command(Command::Close(session));
        }
        self.notice(Notice::Left {
            stream: ended.stream,
            party,
            connected: ended.connected,
            why,
            viewers: ended.viewers,
        });
        true
    }

    /// Ends many sessions: the first batch now, the others by [`handle_timeout`](Self::handle_timeout).
    pub(super) fn end_all(&mut self, now: Now, sessions: Vec<SessionId>, why: &EndReason) {
        let sessions = sessions.into_iter().map(|id| (id, why.clone()));
        self.ends.sessions.extend(sessions);
        // An earlier crowd is served first, at its own pace.
        if self.ends.next.is_none() {
            self.end_batch(now);
            self.effects.push_back(Effect::TimeoutChanged);
        }
    }

    /// Ends those whose turn it is.
    pub(super) fn end_due(&mut self, now: Now) {
        if self.ends.next.is_some_and(|next| next <= now.instant) {
            self.end_batch(now);
        }
    }

    fn end_batch(&mut self, now: Now) {
        for (id, why) in self.ends.take(now.instant) {
            self.end(now, id, why);
        }
    }

    /// Tells followers of the stream what it is like now, if it has any.
    pub(super) fn announce(&mut self, now: Now, stream: &StreamName) {
        if self.events.is_followed(stream) {
            let audience = self.registry.audience(now.instant, stream);
            self.events.announce(stream, audience, &mut self.effects);
        }
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        self.effects.push_back(Effect::Notice(notice));
    }
}

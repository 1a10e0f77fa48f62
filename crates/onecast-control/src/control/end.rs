//! The end of a session, for whatever reason.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use onecast_engine::fanout::Command;
use onecast_rtc::SessionId;

use super::{Control, Now};
use crate::StreamName;
use crate::effect::{Effect, Notice};
use crate::ended::EndReason;
use crate::registry::Purpose;

/// Sessions that are to end, a few at a time. The queues to the shards are bounded, and each end is a command for every shard: in a room
/// one for each other member besides, so commands are counted and not sessions.
#[derive(Debug, Default)]
pub(super) struct EndQueue {
    waiting: VecDeque<SessionId>,
    /// Those in `waiting`, and why: each waits once, however often its end is asked for.
    reasons: HashMap<SessionId, EndReason>,
    /// When the present window ends; the next one begins with the first end after that.
    window_end: Option<Instant>,
    /// Commands that ends have taken in the present window.
    spent: u64,
}

impl EndQueue {
    /// Commands in one window: a fraction of what the queue to a shard holds. The last end may exceed it by a command for each member of
    /// its room.
    pub(super) const COMMANDS_MAX: u64 = 1_024;
    /// Commands that a call may take although others wait, so a small stream does not wait behind a crowd.
    pub(super) const SHARE: u64 = 64;
    /// How long a window lasts: meanwhile the shards close the peers of the one before.
    pub(super) const WINDOW: Duration = Duration::from_millis(50);

    /// Queues an end. A session that waits already keeps its turn and its reason.
    pub(super) fn push(&mut self, id: SessionId, why: EndReason) {
        if !self.reasons.contains_key(&id) {
            self.waiting.push_back(id);
            self.reasons.insert(id, why);
        }
    }

    fn pop(&mut self) -> Option<(SessionId, EndReason)> {
        let id = self.waiting.pop_front()?;
        let why = self.reasons.remove(&id)?;
        Some((id, why))
    }

    /// Sessions that wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Gives a session that waits another reason. False if it does not wait.
    fn replace_reason(&mut self, id: SessionId, why: &EndReason) -> bool {
        let Some(reason) = self.reasons.get_mut(&id) else {
            return false;
        };
        *reason = why.clone();
        true
    }

    /// When the next batch is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.window_end.filter(|_| !self.waiting.is_empty())
    }

    /// Commands that the present window still has.
    fn left(&mut self, now: Instant) -> u64 {
        if self.window_end.is_none_or(|end| end <= now) {
            self.window_end = Some(now + EndQueue::WINDOW);
            self.spent = 0;
        }
        EndQueue::COMMANDS_MAX.saturating_sub(self.spent)
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

    /// Ends many sessions: as many as fit now, the others by [`handle_timeout`](Self::handle_timeout).
    pub(super) fn end_all(&mut self, now: Now, sessions: Vec<SessionId>, why: &EndReason) {
        // The window of those that wait is theirs: this call must not begin the next one, which would postpone them.
        let left = match self.ends.waiting.is_empty() {
            true => self.ends.left(now.instant),
            false => 0,
        };
        let mut share = left.max(EndQueue::SHARE);
        for id in sessions {
            // What waits already keeps its turn, but now ends whatever its client does meanwhile.
            if self.ends.replace_reason(id, why) {
                continue;
            }
            if share > 0 {
                share = share.saturating_sub(self.end_counted(now, id, why.clone()));
            } else {
                self.ends.push(id, why.clone());
            }
        }
        if self.ends.due().is_some() {
            self.effects.push_back(Effect::TimeoutChanged);
        }
    }

    /// Ends those whose turn it is.
    pub(super) fn end_due(&mut self, now: Now) {
        if self.ends.due().is_some_and(|due| due <= now.instant) {
            self.end_batch(now);
        }
    }

    /// Ends as many of those that wait as the present window and the queues to the shards allow.
    pub(super) fn end_batch(&mut self, now: Now) {
        while self.ends.left(now.instant) > 0 && !self.shards_busy {
            let Some((id, why)) = self.ends.pop() else { return };
            if self.still_holds(now, id, &why) {
                self.end_counted(now, id, why);
            }
        }
    }

    /// Whether a reason is still true: a client may have connected, answered or come back while its end waited. If it fails again, the
    /// sweep finds that out.
    fn still_holds(&self, now: Now, id: SessionId, why: &EndReason) -> bool {
        match why {
            EndReason::NeverCame | EndReason::NoAnswer => self.registry.is_overdue(now.instant, id),
            EndReason::Unanswered | EndReason::Unfollowed => self.rooms.is_overdue(now.instant, id),
            _ => true,
        }
    }

    /// Ends a session within the present window. Gives what it took: its commands, but at least 1, because an end without commands is work
    /// all the same.
    fn end_counted(&mut self, now: Now, id: SessionId, why: EndReason) -> u64 {
        let before = self.commands;
        self.end(now, id, why);
        let took = (self.commands - before).max(1);
        self.ends.spent += took;
        took
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

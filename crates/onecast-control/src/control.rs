//! The state machine of the control plane: streams, sessions, conference rooms, event streams and the drain.
//!
//! Input comes in by `handle_*` with the time, in any order. Output waits in [`poll_effect`](Control::poll_effect): commands for the
//! shards, updates for waiting requests and notices for the log. The caller takes it out before it lets another thread in, so effects
//! keep their order.
//!
//! ```text
//!  HTTP, cluster ── handle_publish, handle_watch, handle_patch .. ──> Control ── poll_effect ──> commands to shards, state for
//!  shards        ── handle_event ─────────────────────────────────>          ──               waiting requests, notices for the log
//!  time          ── handle_timeout ───────────────────────────────>
//! ```

mod conference;
mod end;
mod events;
mod join;
mod layers;
mod operation;
mod patch;
mod read;
mod shard_events;
mod sweep;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onecast_engine::fanout::Command;
use onecast_engine::media::Inbox;
use onecast_engine::watchdog::Watchdog;

use crate::conference::Rooms;
use crate::drain::{DrainOrder, Lifecycle};
use crate::effect::{Effect, Effects};
use crate::refusal::Refusal;
use crate::registry::{Limits, Registry};
use crate::whep_events::WhepEvents;
pub use conference::NextOffer;
use end::EndQueue;
pub use join::{CounterOffered, Join, ParsedOffer, PastedOffer};
use onecast_metrics::AdmissionCounts;

/// One moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For everything that is measured.
    pub instant: Instant,
    /// Time since 1970, for everything that people read.
    pub unix: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Control {
    registry: Registry,
    rooms: Rooms,
    events: WhepEvents,
    lifecycle: Lifecycle,
    watchdog: Watchdog,
    ends: EndQueue,
    effects: Effects,
    /// Commands decided so far.
    commands: u64,
    /// The queues to the shards are nearly full.
    shards_busy: bool,
    /// What admission had counted when the log last said it.
    refused: AdmissionCounts,
    sweep_at: Instant,
}

/// What a [`Control`] is started with.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Bounds.
    pub limits: Limits,
    /// How the server drains unless the order says otherwise.
    pub drain: DrainOrder,
    /// Where the packets of each stream go: one inbox for each shard.
    pub inboxes: Arc<[Arc<Inbox>]>,
    /// A random number from which the SSRCs of all streams are made.
    pub ssrc_mask: u32,
}

impl Control {
    /// How often limits and silences are checked: a reader of the log or of the API notices no delay, and it costs nothing.
    const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

    /// A server without streams.
    pub fn new(now: Now, config: ControlConfig) -> Control {
        let shards = config.inboxes.len();
        Control {
            registry: Registry::new(config.limits, config.inboxes, config.ssrc_mask),
            rooms: Rooms::default(),
            events: WhepEvents::default(),
            lifecycle: Lifecycle::new(config.drain),
            watchdog: Watchdog::new(shards, now.instant),
            ends: EndQueue::default(),
            effects: VecDeque::new(),
            commands: 0,
            shards_busy: false,
            refused: AdmissionCounts::default(),
            sweep_at: now.instant + Control::SWEEP_INTERVAL,
        }
    }

    /// The next thing that follows for the rest of the server.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due. [`Effect::TimeoutChanged`] announces an earlier time.
    pub fn poll_timeout(&self) -> Instant {
        self.ends.due().map_or(self.sweep_at, |due| due.min(self.sweep_at))
    }

    /// Sets whether the queues to the shards are nearly full. Only the caller fills them, so room that it sees before a call is there
    /// during the call.
    pub fn set_shards_busy(&mut self, busy: bool) {
        self.shards_busy = busy;
    }

    /// Applies other bounds. Sessions that exceed them stay.
    pub fn set_limits(&mut self, limits: Limits) {
        self.registry.set_limits(limits);
        self.command(Command::PeersMax(limits.peers()));
    }

    fn command(&mut self, command: Command) {
        self.commands += 1;
        self.effects.push_back(Effect::Command(command));
    }

    fn check_shards(&self) -> Result<(), Refusal> {
        if self.shards_busy {
            return Err(Refusal::Overloaded);
        }
        Ok(())
    }
}

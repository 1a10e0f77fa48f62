//! The one lock of the control plane.
//!
//! Each operation locks it once, calls the state machine and takes out the effects before it lets the next one in, so effects keep the
//! order in which they were decided. Commands go into the queues of the shards at once. What costs more and needs no order waits until
//! the lock is released: waking threads and waiting requests, and writing the log.

use std::sync::{Arc, Mutex, PoisonError};

use onecast_control::effect::{Effect, Notice};
use onecast_control::{Control, Now};
use onecast_engine::fanout::Command;
use tracing::warn;

use super::channels::{Channels, Update};
use super::log;
use crate::shard_loop::Mailbox;
use onecast_udp::clock;

/// Everything that is decided in one place, and the way to the shards.
pub(super) struct Plane {
    state: Mutex<State>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    /// Rung when a timeout is due earlier than before.
    rearm: tokio::sync::Notify,
}

/// What the lock guards.
pub(super) struct State {
    pub(super) control: Control,
    pub(super) channels: Channels,
}

/// What an operation leaves to be done without the lock.
#[derive(Default)]
struct Aftermath {
    commands: bool,
    rearm: bool,
    updates: Vec<Update>,
    undelivered: Vec<Command>,
    notices: Vec<Notice>,
}

impl Plane {
    /// Places in the queue to a shard that joins leave free: a change in a room of a hundred is a command for each member, and the end of
    /// a session must find a place.
    const RESERVED_COMMANDS: usize = Mailbox::COMMANDS_MAX / 16;

    pub(super) fn new(control: Control, mailboxes: Arc<[Arc<Mailbox>]>) -> Plane {
        let state = State {
            control,
            channels: Channels::default(),
        };
        Plane {
            state: Mutex::new(state),
            mailboxes,
            rearm: tokio::sync::Notify::new(),
        }
    }

    /// Does something with the state machine, and what follows from it.
    pub(super) fn control<T>(&self, act: impl FnOnce(&mut Control, Now) -> T) -> T {
        self.with(|state, now| act(&mut state.control, now))
    }

    /// The same where a request begins to wait for changes.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State, Now) -> T) -> T {
        // Nothing that is locked panics half-way, so a poisoned state is still whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.control.set_shards_busy(self.are_shards_busy());
        let done = act(&mut state, now());
        let aftermath = self.apply_effects(&mut state);
        drop(state);
        self.finish(aftermath);
        done
    }

    /// Returns when a timeout is due earlier than before.
    pub(super) async fn rearmed(&self) {
        self.rearm.notified().await;
    }

    fn are_shards_busy(&self) -> bool {
        let busy = Mailbox::COMMANDS_MAX - Plane::RESERVED_COMMANDS;
        self.mailboxes.iter().any(|mailbox| mailbox.commands() >= busy)
    }

    fn apply_effects(&self, state: &mut State) -> Aftermath {
        let mut aftermath = Aftermath::default();
        while let Some(effect) = state.control.poll_effect() {
            match effect {
                Effect::Command(command) => {
                    aftermath.commands = true;
                    if !self.push(&command) {
                        aftermath.undelivered.push(command);
                    }
                }
                Effect::TimeoutChanged => aftermath.rearm = true,
                Effect::Notice(notice) => aftermath.notices.push(notice),
                other => aftermath.updates.extend(state.channels.apply(other)),
            }
        }
        aftermath
    }

    /// Gives every shard the command; false when one of them has no room. The others have it all the same.
    fn push(&self, command: &Command) -> bool {
        let mailboxes = self.mailboxes.iter();
        mailboxes.filter(|mailbox| mailbox.push(command.clone())).count() == self.mailboxes.len()
    }

    fn finish(&self, aftermath: Aftermath) {
        if aftermath.commands {
            self.mailboxes.iter().for_each(|mailbox| mailbox.wake());
        }
        aftermath.updates.into_iter().for_each(Update::send);
        if aftermath.rearm {
            self.rearm.notify_one();
        }
        aftermath.undelivered.iter().for_each(report_undelivered);
        aftermath.notices.into_iter().for_each(log::write);
    }
}

fn report_undelivered(command: &Command) {
    match command {
        Command::Close(_) => warn!("a media thread is overloaded: a peer will end by itself when its consent expires"),
        Command::Plan(..) => {
            warn!(
                "a media thread is overloaded and missed a change of what a client is sent; the next change brings it"
            )
        }
        Command::PeersMax(_) => {
            warn!("a media thread is overloaded and keeps its limit of peers; reload the configuration again")
        }
        Command::Expect(_) | Command::Restart(_) => {
            warn!("a media thread is overloaded: a client that connects to it will not be served")
        }
        Command::Shutdown => warn!("a media thread is overloaded and does not stop"),
    }
}

/// The present moment.
pub(super) fn now() -> Now {
    Now {
        instant: clock::now(),
        unix: clock::unix_time(),
    }
}

#[cfg(test)]
mod tests {
    use onecast_control::drain::DrainOrder;
    use onecast_control::{ControlConfig, Grant, Join, Refusal, StreamName};
    use onecast_rtc::SessionId;
    use onecast_udp::socket::{self, MediaSocketConfig};

    use super::super::AppConfig;
    use super::super::random::credentials;
    use super::*;

    fn watch(plane: &Plane, number: u8) -> Result<(), Refusal> {
        let (stream, grant, local) = (StreamName::default(), Grant::default(), credentials());
        let join = Join {
            id: SessionId::from_random([number; 16]),
            local: &local,
            stream: &stream,
            client: ([127, 0, 0, 1], 1).into(),
            grant: &grant,
        };
        plane.control(|control, now| control.handle_counter_offer(now, join).map(drop))
    }

    #[test]
    fn clients_are_refused_while_the_queue_to_a_shard_is_nearly_full() {
        let config = MediaSocketConfig {
            address: ([127, 0, 0, 1], 0).into(),
            shards: 1,
            ..MediaSocketConfig::default()
        };
        let sockets = socket::bind(&config).unwrap();
        let mailboxes: Arc<[_]> = Arc::new([Arc::new(Mailbox::new(sockets[0].waker()))]);
        let control = ControlConfig {
            limits: AppConfig::on_loopback(1).limits,
            drain: DrainOrder::default(),
            inboxes: Arc::new([]),
            ssrc_mask: 7,
        };
        let plane = Plane::new(Control::new(now(), control), mailboxes.clone());
        watch(&plane, 1).unwrap();
        // Nothing empties the mailbox.
        while mailboxes[0].commands() < Mailbox::COMMANDS_MAX - Plane::RESERVED_COMMANDS {
            assert!(mailboxes[0].push(Command::PeersMax(1)));
        }
        assert_eq!(watch(&plane, 2), Err(Refusal::Overloaded));
        let before = mailboxes[0].commands();
        plane.control(|control, _| control.handle_shutdown());
        assert_eq!(mailboxes[0].commands(), before + 1, "other commands have a reserve");
    }
}

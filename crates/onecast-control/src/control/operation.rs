//! What clients and operators end, and the drain.

use onecast_engine::fanout::Command;
use onecast_rtc::SessionId;

use super::{Control, Now};
use crate::StreamName;
use crate::drain::DrainOrder;
use crate::effect::Notice;
use crate::ended::{EndReason, Note};
use crate::port::{Condition, DrainState, Protocol};
use crate::refusal::Refusal;
use crate::registry::SessionNumber;
use crate::whep_events::ReconnectNotice;

impl Control {
    /// A client ends its session.
    ///
    /// # Errors
    /// When there is no such session.
    pub fn handle_close(&mut self, now: Now, id: SessionId, protocol: Protocol) -> Result<(), Refusal> {
        if !self.exists(id, protocol) {
            return Err(self.gone(id));
        }
        self.end(now, id, EndReason::Goodbye);
        Ok(())
    }

    /// The operator ends a session.
    ///
    /// # Errors
    /// When no session has this number.
    pub fn handle_kick(&mut self, now: Now, number: SessionNumber, note: Option<Note>) -> Result<(), Refusal> {
        let id = self.registry.find(number).ok_or(Refusal::UnknownNumber)?;
        self.end(now, id, EndReason::Operator(note));
        Ok(())
    }

    /// The operator ends the publisher of a stream, and its viewers if they are meant, too. Gives how many sessions that are.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn handle_end_stream(
        &mut self,
        now: Now,
        stream: &StreamName,
        with_viewers: bool,
        note: Option<Note>,
    ) -> Result<usize, Refusal> {
        if !self.registry.has(stream) {
            return Err(Refusal::UnknownStream);
        }
        let sessions = self.registry.of_stream(stream, with_viewers);
        let count = sessions.len();
        self.end_all(now, sessions, &EndReason::Operator(note));
        Ok(count)
    }

    /// Accepts no new clients from now on. What the order does not say is as configured, or as ordered before.
    pub fn handle_drain(&mut self, now: Now, order: DrainOrder) -> DrainState {
        let begun = !self.lifecycle.is_draining();
        let is_news = self.lifecycle.drain(now.instant, order);
        let sessions = self.registry.len();
        let state = self.drain_state(now).expect("it has just begun, and nothing ends it");
        self.notice(Notice::Draining(state.clone()));
        if begun {
            self.notice(Notice::DrainBegun { sessions });
        }
        if is_news {
            self.ask_to_reconnect(ReconnectNotice { to: state.to.clone() });
        }
        state
    }

    /// The server stops: every peer is closed.
    pub fn handle_shutdown(&mut self) {
        self.lifecycle.stop();
        self.command(Command::Shutdown);
    }

    /// How far the drain is; `None` when it was not ordered.
    pub fn drain_state(&self, now: Now) -> Option<DrainState> {
        self.lifecycle.drain_state(now, self.registry.len())
    }

    /// Whether the server takes clients.
    pub fn condition(&self, now: Now) -> Condition {
        let stuck = self.watchdog.stuck(now.instant);
        match () {
            () if self.lifecycle.is_stopping() => Condition::Stopping,
            () if !stuck.is_empty() => Condition::Stuck(stuck),
            () if self.lifecycle.is_draining() => Condition::Draining,
            () => Condition::Ready,
        }
    }

    pub(super) fn report_drain(&mut self, now: Now) {
        let sessions = self.registry.len();
        if let Some(state) = self.lifecycle.due_report(now, sessions) {
            self.notice(Notice::Draining(state));
        }
    }
}

//! What operators see and do.

use onecast_control::drain::DrainOrder;
use onecast_control::ended::{End, EndReason, Note};
use onecast_control::port::{Condition, DrainState, Operation};
use onecast_control::registry::{SessionFilter, SessionNumber, SessionState};
use onecast_control::whep_events::ReconnectNotice;
use onecast_control::{Refusal, StreamName};
use onecast_rtc::SessionId;

use super::App;

impl Operation for App {
    fn sessions(&self, filter: &SessionFilter) -> Vec<SessionState> {
        self.plane().control(|control, now| control.sessions(now, filter))
    }

    fn session(&self, number: SessionNumber) -> Option<SessionState> {
        self.plane().control(|control, now| control.session(now, number))
    }

    fn ended(&self, limit: usize) -> Vec<End> {
        self.plane().control(|control, _| control.ended(limit))
    }

    fn why_ended(&self, session: SessionId) -> Option<EndReason> {
        self.plane().control(|control, _| control.why_ended(session))
    }

    fn kick(&self, number: SessionNumber, note: Option<Note>) -> Result<(), Refusal> {
        self.plane()
            .control(|control, now| control.handle_kick(now, number, note))
    }

    fn end_stream(&self, stream: &StreamName, with_viewers: bool, note: Option<Note>) -> Result<usize, Refusal> {
        self.plane()
            .control(|control, now| control.handle_end_stream(now, stream, with_viewers, note))
    }

    fn drain(&self, order: DrainOrder) -> DrainState {
        self.plane().control(|control, now| control.handle_drain(now, order))
    }

    fn drain_state(&self) -> Option<DrainState> {
        self.plane().control(|control, now| control.drain_state(now))
    }

    fn condition(&self) -> Condition {
        self.plane().control(|control, now| control.condition(now))
    }
}

impl App {
    /// Asks every viewer that has an event stream, now or later, to reconnect.
    pub fn ask_to_reconnect(&self, notice: ReconnectNotice) {
        self.plane().control(|control, _| control.ask_to_reconnect(notice));
    }
}

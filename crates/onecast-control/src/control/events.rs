//! Event streams of viewers.

use onecast_rtc::SessionId;

use super::{Control, Now};
use crate::playable::Playable;
use crate::refusal::Refusal;
use crate::registry::Purpose;
use crate::whep_events::{EventSet, EventStreamId, EventsOf, NewEvents, ReconnectNotice};

impl Control {
    /// Opens an event stream of a viewer's session. It ends with the session.
    ///
    /// # Errors
    /// When there is no such session, or it has as many as it may.
    pub fn handle_open_events(
        &mut self,
        now: Now,
        session: SessionId,
        wanted: EventSet,
        new: NewEvents,
    ) -> Result<(), Refusal> {
        if self.registry.purpose(session) != Some(Purpose::Watch) {
            return Err(Refusal::UnknownSession);
        }
        let stream = self.registry.stream_of(session).ok_or(Refusal::UnknownSession)?;
        let audience = self.registry.audience(now.instant, &stream);
        let of = EventsOf {
            session,
            stream,
            wanted,
        };
        self.events.open(new, of, audience, &mut self.effects)
    }

    /// Ends an event stream.
    ///
    /// # Errors
    /// When there is no such event stream.
    pub fn handle_close_events(&mut self, id: EventStreamId) -> Result<(), Refusal> {
        match self.events.close(id, &mut self.effects) {
            true => Ok(()),
            false => Err(Refusal::UnknownEventStream),
        }
    }

    /// What an event stream is about, what its viewer can play, and on which m-line it receives video.
    ///
    /// # Errors
    /// When there is no such event stream.
    pub fn events_of(&self, id: EventStreamId) -> Result<(EventsOf, Playable, Option<u8>), Refusal> {
        let of = self.events.get(id).ok_or(Refusal::UnknownEventStream)?;
        let playable = self.registry.playable(of.session);
        let video_line = self.registry.video_line(of.session);
        Ok((of, playable, video_line))
    }

    /// Asks every viewer that has an event stream, now or later, to reconnect.
    pub fn ask_to_reconnect(&mut self, notice: ReconnectNotice) {
        self.events.ask_to_reconnect(notice, &mut self.effects);
    }
}

//! PATCH of a session: ICE candidates and ICE restarts.

use std::sync::Arc;

use onecast_engine::fanout::{Command, Restart};
use onecast_rtc::sdp::{Fragment, SdpError};
use onecast_rtc::{IceCredentials, SessionId};

use super::{Control, Now};
use crate::ice_session::{IceChange, IcePatch, Precondition};
use crate::port::Protocol;
use crate::refusal::Refusal;

impl Control {
    /// A PATCH of a session. Gives the ICE restart that it asks for; `fresh` are our credentials in it. `None` for candidates: as an
    /// ICE-lite agent we send no checks, so we need none.
    ///
    /// # Errors
    /// When there is no such session, the fragment cannot be read, or it is not for the newest ICE session.
    pub fn handle_patch(
        &mut self,
        now: Now,
        (session, protocol): (SessionId, Protocol),
        condition: &Precondition,
        fragment: Result<&Fragment, SdpError>,
        fresh: &IceCredentials,
    ) -> Result<Option<Arc<Restart>>, Refusal> {
        if !self.exists(session, protocol) {
            return Err(self.gone(session));
        }
        let patch = IcePatch {
            session,
            condition,
            fragment: fragment?,
        };
        let sessions = &mut self.registry.sessions;
        match sessions.patch(now.instant, patch, fresh, self.shards_busy)? {
            IceChange::Trickled => Ok(None),
            IceChange::Restarted(restart) => {
                self.command(Command::Restart(restart.clone()));
                Ok(Some(restart))
            }
        }
    }
}

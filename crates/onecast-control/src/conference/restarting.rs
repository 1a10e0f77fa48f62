//! The connection under a member's call: certificates stay, and an ICE session is followed by another only where the client offers that.

use std::time::Instant;

use super::member::Seat;
use super::rooms::{OpenTracks, Rooms};
use super::{RoomError, Words};
use crate::ice_session::PatchRefused;
use onecast_rtc::sdp::CallParams;
use onecast_rtc::{IceCredentials, RemoteTransport, SessionId};

/// What an ICE restart takes.
pub struct IceRestart<'a> {
    /// Our new credentials.
    pub ice: IceCredentials,
    /// Tells the shards of it: the client's new credentials and ours. On an error they have heard of nothing.
    pub tell: &'a mut dyn FnMut(&IceCredentials, &IceCredentials) -> Result<(), PatchRefused>,
}

impl Rooms {
    /// The offer that [`offer`](Self::offer) has refused as one that restarts ICE (RFC 8445 section 2.4, RFC 9429 section 5.2.1).
    ///
    /// # Errors
    /// As there, and when the restart is refused; then nothing has changed.
    pub fn restart(
        &mut self,
        now: Instant,
        id: SessionId,
        said: (&str, &Words),
        may_send: bool,
        open: OpenTracks<'_>,
        restart: IceRestart<'_>,
    ) -> Result<String, RoomError> {
        self.take_offer(now, id, said, may_send, open, Some(restart))
    }
}

impl Seat {
    /// Answers an offer of the client. `check` sees what would be agreed, and may refuse it. After an error the call is to be put back.
    pub(super) fn renegotiate(
        &mut self,
        offer: &str,
        restart: Option<IceRestart<'_>>,
        check: impl FnOnce(&Seat) -> Result<(), RoomError>,
    ) -> Result<String, RoomError> {
        let before = self.call.remote().cloned();
        let ours = restart
            .as_ref()
            .map_or(&self.params.ice, |restart| &restart.ice)
            .clone();
        let params = CallParams {
            ice: ours,
            ..self.params.clone()
        };
        let answer = self.call.handle_offer(offer, &params).map_err(RoomError::Call)?;
        let restarted = self.restarted(before.as_ref())?;
        check(self)?;
        match (restarted, restart) {
            (Some(theirs), Some(restart)) => (restart.tell)(&theirs, &params.ice).map_err(RoomError::Restart)?,
            (None, None) => {}
            (Some(_), None) => return Err(RoomError::RestartsIce),
            // Somebody else has done it meanwhile.
            (None, Some(_)) => return Err(RoomError::JoinAnew),
        }
        self.params = params;
        Ok(answer)
    }

    /// Takes an answer of the client, which goes on over the connection that there is: only an offer restarts ICE.
    pub(super) fn take_answer(&mut self, answer: &str) -> Result<(), RoomError> {
        let before = self.call.clone();
        self.call.handle_answer(answer).map_err(RoomError::Call)?;
        let refused = match self.restarted(before.remote()) {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => RoomError::JoinAnew,
            Err(error) => error,
        };
        self.call = before;
        Err(refused)
    }

    /// The client's ICE credentials, if they are others than before.
    fn restarted(&self, before: Option<&RemoteTransport>) -> Result<Option<IceCredentials>, RoomError> {
        match (before, self.call.remote()) {
            (Some(before), Some(now)) if before.fingerprints != now.fingerprints => Err(RoomError::OtherCertificate),
            (Some(before), Some(now)) if before.ice != now.ice => Ok(Some(now.ice.clone())),
            _ => Ok(None),
        }
    }
}

//! The connection under a member's call: certificates stay, and an ICE session is followed by another only where the client offers that.

use onecast_rtc::sdp::MemberDescription;
use onecast_rtc::{IceCredentials, RemoteTransport};

use super::member::MemberSignalling;
use crate::refusal::Refusal;

/// What an ICE restart takes, if an offer asks for one.
pub struct IceRestart<'a> {
    /// Our new credentials.
    pub ice: IceCredentials,
    /// Starts it, with the client's new credentials and ours. On an error nothing has changed.
    pub start: &'a mut dyn FnMut(&IceCredentials, &IceCredentials) -> Result<(), Refusal>,
}

impl MemberSignalling {
    /// Answers an offer of the client. `check` sees what would be agreed, and may refuse it. After an error the call is to be put back.
    ///
    /// An offer with other ICE credentials restarts ICE (RFC 8445 section 2.4, RFC 9429 section 5.2.1).
    pub(super) fn renegotiate(
        &mut self,
        offer: MemberDescription<'_>,
        restart: IceRestart<'_>,
        check: impl FnOnce(&MemberSignalling) -> Result<(), Refusal>,
    ) -> Result<String, Refusal> {
        let before = self.call.remote().cloned();
        let offer = self.call.resolve(offer)?;
        let change = change_of_ice(before.as_ref(), Some(offer.remote()));
        let mut params = self.params.clone();
        if matches!(change, Ok(Some(_))) {
            params.ice = restart.ice;
        }
        let answer = self.call.accept(&offer, &params)?;
        let change = change?;
        check(self)?;
        if let Some(theirs) = change {
            (restart.start)(&theirs, &params.ice).map_err(|refusal| match refusal {
                // There is no way back to what came before the newest ICE session.
                Refusal::StaleIceSession => Refusal::JoinAnew,
                other => other,
            })?;
        }
        self.params = params;
        Ok(answer)
    }

    /// Takes an answer of the client, which goes on over the connection that there is: only an offer restarts ICE.
    pub(super) fn take_answer(&mut self, answer: MemberDescription<'_>) -> Result<(), Refusal> {
        let before = self.call.clone();
        self.call.accept_answer(answer)?;
        let refused = match change_of_ice(before.remote(), self.call.remote()) {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => Refusal::JoinAnew,
            Err(refusal) => refusal,
        };
        self.call = before;
        Err(refused)
    }
}

/// The client's ICE credentials, if they are others than before.
fn change_of_ice(
    before: Option<&RemoteTransport>,
    now: Option<&RemoteTransport>,
) -> Result<Option<IceCredentials>, Refusal> {
    match (before, now) {
        (Some(before), Some(now)) if before.fingerprints != now.fingerprints => Err(Refusal::OtherCertificate),
        (Some(before), Some(now)) if before.ice != now.ice => Ok(Some(now.ice.clone())),
        _ => Ok(None),
    }
}

//! The first offer of a client to a room: it can be answered before the room is known.

use onecast_rtc::RemoteTransport;
use onecast_rtc::sdp::{MemberDescription, Negotiation, NegotiationParams, ReceivedLine, SdpError};

use crate::refusal::Refusal;
use crate::registry::Purpose;

/// The first offer of a client to a room, answered. It depends on nothing in the room.
#[derive(Debug)]
pub struct InitialOffer {
    pub(super) call: Negotiation,
    pub(super) params: NegotiationParams,
    pub(super) remote: RemoteTransport,
}

impl InitialOffer {
    /// Answers the offer. `params` is our side of the connection. Gives the answer's SDP, too.
    ///
    /// # Errors
    /// What is wrong with the offer.
    pub fn answer(offer: &str, params: NegotiationParams) -> Result<(InitialOffer, String), SdpError> {
        let mut call = Negotiation::new();
        let offer = call.resolve(MemberDescription::read(offer))?;
        let answer = call.accept(&offer, &params)?;
        let remote = offer.remote().clone();
        Ok((InitialOffer { call, params, remote }, answer))
    }

    /// Refuses an offer that sends if its client may not.
    ///
    /// # Errors
    /// When it is so.
    pub fn check_may_send(&self, may_send: bool) -> Result<(), Refusal> {
        check_may_send(&self.call, &[], may_send)
    }
}

/// A member that may not send keeps the lines on which it sent before, if there are any.
pub(super) fn check_may_send(call: &Negotiation, before: &[ReceivedLine], may_send: bool) -> Result<(), Refusal> {
    let is_new = |line: &ReceivedLine| before.iter().all(|known| known.line.mid != line.line.mid);
    if !may_send && call.received().any(is_new) {
        return Err(Refusal::NotAllowed(Purpose::Publish));
    }
    Ok(())
}

//! Conference rooms, as their clients use them.

use std::sync::Arc;

use onecast_control::conference::{Change, InitialOffer, MemberInfo, Roster, ServerOffer};
use onecast_control::port::{Conference, JoinedRoom, MemberOffer, PasteRights, Request};
use onecast_control::{NextOffer, Refusal, StreamName};
use onecast_rtc::SessionId;
use onecast_rtc::sdp::{MemberDescription, NegotiationParams};
use tracing::debug;

use super::App;
use super::random::{credentials, sdp_session_id};
use super::signalling::{join_of, new_session};

impl Conference for App {
    fn join(&self, request: Request<'_>, rights: PasteRights<'_>, words: &MemberInfo) -> Result<JoinedRoom, Refusal> {
        let (peer, local) = new_session();
        let params = NegotiationParams {
            ice: local.clone(),
            fingerprint: self.fingerprint(),
            candidates: self.candidates(request.local, request.client),
            session_id: sdp_session_id(),
        };
        let (offer, answer) = match InitialOffer::answer(request.offer, params) {
            Ok((offer, answer)) => (Ok(offer), answer),
            Err(error) => (Err(error), String::new()),
        };
        let join = join_of(&request, peer, &local);
        let id = self
            .plane()
            .control(|control, now| control.handle_room_join(now, join, rights, offer, words))?;
        debug!(room = %request.stream, client = %request.client, "offer of member {id} answered");
        Ok(JoinedRoom { peer, id, answer })
    }

    fn offer(&self, peer: SessionId, offer: MemberOffer<'_>) -> Result<String, Refusal> {
        let offer = NextOffer {
            description: MemberDescription::read(offer.sdp),
            words: offer.words,
            may_send: offer.may_send,
            ice: credentials(),
        };
        self.plane()
            .control(|control, now| control.handle_room_offer(now, peer, offer))
    }

    fn answer(&self, peer: SessionId, number: Option<u64>, answer: &str) -> Result<(), Refusal> {
        let answer = MemberDescription::read(answer);
        self.plane()
            .control(|control, now| control.handle_room_answer(now, peer, number, answer))
    }

    fn next_offer(&self, peer: SessionId) -> Result<Option<ServerOffer>, Refusal> {
        self.plane().control(|control, now| control.next_offer(now, peer))
    }

    fn change(&self, peer: SessionId, change: &Change) -> Result<(), Refusal> {
        self.plane()
            .control(|control, now| control.handle_change(now, peer, change))
    }

    fn leave(&self, peer: SessionId) -> Result<(), Refusal> {
        self.plane().control(|control, now| control.handle_leave(now, peer))
    }

    fn roster(&self, room: &StreamName) -> Option<Arc<Roster>> {
        self.plane().control(|control, _| control.roster(room))
    }
}

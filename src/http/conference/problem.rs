//! What only rooms refuse, in words.

use axum::http::StatusCode;

use crate::http::conference::RoomRefusal;
use crate::http::conference::messages::MessageError;
use crate::http::problem::Problem;
use crate::http::service::Refusal;

/// There is no such member.
pub(crate) fn unknown_peer() -> Problem {
    Problem::not_found("unknown-peer", "there is no such peer in any room, or it has left")
        .hint("Join again: POST /offer without peer_id. A peer's id is peer- and 32 hexadecimal digits.")
}

/// The problem that a refusal is to somebody who says that it is a member.
pub(crate) fn of_member(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::UnknownSession => unknown_peer(),
        other => other.into(),
    }
}

impl From<RoomRefusal> for Problem {
    fn from(refusal: RoomRefusal) -> Problem {
        match refusal {
            RoomRefusal::OfferPending { number } => conflict(
                "offer-pending",
                "The server's own offer comes first",
                format!("offer {number} of the server waits for an answer"),
            )
            .hint("Roll back, answer the server's offer, and send yours again."),
            RoomRefusal::NothingToAnswer => conflict(
                "no-offer-pending",
                "No answer is awaited",
                "no offer of the server waits for an answer of this peer",
            )
            .hint("GET /renegotiate/PEER has the offer when there is one."),
            RoomRefusal::StaleAnswer { number } => conflict(
                "stale-answer",
                "The answer is for an older offer",
                format!("offer {number} waits for an answer, and this one is for another"),
            )
            .hint("Fetch the newest offer and answer that."),
            RoomRefusal::TooManyOffers => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-offers",
                "Too many offers",
                "offers of this peer come faster than they may",
            )
            .hint("Gather changes into one offer.")
            .retry_after(RETRY_OFFER_S),
            RoomRefusal::Full { max } => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "room-full",
                "The room is full",
                format!("the room's limit of {max} peers is reached"),
            )
            .hint("Try again later, or raise --room-max-peers on the server.")
            .retry_after(RETRY_JOIN_S),
            RoomRefusal::OtherCertificate => unusable(
                "other-certificate",
                "the certificate's fingerprint is not that of the peer's first offer",
            )
            .hint("Offer with the same RTCPeerConnection, or join again with a new one."),
            RoomRefusal::JoinAnew => unusable(
                "join-anew",
                "the ICE credentials are not those of the peer's connection",
            )
            .hint("Join again: POST /offer without peer_id."),
        }
    }
}

impl From<MessageError> for Problem {
    fn from(error: MessageError) -> Problem {
        let detail = error.to_string();
        match error {
            MessageError::NotJson(_) | MessageError::NotAnObject => {
                Problem::bad_request("bad-json", detail).hint("Send one JSON object.")
            }
            MessageError::Missing { .. } | MessageError::Wrong { .. } => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad-field",
                "The request cannot be used",
                detail,
            ),
        }
    }
}

fn conflict(kind: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::CONFLICT, kind, title, detail)
}

fn unusable(kind: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, kind, "The SDP cannot be used", detail)
}

/// Offers are counted by the second.
const RETRY_OFFER_S: u16 = 1;
/// Places become free by people leaving.
const RETRY_JOIN_S: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_a_room_has_its_status_and_says_what_to_do() {
        for (refusal, kind, status) in [
            (RoomRefusal::OfferPending { number: 3 }, "offer-pending", 409),
            (RoomRefusal::NothingToAnswer, "no-offer-pending", 409),
            (RoomRefusal::StaleAnswer { number: 3 }, "stale-answer", 409),
            (RoomRefusal::TooManyOffers, "too-many-offers", 429),
            (RoomRefusal::Full { max: 3 }, "room-full", 503),
            (RoomRefusal::OtherCertificate, "other-certificate", 422),
            (RoomRefusal::JoinAnew, "join-anew", 422),
        ] {
            let problem = Problem::from(Refusal::Room(refusal));
            assert_eq!((problem.kind, problem.status.as_u16()), (kind, status));
            assert!(problem.hint.is_some(), "{kind}");
        }
        assert_eq!(of_member(Refusal::UnknownSession).kind, "unknown-peer");
        assert_eq!(of_member(Refusal::Overloaded).kind, "overloaded");
    }
}

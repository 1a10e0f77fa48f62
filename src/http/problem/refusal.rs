//! The problem that each refusal becomes: its row of the table, and the detail that only this request has.

use std::time::Duration;

use crate::http::problem::Problem;
use crate::http::problem::kinds::{self, ProblemKind};
use crate::http::timestamp;
use onecast_control::admission::{Busy, BusyCause};
use onecast_control::{CodecsOf, EndReason, Purpose, Refusal, SdpRefusal};

/// No room has this peer.
pub(crate) fn unknown_peer() -> Problem {
    Problem::new(kinds::UNKNOWN_PEER, "no room has this peer, or it has left")
}

/// The problem that a refusal is to a client that claims to be a member of a room.
pub(crate) fn of_member(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::UnknownSession => unknown_peer(),
        other => other.into(),
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let (kind, detail) = match refusal {
            Refusal::Sdp(refusal) => return refusal.into(),
            Refusal::Busy(busy) => return busy.into(),
            Refusal::Taken {
                since_unix,
                silent,
                retry_after,
            } => return taken(since_unix, silent, retry_after),
            Refusal::Ended(why) => return Problem::new(ended(&why), format!("the session has ended: {why}")),
            Refusal::TooManyStreams { max } => return limit(kinds::TOO_MANY_STREAMS, "server", max, "streams"),
            Refusal::Full { max } => return limit(kinds::FULL, "server", max, "viewers"),
            Refusal::StreamFull { max } => return limit(kinds::STREAM_FULL, "stream", max, "viewers"),
            Refusal::TooManyEventStreams { max } => {
                return limit(kinds::TOO_MANY_EVENT_STREAMS, "session", max, "event streams");
            }
            Refusal::UnknownLayer { known } => return unknown_layer(known),
            Refusal::TooManyChoices => (
                kinds::TOO_MANY_LAYER_CHANGES,
                "this viewer changes its choice faster than allowed",
            ),
            Refusal::NotAllowed(Purpose::Publish) => (kinds::FORBIDDEN, "the offer sends media, which is not allowed"),
            Refusal::NotAllowed(Purpose::Watch | Purpose::Participate) => {
                (kinds::FORBIDDEN, "the offer receives media, which is not allowed")
            }
            Refusal::Draining => (
                kinds::DRAINING,
                "the server is about to shut down and accepts no new sessions",
            ),
            Refusal::ShuttingDown => (
                kinds::SHUTTING_DOWN,
                "the server is shutting down and accepts no new sessions",
            ),
            Refusal::NoAnswerAwaited => (
                kinds::NO_ANSWER_AWAITED,
                "the session already has its answer, or began with an offer of the client",
            ),
            Refusal::UnknownNumber => (kinds::UNKNOWN_NUMBER, "there is no session with this number"),
            Refusal::UnknownStream => (kinds::UNKNOWN_STREAM, "there is no stream with this name"),
            Refusal::UnknownSession => (kinds::UNKNOWN_SESSION, "there is no such session, or it has ended"),
            Refusal::UnknownEventStream => (
                kinds::UNKNOWN_EVENT_STREAM,
                "there is no such event stream, or its session has ended",
            ),
            Refusal::StaleIceSession => (
                kinds::STALE_ICE_SESSION,
                "the request is for an ICE session that was restarted or never existed",
            ),
            Refusal::Unconditional => (
                kinds::NO_IF_MATCH,
                "without If-Match the server cannot tell which ICE session the request is for",
            ),
            Refusal::HalfRestart => (
                kinds::HALF_RESTART,
                "an ICE restart has a new a=ice-ufrag and a new a=ice-pwd, but only one of them is new",
            ),
            Refusal::RestartTooSoon => (kinds::TOO_MANY_RESTARTS, "a session may restart ICE once a second"),
            Refusal::Overloaded => (kinds::OVERLOADED, "the command queue of a media thread is full"),
            Refusal::OfferPending { number } => {
                let detail = format!("offer {number} of the server is waiting for an answer");
                return Problem::new(kinds::OFFER_PENDING, detail);
            }
            Refusal::StaleAnswer { number } => {
                let detail = format!("offer {number} is waiting for an answer, and this answer is for another offer");
                return Problem::new(kinds::STALE_ANSWER, detail);
            }
            Refusal::RoomFull { max } => return limit(kinds::ROOM_FULL, "room", max, "peers"),
            Refusal::NothingToAnswer => (
                kinds::NO_OFFER_PENDING,
                "no offer of the server is waiting for an answer of this peer",
            ),
            Refusal::TooManyOffers => (kinds::TOO_MANY_OFFERS, "this peer sends offers faster than allowed"),
            Refusal::OtherCertificate => (
                kinds::OTHER_CERTIFICATE,
                "the certificate's fingerprint is not that of the peer's first offer",
            ),
            Refusal::JoinAnew => (
                kinds::JOIN_ANEW,
                "the ICE credentials are not those of the peer's connection",
            ),
        };
        Problem::new(kind, detail)
    }
}

impl From<SdpRefusal> for Problem {
    fn from(refusal: SdpRefusal) -> Problem {
        let is_streams = refusal
            .codecs
            .as_ref()
            .is_some_and(|codecs| codecs.of == CodecsOf::Stream);
        let kind = match (is_streams, refusal.unusable) {
            (true, _) => kinds::CODEC_MISSING,
            (false, true) => kinds::SDP_UNUSABLE,
            (false, false) => kinds::SDP_INVALID,
        };
        let mut problem = Problem::new(kind, refusal.detail);
        if let Some(hint) = refusal.hint {
            problem = problem.with_hint(hint);
        }
        if let Some(codecs) = refusal.codecs {
            let needed = match codecs.of {
                CodecsOf::Stream => "stream_codecs",
                CodecsOf::Server => "server_codecs",
            };
            problem.lists = vec![(needed, codecs.needed), ("offer_codecs", codecs.offer)];
        }
        problem
    }
}

impl From<Busy> for Problem {
    fn from(busy: Busy) -> Problem {
        let max = busy.max;
        let clients = match busy.purpose {
            Purpose::Publish => "broadcasters",
            Purpose::Watch | Purpose::Participate => "viewers",
        };
        let (kind, detail, option) = match busy.cause {
            BusyCause::Rate => (
                kinds::TOO_MANY_JOINS,
                format!("more {clients} are joining than the {max} a second that the server accepts"),
                "--joins-per-second",
            ),
            BusyCause::HalfOpen => (
                kinds::TOO_MANY_HALF_OPEN,
                format!("{max} {clients} are connecting at the moment, which is the server's limit"),
                "--half-open-max",
            ),
            BusyCause::Address => (
                kinds::TOO_MANY_FROM_ADDRESS,
                format!("{max} {clients} from this address are connecting at the moment, which is the limit"),
                "--half-open-per-address",
            ),
            BusyCause::AddressRate => (
                kinds::TOO_MANY_JOINS_FROM_ADDRESS,
                format!("more {clients} from this address are joining than the {max} a second that the server accepts"),
                "--joins-per-address",
            ),
        };
        let of_address = matches!(busy.cause, BusyCause::Address | BusyCause::AddressRate);
        // No option raises the limits that publishers share.
        let hint = if busy.purpose == Purpose::Publish && !of_address {
            "Try again in a few seconds.".into()
        } else {
            format!("Try again in a few seconds, or raise {option} on the server.")
        };
        Problem::new(kind, detail)
            .with_hint(hint)
            .retry_within(busy.earliest_s, busy.latest_s)
    }
}

fn limit(kind: ProblemKind, of: &str, max: usize, what: &str) -> Problem {
    Problem::new(kind, format!("the {of}'s limit of {max} {what} is reached"))
}

fn unknown_layer(known: Vec<String>) -> Problem {
    let detail = if known.is_empty() {
        "the stream has no layers at the moment".to_owned()
    } else {
        format!("the stream has the layers {}", known.join(", "))
    };
    let mut problem = Problem::new(kinds::UNKNOWN_LAYER, detail);
    problem.lists = vec![("rids", known)];
    problem
}

/// Another client publishes the stream. It may be gone after `retry_after`.
fn taken(since_unix: Option<Duration>, silent: Option<Duration>, retry_after: Duration) -> Problem {
    let since = since_unix.map(|since| format!("since {}", timestamp::utc(since)));
    let detail = match (since, silent) {
        (Some(since), None) => format!("another broadcaster has been live on this stream {since}"),
        (Some(since), Some(silent)) => format!(
            "another broadcaster has been connected to this stream {since}, and has sent nothing for {} s",
            silent.as_secs()
        ),
        (None, _) => "another broadcaster is about to go live on this stream".to_owned(),
    };
    let seconds = retry_after.as_millis().div_ceil(1_000).clamp(1, 60) as u16;
    Problem::new(kinds::STREAM_TAKEN, detail).retry_within(seconds, seconds + 1)
}

fn ended(why: &EndReason) -> ProblemKind {
    match why {
        EndReason::Unanswered => kinds::OFFER_UNANSWERED,
        EndReason::Unfollowed => kinds::SOCKET_GONE,
        EndReason::Operator(_) => kinds::ENDED_BY_OPERATOR,
        EndReason::TakenOver => kinds::ENDED_BY_TAKEOVER,
        EndReason::Replaced { .. } => kinds::ENDED_BY_REPLACEMENT,
        EndReason::PlaceKept => kinds::ENDED_BY_BROADCASTER,
        _ => kinds::ENDED_BY_LIMIT,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::RETRY_AFTER;

    use super::*;

    fn retry_after(problem: &Problem) -> Option<u16> {
        problem
            .headers
            .get(RETRY_AFTER)
            .map(|value| value.to_str().unwrap().parse().unwrap())
    }

    fn taken(since_unix: Option<Duration>, silent: Option<Duration>) -> Refusal {
        Refusal::Taken {
            since_unix,
            silent,
            retry_after: Duration::from_millis(2_100),
        }
    }

    fn busy(purpose: Purpose, cause: BusyCause) -> Busy {
        Busy {
            purpose,
            cause,
            max: 7,
            earliest_s: 3,
            latest_s: 8,
        }
    }

    #[test]
    fn retries_of_a_crowd_are_spread_over_the_whole_interval() {
        let refusal = || Refusal::Busy(busy(Purpose::Watch, BusyCause::Rate));
        let waits: Vec<u16> = (0..1_000).filter_map(|_| retry_after(&refusal().into())).collect();
        for second in 3..=8 {
            assert!(waits.contains(&second), "{second}");
        }
        assert!(waits.len() == 1_000 && waits.iter().all(|wait| (3..=8).contains(wait)));
    }

    #[test]
    fn a_join_limit_is_named_with_its_option() {
        for (purpose, cause, said) in [
            (Purpose::Watch, BusyCause::Rate, "--joins-per-second"),
            (Purpose::Watch, BusyCause::HalfOpen, "--half-open-max"),
            (Purpose::Publish, BusyCause::Address, "--half-open-per-address"),
            (Purpose::Watch, BusyCause::AddressRate, "--joins-per-address"),
        ] {
            let problem = Problem::from(busy(purpose, cause));
            assert!(problem.hint().unwrap().contains(said));
            assert!(
                problem.detail.contains(" 7 ") || problem.detail.starts_with("7 "),
                "{}",
                problem.detail
            );
        }
        // No option raises this limit, so none is named.
        let publisher = Problem::from(busy(Purpose::Publish, BusyCause::Rate));
        assert!(publisher.detail.contains("broadcasters") && !publisher.hint().unwrap().contains("--"));
    }

    #[test]
    fn every_refusal_has_its_status() {
        let sdp = |unusable| {
            Refusal::Sdp(SdpRefusal {
                unusable,
                detail: "d".into(),
                hint: None,
                codecs: None,
            })
        };
        let cases = [
            (sdp(false), 400),
            (sdp(true), 422),
            (taken(None, None), 409),
            (Refusal::NoAnswerAwaited, 409),
            (Refusal::TooManyEventStreams { max: 2 }, 409),
            (Refusal::UnknownEventStream, 404),
            (Refusal::TooManyStreams { max: 1 }, 503),
            (Refusal::Full { max: 1 }, 503),
            (Refusal::Busy(busy(Purpose::Watch, BusyCause::Rate)), 503),
            (Refusal::Busy(busy(Purpose::Publish, BusyCause::HalfOpen)), 503),
            (Refusal::Busy(busy(Purpose::Watch, BusyCause::Address)), 429),
            (Refusal::Busy(busy(Purpose::Watch, BusyCause::AddressRate)), 429),
            (Refusal::StreamFull { max: 1 }, 503),
            (Refusal::Draining, 503),
            (Refusal::Ended(EndReason::Operator(None)), 404),
            (Refusal::Ended(EndReason::Unanswered), 404),
            (Refusal::Ended(EndReason::Unfollowed), 404),
            (Refusal::UnknownNumber, 404),
            (Refusal::NotAllowed(Purpose::Publish), 403),
            (Refusal::Ended(EndReason::TakenOver), 404),
            (Refusal::Ended(EndReason::PlaceKept), 404),
            (Refusal::ShuttingDown, 503),
            (Refusal::UnknownStream, 404),
            (Refusal::UnknownSession, 404),
            (Refusal::StaleIceSession, 412),
            (Refusal::Unconditional, 428),
            (Refusal::HalfRestart, 422),
            (Refusal::RestartTooSoon, 429),
            (Refusal::Overloaded, 503),
        ];
        for (refusal, status) in cases {
            assert_eq!(Problem::from(refusal.clone()).status().as_u16(), status, "{refusal:?}");
        }
    }

    #[test]
    fn clients_refused_together_retry_at_different_times() {
        let waits: Vec<u16> = (0..200)
            .map(|_| retry_after(&Refusal::Full { max: 1 }.into()).unwrap())
            .collect();
        assert!(waits.iter().all(|wait| (5..=10).contains(wait)));
        assert!(waits.iter().any(|wait| wait != &waits[0]));
    }

    #[test]
    fn only_temporary_problems_ask_for_a_retry() {
        assert_eq!(retry_after(&Refusal::NoAnswerAwaited.into()), None);
        assert_eq!(retry_after(&Refusal::TooManyEventStreams { max: 2 }.into()), None);
        assert_eq!(retry_after(&Refusal::UnknownSession.into()), None);
        assert!(retry_after(&taken(None, None).into()).is_some());
        assert!(retry_after(&Refusal::ShuttingDown.into()).is_some());
    }

    #[test]
    fn a_taken_stream_reports_since_when_and_when_to_retry() {
        let since = Some(Duration::from_secs(1_709_210_096));
        for (refusal, detail) in [
            (
                taken(since, None),
                "another broadcaster has been live on this stream since 2024-02-29T12:34:56Z",
            ),
            (
                taken(since, Some(Duration::from_millis(12_900))),
                "another broadcaster has been connected to this stream since 2024-02-29T12:34:56Z, and has sent nothing for 12 s",
            ),
            (
                taken(None, None),
                "another broadcaster is about to go live on this stream",
            ),
        ] {
            let problem = Problem::from(refusal);
            assert_eq!(problem.detail, detail);
            assert!((3..=4).contains(&retry_after(&problem).unwrap()));
        }
    }

    #[test]
    fn every_refusal_of_a_room_has_its_status_and_a_hint() {
        for (refusal, kind, status) in [
            (Refusal::OfferPending { number: 3 }, "offer-pending", 409),
            (Refusal::NothingToAnswer, "no-offer-pending", 409),
            (Refusal::StaleAnswer { number: 3 }, "stale-answer", 409),
            (Refusal::TooManyOffers, "too-many-offers", 429),
            (Refusal::RoomFull { max: 3 }, "room-full", 503),
            (Refusal::OtherCertificate, "other-certificate", 422),
            (Refusal::JoinAnew, "join-anew", 422),
        ] {
            let problem = Problem::from(refusal);
            assert_eq!((problem.name(), problem.status().as_u16()), (kind, status));
            assert!(problem.hint().is_some(), "{kind}");
        }
        assert_eq!(of_member(Refusal::UnknownSession).name(), "unknown-peer");
        assert_eq!(of_member(Refusal::Overloaded).name(), "overloaded");
    }
}

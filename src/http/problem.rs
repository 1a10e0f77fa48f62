//! Errors as responses: problem+json (RFC 9457) for WHIP, WHEP and the API, plain text for people at a terminal.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::{debug, info};

use crate::http::rfc3339;
use crate::http::service::{CodecsOf, Refusal, SdpRefusal};
use onecast_control::admission::{Busy, Cause};
use onecast_control::{EndReason, Purpose, StreamName};

/// Why a request was not done, and what to do about it. As a response it is problem+json; see [`Problem::into_text`].
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// Last part of the `type` URN: stable, for programs.
    pub(crate) kind: &'static str,
    /// The same in words: stable, for people.
    pub(crate) title: &'static str,
    pub(crate) detail: String,
    pub(crate) hint: Option<String>,
    /// More members, for programs.
    lists: Vec<(&'static str, Vec<String>)>,
    headers: HeaderMap,
}

impl Problem {
    /// A problem whose `detail` is one sentence about this very request, without a full stop.
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem {
            status,
            kind,
            title,
            detail: detail.into(),
            hint: None,
            lists: Vec::new(),
            headers: HeaderMap::new(),
        }
    }

    /// A request that cannot be understood.
    pub(crate) fn bad_request(kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(
            StatusCode::BAD_REQUEST,
            kind,
            "The request cannot be understood",
            detail,
        )
    }

    /// Something that is not there.
    pub(crate) fn not_found(kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, kind, "Not found", detail)
    }

    /// The same under another title: who asks is told what this is about.
    pub(crate) fn titled(self, title: &'static str) -> Problem {
        Problem { title, ..self }
    }

    /// Says what to do about it, in sentences.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Problem {
        Problem {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.insert(name, value);
        self
    }

    /// Asks to come back after `seconds` to twice as many.
    pub(crate) fn retry_after(self, seconds: u16) -> Problem {
        self.retry_within(seconds, 2 * seconds)
    }

    /// Asks to come back within a time, seconds: at random, so that those who were refused together do not come together.
    fn retry_within(self, earliest_s: u16, latest_s: u16) -> Problem {
        let spread = latest_s.saturating_sub(earliest_s);
        self.header(RETRY_AFTER, HeaderValue::from(earliest_s + random_up_to(spread)))
    }

    /// The problem that a refusal is, told in the log. Those of a crowd are told in sum, elsewhere.
    pub(crate) fn of_offer(what: &str, stream: &StreamName, client: SocketAddr, refusal: Refusal) -> Problem {
        let of_a_crowd = matches!(refusal, Refusal::Busy(_));
        let problem = Problem::from(refusal);
        if of_a_crowd {
            debug!(%stream, "{what} of {client} refused: {}", problem.detail);
        } else {
            info!(%stream, "{what} of {client} refused: {}", problem.detail);
        }
        problem
    }

    /// The response for a person at a terminal.
    pub(crate) fn into_text(self) -> Response {
        let hint = self.hint.map(|hint| format!("{hint}\n")).unwrap_or_default();
        let text = format!("{} ({}): {}.\n{hint}", self.title, self.status.as_u16(), self.detail);
        (
            self.status,
            self.headers,
            [(CONTENT_TYPE, "text/plain; charset=utf-8")],
            text,
        )
            .into_response()
    }

    /// The response in the form that suits who asks at `path`.
    pub(crate) fn into_response_at(self, path: &str) -> Response {
        let for_programs = FOR_PROGRAMS.iter().any(|prefix| path.starts_with(prefix));
        if for_programs {
            self.into_response()
        } else {
            self.into_text()
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:onecast:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(hint) = self.hint {
            body["hint"] = hint.into();
        }
        for (name, list) in self.lists {
            body[name] = list.into();
        }
        let headers = [(CONTENT_TYPE, "application/problem+json")];
        (self.status, self.headers, headers, body.to_string()).into_response()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        match refusal {
            Refusal::Sdp(refusal) => refusal.into(),
            Refusal::Taken {
                since_unix,
                silent,
                retry_after,
            } => taken(since_unix, silent, retry_after),
            Refusal::NoPublisher => {
                let detail = "nobody is live on this stream, and it does not let viewers wait";
                Problem::new(StatusCode::CONFLICT, "no-publisher", "Nobody is live", detail).retry_after(RETRY_SOON_S)
            }
            Refusal::TooManyStreams { max } => unavailable(
                "too-many-streams",
                format!("the server carries {max} streams, and that is its limit"),
            )
            .hint("Try again later, or raise --max-streams on the server."),
            Refusal::Full { max } => unavailable("full", format!("the server's limit of {max} viewers is reached"))
                .hint("Try again later, or raise --max-viewers on the server."),
            Refusal::StreamFull { max } => {
                unavailable("stream-full", format!("the stream's limit of {max} viewers is reached"))
                    .hint("Try again later, or raise --max-viewers-per-stream on the server.")
            }
            Refusal::Draining => unavailable("draining", "the server is about to leave and takes nobody in any more")
                .hint("Try again in a few seconds: another server may have its place by then."),
            Refusal::Ended(why) => ended(&why),
            Refusal::UnknownHandle => Problem::not_found("unknown-session", "there is no session of this number").hint(
                "GET /api/sessions has the numbers of those there are, and GET /api/ended why the last ones ended.",
            ),
            Refusal::Room(refusal) => refusal.into(),
            Refusal::Busy(busy) => busy.into(),
            Refusal::NotAllowed(purpose) => not_allowed(purpose),
            Refusal::ShuttingDown => unavailable("shutting-down", "the server is about to stop"),
            Refusal::NoAnswerAwaited => {
                let detail = "the session waits for no answer: it has one, or began with the client's own offer";
                Problem::new(
                    StatusCode::CONFLICT,
                    "no-answer-awaited",
                    "No answer is awaited",
                    detail,
                )
                .hint("For an offer of the server's send a POST with an empty body to the endpoint, and answer once.")
            }
            Refusal::TooManyEventStreams { max } => {
                let detail = format!("the session has {max} event streams, and that is the limit");
                Problem::new(
                    StatusCode::CONFLICT,
                    "too-many-event-streams",
                    "Enough event streams",
                    detail,
                )
                .hint("Use one of them, or send a DELETE to its URL.")
            }
            Refusal::UnknownEventStream => Problem::not_found(
                "unknown-event-stream",
                "there is no such event stream, or its session has ended",
            ),
            Refusal::UnknownStream => Problem::not_found("unknown-stream", "there is no stream of this name"),
            Refusal::UnknownSession => {
                Problem::not_found("unknown-session", "there is no such session, or it has ended")
            }
            Refusal::Stale => Problem::new(
                StatusCode::PRECONDITION_FAILED,
                "stale-ice-session",
                "This is for another ICE session",
                "the ICE session that this is for has been restarted, or never was",
            )
            .hint("Send the newest ETag in If-Match, or * to restart the ICE session."),
            Refusal::Unconditional => Problem::new(
                StatusCode::PRECONDITION_REQUIRED,
                "no-if-match",
                "If-Match is needed",
                "there is no If-Match, so it cannot be told which ICE session this is for",
            )
            .hint("Send the newest ETag in If-Match, or * to restart the ICE session."),
            Refusal::HalfRestart => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "half-restart",
                "The ICE session cannot be restarted so",
                "an ICE restart has a new a=ice-ufrag and a new a=ice-pwd, and here only one of them is new",
            )
            .hint("Send both as createOffer({iceRestart: true}) makes them."),
            Refusal::RestartTooSoon => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-restarts",
                "The ICE session was restarted a moment ago",
                "a session may be restarted once a second",
            )
            .retry_after(1),
            Refusal::Overloaded => unavailable("overloaded", "a media thread has no room for another command"),
        }
    }
}

impl From<SdpRefusal> for Problem {
    fn from(refusal: SdpRefusal) -> Problem {
        let SdpRefusal {
            unusable,
            detail,
            hint,
            codecs,
        } = refusal;
        let is_streams = codecs.as_ref().is_some_and(|codecs| codecs.of == CodecsOf::Stream);
        let problem = if is_streams {
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "codec-missing",
                "The stream cannot be played here",
                detail,
            )
        } else if unusable {
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "sdp-unusable",
                "The offer cannot be used",
                detail,
            )
        } else {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "sdp-invalid",
                "The SDP cannot be understood",
                detail,
            )
        };
        let lists = codecs.map_or_else(Vec::new, |codecs| {
            let needed = match codecs.of {
                CodecsOf::Stream => "stream_codecs",
                CodecsOf::Server => "server_codecs",
            };
            vec![(needed, codecs.needed), ("offer_codecs", codecs.offer)]
        });
        Problem { hint, lists, ..problem }
    }
}

impl From<Busy> for Problem {
    fn from(busy: Busy) -> Problem {
        let max = busy.max;
        let who = match busy.purpose {
            Purpose::Publish => "broadcasters",
            Purpose::Watch | Purpose::Confer => "viewers",
        };
        let (kind, detail, option) = match busy.cause {
            Cause::Rate => (
                "too-many-joins",
                format!("more {who} come at this moment than the {max} a second that the server takes"),
                "--joins-per-second",
            ),
            Cause::HalfOpen => (
                "too-many-half-open",
                format!("{max} {who} are connecting at this moment, and that is the server's limit"),
                "--half-open-max",
            ),
            Cause::Address => (
                "too-many-from-address",
                format!("{max} {who} of the same address are connecting at this moment, and that is the limit"),
                "--half-open-per-address",
            ),
            Cause::AddressRate => (
                "too-many-joins-from-address",
                format!(
                    "more {who} of the same address come at this moment than the {max} a second that the server takes"
                ),
                "--joins-per-address",
            ),
        };
        let of_address = matches!(busy.cause, Cause::Address | Cause::AddressRate);
        let own_bound = busy.purpose == Purpose::Publish && !of_address;
        let operator = if own_bound {
            String::new()
        } else {
            format!(", or raise {option} on the server")
        };
        let problem = match busy.cause {
            // One client's own doing (RFC 6585 section 4), not the server's.
            Cause::Address | Cause::AddressRate => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                kind,
                "Too many connect from this address",
                detail,
            ),
            Cause::Rate | Cause::HalfOpen => unavailable(kind, detail),
        };
        problem
            .hint(format!("Try again in a few seconds{operator}."))
            .retry_within(busy.earliest_s, busy.latest_s)
    }
}

/// The place of a stream's publisher is not free. It may be in `retry_after`.
fn taken(since_unix: Option<Duration>, silent: Option<Duration>, retry_after: Duration) -> Problem {
    let since = since_unix.map(|since| format!(", since {}", rfc3339::utc(since)));
    let detail = match (since, silent) {
        (Some(since), None) => format!("somebody is live on this stream{since}"),
        (Some(since), Some(silent)) => format!(
            "somebody is connected as this stream's broadcaster{since}, and has sent nothing for {} s",
            silent.as_secs()
        ),
        (None, _) => "somebody is about to go live on this stream".to_owned(),
    };
    let seconds = retry_after.as_millis().div_ceil(1_000).clamp(1, 60) as u16;
    Problem::new(
        StatusCode::CONFLICT,
        "stream-taken",
        "The stream has a broadcaster",
        detail,
    )
    .hint("Publish under another name, or wait until that broadcaster has left.")
    .retry_within(seconds, seconds + 1)
}

/// A session that the server has ended: pages take what begins with `ended-by-` for final, and come again otherwise.
fn ended(why: &EndReason) -> Problem {
    let (kind, title) = match why {
        EndReason::Unanswered => ("offer-unanswered", "The server has given this peer up"),
        EndReason::Unfollowed => ("socket-gone", "The server has given this peer up"),
        EndReason::Operator(_) => ("ended-by-operator", "The operator ended this session"),
        EndReason::TakenOver => ("ended-by-takeover", "The stream was taken over"),
        EndReason::Replaced { .. } => ("ended-by-replacement", "Another broadcaster took this one's place"),
        EndReason::PlaceKept => ("ended-by-broadcaster", "The stream has a broadcaster"),
        _ => ("ended-by-limit", "A limit of the server ended this session"),
    };
    Problem::new(
        StatusCode::NOT_FOUND,
        kind,
        title,
        format!("the session has ended: {why}"),
    )
}

fn not_allowed(purpose: Purpose) -> Problem {
    let what = match purpose {
        Purpose::Publish => "publish",
        Purpose::Watch | Purpose::Confer => "watch",
    };
    let detail = format!("this offer is to {what}, and that is not allowed");
    Problem::new(StatusCode::FORBIDDEN, "forbidden", "This is not allowed", detail)
}

fn unavailable(kind: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, kind, "The server is busy", detail).retry_after(RETRY_LATER_S)
}

/// A number from 0 to `max`. The slight preference for small ones does not matter here.
fn random_up_to(max: u16) -> u16 {
    let mut bytes = [0; 2];
    // Without chance everybody comes back at the same time, which is only a pity.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u16::from_be_bytes(bytes) % (max + 1)
}

/// What the paths of programs begin with.
const FOR_PROGRAMS: [&str; 8] = [
    "/whip",
    "/whep",
    "/api",
    "/offer",
    "/answer",
    "/renegotiate/",
    "/peer/",
    "/ws",
];
/// A broadcaster that reconnects takes about this long.
const RETRY_SOON_S: u16 = 2;
/// Places become free by people leaving.
const RETRY_LATER_S: u16 = 5;

#[cfg(test)]
mod tests {
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

    fn busy(purpose: Purpose, cause: Cause) -> Busy {
        Busy {
            purpose,
            cause,
            max: 7,
            earliest_s: 3,
            latest_s: 8,
        }
    }

    #[test]
    fn a_crowd_is_spread_over_the_whole_time_that_it_is_given() {
        let refusal = || Refusal::Busy(busy(Purpose::Watch, Cause::Rate));
        let waits: Vec<u16> = (0..1_000).filter_map(|_| retry_after(&refusal().into())).collect();
        for second in 3..=8 {
            assert!(waits.contains(&second), "{second}");
        }
        assert!(waits.len() == 1_000 && waits.iter().all(|wait| (3..=8).contains(wait)));
    }

    #[test]
    fn who_is_refused_at_the_door_is_told_which_limit_it_was() {
        for (purpose, cause, said) in [
            (Purpose::Watch, Cause::Rate, "--joins-per-second"),
            (Purpose::Watch, Cause::HalfOpen, "--half-open-max"),
            (Purpose::Publish, Cause::Address, "--half-open-per-address"),
            (Purpose::Watch, Cause::AddressRate, "--joins-per-address"),
        ] {
            let problem = Problem::from(busy(purpose, cause));
            assert!(problem.hint.unwrap().contains(said));
            assert!(
                problem.detail.contains(" 7 ") || problem.detail.starts_with("7 "),
                "{}",
                problem.detail
            );
        }
        // What no option raises is not spoken of.
        let publisher = Problem::from(busy(Purpose::Publish, Cause::Rate));
        assert!(publisher.detail.contains("broadcasters") && !publisher.hint.unwrap().contains("--"));
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
            (Refusal::NoPublisher, 409),
            (Refusal::NoAnswerAwaited, 409),
            (Refusal::TooManyEventStreams { max: 2 }, 409),
            (Refusal::UnknownEventStream, 404),
            (Refusal::TooManyStreams { max: 1 }, 503),
            (Refusal::Full { max: 1 }, 503),
            (Refusal::Busy(busy(Purpose::Watch, Cause::Rate)), 503),
            (Refusal::Busy(busy(Purpose::Publish, Cause::HalfOpen)), 503),
            (Refusal::Busy(busy(Purpose::Watch, Cause::Address)), 429),
            (Refusal::Busy(busy(Purpose::Watch, Cause::AddressRate)), 429),
            (Refusal::StreamFull { max: 1 }, 503),
            (Refusal::Draining, 503),
            (Refusal::Ended(EndReason::Operator(None)), 404),
            (Refusal::Ended(EndReason::Unanswered), 404),
            (Refusal::Ended(EndReason::Unfollowed), 404),
            (Refusal::UnknownHandle, 404),
            (Refusal::NotAllowed(Purpose::Publish), 403),
            (Refusal::Ended(EndReason::TakenOver), 404),
            (Refusal::Ended(EndReason::PlaceKept), 404),
            (Refusal::ShuttingDown, 503),
            (Refusal::UnknownStream, 404),
            (Refusal::UnknownSession, 404),
            (Refusal::Stale, 412),
            (Refusal::Unconditional, 428),
            (Refusal::HalfRestart, 422),
            (Refusal::RestartTooSoon, 429),
            (Refusal::Overloaded, 503),
        ];
        for (refusal, status) in cases {
            assert_eq!(Problem::from(refusal.clone()).status.as_u16(), status, "{refusal:?}");
        }
    }

    #[test]
    fn those_refused_together_are_asked_to_come_back_at_different_times() {
        let waits: Vec<u16> = (0..200)
            .map(|_| retry_after(&Refusal::Full { max: 1 }.into()).unwrap())
            .collect();
        assert!(
            waits
                .iter()
                .all(|wait| (RETRY_LATER_S..=2 * RETRY_LATER_S).contains(wait))
        );
        assert!(waits.iter().any(|wait| wait != &waits[0]));
    }

    #[test]
    fn only_what_may_pass_by_itself_asks_to_retry() {
        assert_eq!(retry_after(&Refusal::NoAnswerAwaited.into()), None);
        assert_eq!(retry_after(&Refusal::TooManyEventStreams { max: 2 }.into()), None);
        assert_eq!(retry_after(&Refusal::UnknownSession.into()), None);
        assert!(retry_after(&Refusal::NoPublisher.into()).is_some());
        assert!(retry_after(&Refusal::ShuttingDown.into()).is_some());
    }

    #[test]
    fn a_taken_stream_says_since_when_and_when_to_ask_again() {
        let since = Some(Duration::from_secs(1_709_210_096));
        for (refusal, detail) in [
            (
                taken(since, None),
                "somebody is live on this stream, since 2024-02-29T12:34:56Z",
            ),
            (
                taken(since, Some(Duration::from_millis(12_900))),
                "somebody is connected as this stream's broadcaster, since 2024-02-29T12:34:56Z, and has sent nothing for 12 s",
            ),
            (taken(None, None), "somebody is about to go live on this stream"),
        ] {
            let problem = Problem::from(refusal);
            assert_eq!(problem.detail, detail);
            assert!((3..=4).contains(&retry_after(&problem).unwrap()));
        }
    }
}

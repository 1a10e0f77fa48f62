//! Errors as responses: problem+json (RFC 9457) for WHIP, WHEP and the API, plain text for people at a terminal.

pub(super) mod kinds;

mod refusal;

use std::borrow::Cow;
use std::net::SocketAddr;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::{debug, info};

use crate::http::problem::kinds::ProblemKind;
use onecast_control::{Refusal, StreamName};

pub(crate) use refusal::{of_member, unknown_peer};

/// Why a request failed, and what the client can do about it. As a response it is problem+json; see [`Problem::into_text`].
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: ProblemKind,
    detail: String,
    hint: Option<Cow<'static, str>>,
    /// Extension members, for programs.
    lists: Vec<(&'static str, Vec<String>)>,
    headers: HeaderMap,
}

impl Problem {
    /// A problem of this kind. `detail` is one sentence about the request at hand, without a full stop.
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Problem {
        let problem = Problem {
            kind,
            detail: detail.into(),
            hint: kind.hint.map(Cow::Borrowed),
            lists: Vec::new(),
            headers: HeaderMap::new(),
        };
        match kind.retry_after_s {
            Some(seconds) => problem.retry_after(seconds),
            None => problem,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.kind.status
    }

    /// Last part of the `type` URN, for programs.
    pub(crate) fn name(&self) -> &'static str {
        self.kind.name
    }

    /// The kind in words, for people.
    pub(crate) fn title(&self) -> &'static str {
        self.kind.title
    }

    /// What is wrong with this request.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Replaces the title of the kind.
    pub(crate) fn titled(mut self, title: &'static str) -> Problem {
        self.kind.title = title;
        self
    }

    /// Replaces the hint of the kind, by one or more sentences.
    pub(crate) fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Problem {
        Problem {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.insert(name, value);
        self
    }

    /// Asks the client to come back after `seconds` to twice as many.
    pub(crate) fn retry_after(self, seconds: u16) -> Problem {
        self.retry_within(seconds, 2 * seconds)
    }

    /// Asks the client to come back between these times, seconds. The exact time is random, so that clients that were refused together
    /// do not come back together.
    fn retry_within(self, earliest_s: u16, latest_s: u16) -> Problem {
        let spread = latest_s.saturating_sub(earliest_s);
        self.header(RETRY_AFTER, HeaderValue::from(earliest_s + random_up_to(spread)))
    }

    /// The problem that a refused offer becomes, and its log line. Refusals of admission control come in crowds: they are logged in
    /// total elsewhere, and only at DEBUG here.
    pub(crate) fn of_offer(offer: &str, stream: &StreamName, client: SocketAddr, refusal: Refusal) -> Problem {
        let of_a_crowd = matches!(refusal, Refusal::Busy(_));
        let problem = Problem::from(refusal);
        if of_a_crowd {
            debug!(%stream, "{offer} of {client} refused: {}", problem.detail);
        } else {
            info!(%stream, "{offer} of {client} refused: {}", problem.detail);
        }
        problem
    }

    /// The response for a person at a terminal.
    pub(crate) fn into_text(self) -> Response {
        let hint = self.hint.map(|hint| format!("{hint}\n")).unwrap_or_default();
        let ProblemKind { title, status, .. } = self.kind;
        let text = format!("{title} ({}): {}.\n{hint}", status.as_u16(), self.detail);
        let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
        (status, self.headers, headers, text).into_response()
    }

    /// The response in the form that suits the clients of `path`.
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
        let ProblemKind {
            status, name, title, ..
        } = self.kind;
        let mut body = json!({
            "type": format!("urn:onecast:problem:{name}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
        });
        if let Some(hint) = self.hint {
            body["hint"] = hint.into();
        }
        for (name, list) in self.lists {
            body[name] = list.into();
        }
        let headers = [(CONTENT_TYPE, "application/problem+json")];
        (status, self.headers, headers, body.to_string()).into_response()
    }
}

/// A random number from 0 to `max`. The slight bias towards small numbers does not matter here.
fn random_up_to(max: u16) -> u16 {
    let mut bytes = [0; 2];
    // Without randomness all clients come back at the same time, which is unfortunate but no error.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u16::from_be_bytes(bytes) % (max + 1)
}

/// Prefixes of the paths that programs use.
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

//! Every problem that the server reports: one row for each, with its status, its name, its title, what the client can do about it, and
//! when to try again.
//!
//! Names are part of the API (`type` is `urn:onecast:problem:NAME`) and never change. A problem adds the detail: one sentence about the
//! request at hand.

use axum::http::StatusCode;

/// What all problems of one kind have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProblemKind {
    pub(super) status: StatusCode,
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) hint: Option<&'static str>,
    /// `Retry-After` is a random number of seconds from this to twice as many.
    pub(super) retry_after_s: Option<u16>,
}

impl ProblemKind {
    const fn new(status: StatusCode, name: &'static str, title: &'static str) -> ProblemKind {
        ProblemKind {
            status,
            name,
            title,
            hint: None,
            retry_after_s: None,
        }
    }

    const fn hint(self, hint: &'static str) -> ProblemKind {
        ProblemKind {
            hint: Some(hint),
            ..self
        }
    }

    const fn retry_after(self, seconds: u16) -> ProblemKind {
        ProblemKind {
            retry_after_s: Some(seconds),
            ..self
        }
    }

    const fn bad_request(name: &'static str) -> ProblemKind {
        ProblemKind::new(StatusCode::BAD_REQUEST, name, "The request cannot be understood")
    }

    const fn not_found(name: &'static str) -> ProblemKind {
        ProblemKind::new(StatusCode::NOT_FOUND, name, "Not found")
    }

    const fn forbidden(name: &'static str) -> ProblemKind {
        ProblemKind::new(StatusCode::FORBIDDEN, name, "This is not allowed")
    }

    const fn conflict(name: &'static str, title: &'static str) -> ProblemKind {
        ProblemKind::new(StatusCode::CONFLICT, name, title)
    }

    const fn too_many(name: &'static str, title: &'static str) -> ProblemKind {
        ProblemKind::new(StatusCode::TOO_MANY_REQUESTS, name, title)
    }

    const fn unprocessable(name: &'static str, title: &'static str) -> ProblemKind {
        ProblemKind::new(StatusCode::UNPROCESSABLE_ENTITY, name, title)
    }

    const fn unavailable(name: &'static str, title: &'static str) -> ProblemKind {
        ProblemKind::new(StatusCode::SERVICE_UNAVAILABLE, name, title)
    }

    const fn busy(name: &'static str) -> ProblemKind {
        ProblemKind::unavailable(name, BUSY).retry_after(RETRY_LATER_S)
    }
}

const BUSY: &str = "The server is busy";
const NO_NEW_CLIENTS: &str = "The server accepts no new clients";
const ADDRESS_LIMIT: &str = "Too many joins from this address";
const PEER_DROPPED: &str = "The server has dropped this peer";
const SDP_UNUSABLE_TITLE: &str = "The SDP cannot be used";
const RESTART_HINT: &str = "Send the latest ETag in If-Match, or * to restart ICE.";
const REJOIN_HINT: &str = "Join again: POST /offer without peer_id.";

/// A broadcaster that reconnects takes about this long; requests take milliseconds.
const RETRY_SOON_S: u16 = 2;
/// Slots become free as clients leave.
const RETRY_LATER_S: u16 = 5;
/// Event streams, long polls and WebSockets last for minutes.
const RETRY_FOLLOWING_S: u16 = 30;
/// Limits that count by the second.
const RETRY_SECOND_S: u16 = 1;

// The request itself.
pub(crate) const AMBIGUOUS_REQUEST: ProblemKind = ProblemKind::bad_request("ambiguous-request");
pub(crate) const BAD_DESTINATION: ProblemKind = ProblemKind::bad_request("bad-destination");
pub(crate) const BAD_FIELD: ProblemKind = ProblemKind::unprocessable("bad-field", "The request cannot be used");
pub(crate) const BAD_IF_MATCH: ProblemKind = ProblemKind::bad_request("bad-if-match")
    .hint("Send the ETag exactly as received, with its quotes, or * for an ICE restart.");
pub(crate) const BAD_JSON: ProblemKind = ProblemKind::bad_request("bad-json").hint("Send one JSON object.");
pub(crate) const BAD_PATH: ProblemKind = ProblemKind::bad_request("bad-path");
pub(crate) const BAD_QUERY: ProblemKind = ProblemKind::bad_request("bad-query");
pub(crate) const BAD_REASON: ProblemKind = ProblemKind::bad_request("bad-reason");
pub(crate) const BAD_STREAM_NAME: ProblemKind = ProblemKind::bad_request("bad-stream-name")
    .hint("A name is 1 to 64 letters, digits, dots, dashes and underscores, and does not begin with a dot.");
pub(crate) const BROKEN_BODY: ProblemKind = ProblemKind::bad_request("broken-body");
pub(crate) const COMPRESSED: ProblemKind = ProblemKind::new(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "compressed",
    "Compressed bodies are not supported",
)
.hint("Send the body without compression.");
pub(crate) const HTTPS_ONLY: ProblemKind =
    ProblemKind::bad_request("https-only").hint("Use an address that begins with https://.");
pub(crate) const METHOD_NOT_ALLOWED: ProblemKind = ProblemKind::new(
    StatusCode::METHOD_NOT_ALLOWED,
    "method-not-allowed",
    "The method is not allowed",
)
.hint("The Allow header lists the supported methods.");
pub(crate) const NOT_TEXT: ProblemKind = ProblemKind::bad_request("not-text");
pub(crate) const NO_EVENT_NAMES: ProblemKind = ProblemKind::bad_request("no-event-names");
pub(crate) const NO_OFFER: ProblemKind = ProblemKind::bad_request("no-offer");
pub(crate) const NO_SUCH_PATH: ProblemKind = ProblemKind::not_found("no-such-path").hint(
    "Publish with POST /whip/NAME, watch with POST /whep/NAME, paste an offer with POST /sdp or /sdp/NAME, \
     list the streams with GET /api/streams.",
);
pub(crate) const NO_WEBSOCKET: ProblemKind = ProblemKind::new(
    StatusCode::UPGRADE_REQUIRED,
    "no-websocket",
    "This address is for WebSockets",
)
.hint("Use new WebSocket(url) in a page, or POST /offer without WebSockets.");
pub(crate) const TIMEOUT: ProblemKind =
    ProblemKind::new(StatusCode::REQUEST_TIMEOUT, "timeout", "The request took too long");
pub(crate) const TOO_LARGE: ProblemKind =
    ProblemKind::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large")
        .hint("An offer is a few kilobytes of text. Is this the right file?");
pub(crate) const TOO_MANY_LAYER_CHANGES: ProblemKind =
    ProblemKind::too_many("too-many-layer-changes", "Too many changes of layers").retry_after(RETRY_SECOND_S);
pub(crate) const UNKNOWN_EVENTS: ProblemKind = ProblemKind::unprocessable("unknown-events", "Unknown events");
pub(crate) const UNKNOWN_LAYER: ProblemKind = ProblemKind::conflict("unknown-layer", "The stream has no such layer")
    .hint("Choose one of rids, or send {} to let the server choose.");
pub(crate) const WRONG_TYPE: ProblemKind = ProblemKind::new(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "wrong-type",
    "The content type is not supported",
);

// Permissions.
pub(crate) const AUTHORITY_UNAVAILABLE: ProblemKind =
    ProblemKind::unavailable("authority-unavailable", "The permission cannot be checked").retry_after(RETRY_LATER_S);
pub(crate) const FORBIDDEN: ProblemKind = ProblemKind::forbidden("forbidden");
pub(crate) const FOREIGN_PAGE: ProblemKind = ProblemKind::forbidden("foreign-page").hint(
    "Without tokens, use the server from this machine at 127.0.0.1 or localhost. To let pages of other origins use it, start it \
     with --auth tokens, or with --auth off if every page may publish and watch.",
);
pub(crate) const NO_TOKEN: ProblemKind =
    ProblemKind::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is required")
        .hint("Send the header Authorization: Bearer TOKEN, or ask the operator of the server for a link.");
pub(crate) const PROXIED: ProblemKind = ProblemKind::new(
    StatusCode::FORBIDDEN,
    "proxied",
    "Publishing through a proxy is not set up",
)
.hint("Start the server with --auth tokens, or with --auth off if everyone who can reach the proxy may publish.");
pub(crate) const TOO_MANY_WRONG_TOKENS: ProblemKind =
    ProblemKind::too_many("too-many-wrong-tokens", "Too many wrong tokens");
pub(crate) const WRONG_TOKEN: ProblemKind =
    ProblemKind::new(StatusCode::UNAUTHORIZED, "unauthorized", "The token is not valid")
        .hint("Check that the token is complete, or ask the operator of the server for another one.");

// Offers and answers.
pub(crate) const CODEC_MISSING: ProblemKind =
    ProblemKind::unprocessable("codec-missing", "This client cannot play the stream");
pub(crate) const NO_ANSWER_AWAITED: ProblemKind = ProblemKind::conflict("no-answer-awaited", "No answer is expected")
    .hint("To get an offer from the server, POST an empty body to the endpoint, then answer it once.");
pub(crate) const SDP_INVALID: ProblemKind =
    ProblemKind::new(StatusCode::BAD_REQUEST, "sdp-invalid", "The SDP cannot be understood");
pub(crate) const SDP_UNUSABLE: ProblemKind = ProblemKind::unprocessable("sdp-unusable", "The offer cannot be used");
pub(crate) const STREAM_TAKEN: ProblemKind = ProblemKind::conflict("stream-taken", "The stream has a broadcaster")
    .hint("Publish under another name, or wait until that broadcaster has left.");

// ICE.
pub(crate) const HALF_RESTART: ProblemKind = ProblemKind::unprocessable("half-restart", "Incomplete ICE restart")
    .hint("Send both, as createOffer({iceRestart: true}) creates them.");
pub(crate) const NO_IF_MATCH: ProblemKind =
    ProblemKind::new(StatusCode::PRECONDITION_REQUIRED, "no-if-match", "If-Match is required").hint(RESTART_HINT);
pub(crate) const STALE_ICE_SESSION: ProblemKind = ProblemKind::new(
    StatusCode::PRECONDITION_FAILED,
    "stale-ice-session",
    "This is for another ICE session",
)
.hint(RESTART_HINT);
pub(crate) const TOO_MANY_RESTARTS: ProblemKind =
    ProblemKind::too_many("too-many-restarts", "Too many ICE restarts").retry_after(RETRY_SECOND_S);

// Limits and load. The joins' rows have no time: theirs comes from admission control.
pub(crate) const FULL: ProblemKind =
    ProblemKind::busy("full").hint("Try again later, or raise --max-viewers on the server.");
pub(crate) const OVERLOADED: ProblemKind = ProblemKind::busy("overloaded");
pub(crate) const STREAM_FULL: ProblemKind =
    ProblemKind::busy("stream-full").hint("Try again later, or raise --max-viewers-per-stream on the server.");
pub(crate) const TOO_MANY_EVENT_STREAMS: ProblemKind =
    ProblemKind::conflict("too-many-event-streams", "Too many event streams for this session")
        .hint("Use one of them, or close one with DELETE on its URL.");
pub(crate) const TOO_MANY_FOLLOWERS: ProblemKind = ProblemKind::unavailable("too-many-followers", BUSY)
    .hint("Media is not affected. Try again later; a member of a room can poll without ?wait= at any time.")
    .retry_after(RETRY_FOLLOWING_S);
pub(crate) const TOO_MANY_FROM_ADDRESS: ProblemKind = ProblemKind::too_many("too-many-from-address", ADDRESS_LIMIT);
pub(crate) const TOO_MANY_HALF_OPEN: ProblemKind = ProblemKind::unavailable("too-many-half-open", BUSY);
pub(crate) const TOO_MANY_JOINS: ProblemKind = ProblemKind::unavailable("too-many-joins", BUSY);
pub(crate) const TOO_MANY_JOINS_FROM_ADDRESS: ProblemKind =
    ProblemKind::too_many("too-many-joins-from-address", ADDRESS_LIMIT);
pub(crate) const TOO_MANY_REQUESTS_FROM_ADDRESS: ProblemKind =
    ProblemKind::too_many("too-many-requests-from-address", "Too many requests at once").retry_after(RETRY_SOON_S);
pub(crate) const TOO_MANY_STREAMS: ProblemKind =
    ProblemKind::busy("too-many-streams").hint("Try again later, or raise --max-streams on the server.");

// The state of the server.
pub(crate) const DRAINING: ProblemKind = ProblemKind::unavailable("draining", NO_NEW_CLIENTS)
    .hint("Try again in a few seconds: another server may have taken over by then.")
    .retry_after(RETRY_LATER_S);
pub(crate) const SHUTTING_DOWN: ProblemKind =
    ProblemKind::unavailable("shutting-down", NO_NEW_CLIENTS).retry_after(RETRY_LATER_S);
/// Of `/readyz`, which monitoring polls at its own pace.
pub(crate) const NOT_READY_DRAINING: ProblemKind = ProblemKind::unavailable("draining", NO_NEW_CLIENTS);
pub(crate) const NOT_READY_STOPPING: ProblemKind = ProblemKind::unavailable("shutting-down", NO_NEW_CLIENTS);
pub(crate) const STUCK: ProblemKind =
    ProblemKind::unavailable("stuck", "The server is stuck").hint("Restart it; its log may show why.");

// What does not exist, or exists no more. Pages treat `ended-by-*` as final, and reconnect after any other end.
pub(crate) const ENDED_BY_BROADCASTER: ProblemKind = ProblemKind::new(
    StatusCode::NOT_FOUND,
    "ended-by-broadcaster",
    "The stream has a broadcaster",
);
pub(crate) const ENDED_BY_LIMIT: ProblemKind = ProblemKind::new(
    StatusCode::NOT_FOUND,
    "ended-by-limit",
    "A limit of the server ended this session",
);
pub(crate) const ENDED_BY_OPERATOR: ProblemKind = ProblemKind::new(
    StatusCode::NOT_FOUND,
    "ended-by-operator",
    "The operator ended this session",
);
pub(crate) const ENDED_BY_REPLACEMENT: ProblemKind = ProblemKind::new(
    StatusCode::NOT_FOUND,
    "ended-by-replacement",
    "Another broadcaster replaced this one",
);
pub(crate) const ENDED_BY_TAKEOVER: ProblemKind =
    ProblemKind::new(StatusCode::NOT_FOUND, "ended-by-takeover", "The stream was taken over");
pub(crate) const OFFER_UNANSWERED: ProblemKind =
    ProblemKind::new(StatusCode::NOT_FOUND, "offer-unanswered", PEER_DROPPED);
pub(crate) const SOCKET_GONE: ProblemKind = ProblemKind::new(StatusCode::NOT_FOUND, "socket-gone", PEER_DROPPED);
pub(crate) const UNKNOWN_EVENT_STREAM: ProblemKind = ProblemKind::not_found("unknown-event-stream");
pub(crate) const UNKNOWN_NUMBER: ProblemKind = ProblemKind::not_found("unknown-session")
    .hint("GET /api/sessions lists the current sessions, GET /api/ended the latest ones that ended, and why.");
pub(crate) const UNKNOWN_PEER: ProblemKind = ProblemKind::not_found("unknown-peer")
    .hint("Join again: POST /offer without peer_id. A peer's id is peer- and 32 hexadecimal digits.");
pub(crate) const UNKNOWN_ROOM: ProblemKind = ProblemKind::not_found("unknown-room");
pub(crate) const UNKNOWN_SESSION: ProblemKind = ProblemKind::not_found("unknown-session");
pub(crate) const UNKNOWN_STREAM: ProblemKind = ProblemKind::not_found("unknown-stream");

// Conference rooms.
pub(crate) const JOIN_ANEW: ProblemKind = ProblemKind::unprocessable("join-anew", SDP_UNUSABLE_TITLE).hint(REJOIN_HINT);
pub(crate) const NO_OFFER_PENDING: ProblemKind = ProblemKind::conflict("no-offer-pending", "No answer is expected")
    .hint("GET /renegotiate/PEER returns the next offer, if there is one.");
pub(crate) const OFFER_PENDING: ProblemKind = ProblemKind::conflict("offer-pending", "The server's offer comes first")
    .hint("Roll back, answer the server's offer, then send yours again.");
pub(crate) const OTHER_CERTIFICATE: ProblemKind = ProblemKind::unprocessable("other-certificate", SDP_UNUSABLE_TITLE)
    .hint("Use the same RTCPeerConnection for later offers, or join again with a new one.");
pub(crate) const RESUMED_ELSEWHERE: ProblemKind =
    ProblemKind::conflict("resumed-elsewhere", "Another connection has resumed this peer");
pub(crate) const ROOM_FULL: ProblemKind = ProblemKind::unavailable("room-full", "The room is full")
    .hint("Try again later, or raise --room-max-peers on the server.")
    .retry_after(RETRY_LATER_S);
pub(crate) const STALE_ANSWER: ProblemKind = ProblemKind::conflict("stale-answer", "The answer is for an older offer")
    .hint("Fetch the latest offer and answer that one.");
pub(crate) const TOO_MANY_OFFERS: ProblemKind = ProblemKind::too_many("too-many-offers", "Too many offers")
    .hint("Combine several changes into one offer.")
    .retry_after(RETRY_SECOND_S);

//! Why the control plane did not do what it was asked.

use std::time::Duration;

use onecast_rtc::sdp::SdpError;

use crate::EndReason;
use crate::admission::Busy;
use crate::registry::Purpose;

/// The cause of a refusal, one variant for each advice. [`Refusal::kind`] groups them by what a caller can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The SDP, or the fragment of it, is at fault.
    Sdp(SdpRefusal),
    /// The stream has another publisher.
    Taken {
        /// Since when, as time since 1970; `None` while that publisher connects.
        since_unix: Option<Duration>,
        /// How long that publisher has sent no media, if that is long.
        silent: Option<Duration>,
        /// When to ask again.
        retry_after: Duration,
    },
    /// The limit of streams is reached.
    TooManyStreams {
        /// The limit.
        max: usize,
    },
    /// The limit of viewers is reached.
    Full {
        /// The limit.
        max: usize,
    },
    /// The limit of viewers of this stream is reached.
    StreamFull {
        /// The limit.
        max: usize,
    },
    /// The limit of members of this room is reached.
    RoomFull {
        /// The limit.
        max: usize,
    },
    /// Too many clients are joining at this moment.
    Busy(Busy),
    /// The server drains: new clients should go elsewhere or come later.
    Draining,
    /// The server is about to stop.
    ShuttingDown,
    /// The queue of commands to a media thread is full.
    Overloaded,
    /// The client's token does not permit this.
    NotAllowed(Purpose),
    /// No such stream.
    UnknownStream,
    /// No such session, or it has ended.
    UnknownSession,
    /// No session has this number.
    UnknownNumber,
    /// No such event stream, or it has ended.
    UnknownEventStream,
    /// The server has ended this session for a reason that the client should know.
    Ended(EndReason),
    /// The PATCH names an ICE session that has been restarted.
    StaleIceSession,
    /// The PATCH does not name an ICE session.
    Unconditional,
    /// Only one of ICE username fragment and password is new.
    HalfRestart,
    /// The last ICE restart was a moment ago.
    RestartTooSoon,
    /// The session waits for no answer.
    NoAnswerAwaited,
    /// The limit of event streams of the session is reached.
    TooManyEventStreams {
        /// The limit.
        max: usize,
    },
    /// The stream has no such layer.
    UnknownLayer {
        /// Names of those that it has.
        known: Vec<String>,
    },
    /// The viewer chooses layers too fast.
    TooManyChoices,
    /// The server's own offer waits for an answer, which comes first.
    OfferPending {
        /// Number of that offer.
        number: u64,
    },
    /// No offer of the server waits for an answer of this member.
    NothingToAnswer,
    /// The answer is for an older offer than the one that waits.
    StaleAnswer {
        /// Number of the one that waits.
        number: u64,
    },
    /// The member sends offers too fast.
    TooManyOffers,
    /// The certificate is not the one of the member's first offer.
    OtherCertificate,
    /// The ICE credentials are those of another connection, or of one that is over: the client should join again.
    JoinAnew,
}

/// What a caller can do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The text cannot be parsed: fix the client.
    Malformed,
    /// The text can be parsed but not used: offer something else.
    Unusable,
    /// Present another token.
    Forbidden,
    /// It does not exist: forget it.
    Unknown,
    /// The server has ended it on purpose: do not reconnect automatically.
    Ended,
    /// The request assumes another state than the present one: look at that and decide again.
    Conflict,
    /// The request does not name the newest ICE session: fetch its name and send it again.
    Precondition,
    /// The client is too fast: wait a moment.
    TooFast,
    /// A limit of the server is reached: try another server, or later.
    Unavailable,
}

/// What is wrong with an SDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdpRefusal {
    /// The text was understood but cannot be used, as opposed to not understood.
    pub unusable: bool,
    /// What is wrong, one sentence without a full stop.
    pub detail: String,
    /// What to do about it, one sentence.
    pub hint: Option<String>,
    /// Which codecs, if it is about codecs.
    pub codecs: Option<CodecLists>,
}

/// Codecs of two sides that have none in common: encoding names as in SDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecLists {
    /// Whose codecs are needed.
    pub of: CodecsOf,
    /// What would be needed.
    pub needed: Vec<String>,
    /// What is in the offer.
    pub offer: Vec<String>,
}

/// Which side needs a codec that is not in an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecsOf {
    /// The server: it carries no others.
    Server,
    /// The stream: its publisher sends this one.
    Stream,
}

impl Refusal {
    /// For a session that does not exist: why the server ended it, if that is still remembered.
    pub fn gone(why: Option<EndReason>) -> Refusal {
        why.map_or(Refusal::UnknownSession, Refusal::Ended)
    }

    /// For a faulty offer to publish or to watch. One without a codec in common also names the codecs of both sides: its client offers once,
    /// and can choose another codec. A member of a room negotiates line by line.
    pub fn of_broadcast(error: SdpError) -> Refusal {
        Refusal::Sdp(SdpRefusal {
            codecs: CodecLists::of_server(&error),
            ..SdpRefusal::of(&error)
        })
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Refusal::Sdp(SdpRefusal { unusable: false, .. }) => RefusalKind::Malformed,
            Refusal::Sdp(_) | Refusal::HalfRestart | Refusal::OtherCertificate | Refusal::JoinAnew => {
                RefusalKind::Unusable
            }
            Refusal::NotAllowed(_) => RefusalKind::Forbidden,
            Refusal::UnknownStream | Refusal::UnknownSession | Refusal::UnknownNumber | Refusal::UnknownEventStream => {
                RefusalKind::Unknown
            }
            Refusal::Ended(_) => RefusalKind::Ended,
            Refusal::Taken { .. }
            | Refusal::NoAnswerAwaited
            | Refusal::TooManyEventStreams { .. }
            | Refusal::UnknownLayer { .. }
            | Refusal::OfferPending { .. }
            | Refusal::NothingToAnswer
            | Refusal::StaleAnswer { .. } => RefusalKind::Conflict,
            Refusal::StaleIceSession | Refusal::Unconditional => RefusalKind::Precondition,
            Refusal::RestartTooSoon | Refusal::TooManyOffers | Refusal::TooManyChoices => RefusalKind::TooFast,
            Refusal::TooManyStreams { .. }
            | Refusal::Full { .. }
            | Refusal::StreamFull { .. }
            | Refusal::RoomFull { .. }
            | Refusal::Busy(_)
            | Refusal::Draining
            | Refusal::ShuttingDown
            | Refusal::Overloaded => RefusalKind::Unavailable,
        }
    }
}

impl From<SdpError> for Refusal {
    fn from(error: SdpError) -> Refusal {
        Refusal::Sdp(SdpRefusal::of(&error))
    }
}

impl SdpRefusal {
    fn of(error: &SdpError) -> SdpRefusal {
        SdpRefusal {
            unusable: error.is_unusable(),
            detail: error.to_string(),
            hint: error.hint().map(str::to_owned),
            codecs: None,
        }
    }
}

impl CodecLists {
    /// For an offer that has no codec in common with the server.
    fn of_server(error: &SdpError) -> Option<CodecLists> {
        let (offered, carried) = error.codecs()?;
        let list = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        Some(CodecLists {
            of: CodecsOf::Server,
            needed: list(carried),
            offer: list(offered),
        })
    }
}

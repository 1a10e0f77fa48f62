//! Why a description of a member was not taken, in words for the person who sent it.

use std::fmt;

use super::super::own_offer::FROM_THE_CLIENT;
use super::super::{AnswerError, SdpError};

/// What a client's description cannot be used for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The offer itself is at fault.
    #[error(transparent)]
    Offer(SdpError),
    /// The answer itself is at fault.
    #[error(transparent)]
    Answer(AnswerError),
    /// An answer came, and no offer of ours waits for one.
    #[error("no offer waits for an answer")]
    NoOffer,
    /// An offer came, and one of ours waits for its answer: ours wins.
    #[error("an offer of the server waits for its answer")]
    OfferPending,
    /// A line in use without a name.
    #[error("m= line {place} of the {what} has no a=mid")]
    NoMid {
        /// Which text.
        what: Description,
        /// Counted from 1.
        place: usize,
    },
    /// Not as many lines as there have to be (RFC 3264 sections 6 and 8).
    #[error("the {what} has {lines} m= lines where {expected} are agreed; lines are never taken away")]
    OtherCount {
        /// Which text.
        what: Description,
        /// Those it has.
        lines: usize,
        /// Those it must have; an offer may have more.
        expected: usize,
    },
    /// A line that is not the one at this place (RFC 3264 sections 6 and 8).
    #[error(
        "m= line {place} of the {what} has to be the {media} line with a=mid:{mid}; lines keep place, mid and kind"
    )]
    OtherLine {
        /// Which text.
        what: Description,
        /// Counted from 1.
        place: usize,
        /// Kind of the line that was agreed.
        media: Box<str>,
        /// Its mid.
        mid: Box<str>,
    },
    /// A payload type of a running line got another meaning or went (RFC 3264 section 8.3.2).
    #[error("the {what} changes codecs of m-line mid {mid}: payload type {payload_type} no longer means {was}")]
    ChangedCodecs {
        /// Which text.
        what: Description,
        /// The line.
        mid: Box<str>,
        /// One that was agreed.
        payload_type: u8,
        /// Encoding name.
        was: &'static str,
    },
    /// RFC 8843 section 9.1: lines that share a transport are told apart by these numbers.
    #[error("payload type {payload_type} of the {what} means different codecs on different m= lines")]
    AmbiguousPayloadType {
        /// Which text.
        what: Description,
        /// The number.
        payload_type: u8,
    },
    /// More lines that send than [`super::MAX_SENDING_LINES`].
    #[error("the offer sends on {lines} lines, the limit is {limit}", limit = super::MAX_SENDING_LINES)]
    TooManySending {
        /// Those it has.
        lines: usize,
    },
}

/// Which of the client's texts it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Description {
    /// It asks.
    Offer,
    /// It replies to ours.
    Answer,
}

impl CallError {
    /// Whether the text was understood but cannot be used (HTTP 422), as opposed to not understood (HTTP 400).
    /// [`CallError::NoOffer`] and [`CallError::OfferPending`] say nothing of the text: they are conflicts (HTTP 409).
    pub fn is_unusable(&self) -> bool {
        match self {
            CallError::Offer(error) => error.is_unusable(),
            CallError::Answer(error) => error.is_unusable(),
            _ => true,
        }
    }

    /// What to do about it, one sentence; `None` where the message says it all.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            CallError::Offer(error) => return error.hint(),
            CallError::Answer(error) => return error.hint(),
            CallError::NoOffer => "Answer each offer of the server once; ask for the next one.",
            CallError::OfferPending => "Roll back, answer the server's offer, then offer again.",
            CallError::TooManySending { .. } => "Stop a track before you add another one.",
            CallError::NoMid { .. } => "Give every m= line an a=mid; every WebRTC client does.",
            CallError::ChangedCodecs { .. } => {
                "Keep the codecs of a running line; send other codecs on a line of their own."
            }
            CallError::AmbiguousPayloadType { .. } => {
                "Use one payload type for one codec in all lines of the connection."
            }
            CallError::OtherCount { what, .. } | CallError::OtherLine { what, .. } => match what {
                Description::Offer => "Offer from the connection that joined; a new connection joins anew.",
                Description::Answer => FROM_THE_CLIENT,
            },
        })
    }

    pub(super) fn of(what: Description, error: SdpError) -> CallError {
        match what {
            Description::Offer => CallError::Offer(error),
            Description::Answer => CallError::Answer(AnswerError::Sdp(error)),
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Description::Offer => "offer",
            Description::Answer => "answer",
        })
    }
}

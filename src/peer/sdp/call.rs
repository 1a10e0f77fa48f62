//! The m-lines between us and one member of a room, through offers and answers of both sides.
//!
//! Lines are appended and never taken away (RFC 9429 section 5.2.2). Those on which the client sends are the client's; on the others
//! we send, one track on each, and a line whose track has gone is used for the next one of its kind.

use std::net::SocketAddr;

use super::{AnswerError, MediaLine, SdpError};
use crate::peer::{Fingerprint, IceCredentials, RemoteTransport};
use crate::rtp::{Codec, Kind};

/// Our side of the connection, which every offer and answer says.
#[derive(Debug, Clone)]
pub struct CallParams {
    /// Our ICE credentials.
    pub ice: IceCredentials,
    /// Fingerprint of the process's certificate.
    pub fingerprint: Fingerprint,
    /// All our candidates, best first.
    pub candidates: Vec<SocketAddr>,
    /// `o=` session id, the same for the whole call.
    pub session_id: u64,
}

/// A track that is to be sent to the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTrack {
    /// Names the track for ever; equal ones are the same track.
    pub id: TrackId,
    /// Its SSRC.
    pub ssrc: u32,
    /// SSRC of its retransmissions; used where RTX is negotiated, for video.
    pub rtx_ssrc: u32,
    /// `a=msid`: the stream's id. A token.
    pub stream: Box<str>,
    /// What it is sent in, or may be at any moment: only these are offered. Never empty, all of the kind.
    pub codecs: Vec<Codec>,
}

/// One track of one stream of one member; its kind is part of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId {
    /// The stream (`StreamKey::serial`).
    pub stream: u32,
    /// Audio or video.
    pub kind: Kind,
}

/// A line on which we may send, agreed by both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentLine {
    /// The track.
    pub track: TrackId,
    /// What the client takes, under its payload types. Its `mid` is the line's.
    pub line: MediaLine,
}

/// A line on which the client sends, agreed by both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedLine {
    /// The stream's id in the client's `a=msid`, empty if it says none (`-`).
    pub stream: Box<str>,
    /// What was agreed. Its `mid` is the line's.
    pub line: MediaLine,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Call {}

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
}

impl Call {
    /// Nothing is agreed yet.
    pub fn new() -> Call {
        todo!()
    }
}

impl Default for Call {
    fn default() -> Call {
        Call::new()
    }
}

impl Call {
    /// Takes an offer of the client, the first or a later one, and answers it. On an error nothing has changed.
    ///
    /// # Errors
    /// What is wrong with the offer, or that an offer of ours waits for its answer.
    pub fn handle_offer(&mut self, _offer: &str, _params: &CallParams) -> Result<String, CallError> {
        todo!()
    }

    /// What ICE and DTLS need to know of the client, as it said last. `None` before the first offer.
    pub fn remote(&self) -> Option<&RemoteTransport> {
        todo!()
    }

    /// Whether the client has to be sent an offer, so that it can be sent these and no others.
    pub fn needs_offer(&self, _wanted: &[WantedTrack]) -> bool {
        todo!()
    }

    /// Our offer of these tracks and no others, which now waits for its answer. For the first one there must have been an offer of the
    /// client, and none of ours may wait.
    pub fn offer(&mut self, _wanted: &[WantedTrack], _params: &CallParams) -> String {
        todo!()
    }

    /// Whether an offer of ours waits for its answer.
    pub fn is_offering(&self) -> bool {
        todo!()
    }

    /// Takes our offer back: the client never heard of it.
    pub fn withdraw(&mut self) {
        todo!()
    }

    /// The mids under which the offer that waits has its tracks.
    pub fn offered(&self) -> impl Iterator<Item = (&str, TrackId)> {
        std::iter::empty()
    }

    /// Takes the client's answer to our offer. On an error the offer still waits for a better one.
    ///
    /// # Errors
    /// What is wrong with the answer, or that none is waited for.
    pub fn handle_answer(&mut self, _answer: &str) -> Result<(), CallError> {
        todo!()
    }

    /// Lines on which we may send.
    pub fn sent(&self) -> impl Iterator<Item = &SentLine> {
        std::iter::empty()
    }

    /// Lines on which the client sends.
    pub fn received(&self) -> impl Iterator<Item = &ReceivedLine> {
        std::iter::empty()
    }

    /// How many m-lines there are.
    pub fn lines(&self) -> usize {
        todo!()
    }
}

//! The m-lines between us and one member of a room, through offers and answers of both sides.
//!
//! Lines are appended and never taken away (RFC 9429 section 5.2.2). Those on which the client sends are the client's; on the others
//! we send, one track on each, and a line whose track has gone is used for the next one of its kind.
//!
//! An offer or answer makes a new state of what is agreed, or an error and nothing. An offer of ours is a state of its own until it
//! is answered: what is sent meanwhile is what both have.

mod describe;
mod error;
mod fuzz;
mod line;
mod numbers;
mod plan;
mod state;
#[doc(hidden)]
pub mod testing;

use std::net::SocketAddr;

pub use error::{CallError, Description};
#[doc(hidden)]
pub use fuzz::fuzz;

use self::describe::Describing;
use self::plan::Plan;
use self::state::State;
use super::{AnswerError, MediaLine, Offer};
use crate::rtp::{Codec, Kind};
use crate::{Fingerprint, IceCredentials, RemoteTransport};

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
pub struct Call {
    agreed: State,
    /// Our offer that waits for its answer: what will be agreed if the client takes all of it.
    offered: Option<State>,
    /// `o=` version of our last description.
    version: u64,
    /// Grows with each change of what is agreed or offered.
    revision: u64,
}

impl Call {
    /// Nothing is agreed yet.
    pub fn new() -> Call {
        Call {
            agreed: State::new(),
            offered: None,
            version: FIRST_VERSION - 1,
            revision: 0,
        }
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
    pub fn handle_offer(&mut self, offer: &str, params: &CallParams) -> Result<String, CallError> {
        if self.offered.is_some() {
            return Err(CallError::OfferPending);
        }
        let offer = Offer::parse_call(offer, self.remote()).map_err(CallError::Offer)?;
        self.agreed = self.agreed.offered(&offer)?;
        self.revision += 1;
        Ok(self.describe(Description::Answer, params))
    }

    /// What ICE and DTLS need to know of the client, as it said last. `None` before the first offer.
    pub fn remote(&self) -> Option<&RemoteTransport> {
        self.agreed.remote.as_ref()
    }

    /// Whether the client has to be sent an offer, so that it can be sent these and no others. Of an offer that waits it is taken that
    /// the client will agree to it.
    pub fn needs_offer(&self, wanted: &[WantedTrack]) -> bool {
        let state = self.offered.as_ref().unwrap_or(&self.agreed);
        state.remote.is_some() && Plan::new(state, wanted).is_news
    }

    /// Our offer of these tracks and no others, which now waits for its answer. For the first one there must have been an offer of the
    /// client, and none of ours may wait.
    ///
    /// # Panics
    /// When one of ours waits, or the client has never offered.
    pub fn offer(&mut self, wanted: &[WantedTrack], params: &CallParams) -> String {
        assert!(self.offered.is_none(), "one offer waits at a time");
        assert!(self.agreed.remote.is_some(), "the client offers first");
        let plan = Plan::new(&self.agreed, wanted);
        self.offered = Some(self.agreed.planned(plan));
        self.revision += 1;
        self.describe(Description::Offer, params)
    }

    /// Whether an offer of ours waits for its answer.
    pub fn is_offering(&self) -> bool {
        self.offered.is_some()
    }

    /// Takes our offer back: the client never heard of it.
    pub fn withdraw(&mut self) {
        self.offered = None;
        self.revision += 1;
    }

    /// The mids under which the offer that waits has its tracks.
    pub fn offered(&self) -> impl Iterator<Item = (&str, TrackId)> {
        let lines = self.offered.iter().flat_map(|state| &state.lines);
        let lines = lines.filter(|line| !line.is_dead);
        lines.filter_map(|line| Some((&*line.mid, line.track.as_ref()?.id)))
    }

    /// Takes the client's answer to our offer. On an error the offer still waits for a better one.
    ///
    /// # Errors
    /// What is wrong with the answer, or that none is waited for.
    pub fn handle_answer(&mut self, answer: &str) -> Result<(), CallError> {
        let offered = self.offered.as_ref().ok_or(CallError::NoOffer)?;
        let answer = Offer::parse_call(answer, self.remote());
        let answer = answer.map_err(|error| CallError::Answer(AnswerError::Sdp(error)))?;
        self.agreed = offered.answered(&answer)?;
        self.offered = None;
        self.revision += 1;
        Ok(())
    }

    /// As long as it is the same, so is all that this says.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Lines on which we may send. While an offer of ours waits those that it leaves as they are: a track that it takes away is not sent
    /// any more, and a new one not before the answer.
    pub fn sent(&self) -> impl Iterator<Item = &SentLine> {
        let sent = self.agreed.lines.iter().enumerate();
        let sent = sent.filter_map(|(index, line)| Some((index, line.sent.as_ref()?)));
        let sent = sent.filter(|(index, sent)| self.stays(*index, sent.track));
        sent.map(|(_, sent)| sent)
    }

    /// Lines on which the client sends.
    pub fn received(&self) -> impl Iterator<Item = &ReceivedLine> {
        self.agreed.lines.iter().filter_map(|line| line.received.as_ref())
    }

    /// How many m-lines there are, with those of an offer that waits.
    pub fn lines(&self) -> usize {
        self.offered.as_ref().unwrap_or(&self.agreed).lines.len()
    }

    /// Whether an offer that waits, if there is one, has the track on this line.
    fn stays(&self, index: usize, track: TrackId) -> bool {
        self.offered.as_ref().is_none_or(|state| {
            let offered = state.lines.get(index).and_then(|line| line.track.as_ref());
            offered.is_some_and(|offered| offered.id == track)
        })
    }

    fn describe(&mut self, what: Description, params: &CallParams) -> String {
        self.version += 1;
        let describing = Describing {
            what,
            state: self.offered.as_ref().unwrap_or(&self.agreed),
            params,
            version: self.version,
        };
        describing.write()
    }
}

/// Most lines on which one member sends: camera, screen and microphones, with some to spare.
pub const MAX_SENDING_LINES: usize = 8;

/// `o=` version of the first description, as in answers to broadcasts.
const FIRST_VERSION: u64 = 2;

#[cfg(test)]
mod tests;

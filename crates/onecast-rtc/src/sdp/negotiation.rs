//! The m-lines between the server and one member of a room, through offers and answers of both sides.
//!
//! Lines are appended and never taken away (RFC 9429 section 5.2.2). The client sends on its own lines; on the others the server sends, one
//! track on each, and a line whose track has ended is used for the next one of its kind.
//!
//! An offer or answer leads to a new state of what is agreed, or to an error and no change. An offer of the server is a state of its own until it
//! is answered: what is sent meanwhile is what both states have.

mod describe;
mod fuzz;
mod line;
mod numbers;
mod plan;
mod state;
#[doc(hidden)]
pub mod testing;

use std::net::SocketAddr;

#[doc(hidden)]
pub use fuzz::fuzz;

use self::describe::Describing;
use self::plan::Plan;
use self::state::State;
use super::answer::ANSWER_VERSION;
use super::offer::RoomText;
use super::{Description, Fault, MediaLine, Offer, SdpError};
use crate::rtp::{Codec, Kind, Ssrc};
use crate::{Fingerprint, IceCredentials, RemoteTransport};

/// The server's side of the connection, which every offer and answer states.
#[derive(Debug, Clone)]
pub struct NegotiationParams {
    /// The server's ICE credentials.
    pub ice: IceCredentials,
    /// Fingerprint of the process's certificate.
    pub fingerprint: Fingerprint,
    /// All candidates of the server, best first.
    pub candidates: Vec<SocketAddr>,
    /// `o=` session id, the same for the whole session.
    pub session_id: u64,
}

/// A track to send to the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTrack {
    /// Identity of the track; equal ids are the same track.
    pub id: TrackId,
    /// SSRC of its media.
    pub ssrc: Ssrc,
    /// SSRC of its retransmissions; used where RTX is negotiated, for video.
    pub rtx_ssrc: Ssrc,
    /// `a=msid`: the stream's id. A token.
    pub stream: Box<str>,
    /// The codecs that it is sent in, or may be at any moment: only these are offered. Never empty, all of the track's kind.
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

/// A line on which the server may send, agreed by both sides.
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
    /// The stream's id in the client's `a=msid`, empty if it has none (`-`).
    pub stream: Box<str>,
    /// What was agreed. Its `mid` is the line's.
    pub line: MediaLine,
}

/// An offer or an answer of a member whose text has been read, which takes nearly all of the time. Faults show when the negotiation takes
/// it.
#[derive(Debug)]
pub struct MemberDescription<'a>(Result<RoomText<'a>, Fault>);

impl MemberDescription<'_> {
    /// Reads the text.
    pub fn read(text: &str) -> MemberDescription<'_> {
        MemberDescription(Offer::read_room(text))
    }
}

/// The lines of one member, and whose turn it is: the module says more.
#[derive(Debug, Clone)]
pub struct Negotiation {
    agreed: State,
    /// Our offer that waits for its answer: what will be agreed if the client takes all of it.
    offered: Option<State>,
    /// `o=` version of our last description.
    version: u64,
    /// Grows with each change of what is agreed or offered.
    revision: u64,
}

impl Negotiation {
    /// Nothing is agreed yet.
    pub fn new() -> Negotiation {
        Negotiation {
            agreed: State::new(),
            offered: None,
            version: FIRST_VERSION - 1,
            revision: 0,
        }
    }

    /// Takes an offer of the client, the first or a later one, and answers it. On an error nothing has changed.
    ///
    /// # Errors
    /// What is wrong with the offer, or that an offer of the server waits for its answer.
    pub fn handle_offer(&mut self, offer: &str, params: &NegotiationParams) -> Result<String, SdpError> {
        let offer = self.resolve(MemberDescription::read(offer))?;
        self.accept(&offer, params)
    }

    /// The first half of [`handle_offer`](Self::handle_offer): completes an offer by what is known about the connection.
    ///
    /// # Errors
    /// As [`handle_offer`](Self::handle_offer).
    pub fn resolve(&self, offer: MemberDescription<'_>) -> Result<Offer, SdpError> {
        let offer = match self.offered {
            Some(_) => Err(Fault::OfferPending),
            None => offer.0.and_then(|offer| offer.resolve(self.remote())),
        };
        offer.map_err(|fault| fault.of(Description::Offer))
    }

    /// The second half of [`handle_offer`](Self::handle_offer): takes the offer and answers it.
    ///
    /// # Errors
    /// As [`handle_offer`](Self::handle_offer).
    pub fn accept(&mut self, offer: &Offer, params: &NegotiationParams) -> Result<String, SdpError> {
        let agreed = self.agreed.offered(offer);
        self.agreed = agreed.map_err(|fault| fault.of(Description::Offer))?;
        self.revision += 1;
        Ok(self.describe(Description::Answer, params))
    }

    /// What ICE and DTLS need to know of the client, as it said last. `None` before the first offer.
    pub fn remote(&self) -> Option<&RemoteTransport> {
        self.agreed.remote.as_ref()
    }

    /// Whether the client has to be sent an offer before it can be sent these tracks and no others. An offer that waits is taken to be
    /// accepted.
    pub fn needs_offer(&self, wanted: &[WantedTrack]) -> bool {
        let state = self.offered.as_ref().unwrap_or(&self.agreed);
        state.remote.is_some() && Plan::new(state, wanted).differs
    }

    /// Offers these tracks and no others. The offer now waits for its answer.
    ///
    /// # Panics
    /// When an offer waits already, or the client has never offered.
    pub fn offer(&mut self, wanted: &[WantedTrack], params: &NegotiationParams) -> String {
        assert!(self.offered.is_none(), "one offer waits at a time");
        assert!(self.agreed.remote.is_some(), "the client offers first");
        let plan = Plan::new(&self.agreed, wanted);
        self.offered = Some(self.agreed.planned(plan));
        self.revision += 1;
        self.describe(Description::Offer, params)
    }

    /// Whether an offer of the server waits for its answer.
    pub fn is_offering(&self) -> bool {
        self.offered.is_some()
    }

    /// Takes the server's offer back: the client never received it.
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

    /// Takes the client's answer to the server's offer. On an error the offer still waits for a better one.
    ///
    /// # Errors
    /// What is wrong with the answer, or that none is expected.
    pub fn handle_answer(&mut self, answer: &str) -> Result<(), SdpError> {
        self.accept_answer(MemberDescription::read(answer))
    }

    /// As [`handle_answer`](Self::handle_answer), for a text that has been read.
    ///
    /// # Errors
    /// As [`handle_answer`](Self::handle_answer).
    pub fn accept_answer(&mut self, answer: MemberDescription<'_>) -> Result<(), SdpError> {
        let agreed = self.after_answer(answer);
        self.agreed = agreed.map_err(|fault| fault.of(Description::Answer))?;
        self.offered = None;
        self.revision += 1;
        Ok(())
    }

    fn after_answer(&self, answer: MemberDescription<'_>) -> Result<State, Fault> {
        let offered = self.offered.as_ref().ok_or(Fault::NoOfferPending)?;
        offered.answered(&answer.0?.resolve(self.remote())?)
    }

    /// Grows with every change: while it stays the same, so does all that the other methods return.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Lines on which the server may send. While its offer waits, those that the offer leaves as they are: a track that it removes is not
    /// sent any more, and a new one not before the answer.
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

    /// Number of m-lines, with those of an offer that waits.
    pub fn lines(&self) -> usize {
        self.offered.as_ref().unwrap_or(&self.agreed).lines.len()
    }

    /// Whether the offer that waits, if there is one, leaves the track on this line.
    fn stays(&self, index: usize, track: TrackId) -> bool {
        self.offered.as_ref().is_none_or(|state| {
            let offered = state.lines.get(index).and_then(|line| line.track.as_ref());
            offered.is_some_and(|offered| offered.id == track)
        })
    }

    fn describe(&mut self, what: Description, params: &NegotiationParams) -> String {
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

/// The most lines on which one member sends: camera, screen and microphones, with some to spare.
pub const MAX_SENDING_LINES: usize = 8;

impl Default for Negotiation {
    fn default() -> Negotiation {
        Negotiation::new()
    }
}

/// `o=` version of the first description.
const FIRST_VERSION: u64 = ANSWER_VERSION;

#[cfg(test)]
mod tests;

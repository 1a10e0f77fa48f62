//! Conference rooms: who takes part, what is sent to whom, and the offers and answers that this takes. Pure.
//!
//! [`Rooms`] is the state machine. Whatever happens goes in with the time; what follows from it waits to be taken out as [`Effect`]s.
//!
//! ```text
//!  offers, answers ──> Member: Call (m-lines), Streams (what it sends) ──┐
//!  codecs, speech  ──> Room: ranking, who is on air ─────────────────────┴─> settle: Memberships, offers that are due, Roster
//! ```

mod member;
mod ranking;
mod restarting;
mod room;
mod rooms;
mod roster;
mod signalling;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use restarting::IceRestart;
pub use rooms::{Broadcast, Effect, Joined, Joining, OpenTracks, Program, RoomLimits, Rooms};
pub use roster::{MemberState, Roster, TrackState};

use crate::ice_session::PatchRefused;
use onecast_rtc::rtp::Kind;
use onecast_rtc::sdp::CallError;

/// How long a member whose WebSocket has broken may take to come back.
pub const RESUME: Duration = Duration::from_secs(10);
/// How many videos a member is sent unless it says otherwise.
pub const LAST_N_DEFAULT: usize = 9;

/// What a member says beside its offer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// What it calls itself: at most 64 characters, none of them a control character.
    pub name: Option<Box<str>>,
    /// What it calls its lines, by `mid`: at most 32 characters each.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// How many videos it wants at most.
    pub last_n: Option<usize>,
}

/// An offer of ours to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOffer {
    /// Which offer to this member it is, counted from 1. One that is sent again keeps its number.
    pub number: u64,
    /// The SDP.
    pub sdp: Arc<str>,
    /// What is on its lines.
    pub tracks: Arc<[OfferedTrack]>,
}

/// A track in an offer of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedTrack {
    /// The line.
    pub mid: Box<str>,
    /// Who sends it: its public number.
    pub member: u64,
    /// The stream's id, as in `a=msid`.
    pub stream: Box<str>,
    /// Audio or video.
    pub kind: Kind,
    /// What its sender calls it.
    pub label: Option<Box<str>>,
}

/// Something that a member changes about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// What it calls itself.
    pub name: Option<Box<str>>,
    /// There is nothing to hear of its first stream, or there is again.
    pub audio_muted: Option<bool>,
    /// There is nothing to see of its first stream, or there is again.
    pub video_muted: Option<bool>,
    /// How many videos it wants at most.
    pub last_n: Option<usize>,
}

/// Why a room does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// There is no such member.
    #[error("there is no such member")]
    UnknownMember,
    /// What is wrong with the SDP, or with its time.
    #[error(transparent)]
    Call(CallError),
    /// Our own offer waits for an answer, which comes first.
    #[error("offer {number} waits for an answer")]
    OfferPending {
        /// Its number.
        number: u64,
    },
    /// No offer waits for an answer.
    #[error("no offer waits for an answer")]
    NothingToAnswer,
    /// The answer is for another offer than the one that waits.
    #[error("offer {number} waits for an answer, not this one")]
    StaleAnswer {
        /// The one that waits.
        number: u64,
    },
    /// Offers come faster than they may.
    #[error("offers come too fast")]
    TooManyOffers,
    /// It may not send.
    #[error("it may not send")]
    MayNotSend,
    /// The certificate is not that of the first offer.
    #[error("the certificate is another one")]
    OtherCertificate,
    /// The ICE session is another one, and there is no way to it.
    #[error("the ICE session is another one")]
    JoinAnew,
    /// The offer restarts ICE, and that was not asked for.
    #[error("the offer restarts ICE")]
    RestartsIce,
    /// The ICE restart that the offer asks for is refused.
    #[error(transparent)]
    Restart(PatchRefused),
}

#[cfg(test)]
mod tests;

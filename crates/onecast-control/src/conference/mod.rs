//! Conference rooms: their members, what each of them is sent, and the offers and answers that this takes.
//!
//! [`Rooms`] is the state machine. Input goes in with the time; what follows from it waits to be taken out as [`RoomEffect`]s.
//!
//! ```text
//!  offers, answers ──> Member: Negotiation (m-lines), MemberStreams ──┐
//!  codecs, speech  ──> Room: ranking, active speaker ──────────┴─> settle: Memberships, offers that are due, Roster
//! ```

mod ice_restart;
mod initial_offer;
mod member;
mod ranking;
mod room;
mod rooms;
mod roster;
mod signalling;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use ice_restart::IceRestart;
pub use initial_offer::InitialOffer;
pub use rooms::{Broadcast, Joining, NewMember, OpenTracks, Program, RoomEffect, RoomLimits, Rooms};
pub use roster::{MemberState, Roster, TrackState};

use onecast_rtc::rtp::{Kind, Mid};

use crate::registry::SessionNumber;

/// How long a member whose WebSocket has broken may take to come back.
pub const RESUME_TIMEOUT: Duration = Duration::from_secs(10);
/// How many videos a member is sent unless it says otherwise.
pub const LAST_N_DEFAULT: usize = 9;

/// What a member adds to its offer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberInfo {
    /// Its display name: at most 64 characters, none of them a control character.
    pub name: Option<Box<str>>,
    /// Labels of its lines, by `mid`: at most 32 characters each.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// The most videos that it wants.
    pub last_n: Option<usize>,
}

/// The server's offer to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOffer {
    /// Which offer to this member it is, counted from 1. One that is sent again keeps its number.
    pub number: u64,
    /// The SDP.
    pub sdp: Arc<str>,
    /// What is on its lines.
    pub tracks: Arc<[OfferedTrack]>,
}

/// A track in an offer of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedTrack {
    /// The line.
    pub mid: Mid,
    /// Public number of the member that sends it.
    pub member: SessionNumber,
    /// The stream's id, as in `a=msid`.
    pub stream: Box<str>,
    /// Audio or video.
    pub kind: Kind,
    /// Its sender's label for it.
    pub label: Option<Box<str>>,
}

/// Something that a member changes about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Its display name.
    pub name: Option<Box<str>>,
    /// It has muted the audio of its first stream, or unmuted it.
    pub audio_muted: Option<bool>,
    /// It has muted the video of its first stream, or unmuted it.
    pub video_muted: Option<bool>,
    /// The most videos that it wants.
    pub last_n: Option<usize>,
}

#[cfg(test)]
mod tests;

//! The members of a room, as all of them see it.

use std::time::Duration;

use crate::StreamName;
use crate::registry::SessionNumber;
use onecast_rtc::rtp::{Codec, Kind};

/// A room at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// Its name.
    pub room: StreamName,
    /// The members, in the order in which they joined.
    pub members: Vec<MemberState>,
    /// The active speaker, whom the room's viewers see: the member that speaks or spoke last. `None` while no member sends.
    pub speaker: Option<SessionNumber>,
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// Its public number: never used again, and no right to anything.
    pub id: SessionNumber,
    /// Its display name.
    pub name: Option<Box<str>>,
    /// It publishes the broadcast that has the room's name, and receives nothing.
    pub broadcast: bool,
    /// When it joined, as time since 1970.
    pub since_unix: Duration,
    /// It is speaking now.
    pub speaking: bool,
    /// What it sends.
    pub tracks: Vec<TrackState>,
}

/// A track that a member sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackState {
    /// The stream's id, as in `a=msid` towards the others.
    pub stream: Box<str>,
    /// Audio or video.
    pub kind: Kind,
    /// The member's label for it, such as `screen`.
    pub label: Option<Box<str>>,
    /// The member has muted it.
    pub muted: bool,
    /// Its codec, once that is known.
    pub codec: Option<Codec>,
}

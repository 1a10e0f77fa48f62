//! Who is in a room, as everybody in it may know.

use std::time::Duration;

use crate::StreamName;
use onecast_rtc::rtp::{Codec, Kind};

/// A room at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// Its name.
    pub room: StreamName,
    /// Who takes part, in the order in which they came.
    pub members: Vec<MemberState>,
    /// Who speaks, or spoke last: whom the room's viewers see. `None` while nobody sends.
    pub speaker: Option<u64>,
}

/// Somebody in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// Its public number: never used again, and no right to anything.
    pub id: u64,
    /// What it calls itself.
    pub name: Option<Box<str>>,
    /// It publishes the broadcast of the room's name, and is sent nothing.
    pub broadcast: bool,
    /// When it joined, as time since 1970.
    pub since_unix: Duration,
    /// It speaks at this moment.
    pub speaking: bool,
    /// What it sends.
    pub tracks: Vec<TrackState>,
}

/// Something that a member sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackState {
    /// The stream's id, as in `a=msid` towards the others.
    pub stream: Box<str>,
    /// Audio or video.
    pub kind: Kind,
    /// What the member calls it, such as `screen`.
    pub label: Option<Box<str>>,
    /// The member says that there is nothing to hear or see at this moment.
    pub muted: bool,
    /// What it is sent in, once that is known.
    pub codec: Option<Codec>,
}

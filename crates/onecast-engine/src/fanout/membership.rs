//! What a member of a room sends and is sent. The room decides it as a whole; a shard brings about what is new in it.

use std::sync::Arc;

use super::formats::ViewerLine;
use super::session::Session;
use crate::media::StreamTracks;
use onecast_rtc::sdp::MediaLine;

/// Everything that a member sends and is sent at one moment.
///
/// A stream stays among the subscriptions as long as it exists, whatever is switched off of it: a key seals an index once, so the
/// numbering of a track towards a member is never begun again.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// Grows with each change: of two the greater one counts.
    pub number: u64,
    /// What it sends.
    pub sources: Vec<SourceSpec>,
    /// What it is sent.
    pub subscriptions: Vec<SubscriptionSpec>,
}

/// A stream that a member sends: an audio line, a video line, or both.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// Where its packets go.
    pub tracks: Arc<StreamTracks>,
    /// The audio line as negotiated; `None` while there is none.
    pub audio: Option<MediaLine>,
    /// The video line as negotiated; `None` while there is none.
    pub video: Option<MediaLine>,
    /// The stream of the whole room, while this source is what its viewers see.
    pub air: Option<Arc<StreamTracks>>,
}

/// A stream that a member is sent.
#[derive(Debug, Clone)]
pub struct SubscriptionSpec {
    /// Whose packets.
    pub tracks: Arc<StreamTracks>,
    /// The audio line as negotiated; `None` while nothing of it is to be sent.
    pub audio: Option<ViewerLine>,
    /// The video line as negotiated; `None` while nothing of it is to be sent.
    pub video: Option<ViewerLine>,
}

/// The publisher of a broadcast in a room.
#[derive(Debug, Clone)]
pub struct Lift {
    /// The publisher.
    pub session: Arc<Session>,
    /// Grows with each change: of two the greater one counts.
    pub number: u64,
    /// Its tracks in the room, to which its packets go from now on.
    pub tracks: Arc<StreamTracks>,
    /// The stream that it published to, while it is what the stream's viewers see.
    pub air: Option<Arc<StreamTracks>>,
}

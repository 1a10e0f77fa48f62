//! What a peer sends and is sent. The control plane decides it as a whole; a shard applies what is new in it.

use std::sync::Arc;

use onecast_rtc::sdp::{MediaLine, Negotiated};

use super::formats::ViewerLine;
use crate::media::{LayerLimit, StreamTracks};

/// Everything that a peer sends and is sent at one moment.
///
/// A publisher has one source, a viewer one subscription, and a member of a room any number of both.
///
/// A stream stays among the subscriptions as long as it exists, even while all of its tracks are switched off: a key seals an index
/// once, so the numbering of a track towards a peer never begins again.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Grows with each change: of two plans for a session the one with the greater number counts.
    pub number: u64,
    /// Streams that the peer sends, at most [`Plan::SOURCES_MAX`].
    pub sources: Box<[SourceSpec]>,
    /// Streams that the peer is sent.
    pub subscriptions: Box<[SubscriptionSpec]>,
}

/// A stream that a peer sends: an audio line, a video line, or both.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// Where its packets go.
    pub tracks: Arc<StreamTracks>,
    /// The audio line as negotiated; `None` while there is none.
    pub audio: Option<MediaLine>,
    /// The video line as negotiated; `None` while there is none.
    pub video: Option<MediaLine>,
    /// The stream of the whole room, while this source is the active speaker and viewers of the room see it.
    pub program: Option<Arc<StreamTracks>>,
    /// Whether the shard reports when it begins and ends to speak.
    pub detects_speech: bool,
}

/// A stream that a peer is sent.
#[derive(Debug, Clone)]
pub struct SubscriptionSpec {
    /// The stream's tracks.
    pub tracks: Arc<StreamTracks>,
    /// The audio line as negotiated; `None` while no audio is to be sent.
    pub audio: Option<ViewerLine>,
    /// The video line as negotiated; `None` while no video is to be sent.
    pub video: Option<ViewerLine>,
    /// Which layers of the video may be sent.
    pub limit: LayerLimit,
}

impl Plan {
    /// Streams that one peer may send: a camera, a screen, and some more of each.
    pub const SOURCES_MAX: usize = 8;

    /// The plan of a publisher, which sends one stream.
    pub fn publish(tracks: Arc<StreamTracks>, negotiated: Negotiated) -> Plan {
        let Negotiated { audio, video } = negotiated;
        let source = SourceSpec {
            tracks,
            audio,
            video,
            program: None,
            detects_speech: false,
        };
        Plan {
            sources: Box::new([source]),
            ..Plan::default()
        }
    }

    /// The plan of a viewer, which is sent one stream.
    pub fn watch(tracks: Arc<StreamTracks>, audio: Option<ViewerLine>, video: Option<ViewerLine>) -> Plan {
        let subscription = SubscriptionSpec {
            tracks,
            audio,
            video,
            limit: LayerLimit::default(),
        };
        Plan {
            subscriptions: Box::new([subscription]),
            ..Plan::default()
        }
    }

    /// The same, but of each stream's video only these layers are sent.
    #[must_use]
    pub fn with_limit(mut self, limit: LayerLimit) -> Plan {
        self.subscriptions.iter_mut().for_each(|spec| spec.limit = limit);
        self
    }
}

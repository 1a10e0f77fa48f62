//! Media in transit: packets, the window of recent ones, the local track and the lanes that leave it. Pure.

pub mod continuity;
pub mod gop;
pub mod keyframes;
pub mod lane;
pub mod layers;
pub mod packet;
pub mod parameter_sets;
pub mod sender_clock;
pub mod stream_tracks;
#[cfg(test)]
pub(crate) mod testing;
pub mod track;
pub mod window;

pub use continuity::{Continuity, LayerContinuity};
pub use keyframes::{KeyframeNeed, KeyframeReading, KeyframeStats};
pub use lane::{Inbox, Lane, LaneItem, Wake};
pub use layers::{LayerFacts, LayerIndex, LayerLimit, LayerReason, RankedLayers, Rendition, Target};
pub use packet::Packet;
pub use sender_clock::SenderClock;
pub use stream_tracks::{StreamTracks, WriteTicket};
pub use track::TrackLocalStaticRtp;
pub use window::Window;

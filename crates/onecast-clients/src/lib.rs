//! Command-line clients on the full webrtc peer: publish, watch and peer.

#![forbid(unsafe_code)]

pub mod conference;
pub mod load;
pub mod patience;
pub mod peer;
pub mod publish;
pub mod signal;
pub mod source;
pub mod test_card;
pub mod trust;
pub mod values;
mod vp9;
pub mod watch;

pub use conference::PeerArgs;
pub use publish::PublishArgs;
pub use watch::WatchArgs;

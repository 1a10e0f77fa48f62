//! Command-line clients of onecast: `publish`, `watch` and `peer` on the full peer of the webrtc crate, and the load generator behind `load`
//! and `bench`, whose clients are cheap enough to be thousands.
//!
//! ```
//! use onecast_clients::test_card::TestCard;
//! use onecast_clients::values::duration;
//!
//! let mut card = TestCard::new();
//! let (keyframe, next) = (card.next_frame(true), card.next_frame(false));
//! assert!(keyframe.len() > next.len());
//! assert_eq!(duration("500ms").map(|time| time.as_millis()), Ok(500));
//! ```

#![forbid(unsafe_code)]

pub mod bench;
pub mod client_args;
pub mod conference;
pub mod load;
pub mod peer;
pub mod publish;
mod random;
pub mod retry;
mod runtime;
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

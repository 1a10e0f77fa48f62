//! Who publishes and who watches. Pure.

#![forbid(unsafe_code)]

pub mod admission;
pub mod audience;
pub mod conference;
pub mod drain;
pub mod ended;
pub mod ice_session;
pub mod playable;
pub mod registry;
pub mod right;
pub mod stream_name;
pub mod tracks;

pub use admission::{AdmissionLimits, Caller};
pub use ended::EndReason;
pub use onecast_rtc::SessionId;
pub use registry::{Limits, Purpose, Registry, SessionLimits};
pub use right::{Credential, Right, Terms, TokenDigest};
pub use stream_name::StreamName;
pub use tracks::TrackMaker;

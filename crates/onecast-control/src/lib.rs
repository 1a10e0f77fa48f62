//! The control plane of onecast, sans-IO: streams, sessions and conference rooms, and the limits on them.
//!
//! [`Control`] is the one state machine: calls of clients, events of shards and the time go in by `handle_*`, and what follows for the rest
//! of the server comes out of [`Control::poll_effect`]. [`port`] is what an adapter such as HTTP needs of the server, as traits and values.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//!
//! use onecast_control::drain::DrainOrder;
//! use onecast_control::effect::Effect;
//! use onecast_control::port::Protocol;
//! use onecast_control::{
//!     AdmissionLimits, Control, ControlConfig, Grant, Join, Limits, Now, SessionId, SessionLimits, StreamName, conference,
//! };
//! use onecast_rtc::IceCredentials;
//!
//! let now = Now { instant: Instant::now(), unix: Duration::from_secs(1_700_000_000) };
//! let limits = Limits {
//!     streams: 10,
//!     viewers: 100,
//!     admission: AdmissionLimits::default(),
//!     sessions: SessionLimits::default(),
//!     rooms: conference::RoomLimits::default(),
//! };
//! let (drain, inboxes) = (DrainOrder::default(), Arc::new([]));
//! let mut control = Control::new(now, ControlConfig { limits, drain, inboxes, ssrc_mask: 7 });
//!
//! // A viewer asks for an offer of the server, and leaves without an answer.
//! let id = SessionId::from_random([1; 16]);
//! let join = Join {
//!     id,
//!     local: &IceCredentials { ufrag: "ours".into(), pwd: "0123456789012345678901".into() },
//!     stream: &StreamName::default(),
//!     client: ([192, 0, 2, 1], 5_000).into(),
//!     grant: &Grant::default(),
//! };
//! control.handle_counter_offer(now, join).unwrap();
//! control.handle_close(now, id, Protocol::Whep).unwrap();
//! assert!(matches!(control.poll_effect(), Some(Effect::Notice(_))));
//! ```

#![forbid(unsafe_code)]

pub mod admission;
mod codecs;
pub mod conference;
mod control;
pub mod drain;
pub mod effect;
pub mod ended;
mod grant;
pub mod ice_session;
pub mod layers;
pub mod playable;
pub mod port;
mod refusal;
pub mod registry;
pub mod stream_name;
mod tracks;
pub mod whep_events;

pub use admission::{AdmissionLimits, Caller};
pub use control::{Control, ControlConfig, CounterOffered, Join, NextOffer, Now, ParsedOffer, PastedOffer};
pub use ended::EndReason;
pub use grant::{Credential, Grant, TokenDigest};
pub use onecast_rtc::SessionId;
pub use refusal::{CodecLists, CodecsOf, Refusal, RefusalKind, SdpRefusal};
pub use registry::{Limits, Purpose, SessionLimits, SessionNumber};
pub use stream_name::StreamName;
pub use tracks::TrackMaker;

//! Fan-out: one packet in, one sealed datagram for every viewer out. Pure.
//!
//! A [`Shard`] is the state machine of one media thread: its peers, the windows of the streams they watch, and the
//! datagrams on their way out.

mod air;
pub mod catch_up;
mod demux;
pub mod formats;
pub mod forwarder;
pub mod inbound;
pub mod member;
pub mod membership;
pub mod publisher;
mod repairs;
mod round_trip;
pub mod session;
pub mod shard;
mod slab;
pub mod source;
mod stamps;
pub mod stream;
mod subscriptions;
mod timers;
pub mod viewer;

pub use catch_up::Stamping;
pub use formats::ViewerLine;
pub use membership::{Lift, Membership, SourceSpec, SubscriptionSpec};
pub use session::{Claim, CloseCause, Command, Event, Hold, Restart, Session, SessionRole, Stray};
pub use shard::{Shard, ShardConfig};
pub use stream::StartConfig;
